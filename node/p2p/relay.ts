/**
 * Members relay for members (circuit relay v2), so that a peer that nobody can dial is reached all the same: it keeps
 * a connection to a peer that can be dialled, and others come in through that one. What passes is encrypted from end
 * to end, and a relay is a member like any other.
 *
 * - A relayed connection has no limits of time or bytes: members trust each other with that. Libp2p would call one
 *   with limits a limited connection, on which neither gossip nor the DHT nor the peer stream may run.
 * - How many may be relayed for is bounded, and a place is free again as soon as its peer is gone.
 * - Hole punching (dcutr) is tried. Over TCP it succeeds where one of the two can be dialled after all.
 */
import { networkInterfaces } from 'node:os';
import { type CircuitRelayService, circuitRelayServer, circuitRelayTransport } from '@libp2p/circuit-relay-v2';
import { dcutr } from '@libp2p/dcutr';
import { type IdentifyPush, identifyPush } from '@libp2p/identify';
import type { Connection, Libp2p, PeerId, Transport } from '@libp2p/interface';
import { peerIdFromString } from '@libp2p/peer-id';
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr';
import ipaddr from 'ipaddr.js';
import type { Log } from '../../scheduler/ports.ts';
import { doorOf, relayIn } from './addresses.ts';
import { reasonOf } from './errors.ts';

/** uses: reaches others through relays, and is reached. serves: relays for others, too. */
export type Relaying = 'uses' | 'serves';

/** Peers that one relay keeps a place for. */
export const RELAY_PLACES_GIVEN_MAX = 128;
/** Relayed connections through one relay at once. */
export const RELAYED_CONNECTIONS_MAX = 512;
/** Relayed connections of one peer through one relay. */
const RELAYED_PER_PEER_MAX = 256;
/** Relays that this peer keeps a place at. */
const PLACES_MAX = 2;
/** Of them those in its own networks, which are of no use to peers elsewhere. */
const NEAR_PLACES_MAX = 1;
const PLACE_RETRY_MS = 15_000;
const HOLE_PUNCH_TIMEOUT_MS = 5_000;

const HOP_PROTOCOL = '/libp2p/circuit/relay/0.2.0/hop';

type Components = Parameters<ReturnType<typeof circuitRelayTransport>>[0];
type HolePunchComponents = Parameters<ReturnType<typeof dcutr>>[0];

/** What of @libp2p/circuit-relay-v2's transport is not in its types. */
interface CircuitTransport extends Transport {
  reservationStore: {
    addRelay(peer: PeerId, type: 'discovered'): Promise<unknown>;
    hasReservation(peer: PeerId): boolean;
    addEventListener(type: 'relay:removed', listener: () => void): void;
  };
  discovery?: unknown;
}

/** How this peer itself reaches others. */
interface Reach {
  /** The addresses at which it reached another one directly. */
  reached(peer: string): readonly string[];
  /** Dials another one at what that one says of itself. @returns where it answered */
  tryAddresses(peer: string): Promise<readonly string[]>;
}

/** The parts of a libp2p node that relay. `start` once it runs. */
export interface RelayParts {
  transport: (components: Components) => Transport;
  services: Record<string, (components: never) => unknown>;
  /** For its connection gater. */
  denyOutboundRelayedConnection(): boolean;
  /** Of the addresses of this peer, those that lead somewhere. */
  announced(addresses: Multiaddr[]): Multiaddr[];
  /** Addresses of a peer that keeps a place here: those of this peer, and on from it. */
  throughHere(peer: string): string[];
  start(node: Libp2p, reach: Reach): Promise<void>;
  /** Something changed: there may be a relay to ask for a place. */
  look(): void;
  /** Tells all connected peers the addresses of this one. */
  tell(): void;
  stop(): void;
}

