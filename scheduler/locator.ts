/**
 * Finding the owner of a record from any peer: by the feed that its id names, by asking the connected peers (and
 * through them theirs), and reserving an id that a user chose, so that two submits of it meet.
 */
import { FlowmeshError, type JsonObject, RemoteError } from '../dag/errors.ts';
import type { Directory } from './directory.ts';
import { HopsExceededError, OwnerUnreachableError, PeerUnreachableError } from './errors.ts';
import { feedHintOf, feedMatches } from './ids.ts';
import {
  CALL_DEADLINE_MS,
  CALL_HOPS_MAX,
  LOCATE_ASKED_MAX,
  LOCATE_HOPS_MAX,
  LOCATED_MAX,
  REQUEST_DEADLINE_MS,
  RESERVATION_MS,
  RESERVATIONS_MAX,
} from './limits.ts';
import { type Alias, callAnswerSchema, type Located, locateAnswerSchema, reserveAnswerSchema } from './messages.ts';
import type { Clock, Log, Network } from './ports.ts';
import { rendezvous } from './rendezvous.ts';
import type { WorkerPool } from './worker.ts';

/** A record of this peer. */
export interface LocalRecord {
  uid: string;
  status: string;
  content_hash: string;
}

export class Locator {
  private readonly network: Network;
  private readonly directory: Directory;
  private readonly clock: Clock;
  private readonly log: Log;
  private readonly lookUp: (alias: Alias) => Promise<LocalRecord | undefined>;
  private readonly reservations = new Map<string, { peer_id: string; content_hash: string; until: number }>();
  /** Where a record was last found, and through whom; the oldest is forgotten first. */
  private readonly found = new Map<string, Located>();
  private readonly vias = new Map<string, string>();

  constructor(
    components: { network: Network; directory: Directory; clock: Clock; log: Log },
    lookUp: (alias: Alias) => Promise<LocalRecord | undefined>,
  ) {
    this.network = components.network;
    this.directory = components.directory;
    this.clock = components.clock;
    this.log = components.log;
    this.lookUp = lookUp;
  }

  /** @throws OwnerUnreachableError when the record is known to exist at a peer that is away */
  async resolve(alias: Alias): Promise<{ here: true; uid: string } | { here: false; at: Located } | undefined> {
    const local = await this.lookUp(alias);
    if (local !== undefined) return { here: true, uid: local.uid };
    const at = this.byHint(alias) ?? this.byWorker(alias) ?? (await this.ask(alias));
    if (at !== undefined) return { here: false, at };
    const away = this.ownerAway(alias);
    if (away !== undefined) throw new OwnerUnreachableError(alias, away);
    return undefined;
  }

  /** The peer that had the record when it was last seen, and is not connected now. */
  private ownerAway(alias: Alias): string | undefined {
    const hint = feedHintOf(alias.id);
    if (hint !== null) return this.directory.awayOwnerOfFeed((feedId) => feedMatches(feedId, hint))?.peer_id;
    const known = this.found.get(`${alias.kind}/${alias.id}`)?.peer_id;
    return known !== undefined && this.directory.find(known)?.connected !== true ? known : undefined;
  }

  private byHint(alias: Alias): Located | undefined {
    const hint = feedHintOf(alias.id);
    if (hint === null) return undefined;
    const entry = this.directory.ownerOfFeed((feedId) => feedMatches(feedId, hint));
    if (entry === undefined) return undefined;
    return { peer_id: entry.peer_id, addresses: entry.state?.addresses ?? [], status: '', content_hash: '' };
  }

