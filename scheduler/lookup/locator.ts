/**
 * Finds where a record is: at its owner, known by the feed that the id names or by asking the connected peers (and
 * through them theirs); while the owner cannot be reached, at a copy. Also answers other peers that ask the same.
 */
import type { JsonObject } from '../../dag/errors.ts';
import type { Place } from '../api.ts';
import { OwnerUnreachableError } from '../errors.ts';
import { feedHintOf, feedMatches } from '../ids.ts';
import {
  BEATS_MISSED_MAX,
  LOCATE_ASKED_MAX,
  LOCATE_HOPS_MAX,
  LOCATE_ITEMS_MAX,
  LOCATED_MAX,
  REQUEST_DEADLINE_MS,
} from '../limits.ts';
import type { PeerTable } from '../membership/peer-table.ts';
import {
  type Alias,
  type Held,
  type Located,
  locateAnswerSchema,
  type Question,
  type RemotePlace,
} from '../messages.ts';
import type { Clock, Log, Network } from '../ports.ts';
import { aliasKey, type LocalRecord } from '../storage/aliases.ts';
import type { LocalRecords } from './local-records.ts';

interface LocatorParts {
  network: Network;
  peers: PeerTable;
  clock: Clock;
  log: Log;
  records: LocalRecords;
  options: { beat_interval_ms: number };
}

/** Told of ids when other peers ask where records are. */
export interface LocatorListener {
  /**
   * A peer that asks for an id says that it has a record with it.
   * @param local what this peer has under that id
   */
  onHeard(alias: Alias, local: LocalRecord | undefined, held: Held): void;
  /** While a record is just being made here with this id; `replaced` has the id until that record is there. */
  holdOn(alias: Alias): { readonly replaced: LocalRecord | null } | undefined;
}

export class Locator {
  readonly #parts: LocatorParts;
  /** By record the peer where it was last found, and by peer the one that named it; the oldest is forgotten first. */
  readonly #found = new Map<string, string>();
  readonly #vias = new Map<string, string>();

  #listener: LocatorListener = { onHeard: () => {}, holdOn: () => undefined };

  constructor(parts: LocatorParts) {
    this.#parts = parts;
  }

  /** Sets the listener. It uses this locator, so it is made later. */
  listen(listener: LocatorListener): void {
    this.#listener = listener;
  }

  /**
   * Where a record is; undefined when no peer that can be asked knows it.
   *
   * @param except peers that were asked already and cannot answer for it now
   * @throws OwnerUnreachableError when the record is known to exist, and neither its owner nor a copy can be reached
   */
  async resolve(alias: Alias, except: readonly string[] = []): Promise<Place | undefined> {
    const local = await this.#parts.records.find(alias);
    if (local !== undefined) return { here: true, uid: local.uid };
    const copy = await this.#parts.records.copyOf(alias);
    const known = this.#byFeed(alias, copy?.feed_id, except) ?? this.#byWorker(alias, except);
    if (known !== undefined) return { here: false, at: known };
    const asked = await this.#ask(alias, except);
    if (asked !== undefined && asked.copy_of === undefined) return { here: false, at: asked };
    if (copy !== undefined) return { here: false, at: { ...this.#asLocated(copy), copy_of: copy.owner } };
    if (asked !== undefined) return { here: false, at: asked };
    const away = this.#ownerAway(alias);
    if (away !== undefined) throw new OwnerUnreachableError(alias, away);
    return undefined;
  }

  /** The id of this peer. */
  get self(): string {
    return this.#parts.network.self;
  }

  #asLocated({ uid, status, content_hash, refused }: LocalRecord): Located {
    const { network } = this.#parts;
    const place = { peer_id: network.self, addresses: network.addresses() };
    return { ...place, uid, status, content_hash, ...(refused && { refused }) };
  }

  /** Whether a peer is connected and was heard lately. */
  isThere(peer: string): boolean {
    const { peers, clock, options } = this.#parts;
    return peers.isThere(peer, clock.now() - options.beat_interval_ms * BEATS_MISSED_MAX);
  }

  /** The peer that had the record when it was last seen, and is not there now. */
  #ownerAway(alias: Alias): string | undefined {
    const hint = feedHintOf(alias.id);
    const known =
      hint === null
        ? this.#found.get(aliasKey(alias))
        : this.#parts.peers.lastOwnerOfFeed((feedId) => feedMatches(feedId, hint))?.peer_id;
    return known !== undefined && !this.isThere(known) ? known : undefined;
  }

