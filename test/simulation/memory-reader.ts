/** The Reader port over rows in memory. Plain scans: a simulated peer keeps thousands of rows, not millions. */
import type { ListQuery, Reader, TaskCounts } from '../../scheduler/ports.ts';
import {
  type FlowRecord,
  indexOf,
  isTerminal,
  type RecordIndex,
  type RecordKind,
  type Row,
  type TaskRecord,
  type WorkflowRecord,
} from '../../scheduler/records.ts';

type Of<K extends RecordKind> = Extract<FlowRecord, { kind: K }>;

interface Kept {
  row: Row;
  index: RecordIndex;
}

export class MemoryReader implements Reader {
  readonly #kept = new Map<string, Kept>();
  readonly #byAlias = new Map<string, Set<string>>();
  readonly #byParent = new Map<string, Set<string>>();

  put(row: Row): void {
    this.#unlist(row.uid);
    const index = indexOf(row.record);
    this.#kept.set(row.uid, { row, index });
    if (index.alias !== null) entry(this.#byAlias, index.alias).add(row.uid);
    if (index.parent !== null) entry(this.#byParent, index.parent).add(row.uid);
  }

  *all(): Iterable<Row> {
    for (const { row } of this.#kept.values()) yield row;
  }

  async get<K extends RecordKind>(kind: K, uid: string): Promise<Of<K> | undefined> {
    const kept = this.#kept.get(uid);
    return kept?.row.record.kind === kind ? copy<K>(kept) : undefined;
  }

  async byAlias<K extends RecordKind>(kind: K, alias: string): Promise<Of<K> | undefined> {
    const [newest] = this.#named(this.#byAlias.get(alias), kind).sort(newestFirst);
    return newest === undefined ? undefined : copy<K>(newest);
  }

  async children<K extends RecordKind>(kind: K, parent: string): Promise<Of<K>[]> {
    const found = this.#named(this.#byParent.get(parent), kind);
    return found.sort((a, b) => a.row.seq - b.row.seq || compare(a.row.uid, b.row.uid)).map((kept) => copy<K>(kept));
  }

  async active<K extends RecordKind>(kind: K): Promise<Of<K>[]> {
    const found = this.#where(kind, ({ index: { status } }) => status === null || !ended(status));
    const bySeq = (kept: Kept) => (kept.index.created_at === null ? kept.row.seq : 0);
    const order = (a: Kept, b: Kept) =>
      compare(a.index.created_at ?? '', b.index.created_at ?? '') ||
      bySeq(a) - bySeq(b) ||
      compare(a.row.uid, b.row.uid);
    return found.sort(order).map((kept) => copy<K>(kept));
  }

  list(query: ListQuery & { kind: 'workflow' }): Promise<{ records: WorkflowRecord[]; total: number }>;
  list(query: ListQuery & { kind: 'task' }): Promise<{ records: TaskRecord[]; total: number }>;
  async list<K extends 'workflow' | 'task'>(
    query: ListQuery & { kind: K },
  ): Promise<{ records: Of<K>[]; total: number }> {
    const found = this.#where(query.kind, ({ row }) => matches(row.record as TaskRecord | WorkflowRecord, query));
    const page = found.sort(newestFirst).slice(query.offset, query.offset + query.limit);
    return { records: page.map((kept) => copy<K>(kept)), total: found.length };
  }

  async queuePosition(task: { uid: string; priority: number; created_at: string }): Promise<number> {
    const before = (other: TaskRecord) =>
      other.priority - task.priority || compare(task.created_at, other.created_at) || compare(task.uid, other.uid);
    return this.#tasks().filter((other) => other.status === 'queued' && before(other) > 0).length;
  }

  async taskCounts(query: { since: string }): Promise<TaskCounts> {
    const counts = { queued: 0, running: 0, input_required: 0, completed: 0, failed: 0, cancelled: 0, dead_letter: 0 };
    for (const task of this.#tasks()) counts[task.dead_letter && ended(task.status) ? 'dead_letter' : task.status] += 1;
    const recent = this.#tasks().filter((task) => ended(task.status) && (task.ended_at ?? '') >= query.since);
    return {
      ...counts,
      average_wait_ms: average(recent.map((task) => task.wait_ms)),
      average_execution_ms: average(recent.map((task) => task.execution_time_ms)),
      completed_since: recent.filter((task) => task.status === 'completed').length,
    };
  }

  async taskHistory(query: { since: string }): Promise<{ minute: string; completed: number; failed: number }[]> {
    const minutes = new Map<string, { minute: string; completed: number; failed: number }>();
    for (const { status, ended_at } of this.#tasks()) {
      if (ended_at === null || ended_at < query.since || (status !== 'completed' && status !== 'failed')) continue;
      const minute = `${ended_at.slice(0, 16)}:00.000Z`;
      const counted = minutes.get(minute) ?? { minute, completed: 0, failed: 0 };
      counted[status] += 1;
      minutes.set(minute, counted);
    }
    return [...minutes.values()].sort((a, b) => compare(a.minute, b.minute));
  }

  #tasks(): TaskRecord[] {
    return this.#where('task', () => true).map(({ row }) => row.record as TaskRecord);
  }

  #where(kind: RecordKind, holds: (kept: Kept) => boolean): Kept[] {
    return [...this.#kept.values()].filter((kept) => kept.row.record.kind === kind && holds(kept));
  }

  #named(uids: Set<string> | undefined, kind: RecordKind): Kept[] {
    return [...(uids ?? [])].map((uid) => this.#kept.get(uid)!).filter(({ row }) => row.record.kind === kind);
  }

  #unlist(uid: string): void {
    const index = this.#kept.get(uid)?.index;
    if (index?.alias != null) this.#byAlias.get(index.alias)?.delete(uid);
    if (index?.parent != null) this.#byParent.get(index.parent)?.delete(uid);
  }
}

function entry(index: Map<string, Set<string>>, key: string): Set<string> {
  const known = index.get(key) ?? new Set();
  index.set(key, known);
  return known;
}

function copy<K extends RecordKind>(kept: Kept): Of<K> {
  return structuredClone(kept.row.record) as Of<K>;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function newestFirst(a: Kept, b: Kept): number {
  return compare(b.index.created_at ?? '', a.index.created_at ?? '') || compare(b.row.uid, a.row.uid);
}

function ended(status: string): boolean {
  return isTerminal(status) || status === 'skipped';
}

function average(values: (number | null)[]): number | null {
  const known = values.filter((value) => value !== null);
  return known.length === 0 ? null : known.reduce((sum, value) => sum + value, 0) / known.length;
}

function matches(record: TaskRecord | WorkflowRecord, query: ListQuery): boolean {
  const task = record.kind === 'task' ? record : null;
  return (
    (query.status === undefined || record.status === query.status) &&
    (query.worker_id === undefined || task?.worker_id === query.worker_id) &&
    (query.peer_id === undefined || task?.peer_id === query.peer_id) &&
    (query.priority_min === undefined || record.priority >= query.priority_min) &&
    (query.dead_letter === undefined || (task?.dead_letter ?? false) === query.dead_letter) &&
    (query.tags ?? []).every((tag) => record.tags.includes(tag))
  );
}
