/**
 * A commit failed: memory is thrown away and built again from what is on disk, tried until that succeeds. While it is
 * tried every turn is refused with the error of the commit, and reads go on.
 */
import { errorShape } from '../../dag/errors.ts';
import type { Lifecycle } from '../lifecycle.ts';
import type { Clock, Log } from '../ports.ts';

/** Waits between attempts to open a store again whose commit failed. */
const RECOVERY_DELAYS_MS = [0, 200, 500, 1_000, 2_000, 5_000];

interface StoreRecoveryParts {
  clock: Clock;
  log: Log;
  lifecycle: Lifecycle;
  /** Throws away what is in memory, and refuses every turn with this error. */
  forget(error: unknown): void;
  /** Opens the store and reads it into memory; everything is ready when it resolves. */
  reload(): Promise<void>;
}

export class StoreRecovery {
  readonly #parts: StoreRecoveryParts;
  #running = false;

  constructor(parts: StoreRecoveryParts) {
    this.#parts = parts;
  }

  /** Never rejects. */
  async start(cause: unknown): Promise<void> {
    const { clock, log, forget, reload, lifecycle } = this.#parts;
    forget(cause);
    // The commit of a recovery that runs already: it sees that it has to begin again.
    if (this.#running) return;
    this.#running = true;
    log.error({ err: cause }, 'a commit failed; the store is opened again and read anew');
    for (let failures = 0; !lifecycle.ready && !lifecycle.stopped; failures++) {
      const delay = RECOVERY_DELAYS_MS[Math.min(failures, RECOVERY_DELAYS_MS.length - 1)]!;
      await new Promise<void>((resolve) => clock.after(delay, resolve));
      if (lifecycle.stopped) break;
      try {
        await reload();
        log.info({ failures }, 'the store is open again, work goes on');
      } catch (error) {
        forget(error);
        // For ever, but not a flood: the first, second, fourth, … failure.
        const worthALine = Number.isInteger(Math.log2(failures + 1));
        log[worthALine ? 'warn' : 'debug']({ err: errorShape(error) }, 'the store cannot be used yet; trying on');
      }
    }
    this.#running = false;
  }
}
