/**
 * Sends beats to all connected peers every `beat_interval_ms`, and notices when this peer itself stood still. What
 * follows from that is up to listeners: leases that are confirmed or lost, owners that are gone, work for idle workers.
 */
import type { JsonObject } from '../../dag/errors.ts';
import type { Lifecycle } from '../lifecycle.ts';
import { BEATS_MISSED_MAX, REQUEST_DEADLINE_MS, WATCHES_PER_BEAT } from '../limits.ts';
import type { Beat, PeerState } from '../messages.ts';
import type { Clock, Log, Network } from '../ports.ts';
import type { WorkerPool } from '../worker/worker-pool.ts';
import type { PeerTable } from './peer-table.ts';

/** Peers named in one beat, and addresses of each. */
const KNOWS_MAX = 64;
const KNOWN_ADDRESSES_MAX = 16;

/** A part that acts on beats. Listeners are called in the order in which the constructor was given them. */
export interface BeatListener {
  /** Called with every beat, once the disk has been read. */
  onTick?(): void;
  /** Called WATCHES_PER_BEAT times per beat, once the disk has been read: time to look whether peers are gone. */
  onWatch?(): void;
  /** P11: this peer stood still; what it believes of other peers has to be confirmed anew. */
  onWake?(): void;
  /** A peer sent a beat, which the peer table has taken in already. */
  onBeat?(peer: string, beat: Beat): void;
}

interface HeartbeatParts {
  clock: Clock;
  network: Network;
  peers: PeerTable;
  pool: WorkerPool;
  log: Log;
  lifecycle: Lifecycle;
  /** What this peer says of itself. */
  self: { describe(reader: string): PeerState };
  options: { beat_interval_ms: number };
}

export class Heartbeat {
  readonly #parts: HeartbeatParts;
  readonly #listeners: readonly BeatListener[];
  #cancelTick: (() => void) | null = null;
  #cancelWatch: (() => void) | null = null;
  /** Monotonic: when the last beats were sent. */
  #lastTick = Number.NaN;
  /** Monotonic: a message heard before proves no life, as it may have waited while this peer stood still. */
  #vouchesFrom = Number.NEGATIVE_INFINITY;
  #wasLate = false;
  #running = false;

  constructor(parts: HeartbeatParts, listeners: readonly BeatListener[]) {
    this.#parts = parts;
    this.#listeners = listeners;
  }

  start(): void {
    this.#running = true;
    this.#tick();
    this.#watch();
  }

  stop(): void {
    this.#running = false;
    this.#cancelTick?.();
    this.#cancelWatch?.();
  }

  #tick(): void {
    if (!this.#running) return;
    const { clock, peers, pool, network, lifecycle, options } = this.#parts;
    this.noticeSleep();
    this.#lastTick = clock.now();
    this.#cancelTick = clock.after(options.beat_interval_ms, () => this.#tick());
    for (const { peer_id, leaving } of peers.connected()) if (!leaving) this.beat(peer_id);
    pool.sendResults();
    peers.find(network.self)?.busy.clear();
    if (lifecycle.ready) for (const each of this.#listeners) each.onTick?.();
  }

  #watch(dueAt = this.#parts.clock.now()): void {
    if (!this.#running) return;
    const { clock, lifecycle, options } = this.#parts;
    this.noticeSleep();
    const watchMs = options.beat_interval_ms / WATCHES_PER_BEAT;
    const next = clock.now() + watchMs;
    this.#cancelWatch = clock.after(watchMs, () => this.#watch(next));
    if (!lifecycle.ready) return;
    // This loop was held up, and beats may wait to be read: skip one watch, they are read before the next.
    this.#wasLate = !this.#wasLate && clock.now() - dueAt > watchMs;
    if (!this.#wasLate) for (const each of this.#listeners) each.onWatch?.();
  }

  /**
   * P11: a peer that slept, or whose loop was held up, has heard nothing, which does not mean that others were silent.
   * Also called before anything is written: a timer that was due meanwhile may fire before the next beat.
   */
  noticeSleep(): void {
    const { clock, peers, log, options } = this.#parts;
    const gap = clock.now() - this.#lastTick;
    if (!(gap > 2 * options.beat_interval_ms)) return;
    this.#lastTick = clock.now();
    this.#vouchesFrom = clock.now() + options.beat_interval_ms;
    log.warn({ gap_ms: Math.round(gap) }, 'this peer stood still; what it holds of others is believed anew');
    peers.restartSilences(clock.now());
    for (const each of this.#listeners) each.onWake?.();
  }

  /** Sends a beat to one peer, and measures the round trip by its answer. */
  beat(peer: string): void {
    const { clock, network, peers, pool, log, self } = this.#parts;
    const beat: Beat = { state: self.describe(peer), holding: pool.holding(peer), knows: this.#knownBut(peer) };
    const sent = clock.now();
    network.request(peer, 'beat', beat as unknown as JsonObject, REQUEST_DEADLINE_MS).then(
      () => peers.roundTrip(peer, clock.now() - sent),
      (error: unknown) => log.debug({ peer, error }, 'a beat was not answered'),
    );
  }

  /** The peers that a beat to `peer` names: only those heard lately, as a peer that is named counts as alive. */
  #knownBut(peer: string): Beat['knows'] {
    const { clock, network, peers, options } = this.#parts;
    const knows: Beat['knows'] = [];
    const lately = Math.max(clock.now() - BEATS_MISSED_MAX * options.beat_interval_ms, this.#vouchesFrom);
    for (const { peer_id, state, heard_at } of peers.connected()) {
      if (peer_id === peer || state === null || heard_at < lately) continue;
      knows.push({ peer_id, addresses: network.addressesOf(peer_id).slice(0, KNOWN_ADDRESSES_MAX) });
      if (knows.length === KNOWS_MAX) break;
    }
    return knows;
  }

  /** Takes in the beat of another peer. */
  onBeat(peer: string, beat: Beat): void {
    const { peers, clock } = this.#parts;
    const entry = peers.heard(peer, beat.state, beat.holding, clock.now());
    entry.knows = new Set(beat.knows.map(({ peer_id }) => peer_id));
    for (const each of this.#listeners) each.onBeat?.(peer, beat);
  }
}
