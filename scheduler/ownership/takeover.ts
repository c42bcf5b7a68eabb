/**
 * When this peer takes over a feed whose owner is gone, and how. The synced followers have their turns one after the
 * other, each starts from the furthest copy it can reach, and none acts while it may itself be the one that is cut off.
 */
import type { Probe } from '../crash-points.ts';
import { DivergedError } from '../errors.ts';
import {
  BEATS_MISSED_MAX,
  BYSTANDER_PATIENCE_MS,
  CUT_OFF_PATIENCE,
  IDLE_FEED_PATIENCE,
  INQUIRY_DEADLINE_MS,
  REQUEST_DEADLINE_MS,
} from '../limits.ts';
import type { PeerTable } from '../membership/peer-table.ts';
import { rendezvous } from '../membership/rendezvous-hash.ts';
import type { Clock, Log, Network } from '../ports.ts';
import type { FeedRecord } from '../records.ts';
import type { Copy, FollowedFeeds } from '../replication/follower.ts';
import { compareLines, currentLine } from '../storage/feed-lines.ts';

interface TakeoverParts {
  clock: Clock;
  network: Network;
  peers: PeerTable;
  followed: FollowedFeeds;
  log: Log;
  probe: Probe;
  /** Whether the copy here has a workflow or task that has not ended. */
  hasOpen(feedId: string): Promise<boolean>;
  /** Opens a line of this peer with an epoch higher than `above`. Called in the order of the feed. */
  own(feedId: string, above: number): Promise<unknown>;
  options: { takeover_ms: number; beat_interval_ms: number };
}

export class Takeover {
  readonly #parts: TakeoverParts;
  /** Monotonic: silence before this does not count. */
  #since = 0;
  /** Monotonic: the connections of this peer are in doubt until then (P11). */
  #cutOffUntil = Number.NEGATIVE_INFINITY;

  constructor(parts: TakeoverParts) {
    this.#parts = parts;
  }

  /** This peer starts, or has slept, and could hear nobody: counts every silence from now. */
  listen(): void {
    this.#since = this.#parts.clock.now();
  }

