/** Does one thing with a feed at a time; what comes meanwhile is not done: its cause comes again. */
import type { Lifecycle } from '../lifecycle.ts';
import type { Log } from '../ports.ts';

export class OneAtATime {
  readonly #log: Log;
  readonly #lifecycle: Lifecycle;
  /** Feeds with which something is being done, each with a mark of what does it. */
  readonly #busy = new Map<string, symbol>();

  constructor({ log, lifecycle }: { log: Log; lifecycle: Lifecycle }) {
    this.#log = log;
    this.#lifecycle = lifecycle;
  }

  /** Runs `work`, whose failure is logged, unless something is being done with the feed. */
  run(feedId: string, work: () => Promise<unknown>): void {
    if (this.#busy.has(feedId) || this.#lifecycle.stopping) return;
    const mine = Symbol(feedId);
    this.#busy.set(feedId, mine);
    work()
      .catch((error: unknown) => {
        this.#log.debug({ feed_id: feedId, err: error }, 'a feed could not be followed or owned; tried again');
      })
      .finally(() => {
        if (this.#busy.get(feedId) === mine) this.#busy.delete(feedId);
      });
  }

  /** What is being done goes on, and something else may begin beside it. */
  clear(): void {
    this.#busy.clear();
  }
}
