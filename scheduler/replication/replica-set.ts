/**
 * The owner's side of the copies of one feed: brings every commit to the followers, counts what they have on their
 * disks, and keeps the replica set as large as wanted.
 *
 * 1. A follower's answer says how far its disk has come; it has everything up to there.
 * 2. A follower counts once its disk has the commit that says it is synced: only from then on may it take the feed
 *    over, and a copy that nobody may use is none (P1).
 * 3. The set is sticky: a new member is brought to the head and counted, and only then another one is removed.
 */
import { FlowmeshError, type JsonObject } from '../../dag/errors.ts';
import {
  BEATS_LATE_MAX,
  BEATS_MISSED_MAX,
  FOLLOWER_PATIENCE_MS,
  PUSHES_IN_FLIGHT_MAX,
  REQUEST_DEADLINE_MS,
} from '../limits.ts';
import type { PeerTable } from '../membership/peer-table.ts';
import { rendezvous } from '../membership/rendezvous-hash.ts';
import { pushAnswerSchema, rowMessages } from '../messages.ts';
import type { Clock, Log, Network } from '../ports.ts';
import type { FeedRecord, Row } from '../records.ts';
import { currentLine, withFollowers } from '../storage/feed-lines.ts';
import type { Copier } from '../storage/journal.ts';

interface Follower {
  /** The last commit on its disk, as far as it said. */
  acked: number;
  /** The commit that says the follower is synced; null before. */
  syncedAt: number | null;
  /** The head of the feed when it became a follower: to be synced, it has to come that far. */
  joinedAt: number;
  inFlight: number;
  /** Monotonic: since when it takes no commits; null while it takes them. */
  refusedSince: number | null;
  /** It has to hand over work to this owner before it can take commits (P5). */
  handsOver: boolean;
  /** Commits were not sent to it: it catches up by itself when it is told how far the feed is. */
  behind: boolean;
}

function newFollower(start: Pick<Follower, 'joinedAt' | 'syncedAt' | 'behind'>): Follower {
  return { ...start, acked: 0, inFlight: 0, refusedSince: null, handsOver: false };
}

/** Whether a follower has a commit on its disk, and counts. */
function has({ syncedAt, acked }: Follower, seq: number): boolean {
  return syncedAt !== null && acked >= Math.max(seq, syncedAt);
}

export interface ReplicaHooks {
  /** Disks that the feed is to be on, this one included. */
  wanted(): number;
  /** Writes the feed's record with the new replica set, which comes back with its commit (`ship`). */
  write(feed: FeedRecord): void;
  /** The last commit that was begun. */
  head(): number;
  /** More disks have a commit than before, or fewer can get it. */
  onCopied(): void;
  /** A follower knows an owner whose line wins against this one (P2). */
  onStale(peer: string): void;
}

export class ReplicaSet implements Copier {
  readonly #clock: Clock;
  readonly #network: Network;
  readonly #peers: PeerTable;
  readonly #log: Log;
  readonly #hooks: ReplicaHooks;
  readonly #silentMs: number;
  readonly #lateMs: number;
  #current: FeedRecord;
  /** The version of the replica set in the last commit that had one. */
  #written: number;
  readonly #followers = new Map<string, Follower>();
  /** Former members, removed by commit `seq` or earlier: they have to hear it, so that they keep no copy. */
  readonly #leaving = new Map<string, { follower: Follower; seq: number }>();
  #stopped = false;

  constructor(
    components: { clock: Clock; network: Network; peers: PeerTable; log: Log },
    feed: FeedRecord,
    options: { beat_interval_ms: number },
    hooks: ReplicaHooks,
  ) {
    this.#clock = components.clock;
    this.#network = components.network;
    this.#peers = components.peers;
    this.#log = components.log;
    this.#current = feed;
    this.#written = feed.version;
    this.#silentMs = options.beat_interval_ms * BEATS_MISSED_MAX;
    this.#lateMs = options.beat_interval_ms * BEATS_LATE_MAX;
    this.#hooks = hooks;
    for (const peer of feed.former) {
      this.#leaving.set(peer, { follower: newFollower({ joinedAt: 0, syncedAt: null, behind: true }), seq: 0 });
    }
    for (const { peer_id, synced } of feed.followers) {
      // What followers have is learned anew: they may lack as much as the whole feed.
      const head = hooks.head();
      const syncedAt = synced ? head : null;
      this.#followers.set(peer_id, newFollower({ joinedAt: head, syncedAt, behind: true }));
    }
  }

