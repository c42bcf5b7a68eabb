/**
 * Finding a record from any peer: its owner, by the feed that its id names or by asking the connected peers (and through
 * them theirs); while the owner cannot be reached, a copy. And reserving an id that a user chose, so that two submits of
 * it meet.
 */
import { FlowmeshError, type JsonObject, RemoteError } from '../../dag/errors.ts';
import type { Place } from '../api.ts';
import { HopsExceededError, OwnerUnreachableError, PeerSilentError, PeerUnreachableError } from '../errors.ts';
import { feedHintOf, feedMatches } from '../ids.ts';
import {
  BEATS_MISSED_MAX,
  CALL_DEADLINE_MS,
  CALL_HOPS_MAX,
  INQUIRY_DEADLINE_MS,
  LOCATE_ASKED_MAX,
  LOCATE_HOPS_MAX,
  LOCATE_ITEMS_MAX,
  LOCATED_MAX,
  REQUEST_DEADLINE_MS,
  RESERVATION_MS,
  RESERVATIONS_MAX,
} from '../limits.ts';
import type { Directory } from '../membership/peer-table.ts';
import { rendezvous } from '../membership/rendezvous-hash.ts';
import {
  type Alias,
  callAnswerSchema,
  type Held,
  type Located,
  locateAnswerSchema,
  type Question,
  reserveAnswerSchema,
} from '../messages.ts';
import type { Clock, Log, Network } from '../ports.ts';
import { aliasKey, type CopiedRecord, type LocalRecord } from '../storage/aliases.ts';

/** What this peer has itself. */
interface Here {
  lookUp(alias: Alias): Promise<LocalRecord | undefined>;
  /** Whether a record is just being accepted here. */
  isBeingMade(uid: string): boolean;
  lookUpCopy(alias: Alias): Promise<CopiedRecord | undefined>;
  /** A record here and one of another peer have one id. */
  onRival(uid: string, rival: Held): void;
  /** A record was made here, and its id may not have been free. */
  onDoubt(alias: Alias): void;
}

/** An id that a record is just being made with. */
interface Claim {
  /** What was heard of it meanwhile. */
  heard: Held | null;
  /** Others may have had answers that this peer did not get, or got too early. */
  isDoubtful: boolean;
  /** What has the id until the record is there. */
  replaced?: LocalRecord;
}

export class Locator {
  readonly #network: Network;
  readonly #directory: Directory;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #here: Here;
  readonly #options: { beat_interval_ms: number; takeover_ms: number };
  readonly #reservations = new Map<string, { peer_id: string; content_hash: string; until: number }>();
  /** The peer that a record was last found at, and through whom peers were; the oldest is forgotten first. */
  readonly #found = new Map<string, string>();
  readonly #vias = new Map<string, string>();
  readonly #claims = new Map<string, Claim>();

  constructor(
    components: { network: Network; directory: Directory; clock: Clock; log: Log },
    here: Here,
    options: { beat_interval_ms: number; takeover_ms: number },
  ) {
    this.#network = components.network;
    this.#directory = components.directory;
    this.#clock = components.clock;
    this.#log = components.log;
    this.#here = here;
    this.#options = options;
  }

  /**
   * @param except peers that were asked already and cannot answer for it now
   * @throws OwnerUnreachableError when the record is known to exist, and neither its owner nor a copy can be reached
   */
  async resolve(alias: Alias, except: readonly string[] = []): Promise<Place | undefined> {
    const local = await this.#here.lookUp(alias);
    if (local !== undefined) return { here: true, uid: local.uid };
    const copy = await this.#here.lookUpCopy(alias);
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

  get self(): string {
    return this.#network.self;
  }

  #asLocated({ uid, status, content_hash, refused }: LocalRecord): Located {
    const place = { peer_id: this.#network.self, addresses: this.#network.addresses() };
    return { ...place, uid, status, content_hash, ...(refused && { refused }) };
  }

  /** Connected, and heard of lately. */
  #isThere(peer: string): boolean {
    const { beat_interval_ms } = this.#options;
    return this.#directory.isThere(peer, this.#clock.now() - beat_interval_ms * BEATS_MISSED_MAX);
  }

