/**
 * Simulated time and chance: an event loop whose every step comes from one seed.
 *
 * After each event all promise reactions run before the next event, so that a run with the same seed takes the same
 * path. Nothing of the real world is read.
 */
import { setImmediate as turn } from 'node:timers/promises';
import BTreeModule from 'sorted-btree';
import type { Clock, Log, Random } from '../../scheduler/ports.ts';

const BTree = BTreeModule.default;

/** 2026-01-01T00:00:00Z: any fixed time will do. */
const EPOCH_WALL_MS = 1_767_225_600_000;

/** xorshift128+, seeded by splitmix32: small, and the same on every machine. */
export class SeededRandom implements Random {
  #a: number;
  #b: number;
  #c: number;
  #d: number;

  constructor(seed: number) {
    let state = seed >>> 0;
    const split = () => {
      state = (state + 0x9e3779b9) >>> 0;
      let z = state;
      z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
      z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
      return (z ^ (z >>> 16)) >>> 0;
    };
    this.#a = split();
    this.#b = split();
    this.#c = split();
    this.#d = split() | 1;
  }

  /** sfc32. */
  next(): number {
    const t = (this.#a + this.#b + this.#d) >>> 0;
    this.#d = (this.#d + 1) >>> 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) >>> 0;
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + t) >>> 0;
    return t / 4_294_967_296;
  }

  id(length: number): string {
    const digits = '0123456789abcdefghijklmnopqrstuv';
    let text = '';
    for (let i = 0; i < length; i++) text += digits[Math.floor(this.next() * 32)];
    return text;
  }

  /** Uniform in [from, to). */
  between(from: number, to: number): number {
    return from + this.next() * (to - from);
  }

  /** A whole number in [0, below). */
  below(below: number): number {
    return Math.floor(this.next() * below);
  }

  chance(probability: number): boolean {
    return this.next() < probability;
  }

  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)]!;
  }

  shuffled<T>(items: readonly T[]): T[] {
    return items
      .map((item) => ({ item, place: this.next() }))
      .sort((a, b) => a.place - b.place)
      .map(({ item }) => item);
  }
}

type EventKey = [at: number, order: number];

/** Between them the event loop of Node has a turn: a test's time limit, for one, must be able to end a run. */
const STEPS_PER_TURN = 1_000;

export class World {
  readonly random: SeededRandom;
  readonly trace: string[] | null;
  now = 0;
  steps = 0;
  #order = 0;
  readonly #events = new BTree<EventKey, () => void>(undefined, (a, b) => a[0] - b[0] || a[1] - b[1]);

  constructor(seed: number, options: { trace?: boolean } = {}) {
    this.random = new SeededRandom(seed);
    this.trace = options.trace === true ? [] : null;
  }

  /** @param what the text, or what makes it where it is work */
  note(what: string | (() => string)): void {
    this.trace?.push(`${this.now.toFixed(3).padStart(12)} ${typeof what === 'string' ? what : what()}`);
  }

  at(delayMs: number, event: () => void): () => void {
    const key: EventKey = [this.now + Math.max(delayMs, 0), this.#order++];
    this.#events.set(key, event);
    return () => {
      this.#events.delete(key);
    };
  }

  /** Runs events until `done` holds or `untilMs` is reached; true when `done` held. */
  async run(untilMs: number, done: () => boolean = () => false): Promise<boolean> {
    await settled();
    for (;;) {
      if (done()) return true;
      const key = this.#events.minKey();
      if (key === undefined || key[0] > untilMs) {
        this.now = Math.max(this.now, Math.min(untilMs, key === undefined ? untilMs : key[0]));
        return done();
      }
      const event = this.#events.get(key)!;
      this.#events.delete(key);
      this.now = key[0];
      this.steps++;
      event();
      await settled();
      if (this.steps % STEPS_PER_TURN === 0) await turn();
    }
  }
}

/** All promise reactions have run. A tick that is asked for in one of them comes after all of them. */
async function settled(): Promise<void> {
  await null;
  await new Promise<void>((resolve) => process.nextTick(resolve));
}

/** A peer's clock: of its own rate, silent once its process is gone, and the process's own end of a hold (P11). */
export class SimulatedClock implements Clock {
  readonly #world: World;
  readonly #rate: number;
  #alive = true;
  #heldUntil = 0;
  /** What reaches the process while it is held. */
  #waiting: (() => void)[] = [];

  constructor(world: World, rate: number) {
    this.#world = world;
    this.#rate = rate;
  }

  now(): number {
    return this.#world.now * this.#rate;
  }

  wall(): number {
    return EPOCH_WALL_MS + Math.floor(this.#world.now);
  }

  after(delayMs: number, callback: () => void): () => void {
    return this.#at(delayMs / this.#rate, callback);
  }

  defer(callback: () => void): void {
    this.#at(0, callback);
  }

  #at(delayMs: number, callback: () => void): () => void {
    let cancel = this.#world.at(delayMs, () => {
      if (!this.#alive) return;
      const heldMs = this.#heldUntil - this.#world.now;
      if (heldMs > 0) cancel = this.#at(heldMs, callback);
      else callback();
    });
    return () => cancel();
  }

  get isHeld(): boolean {
    return this.#heldUntil > this.#world.now;
  }

  /** Runs what reaches the process from outside: now, when it goes on after a hold, or never once it is gone. */
  whenAwake(arrive: () => void): void {
    if (!this.#alive) return;
    if (this.isHeld || this.#waiting.length > 0) this.#waiting.push(arrive);
    else arrive();
  }

  /**
   * The process is stopped for a while, as by SIGSTOP or a machine that sleeps: what is due or arrives meanwhile
   * happens when it goes on.
   *
   * @param messagesFirst what arrived comes before the timers that are due, else after them
   */
  sleep(ms: number, messagesFirst = false): void {
    this.#heldUntil = Math.max(this.#heldUntil, this.#world.now + ms);
    const goOn = () => {
      if (this.isHeld || !this.#alive) return; // held once more meanwhile, or killed
      const waiting = this.#waiting;
      this.#waiting = [];
      for (const arrive of waiting) arrive();
    };
    this.#world.at(ms, () => (messagesFirst ? goOn() : this.#world.at(0, goOn)));
  }

  kill(): void {
    this.#alive = false;
    this.#waiting = [];
  }
}

export const quiet: Log = { info() {}, warn() {}, error() {}, debug() {} };

/** Log lines become part of the trace. */
export function tracing(world: World, name: string): Log {
  if (world.trace === null) return quiet;
  const note = (level: string) => (fields: object, message: string) =>
    world.note(`${name} ${level} ${message} ${JSON.stringify(fields, errorsAsText)}`);
  return { info: note('info'), warn: note('warn'), error: note('error'), debug: note('debug') };
}

function errorsAsText(_key: string, value: unknown): unknown {
  return value instanceof Error ? value.message : value;
}
