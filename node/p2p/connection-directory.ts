/** The connections of this peer, as the six peer tools see and change them. */
import type { Libp2p } from '@libp2p/interface';
import { FlowmeshError } from '../../dag/errors.ts';
import type { ConnectionInfo, ConnectResult, PeerDirectory } from '../../tools/peers.ts';
import { type DialPolicy, isRelayed, parseAddress, peerIn } from './addresses.ts';
import { type Bootstrap, backoffMs, type Reconnects } from './dialing.ts';
import type { Discovery } from './discovery.ts';
import { InvalidAddressError, PeerUnreachableError, reasonOf } from './errors.ts';
import { addSample, type KnownPeer, type KnownPeers, TRAFFIC_SAMPLE_INTERVAL_MS } from './known-peers.ts';
import { DISCONNECTED, type Links } from './links.ts';
import type { PeerStream } from './peer-stream.ts';

const CONNECT_RETRY_INITIAL_MS = 100;
const CONNECT_RETRY_MAX_MS = 2_000;
/** Of a PeerId: all begin alike. */
const ID_CHARS_SHOWN = 8;
const HOUR_MS = 60 * 60 * 1_000;

type ConnectTarget = Parameters<PeerDirectory['connect']>[0];
type BootstrapOptions = Parameters<PeerDirectory['bootstrap']>[0];
type DiscoverQuery = Parameters<PeerDirectory['discover']>[0];

export interface DirectoryParts {
  node: Libp2p;
  links: Links;
  known: KnownPeers;
  discovery: Discovery;
  bootstrap: Bootstrap;
  reconnects: Reconnects;
  policy: DialPolicy;
}

export class ConnectionDirectory implements PeerDirectory {
  readonly started_at = new Date().toISOString();
  readonly #parts: DirectoryParts;
  readonly #sampling: NodeJS.Timeout;

  constructor(parts: DirectoryParts) {
    this.#parts = parts;
    this.#sampling = setInterval(() => this.#sample(), TRAFFIC_SAMPLE_INTERVAL_MS);
    this.#sampling.unref();
  }

