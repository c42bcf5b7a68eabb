/**
 * The Store port on SQLite.
 *
 *     const store = await openSqliteStore({ path: '/data/peer-1/flowmesh.db', inline: false, log });
 *     await store.commit(rows);                       // fsynced, as `own`, `drop` and `sweep` are
 *     await store.reader.get('workflow', uid);        // a read-only connection of this loop
 *     await store.close();
 *
 * What the port promises (scheduler/ports.ts) is kept by writer.ts; this file keeps the order of answers, the bound
 * on what waits (P7), and the state "failed until recovered".
 */
import type { SQLInputValue } from 'node:sqlite';
import { FlowmeshError, RemoteError } from '../../dag/errors.ts';
import type { FeedHead, Log, Reader, Store } from '../../scheduler/ports.ts';
import type { Row } from '../../scheduler/records.ts';
import { StoreFailedError } from './errors.ts';
import { changeHead, commitChange, type FeedHeads, type HeadChange, ownChange } from './feed-heads.ts';
import { QUEUED_BYTES_MAX, ROW_OVERHEAD_BYTES } from './limits.ts';
import { openSqliteReader } from './reader.ts';
import { appendValues } from './row-values.ts';
import { checkHeads, type WriterOperation } from './writer.ts';
import { openInline, openThread, type WriterEvents, type WriterLink } from './writer-link.ts';
import type { WriterReply } from './writer-loop.ts';

export interface SqliteStoreOptions {
  /** The data file; it and its folder are made when they do not exist. */
  path: string;
  /** True: the writer runs on the calling loop, which waits for the disk. False: on a thread of its own. */
  inline: boolean;
  log: Log;
  /** Size that the data file may reach; a commit over it fails with DISK_FULL. Default: no limit but the disk. */
  max_bytes?: number | undefined;
}

interface Prepared extends WriterOperation {
  /** Counted against QUEUED_BYTES_MAX. */
  bytes: number;
}

interface Waiting extends PromiseWithResolvers<void> {
  change: HeadChange;
  bytes: number;
}

/**
 * Opens the store of a peer, and checks the whole file first (about 0.1 s per 200 MB that are in the page cache).
 *
 * @throws DataFolderCorruptError, DataFolderOlderError, DataFolderNewerError, DataFolderUnreadableError,
 *   DiskFullError or StoreFailedError; from the store thread as a FlowmeshError with the same code
 */
export async function openSqliteStore(options: SqliteStoreOptions): Promise<Store & { readonly path: string }> {
  const store = new SqliteStore(options);
  await store.open();
  return store;
}

class SqliteStore implements Store {
  readonly path: string;
  readonly #options: SqliteStoreOptions;
  #link: WriterLink | null = null;
  #reader: (Reader & { close(): void }) | null = null;
  #heads: FeedHeads = new Map();
  /** The heads as they will be when everything that waits is written. */
  #queuedHeads: FeedHeads = new Map();
  /** Operations without an answer, oldest first. */
  readonly #waiting: Waiting[] = [];
  #waitingBytes = 0;
  #failure: FlowmeshError | null = null;
  #recovery: { promise: Promise<void>; done: PromiseWithResolvers<void> } | null = null;
  #closing: PromiseWithResolvers<void> | null = null;

  constructor(options: SqliteStoreOptions) {
    this.path = options.path;
    this.#options = options;
  }

  get feeds(): ReadonlyMap<string, Readonly<FeedHead>> {
    return this.#heads;
  }

  get reader(): Reader {
    if (this.#reader === null) throw new StoreFailedError(this.path, 'it is closed.');
    return this.#reader;
  }

  async open(): Promise<void> {
    this.#link = await this.#openWriter();
    this.#heads = this.#link.heads;
    this.#queuedHeads = new Map(this.#heads);
    // Opened after the writer and kept open beside it: while any connection is open, a reopened writer takes the end
    // of the log from shared memory instead of guessing it from what lies in the file.
    this.#reader = openSqliteReader(this.path);
  }

  commit(rows: Row[]): Promise<void> {
    return this.#enqueue(() => {
      if (rows.length === 0) return null;
      const change = commitChange(this.#queuedHeads, rows);
      const values: SQLInputValue[] = [];
      let bytes = 0;
      for (const row of rows) bytes += ROW_OVERHEAD_BYTES + appendValues(values, row);
      return { change, rows: values, bytes };
    });
  }

  own(feed_id: string, owned: boolean): Promise<void> {
    return this.#enqueue(() => withoutRows(ownChange(feed_id, owned)));
  }

  drop(feed_id: string): Promise<void> {
    return this.#enqueue(() => withoutRows({ type: 'drop', feed_id }));
  }

  sweep(feed_id: string, seq: number): Promise<void> {
    return this.#enqueue(() => withoutRows({ type: 'sweep', feed_id, seq }));
  }

