/**
 * The tasks of one owner that are ready for a worker: higher priority first, then the older one.
 *
 * Tasks that need the same (action and `requires`) form a class with an order of its own, so that one task that no
 * worker can run never makes the dispatcher look at the thousands behind it.
 */
import sortedBTree from 'sorted-btree';
import type { Requires } from '../dag/schema.ts';
import type { OfferClass } from './messages.ts';
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

export class Queue {
  private readonly classes = new Map<string, TaskClass>();
  private readonly keys = new Map<string, { key: QueueKey; of: TaskClass }>();

  get size(): number {
    return this.keys.size;
  }

  add(task: TaskRecord): void {
    this.remove(task.uid);
    const classKey = this.classKeyOf(task);
    let of = this.classes.get(classKey);
    if (of === undefined) {
      of = {
        key: classKey,
        action: task.task_type,
        requires: task.requires,
        tasks: new BTree(undefined, compareQueueKeys),
      };
      this.classes.set(classKey, of);
    }
    const key = { uid: task.uid, priority: task.priority, created_at: task.created_at };
    of.tasks.set(key, task.uid);
    this.keys.set(task.uid, { key, of });
  }

  remove(uid: string): boolean {
    const entry = this.keys.get(uid);
    if (entry === undefined) return false;
    this.keys.delete(uid);
    entry.of.tasks.delete(entry.key);
    if (entry.of.tasks.size === 0) this.classes.delete(entry.of.key);
    return true;
  }

  /** Tasks with the same key can run on the same workers. */
  classKeyOf(task: TaskRecord): string {
    return classKeyOf(task);
  }

  has(uid: string): boolean {
    return this.keys.has(uid);
  }

  /** The classes, the one with the first task of all first. */
  heads(): { of: TaskClass; head: QueueKey }[] {
    const heads: { of: TaskClass; head: QueueKey }[] = [];
    for (const of of this.classes.values()) {
      const head = of.tasks.minKey();
      if (head !== undefined) heads.push({ of, head });
    }
    return heads.sort((a, b) => compareQueueKeys(a.head, b.head));
  }

  /** How many tasks are before this one, or null when it is not queued. */
  position(uid: string): number | null {
    const entry = this.keys.get(uid);
    if (entry === undefined) return null;
    let before = 0;
    for (const { tasks } of this.classes.values()) {
      const head = tasks.minKey();
      if (head === undefined) continue;
      before += tasks.forRange(head, entry.key, false, undefined);
    }
    return before;
  }

  uids(): string[] {
    return [...this.keys.keys()];
  }

  /** What waits, for beats and offers: at most `max` classes, the most urgent first. */
  waiting(max: number): OfferClass[] {
    return this.heads()
      .slice(0, max)
      .map(({ of, head }) => ({
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
