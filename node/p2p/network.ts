/**
 * This peer's place in the mesh: the Network port of the scheduler and the PeerDirectory of the tools, on libp2p.
 *
 * @example
 * const network = await createP2PNetwork({ mesh: 'default', listen: ['/ip4/127.0.0.1/tcp/0'], … });
 * network.attach(events, () => state);
 * await network.start();
 */
import { createHash } from 'node:crypto';
import type { Connection, IdentifyResult, Libp2p, PeerInfo, Stream } from '@libp2p/interface';
import { errorShape, FlowmeshError, type JsonObject, type JsonValue, RemoteError } from '../../dag/errors.ts';
import type { PeerState } from '../../scheduler/messages.ts';
import type { Log, Network, NetworkEvents } from '../../scheduler/ports.ts';
import { FULL_MEMBER, type Membership } from '../../scheduler/roles.ts';
import type { ConnectResult, PeerDirectory } from '../../tools/peers.ts';
import { after } from '../clock.ts';
import { Authority } from '../membership/authority.ts';
import type { Membership as SecuredMembership } from '../membership/membership.ts';
import { type MeshRequest, serveMeshRequest } from '../membership/requests.ts';
import { parseAddress } from './addresses.ts';
import { Admission } from './admission.ts';
import { ConnectionDirectory, isOwn } from './connection-directory.ts';
import { Dialler } from './dial-order.ts';
import { Bootstrap, Reconnects } from './dialing.ts';
import { Discovery } from './discovery.ts';
import { DeadlineExceededError, PeerUnreachableError, reasonOf } from './errors.ts';
import { OfferGossip } from './gossip.ts';
import { HELLO, PEER_PROTOCOL, PEER_PROTOCOL_FAMILY } from './greeting.ts';
import { createHost, type Host } from './host.ts';
import { KnownPeers } from './known-peers.ts';
import { type LinkEvents, Links } from './links.ts';
import { Liveness, type LivenessLimits } from './liveness.ts';
import { MemberExchange } from './member-exchange.ts';
import { OwnAddresses } from './own-addresses.ts';
import type { Goodbye, PeerStreamLimits } from './peer-stream.ts';
import { reachOf, tryAddresses } from './reach.ts';
import type { Relaying } from './relay.ts';
import { Upgrades } from './upgrades.ts';

/** Peer streams open at once on one connection; more than one only while two peers dial each other. */
const PEER_STREAMS_PER_CONNECTION_MAX = 8;
const ADDRESSES_TOLD_MAX = 32;
const OWN_ADDRESSES_AGE_MS = 1_000;
const CONNECT_TIMEOUT_MS = 10_000;

export interface P2POptions {
  mesh: string;
  /** Multiaddrs; port 0 takes a free one. */
  listen: string[];
  /** Multiaddrs, which may lack a PeerId. */
  bootstrap: string[];
  /** The peer's own folder: `identity.key` and `libp2p/` are kept there. */
  data_dir: string;
  name: string;
  version: string;
  mdns: boolean;
  /** What peers of this mesh look for in their network (mDNS), at most 62 characters. Default: the name of the mesh. */
  discovery_tag?: string | undefined;
  gossip: boolean;
  /** Dial peers that discovery names while fewer than `target_connections` are connected. */
  auto_connect: boolean;
  target_connections: number;
  log: Log;
  /** Peer ids that this peer neither dials nor accepts. Asked at each connection: for tests of topologies. */
  denied?: () => Set<string>;
  /** Peers that cannot be dialled are reached through members that relay. Default: not at all. */
  relay?: Relaying | undefined;
  /** Addresses that cannot be dialled from here: for tests of relays. */
  undialable?: (address: string) => boolean;
  /** This peer's place in a secured mesh; null in an open one. */
  membership?: SecuredMembership | null;
  /** Default: the constants of `peer-stream.ts`. */
  limits?: PeerStreamLimits;
  /** Default: the constants of `liveness.ts`. */
  liveness?: LivenessLimits;
}

export interface P2PNetwork extends Network, Omit<PeerDirectory, 'connect'> {
  connect(peer: string, addresses: string[]): Promise<void>;
  connect(target: Parameters<PeerDirectory['connect']>[0]): Promise<ConnectResult>;
  /** Who hears messages, and what this peer says about itself. Before `start`. */
  attach(events: NetworkEvents, describe: (peer: string) => PeerState): void;
  /** Listens, and dials the bootstrap addresses and the peers of earlier runs. @throws ListenError */
  start(): Promise<void>;
  /** Says goodbye and closes everything, the files too. */
  stop(): Promise<void>;
  /** Breaks the connections to peers that are denied by now. */
  dropDenied(): void;
  /** What an admin asks of this member of a secured mesh. @throws MembershipError NOT_SECURED and others */
  meshRequest(request: MeshRequest, input: unknown, notes: string[]): Promise<JsonObject>;
}

