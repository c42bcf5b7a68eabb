/**
 * Capabilities in the DHT: who offers what, for peers that are not connected. Cold discovery only: a look-up costs a
 * hundred milliseconds where a message on an open stream costs a fraction of one. All of it is a hint (P6).
 */

import type { AbortOptions, Libp2p, PeerId, PeerInfo } from '@libp2p/interface';
import type { KadDHT } from '@libp2p/kad-dht';
import { CID } from 'multiformats/cid';
import * as raw from 'multiformats/codecs/raw';
import { sha256 } from 'multiformats/hashes/sha2';
import type { Log } from '../../scheduler/ports.ts';
import { reasonOf } from './errors.ts';
import type { KnownPeers } from './known-peers.ts';

export const CAPABILITIES_MAX = 256;
/** A record lives 48 h, but a peer that joins near its key is asked before it has it. */
const REPROVIDE_INTERVAL_MS = 10 * 60_000;
/** After a new connection. Connections come in bursts, and announcing costs every peer time: the gap doubles. */
const ANNOUNCE_DELAY_MS = 200;
const ANNOUNCE_GAP_INITIAL_MS = 5_000;
const ANNOUNCE_GAP_MAX_MS = 5 * 60_000;
/** While a record reached nobody: the routing table fills some time after the first connection. Doubles too. */
const ANNOUNCE_RETRY_INITIAL_MS = 500;
const ANNOUNCE_RETRY_MAX_MS = 60_000;
const PROVIDE_TIMEOUT_MS = 10_000;

type DhtNode = Libp2p<{ dht: KadDHT }>;

/** The key under which the providers of a capability are found. */
export async function capabilityKey(mesh: string, capability: string): Promise<CID> {
  const bytes = new TextEncoder().encode(`flowmesh/1/${mesh}/capability/${capability}`);
  return CID.createV1(raw.code, await sha256.digest(bytes));
}

export class Discovery {
  readonly #node: DhtNode;
  readonly #known: KnownPeers;
  readonly #mesh: string;
  readonly #log: Log;
  #capabilities: string[] = [];
  #timer: NodeJS.Timeout | undefined;
  /** When the timer fires, by `performance.now()`. */
  #timerAt = Number.POSITIVE_INFINITY;
  #gapMs = ANNOUNCE_GAP_INITIAL_MS;
  /** Not before this, unless a record has reached nobody yet. */
  #quietUntil = 0;
  #reached = false;
  #retryMs = ANNOUNCE_RETRY_INITIAL_MS;
  #announcing = false;
  readonly #stop = new AbortController();

  constructor(node: DhtNode, known: KnownPeers, mesh: string, log: Log) {
    this.#node = node;
    this.#known = known;
    this.#mesh = mesh;
    this.#log = log;
  }

