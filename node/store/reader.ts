/**
 * The Reader port on SQLite: a read-only connection of its own on the calling thread.
 *
 * Every read runs its statements to the end before it returns, so no read transaction outlives a call and the
 * writer's checkpoints are never held up. What a reader sees is fsynced (P1): a transaction becomes visible to other
 * connections only after its fsync.
 */
import type { DatabaseSync, SQLInputValue, StatementSync } from 'node:sqlite';
import { crc32 } from 'node:zlib';
import { FlowmeshError } from '../../dag/errors.ts';
import type { ListQuery, Reader, TaskCounts } from '../../scheduler/ports.ts';
import type { FlowRecord, RecordKind, TaskRecord, WorkflowRecord } from '../../scheduler/records.ts';
import { DataFolderCorruptError, StoreFailedError, storeError } from './errors.ts';
import { openForReading } from './file.ts';
import { HISTORY_MINUTES_MAX, LIST_STATEMENTS_MAX, READ_ROWS_MAX } from './limits.ts';
import { filterTerms } from './row-values.ts';

type Of<K extends RecordKind> = Extract<FlowRecord, { kind: K }>;
type Found = Record<string, unknown>;

/**
 * Opens a reader of a data file that a store of this or another thread has made.
 *
 * @throws DataFolderCorruptError, DataFolderNewerError, DataFolderUnreadableError, StoreFailedError
 */
export function openSqliteReader(path: string): Reader & { close(): void } {
  return new SqliteReader(path, openForReading(path));
}

const ENTRY = 'uid, crc, data';
const STATEMENTS = {
  get: `SELECT ${ENTRY} FROM rows WHERE uid = ? AND kind = ?`,
  byAlias: `SELECT ${ENTRY} FROM rows WHERE alias = ? AND kind = ? ORDER BY created_at DESC, uid DESC LIMIT 1`,
  children: `SELECT ${ENTRY} FROM rows WHERE parent = ? AND kind = ? ORDER BY seq, uid LIMIT ${READ_ROWS_MAX + 1}`,
  active: `SELECT ${ENTRY} FROM rows WHERE active = 1 AND kind = ?
    ORDER BY created_at, iif(created_at IS NULL, seq, 0), uid LIMIT ${READ_ROWS_MAX + 1}`,
  queuedAbove: `SELECT count(*) AS n FROM rows
    WHERE active = 1 AND kind = 'task' AND status = 'queued' AND priority > ?`,
  queuedBefore: `SELECT count(*) AS n FROM rows
    WHERE active = 1 AND kind = 'task' AND status = 'queued' AND priority = ? AND (created_at, uid) < (?, ?)`,
  countActive: `SELECT status, count(*) AS n FROM rows WHERE active = 1 AND kind = 'task' GROUP BY status`,
  countEnded: `SELECT status, dead_letter, count(*) AS n FROM rows
    WHERE kind = 'task' AND active = 0 GROUP BY status, dead_letter`,
  endedSince: `SELECT avg(wait_ms) AS wait_ms, avg(execution_ms) AS execution_ms,
      count(*) FILTER (WHERE status = 'completed') AS completed FROM rows
    WHERE kind = 'task' AND active = 0 AND status IN ('completed', 'failed', 'cancelled') AND dead_letter IN (0, 1)
      AND ended_at >= ?`,
  history: `SELECT substr(ended_at, 1, 16) AS minute, count(*) FILTER (WHERE status = 'completed') AS completed,
      count(*) FILTER (WHERE status = 'failed') AS failed FROM rows
    WHERE kind = 'task' AND active = 0 AND status IN ('completed', 'failed') AND dead_letter IN (0, 1)
      AND ended_at >= ?
    GROUP BY minute ORDER BY minute DESC LIMIT ${HISTORY_MINUTES_MAX}`,
};

class SqliteReader implements Reader {
  readonly #path: string;
  readonly #database: DatabaseSync;
  readonly #statements: Record<keyof typeof STATEMENTS, StatementSync>;
  /** A list's statements depend on which filters it has; oldest first. */
  readonly #lists = new Map<string, { page: StatementSync; count: StatementSync }>();

  constructor(path: string, database: DatabaseSync) {
    this.#path = path;
    this.#database = database;
    const prepared = Object.entries(STATEMENTS).map(([name, sql]) => [name, database.prepare(sql)]);
    this.#statements = Object.fromEntries(prepared);
  }

  close(): void {
    if (this.#database.isOpen) this.#database.close();
  }

  async get<K extends RecordKind>(kind: K, uid: string): Promise<Of<K> | undefined> {
    return this.#first(kind, this.#statements.get, uid, kind);
  }

  async byAlias<K extends RecordKind>(kind: K, alias: string): Promise<Of<K> | undefined> {
    return this.#first(kind, this.#statements.byAlias, alias, kind);
  }

  async children<K extends RecordKind>(kind: K, parent: string): Promise<Of<K>[]> {
    return this.#all(kind, this.#statements.children, parent, kind);
  }

  async active<K extends RecordKind>(kind: K): Promise<Of<K>[]> {
    return this.#all(kind, this.#statements.active, kind);
  }

  list(query: ListQuery & { kind: 'workflow' }): Promise<{ records: WorkflowRecord[]; total: number }>;
  list(query: ListQuery & { kind: 'task' }): Promise<{ records: TaskRecord[]; total: number }>;
  async list<K extends 'workflow' | 'task'>(
    query: ListQuery & { kind: K },
  ): Promise<{ records: Of<K>[]; total: number }> {
    const { sql, parameters } = filterTerms(query);
    return this.#read(() => {
      const { page, count } = this.#listStatements(sql);
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

  #listStatements(filters: string): { page: StatementSync; count: StatementSync } {
    const known = this.#lists.get(filters);
    if (known !== undefined) return known;
    const where = `FROM rows INDEXED BY listed WHERE kind = ? AND created_at IS NOT NULL${filters}`;
    const made = {
      page: this.#database.prepare(`SELECT ${ENTRY} ${where} ORDER BY created_at DESC, uid DESC LIMIT ? OFFSET ?`),
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

  #record<K extends RecordKind>(kind: K, row: Found): Of<K> {
    const { uid, crc, data } = row as { uid: string; crc: number; data: string };
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
