/**
 * The Reader port on SQLite: a read-only connection of its own on the calling thread.
 *
 * Every read runs its statements to the end before it returns, and reads of one moment take no turn of the event loop,
 * so no read transaction lasts and the writer's checkpoints are never held up. What a reader sees is fsynced (P1): a
 * transaction becomes visible to other connections only after its fsync.
 */
import type { DatabaseSync, SQLInputValue, StatementSync } from 'node:sqlite';
import { crc32 } from 'node:zlib';
import { FlowmeshError } from '../../dag/errors.ts';
import { KeyedMutex } from '../../scheduler/keyed-mutex.ts';
import type { ListQuery, Reader, RowWatcher, TaskCounts } from '../../scheduler/ports.ts';
import type { FlowRecord, RecordKind, Row, TaskRecord, WorkflowRecord } from '../../scheduler/records.ts';
import { partsRange } from '../../scheduler/uids.ts';
import { DataFolderCorruptError, StoreFailedError, storeError } from './errors.ts';
import { openForReading } from './file.ts';
import { HISTORY_MINUTES_MAX, LIST_STATEMENTS_MAX, READ_ROWS_MAX } from './limits.ts';
import { filterTerms } from './row-values.ts';

type Of<K extends RecordKind> = Extract<FlowRecord, { kind: K }>;
type Found = Record<string, unknown>;
type FoundRow = { uid: string; crc: number; data: string; feed_id: string; seq: number };
type Statements = Record<keyof typeof STATEMENTS, StatementSync>;

/**
 * Opens a reader of a data file that a store of this or another thread has made.
 *
 * @throws DataFolderCorruptError, DataFolderNewerError, DataFolderUnreadableError, StoreFailedError
 */
export function openSqliteReader(path: string): Reader & { close(): void } {
  return new SqliteReader(path, openForReading(path));
}

const JSON_BRACKETS_BYTES = 2;
const JSON_COMMA_BYTES = 1;

const ENTRY = 'uid, crc, data, feed_id, seq';
const PLACED_ENTRY = `${ENTRY}, kind, epoch`;
const OWNED = 'feed_id IN (SELECT feed_id FROM feeds WHERE owned = 1)';
const COPIED = 'feed_id IN (SELECT feed_id FROM feeds WHERE owned = 0)';
const QUEUED = `FROM rows INDEXED BY active WHERE active = 1 AND ${OWNED} AND kind = 'task' AND status = 'queued'`;
const ENDED = `FROM rows INDEXED BY ended WHERE active = 0 AND ${OWNED} AND kind = 'task'`;
const LISTED = `WHERE created_at IS NOT NULL AND ${OWNED} AND kind = ?`;
const NEWEST_FIRST = 'ORDER BY created_at DESC, uid DESC';
const STATEMENTS = {
  get: `SELECT ${ENTRY} FROM rows WHERE uid = ? AND kind = ?`,
  row: `SELECT ${PLACED_ENTRY} FROM rows WHERE uid = ?`,
  feedOf: 'SELECT feed_id FROM rows WHERE uid = ?',
  byAlias: `SELECT ${ENTRY} FROM rows INDEXED BY by_alias WHERE alias = ? AND kind = ? AND ${OWNED}
    ${NEWEST_FIRST} LIMIT 1`,
  copyByAlias: `SELECT ${PLACED_ENTRY} FROM rows INDEXED BY by_alias WHERE alias = ? AND kind = ? AND ${COPIED}
    ${NEWEST_FIRST} LIMIT 1`,
  children: `SELECT ${ENTRY} FROM rows WHERE parent = ? AND kind = ? ORDER BY seq, uid LIMIT ${READ_ROWS_MAX + 1}`,
  active: `SELECT ${ENTRY} FROM rows INDEXED BY active WHERE active = 1 AND feed_id = ? AND kind = ?
    ORDER BY created_at, iif(created_at IS NULL, seq, 0), uid LIMIT ${READ_ROWS_MAX + 1}`,
  open: `SELECT 1 FROM rows INDEXED BY active WHERE active = 1 AND feed_id = ? AND kind IN ('workflow', 'task') LIMIT 1`,
  changes: `SELECT ${PLACED_ENTRY} FROM rows INDEXED BY by_seq WHERE feed_id = ? AND (seq, uid) > (?, ?)
    ORDER BY seq, uid LIMIT ${READ_ROWS_MAX}`,
  oldest: `SELECT uid FROM rows INDEXED BY roots WHERE active = 0 AND parent IS NULL AND feed_id = ? AND kind = ?
    AND created_at < ? ORDER BY created_at, uid LIMIT ?`,
  recent: `SELECT uid, alias, parent FROM rows INDEXED BY listed
    WHERE created_at IS NOT NULL AND ${OWNED} AND kind = ? AND created_at >= ? ${NEWEST_FIRST} LIMIT ?`,
  countRoots: `SELECT count(*) AS n FROM rows INDEXED BY roots WHERE active = 0 AND parent IS NULL
    AND created_at IS NOT NULL AND feed_id = ? AND kind = ?`,
  parts: `SELECT uid FROM rows WHERE uid > ? AND uid < ? AND kind <> 'tombstone' ORDER BY uid LIMIT ?`,
  queuedAbove: `SELECT count(*) AS n ${QUEUED} AND priority > ?`,
  queuedBefore: `SELECT count(*) AS n ${QUEUED} AND priority = ? AND (created_at, uid) < (?, ?)`,
  countActive: `SELECT status, count(*) AS n FROM rows INDEXED BY active
    WHERE active = 1 AND ${OWNED} AND kind = 'task' GROUP BY status`,
  countEnded: `SELECT status, dead_letter, count(*) AS n ${ENDED} GROUP BY status, dead_letter`,
  endedSince: `SELECT avg(wait_ms) AS wait_ms, avg(execution_ms) AS execution_ms,
      count(*) FILTER (WHERE status = 'completed') AS completed ${ENDED}
      AND status IN ('completed', 'failed', 'cancelled') AND dead_letter IN (0, 1) AND ended_at >= ?`,
  history: `SELECT substr(ended_at, 1, 16) AS minute, count(*) FILTER (WHERE status = 'completed') AS completed,
      count(*) FILTER (WHERE status = 'failed') AS failed ${ENDED}
      AND status IN ('completed', 'failed') AND dead_letter IN (0, 1) AND ended_at >= ?
    GROUP BY minute ORDER BY minute DESC LIMIT ${HISTORY_MINUTES_MAX}`,
};

