/**
 * What peers tell each other every second, and what follows from it: round trips, confirmed and lost leases, work that
 * idle workers claim, gossiped offers, and a small mesh that becomes a full one.
 */
import type { JsonObject } from '../../dag/errors.ts';
import type { OwnedFeed } from '../feed/owned-feed.ts';
import {
  BEATS_MISSED_MAX,
  CLAIM_INTERVAL_MS,
  DIAL_AGAIN_MS,
  REQUEST_DEADLINE_MS,
  WATCHES_PER_BEAT,
} from '../limits.ts';
import { type Beat, type LeaseToken, type OfferClass, offerSchema, type PeerState } from '../messages.ts';
import type { AntiEntropy } from '../partition/anti-entropy.ts';
import type { Clock, Log, Network, Reader } from '../ports.ts';
import type { WorkerPool } from '../worker/worker-pool.ts';
import type { Directory } from './peer-table.ts';

/** Peers named in one beat. */
const KNOWS_MAX = 64;
const REMEMBERED_DIALS_MAX = 1_024;

const ENDED = { force: false, reason: 'the task has ended' };

export interface BeatParts {
  clock: Clock;
  network: Network;
  directory: Directory;
  antiEntropy: AntiEntropy;
  pool: WorkerPool;
  reader: Reader;
  log: Log;
  describe(): PeerState;
  isReady(): boolean;
  /** The feeds that this peer owns. */
  owned(): Iterable<OwnedFeed>;
  /** A peer said which feeds it owns. */
  onClaims(peer: string, claims: PeerState['feeds']): void;
  /** Every beat. */
  onTick(): void;
  /** WATCHES_PER_BEAT times per beat: peers may be gone. */
  onWatch(): void;
  /** This peer stood still (P11). */
  onWake(): void;
  options: {
    beat_interval_ms: number;
    offer_interval_ms: number;
    takeover_ms: number;
    auto_connect: boolean;
    target_connections: number;
  };
}

export class Beats {
  private readonly parts: BeatParts;
  private cancelTick: (() => void) | null = null;
  private cancelWatch: (() => void) | null = null;
  private cancelOffer: (() => void) | null = null;
  private lastOffer = Number.NEGATIVE_INFINITY;
  private lastTick = Number.NaN;
  /** Monotonic: what was heard before says nothing of who lives, as it may have waited while this peer stood still. */
  private vouchesFrom = Number.NEGATIVE_INFINITY;
  private claimDeferred = false;
  private readonly claimed = new Map<string, number>();
  private readonly dialled = new Map<string, number>();
  private wasLate = false;
  private running = false;

  constructor(parts: BeatParts) {
    this.parts = parts;
  }

  start(): void {
    this.running = true;
    this.tick();
    this.watch();
  }

  stop(): void {
    this.running = false;
    this.cancelTick?.();
    this.cancelWatch?.();
    this.cancelOffer?.();
    this.cancelOffer = null;
  }

  private tick(): void {
    if (!this.running) return;
    const { clock, directory, pool, network, options } = this.parts;
    this.noticeSleep();
    this.lastTick = clock.now();
    this.cancelTick = clock.after(options.beat_interval_ms, () => this.tick());
    for (const { peer_id, leaving } of directory.connected()) if (!leaving) this.beat(peer_id);
    pool.sendResults();
    directory.find(network.self)?.busy.clear();
    if (!this.parts.isReady()) return;
    const holding = pool.holding(network.self);
    for (const feed of this.parts.owned()) {
      feed.attempts.confirm(network.self, holding);
      feed.turn((turn) => feed.tasks.writeReasons(turn));
      if (feed.tasks.queue.size > 0) feed.dispatchSoon();
    }
    this.parts.onTick();
  }

  private watch(dueAt = this.parts.clock.now()): void {
    if (!this.running) return;
    const { clock, options } = this.parts;
    const { beat_interval_ms, takeover_ms } = options;
    this.noticeSleep();
    const watchMs = beat_interval_ms / WATCHES_PER_BEAT;
    const next = clock.now() + watchMs;
    this.cancelWatch = clock.after(watchMs, () => this.watch(next));
    if (!this.parts.isReady()) return;
    // This loop was held up, and beats may wait to be read: they come before the next watch.
    this.wasLate = !this.wasLate && clock.now() - dueAt > watchMs;
    if (this.wasLate) return;
    for (const feed of this.parts.owned()) {
      if (feed.attempts.mustSweep(takeover_ms)) feed.turn((turn) => feed.attempts.sweep(turn, takeover_ms));
    }
    this.parts.onWatch();
  }

