/** The Reader port over rows in memory. Plain scans: a simulated peer keeps thousands of rows, not millions. */
import { changeHead, type FeedHeads, type HeadChange } from '../../node/store/feed-heads.ts';
import type { ListQuery, Reader, RowWatcher, TaskCounts } from '../../scheduler/ports.ts';
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

/** A row as a disk keeps it: its own, and nobody changes it. */
interface KeptRow {
  readonly row: Row;
  /** The record's JSON text: reads parse it, so that every answer is a private copy. */
  readonly json: string;
  readonly index: RecordIndex;
}

/** The rows of one feed. */
interface KeptFeed {
  readonly rows: Set<KeptRow>;
  /** By seq. Has rows too that are not kept any more, at most as many as there are others. */
  log: KeptRow[];
}

/** @throws TypeError when the record is not JSON */
export function keptRow({ uid, feed_id, epoch, seq, record, text }: Row): KeptRow {
  const json = text ?? JSON.stringify(record);
  const own = JSON.parse(json) as FlowRecord;
  return { row: { uid, feed_id, epoch, seq, record: own, text: json }, json, index: indexOf(own) };
}

export class MemoryReader implements Reader {
  /** Of every feed that has rows here or was owned. */
  readonly feeds: FeedHeads = new Map();
  readonly #kept = new Map<string, KeptRow>();
  readonly #byFeed = new Map<string, KeptFeed>();
  readonly #byAlias = new Map<string, Set<string>>();
  readonly #byParent = new Map<string, Set<string>>();

