/**
 * The turns of one feed and their commits.
 *
 * 1. A turn is a synchronous change of the scheduler's memory. It says which rows it changed and which effects follow.
 * 2. All turns of one event-loop turn are one commit: one `seq`, one fsync, then one frame to each follower.
 * 3. Effects are released in the order of their turns, when their rows are on as many disks as their records want, and
 *    after those of all earlier turns (P1). A turn without rows waits for the commits before it, because its answer may
 *    show their rows. Waiting for copies is bounded: after COPY_WAIT_MS the effects are told how many there are.
 * 4. One commit is on its way to the disk at a time; turns that come meanwhile make up the next one.
 * 5. When a commit fails, or has a row that no message carries, memory is ahead of the disk: every turn not released
 *    yet is rejected, and the owner of this journal throws its memory away and reads the store again.
 */
import type { Probe } from '../crash-points.ts';
import { COPY_WAIT_MS } from '../limits.ts';
import type { Clock, Log, Store } from '../ports.ts';
import type { FlowRecord, Row } from '../records.ts';
import { rowText } from '../sizes.ts';

export interface Turn {
  /**
   * Writes the new state of a record; the last state in a commit wins. A record is never changed after it was put.
   * @param text the JSON of the record, if it is known already
   */
  put(record: FlowRecord, text?: string): void;
  /** Once the turn is durable (P1), calls `effect` with the number of disks that have it. */
  after(effect: (copies: number) => void): void;
}

/** Writes to one feed from outside a turn. */
export interface FeedWriter {
  /** Runs `work` now. Nothing waits for its commit: a failure is logged, and the rows tell what is to be done again. */
  turn(work: (turn: Turn) => void): void;
  /** Waiting tasks are given out before the next commit is written. */
  dispatchSoon(): void;
}

/** Brings commits to other disks. */
export interface Copier {
  /** A commit is on this peer's own disk, and is to be sent on. */
  ship(commit: { seq: number; rows: Row[] }): void;
  /** Followers that pull get everything up to the commit just shipped. */
  landed(): void;
  /** How many disks, this one included, have a commit that is on this one. */
  copiesOf(seq: number): number;
  /** False when waiting cannot bring a commit to more disks. */
  mayGrow(seq: number): boolean;
}

const NO_COPIES: Copier = { ship: () => {}, landed: () => {}, copiesOf: () => 1, mayGrow: () => false };

interface Batch {
  records: Map<string, { record: FlowRecord; text: string | undefined }>;
  effects: ((copies: number) => void)[];
  /** Callers that wait for the own disk alone. */
  written: (() => void)[];
  rejects: ((error: unknown) => void)[];
  /** How many disks its records want to be on. */
  wanted: number;
  /** Of its commit; without rows, of the commit that it waits for. */
  seq: number;
  /** Monotonic: when it is released with as many copies as there are. */
  deadline: number;
}

export interface JournalHooks {
  /** Runs once per event-loop turn that had turns, still part of the same commit: dispatching. */
  beforeFlush?: () => void;
  /** More rows may be shown than before (P1). */
  onReleased?: () => void;
  /** A commit failed; no further turn is accepted until `resume`. */
  onFailure: (error: unknown) => void;
}

export class Journal implements Turn {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #probe: Probe;
  readonly #hooks: JournalHooks;
  readonly #feed: { feed_id: string; epoch: number };
  #copier: Copier = NO_COPIES;
  #seq: number;
  #next: Batch = emptyBatch();
  #committing: Batch | null = null;
  /** Batches on the own disk, oldest first; the first one waits for its copies. */
  readonly #held: Batch[] = [];
  #cancelDeadline: (() => void) | null = null;
  #deferred = false;
  /** How many reasons there are to write nothing now. */
  #frozen = 0;
  #refusal: unknown = null;
  /** The last commit that may have a tombstone: any from before this journal may. */
  #lastTombstone: number;
  /** Rows and effects of the batches that are held or committing. */
  #waiting = 0;
  #shown: number;
  #readers: { seq: number; resolve(): void; reject(error: unknown): void }[] = [];
  readonly #watches = new Set<Set<string>>();