  /** The peer that owns the feed of the record, if that is known by its id or by a copy of it. */
  #byFeed(alias: Alias, feedId: string | undefined, except: readonly string[]): RemotePlace | undefined {
    const hint = feedHintOf(alias.id);
    if (feedId === undefined && hint === null) return undefined;
    const { peers, records } = this.#parts;
    const matches = (each: string) => (feedId === undefined ? feedMatches(each, hint!) : each === feedId);
    // P9: where a copy is here, it shows who can own the feed. An owner that it does not name yet answers when asked.
    const isBelieved = (peer: string) => feedId === undefined || records.mayOwn(feedId, peer);
    const entry = peers.ownerOfFeed(matches, isBelieved);
    if (entry === undefined || except.includes(entry.peer_id) || !this.isThere(entry.peer_id)) return undefined;
    return this.placeAt(entry.peer_id);
  }

  /** The place of a record of which nothing is known but the peer that has it. */
  placeAt(peer_id: string): RemotePlace {
    const addresses = this.#parts.peers.find(peer_id)?.state?.addresses ?? [];
    return { peer_id, addresses, status: null, content_hash: null };
  }

  #byWorker(alias: Alias, except: readonly string[]): RemotePlace | undefined {
    if (alias.kind !== 'worker') return undefined;
    for (const entry of this.#parts.peers.connected()) {
      if (except.includes(entry.peer_id)) continue;
      const worker = entry.state?.workers.find(({ worker_id }) => worker_id === alias.id);
      if (worker !== undefined) {
        return { ...this.placeAt(entry.peer_id), status: worker.status };
      }
    }
    return undefined;
  }

  /** Asks the mesh, first where the record was last time. */
  async #ask(alias: Alias, except: readonly string[]): Promise<RemotePlace | undefined> {
    const key = aliasKey(alias);
    // Only its peer knows whether a worker is still there, so the place of a worker is not remembered.
    const known = alias.kind === 'worker' ? undefined : this.#found.get(key);
    if (known !== undefined && !except.includes(known) && this.isThere(known)) return this.placeAt(known);
    const [found] = await this.locate([alias], LOCATE_HOPS_MAX, [], except);
    if (found != null && found.copy_of === undefined) {
      this.#found.delete(key);
      this.#found.set(key, this.#parts.peers.find(found.peer_id)?.peer_id ?? found.peer_id); // one string for all
      if (this.#found.size > LOCATED_MAX) this.#found.delete(this.#found.keys().next().value!);
    }
    return found ?? undefined;
  }

  /**
   * Asks every peer that is there and not among `asked`. Returns per item the first owner that one of them names, else
   * the first copy. Each is told who else is asked: otherwise every peer would repeat the question to every other one,
   * at each hop.
   *
   * @param except peers that do not count as an answer
   */
  async locate(
    items: Question[],
    hops: number,
    asked: readonly string[] = [],
    except: readonly string[] = [],
  ): Promise<(Located | null)[]> {
    const known = new Set([...asked, ...except]);
    const peers = this.connected().filter((peer) => !known.has(peer) && this.isThere(peer));
    for (const peer of [this.#parts.network.self, ...peers]) known.add(peer);
    const question = { items, hops, asked: [...known].slice(0, LOCATE_ASKED_MAX) };
    const found: (Located | null)[] = items.map(() => null);
    await Promise.all(
      peers.map(async (peer) => {
        try {
          const answer = await this.#parts.network.request(peer, 'locate', question, REQUEST_DEADLINE_MS);
          const { found: named } = locateAnswerSchema.parse(answer);
          for (const [position, located] of named.slice(0, items.length).entries()) {
            if (located === null || except.includes(located.peer_id) || located.peer_id === this.#parts.network.self)
              continue;
            const before = found[position];
            if (before != null && (before.copy_of === undefined || located.copy_of !== undefined)) continue;
            found[position] = located;
            if (located.peer_id !== peer) this.#rememberVia(located.peer_id, peer);
          }
        } catch (error) {
          this.#parts.log.debug({ peer, error }, 'a peer did not say where records are');
        }
      }),
    );
    return found;
  }

  /** Where records are, as far as one peer itself knows. @throws why that peer does not answer */
  async locateAt(peer: string, items: Question[]): Promise<(Located | null)[]> {
    const found: (Located | null)[] = [];
    while (found.length < items.length) {
      const part = items.slice(found.length, found.length + LOCATE_ITEMS_MAX);
      const answer = await this.#parts.network.request(
        peer,
        'locate',
        { items: part, hops: 0, asked: [] },
        REQUEST_DEADLINE_MS,
      );
      const named = locateAnswerSchema.parse(answer).found;
      found.push(...part.map((_item, position) => named[position] ?? null));
    }
    return found;
  }

  /**
   * As `locate`, for any number of items: at most LOCATE_ITEMS_MAX in a message, one message after the other.
   *
   * @param options.deadlineMs after this time, items without an answer count as found nowhere
   */
  async locateAll(items: Question[], { deadlineMs }: { deadlineMs?: number } = {}): Promise<(Located | null)[]> {
    const found: (Located | null)[] = items.map(() => null);
    const late = Promise.withResolvers<void>();
    let isLate = false;
    const ask = async () => {
      for (let from = 0; from < items.length && !isLate; from += LOCATE_ITEMS_MAX) {
        const part = await this.locate(items.slice(from, from + LOCATE_ITEMS_MAX), LOCATE_HOPS_MAX);
        found.splice(from, part.length, ...part);
      }
    };
    if (deadlineMs === undefined) {
      await ask();
      return found;
    }
    const cancel = this.#parts.clock.after(deadlineMs, () => {
      isLate = true;
      late.resolve();
    });
    await Promise.race([ask(), late.promise]);
    cancel();
    return [...found];
  }

  /** The statuses of records here or at other peers, of copies too; null for a record that nobody knows. */
  async statusesOf(items: readonly Alias[]): Promise<(string | null)[]> {
    const local = await Promise.all(items.map((alias) => this.#parts.records.find(alias)));
    const missing = items.filter((_alias, position) => local[position] === undefined);
    const found = missing.length === 0 ? [] : await this.locate(missing, LOCATE_HOPS_MAX);
    const copies = await Promise.all(missing.map((alias) => this.#parts.records.copyOf(alias)));
    const elsewhere = new Map(missing.map((alias, at) => [alias, found[at]?.status ?? copies[at]?.status ?? null]));
    return items.map((alias, position) => local[position]?.status ?? elsewhere.get(alias) ?? null);
  }

  /** The peer that named this one, through which it may be reached. */
  viaOf(peer: string): string | undefined {
    return this.#vias.get(peer);
  }

  #rememberVia(peer: string, via: string): void {
    this.#vias.delete(peer);
    this.#vias.set(peer, via);
    if (this.#vias.size > LOCATED_MAX) this.#vias.delete(this.#vias.keys().next().value!);
  }

  /** Another peer asks where records are: here, or at a peer that this one is connected to. */
  async answerLocate(from: string, items: Question[], hops: number, asked: readonly string[]): Promise<JsonObject> {
    const { records, peers } = this.#parts;
    const found = await Promise.all(
      items.map(async (alias): Promise<Located | null> => {
        const hold = this.#listener.holdOn(alias);
        const local = await records.find(alias);
        if (alias.held?.peer_id === from && peers.mayOwn(from)) this.#listener.onHeard(alias, local, alias.held); // P9
        // P1: others may yield the id to a record that they are told of, so that one has to be there to stay.
        if (local !== undefined && !records.isBeingMade(local.uid)) return this.#asLocated(local);
        if (hold !== undefined && hold.replaced !== null) return this.#asLocated(hold.replaced);
        const copy = await records.copyOf(alias);
        return copy === undefined ? null : { ...this.#asLocated(copy), copy_of: copy.owner };
      }),
    );
    const missing = items.flatMap((alias, position) => {
      const located = found[position];
      return located == null || located.copy_of !== undefined ? [{ alias, position }] : [];
    });
    if (missing.length > 0 && hops > 0) {
      const more = await this.locate(
        missing.map(({ alias: { kind, id } }) => ({ kind, id })), // what the asker has it tells for itself (P9)
        Math.min(hops, LOCATE_HOPS_MAX) - 1,
        [...asked, from],
      );
      for (const [at, { position }] of missing.entries()) {
        const located = more[at] ?? null;
        if (located === null || located.peer_id === from) continue;
        if (found[position] === null || located.copy_of === undefined) found[position] = located;
      }
    }
    return { found } as unknown as JsonObject;
  }

  /** Ids of the peers that this one is connected to. */
  connected(): string[] {
    return [...this.#parts.peers.connected()].map(({ peer_id }) => peer_id);
  }
}