  /** Does what an operation does to a disk; `rows` are those of a commit. */
  apply(change: HeadChange, rows: readonly KeptRow[] = []): void {
    for (const row of [...rows].sort(bySeq)) this.#put(row);
    if (change.type === 'drop') {
      for (const { row } of this.#of(change.feed_id)) this.#forget(row.uid);
      this.#byFeed.delete(change.feed_id);
    }
    if (change.type === 'sweep') {
      const swept = ({ row }: KeptRow) => row.record.kind === 'tombstone' && row.seq <= change.seq;
      for (const { row } of this.#of(change.feed_id).filter(swept)) this.#forget(row.uid);
    }
    changeHead(this.feeds, change);
  }

  watching(onRow: RowWatcher): Reader {
    const tell = (read: unknown) => {
      const found = read as { records?: { uid: string }[] } | { uid: string } | { uid: string }[] | undefined;
      const rows = found !== undefined && 'records' in found ? (found.records ?? []) : [found ?? []].flat();
      for (const { uid } of rows as { uid: string }[]) {
        const kept = this.#kept.get(uid);
        if (kept !== undefined) onRow(kept.row.feed_id, kept.row.seq);
      }
    };
    const reads = ['get', 'row', 'byAlias', 'copyByAlias', 'children', 'active', 'list'] as const;
    const watched = reads.map((name) => {
      const read = this[name].bind(this) as (...args: unknown[]) => Promise<unknown>;
      const tells = async (...args: unknown[]) => {
        const result = await read(...args);
        tell(result);
        return result;
      };
      return [name, tells];
    });
    return new Proxy(this, {
      get: (reader, name) => {
        const value = new Map(watched as [PropertyKey, unknown][]).get(name) ?? Reflect.get(reader, name);
        return typeof value === 'function' ? value.bind(reader) : value;
      },
    });
  }

  /** Commits land between events, and reads of rows in memory take none. */
  atOnce<T>(reads: (still: Reader) => Promise<T>): Promise<T> {
    return reads(this);
  }

  copy(): MemoryReader {
    const copied = new MemoryReader();
    for (const [feed_id, head] of this.feeds) copied.feeds.set(feed_id, head);
    for (const { rows } of this.#byFeed.values()) for (const kept of [...rows].sort(bySeq)) copied.#put(kept);
    return copied;
  }

  async get<K extends RecordKind>(kind: K, uid: string): Promise<Of<K> | undefined> {
    const kept = this.#kept.get(uid);
    return kept?.row.record.kind === kind ? copy<K>(kept) : undefined;
  }

  async row(uid: string): Promise<Row | undefined> {
    const kept = this.#kept.get(uid);
    return kept === undefined ? undefined : copyRow(kept);
  }

  async feedsOf(uids: readonly string[]): Promise<(string | null)[]> {
    return uids.map((uid) => this.#kept.get(uid)?.row.feed_id ?? null);
  }

  async byAlias<K extends RecordKind>(kind: K, alias: string): Promise<Of<K> | undefined> {
    const newest = this.#newest(kind, alias, true);
    return newest === undefined ? undefined : copy<K>(newest);
  }

  async copyByAlias(kind: 'workflow' | 'task', alias: string): Promise<Row | undefined> {
    const newest = this.#newest(kind, alias, false);
    return newest === undefined ? undefined : copyRow(newest);
  }

  async children<K extends RecordKind>(kind: K, parent: string): Promise<Of<K>[]> {
    return this.#named(this.#byParent.get(parent), kind)
      .sort(bySeq)
      .map(copy<K>);
  }

  async active<K extends RecordKind>(kind: K, feed_id: string): Promise<Of<K>[]> {
    const found = this.#of(feed_id).filter(
      ({ row, index: { status } }) => row.record.kind === kind && (status === null || !ended(status)),
    );
    const placed = (kept: KeptRow) => (kept.index.created_at === null ? kept.row.seq : 0);
    const order = (a: KeptRow, b: KeptRow) =>
      compare(a.index.created_at ?? '', b.index.created_at ?? '') ||
      placed(a) - placed(b) ||
      compare(a.row.uid, b.row.uid);
    return found.sort(order).map(copy<K>);
  }

  async hasOpen(feed_id: string): Promise<boolean> {
    for (const { row, index } of this.#byFeed.get(feed_id)?.rows ?? []) {
      const { kind } = row.record;
      if ((kind === 'workflow' || kind === 'task') && !isTerminal(index.status!)) return true;
    }
    return false;
  }

  async changes(feed_id: string, after: { seq: number; uid: string }, maxBytes: number): Promise<Row[]> {
    const page: Row[] = [];
    let bytes = '[]'.length;
    for (const kept of this.#after(feed_id, after)) {
      bytes += jsonBytes(kept) + (page.length === 0 ? 0 : ','.length);
      if (page.length > 0 && bytes > maxBytes) break;
      page.push(copyRow(kept));
    }
    return page;
  }

  async oldest(kind: 'workflow' | 'task', feed_id: string, before: string, limit: number): Promise<string[]> {
    const matching = this.#roots(kind, feed_id).filter(({ index: { created_at } }) => (created_at ?? before) < before);
    const page = matching.sort((a, b) => newestFirst(b, a)).slice(0, limit);
    return page.map(({ row }) => row.uid);
  }

  async countRoots(kind: 'workflow' | 'task', feed_id: string): Promise<number> {
    return this.#roots(kind, feed_id).length;
  }

  async parts(uid: string, after: string, limit: number): Promise<string[]> {
    const found: string[] = [];
    for (const { row } of this.#kept.values()) {
      if (row.uid.startsWith(`${uid}/`) && row.uid > after && row.record.kind !== 'tombstone') found.push(row.uid);
    }
    return found.sort(compare).slice(0, limit);
  }

  /** Terminal, and of no other record. */
  #roots(kind: RecordKind, feed_id: string): KeptRow[] {
    return this.#of(feed_id).filter(
      ({ row, index: { parent, status } }) => row.record.kind === kind && parent === null && isTerminal(status ?? ''),
    );
  }

  list(query: ListQuery & { kind: 'workflow' }): Promise<{ records: WorkflowRecord[]; total: number }>;
  list(query: ListQuery & { kind: 'task' }): Promise<{ records: TaskRecord[]; total: number }>;
  async list<K extends 'workflow' | 'task'>(
    query: ListQuery & { kind: K },
  ): Promise<{ records: Of<K>[]; total: number }> {
    const found = this.#where(query.kind, ({ row }) => matches(row.record as TaskRecord | WorkflowRecord, query));
    const page = found.sort(newestFirst).slice(query.offset, query.offset + query.limit);
    return { records: page.map(copy<K>), total: found.length };
  }

  async recentRoots<K extends 'workflow' | 'task'>(
    kind: K,
    since: string,
    among: number,
    isWanted: (alias: string) => boolean,
  ): Promise<Of<K>[]> {
    const recent = this.#where(kind, ({ index }) => (index.created_at ?? '') >= since);
    const isRoot = ({ index }: KeptRow) => index.parent === null && isWanted(index.alias ?? '');
    return recent
      .sort(newestFirst)
      .slice(0, among)
      .filter(isRoot)
      .map(copy<K>);
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

  /** Among the rows of owned feeds. */
  #where(kind: RecordKind, holds: (kept: KeptRow) => boolean): KeptRow[] {
    const found: KeptRow[] = [];
    for (const [feed_id, { owned }] of this.feeds) {
      if (!owned) continue;
      for (const kept of this.#byFeed.get(feed_id)?.rows ?? []) {
        if (kept.row.record.kind === kind && holds(kept)) found.push(kept);
      }
    }
    return found;
  }

  #newest(kind: RecordKind, alias: string, owned: boolean): KeptRow | undefined {
    const named = this.#named(this.#byAlias.get(alias), kind);
    return named.filter(({ row }) => this.feeds.get(row.feed_id)?.owned === owned).sort(newestFirst)[0];
  }

