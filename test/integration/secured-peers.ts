/** Real libp2p networks of one secured mesh in one process, whose clock and cables the test has. */
import { connect as connectSocket, type Socket } from 'node:net';
import type { PrivateKey } from '@libp2p/interface';
import { Authority, foundMesh } from '../../node/membership/authority.ts';
import { Membership } from '../../node/membership/membership.ts';
import type { Rights } from '../../node/membership/statement.ts';
import { readToken, writeToken } from '../../node/membership/token.ts';
import { loadIdentity } from '../../node/p2p/identity.ts';
import { joinMesh } from '../../node/p2p/join.ts';
import type { P2PNetwork } from '../../node/p2p/network.ts';
import type { NetworkEvents } from '../../scheduler/ports.ts';
import { HOUR_MS, ORDINARY } from '../membership/mesh-of-members.ts';
import { SILENT_EVENTS, TestPeers, until } from './p2p-peers.ts';

export interface SecuredPeer {
  dataDir: string;
  network: P2PNetwork;
  membership: Membership;
  denied: Set<string>;
  events: NetworkEvents;
}

export class SecuredPeers {
  /** Wall-clock milliseconds of all of them. */
  now = Date.now();
  readonly peers = new TestPeers();
  readonly #open = new Set<SecuredPeer>();

  async found(mesh_name = 'home', events: NetworkEvents = SILENT_EVENTS): Promise<SecuredPeer> {
    const { dataDir, ...options } = await this.#options();
    return this.#start(
      dataDir,
      foundMesh({ ...options, dataDir, mesh_name, name: 'founder', member_ttl_ms: HOUR_MS }),
      events,
    );
  }

  token(
    admin: SecuredPeer,
    options: { rights?: Rights; uses?: number; for_peer?: string; ttl_ms?: number } = {},
    sponsors: SecuredPeer[] = [admin],
  ): string {
    const { rights = ORDINARY, uses = 1, for_peer = null, ttl_ms = HOUR_MS } = options;
    const addresses = sponsors.flatMap(({ network }) => network.addresses());
    return new Authority(admin.membership).invite({ rights, uses, for_peer, ttl_ms, sponsors: addresses }).token;
  }

  /** The same invite, to be redeemed elsewhere. */
  sponsoredBy(token: string, sponsor: SecuredPeer): string {
    return writeToken({ ...readToken(token), sponsors: sponsor.network.addresses() });
  }

  async join(token: string, name: string, events: NetworkEvents = SILENT_EVENTS): Promise<SecuredPeer> {
    const { dataDir, ...options } = await this.#options();
    return this.#start(dataDir, await joinMesh({ ...options, dataDir, token: readToken(token), name }), events);
  }

  /** A member of a mesh of its own. */
  outsider(): Promise<SecuredPeer> {
    return this.found('elsewhere');
  }

  /** Resolves when both are connected. */
  async connect(from: SecuredPeer, to: SecuredPeer): Promise<void> {
    await from.network.connect(to.network.self, to.network.addresses());
    await until(() => to.network.connected().includes(from.network.self), 'the other side is connected too');
  }

  cut(a: SecuredPeer, b: SecuredPeer): void {
    for (const [one, other] of [
      [a, b],
      [b, a],
    ] as const) {
      one.denied.add(other.network.self);
      one.network.dropDenied();
    }
  }

  mend(a: SecuredPeer, b: SecuredPeer): void {
    a.denied.delete(b.network.self);
    b.denied.delete(a.network.self);
  }

  async stop(peer: SecuredPeer): Promise<void> {
    this.#open.delete(peer);
    await peer.network.stop();
    peer.membership.close();
  }

  async restart(peer: SecuredPeer): Promise<SecuredPeer> {
    if (this.#open.has(peer)) await this.stop(peer);
    const { now, log } = await this.#options(peer.dataDir);
    const identity = await loadIdentity(peer.dataDir, log);
    return this.#start(peer.dataDir, Membership.open({ dataDir: peer.dataDir, identity, now, log })!, peer.events);
  }

  /** Sockets that connect and say nothing. */
  async silentConnections(to: SecuredPeer, count: number): Promise<{ close(): void }> {
    const port = Number(/\/tcp\/(\d+)/.exec(to.network.addresses()[0]!)![1]);
    const sockets = Array.from({ length: count }, () => connectSocket(port, '127.0.0.1'));
    await Promise.all(sockets.map(connected));
    return {
      close: () => {
        for (const socket of sockets) socket.destroy();
      },
    };
  }

  async close(): Promise<void> {
    await Promise.all(Array.from(this.#open, (peer) => this.stop(peer)));
    await this.peers.close();
  }

  async #options(
    folder?: string,
  ): Promise<{ dataDir: string; identity: PrivateKey; now: () => number; log: TestPeers['log'] }> {
    const dataDir = folder ?? (await this.peers.folder());
    const { log } = this.peers;
    return { dataDir, identity: await loadIdentity(dataDir, log), now: () => this.now, log };
  }

  async #start(dataDir: string, membership: Membership, events: NetworkEvents): Promise<SecuredPeer> {
    const denied = new Set<string>();
    const bootstrap = membership.facts.sponsors;
    const network = await this.peers.open({ data_dir: dataDir, membership, denied: () => denied, bootstrap }, events);
    const peer = { dataDir, network, membership, denied, events };
    this.#open.add(peer);
    return peer;
  }
}

/** Also when it is refused: what matters is that it tried. */
function connected(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    socket.once('connect', () => resolve());
    socket.once('error', () => resolve());
  });
}