export function relayParts(relaying: Relaying, log: Log): RelayParts {
  let node: Libp2p | undefined;
  let places: RelayPlaces | undefined;
  let parts: { transport: CircuitTransport; components: Components } | undefined;
  return {
    transport: (components) => {
      const init = { maxInboundStopStreams: RELAYED_PER_PEER_MAX };
      const transport = circuitRelayTransport(init)(components) as CircuitTransport;
      // It would take the first relays it meets, also those that are of no use, and walk the DHT for more.
      transport.discovery = undefined;
      parts = { transport, components };
      return transport;
    },
    services: {
      // Others hear of it when this peer has another address, or a place at a relay.
      identifyPush: identifyPush(),
      holePunch: (components: HolePunchComponents) => holePunch(components),
      ...(relaying === 'serves' && {
        relay: circuitRelayServer({
          reservations: { maxReservations: RELAY_PLACES_GIVEN_MAX, applyDefaultLimit: false },
          maxInboundHopStreams: RELAYED_PER_PEER_MAX,
          maxOutboundHopStreams: RELAYED_PER_PEER_MAX,
        }),
      }),
    },
    denyOutboundRelayedConnection: () => relayedThrough(node) > RELAYED_CONNECTIONS_MAX,
    announced: (addresses) => addresses.filter((address) => places?.leads(address) ?? true),
    throughHere(peer) {
      const { relay } = (node?.services ?? {}) as { relay?: CircuitRelayService };
      if (node === undefined || relay?.reservations.has(peerIdFromString(peer)) !== true) return [];
      const own = node.getMultiaddrs().filter((address) => relayIn(address) === null);
      return own.map((address) => `${address}/p2p-circuit/p2p/${peer}`);
    },
    async start(started, reach) {
      node = started;
      const { relay } = started.services as { relay?: CircuitRelayService };
      if (relay !== undefined) started.addEventListener('peer:disconnect', ({ detail }) => release(relay, detail));
      places = new RelayPlaces(started, parts!.transport, reach, log);
      // Each is a place to listen at, once there is a relay.
      const anywhere = Array.from({ length: PLACES_MAX }, () => multiaddr('/p2p-circuit'));
      for (const address of anywhere) await parts!.components.transportManager.listen([address]);
      await places.start();
    },
    look: () => places?.lookSoon(0),
    tell() {
      const { identifyPush } = (node?.services ?? {}) as { identifyPush?: IdentifyPush };
      identifyPush?.push().catch((error) => log.debug({ reason: reasonOf(error) }, 'addresses could not be told'));
    },
    stop: () => places?.stop(),
  };
}

/** A place is for a peer that is connected. The signal would take away the next one, too, when its time is up. */
function release(relay: CircuitRelayService, peer: PeerId): void {
  (relay.reservations.get(peer)?.signal as { clear?(): void } | undefined)?.clear?.();
  relay.reservations.delete(peer);
}

/** Each relayed connection is a stream from its dialler that stays open. */
function relayedThrough(node: Libp2p | undefined): number {
  let count = 0;
  for (const { streams } of node?.getConnections() ?? []) {
    for (const { protocol, direction } of streams) if (protocol === HOP_PROTOCOL && direction === 'inbound') count++;
  }
  return count;
}

/**
 * dcutr, but for the end: it closes the relayed connection as soon as there is a direct one, with all that is under
 * way on it. The peer stream is moved first, and then the connection is closed (`links.ts`).
 */
function holePunch(components: HolePunchComponents): unknown {
  const { registrar, peerStore, connectionManager, addressManager, transportManager, logger } = components;
  const keeping: Pick<typeof registrar, 'register' | 'unregister' | 'handle' | 'unhandle'> = {
    register: (protocol, topology, options) =>
      registrar.register(
        protocol,
        { ...topology, onConnect: (peer, connection) => topology.onConnect?.(peer, kept(connection)) },
        options,
      ),
    unregister: (id) => registrar.unregister(id),
    handle: (protocol, handler, options) =>
      registrar.handle(protocol, (stream, connection) => handler(stream, kept(connection)), options),
    unhandle: (protocol, options) => registrar.unhandle(protocol, options),
  };
  return dcutr({ timeout: HOLE_PUNCH_TIMEOUT_MS, retries: 1 })({
    ...{ peerStore, connectionManager, addressManager, transportManager, logger },
    registrar: keeping as typeof registrar,
  });
}