  private byWorker(alias: Alias): Located | undefined {
    if (alias.kind !== 'worker') return undefined;
    for (const entry of this.directory.connected()) {
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
  private async ask(alias: Alias): Promise<Located | undefined> {
    const key = `${alias.kind}/${alias.id}`;
    // Whether a worker is still there is told by its peer, not remembered.
    const known = alias.kind === 'worker' ? undefined : this.found.get(key);
    if (known !== undefined && this.directory.find(known.peer_id)?.connected === true) return known;
    const [found] = await this.locate([alias], LOCATE_HOPS_MAX);
    if (found) {
      this.found.delete(key);
      this.found.set(key, found);
      if (this.found.size > LOCATED_MAX) this.found.delete(this.found.keys().next().value!);
    }
    return found ?? undefined;
  }

  /**
   * Asks every connected peer that is not among `asked`; per alias the first owner that one of them names. Each is
   * told who else is asked: without it a question would be repeated by every peer to every other, at each hop.
   */
  async locate(items: Alias[], hops: number, asked: readonly string[] = []): Promise<(Located | null)[]> {
    const known = new Set(asked);
    const peers = [...this.directory.connected()].map(({ peer_id }) => peer_id).filter((peer) => !known.has(peer));
    for (const peer of [this.network.self, ...peers]) known.add(peer);
    const question = { items, hops, asked: [...known].slice(0, LOCATE_ASKED_MAX) };
    const found: (Located | null)[] = items.map(() => null);
    await Promise.all(
      peers.map(async (peer) => {
        try {
          const answer = await this.network.request(peer, 'locate', question, REQUEST_DEADLINE_MS);
          const { found: named } = locateAnswerSchema.parse(answer);
          for (const [position, located] of named.slice(0, items.length).entries()) {
            if (located === null || found[position] !== null || located.peer_id === this.network.self) continue;
            found[position] = located;
            if (located.peer_id !== peer) this.rememberVia(located.peer_id, peer);
          }
        } catch (error) {
          this.log.debug({ peer, error }, 'a peer did not say where records are');
        }
      }),
    );
    return found;
  }

  /** What records are, here or at connected peers; null where nobody knows one. */
  async statusesOf(items: readonly Alias[]): Promise<(string | null)[]> {
    const local = await Promise.all(items.map((alias) => this.lookUp(alias)));
    const missing = items.filter((_alias, position) => local[position] === undefined);
    const found = missing.length === 0 ? [] : await this.locate(missing, LOCATE_HOPS_MAX);
    const elsewhere = new Map(missing.map((alias, position) => [alias, found[position]?.status ?? null]));
    return items.map((alias, position) => local[position]?.status ?? elsewhere.get(alias) ?? null);
  }

  private rememberVia(peer: string, via: string): void {
    this.vias.delete(peer);
    this.vias.set(peer, via);
    if (this.vias.size > LOCATED_MAX) this.vias.delete(this.vias.keys().next().value!);
  }

  /** Another peer asks where records are: here, or at a peer that this one is connected to. */
  async answerLocate(from: string, items: Alias[], hops: number, asked: readonly string[]): Promise<JsonObject> {
    const addresses = this.network.addresses();
    const found = await Promise.all(
      items.map(async (alias): Promise<Located | null> => {
        const local = await this.lookUp(alias);
        if (local === undefined) return null;
        return { peer_id: this.network.self, addresses, status: local.status, content_hash: local.content_hash };
      }),
    );
    const missing = items.flatMap((alias, position) => (found[position] === null ? [{ alias, position }] : []));
    if (missing.length > 0 && hops > 0) {
      const more = await this.locate(
        missing.map(({ alias }) => alias),
        Math.min(hops, LOCATE_HOPS_MAX) - 1,
        [...asked, from],
      );
      for (const [at, { position }] of missing.entries()) {
        const located = more[at] ?? null;
        if (located !== null && located.peer_id !== from) found[position] = located;
      }
    }
    return { found } as unknown as JsonObject;
  }

  /**
   * Claims an id that a user chose for a record of this peer.
   * @returns undefined when it is free, else the peer that has it, or is just submitting it
   */
  async reserve(alias: Alias, contentHash: string): Promise<Located | undefined> {
    const order = rendezvous(alias.id, [this.network.self, ...this.connected()]);
    if (order.length === 1) return undefined;
    const [located, holder] = await Promise.all([
      this.locate([alias], LOCATE_HOPS_MAX).then(([found]) => found ?? undefined),
      this.reserveAt(order, alias, contentHash),
    ]);
    if (located !== undefined) return located;
    if (holder === undefined || holder.peer_id === this.network.self) return undefined;
    const addresses = this.directory.find(holder.peer_id)?.state?.addresses ?? [];
    return { peer_id: holder.peer_id, addresses, status: '', content_hash: holder.content_hash };
  }

  private connected(): string[] {
    return [...this.directory.connected()].map(({ peer_id }) => peer_id);
  }

  private async reserveAt(
    order: string[],
    alias: Alias,
    content_hash: string,
  ): Promise<{ peer_id: string; content_hash: string } | undefined> {
    for (const arbiter of order.slice(0, 3)) {
      if (arbiter === this.network.self) return this.answerReserve(this.network.self, [{ ...alias, content_hash }])[0];
      try {
        const items = [{ ...alias, content_hash }];
        const answer = await this.network.request(arbiter, 'reserve', { items }, REQUEST_DEADLINE_MS);
        return reserveAnswerSchema.parse(answer).holders[0];
      } catch (error) {
        this.log.debug({ arbiter, error }, 'a peer did not answer a reservation; the next one is asked');
      }
    }
    return undefined;
  }

  /** The first peer to reserve an id holds it for RESERVATION_MS; until then its record is on its disk. */
  answerReserve(
    from: string,
    items: (Alias & { content_hash: string })[],
  ): { peer_id: string; content_hash: string }[] {
    const now = this.clock.now();
    return items.map(({ kind, id, content_hash }) => {
      const key = `${kind}/${id}`;
      const held = this.reservations.get(key);
      if (held !== undefined && held.until > now && held.peer_id !== from) {
        return { peer_id: held.peer_id, content_hash: held.content_hash };
      }
      this.reservations.delete(key);
      this.reservations.set(key, { peer_id: from, content_hash, until: now + RESERVATION_MS });
      if (this.reservations.size > RESERVATIONS_MAX) this.reservations.delete(this.reservations.keys().next().value!);
      return { peer_id: from, content_hash };
    });
  }

  /** Runs a tool at another peer, directly or through the peer that named it. */
  async call(peer: string, addresses: string[], tool: string, input: JsonObject, hops: number): Promise<JsonObject> {
    if (hops > CALL_HOPS_MAX) throw new HopsExceededError(tool);
    const target = await this.reachable(peer, addresses);
    const answer = await this.network.request(target, 'call', { tool, input, hops }, CALL_DEADLINE_MS);
    const parsed = callAnswerSchema.safeParse(answer);
    if (!parsed.success) {
      throw new FlowmeshError('BAD_ANSWER', `peer ${target} gave an answer to ${tool} that cannot be read`, {
        retryable: false,
      });
    }
    if ('error' in parsed.data) throw new RemoteError(parsed.data.error as RemoteErrorShape);
    return parsed.data.output as JsonObject;
  }

  private async reachable(peer: string, addresses: string[]): Promise<string> {
    if (this.directory.find(peer)?.connected === true) return peer;
    try {
      await this.network.connect(peer, addresses);
      return peer;
    } catch (error) {
      const via = this.vias.get(peer);
      if (via !== undefined && this.directory.find(via)?.connected === true) return via;
      throw new PeerUnreachableError(peer, error);
    }
  }
}

type RemoteErrorShape = ConstructorParameters<typeof RemoteError>[0];

/** What `lookUp` says of a worker of this peer. */
export function localWorker(pool: WorkerPool, id: string): LocalRecord | undefined {
  const state = pool.states().find(({ worker_id }) => worker_id === id);
  return state === undefined ? undefined : { uid: id, status: state.status, content_hash: '' };
}