  stop(): void {
    clearInterval(this.#sampling);
  }

  list(): ConnectionInfo[] {
    return Array.from(this.#parts.known.all(), (known) => this.#info(known));
  }

  async connect(target: ConnectTarget): Promise<ConnectResult> {
    const { links, known } = this.#parts;
    const peer = targetPeer(target);
    if (target.multiaddr !== undefined) this.#parts.policy.give(target.multiaddr);
    if (peer === this.#parts.node.peerId.toString()) {
      throw new FlowmeshError('INVALID_TARGET', `${peer} is this peer itself. Name another peer.`);
    }
    const signal = AbortSignal.any([target.signal, AbortSignal.timeout(target.timeout_ms)]);
    const started = performance.now();
    for (let attempts = 1; ; attempts++) {
      try {
        const stream =
          peer === undefined
            ? await links.openAddress(target.multiaddr!, signal)
            : await links.open(peer, target.multiaddr === undefined ? [] : [target.multiaddr], signal);
        const found = known.learn(stream.peer, []);
        found.held = false;
        found.kept = target.persist;
        return {
          peer_id: stream.peer,
          connection_id: found.connectionId ?? '',
          connection_time_ms: performance.now() - started,
          protocol_version: found.protocolVersion ?? '',
          attempts,
        };
      } catch (error) {
        const final = error instanceof FlowmeshError && !error.retryable;
        if (final || signal.aborted || attempts > target.retry_count) throw withCause(error, peer, target);
        await delay(backoffMs(attempts - 1, CONNECT_RETRY_INITIAL_MS, CONNECT_RETRY_MAX_MS), signal);
      }
    }
  }

  async disconnect(peer: string, reason: string | undefined): Promise<{ was_connected: boolean }> {
    const { links, known, reconnects } = this.#parts;
    reconnects.cancel(peer);
    const found = known.get(peer);
    if (found !== undefined) found.held = true;
    const message =
      reason === undefined ? 'The connection was closed on purpose.' : `The connection was closed: ${reason}`;
    return { was_connected: await links.close(peer, { code: DISCONNECTED, message }) };
  }

  async discover(query: DiscoverQuery): Promise<ConnectionInfo[]> {
    const { links, known, discovery } = this.#parts;
    const peers = new Set<string>(links.connected());
    const { max_peers, timeout_ms, signal } = query;
    const named = new Set<string>();
    const searches =
      query.capabilities.length === 0
        ? [discovery.closest(max_peers, timeout_ms, signal)]
        : query.capabilities.map((capability) => discovery.find(capability, max_peers, timeout_ms, signal));
    for (const found of await Promise.all(searches)) for (const peer of found) named.add(peer);
    for (const peer of named) peers.add(peer);
    if (query.capabilities.length === 0) for (const { peer } of known.all()) peers.add(peer);
    return [...peers].slice(0, max_peers).map((peer) => {
      const info = this.#info(known.learn(peer, []));
      return info.source === 'met' && named.has(peer) ? { ...info, source: 'dht' } : info;
    });
  }

  async bootstrap(options: BootstrapOptions): ReturnType<PeerDirectory['bootstrap']> {
    const { links, known, bootstrap, node } = this.#parts;
    const used = (options.addresses.length > 0 ? options.addresses : bootstrap.addresses).slice(
      0,
      options.max_connections,
    );
    for (const address of used) this.#parts.policy.give(address);
    const signal = AbortSignal.any([options.signal, AbortSignal.timeout(options.timeout_ms)]);
    const connected = new Set<string>();
    const failed: { address: string; message: string }[] = [];
    await Promise.all(
      used.map(async (address) => {
        try {
          const { peer } = await links.openAddress(address, signal);
          const found = known.learn(peer, [address]);
          found.source = 'bootstrap';
          found.held = false;
          connected.add(peer);
        } catch (error) {
          const self = isOwn(node, address);
          failed.push({ address, message: self ? 'This address is the peer itself.' : reasonOf(error) });
        }
      }),
    );
    return { used, connected: [...connected], failed };
  }

  history(peer: string, hours: number): ReturnType<PeerDirectory['history']> {
    const since = new Date(Date.now() - hours * HOUR_MS).toISOString();
    return (this.#parts.known.get(peer)?.samples ?? []).filter(({ at }) => at >= since);
  }

  #info(known: KnownPeer): ConnectionInfo {
    const { links } = this.#parts;
    const stream = links.stream(known.peer);
    const status = stream !== null ? 'connected' : links.connecting(known.peer) ? 'connecting' : 'disconnected';
    const seen = stream === null ? known.lastSeen : stream.lastReceived;
    return {
      peer_id: known.peer,
      name: known.name,
      status,
      multiaddrs: known.addresses,
      connected_since: known.connectedSince === null ? null : new Date(known.connectedSince).toISOString(),
      last_seen: seen === null ? null : new Date(seen).toISOString(),
      direction: stream === null ? null : known.direction,
      path: stream === null ? null : known.relay === null ? 'direct' : 'relayed',
      relay: known.relay,
      path_reason: known.relay === null ? null : whyRelayed(known.relay, known),
      source: known.source === 'connected' && stream === null ? 'met' : known.source,
      protocol_version: known.protocolVersion,
      bytes_sent: known.bytesSent + (stream?.bytesSent ?? 0),
      bytes_received: known.bytesReceived + (stream?.bytesReceived ?? 0),
      connection_id: known.connectionId,
    };
  }

  #sample(): void {
    const at = new Date().toISOString();
    for (const known of this.#parts.known.all()) {
      const stream: PeerStream | null = this.#parts.links.stream(known.peer);
      if (stream === null) continue;
      const connection = this.#parts.node.getConnections().find(({ id }) => id === known.connectionId);
      addSample(known, {
        at,
        latency_ms: connection?.rtt ?? null,
        bytes_sent: known.bytesSent + stream.bytesSent,
        bytes_received: known.bytesReceived + stream.bytesReceived,
      });
    }
  }
}

function whyRelayed(relay: string, { addresses, directFailure }: KnownPeer): string {
  const why = addresses.every(isRelayed)
    ? 'no direct address of it is known'
    : `direct addresses did not answer (${directFailure ?? 'they are tried now'})`;
  return `relayed through …${relay.slice(-ID_CHARS_SHOWN)}: ${why}`;
}

/** The addresses this peer listens on, compared without the PeerId. */
export function isOwn(node: Libp2p, address: string): boolean {
  const target = parseAddress(address);
  const self = node.peerId.toString();
  const named = peerIn(target);
  if (named !== undefined) return named === self;
  return node.getMultiaddrs().some((own) => own.toString().replace(`/p2p/${self}`, '') === target.toString());
}

function targetPeer(target: ConnectTarget): string | undefined {
  if (target.multiaddr === undefined) return target.peer_id;
  const named = peerIn(parseAddress(target.multiaddr));
  if (named !== undefined && target.peer_id !== undefined && named !== target.peer_id) {
    throw new InvalidAddressError(target.multiaddr, `it names another peer than ${target.peer_id}`);
  }
  return target.peer_id ?? named;
}

function withCause(error: unknown, peer: string | undefined, target: ConnectTarget): FlowmeshError {
  if (error instanceof FlowmeshError) return error;
  return new PeerUnreachableError(peer ?? `at ${target.multiaddr}`, reasonOf(error), error);
}

function delay(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve(); // The next attempt sees the aborted signal and says so.
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', done, { once: true });
  });
}
