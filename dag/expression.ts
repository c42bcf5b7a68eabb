/**
 * Expressions as a workflow uses them: the templates of a step, and the check that every mentioned step is there and
 * has ended when the expression is evaluated.
 */
import type { JsonValue } from './errors.ts';
import type { WorkflowGraph } from './graph.ts';
import { didYouMean } from './nearest.ts';
import { boundedProblems, type Problem, placeOf } from './problems.ts';
import { quoted } from './quoted.ts';
import { mentionsItem, referencedSteps } from './references.ts';
import { InvalidWorkflowError, type Step, type Workflow } from './schema.ts';
import { compileTemplate, InvalidExpressionError, isOneExpression, type Template } from './template.ts';

export { resolvePath } from './path.ts';
export { compileTemplate, fillTemplate, InvalidExpressionError, isLiteralAt, type Template } from './template.ts';
export { referencedSteps };

export interface StepTemplates {
  /** One expression, or the literal true or false; see `holds`. */
  when?: Template;
  /** One expression that gives a list, or a list (whose items may hold expressions). */
  foreach?: Template;
  inputs: Template;
}

const compiled = new WeakMap<Step, StepTemplates>();

/**
 * The templates of a step, compiled once per step object.
 *
 * @param path the place of the step for error messages, e.g. `['steps', 2]`
 * @throws InvalidExpressionError; also when `when` or `foreach` is a string that is not exactly one `${ … }`
 */
export function templatesOf(
  step: Step,
  path: readonly (string | number)[] = [`step "${step.step_id}"`],
): StepTemplates {
  const known = compiled.get(step);
  if (known !== undefined) return known;
  const templates: StepTemplates = { inputs: compileTemplate(step.inputs, [...path, 'inputs']) };
  for (const field of ['when', 'foreach'] as const) {
    const value = step[field];
    if (value === undefined) continue;
    const template = compileTemplate(value, [...path, field]);
    if (typeof value === 'string' && !isOneExpression(template)) {
      const kind = field === 'when' ? 'true or false' : 'a list';
      throw new InvalidExpressionError(
        placeOf([...path, field]),
        `must be one expression, written \${ … }, or ${kind}, not ${quoted(value)}`,
      );
    }
    templates[field] = template;
  }
  compiled.set(step, templates);
  return templates;
}

/** True for a step whose `when` is decided for each of its items. */
export function decidesPerItem({ when, foreach }: StepTemplates): boolean {
  return foreach !== undefined && (when?.expressions.some(mentionsItem) ?? false);
}

/** The items that a value of `foreach` stands for: JSONata gives one match as it is, and no match as nothing. */
export function itemsOf(value: JsonValue): JsonValue[] {
  if (Array.isArray(value)) return value;
  return value === null ? [] : [value];
}

/** Whether the value of `when` lets the step run: JSONata's `$boolean`, with false for null. */
export function holds(value: JsonValue): boolean {
  if (Array.isArray(value)) return value.length === 1 ? holds(value[0]!) : value.some(holds);
  if (value !== null && typeof value === 'object') return Object.keys(value).length > 0;
  return Boolean(value);
}

/**
 * Checks all expressions of a workflow as far as that is possible without JSONata: each ends, and mentions only
 * steps that its own step waits for. `output` is evaluated at the end and may mention any step.
 *
 * @param place where the workflow stands in one that it is nested in
 * @throws InvalidExpressionError
 * @throws InvalidWorkflowError naming each place and what to add
 */
export function checkReferences(
  workflow: Workflow,
  graph: WorkflowGraph,
  place: readonly (string | number)[] = [],
): void {
  const problems: Problem[] = [];
  const check = (template: Template | undefined, step_id: string | null, advice = (_at: string) => ''): void => {
    for (const [expression, path] of template?.places ?? []) {
      const mentioned = referencedSteps(expression);
      if (mentioned === 'all') continue;
      for (const id of mentioned) {
        const message = mistake(id, step_id, graph);
        if (message !== null) problems.push({ path, message: message + advice(path) });
      }
    }
  };
  for (const [index, step] of workflow.steps.entries()) {
    const templates = templatesOf(step, [...place, 'steps', index]);
    check(templates.when, step.step_id);
    check(templates.foreach, step.step_id);
    check(templates.inputs, step.step_id, (at) => innerAdvice(step, [...place, 'steps', index], at));
  }
  if (workflow.output !== undefined) check(compileTemplate(workflow.output, [...place, 'output']), null);
  if (problems.length > 0) throw new InvalidWorkflowError(boundedProblems(problems));
}

/** The end of an error about an expression in the `workflow` of a nested one, which may have been meant for that one. */
export function innerAdvice(step: Step, path: readonly (string | number)[], at: string): string {
  const isInside = step.action === 'workflow' && at.startsWith(placeOf([...path, 'inputs', 'workflow']));
  return isInside ? '; an expression of the inner workflow is written $${ … }' : '';
}

/** What is wrong with mentioning step `id` in step `step_id` (null: in the workflow's output), or null. */
function mistake(id: string, step_id: string | null, graph: WorkflowGraph): string | null {
  if (!graph.has(id)) {
    // `steps.build-image` is "steps.build minus image" to JSONata.
    const cut = graph.order.find((known) => known.startsWith(id) && /^[-.]/.test(known.slice(id.length)));
    const hint = cut === undefined ? didYouMean(id, graph.order) : ` (write steps.\`${cut}\`, in backquotes)`;
    return `there is no step ${quoted(id)}${hint}`;
  }
  if (step_id === null || graph.dependsOn(step_id, id)) return null;
  if (step_id === id) return `a step cannot use its own output (steps.${id})`;
  return `mentions step "${id}", which may not have ended then; add "${id}" to depends_on of step "${step_id}"`;
}
