/**
 * The disk of a simulated peer, over the restarts of its process: how long it takes, when it fails, and what is on it.
 *
 *   const store = await disk.open(clock);
 *   disk.crash(true);    // the process is gone; the next one opens what is left
 */
import { FlowmeshError } from '../../dag/errors.ts';
import { changeHead, commitChange, type FeedHeads } from '../../node/store/feed-heads.ts';
import type { FeedHead, Store } from '../../scheduler/ports.ts';
import type { Row } from '../../scheduler/records.ts';
import { keptRow, MemoryReader } from './memory-reader.ts';
import { MemoryStore, type StoreOperation } from './memory-store.ts';
import type { SimulatedClock, World } from './world.ts';

const USUAL_DELAY_MS: [number, number] = [0.1, 4];

/** How one write fails: for want of room, or in its fsync, after which its rows are gone or on the disk all the same. */
export type SyncFailure = 'full' | 'lost' | 'landed';

/** What is on a disk at one moment. */
export interface DiskImage {
  /** By uid. */
  readonly rows: ReadonlyMap<string, Row>;
  readonly heads: ReadonlyMap<string, FeedHead>;
}

interface DiskHooks {
  /** An operation is on the disk. */
  onSynced(operation: StoreOperation): void;
  /** Nothing more is written until the process is started anew. */
  onStuck(): void;
}

interface Write {
  operation: StoreOperation;
  state: 'under way' | 'failed' | 'on disk';
}

export class SimulatedDisk {
  readonly #world: World;
  readonly #hooks: DiskHooks;
  #store: MemoryStore;
  #clock: SimulatedClock | null = null;
  #rows = new Map<string, Row>();
  #heads: FeedHeads = new Map();
  /** The process has not heard of its end yet. */
  #current: Write | null = null;
  #nextFailure: SyncFailure | null = null;
  /** On the disk, and reported as failed: nothing more is written until the process starts anew. */
  #unreported: StoreOperation | null = null;
  #isFull = false;
  /** How long a write takes. */
  delayMs = USUAL_DELAY_MS;

  constructor(world: World, hooks: DiskHooks) {
    this.#world = world;
    this.#hooks = hooks;
    this.#store = this.#storeOf(new MemoryReader());
  }

  /** What is on it now, by uid. */
  get rows(): DiskImage['rows'] {
    return this.#rows;
  }

  /** A backup of it. */
  image(): DiskImage {
    return { rows: new Map(this.#rows), heads: new Map(this.#heads) };
  }

  get store(): MemoryStore {
    return this.#store;
  }

  /** A store that a test has made takes the place of its own. */
  adopt(store: MemoryStore): void {
    this.#store = store;
  }

  /** What the process on this disk reads and writes. */
  async open(clock: SimulatedClock): Promise<MemoryStore> {
    const unreported = this.#unreported;
    this.#unreported = null;
    if (unreported !== null) await apply(this.#store, unreported);
    this.#clock = clock;
    return this.#store;
  }

  /** The process is gone. @param mayLand whether what was on its way is on the disk */
  crash(mayLand: boolean): MemoryStore {
    const current = this.#current;
    this.#current = null;
    this.#clock = null;
    const lands = mayLand && current?.state === 'under way';
    if (lands) this.#put(current.operation);
    // The store may have come to the answer at this very moment, or be just about to.
    const isUnanswered = current?.state === 'on disk' && this.#store.isInFlight(current.operation);
    this.#store = this.#store.crash(lands || isUnanswered ? 1 : 0);
    return this.#store;
  }

  /** The same disk as it was before. No process may be running on it. */
  restore(image: DiskImage): void {
    const reader = new MemoryReader();
    for (const rows of Map.groupBy(image.rows.values(), ({ feed_id }) => feed_id).values()) {
      reader.apply(commitChange(new Map(), rows), rows.map(keptRow));
    }
    reader.feeds.clear();
    for (const [feedId, head] of image.heads) reader.feeds.set(feedId, head);
    this.#rows = new Map(image.rows);
    this.#heads = new Map(image.heads);
    this.#unreported = null;
    this.#store = this.#storeOf(reader);
  }

  /** Nothing is wrong with it, and nothing is about to be. */
  get isSound(): boolean {
    return !this.#isFull && this.#nextFailure === null && this.#unreported === null;
  }

  failNext(how: SyncFailure): void {
    this.#nextFailure = how;
  }

  fillUp(): void {
    this.#isFull = true;
  }

  /** There is room, nothing fails, and a write takes as long as usual. */
  heal(): void {
    this.#isFull = false;
    this.#nextFailure = null;
    this.delayMs = USUAL_DELAY_MS;
  }

  #storeOf(reader: MemoryReader): MemoryStore {
    return new MemoryStore({ sync: (operation) => this.#sync(operation) }, reader);
  }

  async #sync(operation: StoreOperation): Promise<void> {
    const clock = this.#clock;
    if (clock === null) return; // what is on the disk already, for the next process
    const write: Write = { operation, state: 'under way' };
    this.#current = write;
    await new Promise<void>((resolve) => this.#world.at(this.#world.random.between(...this.delayMs), resolve));
    if (this.#current !== write) return; // the process is gone
    const failure = this.#failureOf(operation);
    write.state = failure === null ? 'on disk' : 'failed';
    if (failure === null) this.#put(operation);
    await new Promise<void>((resolve) => clock.whenAwake(resolve));
    if (failure !== null) throw failure;
  }

  #failureOf(operation: StoreOperation): FlowmeshError | null {
    const how = this.#isFull ? 'full' : this.#nextFailure;
    this.#nextFailure = null;
    if (this.#unreported !== null) return failed('STORE_FAILED', 'it holds what was reported as failed; restart');
    if (how === null) return null;
    if (how === 'full') return failed('DISK_FULL', 'it is full');
    if (how === 'landed') {
      this.#unreported = operation;
      this.#put(operation);
      this.#hooks.onStuck();
    }
    return failed('STORE_FAILED', 'its fsync failed');
  }

  #put(operation: StoreOperation): void {
    if (operation.type === 'commit') {
      if (operation.rows.length > 0) changeHead(this.#heads, commitChange(this.#heads, operation.rows));
      for (const row of operation.rows) this.#rows.set(row.uid, row);
    } else {
      changeHead(this.#heads, operation);
      for (const row of this.#rows.values()) if (forgets(operation, row)) this.#rows.delete(row.uid);
    }
    this.#hooks.onSynced(operation);
  }
}

function forgets(operation: StoreOperation, { feed_id, seq, record }: Row): boolean {
  if (operation.type === 'drop') return feed_id === operation.feed_id;
  return (
    operation.type === 'sweep' && feed_id === operation.feed_id && seq <= operation.seq && record.kind === 'tombstone'
  );
}

async function apply(store: Store, operation: StoreOperation): Promise<void> {
  if (operation.type === 'commit') await store.commit(operation.rows);
  else if (operation.type === 'own') await store.own(operation.feed_id, operation.owned);
  else if (operation.type === 'drop') await store.drop(operation.feed_id);
  else await store.sweep(operation.feed_id, operation.seq);
}

function failed(code: string, problem: string): FlowmeshError {
  return new FlowmeshError(code, `the simulated disk cannot be written: ${problem}`, { retryable: true });
}
