/**
 * The tasks of one owner that are ready for a worker: higher priority first, then the older one.
 *
 * Tasks that need the same (action and `requires`) form a class with an order of its own, so that one task that no
 * worker can run never makes the dispatcher look at the thousands behind it.
 */
import sortedBTree from 'sorted-btree';
import type { Requires } from '../dag/schema.ts';
import type { OfferClass } from './messages.ts';
import { Ranking } from './ranking.ts';
import type { TaskRecord } from './records.ts';

// A CommonJS package: its class is the `default` of what Node hands over.
const BTree = sortedBTree.default;

export interface QueueKey {
  uid: string;
  priority: number;
  created_at: string;
}

/** The order of the queue; the store's `queuePosition` counts by the same. */
export function compareQueueKeys(a: QueueKey, b: QueueKey): number {
  if (a.priority !== b.priority) return b.priority - a.priority;
  if (a.created_at !== b.created_at) return a.created_at < b.created_at ? -1 : 1;
  return a.uid < b.uid ? -1 : a.uid > b.uid ? 1 : 0;
}

export interface TaskClass {
  key: string;
  action: string;
  requires: Requires;
  /** First in the queue first. */
  tasks: InstanceType<typeof BTree<QueueKey, string>>;
}

/** A class and its first task. */
export interface ClassHead {
  of: TaskClass;
  head: QueueKey;
}

export class Queue {
  private readonly classes = new Map<string, TaskClass>();
  private readonly keys = new Map<string, { key: QueueKey; of: TaskClass }>();
  /** The classes by their first task: how many there are must not show in the cost of a dispatch (P7). */
  private readonly order = new BTree<QueueKey, TaskClass>(undefined, compareQueueKeys);
  private readonly ranking = new Ranking<QueueKey>(compareQueueKeys);

  get size(): number {
    return this.keys.size;
  }

  add(task: TaskRecord): void {
    this.remove(task.uid);
    const of = this.classOf(task);
    const key = { uid: task.uid, priority: task.priority, created_at: task.created_at };
    this.change(of, () => of.tasks.set(key, task.uid));
    this.ranking.add(key);
    this.keys.set(task.uid, { key, of });
  }

  remove(uid: string): boolean {
    const entry = this.keys.get(uid);
    if (entry === undefined) return false;
    const { key, of } = entry;
    this.keys.delete(uid);
    this.ranking.delete(key);
    this.change(of, () => of.tasks.delete(key));
    if (of.tasks.size === 0) this.classes.delete(of.key);
    return true;
  }

  private classOf(task: TaskRecord): TaskClass {
    const key = this.classKeyOf(task);
    const known = this.classes.get(key);
    if (known !== undefined) return known;
    const { task_type: action, requires } = task;
    const of = { key, action, requires, tasks: new BTree<QueueKey, string>(undefined, compareQueueKeys) };
    this.classes.set(key, of);
    return of;
  }

  /** Keeps the order of the classes while one of them changes. */
  private change(of: TaskClass, work: () => void): void {
    const before = of.tasks.minKey();
    work();
    const after = of.tasks.minKey();
    if (before === after) return;
    if (before !== undefined) this.order.delete(before);
    if (after !== undefined) this.order.set(after, of);
  }

  /** Tasks with the same key can run on the same workers. */
  classKeyOf(task: TaskRecord): string {
    return classKeyOf(task);
  }

  has(uid: string): boolean {
    return this.keys.has(uid);
  }

  /** At most `max` classes, the one with the first task of all first; only those after `after` when it is given. */
  heads(max: number, after?: QueueKey): ClassHead[] {
    const heads: ClassHead[] = [];
    const entries = this.order.entries(after);
    for (const [head, of] of entries) {
      if (heads.length === max) break;
      if (after === undefined || compareQueueKeys(head, after) > 0) heads.push({ of, head });
    }
    return heads;
  }

  /** How many tasks are before this one, or null when it is not queued. */
  position(uid: string): number | null {
    const entry = this.keys.get(uid);
    return entry === undefined ? null : this.ranking.rank(entry.key);
  }

  /**
   * Puts the waiting tasks where their priorities of now belong.
   * @param current the record of a queued task
   * @returns true when one of them had to move
   */
  reorder(current: (uid: string) => TaskRecord): boolean {
    let changed = false;
    for (const [uid, { key }] of [...this.keys]) {
      const record = current(uid);
      if (record.priority === key.priority) continue;
      const before = this.position(uid);
      this.add(record);
      changed ||= this.position(uid) !== before;
    }
    return changed;
  }

  uids(): string[] {
    return [...this.keys.keys()];
  }

  clear(): void {
    for (const uid of this.uids()) this.remove(uid);
  }

  /** What waits, for beats and offers: at most `max` classes, the most urgent first. */
  waiting(max: number): OfferClass[] {
    return this.heads(max).map(({ of, head }) => ({
      action: of.action,
      requires: of.requires,
      count: of.tasks.size,
      max_priority: head.priority,
    }));
  }
}

function classKeyOf(task: TaskRecord): string {
  const { labels, cpu_cores, memory_gb, peers } = task.requires;
  return JSON.stringify([task.task_type, [...labels].sort(), cpu_cores ?? 0, memory_gb ?? 0, [...peers].sort()]);
}