class SqliteReader implements Reader {
  readonly #path: string;
  readonly #database: DatabaseSync;
  readonly #statements: Statements;
  /** A list's statements depend on which filters it has; oldest first. */
  readonly #lists: Map<string, { page: StatementSync; count: StatementSync }>;
  readonly #onRow: RowWatcher | undefined;
  /** For reads of one moment: a connection of their own, so that what is read besides is as new as ever. */
  readonly #still: { reader: SqliteReader | null; order: KeyedMutex };

  /** @param of another reader of the database: the prepared statements of both are the same */
  constructor(path: string, database: DatabaseSync, of?: SqliteReader, onRow?: RowWatcher) {
    this.#path = path;
    this.#database = database;
    this.#statements = of === undefined ? prepareAll(database) : of.#statements;
    this.#lists = of === undefined ? new Map() : of.#lists;
    this.#still = of === undefined ? { reader: null, order: new KeyedMutex() } : of.#still;
    this.#onRow = onRow;
  }

  watching(onRow: RowWatcher): Reader {
    return new SqliteReader(this.#path, this.#database, this, onRow);
  }

  atOnce<T>(reads: (still: Reader) => Promise<T>): Promise<T> {
    const still = this.#still;
    return still.order.run('', async () => {
      const open = () => new SqliteReader(this.#path, openForReading(this.#path));
      const reader = this.#read(() => (still.reader ??= open()));
      return await reader.#inTransaction(this.#onRow, reads);
    });
  }

  async #inTransaction<T>(onRow: RowWatcher | undefined, reads: (still: Reader) => Promise<T>): Promise<T> {
    this.#read(() => this.#database.exec('BEGIN'));
    try {
      return await reads(onRow === undefined ? this : this.watching(onRow));
    } finally {
      if (this.#database.isOpen) this.#read(() => this.#database.exec('COMMIT'));
    }
  }

  close(): void {
    this.#still.reader?.close();
    if (this.#database.isOpen) this.#database.close();
  }

  async get<K extends RecordKind>(kind: K, uid: string): Promise<Of<K> | undefined> {
    return this.#first(kind, this.#statements.get, uid, kind);
  }

  async row(uid: string): Promise<Row | undefined> {
    return this.#firstRow(this.#statements.row, uid);
  }

  async feedsOf(uids: readonly string[]): Promise<(string | null)[]> {
    return this.#read(() =>
      uids.map((uid) => (this.#statements.feedOf.get(uid) as { feed_id: string } | undefined)?.feed_id ?? null),
    );
  }

  async byAlias<K extends RecordKind>(kind: K, alias: string): Promise<Of<K> | undefined> {
    return this.#first(kind, this.#statements.byAlias, alias, kind);
  }

  async copyByAlias(kind: 'workflow' | 'task', alias: string): Promise<Row | undefined> {
    return this.#firstRow(this.#statements.copyByAlias, alias, kind);
  }

  async children<K extends RecordKind>(kind: K, parent: string): Promise<Of<K>[]> {
    return this.#all(kind, this.#statements.children, parent, kind);
  }

  async active<K extends RecordKind>(kind: K, feed_id: string): Promise<Of<K>[]> {
    return this.#all(kind, this.#statements.active, feed_id, kind);
  }

  async hasOpen(feed_id: string): Promise<boolean> {
    return this.#read(() => this.#statements.open.get(feed_id) !== undefined);
  }

  async changes(feed_id: string, after: { seq: number; uid: string }, maxBytes: number): Promise<Row[]> {
    return this.#read(() => {
      const rows: Row[] = [];
      let bytes = JSON_BRACKETS_BYTES;
      for (const found of this.#statements.changes.iterate(feed_id, after.seq, after.uid)) {
        bytes += jsonBytes(found) + JSON_COMMA_BYTES;
        if (rows.length > 0 && bytes - JSON_COMMA_BYTES > maxBytes) break;
        rows.push(this.#row(found));
      }
      return rows;
    });
  }

  async oldest(kind: 'workflow' | 'task', feed_id: string, before: string, limit: number): Promise<string[]> {
    return this.#read(() => this.#statements.oldest.all(feed_id, kind, before, limit).map(({ uid }) => String(uid)));
  }

  async recentRoots<K extends 'workflow' | 'task'>(
    kind: K,
    since: string,
    among: number,
    isWanted: (alias: string) => boolean,
  ): Promise<Of<K>[]> {
    return this.#read(() => {
      const recent = this.#statements.recent.all(kind, since, among);
      const wanted = recent.filter(({ alias, parent }) => parent === null && isWanted(String(alias)));
      return wanted.map(({ uid }) => this.#record(kind, this.#statements.get.get(String(uid), kind)!));
    });
  }

  async countRoots(kind: 'workflow' | 'task', feed_id: string): Promise<number> {
    return this.#read(() => Number(this.#statements.countRoots.get(feed_id, kind)?.['n']));
  }

  async parts(uid: string, after: string, limit: number): Promise<string[]> {
    const { first, end } = partsRange(uid);
    const from = after > first ? after : first;
    return this.#read(() => this.#statements.parts.all(from, end, limit).map((found) => String(found['uid'])));
  }

  list(query: ListQuery & { kind: 'workflow' }): Promise<{ records: WorkflowRecord[]; total: number }>;
  list(query: ListQuery & { kind: 'task' }): Promise<{ records: TaskRecord[]; total: number }>;
  async list<K extends 'workflow' | 'task'>(
    query: ListQuery & { kind: K },
  ): Promise<{ records: Of<K>[]; total: number }> {
    const { sql, parameters } = filterTerms(query);
    return this.#read(() => {
      const { page, count } = this.#listStatements(query.parent === undefined ? 'listed' : 'by_parent', sql);
      // One read transaction, so that the page and the total are of one moment.
      this.#database.exec('BEGIN');
      try {
        const found = page.all(query.kind, ...parameters, query.limit, query.offset);
        const total = Number(count.get(query.kind, ...parameters)?.['n']);
        return { records: found.map((row) => this.#record(query.kind, row)), total };
      } finally {
        this.#database.exec('COMMIT');
      }
    });
  }

  async queuePosition(task: { uid: string; priority: number; created_at: string }): Promise<number> {
    const { queuedAbove, queuedBefore } = this.#statements;
    const before = [task.priority, task.created_at, task.uid];
    return this.#read(() => Number(queuedAbove.get(task.priority)?.['n']) + Number(queuedBefore.get(...before)?.['n']));
  }

  async taskCounts(query: { since: string }): Promise<TaskCounts> {
    const { countActive, countEnded, endedSince } = this.#statements;
    return this.#read(() => {
      const since = endedSince.get(query.since) as Found;
      const counts: TaskCounts = {
        queued: 0,
        running: 0,
        input_required: 0,
        completed: 0,
        failed: 0,
        cancelled: 0,
        dead_letter: 0,
        average_wait_ms: since['wait_ms'] as number | null,
        average_execution_ms: since['execution_ms'] as number | null,
        completed_since: Number(since['completed']),
      };
      for (const row of [...countActive.all(), ...countEnded.all()]) {
        const name = row['dead_letter'] === 1 ? 'dead_letter' : row['status'];
        counts[name as 'queued'] += Number(row['n']);
      }
      return counts;
    });
  }

