/**
 * One piece of work on a feed at a time: an inquiry, a takeover, a change of line. Work that comes while another piece
 * is under way is dropped: its cause, a beat or a tick, comes again.
 */
import type { Lifecycle } from '../lifecycle.ts';
import type { Log } from '../ports.ts';

export class OneAtATime {
  readonly #log: Log;
  readonly #lifecycle: Lifecycle;
  /** By feed id, a mark of the work that is under way. */
  readonly #busy = new Map<string, symbol>();

  constructor({ log, lifecycle }: { log: Log; lifecycle: Lifecycle }) {
    this.#log = log;
    this.#lifecycle = lifecycle;
  }

  /** Runs `work` unless other work on the feed is under way. A failure of `work` is logged. */
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

  /** Work that is under way goes on, but other work on the same feed may begin beside it. */
  clear(): void {
    this.#busy.clear();
  }
}
