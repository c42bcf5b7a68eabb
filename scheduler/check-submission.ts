/**
 * Everything that can be wrong with a workflow or a task of the right shape, found before anything of it is written. A
 * nested workflow that stands there as it is, without expressions of the outer one, is checked with it. What is allowed
 * and probably not what was meant is a warning.
 */
import { InvalidInputsError, inputProblems, literalProblems } from '../dag/action-inputs.ts';
import { cutText, FlowmeshError, type JsonObject, type JsonValue } from '../dag/errors.ts';
import {
  checkReferences,
  compileTemplate,
  fillTemplate,
  innerAdvice,
  isLiteralAt,
  templatesOf,
} from '../dag/expression.ts';
import { foreignOperator, mustache } from '../dag/foreign-syntax.ts';
import { WorkflowGraph } from '../dag/graph.ts';
import { checkBytes, INPUT_BYTES_MAX, LimitError, NESTING_LEVELS_MAX } from '../dag/limits.ts';
import { boundedProblems, joinPlaces, type Problem, placeOf } from '../dag/problems.ts';
import { InvalidWorkflowError, type Retry, type Step, type Workflow } from '../dag/schema.ts';
import { type ExpressionPlace, nameProblem, namesOfPath, nameWarning, type ScopeName } from '../dag/scope.ts';
import { type Template, textsIn, textsOf } from '../dag/template.ts';
import { checkAction } from './actions.ts';
import type { TaskSubmission, Warning } from './api.ts';
import { WARNINGS_MAX } from './limits.ts';
import { nestedWorkflow } from './nested-workflow.ts';
import type { CheckedExpression, Evaluator } from './ports.ts';

type Path = readonly (string | number)[];

/** @throws FlowmeshError INVALID_WORKFLOW, INVALID_EXPRESSION, CYCLE, UNKNOWN_ACTION, LIMIT_EXCEEDED, INVALID_PAYLOAD */
export async function checkWorkflow(
  workflow: Workflow,
  evaluator: Evaluator,
): Promise<{ graph: WorkflowGraph; warnings: Warning[] }> {
  const parts = new CheckedParts();
  const graph = parts.add(workflow, [], 0);
  await parts.checkExpressions(evaluator);
  return { graph, warnings: parts.warnings };
}

/** @throws FlowmeshError as `checkWorkflow` */
export async function checkTask(submission: TaskSubmission, evaluator: Evaluator): Promise<Warning[]> {
  const { task_type, payload } = submission;
  checkAction(task_type, 'task_type');
  checkRetries(submission.at_most_once, submission.retry, 'retry_policy.max_retries');
  checkBytes(payload, 'INPUT_BYTES_MAX', INPUT_BYTES_MAX, 'The payload');
  const problems = inputProblems(task_type, payload);
  if (problems.length > 0) throw new InvalidInputsError(task_type, problems, 'payload');
  const parts = new CheckedParts();
  if (task_type === 'workflow') {
    parts.addNested(payload, ['payload', 'workflow'], 1);
    await parts.checkExpressions(evaluator);
  } else {
    parts.addPayload(payload);
  }
  return parts.warnings;
}

/**
 * As `checkWorkflow`, but for what only JSONata's parser can find.
 *
 * @param depth workflows that it is nested in
 */
export function checkParts(workflow: Workflow, depth: number): WorkflowGraph {
  const parts = new CheckedParts();
  const graph = parts.add(workflow, [], depth);
  parts.checkPaths();
  return graph;
}

/** @throws FlowmeshError INVALID_INPUT when what may start only once is to be tried again */
export function checkRetries(atMostOnce: boolean, retry: Pick<Retry, 'max_retries'>, path: string): void {
  const message = retriesProblem(atMostOnce, retry);
  if (message === null) return;
  throw new FlowmeshError('INVALID_INPUT', `${path}: ${message}`, { details: { problems: [{ path, message }] } });
}

