/** Whether the queue of this peer is paused, kept in the store. */
import type { FeedTable } from '../feed/feed-table.ts';
import { isoTime } from '../ids.ts';
import type { Clock, Reader } from '../ports.ts';
import type { QueueRecord } from '../records.ts';
import type { LocalFeed } from '../storage/local-feed.ts';

interface QueueStateParts {
  clock: Clock;
  reader: Reader;
  local: LocalFeed;
  feeds: FeedTable;
}

export class QueueState {
  readonly #parts: QueueStateParts;
  #current: QueueRecord;

  constructor(parts: QueueStateParts) {
    this.#parts = parts;
    this.#current = { kind: 'queue', uid: 'queue', paused: false, reason: null, paused_at: null };
  }

  get record(): QueueRecord {
    return this.#current;
  }

  get paused(): boolean {
    return this.#current.paused;
  }

  /** Reads it from the store; a queue that was never paused has no row. */
  async load(): Promise<void> {
    const none = { ...this.#current, paused: false, reason: null, paused_at: null };
    this.#current = (await this.#parts.reader.get('queue', this.#current.uid)) ?? none;
  }

  /** A queue that is paused already keeps the time of its pause, and takes the new reason. Resolves when durable. */
  async pause(reason: string | undefined): Promise<QueueRecord> {
    return await this.#parts.local.commit((turn) => {
      const paused_at = this.#current.paused_at ?? isoTime(this.#parts.clock.wall());
      this.#current = { ...this.#current, paused: true, reason: reason ?? null, paused_at };
      turn.put(this.#current);
      return this.#current;
    });
  }

  /** @returns also whether sorting by the priorities of now changed the order of any queue */
  async resume({ reorder_by_priority = true }): Promise<{ queue: QueueRecord; reordered: boolean }> {
    return await this.#parts.local.commit((turn) => {
      this.#current = { ...this.#current, paused: false, reason: null, paused_at: null };
      turn.put(this.#current);
      const reordered = reorder_by_priority && this.#parts.feeds.reorder();
      this.#parts.feeds.dispatchSoon();
      return { queue: this.#current, reordered };
    });
  }
}
