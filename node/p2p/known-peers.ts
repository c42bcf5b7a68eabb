/**
 * What this peer remembers about the peers it met or heard of, connected or not: bounded, the longest unseen ones
 * that are not connected go first (P7). Also the traffic of the last 24 hours, one sample a minute.
 */
import type { ConnectionInfo } from '../../tools/peers.ts';
import { dialable } from './addresses.ts';

export const PEERS_KNOWN_MAX = 1_024;
const ADDRESSES_PER_PEER_MAX = 16;
export const TRAFFIC_SAMPLE_INTERVAL_MS = 60_000;
const TRAFFIC_SAMPLES_MAX = 24 * 60;

export interface TrafficSample {
  at: string;
  latency_ms: number | null;
  bytes_sent: number;
  bytes_received: number;
}

export interface KnownPeer {
  readonly peer: string;
  addresses: string[];
  /** Addresses at which this peer itself reached it directly, the last one first. */
  reached: string[];
  /** Whom its connection goes through; null when it is direct, or there is none. */
  relay: string | null;
  /** Why the last direct dial failed, in a word or two. */
  directFailure: string | null;
  name: string | null;
  source: ConnectionInfo['source'];
  protocolVersion: string | null;
  connectedSince: number | null;
  lastSeen: number | null;
  direction: 'inbound' | 'outbound' | null;
  connectionId: string | null;
  connected: boolean;
  /** It greeted us once, or was to be kept: worth dialling again by itself. */
  kept: boolean;
  /** Disconnected on purpose, here or there: not dialled again until someone asks. */
  held: boolean;
  /** Bytes of streams that are closed. */
  bytesSent: number;
  bytesReceived: number;
  samples: TrafficSample[];
}

export class KnownPeers {
  readonly #peers = new Map<string, KnownPeer>();
  readonly #mayDial: (address: string) => boolean;

  /** @param mayDial what is not an address to dial is not kept */
  constructor(mayDial: (address: string) => boolean) {
    this.#mayDial = mayDial;
  }

  get(peer: string): KnownPeer | undefined {
    return this.#peers.get(peer);
  }

  all(): IterableIterator<KnownPeer> {
    return this.#peers.values();
  }

  /** Notes that a peer exists, and addresses to dial it at: the newest first, within a bound. */
  learn(peer: string, addresses: readonly string[], source?: ConnectionInfo['source']): KnownPeer {
    let known = this.#peers.get(peer);
    if (known === undefined) {
      known = unmet(peer, source ?? 'connected');
      this.#makeRoom();
      this.#peers.set(peer, known);
    }
    const named = addresses
      .flatMap((address) => dialable(address, peer).map(String))
      .filter((address) => known.addresses.includes(address) || this.#mayDial(address));
    if (named.some((address) => !known.addresses.includes(address))) {
      known.addresses = [...new Set([...named, ...known.addresses])].slice(0, ADDRESSES_PER_PEER_MAX);
    }
    return known;
  }

  /** The peer greeted us. */
  connected(
    peer: string,
    addresses: readonly string[],
    facts: Pick<KnownPeer, 'name' | 'protocolVersion' | 'direction' | 'connectionId' | 'relay'>,
    reached: readonly string[],
  ): void {
    const now = Date.now();
    const fresh = { connected: true, connectedSince: now, lastSeen: now, kept: true, held: false };
    const known = this.learn(peer, [...reached, ...addresses]);
    Object.assign(known, facts, fresh);
    this.reachedAt(peer, reached);
  }

  /** This peer dialled it there, and it answered. */
  reachedAt(peer: string, addresses: readonly string[]): void {
    const known = this.learn(peer, addresses);
    known.reached = [...new Set([...addresses, ...known.reached])].slice(0, ADDRESSES_PER_PEER_MAX);
  }

  /** One of its streams ended; its bytes are added to the peer's. */
  streamEnded(peer: string, stream: { bytesSent: number; bytesReceived: number; lastReceived: number }): void {
    const known = this.learn(peer, []);
    known.bytesSent += stream.bytesSent;
    known.bytesReceived += stream.bytesReceived;
    known.lastSeen = Math.max(known.lastSeen ?? 0, stream.lastReceived);
  }

  /** It has no stream any more. */
  disconnected(peer: string, onPurpose: boolean): void {
    const known = this.learn(peer, []);
    Object.assign(known, { connected: false, connectedSince: null, connectionId: null, relay: null });
    if (onPurpose) known.held = true;
  }

  /** Undoes `learn` for a peer that was never seen. */
  forget(peer: string): void {
    if (this.#peers.get(peer)?.lastSeen === null) this.#peers.delete(peer);
  }

  #makeRoom(): void {
    if (this.#peers.size < PEERS_KNOWN_MAX) return;
    let oldest: KnownPeer | undefined;
    for (const known of this.#peers.values()) {
      if (known.connected) continue;
      if (oldest === undefined || (known.lastSeen ?? 0) < (oldest.lastSeen ?? 0)) oldest = known;
    }
    if (oldest !== undefined) this.#peers.delete(oldest.peer);
  }
}

function unmet(peer: string, source: ConnectionInfo['source']): KnownPeer {
  return {
    peer,
    addresses: [],
    reached: [],
    relay: null,
    directFailure: null,
    name: null,
    source,
    protocolVersion: null,
    connectedSince: null,
    lastSeen: null,
    direction: null,
    connectionId: null,
    connected: false,
    kept: false,
    held: false,
    bytesSent: 0,
    bytesReceived: 0,
    samples: [],
  };
}

/** Adds the sample of one minute; the oldest beyond 24 hours goes. */
export function addSample(known: KnownPeer, sample: TrafficSample): void {
  known.samples.push(sample);
  if (known.samples.length > TRAFFIC_SAMPLES_MAX) known.samples.shift();
}
