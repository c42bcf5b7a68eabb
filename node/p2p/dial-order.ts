/**
 * In which order the addresses of a peer are tried: direct ones at which it was reached before, other direct ones,
 * then those through a relay. Where there is a relay, the direct ones get a short time together, so that the deadline
 * of whoever waits is not spent on addresses that swallow packets; later they are tried with more patience
 * (`upgrades.ts`).
 */
import type { Connection, Libp2p } from '@libp2p/interface';
import { peerIdFromString } from '@libp2p/peer-id';
import type { Multiaddr } from '@multiformats/multiaddr';
import { dialable, isRelayed } from './addresses.ts';
import { reasonOf } from './errors.ts';
import type { KnownPeers } from './known-peers.ts';

/** For all direct addresses of a peer, where it can be reached through a relay too. */
const DIRECT_FIRST_MS = 1_000;
/** For one address. */
export const ADDRESS_DIAL_TIMEOUT_MS = 3_000;

export class Dialler {
  readonly #node: Libp2p;
  readonly #known: KnownPeers;

  constructor(node: Libp2p, known: KnownPeers) {
    this.#node = node;
    this.#known = known;
  }

  /** The best open connection to a peer, made when there is none. */
  async connection(peer: string, signal: AbortSignal): Promise<Connection> {
    const id = peerIdFromString(peer);
    const open = this.#node
      .getConnections(id)
      .filter(({ status, limits }) => status === 'open' && limits === undefined);
    const best = open.find(({ direct }) => direct) ?? open[0];
    if (best !== undefined) return best;
    const { direct, relayed } = await this.#addresses(peer);
    // Without an address libp2p asks the DHT for one.
    if (direct.length + relayed.length === 0) return this.#node.dial(id, { signal });
    if (relayed.length === 0) return this.#dialEach(peer, direct, signal, ADDRESS_DIAL_TIMEOUT_MS * direct.length);
    try {
      return await this.#dialEach(peer, direct, signal, DIRECT_FIRST_MS);
    } catch (error) {
      if (signal.aborted) throw error;
      return this.#dialEach(peer, relayed, signal, ADDRESS_DIAL_TIMEOUT_MS * relayed.length);
    }
  }

  /** A direct connection, beside one through a relay. Rejects when no address answers. */
  async direct(peer: string, signal: AbortSignal): Promise<Connection> {
    const open = this.#node.getConnections(peerIdFromString(peer));
    const already = open.find(({ status, direct }) => status === 'open' && direct);
    if (already !== undefined) return already;
    const { direct } = await this.#addresses(peer);
    const connection = await this.#dialEach(peer, direct, signal, ADDRESS_DIAL_TIMEOUT_MS * direct.length);
    // A dial through a relay that was under way is shared by libp2p.
    if (!connection.direct) throw new Error('a relayed connection was made meanwhile');
    return connection;
  }

  /** One after the other; each gets its share of the time that is left. */
  async #dialEach(peer: string, addresses: Multiaddr[], signal: AbortSignal, allMs: number): Promise<Connection> {
    const end = performance.now() + allMs;
    const errors: unknown[] = [];
    for (const [index, address] of addresses.entries()) {
      signal.throwIfAborted();
      const shareMs = Math.ceil((end - performance.now()) / (addresses.length - index));
      const limit = AbortSignal.timeout(Math.max(1, Math.min(shareMs, ADDRESS_DIAL_TIMEOUT_MS)));
      try {
        return await this.#node.dial(address, { signal: AbortSignal.any([signal, limit]) });
      } catch (error) {
        errors.push(error);
        this.#noteFailure(peer, address, limit.aborted ? 'timeout' : shortReason(error));
      }
    }
    if (errors.length === 1) throw errors[0];
    throw new AggregateError(errors, errors.length === 0 ? 'no address of it is known' : 'no address of it answers');
  }

  #noteFailure(peer: string, address: Multiaddr, why: string): void {
    const known = this.#known.get(peer);
    if (known === undefined || isRelayed(address)) return;
    known.directFailure = why;
    // It is not passed on to others any more.
    known.reached = known.reached.filter((each) => each !== address.toString());
  }

  async #addresses(peer: string): Promise<{ direct: Multiaddr[]; relayed: Multiaddr[] }> {
    const id = peerIdFromString(peer);
    const known = this.#known.get(peer);
    const addresses = new Set([...(known?.reached ?? []), ...(known?.addresses ?? [])]);
    if (await this.#node.peerStore.has(id)) {
      for (const { multiaddr } of (await this.#node.peerStore.get(id)).addresses) addresses.add(multiaddr.toString());
    }
    const all = new Map(
      [...addresses].flatMap((address) => dialable(address, peer)).map((each) => [each.toString(), each]),
    );
    const targets = [...all.values()];
    return { direct: targets.filter((each) => !isRelayed(each)), relayed: targets.filter((each) => isRelayed(each)) };
  }
}

/** A word or two for lists. */
function shortReason(error: unknown): string {
  const reason = reasonOf(error);
  if (/refused/i.test(reason)) return 'refused';
  if (/unreach/i.test(reason)) return 'no route';
  if (/timeout|timed out|aborted/i.test(reason)) return 'timeout';
  return 'failed';
}
