/**
 * Group commit: takes operations as they come, writes all that came while the last group was being fsynced as one
 * transaction, and answers in order. Runs on the store thread or, when the store is inline, on its caller's loop.
 */
import type { ErrorShape } from '../../dag/errors.ts';
import { errorShape } from '../../dag/errors.ts';
import type { FeedHeads } from './feed-heads.ts';
import { GROUP_BYTES_MAX } from './limits.ts';
import type { Writer, WriterOperation } from './writer.ts';

/** To the writer. Each is answered, in order. */
export type WriterRequest =
  | { type: 'write'; operation: WriterOperation; bytes: number }
  | { type: 'recover' }
  | { type: 'close' };

/** From the writer. `count` is how many operations, oldest first, the answer is for. */
export type WriterReply =
  | { type: 'opened'; heads: FeedHeads }
  | { type: 'written'; count: number }
  | { type: 'rejected'; count: number; error: ErrorShape }
  | { type: 'recovered' }
  | { type: 'not_recovered'; error: ErrorShape }
  /** The log could not be copied into the file: the next operation is rejected with this. */
  | { type: 'checkpoint_failed'; error: ErrorShape }
  | { type: 'closed'; error: ErrorShape | null };

export class WriterLoop {
  readonly #writer: Writer;
  readonly #reply: (reply: WriterReply) => void;
  #queue: WriterRequest[] = [];
  #scheduled = false;

  constructor(writer: Writer, reply: (reply: WriterReply) => void) {
    this.#writer = writer;
    this.#reply = reply;
  }

  /** Queues a request; it is handled at the end of this turn of the loop, with all others of the turn. */
  receive(request: WriterRequest): void {
    this.#queue.push(request);
    this.#schedule();
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#turn();
    });
  }

  #turn(): void {
    const group = this.#nextGroup();
    if (group.length > 0) this.#write(group);
    else {
      const request = this.#queue.shift();
      if (request?.type === 'recover') this.#recover();
      if (request?.type === 'close') this.#close();
    }
    if (this.#writer.checkpointDue(this.#queue.length === 0)) this.#checkpointAfterReplies();
    if (this.#queue.length > 0) this.#schedule();
  }

  /** The operations at the head of the queue, up to GROUP_BYTES_MAX, at least one. */
  #nextGroup(): WriterOperation[] {
    const group: WriterOperation[] = [];
    let bytes = 0;
    for (const request of this.#queue) {
      if (request.type !== 'write') break;
      bytes += request.bytes;
      if (group.length > 0 && bytes > GROUP_BYTES_MAX) break;
      group.push(request.operation);
    }
    this.#queue.splice(0, group.length);
    return group;
  }

  #write(group: WriterOperation[]): void {
    try {
      this.#writer.write(group);
    } catch (error) {
      this.#reply({ type: 'rejected', count: group.length, error: errorShape(error) });
      return;
    }
    this.#reply({ type: 'written', count: group.length });
  }

  #checkpointAfterReplies(): void {
    setImmediate(() => {
      if (!this.#writer.checkpointDue(this.#queue.length === 0)) return;
      try {
        this.#writer.checkpoint();
      } catch (error) {
        this.#reply({ type: 'checkpoint_failed', error: errorShape(error) });
      }
    });
  }

  #recover(): void {
    try {
      this.#writer.reopen();
    } catch (error) {
      this.#reply({ type: 'not_recovered', error: errorShape(error) });
      return;
    }
    this.#reply({ type: 'recovered' });
  }

  #close(): void {
    try {
      this.#writer.close();
    } catch (error) {
      this.#reply({ type: 'closed', error: errorShape(error) });
      return;
    }
    this.#reply({ type: 'closed', error: null });
  }
}
