/**
 * The one connection that writes the data file (P2). Synchronous: it runs on the store thread, or on the mesh loop
 * when the store is inline.
 *
 *   W1  `write` returns after the rows are fsynced, or throws and keeps none of them.
 *   W2  After a throw nothing is written until `reopen` has closed, reopened and checked the file: after a failed
 *       fsync the operating system's idea of the file cannot be trusted.
 *   W3  After `reopen` the file ends exactly where the last successful `write` left it.
 */
import type { DatabaseSync, SQLInputValue, StatementSync } from 'node:sqlite';
import { crc32 } from 'node:zlib';
import { DataFolderCorruptError, StoreFailedError, storeError } from './errors.ts';
import { type OpenOptions, openForWriting, readFeed } from './file.ts';
import { CHECKPOINT_BYTES, CHECKPOINT_OVERDUE_BYTES, ROW_OVERHEAD_BYTES } from './limits.ts';
import { COLUMNS, STEADY_COLUMNS } from './schema.ts';

/** The feed of a data file; `seq` is the last committed one. */
export interface Feed {
  feed_id: string;
  epoch: number;
  seq: number;
}

/** Rows of one commit, flattened: `COLUMNS.length` values for each row. */
export type FlatRows = SQLInputValue[];

const FEED_ID = COLUMNS.indexOf('feed_id');
const EPOCH = COLUMNS.indexOf('epoch');
const SEQ = COLUMNS.indexOf('seq');
const DATA = COLUMNS.indexOf('data');
/** Pages that one commit writes at least: the feed's own and the tail of each index. */
const COMMIT_OVERHEAD_BYTES = 8 * 4096;

export class Writer {
  readonly path: string;
  readonly #options: OpenOptions;
  #connection: Connection | null;
  #feed: Feed;
  #failure: Error | null = null;
  #uncheckpointedBytes = 0;

  constructor(path: string, options: OpenOptions = {}) {
    this.path = path;
    this.#options = options;
    this.#connection = new Connection(openForWriting(path, options));
    this.#feed = readFeed(this.#connection.database, path);
  }

