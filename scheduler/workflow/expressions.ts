/**
 * Values of expressions for the steps of a run. Plain paths are resolved at once. Everything else is JSONata, which the
 * evaluator runs outside this event loop, where it can be killed; its values come in a later turn.
 */
import { type ErrorShape, errorShape, FlowmeshError, type JsonObject, type JsonValue } from '../../dag/errors.ts';
import { referencedSteps, resolvePath } from '../../dag/expression.ts';
import { cut } from '../../dag/quoted.ts';
import type { Run } from '../../dag/run.ts';
import type { Evaluator } from '../ports.ts';
import type { WorkflowRecord } from '../records.ts';
import type { FeedWriter, Turn } from '../storage/journal.ts';

const SHOWN_CHARS_MAX = 200;

/** The value of each expression, by its text. */
export type Values = Map<string, JsonValue>;

/** The run whose steps the expressions refer to. */
interface Scoped {
  record: WorkflowRecord;
  run: Run;
}

export class Expressions {
  readonly #evaluator: Evaluator;
  readonly #writer: FeedWriter;

  constructor(evaluator: Evaluator, writer: FeedWriter) {
    this.#evaluator = evaluator;
    this.#writer = writer;
  }

  /**
   * Resolves the same expressions for each of several scopes, then calls `then` once, with one result per scope: within
   * `turn` when all are plain paths, else in a later turn. A scope with an expression that fails has its error.
   *
   * @param extras what each scope has besides the run's own names (`item`, `index`)
   */
  evaluate(
    turn: Turn,
    live: Scoped,
    expressions: string[],
    extras: JsonObject[],
    then: (turn: Turn, results: (Values | FlowmeshError)[]) => void,
  ): void {
    const base = expressions.length === 0 ? {} : this.#scopeFor(live, expressions);
    const results: Values[] = [];
    const jobs: { at: number; expression: string; scope: JsonObject }[] = [];
    for (const [at, extra] of extras.entries()) {
      const scope = { ...base, ...extra };
      const values: Values = new Map();
      for (const expression of expressions) {
        const direct = resolvePath(expression, scope);
        if (direct.resolved) values.set(expression, direct.value);
        else jobs.push({ at, expression, scope });
      }
      results.push(values);
    }
    if (jobs.length === 0) {
      then(turn, results);
      return;
    }
    const finish = (outcomes: (Values | FlowmeshError)[]) => this.#writer.turn((later) => then(later, outcomes));
    const asked = jobs.map(({ expression, scope }) => ({ expression, scope }));
    this.#evaluator.evaluate(asked, live.record.uid).then(
      (answers) => {
        const outcomes: (Values | FlowmeshError)[] = results;
        for (const [position, { at, expression }] of jobs.entries()) {
          const answer = answers[position]!;
          const outcome = outcomes[at]!;
          if (outcome instanceof FlowmeshError) continue;
          if ('value' in answer) outcome.set(expression, answer.value);
          else outcomes[at] = expressionError(expression, answer.error);
        }
        finish(outcomes);
      },
      (error: unknown) => {
        const failed = expressionError(expressions.join(', '), errorShape(error));
        finish(results.map(() => failed));
      },
    );
  }

  #scopeFor(live: Scoped, expressions: string[]): JsonObject {
    const mentioned = new Set<string>();
    for (const expression of expressions) {
      const steps = referencedSteps(expression);
      if (steps === 'all') return this.#named(live, live.run.scope('all'));
      for (const stepId of steps) mentioned.add(stepId);
    }
    return this.#named(live, live.run.scope([...mentioned]));
  }

  #named(live: Scoped, scope: JsonObject): JsonObject {
    const { workflow_id, name } = live.record;
    return { ...scope, workflow: { workflow_id, name } };
  }
}

function expressionError(expression: string, error: ErrorShape): FlowmeshError {
  const text = cut(expression, SHOWN_CHARS_MAX);
  return new FlowmeshError(error.code, `in \${ ${text} }: ${error.message}`, {
    retryable: error.retryable,
    details: { ...error.details, expression: text },
  });
}
