/**
 * What this peer knows of the others: their last beat, round trip, and the leases it gave them. At most
 * PEERS_REMEMBERED_MAX peers, unless more are connected (P7): any other peer is looked up when it is needed.
 */
import type { PeerView, WorkerView } from '../api.ts';
import { canRun, offeredUnder, type SeenWorker, type Wanted } from '../capabilities.ts';
import { LOST_SHARE, UNABLE_MEMORY_MS } from '../limits.ts';
import type { PeerState, WorkerState } from '../messages.ts';
import type { Line, Placement } from '../records.ts';
import { type MembershipOf, type Method, mayDo, maySend, OWNERS } from '../roles.ts';
import { compareLines } from '../storage/feed-lines.ts';

const PEERS_REMEMBERED_MAX = 256;
/** Refusals remembered of one peer: the oldest is forgotten first. */
const UNABLE_MAX = 1_024;
/** Weight of a new round trip in the moving average, as in RFC 6298; a shorter round trip is nearer to the truth. */
const RTT_GAIN = 1 / 8;
const RTT_GAIN_SHORTER = 1 / 2;
/** Assumed until the first beat was answered. */
const RTT_UNKNOWN_MS = 5;

/** A worker that can run a class of tasks. */
export interface Candidate {
  peer_id: string;
  worker_id: string;
  local: boolean;
  slots: number;
  /** Slots believed free now. */
  free: number;
  /** Tasks waiting at that peer for its own workers. */
  queued: number;
  rtt_ms: number;
  /** Share of this owner's leases at that peer that were lost, 0 to 1. */
  loss_rate: number;
  found_by: NonNullable<Placement['found_by']>;
  /** How many of the labels that the task prefers the worker has. */
  wishes: number;
}

export interface PeerEntry {
  peer_id: string;
  state: PeerState | null;
  connected: boolean;
  /** The connection is about to be closed on purpose: neither side gives the other work on it any more. */
  leaving: boolean;
  /** Monotonic: when it was last connected or disconnected. */
  turned_at: number;
  /** Monotonic time of the last sign of life. */
  heard_at: number;
  /** Monotonic: ids that were accepted until then are known to be accepted once; null: of none. */
  compared_at: number | null;
  /** Monotonic: when ids were first compared since it was out of reach; null when there is nothing to compare. */
  met_at: number | null;
  rtt_ms: number | null;
  jitter_ms: number | null;
  leases_kept: number;
  leases_lost: number;
  requests_served: number;
  /** Peers that it has heard lately, according to its last beat. */
  knows: ReadonlySet<string>;
  /** How it became known as a worker. */
  found_by: Candidate['found_by'];
  /** How many leases of ours its last beat named, by worker: they are part of that worker's `running`. */
  held_at_beat: Map<string, number>;
  /** Ids of its workers that said `busy` since its last beat. */
  busy: Set<string>;
  /** By worker and class of tasks refused as `unable`: why, and until when that counts (monotonic). */
  unable: Map<string, { until: number; message: string }>;
}

/** The form of peer ids: a text of this form is never taken for a name. */
export const PEER_ID = /^[1-9A-HJ-NP-Za-km-z]{46,60}$/;
const NOBODY: ReadonlySet<string> = new Set();

/** `kept`: its worker brought a result. `lost`: the worker is gone. `given_up`: neither, so no sign of either. */
export type LeaseEnd = 'kept' | 'lost' | 'given_up';

export class PeerTable {
  readonly self: string;
  readonly #entries = new Map<string, PeerEntry>();
  /** Uids leased by this owner, by `peer/worker`. */
  readonly #leased = new Map<string, Set<string>>();

  readonly #membershipOf: MembershipOf;

  constructor(self: string, membershipOf: MembershipOf) {
    this.self = self;
    this.#membershipOf = membershipOf;
  }

  // --- what certificates let be believed -------------------------------------------------------------------------------