  /** Replaces what is announced. */
  provide(capabilities: string[]): void {
    const next = [...new Set(capabilities)].slice(0, CAPABILITIES_MAX);
    const dropped = this.#capabilities.filter((capability) => !next.includes(capability));
    const added = next.some((capability) => !this.#capabilities.includes(capability));
    this.#capabilities = next;
    for (const capability of dropped) void this.#withdraw(capability);
    if (!added) return;
    this.#reached = false;
    this.#gapMs = ANNOUNCE_GAP_INITIAL_MS;
    this.#schedule(0);
  }

  /** A peer connected: it may be the first that can keep a record. */
  onConnected(): void {
    const quietMs = this.#reached ? this.#quietUntil - performance.now() : 0;
    this.#schedule(Math.max(ANNOUNCE_DELAY_MS, quietMs));
  }

  stop(): void {
    this.#stop.abort();
    clearTimeout(this.#timer);
  }

  /**
   * Peers that the DHT names for a capability, without this one. Never rejects: at the deadline it is what was found.
   *
   * @param limit stops at this many
   */
  async find(capability: string, limit: number, deadlineMs: number, signal?: AbortSignal): Promise<string[]> {
    const key = await capabilityKey(this.#mesh, capability);
    return this.#collect(limit, deadlineMs, signal, async (options, found) => {
      for await (const event of this.#node.services.dht.findProviders(key, options)) {
        if (event.name === 'PROVIDER' && event.providers.some(found)) return;
      }
    });
  }

  /** Peers near this one in the DHT, whatever they can do. */
  async closest(limit: number, deadlineMs: number, signal?: AbortSignal): Promise<string[]> {
    const key = this.#node.peerId.toMultihash().bytes;
    return this.#collect(limit, deadlineMs, signal, async (options, found) => {
      for await (const event of this.#node.services.dht.getClosestPeers(key, options)) {
        if (event.name === 'FINAL_PEER' && found(event.peer)) return;
      }
    });
  }

  async #collect(
    limit: number,
    deadlineMs: number,
    signal: AbortSignal | undefined,
    query: (options: AbortOptions, found: (peer: PeerInfo) => boolean) => Promise<void>,
  ): Promise<string[]> {
    // Without a connection the routing table is empty and a query would only wait for its deadline.
    if (limit <= 0 || this.#node.getConnections().length === 0) return [];
    const signals = [this.#stop.signal, AbortSignal.timeout(deadlineMs), ...(signal === undefined ? [] : [signal])];
    const peers = new Set<string>();
    const found = ({ id, multiaddrs }: PeerInfo): boolean => {
      if (!this.#isSelf(id)) {
        const addresses = multiaddrs.map((address) => address.toString());
        this.#known.learn(id.toString(), addresses, 'dht');
        peers.add(id.toString());
      }
      return peers.size >= limit;
    };
    try {
      await query({ signal: AbortSignal.any(signals) }, found);
    } catch (error) {
      // P6: late or failed look-ups are less knowledge, not an error.
      this.#log.debug({ reason: reasonOf(error), found: peers.size }, 'a DHT look-up ended early');
    }
    return [...peers].slice(0, limit);
  }

  #isSelf(peer: PeerId): boolean {
    return this.#node.peerId.equals(peer);
  }

  #schedule(delayMs: number): void {
    const at = performance.now() + delayMs;
    if (this.#stop.signal.aborted || at >= this.#timerAt) return;
    clearTimeout(this.#timer);
    this.#timerAt = at;
    this.#timer = setTimeout(() => {
      this.#timerAt = Number.POSITIVE_INFINITY;
      void this.#announce();
    }, delayMs);
    this.#timer.unref();
  }

  async #announce(): Promise<void> {
    if (this.#announcing || this.#capabilities.length === 0) return;
    if (this.#node.getConnections().length === 0) return; // `onConnected` starts it again.
    this.#announcing = true;
    const capabilities = this.#capabilities;
    let reachedAll = true;
    for (const capability of capabilities) {
      if (this.#stop.signal.aborted) return;
      reachedAll = (await this.#announceOne(capability)) && reachedAll;
    }
    this.#announcing = false;
    if (capabilities !== this.#capabilities) return this.#schedule(0);
    this.#reached = reachedAll;
    if (!reachedAll) {
      this.#schedule(this.#retryMs);
      this.#retryMs = Math.min(this.#retryMs * 2, ANNOUNCE_RETRY_MAX_MS);
      return;
    }
    this.#retryMs = ANNOUNCE_RETRY_INITIAL_MS;
    this.#quietUntil = performance.now() + this.#gapMs;
    this.#gapMs = Math.min(this.#gapMs * 2, ANNOUNCE_GAP_MAX_MS);
    this.#schedule(REPROVIDE_INTERVAL_MS * (0.8 + Math.random() * 0.4));
  }

  /** @returns whether another peer keeps the record now */
  async #announceOne(capability: string): Promise<boolean> {
    const signal = AbortSignal.any([this.#stop.signal, AbortSignal.timeout(PROVIDE_TIMEOUT_MS)]);
    let kept = 0;
    try {
      for await (const event of this.#node.services.dht.provide(await capabilityKey(this.#mesh, capability), {
        signal,
      })) {
        if (event.name === 'PEER_RESPONSE' && event.messageName === 'ADD_PROVIDER') kept++;
      }
    } catch (error) {
      this.#log.debug({ capability, reason: reasonOf(error) }, 'announcing a capability ended early');
    }
    return kept > 0;
  }

  async #withdraw(capability: string): Promise<void> {
    try {
      await this.#node.services.dht.cancelReprovide(await capabilityKey(this.#mesh, capability));
    } catch (error) {
      this.#log.debug({ capability, reason: reasonOf(error) }, 'could not withdraw a capability');
    }
  }
}
