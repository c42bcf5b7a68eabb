/** How far a scheduler is between its start and its end: every part that has to know is handed the same one. */
import { NotReadyError } from './errors.ts';

export class Lifecycle {
  /** False while the store is being read: nothing that depends on what is owned may be answered. */
  ready = false;
  /** Nothing is given out any more. */
  stopping = false;
  /** Nothing is written any more. */
  stopped = false;
  /** Why the store refused the last write; null while it is in order, and once it is open again. */
  failure: unknown = null;

  /** What is in memory may be ahead of the disk: nothing may be relied on until it was read anew. */
  fail(reason: unknown): void {
    this.ready = false;
    this.failure ??= reason;
  }

  /** @throws why the store failed, NOT_READY while it is being read */
  mustBeReady(): void {
    if (this.ready) return;
    throw this.failure ?? new NotReadyError();
  }
}
