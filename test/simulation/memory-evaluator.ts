/**
 * The Evaluator port on the loop of its caller: the project's JSONata (`node/expressions/jsonata.ts`) without
 * processes, threads and timers, for the simulation. An expression that never ends hangs it, and `$now`, `$millis`,
 * `$random` and `$shuffle` are those of the machine: a simulated workflow uses none of them.
 */
import type { ErrorShape, JsonValue } from '../../dag/errors.ts';
import { Expressions } from '../../node/expressions/jsonata.ts';
import type { CheckedExpression, EvaluationJob, Evaluator } from '../../scheduler/ports.ts';

export class MemoryEvaluator implements Evaluator {
  readonly #expressions = new Expressions();

  async check(expressions: string[]): Promise<CheckedExpression[]> {
    return expressions.map((expression) => this.#expressions.check(expression));
  }

  async evaluate(jobs: EvaluationJob[]): Promise<({ value: JsonValue } | { error: ErrorShape })[]> {
    // One clone for all, as on the wire: scopes that share parts go on sharing them.
    const own = structuredClone(jobs);
    const results: ({ value: JsonValue } | { error: ErrorShape })[] = [];
    for (const job of own) {
      const result = await this.#expressions.evaluate(job);
      results.push('json' in result ? { value: JSON.parse(result.json) as JsonValue } : result);
    }
    return results;
  }
}
