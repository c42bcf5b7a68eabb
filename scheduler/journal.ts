/**
 * Turns and their commits.
 *
 * 1. A turn is a synchronous change of the scheduler's memory. It says which rows it changed and which effects follow.
 * 2. All turns of one event-loop turn are one commit: one `seq`, one fsync.
 * 3. Effects are released in the order of their turns, after the commit of their rows and of all earlier ones (P1). A
 *    turn without rows waits for the commits before it, because what it answers may show their rows.
 * 4. One commit is under way at a time; what comes meanwhile is the next one.
 * 5. When a commit fails, memory is ahead of the disk: every turn not yet released is rejected, and the owner of this
 *    journal throws its memory away and reads the store again.
 */
import type { Clock, Log, Store } from './ports.ts';
import type { FlowRecord, Row } from './records.ts';

export interface Turn {
  /** The new state of a record. The last one of a commit wins. Records are never changed after they were put. */
  put(record: FlowRecord): void;
  /** What happens once all this is on disk. */
  after(effect: () => void): void;
}

interface Batch {
  records: Map<string, FlowRecord>;
  effects: (() => void)[];
  rejects: ((error: unknown) => void)[];
}

export class Journal implements Turn {
  private readonly store: Store;
  private readonly clock: Clock;
  private readonly log: Log;
  private readonly beforeFlush: () => void;
  private readonly onFailure: (error: unknown) => void;
  private seq: number;
  private next: Batch = emptyBatch();
  private committing: Batch | null = null;
  private deferred = false;
  private refusal: unknown = null;

  /**
   * @param hooks.beforeFlush runs once per event-loop turn that had turns, still part of the same commit: dispatching
   * @param hooks.onFailure a commit failed; no further turn is accepted until `resume`
   */
  constructor(
    components: { store: Store; clock: Clock; log: Log },
    hooks: { beforeFlush: () => void; onFailure: (error: unknown) => void },
  ) {
    this.store = components.store;
    this.clock = components.clock;
    this.log = components.log;
    this.beforeFlush = hooks.beforeFlush;
    this.onFailure = hooks.onFailure;
    this.seq = this.store.feed.seq;
  }

  /**
   * Runs `work` now and resolves with its value when everything it did is durable. What `work` throws is thrown to
   * the caller: it must check before it changes anything.
   */
  turn<T>(work: (turn: Turn) => T): Promise<T> {
    if (this.refusal !== null) return Promise.reject(this.refusal);
    let value: T;
    try {
      value = work(this);
    } catch (error) {
      return Promise.reject(error);
    }
    const batch = this.next;
    this.schedule();
    return new Promise<T>((resolve, reject) => {
      batch.effects.push(() => resolve(value));
      batch.rejects.push(reject);
    });
  }

  put(record: FlowRecord): void {
    this.next.records.set(record.uid, record);
    this.schedule();
  }

  after(effect: () => void): void {
    this.next.effects.push(effect);
    this.schedule();
  }

  /** Asks for `beforeFlush` at the end of this event-loop turn, also when nothing was written. */
  schedule(): void {
    if (this.deferred || this.refusal !== null) return;
    this.deferred = true;
    this.clock.defer(() => {
      this.deferred = false;
      if (this.refusal !== null) return;
      this.beforeFlush();
      this.flush();
    });
  }

  /** Why no turn is accepted now; null when they are. */
  get refused(): unknown {
    return this.refusal;
  }

  /** Accepts turns again, after the memory was read from the store anew. */
  resume(): void {
    this.seq = this.store.feed.seq;
    this.refusal = null;
  }

  /** Rejects what waits and everything after it with `error`. */
  refuse(error: unknown): void {
    this.refusal = error;
    const waiting = [this.committing, this.next];
    this.committing = null;
    this.next = emptyBatch();
    for (const batch of waiting) for (const reject of batch?.rejects ?? []) reject(error);
  }

  private flush(): void {
    if (this.committing !== null) return;
    const batch = this.next;
    if (batch.records.size === 0 && batch.effects.length === 0) return;
    this.next = emptyBatch();
    if (batch.records.size === 0) {
      this.release(batch);
      return;
    }
    this.committing = batch;
    const seq = ++this.seq;
    const { feed_id, epoch } = this.store.feed;
    const rows: Row[] = [];
    for (const record of batch.records.values()) rows.push({ uid: record.uid, feed_id, epoch, seq, record });
    this.store.commit(rows).then(
      () => {
        if (this.committing !== batch) return; // refused meanwhile
        this.committing = null;
        this.release(batch);
        this.flush();
      },
      (error: unknown) => {
        if (this.committing !== batch) return;
        this.refuse(error);
        this.onFailure(error);
      },
    );
  }

  private release(batch: Batch): void {
    for (const effect of batch.effects) {
      try {
        effect();
      } catch (error) {
        // The rows are kept and the other effects are other people's: they happen all the same.
        this.log.error({ err: error }, 'an effect of a commit failed');
      }
    }
  }
}

function emptyBatch(): Batch {
  return { records: new Map(), effects: [], rejects: [] };
}
