/** Connects a small mesh fully: dials the peers that others name, each at most once in DIAL_AGAIN_MS. */
import { DIAL_AGAIN_MS } from '../limits.ts';
import type { Beat } from '../messages.ts';
import type { Clock, Log, Network } from '../ports.ts';
import type { BeatListener } from './heartbeat.ts';
import type { PeerTable } from './peer-table.ts';

const REMEMBERED_DIALS_MAX = 1_024;

interface AutoDialParts {
  clock: Clock;
  network: Network;
  peers: PeerTable;
  log: Log;
  options: {
    /** Whether peers that others name are dialled. */
    auto_connect: boolean;
    target_connections: number;
  };
}

export class AutoDial implements BeatListener {
  readonly #parts: AutoDialParts;
  readonly #dialled = new Map<string, number>();

  constructor(parts: AutoDialParts) {
    this.#parts = parts;
  }

  onBeat(_peer: string, { knows }: Beat): void {
    if (!this.#parts.options.auto_connect) return;
    for (const { peer_id, addresses } of knows) if (addresses.length > 0) this.meet(peer_id, addresses);
  }

  /** Connects to a peer that others know, if there is room and it was not dialled just now. */
  meet(peer: string, addresses: string[]): void {
    const { network, peers, options, log } = this.#parts;
    if (peer === network.self || peers.find(peer)?.connected === true) return;
    if (network.connected().length >= options.target_connections || !this.mayDial(peer)) return;
    network.connect(peer, addresses).catch((error: unknown) => {
      log.debug({ peer, error }, 'a peer that another one knows cannot be reached');
    });
  }

  /** Whether a peer was not dialled just now. After a true answer the caller dials it: it counts as dialled. */
  mayDial(peer: string): boolean {
    const now = this.#parts.clock.now();
    if (now - (this.#dialled.get(peer) ?? Number.NEGATIVE_INFINITY) < DIAL_AGAIN_MS) return false;
    this.#dialled.delete(peer);
    this.#dialled.set(peer, now);
    if (this.#dialled.size > REMEMBERED_DIALS_MAX) this.#dialled.delete(this.#dialled.keys().next().value!);
    return true;
  }
}
