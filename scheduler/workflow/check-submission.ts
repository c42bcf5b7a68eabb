/**
 * Finds everything that can be wrong with a workflow or task whose shape is right, before any row of it is written. A
 * nested workflow that is written out, without expressions of the outer one, is checked too. What is allowed but
 * probably not meant becomes a warning.
 */
import { InvalidInputsError, inputProblems, literalProblems } from '../../dag/action-inputs.ts';
import { checkAction } from '../../dag/actions.ts';
import { cutText, FlowmeshError, type JsonObject, type JsonValue } from '../../dag/errors.ts';
import {
  compileTemplate,
  fillTemplate,
  innerAdvice,
  isLiteralAt,
  outputReferenceProblems,
  referenceProblems,
  templatesOf,
} from '../../dag/expression.ts';
import { foreignOperator, mustache } from '../../dag/foreign-syntax.ts';
import { WorkflowGraph } from '../../dag/graph.ts';
import { checkBytes, INPUT_BYTES_MAX, LimitError, NESTING_LEVELS_MAX } from '../../dag/limits.ts';
import { boundedProblems, joinPlaces, PROBLEMS_MAX, type Problem, placeOf } from '../../dag/problems.ts';
import { InvalidWorkflowError, type Retry, type Step, type Workflow } from '../../dag/schema.ts';
import { type ExpressionPlace, nameProblem, namesOfPath, nameWarning, type ScopeName } from '../../dag/scope.ts';
import { type Template, visitTexts, visitValueTexts } from '../../dag/template.ts';
import type { TaskSubmission, Warning } from '../api.ts';
import { CHECKED_EXPRESSIONS_PER_TURN, CHECKED_STEPS_PER_TURN, WARNINGS_MAX } from '../limits.ts';
import type { CheckedExpression, Clock, Evaluator } from '../ports.ts';
import { nestedWorkflow } from './nested-workflow.ts';

type Path = readonly (string | number)[];
/** A check that yields now and then, so that a long one does not hold up the event loop (P7). */
type Check<T> = Generator<undefined, T>;

interface World {
  evaluator: Evaluator;
  clock: Pick<Clock, 'defer'>;
}

/** @throws FlowmeshError INVALID_WORKFLOW, INVALID_EXPRESSION, CYCLE, UNKNOWN_ACTION, LIMIT_EXCEEDED, INVALID_PAYLOAD */
export async function checkWorkflow(
  workflow: Workflow,
  world: World,
): Promise<{ graph: WorkflowGraph; warnings: Warning[] }> {
  const parts = new CheckedParts();
  const graph = await inTurns(parts.add(workflow, [], 0), world.clock);
  await parts.checkExpressions(world);
  return { graph, warnings: parts.warnings };
}

/** @throws FlowmeshError as `checkWorkflow` */
export async function checkTask(submission: TaskSubmission, world: World): Promise<Warning[]> {
  const { task_type, payload } = submission;
  checkAction(task_type, 'task_type');
  checkRetries(submission.at_most_once, submission.retry, 'retry_policy.max_retries');
  checkBytes(payload, 'INPUT_BYTES_MAX', INPUT_BYTES_MAX, 'The payload');
  const problems = inputProblems(task_type, payload);
  if (problems.length > 0) throw new InvalidInputsError(task_type, problems, 'payload');
  const parts = new CheckedParts();
  if (task_type === 'workflow') {
    await inTurns(parts.addNested(payload, ['payload', 'workflow'], 1), world.clock);
    await parts.checkExpressions(world);
  } else {
    parts.addPayload(payload);
  }
  return parts.warnings;
}

/**
 * The checks of `checkWorkflow` that need no JSONata parser, without a pause: for a nested workflow that begins.
 *
 * @param depth how many workflows this one is nested in
 * @throws FlowmeshError as `checkWorkflow`
 */
export function checkParts(workflow: Workflow, depth: number): WorkflowGraph {
  const parts = new CheckedParts();
  const graph = atOnce(parts.add(workflow, [], depth));
  atOnce(parts.checkPaths());
  return graph;
}

function atOnce<T>(check: Check<T>): T {
  for (;;) {
    const step = check.next();
    if (step.done) return step.value;
  }
}

