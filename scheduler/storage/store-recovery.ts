/**
 * After a failed commit, memory is thrown away and read again from the disk, as often as it takes to succeed. Until
 * then every turn is refused with the error of the commit, and reads go on.
 */
import { errorShape } from '../../dag/errors.ts';
import type { Lifecycle } from '../lifecycle.ts';
import type { Clock, Log } from '../ports.ts';

/** Waits before each attempt to open the store again; the last one is repeated. */
const RECOVERY_DELAYS_MS = [0, 200, 500, 1_000, 2_000, 5_000];

interface StoreRecoveryParts {
  clock: Clock;
  log: Log;
  lifecycle: Lifecycle;
  /** Throws away the memory of the scheduler, and refuses every turn with this error. */
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

  /** Recovers, unless a recovery is under way. Never rejects. @param cause the error of the commit */
  async start(cause: unknown): Promise<void> {
    const { clock, log, forget, reload, lifecycle } = this.#parts;
    forget(cause);
    // A recovery is under way, and this is a commit of its own: its loop sees that it has to begin again.
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
        // It tries for ever, but warns only of the first, second, fourth, … failure.
        const worthALine = Number.isInteger(Math.log2(failures + 1));
        log[worthALine ? 'warn' : 'debug']({ err: errorShape(error) }, 'the store cannot be used yet; trying on');
      }
    }
    this.#running = false;
  }
}