  /** @param feed which feed is written, in which epoch, and how far it has come */
  constructor(
    components: { store: Store; clock: Clock; log: Log; probe: Probe },
    feed: { feed_id: string; epoch: number; seq: number },
    hooks: JournalHooks,
  ) {
    this.#store = components.store;
    this.#clock = components.clock;
    this.#log = components.log;
    this.#probe = components.probe;
    this.#hooks = hooks;
    this.#feed = { feed_id: feed.feed_id, epoch: feed.epoch };
    this.#seq = feed.seq;
    this.#lastTombstone = feed.seq;
    this.#shown = feed.seq;
  }

  /** `copier` brings every commit from now on to other disks, and calls `copied` when one got there. */
  copyBy(copier: Copier): void {
    this.#copier = copier;
  }

  /** The last commit that was begun. */
  get head(): number {
    return this.#seq;
  }

  /** P1: the last commit whose rows may be shown. */
  get released(): number {
    return this.#shown;
  }

  /** Resolves when the rows of a commit may be shown (P1). @throws why this peer will never show them */
  whenReleased(seq: number): Promise<void> {
    if (seq <= this.#shown) return Promise.resolve();
    if (this.#refusal !== null) return Promise.reject(this.#refusal);
    return new Promise((resolve, reject) => this.#readers.push({ seq, resolve, reject }));
  }

  /** No commit after this one has a tombstone. */
  get tombstones(): number {
    return this.#lastTombstone;
  }

  /** Rows and effects that wait for the disk or for copies (P7). */
  get backlog(): number {
    return this.#waiting + sizeOf(this.#next);
  }

  /**
   * Runs `work` now and resolves with its value when everything it did is durable. What `work` throws goes to the
   * caller, and nothing is undone: `work` must check before it changes anything.
   */
  turn<T>(work: (turn: Turn) => T): Promise<T> {
    return this.durably(work).then(({ value }) => value);
  }

  /** As `turn`, with the number of disks that have it. */
  durably<T>(work: (turn: Turn) => T): Promise<{ value: T; copies: number }> {
    if (this.#refusal !== null) return Promise.reject(this.#refusal);
    let value: T;
    try {
      value = work(this);
    } catch (error) {
      return Promise.reject(error);
    }
    const batch = this.#next;
    this.schedule();
    return new Promise((resolve, reject) => {
      batch.effects.push((copies) => resolve({ value, copies }));
      batch.rejects.push(reject);
    });
  }

  put(record: FlowRecord, text?: string): void {
    this.#next.records.set(record.uid, { record, text });
    for (const changed of this.#watches) changed.add(record.uid);
    if ('copies' in record) this.#next.wanted = Math.max(this.#next.wanted, record.copies);
    this.schedule();
  }

  after(effect: (copies: number) => void): void {
    this.#next.effects.push(effect);
    this.schedule();
  }

  /**
   * Runs `work`, which reads rows from the store, with the uids of rows that it may see in an old state: they are on
   * their way to the disk, or were put since `work` began.
   */
  async watching<T>(work: (changed: ReadonlySet<string>) => Promise<T>): Promise<T> {
    const changed = new Set([...this.#next.records.keys(), ...(this.#committing?.records.keys() ?? [])]);
    this.#watches.add(changed);
    try {
      return await work(changed);
    } finally {
      this.#watches.delete(changed);
    }
  }

  /**
   * Resolves when every row put until now is on the own disk, without waiting for copies.
   * @throws why they never will be
   */
  whenWritten(): Promise<void> {
    if (this.#refusal !== null) return Promise.reject(this.#refusal);
    const batch = this.#next.records.size > 0 ? this.#next : this.#committing;
    if (batch === null) return Promise.resolve();
    return new Promise((resolve, reject) => {
      batch.written.push(resolve);
      batch.rejects.push(reject);
    });
  }

  /** Asks for `beforeFlush` at the end of this event-loop turn, also when nothing was written. */
  schedule(): void {
    if (this.#deferred || this.#refusal !== null) return;
    this.#deferred = true;
    this.#clock.defer(() => {
      this.#deferred = false;
      if (this.#refusal !== null || this.isFrozen) return;
      this.#hooks.beforeFlush?.();
      this.#flush();
    });
  }

  /** Why no turn is accepted now; null when turns are accepted. */
  get refused(): unknown {
    return this.#refusal;
  }

  /** P11: while frozen nothing is written; turns wait. */
  freeze(): void {
    this.#frozen++;
  }

  get isFrozen(): boolean {
    return this.#frozen > 0;
  }

  thaw(): void {
    if (--this.#frozen === 0) this.schedule();
  }

  /** Rejects every waiting turn and every later one with `error`, for good; a second call changes nothing of that. */
  refuse(error: unknown): void {
    this.#refusal ??= error;
    const waiting = [...this.#held, this.#committing, this.#next];
    this.#held.length = 0;
    this.#waiting = 0;
    this.#committing = null;
    this.#next = emptyBatch();
    this.#cancelDeadline?.();
    this.#cancelDeadline = null;
    for (const batch of waiting) for (const reject of batch?.rejects ?? []) reject(this.#refusal);
    for (const { reject } of this.#readers) reject(this.#refusal);
    this.#readers = [];
  }

  #flush(): void {
    if (this.#committing !== null || this.isFrozen) return;
    const batch = this.#next;
    if (batch.records.size === 0 && batch.effects.length === 0) return;
    this.#next = emptyBatch();
    this.#waiting += sizeOf(batch);
    if (batch.records.size === 0) {
      batch.seq = this.#seq;
      this.#hold(batch);
      return;
    }
    this.#probe('commit:before');
    this.#committing = batch;
    batch.seq = ++this.#seq;
    let rows: Row[];
    try {
      rows = this.#rowsOf(batch);
    } catch (error) {
      // Nothing of the batch may be written: it, and everything after it, would be on this disk alone for ever.
      this.#fail(error);
      return;
    }
    this.#store.commit(rows).then(
      () => {
        if (this.#committing !== batch) return; // refused meanwhile
        this.#probe('commit:after');
        this.#committing = null;
        for (const resolve of batch.written) resolve();
        // Not before: a commit that this disk refused, which its client was told, must not come back from another disk.
        this.#copier.ship({ seq: batch.seq, rows });
        this.#copier.landed();
        this.#hold(batch);
        this.schedule(); // not at once: this peer may have slept meanwhile (P11)
      },
      (error: unknown) => {
        if (this.#committing === batch) this.#fail(error);
      },
    );
  }

  #fail(error: unknown): void {
    this.refuse(error);
    this.#hooks.onFailure(error);
  }

  /** @throws FlowmeshError ROW_TOO_LARGE, or why a record is not JSON */
  #rowsOf({ records, seq }: Batch): Row[] {
    const rows: Row[] = [];
    const { feed_id, epoch } = this.#feed;
    for (const { record, text } of records.values()) {
      // The text is made once, for all disks that the row goes to.
      rows.push({ uid: record.uid, feed_id, epoch, seq, record, text: rowText(record, text) });
      if (record.kind === 'tombstone') this.#lastTombstone = seq;
    }
    return rows;
  }

  #hold(batch: Batch): void {
    batch.deadline = this.#clock.now() + COPY_WAIT_MS;
    this.#held.push(batch);
    this.copied();
  }

  /** A copy was made, or cannot be made any more: releases the batches that waited for it. */
  copied(): void {
    for (let batch = this.#held[0]; batch !== undefined; batch = this.#held[0]) {
      const copies = this.#copier.copiesOf(batch.seq);
      const enough = batch.records.size === 0 || copies >= batch.wanted || !this.#copier.mayGrow(batch.seq);
      const wait = batch.deadline - this.#clock.now();
      if (!enough && wait > 0) {
        this.#cancelDeadline ??= this.#clock.after(wait, () => {
          this.#cancelDeadline = null;
          this.copied();
        });
        return;
      }
      this.#held.shift();
      this.#waiting -= sizeOf(batch);
      this.#release(batch, copies);
    }
    this.#cancelDeadline?.();
    this.#cancelDeadline = null;
  }

  #release(batch: Batch, copies: number): void {
    this.#probe('release:before');
    this.#show(batch.seq);
    for (const effect of batch.effects) {
      try {
        effect(copies);
      } catch (error) {
        // The rows are durable, and the other effects belong to other turns: they happen all the same.
        this.#log.error({ err: error }, 'an effect of a commit failed');
      }
    }
    this.#probe('release:after');
  }

  #show(seq: number): void {
    this.#shown = seq;
    if (this.#readers.length > 0) {
      for (const reader of this.#readers) if (reader.seq <= seq) reader.resolve();
      this.#readers = this.#readers.filter((reader) => reader.seq > seq);
    }
    this.#hooks.onReleased?.();
  }
}

function sizeOf({ records, effects }: Batch): number {
  return records.size + effects.length;
}

function emptyBatch(): Batch {
  return { records: new Map(), effects: [], written: [], rejects: [], wanted: 1, seq: 0, deadline: 0 };
}