  async taskHistory(query: { since: string }): Promise<{ minute: string; completed: number; failed: number }[]> {
    return this.#read(() =>
      this.#statements.history
        .all(query.since)
        .reverse()
        .map(({ minute, completed, failed }) => ({
          minute: `${minute}:00.000Z`,
          completed: Number(completed),
          failed: Number(failed),
        })),
    );
  }

  #listStatements(index: 'listed' | 'by_parent', filters: string): { page: StatementSync; count: StatementSync } {
    const known = this.#lists.get(filters);
    if (known !== undefined) return known;
    const where = `FROM rows INDEXED BY ${index} ${LISTED}${filters}`;
    // The ids of the page first, which the index has: the data of rows that are not on the page is never read.
    const ids = `SELECT id ${where} ${NEWEST_FIRST} LIMIT ? OFFSET ?`;
    const made = {
      page: this.#database.prepare(`SELECT ${ENTRY} FROM rows WHERE id IN (${ids}) ${NEWEST_FIRST}`),
      count: this.#database.prepare(`SELECT count(*) AS n ${where}`),
    };
    const [oldest] = this.#lists.keys();
    if (oldest !== undefined && this.#lists.size >= LIST_STATEMENTS_MAX) this.#lists.delete(oldest);
    this.#lists.set(filters, made);
    return made;
  }

  #first<K extends RecordKind>(kind: K, statement: StatementSync, ...parameters: SQLInputValue[]): Of<K> | undefined {
    return this.#read(() => {
      const row = statement.get(...parameters);
      return row === undefined ? undefined : this.#record(kind, row);
    });
  }

  #firstRow(statement: StatementSync, ...parameters: SQLInputValue[]): Row | undefined {
    return this.#read(() => {
      const row = statement.get(...parameters);
      return row === undefined ? undefined : this.#row(row);
    });
  }

  #all<K extends RecordKind>(kind: K, statement: StatementSync, ...parameters: SQLInputValue[]): Of<K>[] {
    return this.#read(() => {
      const rows = statement.all(...parameters);
      if (rows.length > READ_ROWS_MAX) {
        const problem = `More than ${READ_ROWS_MAX} ${kind} records match in ${this.#path}; one read returns at most that many.`;
        throw new FlowmeshError('LIMIT_EXCEEDED', problem, { details: { maximum: READ_ROWS_MAX } });
      }
      return rows.map((row) => this.#record(kind, row));
    });
  }

  #row(found: Found): Row {
    const { kind, uid, feed_id, epoch, seq } = found as Omit<Row, 'record'> & { kind: RecordKind };
    return { uid, feed_id, epoch, seq, record: this.#record(kind, found), text: String(found['data']) };
  }

  #record<K extends RecordKind>(kind: K, row: Found): Of<K> {
    const { uid, crc, data, feed_id, seq } = row as FoundRow;
    this.#onRow?.(feed_id, seq);
    const damaged = (problem: string, cause?: unknown) =>
      new DataFolderCorruptError(this.#path, `the record ${uid} ${problem}`, { uid, cause });
    if (crc32(data) !== crc) throw damaged('is not what was written');
    let record: Of<K>;
    try {
      record = JSON.parse(data);
    } catch (error) {
      throw damaged('is not JSON', error);
    }
    if (record.kind !== kind || record.uid !== uid) throw damaged('is filed under a wrong name');
    return record;
  }

  #read<T>(read: () => T): T {
    if (!this.#database.isOpen) throw new StoreFailedError(this.#path, 'it is closed.');
    try {
      return read();
    } catch (error) {
      throw storeError(error, this.#path, 'reading');
    }
  }
}

function prepareAll(database: DatabaseSync): Statements {
  const prepared = Object.entries(STATEMENTS).map(([name, sql]) => [name, database.prepare(sql)]);
  return Object.fromEntries(prepared);
}

/** In UTF-8, of a found row as a `Row`. */
function jsonBytes(found: Found): number {
  const { uid, feed_id, epoch, seq, data } = found;
  const around = JSON.stringify({ uid, feed_id, epoch, seq, record: 0 });
  return Buffer.byteLength(around) - 1 + Buffer.byteLength(String(data));
}
