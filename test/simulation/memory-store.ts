/**
 * The Store port in memory, for the simulation: no timers, no randomness, the same answers as the SQLite store.
 *
 *   const store = new MemoryStore({ feed_id: 'f0', sync: (rows) => disk.write(rows) });
 *   const after = store.crash();    // the peer died; `after` holds what a restart finds
 */
import { errorShape, FlowmeshError } from '../../dag/errors.ts';
import type { Reader, Store } from '../../scheduler/ports.ts';
import type { Row } from '../../scheduler/records.ts';
import { MemoryReader } from './memory-reader.ts';

export interface MemoryStoreOptions {
  feed_id: string;
  /** The disk: called once for each commit, in order, one at a time. Resolves when it is fsynced, rejects when it failed. */
  sync?: ((rows: Row[]) => Promise<void>) | undefined;
}

export class MemoryStore implements Store {
  readonly #options: MemoryStoreOptions;
  readonly #rows: MemoryReader;
  #epoch = 1;
  #seq = 0;
  /** Commits without an answer, oldest first: what a crash may find on the disk or not. */
  #inFlight: Row[][] = [];
  /** Settles when every commit so far has its answer. */
  #tail: Promise<void> = Promise.resolve();
  /** Why new commits are rejected. */
  #failure: FlowmeshError | null = null;
  /** The disk failed: queued commits are rejected too. */
  #diskFailed = false;
  #state: 'open' | 'closed' | 'crashed' = 'open';

  constructor(options: MemoryStoreOptions, rows = new MemoryReader()) {
    this.#options = options;
    this.#rows = rows;
    for (const row of rows.all()) this.#advance(row);
  }

  get feed(): { feed_id: string; epoch: number; seq: number } {
    return { feed_id: this.#options.feed_id, epoch: this.#epoch, seq: this.#seq };
  }

  get reader(): Reader {
    return this.#rows;
  }

  commit(rows: Row[]): Promise<void> {
    if (this.#state === 'crashed') return new Promise(() => {});
    if (this.#state === 'closed') return Promise.reject(failed('the store is closed'));
    if (this.#failure !== null) return Promise.reject(this.#failure);
    let kept: Row[];
    try {
      kept = JSON.parse(JSON.stringify(rows));
    } catch (error) {
      this.#failure = failed(`a record cannot be written as JSON: ${error}`);
      return Promise.reject(this.#failure);
    }
    this.#inFlight.push(kept);
    const done = this.#tail.then(() => this.#write(kept));
    this.#tail = done.catch(() => {
      // The caller of this commit gets the error; here only the order matters.
    });
    return done;
  }

  async recover(): Promise<void> {
    if (this.#state === 'closed') throw failed('the store is closed');
    await this.#tail;
    if (this.#state === 'crashed') await new Promise(() => {});
    this.#failure = null;
    this.#diskFailed = false;
  }

  async close(): Promise<void> {
    if (this.#state === 'open') this.#state = 'closed';
    await this.#tail;
  }

  /**
   * The process is gone: no call of this store is ever answered again. Returns the store a restart opens.
   *
   * @param landed how many of the commits without an answer, oldest first, are on the disk all the same
   */
  crash(landed = 0): MemoryStore {
    this.#state = 'crashed';
    const rows = new MemoryReader();
    for (const row of this.#rows.all()) rows.put(row);
    const onDisk = this.#diskFailed ? [] : this.#inFlight.slice(0, landed);
    for (const commit of onDisk) for (const row of commit) rows.put(row);
    return new MemoryStore(this.#options, rows);
  }

  async #write(rows: Row[]): Promise<void> {
    if (this.#diskFailed) {
      this.#inFlight.shift();
      throw this.#failure;
    }
    try {
      await this.#options.sync?.(structuredClone(rows));
    } catch (error) {
      if (this.#isCrashed()) await new Promise(() => {});
      this.#diskFailed = true;
      this.#failure = error instanceof FlowmeshError ? error : failed(errorShape(error).message);
      this.#inFlight.shift();
      throw this.#failure;
    }
    if (this.#isCrashed()) await new Promise(() => {});
    this.#inFlight.shift();
    for (const row of rows) {
      this.#rows.put(row);
      this.#advance(row);
    }
  }

  #isCrashed(): boolean {
    return this.#state === 'crashed';
  }

  #advance(row: Row): void {
    if (row.feed_id !== this.#options.feed_id) return;
    this.#epoch = Math.max(this.#epoch, row.epoch);
    this.#seq = Math.max(this.#seq, row.seq);
  }
}

function failed(problem: string): FlowmeshError {
  return new FlowmeshError('STORE_FAILED', `The store in memory cannot be used now: ${problem}.`, { retryable: true });
}
