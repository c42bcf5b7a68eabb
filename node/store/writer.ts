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
import { isDeepStrictEqual } from 'node:util';
import { crc32 } from 'node:zlib';
import { DataFolderCorruptError, StoreFailedError, storeError } from './errors.ts';
import { changeHead, type FeedHeads, type HeadChange } from './feed-heads.ts';
import { type OpenOptions, openForWriting, readHeads } from './file.ts';
import { CHECKPOINT_BYTES, CHECKPOINT_OVERDUE_BYTES, ROW_OVERHEAD_BYTES } from './limits.ts';
import { COLUMNS, STEADY_COLUMNS } from './schema.ts';

/** Rows of one commit, flattened: `COLUMNS.length` values for each row. */
export type FlatRows = SQLInputValue[];

/** A change of the file. Only a commit has rows. */
export interface WriterOperation {
  change: HeadChange;
  rows: FlatRows;
}

const DATA = COLUMNS.indexOf('data');
/** Pages that one row writes at most, its data apart: its own and one for each index that it moves in. */
const ROW_PAGES_BYTES = 4 * ROW_OVERHEAD_BYTES;
/** Pages that one commit writes at least: that of the heads and the tail of each index. */
const COMMIT_OVERHEAD_BYTES = 8 * 4096;

export class Writer {
  readonly path: string;
  readonly #options: OpenOptions;
  #connection: Connection | null;
  #heads: FeedHeads;
  /** The heads as the write that failed would have left them. */
  #attempted: FeedHeads;
  #failure: Error | null = null;
  #uncheckpointedBytes = 0;

  constructor(path: string, options: OpenOptions = {}) {
    this.path = path;
    this.#options = options;
    this.#connection = new Connection(openForWriting(path, options));
    this.#heads = readHeads(this.#connection.database);
    this.#attempted = this.#heads;
  }

  /** As of the last successful write. */
  get heads(): FeedHeads {
    return new Map(this.#heads);
  }

  /** Applies and fsyncs several operations, in order, in one transaction. */
  write(operations: WriterOperation[]): void {
    const connection = this.#usable();
    this.#attempted = new Map(this.#heads);
    try {
      connection.begin.run();
      for (const operation of operations) {
        this.#uncheckpointedBytes += connection.apply(operation);
        changeHead(this.#attempted, operation.change);
      }
      for (const feed_id of new Set(operations.map(({ change }) => change.feed_id))) {
        connection.setHead(feed_id, this.#attempted);
      }
      connection.commit.run();
    } catch (error) {
      throw this.#fail(error, 'writing');
    }
    this.#heads = this.#attempted;
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
      checkHeads(this.path, readHeads(database), { acknowledged: this.#heads, attempted: this.#attempted });
    } catch (error) {
      database.close();
      throw storeError(error, this.path, 'verifying');
    }
    this.#connection = new Connection(database);
    this.#attempted = this.#heads;
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

/**
 * P1: checks that a reopened file has what was acknowledged, and nothing that was reported as failed.
 *
 * @param known the heads that were acknowledged, and those that unanswered operations would have made of them
 * @throws DataFolderCorruptError, StoreFailedError
 */
export function checkHeads(
  path: string,
  found: FeedHeads,
  known: { acknowledged: FeedHeads; attempted: FeedHeads },
): void {
  const seqIn = (heads: FeedHeads, feed_id: string) => heads.get(feed_id)?.seq ?? -1;
  for (const feed_id of known.acknowledged.keys()) {
    const least = Math.min(seqIn(known.acknowledged, feed_id), seqIn(known.attempted, feed_id));
    if (seqIn(found, feed_id) >= least) continue;
    throw new DataFolderCorruptError(path, `commits up to seq ${least} of feed ${feed_id} are gone`);
  }
  if (isDeepStrictEqual(found, known.acknowledged)) return;
  const problem = 'it holds changes that were reported as failed; restart the peer.';
  throw new StoreFailedError(path, problem, { retryable: false });
}

/** An open database with the writer's prepared statements. */
class Connection {
  readonly database: DatabaseSync;
  readonly begin: StatementSync;
  readonly commit: StatementSync;
  readonly #upsert: StatementSync;
  readonly #replace: StatementSync;
  readonly #drop: StatementSync;
  readonly #sweep: StatementSync;
  readonly #setHead: StatementSync;
  readonly #dropHead: StatementSync;

  constructor(database: DatabaseSync) {
    this.database = database;
    const columns = [...COLUMNS, 'crc'];
    const insert = `INTO rows (${columns}) VALUES (${columns.map(() => '?')})`;
    const set = columns.filter((name) => !STEADY_COLUMNS.includes(name)).map((name) => `${name} = excluded.${name}`);
    const same = STEADY_COLUMNS.map((name) => `${name} IS excluded.${name}`).join(' AND ');
    this.#upsert = database.prepare(`INSERT ${insert} ON CONFLICT (uid) DO UPDATE SET ${set} WHERE ${same}`);
    this.#replace = database.prepare(`INSERT OR REPLACE ${insert}`);
    this.#drop = database.prepare('DELETE FROM rows WHERE feed_id = ?');
    this.#sweep = database.prepare(
      `DELETE FROM rows INDEXED BY active WHERE active = 1 AND feed_id = ? AND kind = 'tombstone' AND seq <= ?`,
    );
    this.#setHead = database.prepare('INSERT OR REPLACE INTO feeds (feed_id, epoch, seq, owned) VALUES (?, ?, ?, ?)');
    this.#dropHead = database.prepare('DELETE FROM feeds WHERE feed_id = ?');
    this.begin = database.prepare('BEGIN IMMEDIATE');
    this.commit = database.prepare('COMMIT');
  }

  /** Returns about how many bytes it wrote to the log. */
  apply({ change, rows }: WriterOperation): number {
    switch (change.type) {
      case 'commit':
        return this.#put(rows);
      case 'own':
        return 0; // It is the head's alone.
      case 'drop':
        return Number(this.#drop.run(change.feed_id).changes) * ROW_PAGES_BYTES;
      case 'sweep':
        return Number(this.#sweep.run(change.feed_id, change.seq).changes) * ROW_PAGES_BYTES;
    }
  }

  setHead(feed_id: string, heads: FeedHeads): void {
    const head = heads.get(feed_id);
    if (head === undefined) this.#dropHead.run(feed_id);
    else this.#setHead.run(feed_id, head.epoch, head.seq, Number(head.owned));
  }

  #put(rows: FlatRows): number {
    let bytes = 0;
    for (let at = 0; at < rows.length; at += COLUMNS.length) {
      const row = rows.slice(at, at + COLUMNS.length);
      const data = String(row[DATA]);
      const crc = crc32(data);
      if (this.#upsert.run(...row, crc).changes === 0) this.#replace.run(...row, crc);
      bytes += data.length + ROW_PAGES_BYTES;
    }
    return bytes;
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
