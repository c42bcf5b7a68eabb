/** Expressions whose values come later, as they do from another thread: a crash may come in between. */
import type { ErrorShape, JsonValue } from '../../dag/errors.ts';
import type { EvaluationJob, Evaluator } from '../../scheduler/ports.ts';
import { MemoryEvaluator } from './memory-evaluator.ts';

export class SlowEvaluator implements Evaluator {
  readonly #evaluator = new MemoryEvaluator();
  #gate: PromiseWithResolvers<void> | null = null;
  /** Waits before each answer, as a test likes. */
  pause: () => Promise<void> = async () => {};
  /** Questions that wait for an answer. */
  waiting = 0;

  check(expressions: string[]): ReturnType<MemoryEvaluator['check']> {
    return this.#evaluator.check(expressions);
  }

  async evaluate(jobs: EvaluationJob[]): Promise<({ value: JsonValue } | { error: ErrorShape })[]> {
    this.waiting++;
    await this.#gate?.promise;
    await this.pause();
    this.waiting--;
    return await this.#evaluator.evaluate(jobs);
  }

  hold(): void {
    this.#gate = Promise.withResolvers();
  }

  release(): void {
    this.#gate?.resolve();
    this.#gate = null;
  }
}
