/**
 * The libp2p node of this peer: TCP, noise, yamux, identify, Kademlia in server mode, gossipsub, mDNS if wanted.
 * The settings that differ from libp2p's defaults do so because the default was measured to fail a small mesh on one
 * host or behind one NAT; each says how.
 */
import { type GossipSub, gossipsub, type TopicValidatorFn, TopicValidatorResult } from '@libp2p/gossipsub';
import { createTopicScoreParams } from '@libp2p/gossipsub/score';
import { type Identify, identify } from '@libp2p/identify';
import type { ConnectionGater, Libp2p, PeerId } from '@libp2p/interface';
import { type KadDHT, type KadDHTComponents, kadDHT, passthroughMapper } from '@libp2p/kad-dht';
import { mdns } from '@libp2p/mdns';
import { noise } from '@libp2p/noise';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import { type Ping, ping } from '@libp2p/ping';
import { tcp } from '@libp2p/tcp';
import { yamux } from '@libp2p/yamux';
import { createLibp2p, type Libp2pOptions } from 'libp2p';
import { FlowmeshError } from '../../dag/errors.ts';
import type { Log } from '../../scheduler/ports.ts';
import { announced, DialPolicy } from './addresses.ts';
import type { Admission } from './admission.ts';
import { DhtStore, withDhtStore } from './dht-store.ts';
import { ADDRESS_DIAL_TIMEOUT_MS } from './dial-order.ts';
import { reasonOf } from './errors.ts';
import { loadIdentity } from './identity.ts';
import { OfferRates } from './offer-rates.ts';
import { openPeerMemory } from './peer-memory.ts';
import { type Relaying, type RelayParts, relayParts } from './relay.ts';

/** Open libp2p connections, those without a peer stream (DHT) included. */
const CONNECTIONS_MAX = 300;
const DIAL_TIMEOUT_MS = 5_000;
const PARALLEL_DIALS_MAX = 32;
/** The default of 5 a second for one address locks out a mesh that starts on one host. */
const INBOUND_PER_ADDRESS_PER_SECOND_MAX = 1_000;
/** Strangers can reach a peer of a secured mesh, and each handshake costs it a millisecond. */
const STRANGERS_PER_ADDRESS_PER_SECOND_MAX = 100;
const INBOUND_PENDING_MAX = 256;
/** With the default of 1 a ping of the DHT that is still open makes that of Liveness fail, on a healthy connection. */
const PING_STREAMS_MAX = 32;
/** Addresses of peers from an earlier run are worth a try for this long. */
const ADDRESS_AGE_MAX_MS = 24 * 60 * 60 * 1_000;
const PEER_AGE_MAX_MS = 7 * ADDRESS_AGE_MAX_MS;
export const OFFER_BYTES_MAX = 64 * 1024;
const GOSSIP_OUTBOUND_BYTES_MAX = 8 * 1024 * 1024;

/** Who sends what is rejected is not listened to for a while; nothing else is held against a peer. */
const OFFER_SCORES = createTopicScoreParams({
  topicWeight: 1,
  timeInMeshWeight: 0,
  firstMessageDeliveriesWeight: 0,
  meshMessageDeliveriesWeight: 0,
  meshFailurePenaltyWeight: 0,
  invalidMessageDeliveriesWeight: -1,
  invalidMessageDeliveriesDecay: 0.9,
});

export interface HostOptions {
  mesh: string;
  listen: string[];
  data_dir: string;
  version: string;
  mdns: boolean;
  /** What peers of this mesh look for in their network. Default: the name of the mesh. */
  discovery_tag?: string | undefined;
  gossip: boolean;
  /** Default: addresses through a relay are neither dialled nor listened at. */
  relay?: Relaying | undefined;
  denied: () => Set<string>;
  undialable?: ((address: string) => boolean) | undefined;
  /** Who is let in, in a secured mesh; null in an open one. */
  admission?: Admission | null;
  log: Log;
}

type HostServices = { identify: Identify; ping: Ping; dht: KadDHT; pubsub?: GossipSub };

export interface Host {
  node: Libp2p<HostServices>;
  /** Which addresses that others told may be dialled. */
  policy: DialPolicy;
  /** Undefined where there are to be no relays. */
  relay: RelayParts | undefined;
  start(): Promise<void>;
  stop(): Promise<void>;
}

export class ListenError extends FlowmeshError {
  constructor(listen: string[], cause: unknown) {
    super(
      'CANNOT_LISTEN',
      `Cannot listen on ${listen.join(', ')}: ${reasonOf(cause)}. Choose another address or a free port (tcp/0).`,
      { cause, details: { listen } },
    );
  }
}

/** The gossip topic of a mesh's offers. */
export function offersTopic(mesh: string): string {
  return `flowmesh/1/${mesh}/offers`;
}