async function inTurns<T>(check: Check<T>, clock: Pick<Clock, 'defer'>): Promise<T> {
  for (;;) {
    const step = check.next();
    if (step.done) return step.value;
    await new Promise<void>((resolve) => clock.defer(resolve));
  }
}

/** @throws FlowmeshError INVALID_INPUT when a task that may start at most once has retries */
export function checkRetries(atMostOnce: boolean, retry: Pick<Retry, 'max_retries'>, path: string): void {
  const message = retriesProblem(atMostOnce, retry);
  if (message === null) return;
  throw new FlowmeshError('INVALID_INPUT', `${path}: ${message}`, { details: { problems: [{ path, message }] } });
}

function retriesProblem(atMostOnce: boolean, { max_retries }: Pick<Retry, 'max_retries'>): string | null {
  if (!atMostOnce || max_retries === 0) return null;
  return `must be 0 with at_most_once, not ${max_retries}: what may start only once is not tried again; leave out one of the two`;
}

/** @throws LimitError when a workflow is nested in more than NESTING_LEVELS_MAX others */
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

/** An expression at one place of the submission. */
interface Use {
  text: string;
  at: string;
  place: ExpressionPlace;
  /** Appended to the message of an error; may be empty. */
  advice: string;
}

class CheckedParts {
  readonly warnings: Warning[] = [];
  readonly #uses: Use[] = [];

  *add(workflow: Workflow, path: Path, depth: number): Check<WorkflowGraph> {
    checkDepth(depth);
    const graph = within(path, () => new WorkflowGraph(workflow.steps));
    const inputs = Object.keys(workflow.input);
    const problems: Problem[] = [];
    for (const [position, step] of workflow.steps.entries()) {
      const at = [...path, 'steps', position];
      checkAction(step.action, placeOf([...at, 'action']));
      problems.push(...referenceProblems(step, at, graph));
      this.#addExpressions(step, at, { stepIds: graph, inputs });
      problems.push(...(yield* this.#inputProblems(step, [...at, 'inputs'], depth)));
      const retries = retriesProblem(step.at_most_once, step.retry);
      if (retries !== null) problems.push({ path: placeOf([...at, 'retry', 'max_retries']), message: retries });
      // An error shows no more than these.
      if (problems.length > PROBLEMS_MAX) break;
      if (position % CHECKED_STEPS_PER_TURN === CHECKED_STEPS_PER_TURN - 1) yield;
    }
    if (workflow.output !== undefined) {
      const output = compileTemplate(workflow.output, [...path, 'output']);
      problems.push(...outputReferenceProblems(output, graph));
      const itemAdvice = 'it is of one step with foreach, whose output is a list';
      this.#note(output, [...path, 'output'], { item: false, itemAdvice, stepIds: graph, inputs });
    }
    if (problems.length > 0) throw new InvalidWorkflowError(boundedProblems(problems));
    return graph;
  }

  #addExpressions(step: Step, at: Path, known: Pick<ExpressionPlace, 'stepIds' | 'inputs'>): void {
    const { when, foreach, inputs } = templatesOf(step, at);
    const item = foreach !== undefined;
    const itemAdvice = `only a step with foreach has it, and step "${step.step_id}" has no foreach`;
    if (when !== undefined) this.#note(when, [...at, 'when'], { ...known, item, itemAdvice });
    const advice = (path: string) => innerAdvice(step, at, path);
    this.#note(inputs, [...at, 'inputs'], { ...known, item, itemAdvice }, advice);
    if (foreach === undefined) return;
    this.#note(foreach, [...at, 'foreach'], { ...known, item: false, itemAdvice: 'it comes from the list made here' });
  }

  *#inputProblems(step: Step, at: Path, depth: number): Check<Problem[]> {
    const { inputs } = templatesOf(step, at);
    const problems = literalProblems(step.action, inputs);
    if (step.action === 'workflow' && problems.length === 0 && isLiteralAt(inputs, ['workflow'])) {
      yield* this.addNested(fillTemplate(inputs, new Map()), [...at, 'workflow'], depth + 1);
    }
    return problems.map((problem) => ({ ...problem, path: joinPlaces(placeOf(at), problem.path) }));
  }