  /**
   * P11: a peer that slept, or whose loop was held up, has heard nothing; that is not the others' silence. Called
   * before anything is written, too: what was due meanwhile may come before the next beat.
   */
  noticeSleep(): void {
    const { clock, directory, log, options } = this.parts;
    const gap = clock.now() - this.lastTick;
    if (!(gap > 2 * options.beat_interval_ms)) return;
    this.lastTick = clock.now();
    this.vouchesFrom = clock.now() + options.beat_interval_ms;
    log.warn({ gap_ms: Math.round(gap) }, 'this peer stood still; what it holds of others is believed anew');
    for (const { tasks } of this.parts.owned()) tasks.leases.restartSilences();
    directory.restartSilences(clock.now());
    this.parts.onWake();
  }

  /** Tells one peer how things are here; its answer is the round trip. */
  beat(peer: string): void {
    const { clock, network, directory, pool, log } = this.parts;
    const knows: Beat['knows'] = [];
    const lately = Math.max(clock.now() - BEATS_MISSED_MAX * this.parts.options.beat_interval_ms, this.vouchesFrom);
    for (const { peer_id, state, heard_at } of directory.connected()) {
      // Others take it that who is named here lives.
      if (peer_id === peer || state === null || heard_at < lately) continue;
      knows.push({ peer_id, addresses: state.addresses.slice(0, 16) });
      if (knows.length === KNOWS_MAX) break;
    }
    const beat: Beat = { state: this.parts.describe(), holding: pool.holding(peer), knows };
    const sent = clock.now();
    network.request(peer, 'beat', beat as unknown as JsonObject, REQUEST_DEADLINE_MS).then(
      () => directory.roundTrip(peer, clock.now() - sent),
      (error: unknown) => log.debug({ peer, error }, 'a beat was not answered'),
    );
  }

  /** A peer told how things are there. */
  onBeat(peer: string, beat: Beat): void {
    const { directory, clock, options } = this.parts;
    const entry = directory.heard(peer, beat.state, beat.holding, clock.now());
    this.parts.antiEntropy.heard(peer);
    entry.knows = new Set(beat.knows.map(({ peer_id }) => peer_id));
    if (this.parts.isReady()) {
      for (const feed of this.parts.owned()) {
        const { tasks, attempts } = feed;
        const unknown = attempts.confirm(peer, beat.holding);
        // Not before their ends are durable: the worker forgets the results that it keeps (P1, P3).
        if (unknown.length > 0) feed.turn((turn) => turn.after(() => void this.cancelEnded(peer, feed, unknown)));
        if (tasks.queue.size > 0) feed.dispatchSoon();
      }
      this.parts.onClaims(peer, beat.state.feeds);
    }
    if (beat.state.waiting.length > 0) this.claim(entry.peer_id, beat.state.waiting, 'connected');
    if (!options.auto_connect) return;
    for (const { peer_id, addresses } of beat.knows) if (addresses.length > 0) this.meet(peer_id, addresses);
  }

  /**
   * Of leases that are no open task's: tells their worker of those whose task has ended. What has no row here may have
   * been accepted on the other side of a partition, and is yet to be handed over (P5): it goes on.
   */
  private async cancelEnded(peer: string, feed: OwnedFeed, tokens: readonly LeaseToken[]): Promise<void> {
    const { reader, log } = this.parts;
    const { tasks, journal, feed_id } = feed;
    try {
      const feeds = await reader.feedsOf(tokens.map(({ uid }) => uid));
      if (journal.refused !== null) return; // nothing of it is in memory any more
      const ended = tokens.filter(({ uid }, at) => feeds[at] === feed_id && !tasks.live.has(uid));
      tasks.leases.cancel(
        peer,
        ended.map((token) => ({ ...token, ...ENDED })),
      );
    } catch (error) {
      log.debug({ peer, feed_id, err: error }, 'it cannot be read which tasks have ended; the next beat asks again');
    }
  }

