/**
 * Who has an id that a client chose: two submits with one id have to find each other, at whichever peers they are made.
 *
 * 1. One submit of an id is under way at a time at this peer: it holds the id.
 * 2. Before a record is made, the peer asks who has the id, and reserves it at an arbiter: the first of the peers in
 *    the rendezvous order of the id. The first peer to reserve an id has it. A submit that is refused before its record
 *    is made releases the id again.
 * 3. If another peer says meanwhile that it has the id, that counts. Where a doubt is left, the id is looked up once
 *    more when the record is there (`onDoubt`); of two records with one id, one yields it (`onRival`).
 */
import { ConflictError, ElsewhereError, OwnerUnreachableError } from '../errors.ts';
import { KeyedMutex } from '../keyed-mutex.ts';
import {
  INQUIRY_DEADLINE_MS,
  LOCATE_HOPS_MAX,
  REQUEST_DEADLINE_MS,
  RESERVATION_MS,
  RESERVATIONS_MAX,
  RESERVATIONS_PER_PEER_MAX,
} from '../limits.ts';
import type { PeerTable } from '../membership/peer-table.ts';
import { rendezvous } from '../membership/rendezvous-hash.ts';
import { type Alias, type Held, type RemotePlace, reserveAnswerSchema } from '../messages.ts';
import type { Clock, Log, Network } from '../ports.ts';
import { aliasKey, type LocalRecord } from '../storage/aliases.ts';
import type { LocalRecords } from './local-records.ts';
import type { Locator, LocatorListener } from './locator.ts';

interface IdClaimParts {
  network: Network;
  peers: PeerTable;
  clock: Clock;
  log: Log;
  locator: Locator;
  records: LocalRecords;
  /** A record here and one of another peer have one id. */
  onRival(uid: string, rival: Held): void;
  /** A record was made here, and its id may not have been free. */
  onDoubt(alias: Alias): void;
  /** A submit waits for the next owner of a feed of which a copy is here. */
  wantOwner(feedId: string): void;
  options: { takeover_ms: number };
}

/** An id with which a record is just being made here. */
interface Hold {
  /** The record of another peer that was heard of meanwhile. */
  heard: Held | null;
  /** The id may be taken after all: an arbiter did not answer, answers were too old, or another peer asked for it. */
  isDoubtful: boolean;
  /** The refused record that has the id until the new one is there. */
  replaced: LocalRecord | null;
  /** The arbiters that have reserved the id for this submit, or may have. */
  granted: { arbiter: string; content_hash: string }[];
  /** Whether the record may be there: only a submit that is refused before that releases the id. */
  isMade: boolean;
}

/** The peer that has reserved an id, and the content of its record. */
type Holder = {
  peer_id: string;
  content_hash: string;
};

export class IdClaims implements LocatorListener {
  readonly #parts: IdClaimParts;
  readonly #inTurn = new KeyedMutex();
  readonly #holds = new Map<string, Hold>();
  /** As an arbiter: who has reserved which id, the oldest first; `until` is monotonic. */
  readonly #reservations = new Map<string, Holder & { until: number }>();
  /** The ids that each peer has reserved, the oldest first. */
  readonly #reservedBy = new Map<string, Set<string>>();

  constructor(parts: IdClaimParts) {
    this.#parts = parts;
  }

  // --- ids that this peer takes --------------------------------------------------------------------------------------

  /**
   * Runs `make`, which makes a record of this peer with an id; no other record is made with that id here meanwhile. If
   * another peer says meanwhile that it has the id, `known` names that peer, or, when it is too late for that, one of
   * the two records yields the id. Where the answers leave a doubt, the id is looked up once more afterwards.
   *
   * When `make` fails before `making` was called, the id is released at its arbiters. The caller does not wait for
   * that, but the next submit of the id here does: its reservation must not be taken for this one.
   */
  hold<T>(alias: Alias, make: () => Promise<T>): Promise<T> {
    const key = aliasKey(alias);
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    void this.#inTurn.run(key, async () => {
      const hold: Hold = { heard: null, isDoubtful: false, replaced: null, granted: [], isMade: false };
      this.#holds.set(key, hold);
      const made = make().finally(() => {
        this.#holds.delete(key);
        if (hold.heard !== null) void this.#heardBefore(alias, hold.heard);
        if (hold.isDoubtful) this.#parts.onDoubt(alias);
      });
      made.then(resolve, reject);
      await made.catch(() => (hold.isMade ? undefined : this.#release(alias, hold)));
    });
    return promise;
  }