  get feed(): Feed {
    return { ...this.#feed };
  }

  /** Writes and fsyncs the rows of several commits in one transaction. */
  write(commits: FlatRows[]): void {
    const connection = this.#usable();
    const feed = { ...this.#feed };
    try {
      connection.begin.run();
      for (const values of commits) {
        for (let at = 0; at < values.length; at += COLUMNS.length) {
          const row = values.slice(at, at + COLUMNS.length);
          connection.put(row);
          advance(feed, row);
          this.#uncheckpointedBytes += String(row[DATA]).length + 4 * ROW_OVERHEAD_BYTES;
        }
      }
      connection.setFeed.run(feed.epoch, feed.seq);
      connection.commit.run();
    } catch (error) {
      throw this.#fail(error, 'writing');
    }
    this.#feed = feed;
    this.#uncheckpointedBytes += COMMIT_OVERHEAD_BYTES;
  }

  /** Whether the log file should be copied into the data file now; sooner when nothing waits. */
  checkpointDue(idle: boolean): boolean {
    return this.#failure === null && this.#uncheckpointedBytes >= (idle ? CHECKPOINT_BYTES : CHECKPOINT_OVERDUE_BYTES);
  }

  /** Copies the log file into the data file, as far as readers allow. A failure counts as a failed write (W2). */
  checkpoint(): void {
    const connection = this.#usable();
    this.#uncheckpointedBytes = 0;
    try {
      connection.database.exec('PRAGMA wal_checkpoint(PASSIVE)');
    } catch (error) {
      throw this.#fail(error, 'copying the log into it');
    }
  }

  /** Closes, reopens and checks the file, whether a write failed or not. On a throw the writer stays unusable. */
  reopen(): void {
    this.#failure ??= new StoreFailedError(this.path, 'it is being reopened.');
    this.#connection?.discard();
    this.#connection = null;
    const database = openForWriting(this.path, this.#options);
    try {
      // W3: a transaction whose fsync failed may lie complete at the end of the log file, where a later crash would
      // find it and take it for committed. Emptying the log removes it.
      const result = database.prepare('PRAGMA wal_checkpoint(TRUNCATE)').get();
      if (result?.['busy'] !== 0) throw new StoreFailedError(this.path, 'a reader holds its log; try again.');
      const found = readFeed(database, this.path);
      if (found.feed_id !== this.#feed.feed_id || found.seq < this.#feed.seq) {
        throw new DataFolderCorruptError(this.path, `commits after seq ${found.seq} of feed ${found.feed_id} are gone`);
      }
      if (found.seq > this.#feed.seq) {
        const problem = `it holds commits up to seq ${found.seq} that were reported as failed; restart the peer.`;
        throw new StoreFailedError(this.path, problem, { retryable: false });
      }
    } catch (error) {
      database.close();
      throw storeError(error, this.path, 'verifying');
    }
    this.#connection = new Connection(database);
    this.#failure = null;
    this.#uncheckpointedBytes = 0;
  }

  /** Empties the log file and closes. A throw means that the log stays beside the file, to be read at the next open. */
  close(): void {
    const connection = this.#connection;
    this.#connection = null;
    if (connection === null) return;
    if (this.#failure !== null) {
      connection.discard();
      return;
    }
    try {
      connection.database.exec('PRAGMA wal_checkpoint(TRUNCATE)');
    } catch (error) {
      throw storeError(error, this.path, 'closing');
    } finally {
      connection.discard();
    }
  }

  #usable(): Connection {
    if (this.#failure !== null) throw this.#failure;
    if (this.#connection === null) throw new StoreFailedError(this.path, 'it is closed.');
    return this.#connection;
  }

  #fail(error: unknown, doing: string): Error {
    this.#failure = storeError(error, this.path, doing);
    this.#connection?.rollback();
    return this.#failure;
  }
}

/** An open database with the writer's prepared statements. */
class Connection {
  readonly database: DatabaseSync;
  readonly begin: StatementSync;
  readonly commit: StatementSync;
  readonly setFeed: StatementSync;
  readonly #upsert: StatementSync;
  readonly #replace: StatementSync;

  constructor(database: DatabaseSync) {
    this.database = database;
    const columns = [...COLUMNS, 'crc'];
    const insert = `INTO rows (${columns}) VALUES (${columns.map(() => '?')})`;
    const set = columns.filter((name) => !STEADY_COLUMNS.includes(name)).map((name) => `${name} = excluded.${name}`);
    const same = STEADY_COLUMNS.map((name) => `${name} IS excluded.${name}`).join(' AND ');
    this.#upsert = database.prepare(`INSERT ${insert} ON CONFLICT (uid) DO UPDATE SET ${set} WHERE ${same}`);
    this.#replace = database.prepare(`INSERT OR REPLACE ${insert}`);
    this.begin = database.prepare('BEGIN IMMEDIATE');
    this.commit = database.prepare('COMMIT');
    this.setFeed = database.prepare('UPDATE feed SET epoch = ?, seq = ?');
  }

  put(row: SQLInputValue[]): void {
    const crc = crc32(String(row[DATA]));
    if (this.#upsert.run(...row, crc).changes === 0) this.#replace.run(...row, crc);
  }

  rollback(): void {
    try {
      if (this.database.isTransaction) this.database.exec('ROLLBACK');
    } catch {
      // Safe to ignore: the connection is closed before anything else is written (W2), and closing rolls back.
    }
  }

  discard(): void {
    if (this.database.isOpen) this.database.close();
  }
}

/** The feed's own rows move its head; rows of other feeds keep the numbers their owners gave them. */
function advance(feed: Feed, row: SQLInputValue[]): void {
  if (row[FEED_ID] !== feed.feed_id) return;
  feed.epoch = Math.max(feed.epoch, Number(row[EPOCH]));
  feed.seq = Math.max(feed.seq, Number(row[SEQ]));
}