  /** P11: if this peer loses more than half of the others at once, it is itself cut off. It takes over nothing then. */
  noticeCut(): void {
    const { clock, peers, options } = this.#parts;
    const now = clock.now();
    // Peers that fall silent together are missed within one beat of each other; one more beat until the next look.
    const together = Math.max(options.takeover_ms, this.#silentMs + 2 * options.beat_interval_ms);
    const { there, lost } = peers.lostSince(now - together, now - this.#silentMs);
    if (lost < 2 || lost <= there) return;
    this.#cutOffUntil = now + CUT_OFF_PATIENCE * options.takeover_ms;
  }

  /** For how long nothing was heard from a peer, in ms. */
  silenceOf(owner: string): number {
    const { peers, clock } = this.#parts;
    return clock.now() - Math.max(peers.find(owner)?.heard_at ?? this.#since, this.#since);
  }

  get #silentMs(): number {
    return this.#parts.options.beat_interval_ms * BEATS_MISSED_MAX;
  }

  /**
   * Whether this peer has to take a feed over now.
   * @param patienceMs how much longer than `takeover_ms` to wait for the owner
   */
  isDue({ feed_id, feed, cursor, wholeFrom, announcedAt }: Copy, patienceMs = 0): boolean {
    const { network, peers, clock, options } = this.#parts;
    if (feed === null || cursor < wholeFrom) return false;
    const { owner } = currentLine(feed);
    if (!(owner === network.self ? peers.mayOwn(owner) : peers.mayFollow(network.self))) return false;
    const synced = feed.followers.filter((follower) => follower.synced).map(({ peer_id }) => peer_id);
    const now = clock.now();
    if (owner === network.self) {
      // This peer stepped down for another one that is gone before its line came here: what this disk has may be on no
      // other, so this peer goes on itself.
      const isOwned = peers.ownerOfFeed((id) => id === feed_id) !== undefined;
      const unannouncedMs = now - Math.max(announcedAt, this.#since);
      return !isOwned && unannouncedMs > options.takeover_ms + patienceMs && now >= this.#cutOffUntil;
    }
    if (!synced.includes(network.self)) return false;
    // An owner that is there but no longer says that it owns the feed has lost the feed, with its disk.
    const isThere = peers.isThere(owner, now - this.#silentMs);
    const overdue = isThere
      ? now - Math.max(announcedAt, this.#since, peers.find(owner)!.turned_at) - options.takeover_ms
      : peers.goneFor(owner, this.silenceOf(owner), options.takeover_ms, now);
    if (overdue <= 0 || now < this.#cutOffUntil) return false;
    if (!isThere && peers.isHeardByOthers(owner, now - this.#silentMs)) return false;
    // Synced followers that come earlier in the order have their turn first, `takeover_ms` each.
    const order = rendezvous(feed_id, synced);
    const before = order
      .slice(0, order.indexOf(network.self))
      .filter((peer) => peers.isThere(peer, now - this.#silentMs) && peers.mayFollow(peer));
    return overdue > patienceMs + options.takeover_ms * before.length;
  }

  /** A feed without open records can wait longer, unless a call needs its owner: the old owner may soon be back. */
  async #isWaitedFor(copy: Copy): Promise<boolean> {
    const { options, hasOpen } = this.#parts;
    if (copy.wantedAt > copy.announcedAt || this.isDue(copy, IDLE_FEED_PATIENCE * options.takeover_ms)) return true;
    return await hasOpen(copy.feed_id);
  }

  /**
   * Takes a feed over, unless that is no longer due once the other peers were asked. Called in the order of the feed.
   * @throws DivergedError when another line of the feed goes on, which this peer has to follow
   */
  async takeOver(feedId: string): Promise<void> {
    const { followed, log, probe } = this.#parts;
    if (!(await this.#isWaitedFor(followed.find(feedId)!))) return;
    probe('takeover:before');
    let above = 0;
    for (const peer_id of await this.#furtherOf(followed.find(feedId)!)) {
      await followed.catchUp(peer_id, feedId).catch((error: unknown) => {
        if (error instanceof DivergedError) {
          if (this.#goesOn(error.theirs)) throw error; // that line is to be followed, no new one opened
          // Nobody goes on with that line. Peers that have a part of it follow the new line, and hand their part over.
          above = Math.max(above, currentLine(error.theirs).epoch);
        }
        log.debug({ feed_id: feedId, peer_id, err: error }, 'a copy that is further cannot be had');
      });
    }
    const copy = followed.find(feedId);
    if (copy === undefined || !followed.isComplete(copy) || !(this.#isOfOld(copy) || this.isDue(copy))) return;
    log.warn({ feed_id: feedId, owner: currentLine(copy.feed!).owner }, 'the owner of a feed is gone: taking over');
    await this.#parts.own(feedId, above);
    probe('takeover:after');
  }

  /** Whether a line will go on: its owner is there, or a synced follower that takes over from it. */
  #goesOn(feed: FeedRecord): boolean {
    const { peers, clock } = this.#parts;
    const since = clock.now() - this.#silentMs;
    if (peers.isOwnedBy(feed.feed_id, currentLine(feed).owner)) return true;
    const goesOn = (peer: string) => peers.isThere(peer, since) && peers.mayFollow(peer);
    return feed.followers.some(({ peer_id, synced }) => synced && goesOn(peer_id));
  }

  /** Whether the copy is of this peer's own line: its disk is old, and others have what it wrote since. */
  #isOfOld({ feed }: Copy): boolean {
    return feed !== null && currentLine(feed).owner === this.#parts.network.self;
  }

  /** The connected peers that have more of a feed than this one, or a line that comes before the known one. */
  async #furtherOf({ feed_id, feed, cursor }: Copy): Promise<string[]> {
    const { followed, peers, clock, log } = this.#parts;
    const lately = clock.now() - this.#silentMs;
    const asked = [...peers.connected()].map(async ({ peer_id }) => {
      const isMember = feed!.followers.some((follower) => follower.peer_id === peer_id);
      const isThere = peers.isThere(peer_id, lately);
      if (!peers.maySend('pull', peer_id)) return [];
      if (!isThere && !isMember) return [];
      try {
        const memberPatience = isThere ? REQUEST_DEADLINE_MS : INQUIRY_DEADLINE_MS;
        const patience = isMember ? memberPatience : BYSTANDER_PATIENCE_MS;
        const answer = await followed.ask(peer_id, feed_id, patience);
        if (answer === null) return [];
        const order = compareLines(currentLine(answer.feed), currentLine(feed!));
        return order > 0 || (order === 0 && answer.head_seq > cursor) ? [peer_id] : [];
      } catch (error) {
        log.debug({ feed_id, peer_id, err: error }, 'a peer did not say what it has of a feed');
        return [];
      }
    });
    return (await Promise.all(asked)).flat();
  }
}