  /** @param inputs of an action `workflow`, already checked against its schema */
  *addNested(inputs: JsonValue, path: Path, depth: number): Check<void> {
    const { workflow } = inputs as { workflow: JsonObject };
    yield* this.add(
      within(path, () => nestedWorkflow({ workflow })),
      path,
      depth,
    );
  }

  /** The payload of a task is passed on as it is, so text that looks like an expression gets a warning. */
  addPayload(payload: JsonObject): void {
    visitValueTexts(payload, ['payload'], (text, path) => {
      const found = mustache(text) ?? /\$\{\s*(?:input|steps|item|index|workflow)\b[^}]*\}/.exec(text)?.[0];
      if (found === undefined) return;
      this.#warn(placeOf(path), `"${shown(found)}" is handed on as it stands: only workflows have expressions`);
    });
  }

  #note(template: Template, path: Path, place: ExpressionPlace, advice: (at: string) => string = () => ''): void {
    for (const [text, at] of template.places) this.#uses.push({ text, at, place, advice: advice(at) });
    visitTexts(template, path, (text, at) => {
      const found = mustache(text);
      if (found !== null) {
        this.#warn(placeOf(at), `"${shown(found)}" stays as it stands: expressions are written \${ … }`);
      }
    });
  }

  #warn(at: string, message: string): void {
    const known = this.warnings.some((warning) => warning.at === at && warning.message === message);
    if (!known && this.warnings.length < WARNINGS_MAX) this.warnings.push({ at, message });
  }

  /** @throws InvalidWorkflowError for names in plain paths that are not in scope */
  *checkPaths(): Check<void> {
    yield* this.#judge((yield* this.#plainPaths()).checked);
  }

  *#plainPaths(): Check<{ checked: Map<string, CheckedExpression>; unread: Set<string> }> {
    const checked = new Map<string, CheckedExpression>();
    const unread = new Set<string>();
    for (const [position, { text }] of this.#uses.entries()) {
      const names = namesOfPath(text);
      if (names === undefined) unread.add(text);
      else checked.set(text, { names });
      if (position % CHECKED_EXPRESSIONS_PER_TURN === CHECKED_EXPRESSIONS_PER_TURN - 1) yield;
    }
    return { checked, unread };
  }

  /** @throws InvalidWorkflowError for expressions that cannot be read, and names that are not in scope */
  async checkExpressions({ evaluator, clock }: World): Promise<void> {
    const { checked, unread } = await inTurns(this.#plainPaths(), clock);
    if (unread.size > 0) {
      const answers = await evaluator.check([...unread]);
      for (const [position, text] of [...unread].entries()) checked.set(text, answers[position]!);
    }
    await inTurns(this.#judge(checked), clock);
  }

  *#judge(checked: ReadonlyMap<string, CheckedExpression>): Check<void> {
    const unreadable: Problem[] = [];
    const unknown: Problem[] = [];
    for (const [position, use] of this.#uses.entries()) {
      if (position % CHECKED_EXPRESSIONS_PER_TURN === CHECKED_EXPRESSIONS_PER_TURN - 1) yield;
      // An error shows no more than these.
      if (unreadable.length > PROBLEMS_MAX || unknown.length > PROBLEMS_MAX) break;
      const answer = checked.get(use.text);
      if (answer === undefined) continue;
      if ('problem' in answer) unreadable.push({ path: use.at, message: unreadableMessage(use.text, answer.problem) });
      else unknown.push(...this.#judgeNames(use, answer.names));
    }
    const problems = boundedProblems([...unreadable, ...unknown]);
    if (unreadable.length > 0) throw new InvalidWorkflowError(problems, 'INVALID_EXPRESSION');
    if (unknown.length > 0) throw new InvalidWorkflowError(problems);
  }

  #judgeNames({ text, at, place, advice }: Use, names: readonly ScopeName[]): Problem[] {
    return names.flatMap((name) => {
      const warning = nameWarning(name, place);
      if (warning !== null) this.#warn(at, `in \${ ${shown(text)} }: ${warning}`);
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

/** Puts the place of a nested workflow in front of the places of its problems. */
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