  /** From now on the record may be there. */
  making(alias: Alias): void {
    const hold = this.#holds.get(aliasKey(alias));
    if (hold !== undefined) hold.isMade = true;
  }

  /** Never rejects: an arbiter that does not hear it forgets the reservation after RESERVATION_MS. */
  async #release(alias: Alias, { granted }: Hold): Promise<void> {
    const { network, log } = this.#parts;
    const released = granted.map(async ({ arbiter, content_hash }) => {
      const items = [{ ...alias, content_hash, release: true as const }];
      if (arbiter === network.self) this.answerReserve(arbiter, items);
      else await network.request(arbiter, 'reserve', { items }, INQUIRY_DEADLINE_MS);
    });
    for (const { status, ...why } of await Promise.allSettled(released)) {
      if (status === 'rejected') log.debug({ alias, ...why }, 'an id could not be released at its arbiter');
    }
  }

  /** The record being made replaces a refused one, which other peers are told of until the new one is there. */
  replaces(alias: Alias, refused: LocalRecord): void {
    const hold = this.#holds.get(aliasKey(alias));
    if (hold !== undefined) hold.replaced = refused;
  }

  /**
   * The record of this peer that has an id already, with the same content; undefined when the id is free, and reserved
   * for this peer by now. Called while the id is held.
   *
   * @throws ConflictError when the record has other content, ElsewhereError when another peer has it,
   *   OwnerUnreachableError when a copy here shows that the id is taken and its owner cannot be asked
   */
  async known(alias: Alias, contentHash: string): Promise<LocalRecord | undefined> {
    const local = await this.#knownHere(alias, contentHash);
    if (local !== undefined) return local;
    const elsewhere = await this.#elsewhere(alias, contentHash);
    if (elsewhere === undefined) return await this.#knownHere(alias, contentHash); // handed over meanwhile, perhaps
    if (elsewhere.content_hash !== null && elsewhere.content_hash !== contentHash) {
      throw new ConflictError(alias.kind, alias.id, `on peer ${elsewhere.peer_id}`);
    }
    throw new ElsewhereError(alias, elsewhere);
  }

  async #knownHere(alias: Alias, contentHash: string): Promise<LocalRecord | undefined> {
    const local = await this.#parts.records.find(alias);
    if (local === undefined || local.content_hash === contentHash) return local;
    throw new ConflictError(alias.kind, alias.id, 'on this peer');
  }

  /** The peer that has the id. A copy here shows that it is taken: an owner is wanted, and no second record is made. */
  async #elsewhere(alias: Alias, contentHash: string): Promise<RemotePlace | undefined> {
    const { locator, records, wantOwner } = this.#parts;
    const copy = await records.copyOf(alias);
    if (copy === undefined) return await this.#reserve(alias, contentHash);
    if (copy.content_hash !== contentHash) throw new ConflictError(alias.kind, alias.id, `on peer ${copy.owner}`);
    const place = await locator.resolve(alias);
    if (place === undefined || place.here || place.at.peer_id === locator.self) {
      wantOwner(copy.feed_id);
      throw new OwnerUnreachableError(alias, copy.owner);
    }
    return place.at;
  }

  /** @returns undefined when the id is free, else the peer that has it, or is just submitting it */
  async #reserve(alias: Alias, contentHash: string): Promise<RemotePlace | undefined> {
    const { network, clock, locator } = this.#parts;
    const order = rendezvous(alias.id, [network.self, ...locator.connected()]);
    if (order.length === 1) return undefined;
    const hold = this.#holds.get(aliasKey(alias));
    const began = clock.now();
    const [located, holder] = await Promise.all([
      locator.locate([alias], LOCATE_HOPS_MAX).then(([found]) => found ?? undefined),
      this.#reserveAt(order, alias, contentHash, hold),
    ]);
    // Answers from so long ago may not be true any more.
    if (hold !== undefined && clock.now() - began > INQUIRY_DEADLINE_MS) hold.isDoubtful = true;
    if (located !== undefined) return located;
    // A peer that did not know the id when it was asked, and does now, has read its disk since.
    const other = hold?.heard ?? holder;
    if (other === undefined || other.peer_id === network.self) return undefined;
    return { ...locator.placeAt(other.peer_id), content_hash: other.content_hash };
  }

  async #reserveAt(
    order: string[],
    alias: Alias,
    content_hash: string,
    hold: Hold | undefined,
  ): Promise<Holder | undefined> {
    const { network, log } = this.#parts;
    for (const arbiter of order.slice(0, 3)) {
      const items = [{ ...alias, content_hash }];
      const granted = { arbiter, content_hash };
      try {
        const holders =
          arbiter === network.self
            ? this.answerReserve(arbiter, items)
            : reserveAnswerSchema.parse(await network.request(arbiter, 'reserve', { items }, REQUEST_DEADLINE_MS))
                .holders;
        if (holders[0]?.peer_id === network.self) hold?.granted.push(granted);
        return holders[0];
      } catch (error) {
        hold?.granted.push(granted); // perhaps: only the answer may have been lost
        log.debug({ arbiter, error }, 'a peer did not answer a reservation; the next one is asked');
        if (hold !== undefined) hold.isDoubtful = true; // another peer may have had its answer
      }
    }
    return undefined;
  }

  // --- what others say of ids ----------------------------------------------------------------------------------------

  /** A peer asks for an id. It may be submitting that id, too, and have reserved it at an arbiter unknown here. */
  holdOn(alias: Alias): Hold | undefined {
    const hold = this.#holds.get(aliasKey(alias));
    if (hold !== undefined) hold.isDoubtful = true;
    return hold;
  }

  onHeard(alias: Alias, local: LocalRecord | undefined, held: Held): void {
    const hold = this.#holds.get(aliasKey(alias));
    if (local !== undefined) this.#parts.onRival(local.uid, held);
    else if (hold !== undefined) hold.heard = held;
  }

  /** Never rejects: the record is made already. */
  async #heardBefore(alias: Alias, held: Held): Promise<void> {
    try {
      this.onHeard(alias, await this.#parts.records.find(alias), held);
    } catch (error) {
      this.#parts.log.debug({ alias, err: error }, 'two records with one id are told apart when their peers meet');
    }
  }

  // --- as an arbiter -------------------------------------------------------------------------------------------------

  /**
   * Another peer, or this one, reserves ids. The first peer to reserve an id has it for RESERVATION_MS: by then its
   * record is on its disk. With `release`, the peer's submit was refused: the id is free again.
   *
   * @returns per id the peer that has it, which may be the one that asks
   */
  answerReserve(from: string, items: (Alias & { content_hash: string; release?: true | undefined })[]): Holder[] {
    const now = this.#parts.clock.now();
    return items.map((item) => {
      const { content_hash } = item;
      const key = aliasKey(item);
      const held = this.#reservations.get(key);
      if (item.release === true) {
        if (held?.peer_id === from && held.content_hash === content_hash) this.#forget(key);
        return { peer_id: from, content_hash };
      }
      if (held !== undefined && held.until > now && held.peer_id !== from && !this.#isGone(held.peer_id)) {
        return { peer_id: held.peer_id, content_hash: held.content_hash };
      }
      this.#forget(key);
      this.#reservations.set(key, { peer_id: from, content_hash, until: now + RESERVATION_MS });
      this.#keysOf(from).add(key);
      this.#forgetReservations(from, now);
      return { peer_id: from, content_hash };
    });
  }

  /** Whether a holder is gone: it has written its record, which a copy shows, or never will. */
  #isGone(peer: string): boolean {
    const { network, peers, clock, options } = this.#parts;
    if (peer === network.self) return false;
    const entry = peers.find(peer);
    return entry !== undefined && clock.now() - entry.heard_at > options.takeover_ms;
  }

  /** Forgets the reservations that are over, and the oldest of too many: of the peer that has just made one, or of all. */
  #forgetReservations(from: string, now: number): void {
    const keys = this.#keysOf(from);
    if (keys.size > RESERVATIONS_PER_PEER_MAX) this.#forget(keys.values().next().value!);
    for (const [key, { until }] of this.#reservations) {
      if (until > now && this.#reservations.size <= RESERVATIONS_MAX) return;
      this.#forget(key);
    }
  }

  #keysOf(peer: string): Set<string> {
    const keys = this.#reservedBy.get(peer) ?? new Set();
    this.#reservedBy.set(peer, keys);
    return keys;
  }

  #forget(key: string): void {
    const held = this.#reservations.get(key);
    if (held === undefined) return;
    this.#reservations.delete(key);
    const keys = this.#keysOf(held.peer_id);
    keys.delete(key);
    if (keys.size === 0) this.#reservedBy.delete(held.peer_id);
  }
}
