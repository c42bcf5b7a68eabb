/**
 * When two peers compare the ids that they have accepted: while they did not hear each other, both may have accepted
 * the same id. They compare when they meet, and once more after SUBMITS_SETTLE_MS, when submits that were under way at
 * the meeting, and could not ask the other peer, are over.
 */
import type { Lifecycle } from '../lifecycle.ts';
import { COMPARED_BACK_MS, REQUEST_DEADLINE_MS, SUBMITS_SETTLE_MS } from '../limits.ts';
import type { BeatListener } from '../membership/heartbeat.ts';
import type { PeerTable } from '../membership/peer-table.ts';
import type { Clock, Log } from '../ports.ts';
import type { IdConflicts } from './id-conflicts.ts';

/** A peer that missed this many beats was out of reach for a while. */
const APART_BEATS = 2;

interface AntiEntropyParts {
  clock: Clock;
  peers: PeerTable;
  conflicts: IdConflicts;
  log: Log;
  lifecycle: Lifecycle;
  options: { beat_interval_ms: number };
}

export class AntiEntropy implements BeatListener {
  readonly #parts: AntiEntropyParts;
  /** Peers with which a comparison is under way. */
  readonly #comparing = new Set<string>();

  constructor(parts: AntiEntropyParts) {
    this.#parts = parts;
  }

  /** A beat of a peer came: if it is the first for a while, the two have met again. */
  onBeat(peer: string): void {
    const { clock, peers, options } = this.#parts;
    const entry = peers.entry(peer, clock.now());
    const apartMs = clock.now() - (entry.compared_at ?? Number.NEGATIVE_INFINITY);
    if (apartMs > APART_BEATS * options.beat_interval_ms) this.met(peer);
    else entry.compared_at = clock.now();
  }

  /** The two hear each other again. */
  met(peer: string): void {
    const { clock, peers, conflicts, log, lifecycle } = this.#parts;
    const entry = peers.find(peer);
    if (!lifecycle.ready || entry === undefined || this.#comparing.has(peer)) return; // the peer's next beat tries again
    const now = clock.now();
    if (entry.met_at !== null && now - entry.met_at < SUBMITS_SETTLE_MS) return; // too soon; each beat tries again
    const apartMs = entry.compared_at === null ? COMPARED_BACK_MS : now - entry.compared_at;
    const since = clock.wall() - apartMs - REQUEST_DEADLINE_MS; // a request sent just before may have got no answer
    this.#comparing.add(peer);
    conflicts
      .compare(peer, since)
      .then(
        () => {
          if (entry.met_at !== null) entry.compared_at = now;
          entry.met_at = entry.met_at === null ? now : null;
        },
        (error: unknown) => log.debug({ peer, err: error }, 'the ids of two peers could not be compared; again soon'),
      )
      .finally(() => this.#comparing.delete(peer));
  }

  /** The two do not hear each other any more: when they meet again, they begin with the first comparison. */
  parted(peer: string): void {
    const entry = this.#parts.peers.find(peer);
    if (entry !== undefined) entry.met_at = null;
  }
}