  /** Connects to a peer that others know, if there is room and it was not tried just now. */
  meet(peer: string, addresses: string[]): void {
    const { network, directory, options, log } = this.parts;
    if (peer === network.self || directory.find(peer)?.connected === true) return;
    if (network.connected().length >= options.target_connections || !this.mayDial(peer)) return;
    network.connect(peer, addresses).catch((error: unknown) => {
      log.debug({ peer, error }, 'a peer that another one knows cannot be reached');
    });
  }

  /** What others tell makes this peer dial another one only now and then. */
  private mayDial(peer: string): boolean {
    const now = this.parts.clock.now();
    if (now - (this.dialled.get(peer) ?? Number.NEGATIVE_INFINITY) < DIAL_AGAIN_MS) return false;
    this.dialled.delete(peer);
    this.dialled.set(peer, now);
    if (this.dialled.size > REMEMBERED_DIALS_MAX) this.dialled.delete(this.dialled.keys().next().value!);
    return true;
  }

  // --- claims and offers ---------------------------------------------------------------------------------------------

  /** A slot is free here: whoever's beat showed waiting work is asked at once. */
  claimSoon(): void {
    if (this.claimDeferred) return;
    this.claimDeferred = true;
    this.parts.clock.defer(() => {
      this.claimDeferred = false;
      if (!this.running) return;
      for (const { peer_id, state } of this.parts.directory.connected()) {
        if (state !== null && state.waiting.length > 0) this.claim(peer_id, state.waiting, 'connected');
      }
    });
  }

  private claim(owner: string, waiting: readonly OfferClass[], found_by: 'connected' | 'offer'): void {
    const { clock, network, directory, pool, log } = this.parts;
    if (directory.find(owner)?.leaving === true) return;
    if (!waiting.some((each) => pool.couldRun(each))) return;
    const now = clock.now();
    if (now - (this.claimed.get(owner) ?? Number.NEGATIVE_INFINITY) < CLAIM_INTERVAL_MS) return;
    this.claimed.delete(owner);
    this.claimed.set(owner, now);
    if (this.claimed.size > REMEMBERED_DIALS_MAX) this.claimed.delete(this.claimed.keys().next().value!);
    const claim = { found_by, state: this.parts.describe() } as unknown as JsonObject;
    network.request(owner, 'claim', claim, REQUEST_DEADLINE_MS).catch((error: unknown) => {
      log.debug({ owner, error }, 'a claim was not answered'); // the next beat shows the free slot all the same (P6)
    });
  }

  /** Waiting tasks found no free slot: peers that are not connected hear of them by gossip. */
  offerSoon(): void {
    if (this.cancelOffer !== null || !this.running) return;
    const { clock, options } = this.parts;
    const wait = Math.max(this.lastOffer + options.offer_interval_ms - clock.now(), 0);
    this.cancelOffer = clock.after(wait, () => {
      this.cancelOffer = null;
      const { network, describe } = this.parts;
      const { waiting, addresses } = describe();
      if (waiting.length === 0) return;
      this.lastOffer = clock.now();
      network.publish({ owner: network.self, addresses, classes: waiting } as unknown as JsonObject);
      this.offerSoon();
    });
  }

  /** P6: what an offer says is checked by asking its owner. */
  onOffer(message: unknown): void {
    const { network, directory, pool, log } = this.parts;
    const parsed = offerSchema.safeParse(message);
    if (!parsed.success) {
      log.debug({ problems: parsed.error.issues }, 'a gossiped offer cannot be read');
      return;
    }
    const { owner, addresses, classes } = parsed.data;
    if (owner === network.self || !classes.some((each) => pool.couldRun(each))) return;
    if (directory.find(owner)?.connected === true) {
      this.claim(owner, classes, 'connected');
      return;
    }
    if (!this.mayDial(owner)) return;
    network.connect(owner, addresses).then(
      () => this.claim(owner, classes, 'offer'),
      (error: unknown) => log.debug({ owner, error }, 'the owner of an offer cannot be reached'),
    );
  }
}
