/**
 * Tasks and workflows that wait for others. A record of this peer unblocks those that wait for it at once when it ends.
 * For every other record this peer asks the mesh with a batched `locate` every DEPENDENCY_POLL_MS, until the answer is
 * that the record has ended, or the record has come here.
 */
import { DEPENDENCY_POLL_MS, LOCATE_ITEMS_MAX } from '../limits.ts';
import type { Locator } from '../lookup/locator.ts';
import type { Alias } from '../messages.ts';
import type { Clock, Log } from '../ports.ts';
import { isTerminal } from '../records.ts';
import { aliasKey } from '../storage/aliases.ts';

/** The records of this peer, of which some may wait for others. */
export interface Dependents {
  /** Whether a record is this peer's and has not ended, so that `ended` will be called for it. */
  isLive(alias: Alias): boolean;
  /**
   * The record `id` has ended with `status`.
   * @param dependent uid of the record that waits for it
   */
  unblock(kind: Alias['kind'], dependent: string, id: string, status: string): void;
}

interface Awaited {
  alias: Alias;
  /** Uids of the records that wait for this one. */
  dependents: Set<string>;
}

export class Dependencies {
  readonly #clock: Clock;
  readonly #locator: Locator;
  readonly #log: Log;
  readonly #dependents: Dependents;
  /** The records that others wait for, by `kind/id`. */
  readonly #awaited = new Map<string, Awaited>();
  /** Those of `#awaited` that may live on other peers, the one asked for longest ago first. */
  readonly #remote = new Map<string, Awaited>();
  #cancelPoll: (() => void) | null = null;
  #polling = false;

  constructor(components: { clock: Clock; locator: Locator; log: Log; dependents: Dependents }) {
    this.#clock = components.clock;
    this.#locator = components.locator;
    this.#log = components.log;
    this.#dependents = components.dependents;
  }

  /** How many records are waited for. */
  get size(): number {
    return this.#awaited.size;
  }

  /**
   * Lets `dependent` (a uid) wait for a record. The mesh is asked for a record that is not live here: it is another
   * peer's, or has ended here and is still on its way to the disk.
   */
  add(alias: Alias, dependent: string): void {
    const key = aliasKey(alias);
    const entry = this.#awaited.get(key) ?? { alias, dependents: new Set() };
    this.#awaited.set(key, entry);
    entry.dependents.add(dependent);
    if (this.#dependents.isLive(alias)) return;
    this.#remote.set(key, entry);
    this.#pollLater();
  }

  /** A feed has another owner, or a record another id: any awaited record may be elsewhere now, so asks for all. */
  doubt(): void {
    for (const [key, entry] of this.#awaited) this.#remote.set(key, entry);
    this.#pollLater();
  }

  /** A record of this peer has ended, or the mesh says that one has: unblocks all that wait for it. */
  ended(alias: Alias, status: string): void {
    const key = aliasKey(alias);
    const entry = this.#awaited.get(key);
    if (entry === undefined) return;
    this.#delete(key);
    for (const dependent of entry.dependents) this.#dependents.unblock(alias.kind, dependent, alias.id, status);
  }

  /** A record that waited for these ids has ended itself, or left this peer's memory. */
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

  /** Never rejects: a peer that does not answer counts as one that does not know the record. */
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