function retriesProblem(atMostOnce: boolean, { max_retries }: Pick<Retry, 'max_retries'>): string | null {
  if (!atMostOnce || max_retries === 0) return null;
  return `must be 0 with at_most_once, not ${max_retries}: what may start only once is not tried again; leave out one of the two`;
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

/** An expression where it stands. */
interface Use {
  text: string;
  at: string;
  place: ExpressionPlace;
  /** The end of an error. */
  advice: string;
}

class CheckedParts {
  readonly warnings: Warning[] = [];
  private readonly uses: Use[] = [];

  add(workflow: Workflow, path: Path, depth: number): WorkflowGraph {
    checkDepth(depth);
    const graph = within(path, () => new WorkflowGraph(workflow.steps));
    checkReferences(workflow, graph, path);
    const inputs = Object.keys(workflow.input);
    const problems: Problem[] = [];
    for (const [position, step] of workflow.steps.entries()) {
      const at = [...path, 'steps', position];
      checkAction(step.action, placeOf([...at, 'action']));
      this.addExpressions(step, at, { stepIds: graph, inputs });
      problems.push(...this.inputProblems(step, [...at, 'inputs'], depth));
      const retries = retriesProblem(step.at_most_once, step.retry);
      if (retries !== null) problems.push({ path: placeOf([...at, 'retry', 'max_retries']), message: retries });
    }
    if (problems.length > 0) throw new InvalidWorkflowError(boundedProblems(problems));
    if (workflow.output !== undefined) {
      const itemAdvice = 'it is of one step with foreach, whose output is a list';
      const place = { item: false, itemAdvice, stepIds: graph, inputs };
      this.note(compileTemplate(workflow.output, [...path, 'output']), [...path, 'output'], place);
    }
    return graph;
  }

  private addExpressions(step: Step, at: Path, known: Pick<ExpressionPlace, 'stepIds' | 'inputs'>): void {
    const { when, foreach, inputs } = templatesOf(step, at);
    const item = foreach !== undefined;
    const itemAdvice = `only a step with foreach has it, and step "${step.step_id}" has no foreach`;
    if (when !== undefined) this.note(when, [...at, 'when'], { ...known, item, itemAdvice });
    const advice = (path: string) => innerAdvice(step, at, path);
    this.note(inputs, [...at, 'inputs'], { ...known, item, itemAdvice }, advice);
    if (foreach === undefined) return;
    this.note(foreach, [...at, 'foreach'], { ...known, item: false, itemAdvice: 'it comes from the list made here' });
  }

  private inputProblems(step: Step, at: Path, depth: number): Problem[] {
    const { inputs } = templatesOf(step, at);
    const problems = literalProblems(step.action, inputs);
    if (step.action === 'workflow' && problems.length === 0 && isLiteralAt(inputs, ['workflow'])) {
      this.addNested(fillTemplate(inputs, new Map()), [...at, 'workflow'], depth + 1);
    }
    return problems.map((problem) => ({ ...problem, path: joinPlaces(placeOf(at), problem.path) }));
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

  /** What a task is handed has no expressions: what looks like one stays as it is. */
  addPayload(payload: JsonObject): void {
    for (const { text, path } of textsIn(payload, ['payload'])) {
      const found = mustache(text) ?? /\$\{\s*(?:input|steps|item|index|workflow)\b[^}]*\}/.exec(text)?.[0];
      if (found === undefined) continue;
      this.warn(placeOf(path), `"${shown(found)}" is handed on as it stands: only workflows have expressions`);
    }
  }

  private note(
    template: Template,
    path: Path,
    place: ExpressionPlace,
    advice: (at: string) => string = () => '',
  ): void {
    for (const [text, at] of template.places) this.uses.push({ text, at, place, advice: advice(at) });
    for (const { text, path: at } of textsOf(template, path)) {
      const found = mustache(text);
      if (found === null) continue;
      this.warn(placeOf(at), `"${shown(found)}" stays as it stands: expressions are written \${ … }`);
    }
  }

  private warn(at: string, message: string): void {
    const known = this.warnings.some((warning) => warning.at === at && warning.message === message);
    if (!known && this.warnings.length < WARNINGS_MAX) this.warnings.push({ at, message });
  }

  /** @throws InvalidWorkflowError for names in plain paths that are not in scope */
  checkPaths(): void {
    const checked = new Map<string, CheckedExpression>();
    for (const { text } of this.uses) {
      const names = namesOfPath(text);
      if (names !== undefined) checked.set(text, { names });
    }
    this.judge(checked);
  }

  /** @throws InvalidWorkflowError for expressions that cannot be read, and names that are not in scope */
  async checkExpressions(evaluator: Evaluator): Promise<void> {
    const checked = new Map<string, CheckedExpression>();
    const unread = new Set<string>();
    for (const { text } of this.uses) {
      const names = namesOfPath(text);
      if (names === undefined) unread.add(text);
      else checked.set(text, { names });
    }
    if (unread.size > 0) {
      const answers = await evaluator.check([...unread]);
      for (const [position, text] of [...unread].entries()) checked.set(text, answers[position]!);
    }
    this.judge(checked);
  }

  private judge(checked: ReadonlyMap<string, CheckedExpression>): void {
    const unreadable: Problem[] = [];
    const unknown: Problem[] = [];
    for (const use of this.uses) {
      const answer = checked.get(use.text);
      if (answer === undefined) continue;
      if ('problem' in answer) unreadable.push({ path: use.at, message: unreadableMessage(use.text, answer.problem) });
      else unknown.push(...this.judgeNames(use, answer.names));
    }
    const problems = boundedProblems([...unreadable, ...unknown]);
    if (unreadable.length > 0) throw new InvalidWorkflowError(problems, 'INVALID_EXPRESSION');
    if (unknown.length > 0) throw new InvalidWorkflowError(problems);
  }

  private judgeNames({ text, at, place, advice }: Use, names: readonly ScopeName[]): Problem[] {
    return names.flatMap((name) => {
      const warning = nameWarning(name, place);
      if (warning !== null) this.warn(at, `in \${ ${shown(text)} }: ${warning}`);
      const problem = nameProblem(name, place);
      return problem === null ? [] : [{ path: at, message: `in \${ ${shown(text)} }: ${problem}${advice}` }];
    });
  }
}

function unreadableMessage(text: string, { position, message }: { position: number; message: string }): string {
  const advice = foreignOperator(text);
  const hint = advice === null ? '' : `; ${advice}`;
  return `the expression \${ ${shown(text)} } cannot be read at character ${position}: ${message}${hint}`;
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

const SHOWN_CHARS_MAX = 200;

function shown(text: string): string {
  return cutText(text, SHOWN_CHARS_MAX);
}
