/**
 * When a feed whose owner is gone is for this peer to take over, and how: from the furthest reachable copy, by the
 * synced followers one after the other, and not while this peer itself may be the one that is cut off.
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
  /** Whether a workflow or task of a feed is not terminal, by the copy here. */
  hasOpen(feedId: string): Promise<boolean>;
  /** Opens a line of this peer, which comes before epoch `above`. Called in the order of the feed. */
  own(feedId: string, above: number): Promise<unknown>;
  options: { takeover_ms: number; beat_interval_ms: number };
}

export class Takeover {
  readonly #parts: TakeoverParts;
  /** Every silence began then, at the earliest. */
  #since = 0;
  /** Monotonic: the connections of this peer are in doubt until then (P11). */
  #cutOffUntil = Number.NEGATIVE_INFINITY;

  constructor(parts: TakeoverParts) {
    this.#parts = parts;
  }

  /** Nothing was heard so far because this peer did not listen: it starts, or has slept. */
  listen(): void {
    this.#since = this.#parts.clock.now();
  }

  /** P11: losing more than half of the peers at once means that this one is cut off. */
  noticeCut(): void {
    const { clock, peers, options } = this.#parts;
    const now = clock.now();
    // Those that fall silent together are missed within a beat of each other, and are looked for once more after that.
    const together = Math.max(options.takeover_ms, this.#silentMs + 2 * options.beat_interval_ms);
    const { there, lost } = peers.lostSince(now - together, now - this.#silentMs);
    if (lost < 2 || lost <= there) return;
    this.#cutOffUntil = now + CUT_OFF_PATIENCE * options.takeover_ms;
  }

  /** For how long nothing was heard of the owner of a feed, in ms. */
  silenceOf(owner: string): number {
    const { peers, clock } = this.#parts;
    return clock.now() - Math.max(peers.find(owner)?.heard_at ?? this.#since, this.#since);
  }

  get #silentMs(): number {
    return this.#parts.options.beat_interval_ms * BEATS_MISSED_MAX;
  }

  /**
   * Whether it is for this peer to take a feed over now.
   * @param patienceMs how much longer than `takeover_ms` its owner is waited for
   */
  isDue({ feed_id, feed, cursor, wholeFrom, announcedAt }: Copy, patienceMs = 0): boolean {
    const { network, peers, clock, options } = this.#parts;
    if (feed === null || cursor < wholeFrom) return false;
    const { owner } = currentLine(feed);
    const synced = feed.followers.filter((follower) => follower.synced).map(({ peer_id }) => peer_id);
    const now = clock.now();
    if (owner === network.self) {
      // It gave way to a peer that is gone before it went on with what is here: nobody else may have that.
      const isOwned = peers.ownerOfFeed((id) => id === feed_id) !== undefined;
      const unannouncedMs = now - Math.max(announcedAt, this.#since);
      return !isOwned && unannouncedMs > options.takeover_ms + patienceMs && now >= this.#cutOffUntil;
    }
    if (!synced.includes(network.self)) return false;
    // One that is there and does not say any more that it owns the feed has lost it, with its disk.
    const isThere = peers.isThere(owner, now - this.#silentMs);
    const overdue = isThere
      ? now - Math.max(announcedAt, this.#since, peers.find(owner)!.turned_at) - options.takeover_ms
      : peers.goneFor(owner, this.silenceOf(owner), options.takeover_ms, now);
    if (overdue <= 0 || now < this.#cutOffUntil) return false;
    if (!isThere && peers.isHeardByOthers(owner, now - this.#silentMs)) return false;
    // Those that come first in the order have their turn, one after the other.
    const order = rendezvous(feed_id, synced);
    const before = order
      .slice(0, order.indexOf(network.self))
      .filter((peer) => peers.isThere(peer, now - this.#silentMs));
    return overdue > patienceMs + options.takeover_ms * before.length;
  }

  /** Where nothing is open, nobody waits for the next owner: the old one may be back before it is worth while. */
  async #isWaitedFor(copy: Copy): Promise<boolean> {
    const { options, hasOpen } = this.#parts;
    if (copy.wantedAt > copy.announcedAt || this.isDue(copy, IDLE_FEED_PATIENCE * options.takeover_ms)) return true;
    return await hasOpen(copy.feed_id);
  }

  /** Called in the order of the feed. Does nothing when it is not due any more once the other peers were asked. */
  async takeOver(feedId: string): Promise<void> {
    const { followed, log, probe } = this.#parts;
    if (!(await this.#isWaitedFor(followed.find(feedId)!))) return;
    probe('takeover:before');
    let above = 0;
    for (const peer_id of await this.#furtherOf(followed.find(feedId)!)) {
      await followed.catchUp(peer_id, feedId).catch((error: unknown) => {
        if (error instanceof DivergedError) {
          if (this.#goesOn(error.theirs)) throw error; // there is a line to follow, not to open one
          // Nobody goes on with it. Whoever has some of it follows the new line, and brings what it has.
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

  /** Whether the owner of a line is there, or a follower that takes it over when it is not. */
  #goesOn(feed: FeedRecord): boolean {
    const { peers, clock } = this.#parts;
    const since = clock.now() - this.#silentMs;
    if (peers.isOwnedBy(feed.feed_id, currentLine(feed).owner)) return true;
    return feed.followers.some(({ peer_id, synced }) => synced && peers.isThere(peer_id, since));
  }

  /** This peer had taken it over already, and its disk is one from the past: others have what it wrote since. */
  #isOfOld({ feed }: Copy): boolean {
    return feed !== null && currentLine(feed).owner === this.#parts.network.self;
  }

  /** The peers that have more of a feed than this one: members of its replica set, or followers of a later line. */
  async #furtherOf({ feed_id, feed, cursor }: Copy): Promise<string[]> {
    const { followed, peers, clock, log } = this.#parts;
    const lately = clock.now() - this.#silentMs;
    const asked = [...peers.connected()].map(async ({ peer_id }) => {
      const isMember = feed!.followers.some((follower) => follower.peer_id === peer_id);
      const isThere = peers.isThere(peer_id, lately);
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
