/**
 * The tasks of one owner that are ready for a worker: higher priority first, then the older task.
 *
 * Tasks that need the same (action and `requires`) form a class with an order of its own, so that one task that no
 * worker can run never makes the dispatcher look at the thousands behind it.
 *
 * At equal priority callers take turns, however many tasks each of them has (stride scheduling, Waldspurger 1995): every
 * task that is given out moves its caller on by one stride, and the caller that has come least far is next. One that comes
 * anew begins where the others are. So a class has tasks of one caller only.
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
  /** The same for classes of all callers. */
  key: string;
  /** Whose its tasks are; empty for nobody's. */
  caller: string;
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

/** One caller that has tasks here. */
interface Turns {
  /** How far it has come: the strides of its tasks that were given out. */
  passed: number;
  /** Its classes by their first task. */
  readonly order: InstanceType<typeof BTree<QueueKey, TaskClass>>;
}

/** Tasks by uid, in the order in which they are to be given out. */
export class Queue {
  readonly #weights: ReadonlyMap<string, number>;
  /** Those that were served last are at the end. */
  readonly #callers = new Map<string, Turns>();
  /** How far the caller had come that was served last. */
  #passed = 0;
  readonly #classes = new Map<string, TaskClass>();
  readonly #keys = new Map<string, { key: QueueKey; of: TaskClass }>();
  /** The classes by their first task: the cost of a dispatch must not grow with their number (P7). */
  readonly #order = new BTree<QueueKey, TaskClass>(undefined, compareQueueKeys);
  readonly #ranking = new Ranking<QueueKey>(compareQueueKeys);

  /** @param weights of callers, above 0: one of weight 2 gets two turns for each turn of others. Default: 1 each */
  constructor(weights: ReadonlyMap<string, number> = new Map()) {
    this.#weights = weights;
  }

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
    if (of.tasks.size === 0) this.#classes.delete(classIdOf(of));
    return true;
  }

  #classOf(task: TaskRecord, { needs, barred }: TaskKind): TaskClass {
    const key = this.classKeyOf(task, { needs, barred });
    const caller = task.submitted_by ?? '';
    const id = classIdOf({ key, caller });
    const known = this.#classes.get(id);
    if (known !== undefined) return known;
    const { task_type: action, requires, prefer } = task;
    const tasks = new BTree<QueueKey, string>(undefined, compareQueueKeys);
    const wanted = { action, requires, needs, prefer: prefer ?? NOTHING, barred };
    const of: TaskClass = { key, caller, ...wanted, nobody: null, tasks };
    this.#classes.set(id, of);
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
    const turns = this.#turnsOf(of.caller);
    for (const order of [this.#order, turns.order]) {
      if (before !== undefined) order.delete(before);
      if (after !== undefined) order.set(after, of);
    }
    if (turns.order.size === 0) this.#callers.delete(of.caller);
  }

  #turnsOf(caller: string): Turns {
    const known = this.#callers.get(caller);
    if (known !== undefined) return known;
    const made: Turns = { passed: this.#passed, order: new BTree<QueueKey, TaskClass>(undefined, compareQueueKeys) };
    this.#callers.set(caller, made);
    return made;
  }

  /** A task of the class is about to be given out: it was its caller's turn. */
  served({ caller }: TaskClass): void {
    const turns = this.#callers.get(caller);
    if (turns === undefined) return;
    this.#passed = Math.max(this.#passed, turns.passed);
    turns.passed += 1 / (this.#weights.get(caller) ?? 1);
    this.#callers.delete(caller);
    this.#callers.set(caller, turns);
  }

  /** Takes out of `heads`, which are in the order of the queue, the one whose turn it is. */
  takeNext(heads: ClassHead[]): ClassHead {
    if (this.#callers.size < 2) return heads.shift()!;
    let next = 0;
    for (let at = 1; at < heads.length; at++) if (this.#isBefore(heads[at]!, heads[next]!)) next = at;
    return heads.splice(next, 1)[0]!;
  }

  #isBefore(a: ClassHead, b: ClassHead): boolean {
    if (a.head.priority !== b.head.priority) return a.head.priority > b.head.priority;
    const [mine, theirs] = [a, b].map(({ of }) => this.#callers.get(of.caller)?.passed ?? this.#passed);
    return mine === theirs ? compareQueueKeys(a.head, b.head) < 0 : mine! < theirs!;
  }

  /** The first class of each caller: of at most `max` callers, those that were not served for longest. */
  firstOfCallers(max: number): ClassHead[] {
    const heads: ClassHead[] = [];
    for (const { order } of this.#callers.values()) {
      if (heads.length === max) break;
      const head = order.minKey()!;
      heads.push({ of: order.get(head)!, head });
    }
    return heads;
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
    const waiting = new Map<string, OfferClass>();
    for (const { of, head } of this.heads(max)) {
      const known = waiting.get(of.key);
      if (known !== undefined) {
        known.count += of.tasks.size; // those of another caller
        continue;
      }
      waiting.set(of.key, {
        action: of.action,
        requires: of.requires,
        ...(of.needs.length > 0 && { needs: [...of.needs] }),
        count: of.tasks.size,
        max_priority: head.priority,
      });
    }
    return [...waiting.values()];
  }
}

function classIdOf({ key, caller }: Pick<TaskClass, 'key' | 'caller'>): string {
  return `${caller}\n${key}`;
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
