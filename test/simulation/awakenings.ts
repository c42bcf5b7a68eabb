/** P11: a process that was held writes nothing to its feeds before it has heard their replica sets, or they had their time. */
import { START_WAIT_MS } from '../../scheduler/limits.ts';
import type { SimulatedMesh } from './mesh.ts';
import type { SimulatedPeer } from './simulated-peer.ts';

/** What a process owned when it went on after a hold, and the followers that it has to hear first. */
interface Awakening {
  process: SimulatedPeer;
  at: number;
  followers: Map<string, string[]>;
}

/** A hold that no clock takes for a late timer, in ms: two beats on a slow clock, and some. */
const LONG_HOLD_MS = 2_300;
/** The fastest clock. */
const RATE_MAX = 1.05;

export class Awakenings {
  readonly #broken: (message: string) => void;
  readonly #last = new Map<string, Awakening>();
  #mesh: SimulatedMesh | null = null;

  constructor(broken: (message: string) => void) {
    this.#broken = broken;
  }

  watch(mesh: SimulatedMesh): void {
    this.#mesh = mesh;
  }

  /** A hold begins. */
  held(peer: string, forMs: number): void {
    const mesh = this.#mesh!;
    const process = mesh.peers.get(peer)!;
    if (forMs < LONG_HOLD_MS) return;
    mesh.world.at(forMs, () => {
      const followers = new Map<string, string[]>();
      for (const { feed_id, feed } of process.scheduler.parts.feeds.all()) {
        followers.set(
          feed_id,
          feed.followers.map(({ peer_id }) => peer_id),
        );
      }
      this.#last.set(peer, { process, at: mesh.world.now, followers });
    });
  }

  /** A process writes something new to a feed that it owns. */
  writes(peer: string, feedId: string): void {
    const { world, board, peers } = this.#mesh!;
    const awakening = this.#last.get(peer);
    if (awakening === undefined) return;
    const { process, at, followers } = awakening;
    if (peers.get(peer) !== process || world.now - at >= START_WAIT_MS / RATE_MAX) {
      this.#last.delete(peer);
      return;
    }
    for (const follower of followers.get(feedId) ?? []) {
      if (board.heardAt(follower, peer) > at || process.network.connectedSince(follower) > at) continue;
      const sinceMs = (world.now - at).toFixed(1);
      this.#broken(`P11: ${peer} writes feed ${feedId} ${sinceMs} ms after a hold, and has not heard ${follower}`);
    }
  }
}