/** @throws IdentityUnreadableError, DataFolderInUseError, DataFolderUnusableError */
export async function createHost(options: HostOptions): Promise<Host> {
  const privateKey = await loadIdentity(options.data_dir, options.log);
  const datastore = await openPeerMemory(options.data_dir, options.log);
  const dhtStore = await DhtStore.open(datastore);
  const topic = offersTopic(options.mesh);
  const policy = new DialPolicy({
    self: peerIdFromPrivateKey(privateKey).toString(),
    listen: options.listen,
    relay: options.relay !== undefined,
    own: () => node.getMultiaddrs().map((address) => address.toString()),
  });
  const relay = options.relay === undefined ? undefined : relayParts(options.relay, options.log);
  const libp2pOptions: Libp2pOptions<HostServices> = {
    start: false,
    privateKey,
    datastore,
    nodeInfo: { name: 'flowmesh', version: options.version },
    addresses: {
      listen: options.listen,
      announceFilter: (addresses) => announced(relay?.announced(addresses) ?? addresses),
    },
    transports: [tcp(), ...(relay === undefined ? [] : [relay.transport])],
    connectionEncrypters: [encrypter(options.admission ?? null)],
    streamMuxers: [yamux()],
    peerDiscovery: options.mdns
      ? [mdns({ serviceTag: `_${options.discovery_tag ?? `flowmesh-${options.mesh}`}._udp.local` })]
      : [],
    connectionGater: gater(options, policy, relay),
    connectionManager: {
      maxConnections: CONNECTIONS_MAX,
      dialTimeout: DIAL_TIMEOUT_MS,
      addressDialTimeout: ADDRESS_DIAL_TIMEOUT_MS,
      maxParallelDials: PARALLEL_DIALS_MAX,
      inboundConnectionThreshold:
        options.admission == null ? INBOUND_PER_ADDRESS_PER_SECOND_MAX : STRANGERS_PER_ADDRESS_PER_SECOND_MAX,
      maxIncomingPendingConnections: INBOUND_PENDING_MAX,
    },
    // Liveness (`liveness.ts`) looks after the connections.
    connectionMonitor: { enabled: false },
    peerStore: { maxAddressAge: ADDRESS_AGE_MAX_MS, maxPeerAge: PEER_AGE_MAX_MS },
    services: {
      identify: identify(),
      ...(relay?.services as object),
      ping: ping({ maxInboundStreams: PING_STREAMS_MAX, maxOutboundStreams: PING_STREAMS_MAX }),
      dht: (components: KadDHTComponents) =>
        kadDHT({
          protocol: `/flowmesh/${options.mesh}/kad/1.0.0`,
          clientMode: false,
          // The default mapper drops private addresses: nobody on a LAN would be found.
          peerInfoMapper: passthroughMapper,
          kBucketSize: 8,
          alpha: 3,
          // The default of 1 s, doubled by its jitter, makes a newcomer's first look-up take seconds.
          initialQuerySelfInterval: 50,
          networkDialTimeout: { minTimeout: 500, maxTimeout: 1_000 },
        })(withDhtStore(components, dhtStore)),
      ...(options.gossip && {
        pubsub: gossipsub({
          allowedTopics: [topic],
          // Peers of one address count as one attacker by default: 20 peers on a host delivered 4 % of the messages.
          scoreParams: { IPColocationFactorWeight: 0, topics: { [topic]: OFFER_SCORES } },
          // Without it the signature of every duplicate is checked before it is seen to be one.
          fastMsgIdFn: ({ from, seqno }) => `${hex(from)}${hex(seqno)}`,
          maxOutboundBufferSize: GOSSIP_OUTBOUND_BYTES_MAX,
          maxInboundDataLength: OFFER_BYTES_MAX,
        }),
      }),
    },
  };
  const node: Libp2p<HostServices> = await createLibp2p(libp2pOptions);
  node.services.pubsub?.topicValidators.set(topic, offerValidator(new OfferRates()));
  node.addEventListener('peer:disconnect', (event) => forgetRoute(node, event.detail, options.log));
  return {
    node,
    policy,
    relay,
    async start() {
      try {
        await node.start();
      } catch (error) {
        await node.stop();
        await datastore.close();
        throw new ListenError(options.listen, error);
      }
      node.services.pubsub?.subscribe(topic);
    },
    async stop() {
      relay?.stop();
      await node.stop();
      await datastore.close();
    },
  };
}

/** Who passes on what somebody else sent too often is not to blame for it. */
function offerValidator(rates: OfferRates): TopicValidatorFn {
  return (peer, message) => {
    if (message.data.byteLength > OFFER_BYTES_MAX || message.type !== 'signed') return TopicValidatorResult.Reject;
    if (rates.take(message.from.toString())) return TopicValidatorResult.Accept;
    return message.from.equals(peer) ? TopicValidatorResult.Reject : TopicValidatorResult.Ignore;
  };
}

function hex(bytes: Uint8Array | undefined): string {
  return bytes === undefined ? '' : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');
}

/** In a secured mesh admission is a part of the encryption: what is not admitted has no stream, of any protocol. */
function encrypter(admission: Admission | null): NonNullable<Libp2pOptions['connectionEncrypters']>[number] {
  return (components) => (admission === null ? noise()(components) : admission.encrypter(noise()(components)));
}

function gater(
  { denied, admission = null, undialable = () => false }: HostOptions,
  policy: DialPolicy,
  relay: RelayParts | undefined,
): ConnectionGater {
  const isDenied = (peer: PeerId): boolean =>
    denied().has(peer.toString()) || admission?.isRevoked(peer.toString()) === true;
  return {
    denyInboundConnection: (connection) => admission !== null && !admission.mayConnect(connection),
    denyDialPeer: isDenied,
    // A dial by address learns whom it reached only here.
    denyOutboundEncryptedConnection: isDenied,
    denyInboundEncryptedConnection: isDenied,
    denyDialMultiaddr: async (address) => undialable(address.toString()) || (await policy.denies(address)),
    denyOutboundRelayedConnection: () => relay?.denyOutboundRelayedConnection() ?? true,
    // What may not be dialled is not kept either.
    filterMultiaddrForPeer: (peer, address) => policy.keeps(peer.toString(), address),
  };
}

/** A dead peer in the routing table costs every later look-up a time-out, for ever; a live one comes back by itself. */
function forgetRoute(node: Libp2p<HostServices>, peer: PeerId, log: Log): void {
  const { routingTable } = node.services.dht as unknown as {
    routingTable: { remove(peer: PeerId): Promise<void> };
  };
  routingTable.remove(peer).catch((error) => {
    if (node.status === 'started') log.debug({ peer: peer.toString(), error }, 'could not forget a route');
  });
}