/** @throws IdentityUnreadableError, DataFolderInUseError, InvalidAddressError */
export async function createP2PNetwork(options: P2POptions): Promise<P2PNetwork> {
  const denied = options.denied ?? (() => NOBODY);
  for (const address of options.bootstrap) parseAddress(address);
  const { membership = null, log } = options;
  const secured = membership === null ? null : { membership, authority: new Authority(membership), log };
  // Names are for people: what peers of a secured mesh have in common is its id, of which the neighbours hear a hash.
  const named =
    membership === null ? options : { discovery_tag: tagOf(membership), ...options, mesh: membership.ledger.mesh };
  const admission = secured === null ? null : new Admission(secured);
  const host = await createHost({ ...named, denied, admission });
  return new Libp2pNetwork(host, named, denied, admission === null ? null : { ...secured!, admission });
}

function tagOf({ ledger }: SecuredMembership): string {
  return `fm-${createHash('sha256').update(`flowmesh/mdns/${ledger.mesh}`).digest('hex').slice(0, TAG_CHARS)}`;
}

const TAG_CHARS = 32;
const NOBODY: Set<string> = new Set();

/** What a network of a secured mesh has besides. */
interface Secured {
  membership: SecuredMembership;
  authority: Authority;
  admission: Admission;
}

class Libp2pNetwork implements P2PNetwork {
  readonly self: string;
  readonly #host: Host;
  readonly #node: Libp2p;
  readonly #options: P2POptions;
  readonly #denied: () => Set<string>;
  readonly #secured: Secured | null;
  readonly #members: MemberExchange | null;
  readonly #known: KnownPeers;
  readonly #links: Links;
  readonly #reconnects: Reconnects;
  readonly #bootstrap: Bootstrap;
  readonly #discovery: Discovery;
  readonly #gossip: OfferGossip;
  readonly #directory: ConnectionDirectory;
  readonly #liveness: Liveness;
  readonly #upgrades: Upgrades;
  readonly #ownAddresses = new OwnAddresses(() => this.#moved());
  #attached: { events: NetworkEvents; describe: (peer: string) => PeerState } | null = null;
  /** Peers the scheduler was told are connected and not yet that they are not. */
  readonly #told = new Set<string>();
  #own: { made_at: number; addresses: string[] } | undefined;
  #stopped: Promise<void> | null = null;