  recover(): Promise<void> {
    if (this.#closing !== null) return Promise.reject(new StoreFailedError(this.path, 'it is closed.'));
    if (this.#recovery === null) {
      const done = Promise.withResolvers<void>();
      const promise = this.#recover(done).finally(() => {
        this.#recovery = null;
      });
      this.#recovery = { promise, done };
    }
    return this.#recovery.promise;
  }

  close(): Promise<void> {
    if (this.#closing === null) {
      this.#closing = Promise.withResolvers<void>();
      if (this.#link === null) this.#closing.resolve();
      else this.#link.send({ type: 'close' });
      this.#reader?.close();
    }
    return this.#closing.promise;
  }

  async #recover(done: PromiseWithResolvers<void>): Promise<void> {
    this.#failure ??= new StoreFailedError(this.path, 'it is being reopened.');
    if (this.#link === null) {
      const link = await this.#openWriter();
      try {
        checkHeads(this.path, link.heads, { acknowledged: this.#heads, attempted: this.#queuedHeads });
      } catch (error) {
        link.send({ type: 'close' });
        throw error;
      }
      this.#link = link;
    }
    this.#link.send({ type: 'recover' });
    await done.promise;
    this.#queuedHeads = new Map(this.#heads);
    this.#failure = null;
    this.#options.log.info({ path: this.path, feeds: this.#heads.size }, 'store reopened and verified');
  }

  /** Sends what `prepare` returns to the writer; null stands for an operation without an effect of its own. */
  #enqueue(prepare: () => Prepared | null): Promise<void> {
    if (this.#failure !== null) return Promise.reject(this.#failure);
    if (this.#link === null || this.#closing !== null) {
      return Promise.reject(new StoreFailedError(this.path, 'it is closed.'));
    }
    try {
      const prepared = prepare();
      if (prepared === null) return this.#waiting.at(-1)?.promise ?? Promise.resolve();
      const { change, rows, bytes } = prepared;
      this.#checkRoom(bytes);
      this.#link.send({ type: 'write', operation: { change, rows }, bytes });
      changeHead(this.#queuedHeads, change);
      const waiting = { change, bytes, ...Promise.withResolvers<void>() };
      this.#waiting.push(waiting);
      this.#waitingBytes += bytes;
      return waiting.promise;
    } catch (error) {
      // Later operations may build on this one, so the order ends here, as with a failed write.
      this.#failure =
        error instanceof FlowmeshError
          ? error
          : new StoreFailedError(this.path, `a record cannot be written as JSON: ${error}`, {
              retryable: false,
              cause: error,
            });
      return Promise.reject(this.#failure);
    }
  }

  #openWriter(): Promise<WriterLink> {
    const events: WriterEvents = {
      onReply: (reply) => this.#onReply(reply),
      onLost: (error) => this.#onLost(error),
    };
    const open = this.#options.inline ? openInline : openThread;
    return open(this.path, { max_bytes: this.#options.max_bytes }, events);
  }

  #onReply(reply: WriterReply): void {
    switch (reply.type) {
      case 'written':
        for (const { change, resolve } of this.#take(reply.count)) {
          changeHead(this.#heads, change);
          resolve();
        }
        return;
      case 'rejected':
        this.#reject(reply.count, new RemoteError(reply.error));
        return;
      case 'recovered':
        this.#recovery?.done.resolve();
        return;
      case 'not_recovered':
        this.#recovery?.done.reject(new RemoteError(reply.error));
        return;
      case 'checkpoint_failed':
        this.#options.log.error(
          { path: this.path, error: reply.error },
          'the log could not be copied into the data file',
        );
        return;
      case 'closed':
        this.#link = null;
        if (reply.error === null) this.#closing?.resolve();
        else this.#closing?.reject(new RemoteError(reply.error));
    }
  }

  #onLost(error: FlowmeshError): void {
    this.#link = null;
    this.#options.log.error({ path: this.path, error: error.toShape() }, 'the store thread is gone');
    this.#reject(this.#waiting.length, error);
    this.#recovery?.done.reject(error);
    this.#closing?.reject(error);
  }

  #reject(count: number, error: FlowmeshError): void {
    this.#failure ??= error;
    for (const waiting of this.#take(count)) waiting.reject(error);
  }

  #take(count: number): Waiting[] {
    const taken = this.#waiting.splice(0, count);
    for (const { bytes } of taken) this.#waitingBytes -= bytes;
    return taken;
  }

  #checkRoom(bytes: number): void {
    if (this.#waitingBytes + bytes <= QUEUED_BYTES_MAX) return;
    const problem = `${this.#waitingBytes} bytes wait for the disk already, with this it would be more than ${QUEUED_BYTES_MAX}.`;
    throw new StoreFailedError(this.path, problem);
  }
}

function withoutRows(change: HeadChange): Prepared {
  return { change, rows: [], bytes: ROW_OVERHEAD_BYTES };
}