  /** Whether a peer would take this message from a peer that may send it (`METHOD_ROLES`). */
  maySend(method: Method, peerId: string): boolean {
    return maySend(method, this.#membershipOf(peerId));
  }

  /** Whether a peer that is connected may own feeds, or this peer. */
  mayOwn(peerId: string): boolean {
    return mayDo(this.#membershipOf(peerId), OWNERS);
  }

  /** Whether a peer that is connected may keep copies and take them over, or this peer. */
  mayFollow(peerId: string): boolean {
    return mayDo(this.#membershipOf(peerId), ['replicate']);
  }

  /** The workers of a peer as far as they are believed (P9). */
  #workersOf({ peer_id, state }: PeerEntry): WorkerState[] {
    if (state === null) return [];
    const membership = this.#membershipOf(peer_id);
    if (membership?.offers === null && mayDo(membership, ['work'])) return state.workers;
    return state.workers.map((worker) => offeredUnder(membership, worker));
  }

  /** The lines that a connected peer says it owns; none of one that may own no feed. */
  linesOf(entry: Pick<PeerEntry, 'peer_id' | 'state'>): PeerState['feeds'] {
    return entry.state !== null && this.mayOwn(entry.peer_id) ? entry.state.feeds : [];
  }

  // --- who is there ----------------------------------------------------------------------------------------------------

  entry(peerId: string, now: number): PeerEntry {
    let entry = this.#entries.get(peerId);
    if (entry === undefined) {
      entry = {
        peer_id: peerId,
        state: null,
        connected: false,
        leaving: false,
        turned_at: now,
        heard_at: now,
        compared_at: null,
        met_at: null,
        rtt_ms: null,
        jitter_ms: null,
        leases_kept: 0,
        leases_lost: 0,
        requests_served: 0,
        knows: NOBODY,
        found_by: peerId === this.self ? 'local' : 'connected',
        held_at_beat: new Map(),
        busy: new Set(),
        unable: new Map(),
      };
      this.#forgetSurplus();
      this.#entries.set(peerId, entry);
    }
    return entry;
  }

  find(peerId: string): PeerEntry | undefined {
    return this.#entries.get(peerId);
  }

  *connected(): Iterable<PeerEntry> {
    for (const entry of this.#entries.values()) if (entry.connected && entry.peer_id !== this.self) yield entry;
  }

  /** True while no other peer is connected, so that none could keep a copy. */
  isAlone(): boolean {
    for (const _ of this.connected()) return false;
    return true;
  }

  /** Slots of all workers at connected peers. */
  get slots(): number {
    return this.workers().reduce((sum, { peer_id, slots }) => sum + (this.maySend('lease', peer_id) ? slots : 0), 0);
  }

  /** Takes in what a peer says of itself in a beat, greeting or claim. @param held leases it named; null: not told */
  heard(peerId: string, state: PeerState, held: readonly { uid: string }[] | null, now: number): PeerEntry {
    const entry = this.entry(peerId, now);
    entry.state = state;
    entry.heard_at = now;
    if (held !== null) {
      entry.held_at_beat.clear();
      for (const { worker_id } of state.workers) {
        const leased = this.leasedTo(peerId, worker_id);
        entry.held_at_beat.set(worker_id, held.filter(({ uid }) => leased.has(uid)).length);
      }
    }
    entry.busy.clear();
    return entry;
  }

  /** The connection to a peer came, or closed and could not be opened again. */
  turn(peerId: string, connected: boolean, now: number): PeerEntry {
    const entry = this.entry(peerId, now);
    if (entry.connected !== connected) entry.turned_at = now;
    entry.connected = connected;
    return entry;
  }

  /** Counts every silence from `now` on: this peer slept, and would not have heard the others (P11). */
  restartSilences(now: number): void {
    for (const entry of this.#entries.values()) {
      if (entry.connected) entry.heard_at = now;
      else entry.turned_at = now;
    }
  }

  roundTrip(peerId: string, ms: number): void {
    const entry = this.#entries.get(peerId);
    if (entry === undefined) return;
    if (entry.rtt_ms === null) {
      entry.rtt_ms = ms;
      return;
    }
    const deviation = Math.abs(ms - entry.rtt_ms);
    entry.jitter_ms = entry.jitter_ms === null ? deviation : entry.jitter_ms + RTT_GAIN * (deviation - entry.jitter_ms);
    entry.rtt_ms += (ms < entry.rtt_ms ? RTT_GAIN_SHORTER : RTT_GAIN) * (ms - entry.rtt_ms);
  }

  leaseGiven(peerId: string, workerId: string, uid: string): void {
    const key = `${peerId}/${workerId}`;
    const uids = this.#leased.get(key) ?? new Set();
    this.#leased.set(key, uids);
    uids.add(uid);
  }

  leaseEnded(peerId: string, workerId: string, uid: string, how: LeaseEnd, now: number): void {
    const key = `${peerId}/${workerId}`;
    const uids = this.#leased.get(key);
    if (uids?.delete(uid) !== true) return;
    if (uids.size === 0) this.#leased.delete(key);
    if (how === 'kept') this.entry(peerId, now).leases_kept++;
    else if (how === 'lost') this.entry(peerId, now).leases_lost++;
  }

  leasedTo(peerId: string, workerId: string): ReadonlySet<string> {
    return this.#leased.get(`${peerId}/${workerId}`) ?? new Set();
  }

  /** A worker gave a lease back as `busy`: it gets no more before its next beat. */
  busy(peerId: string, workerId: string, now: number): void {
    this.entry(peerId, now).busy.add(workerId);
  }

  /** A worker gave a lease back as `unable`: for some time it gets no more tasks of this class. */
  unable(peerId: string, workerId: string, classKey: string, message: string, now: number): void {
    const entry = this.entry(peerId, now);
    const key = `${workerId} ${classKey}`;
    entry.unable.delete(key);
    entry.unable.set(key, { until: now + UNABLE_MEMORY_MS, message });
    if (entry.unable.size > UNABLE_MAX) entry.unable.delete(entry.unable.keys().next().value!);
  }

  /** Workers here and at connected peers that can run this class of tasks, with their believed free slots. */
  candidates(wanted: Wanted, classKey: string, now: number, silentMs: number): Candidate[] {
    const found: Candidate[] = [];
    for (const entry of this.#entries.values()) {
      if (entry.state === null || !this.#isHere(entry, now, silentMs)) continue;
      if (wanted.barred.length > 0 && wanted.barred.includes(this.markOf(entry.peer_id))) continue;
      for (const worker of this.#workersOf(entry)) {
        if (!canRun(worker, entry.peer_id, wanted)) continue;
        if (whyUnable(entry, worker, classKey, now) !== null) continue;
        found.push(this.#candidate(entry, worker, wanted.prefer));
      }
    }
    return found;
  }

  /** Every known worker, with what keeps it from running a class of tasks. */
  seen(wanted: Wanted, classKey: string, now: number, silentMs: number): SeenWorker[] {
    const seen: SeenWorker[] = [];
    for (const entry of this.#entries.values()) {
      const { peer_id, state } = entry;
      // Of a peer that is away no certificate is known here: what it says is believed until it is asked to work.
      const believed = entry.connected ? this.#workersOf(entry) : (state?.workers ?? []);
      for (const [at, worker] of believed.entries()) {
        const there = this.#isHere(entry, now, silentMs);
        const refused = wanted.barred.includes(this.markOf(peer_id));
        const unable = whyUnable(entry, worker, classKey, now);
        const withheld = besides(state!.workers[at]!, worker);
        seen.push({ peer_id, name: state!.name, worker, withheld, there, refused, unable });
      }
    }
    return seen;
  }

  #isHere(entry: PeerEntry, now: number, silentMs: number): boolean {
    if (!entry.connected || entry.leaving) return false;
    return entry.peer_id === this.self || now - entry.heard_at <= silentMs; // else suspect: its beats are missing
  }

  /** Names a peer since its last connection: when it comes back, it may have another policy. */
  markOf(peerId: string): string {
    return `${peerId} ${this.#entries.get(peerId)?.turned_at ?? 0}`;
  }

  /**
   * The peers that `text` can mean: the peer with that id; else all known peers with that name, connected or not, so
   * that none gets what is meant for another one by taking its name while that one is away.
   */
  named(text: string): { peer_id: string; connected: boolean }[] {
    const meant = ({ peer_id, connected }: Pick<PeerEntry, 'peer_id' | 'connected'>) => ({
      peer_id,
      connected: connected || peer_id === this.self,
    });
    const entry = this.#entries.get(text);
    // A peer cannot take the place of another one by choosing that one's id as its name.
    if (entry !== undefined || PEER_ID.test(text)) return [meant(entry ?? { peer_id: text, connected: false })];
    return [...this.#entries.values()].filter(({ state }) => state?.name === text).map(meant);
  }

  /** The names of all known peers. */
  names(): string[] {
    return [...this.#entries.values()].flatMap(({ state }) => (state === null ? [] : [state.name]));
  }

  #candidate(entry: PeerEntry, worker: WorkerState, prefer: readonly string[]): Candidate {
    const outstanding = this.leasedTo(entry.peer_id, worker.worker_id).size;
    const local = entry.peer_id === this.self;
    // Others' share of the reported load, plus what this owner gave since: the reported number is a beat old.
    const others = Math.max(worker.running - (entry.held_at_beat.get(worker.worker_id) ?? 0), 0);
    const running = others + outstanding;
    const leases = entry.leases_kept + entry.leases_lost;
    return {
      peer_id: entry.peer_id,
      worker_id: worker.worker_id,
      local,
      slots: worker.slots,
      free: entry.busy.has(worker.worker_id) ? 0 : worker.slots - running,
      queued: entry.state?.queued ?? 0,
      rtt_ms: entry.rtt_ms ?? RTT_UNKNOWN_MS,
      loss_rate: leases === 0 ? 0 : entry.leases_lost / leases,
      found_by: entry.found_by,
      wishes: prefer.length === 0 ? 0 : prefer.filter((label) => worker.labels.includes(label)).length,
    };
  }

  /**
   * The connected peer that owns a feed; of several that say so, the one that wins by P2.
   * @param isBelieved leaves out peers that cannot own it (P9)
   */
  ownerOfFeed(
    matches: (feedId: string) => boolean,
    isBelieved: (peer: string) => boolean = () => true,
  ): PeerEntry | undefined {
    let owner: PeerEntry | undefined;
    let best: Line | undefined;
    for (const entry of this.connected()) {
      for (const { feed_id, ...said } of this.linesOf(entry)) {
        const line = { ...said, owner: entry.peer_id };
        if (!matches(feed_id) || !isBelieved(entry.peer_id) || (best !== undefined && compareLines(line, best) <= 0))
          continue;
        owner = entry;
        best = line;
      }
    }
    return owner;
  }

  /** The peer that last said that it owns the feed, connected or not. */
  lastOwnerOfFeed(matches: (feedId: string) => boolean): PeerEntry | undefined {
    let owner: PeerEntry | undefined;
    for (const entry of this.#entries.values()) {
      if (entry.peer_id === this.self || entry.heard_at <= (owner?.heard_at ?? Number.NEGATIVE_INFINITY)) continue;
      if (entry.connected && !this.mayOwn(entry.peer_id)) continue;
      if (entry.state?.feeds.some(({ feed_id }) => matches(feed_id)) === true) owner = entry;
    }
    return owner;
  }

  /**
   * How long a peer has been gone, in ms; 0 or less when it is not. A peer is gone when it was silent for `takeoverMs`,
   * or disconnected for LOST_SHARE of that while others are heard: a peer that loses everyone may itself be cut off.
   *
   * @param silentMs how long nothing was heard of the peer
   */
  goneFor(peerId: string, silentMs: number, takeoverMs: number, now: number): number {
    const entry = this.#entries.get(peerId);
    const patienceMs = takeoverMs * LOST_SHARE;
    const isLost = entry?.connected === false && this.#hearsSomebody(now - patienceMs);
    return Math.max(silentMs - takeoverMs, isLost ? now - entry.turned_at - patienceMs : Number.NEGATIVE_INFINITY);
  }

  /**
   * Since when nothing was heard of a peer (monotonic); `now` for this peer, and for one that is there or unknown.
   *
   * @param lateMs a connected peer that was heard within this time is there
   */
  silentSince(peerId: string, lateMs: number, now: number): number {
    const entry = this.#entries.get(peerId);
    if (entry === undefined || peerId === this.self || this.isThere(peerId, now - lateMs)) return now;
    return Math.max(entry.heard_at, entry.turned_at);
  }

  #hearsSomebody(since: number): boolean {
    for (const { heard_at } of this.connected()) if (heard_at >= since) return true;
    return false;
  }

  /** Whether a connected peer says that it owns a feed. */
  isOwnedBy(feedId: string, peerId: string): boolean {
    const entry = this.#entries.get(peerId);
    return entry?.connected === true && this.linesOf(entry).some(({ feed_id }) => feed_id === feedId);
  }

  /** Whether a peer is connected and was heard since `since` (monotonic). */
  isThere(peerId: string, since: number): boolean {
    const entry = this.#entries.get(peerId);
    return entry?.connected === true && entry.heard_at >= since;
  }

  /** Whether a connected peer that was heard since `since` says that it hears this one. */
  isHeardByOthers(peerId: string, since: number): boolean {
    for (const entry of this.connected()) if (entry.heard_at >= since && entry.knows.has(peerId)) return true;
    return false;
  }

  /** How many peers were heard since `thereSince`, and how many were not, but were since `since`. */
  lostSince(since: number, thereSince: number): { there: number; lost: number } {
    let there = 0;
    let lost = 0;
    for (const { peer_id, heard_at } of this.#entries.values()) {
      if (peer_id === this.self) continue;
      if (this.isThere(peer_id, thereSince)) there++;
      else if (heard_at >= since) lost++;
    }
    return { there, lost };
  }

  workers(): WorkerView[] {
    const views: WorkerView[] = [];
    for (const entry of this.#entries.values()) {
      if (!entry.connected) continue;
      for (const worker of this.#workersOf(entry)) {
        views.push({ ...worker, peer_id: entry.peer_id, tasks: [...this.leasedTo(entry.peer_id, worker.worker_id)] });
      }
    }
    return views;
  }

  peers(): PeerView[] {
    const views: PeerView[] = [];
    for (const entry of this.#entries.values()) {
      const { peer_id, connected, rtt_ms, jitter_ms, leases_kept, leases_lost, requests_served } = entry;
      const state =
        connected && entry.state !== null ? { ...entry.state, workers: this.#workersOf(entry) } : entry.state;
      views.push({ peer_id, state, connected, rtt_ms, jitter_ms, leases_kept, leases_lost, requests_served });
    }
    return views;
  }

  /** Whether a connected peer may work no more: what it was given is done elsewhere. */
  mayNotWork(peerId: string): boolean {
    return this.#entries.get(peerId)?.connected === true && !this.maySend('lease', peerId);
  }

  #forgetSurplus(): void {
    if (this.#entries.size < PEERS_REMEMBERED_MAX) return;
    for (const entry of this.#entries.values()) {
      if (entry.connected || entry.peer_id === this.self) continue;
      this.#entries.delete(entry.peer_id);
      return;
    }
  }
}

/** What a worker says that it offers beyond what is believed of it. */
function besides(said: WorkerState, believed: WorkerState): SeenWorker['withheld'] {
  if (said === believed) return undefined;
  return {
    actions: said.actions.filter((name) => !believed.actions.includes(name)),
    labels: said.labels.filter((name) => !believed.labels.includes(name)),
  };
}

/** Why a worker refused tasks of a class a moment ago. */
function whyUnable({ unable }: PeerEntry, { worker_id }: WorkerState, classKey: string, now: number): string | null {
  const refusal = unable.get(`${worker_id} ${classKey}`);
  return refusal !== undefined && refusal.until > now ? refusal.message : null;
}
