/**
 * Timers for wall-clock times: the end of a delay, a backoff or a `sleep`, and deadlines. They can be set anew after a
 * restart because `due_at` and `deadline_at` are in the task's record. One timer of the clock serves all of them.
 */
import sortedBTree from 'sorted-btree';
import type { Clock } from '../ports.ts';

// A CommonJS package: its class is the `default` of what Node hands over.
const BTree = sortedBTree.default;

/** The wall clock can jump (a machine slept, the time was set), so no timer is set for longer than this. */
const RECHECK_MS = 10_000;
/** Keys told in one event; the rest follow in the next, so that many at once do not stall the loop (P7). */
const DUE_AT_ONCE_MAX = 1_000;

type DueKey = [wallMs: number, key: string];

/** Keys, each with the wall-clock time at which it is told. */
export class TimerQueue {
  readonly #clock: Clock;
  readonly #onDue: (key: string) => void;
  readonly #order = new BTree<DueKey, string>(
    undefined,
    (a, b) => a[0] - b[0] || (a[1] < b[1] ? -1 : a[1] > b[1] ? 1 : 0),
  );
  readonly #keys = new Map<string, DueKey>();
  #cancelTimer: (() => void) | null = null;
  #armedFor = Number.POSITIVE_INFINITY;

  /** @param onDue called once for each key, never before its time; the key may be set again in it */
  constructor(clock: Clock, onDue: (key: string) => void) {
    this.#clock = clock;
    this.#onDue = onDue;
  }

  /** `key` is due at `wallMs`; replaces its earlier time. */
  set(key: string, wallMs: number): void {
    this.delete(key);
    const entry: DueKey = [wallMs, key];
    this.#order.set(entry, key);
    this.#keys.set(key, entry);
    if (wallMs < this.#armedFor) this.#arm();
  }

  delete(key: string): void {
    const entry = this.#keys.get(key);
    if (entry === undefined) return;
    this.#keys.delete(key);
    this.#order.delete(entry);
  }

  clear(): void {
    this.#order.clear();
    this.#keys.clear();
    this.#cancelTimer?.();
    this.#cancelTimer = null;
    this.#armedFor = Number.POSITIVE_INFINITY;
  }

  #arm(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = null;
    this.#armedFor = Number.POSITIVE_INFINITY;
    const first = this.#order.minKey();
    if (first === undefined) return;
    this.#armedFor = first[0];
    const delay = Math.min(Math.max(first[0] - this.#clock.wall(), 0), RECHECK_MS);
    this.#cancelTimer = this.#clock.after(delay, () => this.#fire());
  }

  #fire(): void {
    this.#cancelTimer = null;
    this.#armedFor = Number.POSITIVE_INFINITY;
    const now = this.#clock.wall();
    for (let told = 0; told < DUE_AT_ONCE_MAX; told++) {
      const first = this.#order.minKey();
      if (first === undefined || first[0] > now) break;
      this.delete(first[1]);
      this.#onDue(first[1]);
    }
    if (this.#cancelTimer === null) this.#arm();
  }
}
