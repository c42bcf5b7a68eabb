/**
 * Tasks and workflows that wait for others. What ends on this peer is told at once; what is not known to live on it is
 * asked for with a batched `locate` every DEPENDENCY_POLL_MS, until it is found to have ended or to have come here.
 */
import { DEPENDENCY_POLL_MS, LOCATE_ITEMS_MAX } from '../limits.ts';
import type { Locator } from '../lookup/locator.ts';
import type { Alias } from '../messages.ts';
import type { Clock, Log } from '../ports.ts';
import { isTerminal } from '../records.ts';
import { aliasKey } from '../storage/aliases.ts';

/** The records of this peer that may wait for others. */
export interface Dependents {
  /** Whether a record has not ended and is this peer's: its end will be told. */
  isLive(alias: Alias): boolean;
  /** What a record waits for has ended. */
  unblock(kind: Alias['kind'], dependent: string, id: string, status: string): void;
}

interface Awaited {
  alias: Alias;
  /** Uids that wait for it. */
  dependents: Set<string>;
}

export class Dependencies {
  readonly #clock: Clock;
  readonly #locator: Locator;
  readonly #log: Log;
  readonly #dependents: Dependents;
  /** By `kind/id`. */
  readonly #awaited = new Map<string, Awaited>();
  /** Those of them that may live on other peers, the one asked for longest ago first. */
  readonly #remote = new Map<string, Awaited>();
  #cancelPoll: (() => void) | null = null;
  #polling = false;

  constructor(components: { clock: Clock; locator: Locator; log: Log; dependents: Dependents }) {
    this.#clock = components.clock;
    this.#locator = components.locator;
    this.#log = components.log;
    this.#dependents = components.dependents;
  }

  /** How many are waited for. */
  get size(): number {
    return this.#awaited.size;
  }

  /** What is not this peer's, or has ended here and is only on its way to the disk, is asked for. */
  add(alias: Alias, dependent: string): void {
    const key = aliasKey(alias);
    const entry = this.#awaited.get(key) ?? { alias, dependents: new Set() };
    this.#awaited.set(key, entry);
    entry.dependents.add(dependent);
    if (this.#dependents.isLive(alias)) return;
    this.#remote.set(key, entry);
    this.#pollLater();
  }

  /** A feed has another owner, or a record another id: what was of this peer may not be. Everything is looked for. */
  doubt(): void {
    for (const [key, entry] of this.#awaited) this.#remote.set(key, entry);
    this.#pollLater();
  }

  /** A record of this peer, or one that was asked for, has ended. */
  ended(alias: Alias, status: string): void {
    const key = aliasKey(alias);
    const entry = this.#awaited.get(key);
    if (entry === undefined) return;
    this.#delete(key);
    for (const dependent of entry.dependents) this.#dependents.unblock(alias.kind, dependent, alias.id, status);
  }

  /** One that waited has ended itself. */
  forget(kind: Alias['kind'], ids: readonly string[], dependent: string): void {
    for (const id of ids) {
      const key = aliasKey({ kind, id });
      const entry = this.#awaited.get(key);
      if (entry?.dependents.delete(dependent) === true && entry.dependents.size === 0) this.#delete(key);
    }
  }

  #delete(key: string): void {
    this.#awaited.delete(key);
    this.#remote.delete(key);
  }

  clear(): void {
    this.#awaited.clear();
    this.#remote.clear();
    this.#cancelPoll?.();
    this.#cancelPoll = null;
  }

  #pollLater(): void {
    if (this.#polling || this.#remote.size === 0) return;
    this.#cancelPoll ??= this.#clock.after(DEPENDENCY_POLL_MS, () => {
      this.#cancelPoll = null;
      void this.#poll();
    });
  }

  /** Never rejects: a peer that does not answer is one that does not know. */
  async #poll(): Promise<void> {
    for (const [key, { alias }] of this.#remote) if (this.#dependents.isLive(alias)) this.#remote.delete(key);
    if (this.#remote.size === 0) return;
    this.#polling = true;
    const asked = [...this.#remote].slice(0, LOCATE_ITEMS_MAX); // the rest next time
    for (const [key, entry] of asked) {
      this.#remote.delete(key);
      this.#remote.set(key, entry);
    }
    const aliases = asked.map(([, { alias }]) => alias);
    const found = await this.#locator.statusesOf(aliases);
    this.#polling = false;
    for (const [position, alias] of aliases.entries()) {
      const status = found[position] ?? null;
      if (status === null)
        this.#log.debug({ alias }, 'no connected peer knows this dependency now; it is asked for again');
      else if (isTerminal(status)) this.ended(alias, status);
    }
    this.#pollLater();
  }
}