  constructor(host: Host, options: P2POptions, denied: () => Set<string>, secured: Secured | null) {
    const { log, mesh } = options;
    this.#host = host;
    this.#node = host.node;
    this.#options = options;
    this.#denied = denied;
    this.#secured = secured;
    this.self = host.node.peerId.toString();
    for (const address of options.bootstrap) host.policy.give(address);
    this.#known = new KnownPeers((address) => host.policy.mayDial(address));
    const dialler = new Dialler(this.#node, this.#known);
    this.#links = new Links(this.#node, this.#known, this.#linkEvents(), {
      mesh,
      dialler,
      describe: (peer) => this.#attachment.describe(peer),
      addresses: () => this.addresses(),
      denied,
      limits: options.limits,
      refusal: (peer) => secured?.admission.refusal(peer),
      log,
    });
    this.#upgrades = new Upgrades({ node: this.#node, known: this.#known, links: this.#links, dialler, log });
    this.#members =
      secured === null
        ? null
        : new MemberExchange({ ...secured, node: this.#node, log, expel: (peer, why) => this.#expel(peer, why) });
    if (secured !== null) secured.admission.copy = (statements) => this.#members!.tell(statements);
    this.#reconnects = new Reconnects(this.#links, this.#known, denied, log);
    this.#bootstrap = new Bootstrap(this.#links, this.#known, {
      addresses: options.bootstrap,
      isSelf: (address) => isOwn(this.#node, address),
      log,
    });
    this.#discovery = new Discovery(host.node, this.#known, mesh, log);
    this.#liveness = new Liveness(
      { node: this.#node, heardAt: (connection) => this.#heardAt(connection), log },
      options.liveness,
    );
    this.#gossip = new OfferGossip(host.node.services.pubsub, mesh, log);
    this.#directory = new ConnectionDirectory({
      node: this.#node,
      links: this.#links,
      known: this.#known,
      discovery: this.#discovery,
      bootstrap: this.#bootstrap,
      reconnects: this.#reconnects,
      policy: host.policy,
    });
  }

  get started_at(): string {
    return this.#directory.started_at;
  }

  attach(events: NetworkEvents, describe: (peer: string) => PeerState): void {
    this.#attached = { events, describe };
  }

  async start(): Promise<void> {
    const { events } = this.#attachment;
    await this.#node.handle(PEER_PROTOCOL, (stream, connection) => this.#accept(stream, connection), {
      maxInboundStreams: PEER_STREAMS_PER_CONNECTION_MAX,
      maxOutboundStreams: PEER_STREAMS_PER_CONNECTION_MAX,
    });
    this.#gossip.listen((from, offer) => this.#guard('an offer', () => events.onOffer(from, offer)));
    this.#node.addEventListener('peer:discovery', (event) => this.#onDiscovered(event.detail));
    this.#node.addEventListener('peer:identify', ({ detail }) => this.#onIdentified(detail));
    this.#node.addEventListener('self:peer:update', () => {
      this.#own = undefined;
    });
    await this.#members?.start();
    await this.#host.start();
    const parts = { node: this.#node, known: this.#known };
    await this.#host.relay?.start(this.#node, {
      reached: (peer) => this.#known.get(peer)?.reached ?? [],
      tryAddresses: (peer) => tryAddresses(parts, peer),
    });
    this.#liveness.start();
    this.#upgrades.start();
    this.#ownAddresses.start();
    this.#bootstrap.start();
    await this.#dialEarlierPeers();
  }

  stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  async #stop(): Promise<void> {
    this.#bootstrap.stop();
    this.#reconnects.stop();
    this.#discovery.stop();
    this.#liveness.stop();
    this.#upgrades.stop();
    this.#members?.stop();
    this.#ownAddresses.stop();
    this.#directory.stop();
    await this.#links.stop();
    await this.#host.stop();
  }

  /** Asked for with every record that is looked up here, and costly to make: they are made anew once a second. */
  addresses(): string[] {
    const now = performance.now();
    if (this.#own !== undefined && now - this.#own.made_at < OWN_ADDRESSES_AGE_MS) return this.#own.addresses;
    const own = this.#node.getMultiaddrs().slice(0, ADDRESSES_TOLD_MAX);
    const addresses = own.map((address) => address.toString());
    this.#own = addresses.length === 0 ? undefined : { made_at: now, addresses }; // it does not listen yet
    return addresses;
  }

  expelled(peer: string): boolean {
    return this.#secured?.admission.isRevoked(peer) ?? false;
  }

  addressesOf(peer: string): string[] {
    const known = this.#known.get(peer);
    if (known === undefined) return [];
    // In an open mesh all of them are addresses of this machine.
    if (this.#host.relay === undefined) return known.addresses;
    const through = known.relay === null ? this.#host.relay.throughHere(peer) : [];
    return [...known.reached, ...through];
  }

  connected(): string[] {
    return this.#links.connected();
  }

  membership(peer: string): Membership | null {
    return this.#secured === null ? FULL_MEMBER : this.#secured.membership.of(peer);
  }

  request(peer: string, method: string, params: JsonObject, deadlineMs: number): Promise<JsonValue> {
    const stream = this.#links.stream(peer);
    if (stream !== null) return stream.request(method, params, deadlineMs);
    if (peer === this.self) return this.#requestSelf(method, params, deadlineMs);
    const redial = this.#links.redial(peer);
    if (redial !== null) return this.#requestAfter(redial, peer, method, params, deadlineMs);
    return Promise.reject(new PeerUnreachableError(peer, 'it is not connected'));
  }

  notify(peer: string, method: string, params: JsonObject): void {
    if (peer === this.self) setImmediate(() => this.#notification(peer, method, params));
    else this.#links.stream(peer)?.notify(method, params);
  }

  publish(offer: JsonObject): void {
    this.#gossip.publish(offer);
  }

  provide(capabilities: string[]): void {
    this.#discovery.provide(capabilities);
  }

  findProviders(capability: string, limit: number, deadlineMs: number): Promise<string[]> {
    return this.#discovery.find(capability, limit, deadlineMs);
  }

  connect(peer: string, addresses: string[]): Promise<void>;
  connect(target: Parameters<PeerDirectory['connect']>[0]): Promise<ConnectResult>;
  async connect(target: string | Parameters<PeerDirectory['connect']>[0], addresses: string[] = []): Promise<unknown> {
    if (typeof target !== 'string') return this.#directory.connect(target);
    if (target === this.self) return undefined;
    if (this.#known.get(target)?.held && this.#links.stream(target) === null) {
      throw new PeerUnreachableError(target, 'it was disconnected on purpose, here or there; connect to it by hand');
    }
    await this.#links.open(target, addresses, AbortSignal.timeout(CONNECT_TIMEOUT_MS));
    return undefined;
  }

  list(): ReturnType<PeerDirectory['list']> {
    return this.#directory.list();
  }

  disconnect(peer: string, reason: string | undefined): ReturnType<PeerDirectory['disconnect']> {
    return this.#directory.disconnect(peer, reason);
  }

  discover(query: Parameters<PeerDirectory['discover']>[0]): ReturnType<PeerDirectory['discover']> {
    return this.#directory.discover(query);
  }

  bootstrap(options: Parameters<PeerDirectory['bootstrap']>[0]): ReturnType<PeerDirectory['bootstrap']> {
    return this.#directory.bootstrap(options);
  }

  history(peer: string, hours: number): ReturnType<PeerDirectory['history']> {
    return this.#directory.history(peer, hours);
  }

  dropDenied(): void {
    this.#links.dropDenied();
  }

  meshRequest(request: MeshRequest, input: unknown, notes: string[]): Promise<JsonObject> {
    const secured = this.#secured;
    const parts = { node: this.#node, known: this.#known, list: () => this.list(), listen: this.#options.listen };
    return serveMeshRequest(secured === null ? null : { ...secured, ...reachOf(parts, notes) }, request, input);
  }

  get #attachment(): { events: NetworkEvents; describe: (peer: string) => PeerState } {
    if (this.#attached === null) throw new FlowmeshError('NOT_ATTACHED', 'The network is started before `attach`.');
    return this.#attached;
  }

  #accept(stream: Stream, connection: Connection): void {
    this.#links.accept(stream, connection);
  }

  #heardAt(connection: Connection): number {
    const peer = connection.remotePeer.toString();
    // Another connection of the same peer says nothing about this one.
    if (this.#known.get(peer)?.connectionId !== connection.id) return 0;
    return this.#links.stream(peer)?.lastReceived ?? 0;
  }

  #linkEvents(): LinkEvents {
    return {
      greeted: (peer, state, how) => this.#greeted(peer, state, how),
      lost: (peer, goodbye) => this.#lost(peer, goodbye),
      request: async (peer, method, params) => this.#attachment.events.onMessage(peer, method, params),
      notification: (peer, method, params) => this.#notification(peer, method, params),
    };
  }

  #greeted(peer: string, state: PeerState, how: 'inbound' | 'outbound'): void {
    this.#reconnects.cancel(peer);
    this.#upgrades.greeted(peer);
    this.#told.add(peer);
    this.#notification(peer, HELLO, state);
    this.#guard('a new connection', () => this.#attachment.events.onConnected(peer, how));
    this.#discovery.onConnected();
    this.#host.relay?.look();
    this.#remember(peer);
  }

  /** It is no member of the mesh any more: nothing goes on with it. */
  #expel(peer: string, why: FlowmeshError): void {
    const known = this.#known.get(peer);
    if (known !== undefined && this.#secured?.admission.isRevoked(peer) === true) known.kept = false;
    this.#links.close(peer, { code: why.code, message: why.message }).catch((error: unknown) => {
      this.#options.log.debug(
        { peer, reason: reasonOf(error) },
        'the connections of an expelled peer did not close well',
      );
    });
  }

  #moved(): void {
    this.#own = undefined;
    this.#options.log.info(
      { addresses: this.addresses() },
      'this machine has other addresses now: connections are tested',
    );
    this.#liveness.doubtAll();
    this.#reconnects.hurry();
    this.#bootstrap.hurry();
    this.#host.relay?.tell();
  }

  #lost(peer: string, goodbye: Goodbye | null): void {
    this.#upgrades.cancel(peer);
    if (this.#told.delete(peer)) {
      this.#guard('a lost connection', () => this.#attachment.events.onDisconnected(peer));
    }
    const known = this.#known.get(peer);
    if (known?.kept && !known.held) this.#reconnects.start(peer);
    if (goodbye?.code !== 'DISCONNECTED') this.#bootstrap.lost(peer);
  }

  #notification(peer: string, method: string, params: unknown): void {
    const handle = async (): Promise<unknown> => this.#attachment.events.onMessage(peer, method, params);
    handle().catch((error) => {
      this.#options.log.warn({ peer, method, reason: reasonOf(error) }, 'a notification was not handled');
    });
  }

  /** An event handler that throws must not end the loop that called it. */
  #guard(what: string, handle: () => void): void {
    try {
      handle();
    } catch (error) {
      this.#options.log.error({ error }, `${what} was not handled`);
    }
  }

  #requestSelf(method: string, params: JsonObject, deadlineMs: number): Promise<JsonValue> {
    return new Promise((resolve, reject) => {
      const callOff = after(deadlineMs, () => reject(new DeadlineExceededError(this.self, method, deadlineMs)));
      const handle = async (): Promise<JsonValue> =>
        (await this.#attachment.events.onMessage(this.self, method, params)) ?? null;
      setImmediate(() => {
        handle()
          .then(resolve, (error) => reject(error instanceof FlowmeshError ? error : new RemoteError(errorShape(error))))
          .finally(callOff);
      });
    });
  }

  async #requestAfter(
    redial: Promise<void>,
    peer: string,
    method: string,
    params: JsonObject,
    deadlineMs: number,
  ): Promise<JsonValue> {
    const started = performance.now();
    await redial;
    const stream = this.#links.stream(peer);
    const leftMs = deadlineMs - (performance.now() - started);
    if (stream === null) throw new PeerUnreachableError(peer, 'its stream broke and it does not answer');
    if (leftMs <= 0) throw new DeadlineExceededError(peer, method, deadlineMs);
    return stream.request(method, params, leftMs);
  }

  #onDiscovered({ id, multiaddrs }: PeerInfo): void {
    const peer = id.toString();
    if (peer === this.self) return;
    const known = this.#known.learn(
      peer,
      multiaddrs.map((address) => address.toString()),
      this.#options.mdns ? 'mdns' : 'dht',
    );
    const wanted = this.#options.auto_connect && this.connected().length < this.#options.target_connections;
    if (wanted && !known.held && !known.connected && !this.#denied().has(peer)) this.#dialQuietly(peer);
  }

  /** One that speaks only other versions never gets as far as its hello, where it would be told apart. */
  #onIdentified({ peerId, protocols }: IdentifyResult): void {
    const spoken = protocols.filter((protocol) => protocol.startsWith(PEER_PROTOCOL_FAMILY));
    if (spoken.length === 0 || spoken.includes(PEER_PROTOCOL)) return;
    this.#options.log.warn(
      { peer: peerId.toString(), spoken },
      `a peer of another major version connected: it speaks ${spoken.join(', ')} and this one ${PEER_PROTOCOL}. Run the same major version on both.`,
    );
  }

  #dialQuietly(peer: string): void {
    this.#links.open(peer, [], AbortSignal.timeout(CONNECT_TIMEOUT_MS)).catch((error) => {
      this.#options.log.debug({ peer, reason: reasonOf(error) }, 'a discovered peer could not be connected');
    });
  }

  /** The peer store forgets addresses of peers that are seldom seen, but not a peer with this tag. */
  #remember(peer: string): void {
    const connection = this.#node.getConnections().find(({ remotePeer }) => remotePeer.toString() === peer);
    if (connection === undefined) return;
    this.#node.peerStore
      .merge(connection.remotePeer, { tags: { [MET_TAG]: { value: MET_TAG_VALUE } } })
      .catch((error) => {
        this.#options.log.debug({ peer, reason: reasonOf(error) }, 'a peer could not be remembered');
      });
  }

  /** A restarted peer finds its mesh again also when no bootstrap peer is up. */
  async #dialEarlierPeers(): Promise<void> {
    const earlier = await this.#node.peerStore.all({
      filters: [({ tags }) => tags.has(MET_TAG)],
      limit: this.#options.target_connections,
    });
    for (const { id, addresses } of earlier) {
      const known = this.#known.learn(
        id.toString(),
        addresses.map(({ multiaddr }) => multiaddr.toString()),
      );
      known.kept = true;
      this.#reconnects.start(known.peer);
    }
  }
}

/** Marks peers in the peer store that greeted this one; libp2p keeps their connections longer than others. */
const MET_TAG = 'flowmesh-met';
const MET_TAG_VALUE = 50;