  #named(uids: Set<string> | undefined, kind: RecordKind): KeptRow[] {
    return [...(uids ?? [])].map((uid) => this.#kept.get(uid)!).filter(({ row }) => row.record.kind === kind);
  }

  #of(feed_id: string): KeptRow[] {
    return [...(this.#byFeed.get(feed_id)?.rows ?? [])];
  }

  /** By seq, then uid. Looks no further back than it must: followers ask for the end of the log all the time. */
  #after(feed_id: string, { seq, uid }: { seq: number; uid: string }): KeptRow[] {
    const { rows, log } = this.#byFeed.get(feed_id) ?? { rows: new Set(), log: [] };
    let start = log.length;
    while (start > 0 && log[start - 1]!.row.seq >= seq) start -= 1;
    const isAfter = ({ row }: KeptRow) => row.seq > seq || row.uid > uid;
    return log
      .slice(start)
      .filter((kept) => rows.has(kept) && isAfter(kept))
      .sort(bySeq);
  }

  #put(kept: KeptRow): void {
    const { row, index } = kept;
    this.#forget(row.uid);
    this.#kept.set(row.uid, kept);
    this.#putInFeed(kept);
    if (index.alias !== null) entry(this.#byAlias, index.alias).add(row.uid);
    if (index.parent !== null) entry(this.#byParent, index.parent).add(row.uid);
  }

  #putInFeed(kept: KeptRow): void {
    const feed = this.#byFeed.get(kept.row.feed_id) ?? { rows: new Set(), log: [] };
    this.#byFeed.set(kept.row.feed_id, feed);
    feed.rows.add(kept);
    feed.log.push(kept);
    if (feed.log.length > 2 * feed.rows.size) feed.log = feed.log.filter((one) => feed.rows.has(one));
  }

  #forget(uid: string): void {
    const kept = this.#kept.get(uid);
    if (kept === undefined) return;
    this.#kept.delete(uid);
    this.#byFeed.get(kept.row.feed_id)?.rows.delete(kept);
    if (kept.index.alias !== null) this.#byAlias.get(kept.index.alias)?.delete(uid);
    if (kept.index.parent !== null) this.#byParent.get(kept.index.parent)?.delete(uid);
  }
}

function entry(index: Map<string, Set<string>>, key: string): Set<string> {
  const known = index.get(key) ?? new Set();
  index.set(key, known);
  return known;
}

function copy<K extends RecordKind>({ json }: KeptRow): Of<K> {
  return JSON.parse(json) as Of<K>;
}

function copyRow(kept: KeptRow): Row {
  return { ...kept.row, record: copy(kept) };
}

/** In UTF-8, as a `Row` without its text. */
function jsonBytes({ row: { uid, feed_id, epoch, seq }, json }: KeptRow): number {
  return Buffer.byteLength(JSON.stringify({ uid, feed_id, epoch, seq, record: 0 })) - 1 + Buffer.byteLength(json);
}

function bySeq(a: KeptRow, b: KeptRow): number {
  return a.row.seq - b.row.seq || compare(a.row.uid, b.row.uid);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function newestFirst(a: KeptRow, b: KeptRow): number {
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
    (query.parent === undefined || indexOf(record).parent === query.parent) &&
    (query.worker_id === undefined || task?.worker_id === query.worker_id) &&
    (query.peer_id === undefined || task?.peer_id === query.peer_id) &&
    (query.submitted_by === undefined || record.submitted_by === query.submitted_by) &&
    (query.priority_min === undefined || record.priority >= query.priority_min) &&
    (query.dead_letter === undefined || (task?.dead_letter ?? false) === query.dead_letter) &&
    (query.tags ?? []).every((tag) => record.tags.includes(tag))
  );
}
