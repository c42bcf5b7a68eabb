/**
 * The Store port on SQLite.
 *
 *     const store = await openSqliteStore({ path: '/data/peer-1/feed.sqlite', inline: false, log });
 *     await store.commit(rows);                       // fsynced
 *     await store.reader.get('workflow', uid);        // a read-only connection of this loop
 *     await store.close();
 *
 * What the port promises (scheduler/ports.ts) is kept by writer.ts; this file keeps the order of answers, the bound
 * on what waits (P7), and the state "failed until recovered".
 */
import type { SQLInputValue } from 'node:sqlite';
import { FlowmeshError, RemoteError } from '../../dag/errors.ts';
import type { Log, Reader, Store } from '../../scheduler/ports.ts';
import type { Row } from '../../scheduler/records.ts';
import { StoreFailedError } from './errors.ts';
import { QUEUED_BYTES_MAX, ROW_OVERHEAD_BYTES } from './limits.ts';
import { openSqliteReader } from './reader.ts';
import { appendValues } from './row-values.ts';
import type { Feed } from './writer.ts';
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

interface Waiting {
  bytes: number;
  resolve(): void;
  reject(error: FlowmeshError): void;
}

/**
 * Opens the store of a peer, and checks the whole file first (about 0.1 s per 200 MB that are in the page cache).
 *
 * @throws DataFolderCorruptError, DataFolderNewerError, DataFolderUnreadableError, DiskFullError or
 *   StoreFailedError; from the store thread as a FlowmeshError with the same code
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
  #feed: Feed = { feed_id: '', epoch: 0, seq: 0 };
  /** Commits without an answer, oldest first. */
  readonly #waiting: Waiting[] = [];
  #waitingBytes = 0;
  #failure: FlowmeshError | null = null;
  #recovery: { promise: Promise<void>; done: PromiseWithResolvers<void> } | null = null;
  #closing: PromiseWithResolvers<void> | null = null;

  constructor(options: SqliteStoreOptions) {
    this.path = options.path;
    this.#options = options;
  }

  /** A copy: it does not move under the reader's feet. */
  get feed(): Feed {
    return { ...this.#feed };
  }

  get reader(): Reader {
    if (this.#reader === null) throw new StoreFailedError(this.path, 'it is closed.');
    return this.#reader;
  }

  async open(): Promise<void> {
    this.#link = await this.#openWriter();
    this.#feed = this.#link.feed;
    // Opened after the writer and kept open beside it: while any connection is open, a reopened writer takes the end
    // of the log from shared memory instead of guessing it from what lies in the file.
    this.#reader = openSqliteReader(this.path);
  }

  commit(rows: Row[]): Promise<void> {
    if (this.#failure !== null) return Promise.reject(this.#failure);
    if (this.#link === null || this.#closing !== null) {
      return Promise.reject(new StoreFailedError(this.path, 'it is closed.'));
    }
    try {
      const values: SQLInputValue[] = [];
      let bytes = 0;
      for (const row of rows) bytes += ROW_OVERHEAD_BYTES + appendValues(values, row);
      this.#checkRoom(bytes);
      this.#link.send({ type: 'commit', rows: values, bytes });
      this.#waitingBytes += bytes;
      return new Promise((resolve, reject) => this.#waiting.push({ bytes, resolve, reject }));
    } catch (error) {
      // The rows of later commits may build on these, so the order ends here, as with a failed write.
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
      if (link.feed.feed_id !== this.#feed.feed_id || link.feed.seq < this.#feed.seq) {
        link.send({ type: 'close' });
        throw new StoreFailedError(this.path, 'acknowledged commits are missing; restart the peer.', {
          retryable: false,
        });
      }
      this.#link = link;
    }
    this.#link.send({ type: 'recover' });
    await done.promise;
    this.#failure = null;
    this.#options.log.info({ path: this.path, seq: this.#feed.seq }, 'store reopened and verified');
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
      case 'committed':
        this.#feed = reply.feed;
        for (const commit of this.#take(reply.count)) commit.resolve();
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
    for (const commit of this.#take(count)) commit.reject(error);
  }

  #take(count: number): Waiting[] {
    const taken = this.#waiting.splice(0, count);
    for (const { bytes } of taken) this.#waitingBytes -= bytes;
    return taken;
  }

  #checkRoom(bytes: number): void {
    if (this.#waitingBytes + bytes <= QUEUED_BYTES_MAX) return;
    const problem = `${this.#waitingBytes} bytes wait for the disk already, with this commit it would be more than ${QUEUED_BYTES_MAX}.`;
    throw new StoreFailedError(this.path, problem);
  }
}