  get feed(): FeedRecord {
    return this.#current;
  }

  /** How many disks have everything that was written until now. */
  get copies(): number {
    return this.copiesNow(this.#hooks.head());
  }

  /** How many disks have a commit, this one included, counting only followers that are there. */
  copiesNow(seq: number): number {
    return 1 + this.copied.filter((acked) => acked >= seq).length;
  }

  /** The last commit that each follower that counts, and is there, has on its disk. */
  get copied(): number[] {
    const acked: number[] = [];
    for (const [peer, follower] of this.#followers) {
      if (this.#counts(follower) && this.#isThere(peer)) acked.push(follower.acked);
    }
    return acked;
  }

  stop(): void {
    this.#stopped = true;
  }

  /** A peer connected. It may have restarted with an older disk before it was missed, so it is told the head anew. */
  connected(peer: string): void {
    const follower = this.#followers.get(peer);
    if (follower !== undefined) follower.behind = true;
    this.mend();
  }

  /** The stream to a peer closed: commits that were on their way to it are brought again when it is back. */
  disconnected(peer: string): void {
    const follower = this.#followers.get(peer);
    if (follower !== undefined) follower.behind = true;
    this.#hooks.onCopied();
  }

  // --- commits -------------------------------------------------------------------------------------------------------

  ship({ seq, rows }: { seq: number; rows: Row[] }): void {
    const followers = rows.find(({ record }) => record.kind === 'feed');
    if (followers?.record.kind === 'feed') this.#membersChanged(followers.record, seq);
    for (const [peer, follower] of this.#followers) {
      if (follower.behind || !this.#takesPushes(peer)) follower.behind = true;
      else if (follower.inFlight >= PUSHES_IN_FLIGHT_MAX) follower.behind = true;
      else this.#push(peer, follower, { prev_seq: seq - 1, head_seq: seq, rows });
    }
  }

  /** Serves the replica set in this commit from now on. */
  #membersChanged(feed: FeedRecord, seq: number): void {
    this.#written = feed.version;
    for (const { peer_id, synced } of feed.followers) {
      const follower = this.#followers.get(peer_id);
      if (follower === undefined) {
        this.#followers.set(peer_id, newFollower({ joinedAt: seq, syncedAt: null, behind: false }));
      } else if (synced && follower.syncedAt === null) {
        follower.syncedAt = seq;
      }
    }
    for (const [peer, follower] of this.#followers) {
      if (feed.followers.some(({ peer_id }) => peer_id === peer)) continue;
      this.#followers.delete(peer);
      this.#leaving.set(peer, { follower, seq });
    }
    // P7: former members that the feed's record has forgotten are not waited for.
    const former = new Set(feed.former);
    for (const peer of this.#leaving.keys()) if (!former.has(peer)) this.#leaving.delete(peer);
  }

  /** Tells former members that they are none any more, once enough other disks have the commit that removed them. */
  #sayGoodbye(): void {
    for (const [peer, { follower, seq }] of this.#leaving) {
      if (follower.inFlight > 0 || this.copiesOf(seq) < this.#hooks.wanted()) continue;
      this.#nudge(peer, follower);
    }
  }

  #saidGoodbye(peer: string, follower: Follower): void {
    if (this.#leaving.get(peer)?.follower === follower) this.#leaving.delete(peer);
  }

  #push(peer: string, follower: Follower, commit: { prev_seq: number; head_seq: number; rows: Row[] }): void {
    follower.inFlight++;
    const { rows, ...place } = commit;
    const line = currentLine(this.#current);
    const message = { feed_id: this.#current.feed_id, line, ...place, rows: rowMessages(rows) };
    const answer = this.#network.request(peer, 'push', message as unknown as JsonObject, REQUEST_DEADLINE_MS);
    const acknowledged = answer.then((value) => pushAnswerSchema.parse(value));
    acknowledged.then(
      ({ seq }) => {
        follower.inFlight--;
        follower.refusedSince = null;
        follower.handsOver = false;
        if (seq >= place.head_seq) this.#saidGoodbye(peer, follower);
        this.#acknowledged(peer, follower, seq);
        // It pulled before the last commit was on this disk: `landed` or the next beat tells it again how far that is.
        if (seq < place.head_seq) follower.behind = true;
      },
      (error: unknown) => {
        follower.inFlight--;
        follower.behind = true;
        const first = follower.refusedSince === null;
        follower.refusedSince ??= this.#clock.now();
        if (this.#stopped) return;
        this.#log.debug({ peer, feed_id: this.#current.feed_id, err: error }, 'a commit was not acknowledged');
        const code = error instanceof FlowmeshError ? error.code : '';
        follower.handsOver = code === 'DIVERGED';
        if (code === 'NO_COPY') this.#saidGoodbye(peer, follower);
        if (code === 'STALE_OWNER') this.#hooks.onStale(peer);
        else if (code === 'MESSAGE_TOO_LARGE' && rows.length > 0)
          this.#nudge(peer, follower); // it fits in pages
        else if (code === 'MESSAGE_TOO_LARGE' && first) this.#cannotBeBrought(peer, error);
        this.#hooks.onCopied();
      },
    );
  }

  /** A row that no message carries, which an earlier version wrote: the follower cannot get beyond it. */
  #cannotBeBrought(peer: string, err: unknown): void {
    const { feed_id } = this.#current;
    this.#log.warn(
      { peer, feed_id, err },
      'a follower cannot be brought a row of this feed: what follows has no copy there',
    );
  }

  #acknowledged(peer: string, follower: Follower, seq: number): void {
    if (this.#stopped || this.#followers.get(peer) !== follower) return;
    follower.acked = Math.max(follower.acked, seq);
    if (follower.behind && follower.inFlight === 0) this.#nudge(peer, follower);
    if (follower.syncedAt === null && follower.acked >= follower.joinedAt && !follower.behind) this.#sync(peer);
    this.#sayGoodbye();
    this.#hooks.onCopied();
  }

  /** Tells a follower how far the feed is: it pulls what it lacks, and takes later commits after that. */
  #nudge(peer: string, follower: Follower): void {
    if (this.#stopped || !this.#takesPushes(peer)) return;
    follower.behind = false;
    const head_seq = this.#hooks.head();
    this.#push(peer, follower, { prev_seq: head_seq, head_seq, rows: [] });
  }

  /** Whether it is connected, this peer may bring it rows, and it may keep them. */
  #takesPushes(peer: string): boolean {
    const peers = this.#peers;
    return peers.find(peer)?.connected === true && peers.mayFollow(peer) && peers.mayOwn(peers.self);
  }

  landed(): void {
    for (const [peer, follower] of this.#followers) {
      if (follower.behind && follower.inFlight === 0) this.#nudge(peer, follower);
    }
  }

  copiesOf(seq: number): number {
    let count = 1;
    for (const follower of this.#followers.values()) if (has(follower, seq)) count++;
    return count;
  }

  #counts(follower: Follower | undefined): boolean {
    if (follower === undefined) return false; // its membership is not on its way yet
    const { syncedAt, acked } = follower;
    return syncedAt !== null && acked >= syncedAt;
  }

  /** The last commit that every follower has on its disk; Infinity without followers. */
  get ackedByAll(): number {
    let least = Number.POSITIVE_INFINITY;
    for (const { acked } of this.#followers.values()) least = Math.min(least, acked);
    return least;
  }

  /**
   * A follower that is there may still take the commit, and another peer may become one while the set is too small. A
   * follower that has to hand over first counts for neither: its work waits for commits, which would wait for it.
   */
  mayGrow(seq: number): boolean {
    let following = 1;
    let others = 0;
    for (const { peer_id, leaving } of this.#peers.connected()) {
      if (leaving || !this.#isThere(peer_id)) continue;
      const follower = this.#followers.get(peer_id);
      if (follower === undefined) others++;
      else if (follower.handsOver) continue;
      else if (has(follower, seq)) following++;
      else return true;
    }
    return others > 0 && following < this.#hooks.wanted();
  }

  // --- the set -------------------------------------------------------------------------------------------------------

  #sync(peer: string): void {
    const { followers } = this.#current;
    if (!followers.some(({ peer_id, synced }) => peer_id === peer && !synced)) return;
    this.#write(followers.map((each) => (each.peer_id === peer ? { ...each, synced: true } : each)));
  }

  #write(followers: FeedRecord['followers']): void {
    this.#current = withFollowers(this.#current, followers);
    this.#hooks.write(this.#current);
  }

  /** Changes the feed's own record in another way. */
  change(changes: Partial<FeedRecord>): void {
    this.#current = { ...this.#current, ...changes, version: this.#current.version + 1 };
    this.#hooks.write(this.#current);
  }

  /** Brings followers what they lack, and mends the set. Called with every beat and when a peer connects. */
  mend(): void {
    if (this.#stopped) return;
    this.landed();
    this.#sayGoodbye();
    this.mendSet();
  }

  /** Adds followers while there are fewer copies than wanted; removes surplus ones once enough others count. */
  mendSet(): void {
    if (this.#stopped) return;
    if (!this.#peers.mayOwn(this.#peers.self)) return; // nobody would take a commit
    if (this.#written !== this.#current.version) return; // what is known of followers is that of the set before
    const wanted = this.#hooks.wanted() - 1;
    const members = this.#current.followers;
    const order = rendezvous(
      this.#current.feed_id,
      members.map(({ peer_id }) => peer_id),
    );
    const there = order.filter((peer) => this.#isThere(peer, this.#lateMs) && this.#takes(this.#followers.get(peer)));
    const counted = there.filter((peer) => this.#counts(this.#followers.get(peer)));
    const candidates = there.length < wanted ? this.#candidates() : [];
    const added = candidates.slice(0, wanted - there.length);
    if (added.length > 0) {
      this.#write([...members, ...added.map((peer_id) => ({ peer_id, synced: false }))]);
      return;
    }
    if (counted.length < wanted || members.length <= wanted) return;
    const keep = new Set(counted.slice(0, wanted));
    // Followers that do not count yet are removed, too: enough others do.
    const kept = members.filter(({ peer_id }) => keep.has(peer_id));
    if (kept.length < members.length) this.#write(kept);
  }

  /** False for a follower that took no commits for FOLLOWER_PATIENCE_MS, for whatever reason, or has to hand over. */
  #takes(follower: Follower | undefined): boolean {
    if (follower?.handsOver) return false;
    const since = follower?.refusedSince ?? null;
    return since === null || this.#clock.now() - since < FOLLOWER_PATIENCE_MS;
  }

  #candidates(): string[] {
    const members = new Set(this.#current.followers.map(({ peer_id }) => peer_id));
    const free: string[] = [];
    for (const { peer_id, leaving } of this.#peers.connected()) {
      if (!leaving && !members.has(peer_id) && this.#isThere(peer_id, this.#lateMs)) free.push(peer_id);
    }
    return rendezvous(this.#current.feed_id, free);
  }

  #isThere(peer: string, silentMs = this.#silentMs): boolean {
    const entry = this.#peers.find(peer);
    if (entry?.connected !== true || !this.#peers.mayFollow(peer)) return false;
    return this.#clock.now() - entry.heard_at <= silentMs;
  }
}