  /** The peer that had the record when it was last seen, and is not there now. */
  #ownerAway(alias: Alias): string | undefined {
    const hint = feedHintOf(alias.id);
    const known =
      hint === null
        ? this.#found.get(aliasKey(alias))
        : this.#directory.lastOwnerOfFeed((feedId) => feedMatches(feedId, hint))?.peer_id;
    return known !== undefined && !this.#isThere(known) ? known : undefined;
  }

  /** The peer that owns the feed of the record, if that is known by its id or by a copy of it. */
  #byFeed(alias: Alias, feedId: string | undefined, except: readonly string[]): Located | undefined {
    const hint = feedHintOf(alias.id);
    if (feedId === undefined && hint === null) return undefined;
    const matches = (each: string) => (feedId === undefined ? feedMatches(each, hint!) : each === feedId);
    const entry = this.#directory.ownerOfFeed(matches);
    if (entry === undefined || except.includes(entry.peer_id) || !this.#isThere(entry.peer_id)) return undefined;
    return this.#at(entry.peer_id);
  }

  /** A record that a peer is known to have, and nothing more of it. */
  #at(peer_id: string): Located {
    const addresses = this.#directory.find(peer_id)?.state?.addresses ?? [];
    return { peer_id, addresses, status: '', content_hash: '' };
  }

  #byWorker(alias: Alias, except: readonly string[]): Located | undefined {
    if (alias.kind !== 'worker') return undefined;
    for (const entry of this.#directory.connected()) {
      if (except.includes(entry.peer_id)) continue;
      const worker = entry.state?.workers.find(({ worker_id }) => worker_id === alias.id);
      if (worker !== undefined) {
        return {
          peer_id: entry.peer_id,
          addresses: entry.state?.addresses ?? [],
          status: worker.status,
          content_hash: '',
        };
      }
    }
    return undefined;
  }

  /** Asks the mesh, first where the record was last time. */
  async #ask(alias: Alias, except: readonly string[]): Promise<Located | undefined> {
    const key = aliasKey(alias);
    // Whether a worker is still there is told by its peer, not remembered.
    const known = alias.kind === 'worker' ? undefined : this.#found.get(key);
    if (known !== undefined && !except.includes(known) && this.#isThere(known)) return this.#at(known);
    const [found] = await this.locate([alias], LOCATE_HOPS_MAX, [], except);
    if (found != null && found.copy_of === undefined) {
      this.#found.delete(key);
      this.#found.set(key, this.#directory.find(found.peer_id)?.peer_id ?? found.peer_id); // one string for all
      if (this.#found.size > LOCATED_MAX) this.#found.delete(this.#found.keys().next().value!);
    }
    return found ?? undefined;
  }

  /**
   * Asks every peer that is there and not among `asked`; per alias the first owner that one of them names, else the first
   * copy. Each is told who else is asked: without it a question would be repeated by every peer to every other, at each
   * hop.
   *
   * @param except peers that are no answer
   */
  async locate(
    items: Question[],
    hops: number,
    asked: readonly string[] = [],
    except: readonly string[] = [],
  ): Promise<(Located | null)[]> {
    const known = new Set([...asked, ...except]);
    const peers = this.#connected().filter((peer) => !known.has(peer) && this.#isThere(peer));
    for (const peer of [this.#network.self, ...peers]) known.add(peer);
    const question = { items, hops, asked: [...known].slice(0, LOCATE_ASKED_MAX) };
    const found: (Located | null)[] = items.map(() => null);
    await Promise.all(
      peers.map(async (peer) => {
        try {
          const answer = await this.#network.request(peer, 'locate', question, REQUEST_DEADLINE_MS);
          const { found: named } = locateAnswerSchema.parse(answer);
          for (const [position, located] of named.slice(0, items.length).entries()) {
            if (located === null || except.includes(located.peer_id) || located.peer_id === this.#network.self)
              continue;
            const before = found[position];
            if (before != null && (before.copy_of === undefined || located.copy_of !== undefined)) continue;
            found[position] = located;
            if (located.peer_id !== peer) this.#rememberVia(located.peer_id, peer);
          }
        } catch (error) {
          this.#log.debug({ peer, error }, 'a peer did not say where records are');
        }
      }),
    );
    return found;
  }

  /** Where records are, as far as one peer itself knows. @throws why it does not answer */
  async locateAt(peer: string, items: Question[]): Promise<(Located | null)[]> {
    const found: (Located | null)[] = [];
    while (found.length < items.length) {
      const part = items.slice(found.length, found.length + LOCATE_ITEMS_MAX);
      const answer = await this.#network.request(
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

  /** As `locate`, of any number of items. Those of the first messages are in `found` before the others are asked for. */
  async locateAll(
    items: Question[],
    found: (Located | null)[] = items.map(() => null),
    isLate = () => false,
  ): Promise<(Located | null)[]> {
    for (let from = 0; from < items.length && !isLate(); from += LOCATE_ITEMS_MAX) {
      const part = await this.locate(items.slice(from, from + LOCATE_ITEMS_MAX), LOCATE_HOPS_MAX);
      found.splice(from, part.length, ...part);
    }
    return found;
  }

  /** As `locateAll`, with what was answered within INQUIRY_DEADLINE_MS. The first items are asked for first. */
  async locateSoon(items: Question[]): Promise<(Located | null)[]> {
    const found: (Located | null)[] = items.map(() => null);
    const late = Promise.withResolvers<void>();
    let isLate = false;
    const cancel = this.#clock.after(INQUIRY_DEADLINE_MS, () => {
      isLate = true;
      late.resolve();
    });
    await Promise.race([this.locateAll(items, found, () => isLate), late.promise]);
    cancel();
    return found;
  }

  /** The statuses of records, here or at connected peers, of copies too; null where nobody knows one. */
  async statusesOf(items: readonly Alias[]): Promise<(string | null)[]> {
    const local = await Promise.all(items.map((alias) => this.#here.lookUp(alias)));
    const missing = items.filter((_alias, position) => local[position] === undefined);
    const found = missing.length === 0 ? [] : await this.locate(missing, LOCATE_HOPS_MAX);
    const copies = await Promise.all(missing.map((alias) => this.#here.lookUpCopy(alias)));
    const elsewhere = new Map(missing.map((alias, at) => [alias, found[at]?.status ?? copies[at]?.status ?? null]));
    return items.map((alias, position) => local[position]?.status ?? elsewhere.get(alias) ?? null);
  }

  #rememberVia(peer: string, via: string): void {
    this.#vias.delete(peer);
    this.#vias.set(peer, via);
    if (this.#vias.size > LOCATED_MAX) this.#vias.delete(this.#vias.keys().next().value!);
  }

  /** Another peer asks where records are: here, or at a peer that this one is connected to. */
  async answerLocate(from: string, items: Question[], hops: number, asked: readonly string[]): Promise<JsonObject> {
    const found = await Promise.all(
      items.map(async (alias): Promise<Located | null> => {
        const claim = this.#claims.get(aliasKey(alias));
        const local = await this.#here.lookUp(alias);
        if (alias.held !== undefined) this.#heardOf(alias, local, alias.held);
        // P1: others may give way to what they are told of.
        if (local !== undefined && !this.#here.isBeingMade(local.uid)) return this.#asLocated(local);
        if (claim?.replaced !== undefined) return this.#asLocated(claim.replaced);
        const copy = await this.#here.lookUpCopy(alias);
        return copy === undefined ? null : { ...this.#asLocated(copy), copy_of: copy.owner };
      }),
    );
    const missing = items.flatMap((alias, position) => {
      const located = found[position];
      return located == null || located.copy_of !== undefined ? [{ alias, position }] : [];
    });
    if (missing.length > 0 && hops > 0) {
      const more = await this.locate(
        missing.map(({ alias }) => alias),
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

  #heardOf(alias: Alias, local: LocalRecord | undefined, held: Held): void {
    const claim = this.#claims.get(aliasKey(alias));
    if (local !== undefined) this.#here.onRival(local.uid, held);
    else if (claim !== undefined) claim.heard = held;
  }

  /**
   * Makes a record of this peer. A peer that says meanwhile that it has the id is heard: `reserve` names it, and when it
   * was too late for that, one of the two records gives way. Where the answers leave a doubt, it is looked for the id
   * once more when the record is there.
   */
  async claiming<T>(alias: Alias, make: () => Promise<T>): Promise<T> {
    const claim: Claim = { heard: null, isDoubtful: false };
    this.#claims.set(aliasKey(alias), claim);
    try {
      return await make();
    } finally {
      this.#claims.delete(aliasKey(alias));
      if (claim.heard !== null) void this.#heardBefore(alias, claim.heard);
      if (claim.isDoubtful) this.#here.onDoubt(alias);
    }
  }

  /** The record that is just being made takes the place of a refused one, which is here for others until it is there. */
  replaces(alias: Alias, refused: LocalRecord): void {
    const claim = this.#claims.get(aliasKey(alias));
    if (claim !== undefined) claim.replaced = refused;
  }

  /** Never rejects: the record is made. */
  async #heardBefore(alias: Alias, held: Held): Promise<void> {
    try {
      this.#heardOf(alias, await this.#here.lookUp(alias), held);
    } catch (error) {
      this.#log.debug({ alias, err: error }, 'two records with one id are told apart when their peers meet');
    }
  }

  /**
   * Claims an id that a user chose for a record of this peer, which is just being made (`claiming`).
   * @returns undefined when it is free, else the peer that has it, or is just submitting it
   */
  async reserve(alias: Alias, contentHash: string): Promise<Located | undefined> {
    const order = rendezvous(alias.id, [this.#network.self, ...this.#connected()]);
    if (order.length === 1) return undefined;
    const claim = this.#claims.get(aliasKey(alias));
    const began = this.#clock.now();
    const [located, holder] = await Promise.all([
      this.locate([alias], LOCATE_HOPS_MAX).then(([found]) => found ?? undefined),
      this.#reserveAt(order, alias, contentHash, claim),
    ]);
    // What was answered so long ago may hold no more.
    if (claim !== undefined && this.#clock.now() - began > INQUIRY_DEADLINE_MS) claim.isDoubtful = true;
    if (located !== undefined) return located;
    // A peer that did not know it when it was asked, and does now, has read its disk.
    const other = claim?.heard ?? holder;
    if (other === undefined || other.peer_id === this.#network.self) return undefined;
    return { ...this.#at(other.peer_id), content_hash: other.content_hash };
  }

  #connected(): string[] {
    return [...this.#directory.connected()].map(({ peer_id }) => peer_id);
  }

  async #reserveAt(
    order: string[],
    alias: Alias,
    content_hash: string,
    claim: Claim | undefined,
  ): Promise<{ peer_id: string; content_hash: string } | undefined> {
    for (const arbiter of order.slice(0, 3)) {
      if (arbiter === this.#network.self)
        return this.answerReserve(this.#network.self, [{ ...alias, content_hash }])[0];
      try {
        const items = [{ ...alias, content_hash }];
        const answer = await this.#network.request(arbiter, 'reserve', { items }, REQUEST_DEADLINE_MS);
        return reserveAnswerSchema.parse(answer).holders[0];
      } catch (error) {
        this.#log.debug({ arbiter, error }, 'a peer did not answer a reservation; the next one is asked');
        if (claim !== undefined) claim.isDoubtful = true; // another peer may have had its answer
      }
    }
    return undefined;
  }

  /** A peer that died has written what it reserved an id for, and a copy shows it, or never will. */
  #isGone(peer: string): boolean {
    if (peer === this.#network.self) return false;
    const entry = this.#directory.find(peer);
    return entry !== undefined && this.#clock.now() - entry.heard_at > this.#options.takeover_ms;
  }

  /** The first peer to reserve an id holds it for RESERVATION_MS; until then its record is on its disk. */
  answerReserve(
    from: string,
    items: (Alias & { content_hash: string })[],
  ): { peer_id: string; content_hash: string }[] {
    const now = this.#clock.now();
    return items.map(({ content_hash, ...alias }) => {
      const key = aliasKey(alias);
      const held = this.#reservations.get(key);
      if (held !== undefined && held.until > now && held.peer_id !== from && !this.#isGone(held.peer_id)) {
        return { peer_id: held.peer_id, content_hash: held.content_hash };
      }
      this.#reservations.delete(key);
      this.#reservations.set(key, { peer_id: from, content_hash, until: now + RESERVATION_MS });
      this.#forgetReservations(now);
      return { peer_id: from, content_hash };
    });
  }

  /** Those that are over, and the oldest of too many. */
  #forgetReservations(now: number): void {
    for (const [key, { until }] of this.#reservations) {
      if (until > now && this.#reservations.size <= RESERVATIONS_MAX) return;
      this.#reservations.delete(key);
    }
  }

  /**
   * Runs a tool at another peer, directly or through the peer that named it.
   *
   * @throws PeerUnreachableError when it was not sent: it did not run. After any other error of the way there and back,
   *   such as PEER_SILENT or DEADLINE_EXCEEDED, it may have run.
   */
  async call(
    peer: string,
    addresses: string[],
    tool: string,
    input: JsonObject,
    hops: number,
    deadlineMs = CALL_DEADLINE_MS,
  ): Promise<JsonObject> {
    if (hops > CALL_HOPS_MAX) throw new HopsExceededError(tool);
    const target = await this.#reachable(peer, addresses);
    const request = this.#network.request(target, 'call', { tool, input, hops }, deadlineMs);
    const parsed = callAnswerSchema.safeParse(await this.#whileThere(target, request));
    if (!parsed.success) {
      throw new FlowmeshError('BAD_ANSWER', `peer ${target} gave an answer to ${tool} that cannot be read`, {
        retryable: false,
      });
    }
    if ('error' in parsed.data) throw new RemoteError(parsed.data.error as RemoteErrorShape);
    return parsed.data.output as JsonObject;
  }

  async #reachable(peer: string, addresses: string[]): Promise<string> {
    if (this.#network.connected().includes(peer)) return peer;
    try {
      await this.#network.connect(peer, addresses);
      return peer;
    } catch (error) {
      const via = this.#vias.get(peer);
      if (via !== undefined && this.#network.connected().includes(via)) return via;
      throw new PeerUnreachableError(peer, error);
    }
  }

  /** The answer, or PEER_SILENT when the peer gives no sign of life any more: its machine may be asleep. */
  #whileThere<T>(peer: string, answer: Promise<T>): Promise<T> {
    const clock = this.#clock;
    const options = this.#options;
    const { promise: silent, reject } = Promise.withResolvers<never>();
    const look = () => {
      cancel = clock.after(options.beat_interval_ms, () => {
        if (this.#isThere(peer)) look();
        else reject(new PeerSilentError(peer));
      });
    };
    let cancel = () => {};
    look();
    return Promise.race([answer, silent]).finally(() => cancel());
  }
}

type RemoteErrorShape = ConstructorParameters<typeof RemoteError>[0];
