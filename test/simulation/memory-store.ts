/**
 * The Store port in memory, for the simulation: no timers, no randomness, the same answers as the SQLite store.
 *
 *   const store = new MemoryStore({ sync: (operation) => disk.write(operation) });
 *   const after = store.crash();    // the peer died; `after` holds what a restart finds
 */
import { errorShape, FlowmeshError } from '../../dag/errors.ts';
import { changeHead, commitChange, ownChange } from '../../node/store/feed-heads.ts';
import type { FeedHead, Reader, Store } from '../../scheduler/ports.ts';
import type { Row } from '../../scheduler/records.ts';
import { keptRow, MemoryReader } from './memory-reader.ts';

export type StoreOperation =
  | { type: 'commit'; rows: Row[] }
  | { type: 'own'; feed_id: string; owned: boolean }
  | { type: 'drop'; feed_id: string }
  | { type: 'sweep'; feed_id: string; seq: number };

export interface MemoryStoreOptions {
  /**
   * The disk: called once for each operation, in order, one at a time. Resolves when it is fsynced, rejects when it
   * failed. The operation is the store's own: to be read, not changed.
   */
  sync?: ((operation: StoreOperation) => Promise<void>) | undefined;
}

/** An operation with what it does to the rows and heads on the disk. */
interface InFlight {
  operation: StoreOperation;
  applyTo(disk: MemoryReader): void;
}

export class MemoryStore implements Store {
  readonly #options: MemoryStoreOptions;
  readonly #disk: MemoryReader;
  /** The heads as they will be when everything in flight is written. */
  readonly #queuedHeads: Map<string, Readonly<FeedHead>>;
  /** Operations without an answer, oldest first: what a crash may find on the disk or not. */
  #inFlight: InFlight[] = [];
  /** Settles when every operation so far has its answer. */
  #tail: Promise<void> = Promise.resolve();
  /** Why new operations are rejected. */
  #failure: FlowmeshError | null = null;
  /** The disk failed: queued operations are rejected too. */
  #diskFailed = false;
  #state: 'open' | 'closed' | 'crashed' = 'open';

  constructor(options: MemoryStoreOptions = {}, disk = new MemoryReader()) {
    this.#options = options;
    this.#disk = disk;
    this.#queuedHeads = new Map(disk.feeds);
  }

  get feeds(): ReadonlyMap<string, Readonly<FeedHead>> {
    return this.#disk.feeds;
  }

  get reader(): Reader {
    return this.#disk;
  }

  commit(rows: Row[]): Promise<void> {
    return this.#enqueue(() => {
      const kept = rows.map(keptRow);
      const operation: StoreOperation = { type: 'commit', rows: kept.map(({ row }) => row) };
      if (kept.length === 0) return { operation, applyTo: () => {} };
      const change = commitChange(this.#queuedHeads, operation.rows);
      changeHead(this.#queuedHeads, change);
      return { operation, applyTo: (disk) => disk.apply(change, kept) };
    });
  }

  own(feed_id: string, owned: boolean): Promise<void> {
    return this.#enqueue(() => this.#withoutRows(ownChange(feed_id, owned)));
  }

  drop(feed_id: string): Promise<void> {
    return this.#enqueue(() => this.#withoutRows({ type: 'drop', feed_id }));
  }

  sweep(feed_id: string, seq: number): Promise<void> {
    return this.#enqueue(() => this.#withoutRows({ type: 'sweep', feed_id, seq }));
  }

  async recover(): Promise<void> {
    if (this.#state === 'closed') throw failed('the store is closed');
    await this.#tail;
    if (this.#state === 'crashed') await new Promise(() => {});
    this.#queuedHeads.clear();
    for (const [feed_id, head] of this.#disk.feeds) this.#queuedHeads.set(feed_id, head);
    this.#failure = null;
    this.#diskFailed = false;
  }

  async close(): Promise<void> {
    if (this.#state === 'open') this.#state = 'closed';
    await this.#tail;
  }

  /** Whether an operation has no answer yet. */
  isInFlight(operation: StoreOperation): boolean {
    return this.#inFlight.some((each) => each.operation === operation);
  }

  /**
   * The process is gone: no call of this store is ever answered again. Returns the store a restart opens.
   *
   * @param landed how many of the operations without an answer, oldest first, are on the disk all the same
   */
  crash(landed = 0): MemoryStore {
    this.#state = 'crashed';
    const disk = this.#disk.copy();
    const onDisk = this.#diskFailed ? [] : this.#inFlight.slice(0, landed);
    for (const { applyTo } of onDisk) applyTo(disk);
    return new MemoryStore(this.#options, disk);
  }

  #withoutRows(operation: Exclude<StoreOperation, { type: 'commit' }>): InFlight {
    changeHead(this.#queuedHeads, operation);
    return { operation, applyTo: (disk) => disk.apply(operation) };
  }

  #enqueue(prepare: () => InFlight): Promise<void> {
    if (this.#state === 'crashed') return new Promise(() => {});
    if (this.#state === 'closed') return Promise.reject(failed('the store is closed'));
    if (this.#failure !== null) return Promise.reject(this.#failure);
    let inFlight: InFlight;
    try {
      inFlight = prepare();
    } catch (error) {
      this.#failure =
        error instanceof FlowmeshError
          ? error
          : failed(`a record cannot be written as JSON: ${errorShape(error).message}`);
      return Promise.reject(this.#failure);
    }
    this.#inFlight.push(inFlight);
    const done = this.#tail.then(() => this.#write(inFlight));
    this.#tail = done.catch(() => {
      // The caller of this operation gets the error; here only the order matters.
    });
    return done;
  }

  async #write({ operation, applyTo }: InFlight): Promise<void> {
    if (this.#diskFailed) {
      this.#inFlight.shift();
      throw this.#failure;
    }
    try {
      await this.#options.sync?.(operation);
    } catch (error) {
      if (this.#isCrashed()) await new Promise(() => {});
      this.#diskFailed = true;
      this.#failure = error instanceof FlowmeshError ? error : failed(errorShape(error).message);
      this.#inFlight.shift();
      throw this.#failure;
    }
    if (this.#isCrashed()) await new Promise(() => {});
    this.#inFlight.shift();
    applyTo(this.#disk);
  }

  #isCrashed(): boolean {
    return this.#state === 'crashed';
  }
}

function failed(problem: string): FlowmeshError {
  return new FlowmeshError('STORE_FAILED', `The store in memory cannot be used now: ${problem}.`, { retryable: true });
}
