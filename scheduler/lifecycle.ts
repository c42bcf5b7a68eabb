/** How far a scheduler is between its start and its end. Its parts share one Lifecycle. */
import { NotReadyError } from './errors.ts';

export class Lifecycle {
  /** False while the store is being read: nothing that depends on what is owned may be answered. */
  ready = false;
  /** No task is given out any more. */
  stopping = false;
  /** Nothing is written any more. */
  stopped = false;
  /** Why the store refused the last write; null while it is in order, and once it is open again. */
  failure: unknown = null;

  /** A write failed: memory may be ahead of the disk, and nothing relies on it until the store was read anew. */
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
