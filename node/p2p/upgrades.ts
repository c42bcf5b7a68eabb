/**
 * Peers that are reached through a relay are dialled directly in the background: at once, when another address of them
 * turns up, and ever more seldom. When one answers, the peer stream moves there and the relayed connection is closed.
 * Both sides try, as one of them may be the only one that can be dialled.
 */
import type { Connection, Libp2p, PeerUpdate } from '@libp2p/interface';
import type { Log } from '../../scheduler/ports.ts';
import { isRelayed } from './addresses.ts';
import type { Dialler } from './dial-order.ts';
import { backoffMs } from './dialing.ts';
import { reasonOf } from './errors.ts';
import type { KnownPeers } from './known-peers.ts';
import type { Links } from './links.ts';

const FIRST_DELAY_MS = 200;
const RETRY_INITIAL_MS = 5_000;
const RETRY_MAX_MS = 5 * 60_000;
const TIMEOUT_MS = 10_000;

interface Upgrade {
  failures: number;
  timer: NodeJS.Timeout | undefined;
}

interface UpgradeParts {
  node: Libp2p;
  known: KnownPeers;
  links: Links;
  dialler: Dialler;
  log: Log;
}

export class Upgrades {
  readonly #parts: UpgradeParts;
  readonly #upgrades = new Map<string, Upgrade>();
  readonly #stop = new AbortController();

  constructor(parts: UpgradeParts) {
    this.#parts = parts;
  }

  start(): void {
    const { node } = this.#parts;
    node.addEventListener('connection:open', ({ detail }) => this.#onConnection(detail));
    node.addEventListener('peer:update', ({ detail }) => this.#onUpdate(detail));
  }

  stop(): void {
    this.#stop.abort();
    for (const peer of [...this.#upgrades.keys()]) this.cancel(peer);
  }

  /** A peer was greeted: it is looked after while it is reached through a relay. */
  greeted(peer: string): void {
    this.cancel(peer);
    if (this.#parts.known.get(peer)?.relay == null || this.#stop.signal.aborted) return;
    const upgrade = { failures: 0, timer: undefined };
    this.#upgrades.set(peer, upgrade);
    this.#schedule(peer, upgrade, FIRST_DELAY_MS);
  }

  cancel(peer: string): void {
    clearTimeout(this.#upgrades.get(peer)?.timer);
    this.#upgrades.delete(peer);
  }

  #schedule(peer: string, upgrade: Upgrade, delayMs: number): void {
    clearTimeout(upgrade.timer);
    upgrade.timer = setTimeout(() => void this.#try(peer, upgrade), delayMs);
    upgrade.timer.unref();
  }

  async #try(peer: string, upgrade: Upgrade): Promise<void> {
    const { dialler, log } = this.#parts;
    try {
      const signal = AbortSignal.any([this.#stop.signal, AbortSignal.timeout(TIMEOUT_MS)]);
      const connection = await dialler.direct(peer, signal);
      if (this.#upgrades.get(peer) === upgrade) await this.#parts.links.move(peer, connection);
    } catch (error) {
      log.debug({ peer, reason: reasonOf(error) }, 'a relayed peer cannot be dialled directly');
    }
    // Greeted anew, or lost.
    if (this.#upgrades.get(peer) !== upgrade) return;
    this.#schedule(peer, upgrade, backoffMs(upgrade.failures++, RETRY_INITIAL_MS, RETRY_MAX_MS));
  }

  /** Made by a hole punch, or by whoever wanted the peer. The other side moves those that it made. */
  #onConnection(connection: Connection): void {
    const peer = connection.remotePeer.toString();
    const upgrade = this.#upgrades.get(peer);
    if (upgrade !== undefined && connection.direct && connection.direction === 'outbound')
      this.#schedule(peer, upgrade, 0);
  }

  #onUpdate({ peer, previous }: PeerUpdate): void {
    const upgrade = this.#upgrades.get(peer.id.toString());
    if (upgrade === undefined) return;
    const before = new Set(previous?.addresses.map(({ multiaddr }) => multiaddr.toString()));
    const news = peer.addresses.some(({ multiaddr }) => !isRelayed(multiaddr) && !before.has(multiaddr.toString()));
    if (!news) return;
    upgrade.failures = 0;
    this.#schedule(peer.id.toString(), upgrade, FIRST_DELAY_MS);
  }
}
