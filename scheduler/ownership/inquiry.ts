/**
 * Whose a feed is, asked before this peer writes it: at the start (P2), when its disk may be one from the past, and
 * after a sleep (P11), when another peer may have taken it over meanwhile. Its replica set knows. What comes of it is
 * done by who asked for it (`InquiryOutcome`).
 */
import type { FeedTable } from '../feed/feed-table.ts';
import type { OwnedFeed } from '../feed/owned-feed.ts';
import { START_WAIT_MS } from '../limits.ts';
import type { AutoDial } from '../membership/auto-dial.ts';
import type { PeerTable } from '../membership/peer-table.ts';
import type { Clock, Log, Network } from '../ports.ts';
import type { FeedRecord } from '../records.ts';
import type { FollowedFeeds } from '../replication/follower.ts';
import { compareLines, currentLine, isHeir } from '../storage/feed-lines.ts';
import type { OneAtATime } from './one-at-a-time.ts';

export interface InquiryOutcome {
  /**
   * This peer goes on with its feed.
   * @param isCertain nothing that was written in it can be missing here; else it is as one that was passed on (P4)
   */
  goOn(feedId: string, isCertain: boolean): Promise<void>;
  /** Another peer owns the feed, and what is here has its line already. */
  giveUp(feedId: string): Promise<void>;
  /** Another peer owns the feed. */
  follow(feedId: string, owner: string): Promise<void>;
  /** A feed that this peer writes is another peer's. */
  stepDown(owner: string, owned: OwnedFeed): Promise<void>;
  /** A peer is said to have a line of a feed that comes before the one known here. */
  look(peer: string, feedId: string): void;
}

interface InquiryParts {
  clock: Clock;
  network: Network;
  peers: PeerTable;
  feeds: FeedTable;
  followed: FollowedFeeds;
  dial: AutoDial;
  oneAtATime: OneAtATime;
  log: Log;
  /** Peers that will never come back: they are not waited for. */
  options: { gone: readonly string[] };
}

/** The peers that have answered what they have of a feed; true: all that this disk has, and no more. */
type Answered = Map<string, boolean>;

export class Inquiry {
  /** Feeds that this process has made: it knows everybody who was ever in their replica sets. */
  readonly madeHere = new Set<string>();
  readonly #parts: InquiryParts;
  /** Feeds of this peer whose replica set was not heard yet. */
  readonly #asking = new Map<string, Answered>();
  readonly #saidReadOnly = new Set<string>();
  /** Questions after a sleep that are not answered. */
  readonly #waking = new Set<Promise<void>>();
  /** Monotonic: when this peer started, or woke. */
  #begunAt = 0;

  constructor(parts: InquiryParts) {
    this.#parts = parts;
  }

  /** Monotonic: those that have not answered until then are not waited for by new work. */
  get patienceEnds(): number {
    return this.#begunAt + START_WAIT_MS;
  }

  /** The replica sets have as long as ever from now on. */
  begin(): void {
    this.#begunAt = this.#parts.clock.now();
  }

  /** Nothing is known any more. */
  clear(): void {
    this.madeHere.clear();
    this.#asking.clear();
  }

  // --- an owner that starts ------------------------------------------------------------------------------------------

  /** Whether it is not known yet whose the feed is. */
  isOpen(feedId: string): boolean {
    return this.#asking.has(feedId);
  }

  /** It is to be found out whose the feed is. */
  open(feedId: string): void {
    this.#asking.set(feedId, new Map());
  }

  /** It is known whose the feed is. @returns whether that was asked */
  close(feedId: string): boolean {
    return this.#asking.delete(feedId);
  }

  /** Asks, for every feed of which it is not known whose it is, those that are there and have not answered. */
  ask(outcome: InquiryOutcome): void {
    for (const [feedId, answered] of this.#asking) {
      this.#parts.oneAtATime.run(feedId, () => this.#askAll(feedId, answered, outcome));
    }
  }