function kept(connection: Connection): Connection {
  return new Proxy(connection, {
    get(target, key) {
      if (key === 'close') return async () => {};
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

/**
 * Keeps a place at up to two relays: peers that this one reached directly, so that others can too, and of those in its
 * own networks one at most.
 */
class RelayPlaces {
  readonly #node: Libp2p;
  readonly #transport: CircuitTransport;
  readonly #reach: Reach;
  /** Connected ones that were dialled for that alone: they have dialled this peer, which does not say where they are. */
  readonly #tried = new Set<string>();
  readonly #log: Log;
  /** Connected peers that relay, by their id. */
  readonly #relays = new Map<string, PeerId>();
  /** Where relays that gave a place can be dialled, as far as they said or this peer tried. */
  readonly #doors = new Map<string, Set<string | undefined>>();
  #topology: string | undefined;
  #timer: NodeJS.Timeout | undefined;
  #looking = false;
  #stopped = false;

  constructor(node: Libp2p, transport: CircuitTransport, reach: Reach, log: Log) {
    this.#node = node;
    this.#transport = transport;
    this.#reach = reach;
    this.#log = log;
  }

  async start(): Promise<void> {
    this.#transport.reservationStore.addEventListener('relay:removed', () => this.lookSoon(0));
    this.#topology = await this.#node.register(HOP_PROTOCOL, {
      onConnect: (peer) => {
        this.#relays.set(peer.toString(), peer);
        this.lookSoon(0);
      },
      onDisconnect: (peer) => {
        this.#relays.delete(peer.toString());
        this.#doors.delete(peer.toString());
        this.#tried.delete(peer.toString());
      },
    });
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
    if (this.#topology !== undefined) this.#node.unregister(this.#topology);
  }

  /** False for an address through a relay at the port from which the relay itself dialled: nobody listens there. */
  leads(address: Multiaddr): boolean {
    const relay = relayIn(address);
    return relay === null || this.#doors.get(relay)?.has(doorOf(address)) === true;
  }

  lookSoon(delayMs: number): void {
    clearTimeout(this.#timer);
    if (this.#stopped) return;
    this.#timer = setTimeout(() => void this.#look(), delayMs);
    this.#timer.unref();
  }

  async #look(): Promise<void> {
    if (this.#looking) return;
    this.#looking = true;
    await this.#tryUnreached();
    const refused = new Set<string>();
    for (let next = this.#next(refused); next !== null; next = this.#next(refused)) {
      const relay = next.toString();
      try {
        await this.#noteDoors(next);
        await this.#transport.reservationStore.addRelay(next, 'discovered');
        this.#log.info({ relay }, 'others reach this peer through a relay, too');
      } catch (error) {
        refused.add(relay);
        this.#log.debug({ relay, reason: reasonOf(error) }, 'a relay gave no place');
      }
    }
    this.#looking = false;
    if (refused.size > 0) this.lookSoon(PLACE_RETRY_MS);
  }

  /** A relay that came back may have dialled this peer before this peer dialled it. */
  async #tryUnreached(): Promise<void> {
    const untried = [...this.#relays.keys()].filter((name) => !this.#tried.has(name) && !this.#reach.reached(name)[0]);
    for (const name of untried) this.#tried.add(name);
    await Promise.all(untried.map((name) => this.#reach.tryAddresses(name)));
  }

  /** The relay to ask next, or null. */
  #next(refused: Set<string>): PeerId | null {
    let [places, near] = [0, 0];
    const far: PeerId[] = [];
    const close: PeerId[] = [];
    for (const [name, peer] of this.#relays) {
      const [address] = this.#reach.reached(name);
      if (address === undefined) continue;
      const isNear = isInOwnNetwork(address);
      if (this.#transport.reservationStore.hasReservation(peer)) {
        places++;
        if (isNear) near++;
      } else if (!refused.has(name) && this.#node.getConnections(peer).some(({ direct }) => direct)) {
        (isNear ? close : far).push(peer);
      }
    }
    if (places >= PLACES_MAX) return null;
    return far[0] ?? (near < NEAR_PLACES_MAX ? (close[0] ?? null) : null);
  }

  async #noteDoors(relay: PeerId): Promise<void> {
    const said = (await this.#node.peerStore.get(relay)).addresses.map((each) => each.multiaddr);
    const tried = this.#reach.reached(relay.toString()).map((address) => multiaddr(address));
    this.#doors.set(relay.toString(), new Set([...said, ...tried].map(doorOf)));
  }
}

function isInOwnNetwork(reachedAt: string): boolean {
  const host = multiaddr(reachedAt).getComponents()[0]?.value ?? '';
  if (!ipaddr.isValid(host)) return false;
  const address = ipaddr.process(host);
  const networks = Object.values(networkInterfaces()).flatMap((each) => each ?? []);
  return networks.some(({ cidr }) => {
    if (cidr === null) return false;
    const [base, bits] = ipaddr.parseCIDR(cidr);
    return base.kind() === address.kind() && address.match(base, bits);
  });
}
