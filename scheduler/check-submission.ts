/**
 * Everything that can be wrong with a workflow or a task of the right shape, found before anything of it is written. A
 * nested workflow that stands there as it is, without expressions of the outer one, is checked with it.
 */
import { InvalidInputsError, inputProblems, literalProblems } from '../dag/action-inputs.ts';
import type { JsonObject, JsonValue } from '../dag/errors.ts';
import { checkReferences, compileTemplate, fillTemplate, isLiteralAt, templatesOf } from '../dag/expression.ts';
import { WorkflowGraph } from '../dag/graph.ts';
import { checkBytes, INPUT_BYTES_MAX, LimitError, NESTING_LEVELS_MAX } from '../dag/limits.ts';
import { joinPlaces, type Problem, placeOf } from '../dag/problems.ts';
import { InvalidWorkflowError, type Workflow } from '../dag/schema.ts';
import type { Template } from '../dag/template.ts';
import { checkAction } from './actions.ts';
import type { TaskSubmission } from './api.ts';
import { nestedWorkflow } from './nested-workflow.ts';
import type { Evaluator } from './ports.ts';

type Path = readonly (string | number)[];

/** @throws FlowmeshError INVALID_WORKFLOW, INVALID_EXPRESSION, CYCLE, UNKNOWN_ACTION, LIMIT_EXCEEDED, INVALID_PAYLOAD */
export async function checkWorkflow(workflow: Workflow, evaluator: Evaluator): Promise<WorkflowGraph> {
  const parts = new CheckedParts();
  const graph = parts.add(workflow, [], 0);
  await checkExpressions(parts.expressions, evaluator);
  return graph;
}

/** @throws FlowmeshError as `checkWorkflow` */
export async function checkTask({ task_type, payload }: TaskSubmission, evaluator: Evaluator): Promise<void> {
  checkAction(task_type, 'task_type');
  checkBytes(payload, 'INPUT_BYTES_MAX', INPUT_BYTES_MAX, 'The payload');
  const problems = inputProblems(task_type, payload);
  if (problems.length > 0) throw new InvalidInputsError(task_type, problems, 'payload');
  if (task_type !== 'workflow') return;
  const parts = new CheckedParts();
  parts.addNested(payload, ['payload', 'workflow'], 1);
  await checkExpressions(parts.expressions, evaluator);
}

/**
 * As `checkWorkflow`, but for what only JSONata's parser can find.
 *
 * @param depth workflows that it is nested in
 */
export function checkParts(workflow: Workflow, depth: number): WorkflowGraph {
  return new CheckedParts().add(workflow, [], depth);
}

/** @throws LimitError when a workflow inside so many others is one too many */
export function checkDepth(depth: number): void {
  if (depth <= NESTING_LEVELS_MAX) return;
  throw new LimitError(
    'NESTING_LEVELS_MAX',
    depth,
    NESTING_LEVELS_MAX,
    'workflows are nested too deep',
    'Flatten them.',
  );
}

class CheckedParts {
  /** Where each expression stands first. */
  readonly expressions = new Map<string, string>();

  add(workflow: Workflow, path: Path, depth: number): WorkflowGraph {
    checkDepth(depth);
    const graph = within(path, () => new WorkflowGraph(workflow.steps));
    checkReferences(workflow, graph, path);
    const problems: Problem[] = [];
    for (const [position, step] of workflow.steps.entries()) {
      const place = [...path, 'steps', position];
      checkAction(step.action, placeOf([...place, 'action']));
      const { when, foreach, inputs } = templatesOf(step, place);
      for (const template of [when, foreach, inputs]) this.#note(template);
      for (const problem of literalProblems(step.action, inputs)) {
        problems.push({ ...problem, path: joinPlaces(placeOf([...place, 'inputs']), problem.path) });
      }
      if (step.action !== 'workflow' || problems.length > 0 || !isLiteralAt(inputs, ['workflow'])) continue;
      this.addNested(fillTemplate(inputs, new Map()), [...place, 'inputs', 'workflow'], depth + 1);
    }
    if (problems.length > 0) throw new InvalidWorkflowError(problems);
    if (workflow.output !== undefined) this.#note(compileTemplate(workflow.output, [...path, 'output']));
    return graph;
  }

  #note(template: Template | undefined): void {
    for (const [text, place] of template?.places ?? []) {
      if (!this.expressions.has(text)) this.expressions.set(text, place);
    }
  }

  /** @param inputs of an action `workflow`, found to be right */
  addNested(inputs: JsonValue, path: Path, depth: number): void {
    const { workflow } = inputs as { workflow: JsonObject };
    this.add(
      within(path, () => nestedWorkflow({ workflow })),
      path,
      depth,
    );
  }
}

/** Says of the problems of a nested workflow where that one stands. */
function within<T>(path: Path, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (path.length === 0 || !(error instanceof InvalidWorkflowError)) throw error;
    const problems = error.problems.map((problem) => ({ ...problem, path: joinPlaces(placeOf(path), problem.path) }));
    throw new InvalidWorkflowError(problems, error.code, error.details);
  }
}

async function checkExpressions(places: ReadonlyMap<string, string>, evaluator: Evaluator): Promise<void> {
  // Plain paths need no parser.
  const texts = [...places.keys()].filter((text) => !/^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$/.test(text));
  if (texts.length === 0) return;
  const answers = await evaluator.check(texts);
  const problems = answers.flatMap((answer, position) => {
    if (answer === null) return [];
    const text = texts[position]!;
    const message = `the expression \${ ${text} } cannot be read at character ${answer.position}: ${answer.message}`;
    return [{ path: places.get(text)!, message }];
  });
  if (problems.length > 0) throw new InvalidWorkflowError(problems, 'INVALID_EXPRESSION');
}
