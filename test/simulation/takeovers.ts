/**
 * Whoever takes a feed over goes on from the furthest copy within its reach: else what the others have after it would
 * have to be merged, and what was done there might be done again (P2).
 */
import type { FeedRecord } from '../../scheduler/records.ts';
import { compareLines, currentLine } from '../../scheduler/storage/feed-lines.ts';
import { entry } from './entry.ts';
import type { StoreOperation } from './memory-store.ts';
import type { SimulatedMesh } from './mesh.ts';
import type { SimulatedPeer } from './simulated-peer.ts';

/** The disk of a peer has had a feed up to a commit since then. */
interface Reached {
  at: number;
  seq: number;
}

/** Longer than a taker needs, from its first question to its line, where everybody answers at once. Simulated. */
const TAKING_MS = 3_000;

export class Takeovers {
  readonly #broken: (message: string) => void;
  readonly #mesh: SimulatedMesh;
  /** By peer and feed, in the order of time. */
  readonly #reached = new Map<string, Reached[]>();

  /** For runs in which every peer that is there answers at once. */
  constructor(mesh: SimulatedMesh, broken: (message: string) => void) {
    this.#mesh = mesh;
    this.#broken = broken;
  }

  synced(peer: string, operation: StoreOperation): void {
    if (operation.type === 'drop') this.#reached.delete(`${peer} ${operation.feed_id}`);
    if (operation.type !== 'commit' || operation.rows.length === 0) return;
    const { feed_id, seq } = operation.rows.at(-1)!;
    entry(this.#reached, `${peer} ${feed_id}`, () => []).push({ at: this.#mesh.world.now, seq });
  }

  restored(peer: string): void {
    for (const key of this.#reached.keys()) if (key.startsWith(`${peer} `)) this.#reached.delete(key);
  }

  /** A peer begins a line of its own. */
  takes(peer: string, before: FeedRecord, after: FeedRecord): void {
    const { base_seq } = currentLine(after);
    for (const other of this.#mesh.peers.values()) {
      if (other.peer_id === peer) continue;
      const seq = Math.min(this.#toldBy(other, peer, before), this.#longReached(other.peer_id, before.feed_id));
      if (seq <= base_seq) continue;
      this.#broken(
        `P2: ${peer} takes feed ${before.feed_id} over from commit ${base_seq}, and ${other.peer_id} has ${seq}`,
      );
    }
  }

  /** How far its copy of the same history is; 0 when it could not be asked all the time, or has none to give. */
  #toldBy({ alive, network, scheduler }: SimulatedPeer, asker: string, { feed_id, lines }: FeedRecord): number {
    if (!alive || this.#mesh.world.now - network.connectedSince(asker) < TAKING_MS) return 0;
    const copy = scheduler.parts.followed.find(feed_id);
    if (copy === undefined || copy.feed === null || !scheduler.parts.followed.isComplete(copy)) return 0;
    return compareLines(currentLine(copy.feed), lines.at(-1)!) === 0 ? copy.cursor : 0;
  }

  #longReached(peer: string, feedId: string): number {
    const since = this.#mesh.world.now - TAKING_MS;
    const reached = this.#reached.get(`${peer} ${feedId}`) ?? [];
    return reached.findLast(({ at }) => at <= since)?.seq ?? 0;
  }
}
