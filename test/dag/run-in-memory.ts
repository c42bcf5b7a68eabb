/** Runs a workflow on nothing but the fold: what the examples give when every action does what it says. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import jsonata from 'jsonata';
import { errorShape, type JsonObject, type JsonValue } from '../../dag/errors.ts';
import {
  compileTemplate,
  decidesPerItem,
  fillTemplate,
  holds,
  itemsOf,
  referencedSteps,
  resolvePath,
  type Template,
  templatesOf,
} from '../../dag/expression.ts';
import { Run, type StepView } from '../../dag/run.ts';
import { parseWorkflow, type Step, type Workflow } from '../../dag/schema.ts';
import { checkParts } from '../../scheduler/workflow/check-submission.ts';

export interface World {
  functions: Record<string, unknown>;
  /** The answer to every `approve` step. */
  answer: { approve: boolean; data: JsonValue };
}

export interface Outcome {
  status: string;
  result: JsonValue;
  steps: Record<string, StepView>;
}

export async function runInMemory(value: unknown, world: World): Promise<Outcome> {
  const workflow = parseWorkflow(value);
  const graph = checkParts(workflow, 0);
  const run = new Run(workflow, graph);
  const ready = [...run.start().ready];
  for (let id = ready.shift(); id !== undefined; id = ready.shift())
    ready.push(...(await runStep(run, workflow, id, world)));
  const result =
    workflow.output === undefined ? run.result() : await evaluate(run, compileTemplate(workflow.output), {});
  return { status: run.status, result, steps: Object.fromEntries(run.steps()) };
}

async function runStep(run: Run, workflow: Workflow, step_id: string, world: World): Promise<string[]> {
  const step = workflow.steps.find((each) => each.step_id === step_id)!;
  const { when, foreach, inputs } = templatesOf(step);
  const perItem = decidesPerItem(templatesOf(step));
  if (when !== undefined && !perItem && !holds(await evaluate(run, when, {}))) {
    return run.apply({ type: 'step_skipped', step_id, reason: 'when' }).ready;
  }
  const items = foreach === undefined ? null : itemsOf(await evaluate(run, foreach, {}));
  const left_out: number[] = [];
  for (const [index, item] of (perItem ? items! : []).entries()) {
    if (!holds(await evaluate(run, when!, { item, index }))) left_out.push(index);
  }
  const ready = run.apply({ type: 'step_started', step_id, items, left_out }).ready;
  const indexes = run.nextIndexes(step_id);
  for (const index of indexes) {
    const payload = await evaluate(run, inputs, items === null ? {} : { item: items[index]!, index });
    const ended = await attempt(step, payload as JsonObject, world);
    ready.push(...run.apply({ type: 'task_ended', step_id, index, ...ended }).ready);
    indexes.push(...run.nextIndexes(step_id));
  }
  return ready;
}

async function attempt(step: Step, payload: JsonObject, world: World) {
  for (let number = 1; ; number += 1) {
    try {
      const output = await act(step.action, payload, number, world);
      return { status: 'completed' as const, output, error: null };
    } catch (error) {
      if (number > step.retry.max_retries) return { status: 'failed' as const, output: null, error: errorShape(error) };
    }
  }
}

async function act(action: string, payload: JsonObject, number: number, world: World): Promise<JsonValue> {
  if (action === 'echo') return payload;
  if (action === 'shell') {
    const [file, ...args] = payload['command'] as string[];
    const { stdout, stderr } = await promisify(execFile)(file!, args);
    return { exit_code: 0, stdout: stdout.trimEnd(), stderr };
  }
  if (action === 'approve') {
    if (!world.answer.approve) throw new Error('rejected');
    return { approved: true, data: world.answer.data };
  }
  if (action === 'workflow') {
    const nested = await runInMemory({ ...(payload['workflow'] as JsonObject), input: payload['input'] }, world);
    if (nested.status !== 'completed') throw new Error(`the nested workflow is ${nested.status}`);
    return nested.result;
  }
  const handler = world.functions[action.slice('fn:'.length)] as (inputs: JsonObject, context: object) => unknown;
  const context = { uid: 'test', attempt: number, progress() {}, log() {}, signal: new AbortController().signal };
  return JSON.parse(JSON.stringify(await handler(payload, context))) as JsonValue;
}

async function evaluate(run: Run, template: Template, extra: JsonObject): Promise<JsonValue> {
  const values = new Map<string, JsonValue>();
  for (const expression of template.expressions) {
    const scope = { ...run.scope(referencedSteps(expression)), ...extra };
    const direct = resolvePath(expression, scope);
    const value: unknown = direct.resolved ? direct.value : await jsonata(expression).evaluate(scope);
    values.set(expression, value === undefined ? null : (JSON.parse(JSON.stringify(value)) as JsonValue));
  }
  return fillTemplate(template, values);
}
