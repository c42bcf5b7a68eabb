/**
 * The tasks of one owner that are ready for a worker: higher priority first, then the older task.
 *
 * Tasks that need the same (action and `requires`) form a class with an order of its own, so that one task that no
 * worker can run never makes the dispatcher look at the thousands behind it.
 */
import sortedBTree from 'sorted-btree';
import type { Wanted } from '../capabilities.ts';
import type { OfferClass } from '../messages.ts';
import type { TaskRecord } from '../records.ts';
import { Ranking } from './ranking.ts';

// A CommonJS package: its class is the `default` of what Node hands over.
const BTree = sortedBTree.default;

export interface QueueKey {
  uid: string;
  priority: number;
  created_at: string;
}

/** The order of the queue; the store's `queuePosition` counts in the same order. */
export function compareQueueKeys(a: QueueKey, b: QueueKey): number {
  if (a.priority !== b.priority) return b.priority - a.priority;
  if (a.created_at !== b.created_at) return a.created_at < b.created_at ? -1 : 1;
  return a.uid < b.uid ? -1 : a.uid > b.uid ? 1 : 0;
}

/** What defines a class besides the records of its tasks. */
export type TaskKind = Pick<Wanted, 'needs' | 'barred'>;

export interface TaskClass extends Wanted {
  key: string;
  /** Set while no connected worker can run the class. */
  nobody: Nobody | null;
  /** In the order of the queue. */
  tasks: InstanceType<typeof BTree<QueueKey, string>>;
}

/** That nobody can run a class of tasks, and why. Times are monotonic. */
export interface Nobody {
  since: number;
  reason: string;
  /** When that was found out. */
  looked_at: number;
  /** Since when policy is the only reason, and whose (names of peers); null when something else is missing. */
  refused: { since: number; by: readonly string[] } | null;
}

const NOTHING: readonly string[] = [];
const PLAIN: TaskKind = { needs: NOTHING, barred: NOTHING };

/** A class and its first task. */
export interface ClassHead {
  of: TaskClass;
  head: QueueKey;
}

/** Tasks by uid, in the order in which they are to be given out. */
export class Queue {
  readonly #classes = new Map<string, TaskClass>();
  readonly #keys = new Map<string, { key: QueueKey; of: TaskClass }>();
  /** The classes by their first task: the cost of a dispatch must not grow with their number (P7). */
  readonly #order = new BTree<QueueKey, TaskClass>(undefined, compareQueueKeys);
  readonly #ranking = new Ranking<QueueKey>(compareQueueKeys);

  get size(): number {
    return this.#keys.size;
  }

  add(task: TaskRecord, kind: TaskKind = PLAIN): void {
    this.remove(task.uid);
    const of = this.#classOf(task, kind);
    const key = { uid: task.uid, priority: task.priority, created_at: task.created_at };
    this.#change(of, () => of.tasks.set(key, task.uid));
    this.#ranking.add(key);
    this.#keys.set(task.uid, { key, of });
  }

  remove(uid: string): boolean {
    const entry = this.#keys.get(uid);
    if (entry === undefined) return false;
    const { key, of } = entry;
    this.#keys.delete(uid);
    this.#ranking.delete(key);
    this.#change(of, () => of.tasks.delete(key));
    if (of.tasks.size === 0) this.#classes.delete(of.key);
    return true;
  }

  #classOf(task: TaskRecord, { needs, barred }: TaskKind): TaskClass {
    const key = this.classKeyOf(task, { needs, barred });
    const known = this.#classes.get(key);
    if (known !== undefined) return known;
    const { task_type: action, requires, prefer } = task;
    const tasks = new BTree<QueueKey, string>(undefined, compareQueueKeys);
    const of: TaskClass = { key, action, requires, needs, prefer: prefer ?? NOTHING, barred, nobody: null, tasks };
    this.#classes.set(key, of);
    return of;
  }

  /** The class of a waiting task. */
  classOfWaiting(uid: string): TaskClass | undefined {
    return this.#keys.get(uid)?.of;
  }

  /** Keeps the order of the classes while one of them changes. */
  #change(of: TaskClass, work: () => void): void {
    const before = of.tasks.minKey();
    work();
    const after = of.tasks.minKey();
    if (before === after) return;
    if (before !== undefined) this.#order.delete(before);
    if (after !== undefined) this.#order.set(after, of);
  }

  /** Tasks with the same key can run on the same workers. */
  classKeyOf(task: TaskRecord, kind: TaskKind = PLAIN): string {
    return classKeyOf(task, kind);
  }

  has(uid: string): boolean {
    return this.#keys.has(uid);
  }

  /** At most `max` classes, the one with the first task of all first; only those after `after` when it is given. */
  heads(max: number, after?: QueueKey): ClassHead[] {
    const heads: ClassHead[] = [];
    const entries = this.#order.entries(after);
    for (const [head, of] of entries) {
      if (heads.length === max) break;
      if (after === undefined || compareQueueKeys(head, after) > 0) heads.push({ of, head });
    }
    return heads;
  }

  /** How many tasks are before this one, or null when it is not queued. */
  position(uid: string): number | null {
    const entry = this.#keys.get(uid);
    return entry === undefined ? null : this.#ranking.rank(entry.key);
  }

  /**
   * Moves the waiting tasks to where their current priorities belong.
   * @param current returns the record of a queued task
   * @returns true when a task had to move
   */
  reorder(current: (uid: string) => TaskRecord): boolean {
    let changed = false;
    for (const [uid, { key, of }] of [...this.#keys]) {
      const record = current(uid);
      if (record.priority === key.priority) continue;
      const before = this.position(uid);
      this.add(record, of);
      changed ||= this.position(uid) !== before;
    }
    return changed;
  }

  uids(): string[] {
    return [...this.#keys.keys()];
  }

  clear(): void {
    for (const uid of this.uids()) this.remove(uid);
  }

  /** What waits, for beats and offers: at most `max` classes, the most urgent first. */
  waiting(max: number): OfferClass[] {
    return this.heads(max).map(({ of, head }) => ({
      action: of.action,
      requires: of.requires,
      ...(of.needs.length > 0 && { needs: [...of.needs] }),
      count: of.tasks.size,
      max_priority: head.priority,
    }));
  }
}

function classKeyOf(task: TaskRecord, { needs, barred }: TaskKind): string {
  const { labels, cpu_cores, memory_gb, peers } = task.requires;
  const wished = sorted(task.prefer ?? NOTHING);
  // The first task of a class speaks for all of it: how long each may wait for a worker has to be the same.
  const numbers = [cpu_cores ?? 0, memory_gb ?? 0, task.wait_timeout_ms ?? 0];
  return JSON.stringify([task.task_type, sorted(labels), numbers, sorted(peers), needs, wished, barred]);
}

function sorted(words: readonly string[]): readonly string[] {
  return words.length < 2 ? words : [...words].sort();
}