  async #askAll(feedId: string, answered: Answered, outcome: InquiryOutcome): Promise<void> {
    const { clock, followed, peers, network, options } = this.#parts;
    // Not the members alone: this disk may be one from the past, and the set another one by now.
    const connected = [...peers.connected()].map(({ peer_id }) => peer_id);
    await Promise.all(connected.map((peer) => this.#askOne(feedId, peer, answered, outcome)));
    const copy = followed.find(feedId);
    if (copy?.feed == null || this.#asking.get(feedId) !== answered) return; // the store was read anew meanwhile
    const { feed } = copy;
    if (currentLine(feed).owner !== network.self) return await outcome.giveUp(feedId); // it has brought its line
    const waited = clock.now() >= this.patienceEnds;
    const members = feed.followers.map(({ peer_id }) => peer_id).filter((peer) => !options.gone.includes(peer));
    const heard = members.filter((peer) => answered.has(peer));
    // P4: one that has more shows that this disk is one from the past. One that has less was away while this peer
    // wrote: it may have been replaced since, and what came then be at the others alone.
    const areEven = feed.followers.every(({ peer_id, synced }) => !synced || answered.get(peer_id) === true);
    const isCertain = areEven && heard.length > 0;
    // One that was never synced cannot have taken it over: it need not answer, should it never come again.
    const isAnswerNeeded = feed.followers.some(({ peer_id, synced }) => synced && members.includes(peer_id));
    const isHeard = heard.length === members.length || (waited && (heard.length > 0 || !isAnswerNeeded));
    if (isHeard && followed.isComplete(copy)) await outcome.goOn(feedId, isCertain);
    else if (waited) this.#lookForMembers(feedId, members);
  }

  #lookForMembers(feed_id: string, followers: string[]): void {
    for (const peer of followers) this.#parts.dial.meet(peer, []);
    if (this.#saidReadOnly.has(feed_id)) return;
    this.#saidReadOnly.add(feed_id);
    const message =
      'no follower of a feed answers: it is read-only until one does; name those that never will as --gone';
    this.#parts.log.warn({ feed_id, followers }, message);
  }

  /** P2: whoever is further, or owns it, is followed first. */
  async #askOne(feedId: string, member: string, answered: Answered, outcome: InquiryOutcome): Promise<void> {
    const { followed, network, log } = this.#parts;
    if (answered.has(member)) return;
    try {
      const answer = await followed.ask(member, feedId);
      const mine = followed.find(feedId);
      let isEven = false;
      if (answer !== null && mine?.feed != null && this.isHeir(mine.feed, answer.feed)) {
        const order = compareLines(currentLine(answer.feed), currentLine(mine.feed));
        const { owner } = currentLine(answer.feed);
        if (order > 0 && owner !== network.self) return await outcome.follow(feedId, owner);
        isEven = order === 0 && answer.head_seq === mine.cursor;
        // A later line of this peer's own: this disk is one from the past.
        if (order > 0 || (order === 0 && answer.head_seq > mine.cursor)) {
          await followed.inOrder(feedId, () => followed.catchUp(member, feedId));
        }
      }
      answered.set(member, isEven);
    } catch (error) {
      log.debug({ feed_id: feedId, member, err: error }, 'a member of the replica set did not say what it has');
    }
  }

  // --- an owner that writes ------------------------------------------------------------------------------------------

  /**
   * P9: whether a member of the replica set went on with it, if anybody did. Only of a feed that this process itself
   * has made it is known who is none: what was read from a disk may be from the past, and the set another one since.
   */
  isHeir(mine: FeedRecord, theirs: FeedRecord): boolean {
    return isHeir(mine, theirs) || !this.madeHere.has(mine.feed_id);
  }

  /** Whether a peer has a line that comes before the one in which this peer writes (P2). */
  async isOvertaken(peer: string, { feed_id, feed }: OwnedFeed): Promise<boolean> {
    const answer = await this.#parts.followed.ask(peer, feed_id);
    if (answer === null || compareLines(currentLine(answer.feed), currentLine(feed)) <= 0) return false;
    if (this.isHeir(feed, answer.feed)) return true;
    this.#parts.log.warn({ feed_id, peer }, 'a claim to a feed does not come from its replica set: it is refused');
    return false;
  }

  // --- sleep ---------------------------------------------------------------------------------------------------------

  /** P11: this peer stood still. Nothing is written before its replica sets have said that they are still its own. */
  wake(outcome: InquiryOutcome): void {
    for (const feed of this.#parts.feeds.all()) {
      if (feed.feed.followers.length === 0) continue;
      feed.journal.freeze();
      const asked = this.#askAfterSleep(feed, outcome).finally(() => {
        feed.journal.thaw();
        this.#waking.delete(asked);
      });
      this.#waking.add(asked);
    }
  }

  /** Resolves when it is known again which feeds are this peer's: at once, but for a moment after a sleep. */
  async whenAwake(): Promise<void> {
    await Promise.all(this.#waking);
  }

  async #askAfterSleep(owned: OwnedFeed, outcome: InquiryOutcome): Promise<void> {
    const { clock, network, followed, feeds, log } = this.#parts;
    const { promise: tooLate, resolve } = Promise.withResolvers<void>();
    const cancel = clock.after(START_WAIT_MS, resolve);
    const { feed } = owned;
    const asked = feed.followers.map(async ({ peer_id }) => {
      try {
        await network.connect(peer_id, []);
        const answer = await followed.ask(peer_id, owned.feed_id);
        if (answer === null || compareLines(currentLine(answer.feed), currentLine(feed)) <= 0) return;
        const { owner } = currentLine(answer.feed);
        if (feeds.get(owned.feed_id) === owned) await outcome.stepDown(owner, owned);
        outcome.look(owner, owned.feed_id);
      } catch (error) {
        log.debug({ peer_id, err: error }, 'a member of the replica set did not answer after a sleep');
      }
    });
    await Promise.race([Promise.all(asked), tooLate]);
    cancel();
  }
}
