/**
 * Before this peer writes a feed it asks the feed's replica set who owns it: at the start (P2), because the disk may be
 * an old copy of itself, and after a sleep (P11), because another peer may have taken the feed over meanwhile. The
 * caller acts on the answer (`InquiryOutcome`).
 */
import type { FeedTable } from '../feed/feed-table.ts';
import type { OwnedFeed } from '../feed/owned-feed.ts';
import { FORMER_FOLLOWERS_MAX, START_WAIT_MS } from '../limits.ts';
import type { AutoDial } from '../membership/auto-dial.ts';
import type { PeerTable } from '../membership/peer-table.ts';
import type { Clock, Log, Network } from '../ports.ts';
import type { FeedRecord, Line } from '../records.ts';
import type { FollowedFeeds } from '../replication/follower.ts';
import type { Signatures } from '../signatures.ts';
import { compareLines, currentLine, isHeir, members } from '../storage/feed-lines.ts';
import type { OneAtATime } from './one-at-a-time.ts';

export interface InquiryOutcome {
  /**
   * The feed is still this peer's: writes it again.
   * @param isCertain whether every commit of the feed is here; if not, tasks in it may have been started that this disk
   *   knows nothing of, as in a feed that was passed on (P4)
   */
  goOn(feedId: string, isCertain: boolean): Promise<void>;
  /** Another peer owns the feed, and the copy here is already in that peer's line. */
  giveUp(feedId: string): Promise<void>;
  /** Another peer owns the feed: its line has to be fetched. */
  follow(feedId: string, owner: string): Promise<void>;
  /** Another peer owns a feed that this peer is writing. */
  stepDown(owner: string, owned: OwnedFeed): Promise<void>;
  /** A peer may have a line of a feed that comes before the one known here: checks that, and follows the peer. */
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
  signatures: Signatures;
  log: Log;
  /** Ids of peers that will never come back: their answer is not waited for. */
  options: { gone: readonly string[] };
}

/** The peers that have said how much of a feed they have; true when they have exactly as much as this disk. */
type Answered = Map<string, boolean>;

export class Inquiry {
  /** Ids of the feeds that this process made: it knows every peer that was ever in their replica sets. */
  readonly madeHere = new Set<string>();
  readonly #parts: InquiryParts;
  /** This peer's feeds whose owner is not known yet, each with the answers so far. */
  readonly #asking = new Map<string, Answered>();
  readonly #saidReadOnly = new Set<string>();
  /** Inquiries after a sleep that are under way. */
  readonly #waking = new Set<Promise<void>>();
  /** Monotonic: when this peer started, or woke. */
  #begunAt = 0;

  constructor(parts: InquiryParts) {
    this.#parts = parts;
  }

  /** Monotonic: new work waits no longer than this for the replica set to answer. */
  get patienceEnds(): number {
    return this.#begunAt + START_WAIT_MS;
  }

  /** Starts the time that replica sets have to answer anew. */
  begin(): void {
    this.#begunAt = this.#parts.clock.now();
  }

  /** Forgets every feed: the store has failed and is read anew. */
  clear(): void {
    this.madeHere.clear();
    this.#asking.clear();
  }

  // --- an owner that starts ------------------------------------------------------------------------------------------

  /** Whether the owner of the feed is not known yet. */
  isOpen(feedId: string): boolean {
    return this.#asking.has(feedId);
  }

  /** From now on the replica set of the feed is asked who owns it. */
  open(feedId: string): void {
    this.#asking.set(feedId, new Map());
  }

  /** The owner of the feed is known. @returns whether the inquiry was open */
  close(feedId: string): boolean {
    return this.#asking.delete(feedId);
  }

  /** For every feed whose owner is not known: asks the connected peers that have not answered. */
  ask(outcome: InquiryOutcome): void {
    for (const [feedId, answered] of this.#asking) {
      this.#parts.oneAtATime.run(feedId, () => this.#askAll(feedId, answered, outcome));
    }
  }

  async #askAll(feedId: string, answered: Answered, outcome: InquiryOutcome): Promise<void> {
    const { clock, followed, peers, network, options } = this.#parts;
    // All connected peers, not only the replica set: this disk may be old, and the set may have changed since.
    const connected = [...peers.connected()]
      .map(({ peer_id }) => peer_id)
      .filter((peer) => peers.maySend('pull', peer));
    await Promise.all(connected.map((peer) => this.#askOne(feedId, peer, answered, outcome)));
    if (this.#asking.get(feedId) !== answered) return; // the store was read anew meanwhile
    const copy = followed.find(feedId);
    if (copy === undefined) return await this.#giveUpForgotten(feedId, answered, outcome);
    if (copy.feed === null) return;
    const { feed } = copy;
    if (currentLine(feed).owner !== network.self) return await outcome.giveUp(feedId); // a catch-up brought its line
    const waited = clock.now() >= this.patienceEnds;
    const isGone = (peer: string): boolean => options.gone.includes(peer) || network.expelled(peer);
    const members = feed.followers.map(({ peer_id }) => peer_id).filter((peer) => !isGone(peer));
    const heard = members.filter((peer) => answered.has(peer));
    // P4: a follower that has more shows that this disk is old. One that has less was away while this peer wrote: it
    // may have been replaced since, so that later commits are only at followers this disk does not know.
    const areEven = feed.followers.every(({ peer_id, synced }) => !synced || answered.get(peer_id) === true);
    const isCertain = areEven && heard.length > 0;
    // A follower that was never synced cannot have taken the feed over: nobody has to wait for it for ever.
    const isAnswerNeeded = feed.followers.some(({ peer_id, synced }) => synced && members.includes(peer_id));
    const isHeard = heard.length === members.length || (waited && (heard.length > 0 || !isAnswerNeeded));
    if (isHeard && followed.isComplete(copy)) await outcome.goOn(feedId, isCertain);
    else if (waited) this.#lookForMembers(feedId, members);
  }

  /** An owner after this one has let this peer go: there is nothing left here of the feed, and nothing to ask about. */
  async #giveUpForgotten(feedId: string, answered: Answered, outcome: InquiryOutcome): Promise<void> {
    const { followed, feeds } = this.#parts;
    // In the order of the feed: a copy that is being made anew, or taken up, is missing for a moment.
    const isThere = () => followed.find(feedId) !== undefined || feeds.get(feedId) !== undefined;
    const isForgotten = await followed.inOrder(feedId, async () => !isThere());
    if (isForgotten && this.#asking.get(feedId) === answered) await outcome.giveUp(feedId);
  }

  #lookForMembers(feed_id: string, followers: string[]): void {
    for (const peer of followers) this.#parts.dial.meet(peer, []);
    if (this.#saidReadOnly.has(feed_id)) return;
    this.#saidReadOnly.add(feed_id);
    const message =
      'no follower of a feed answers: it is read-only until one does; name those that never will as --gone';
    this.#parts.log.warn({ feed_id, followers }, message);
  }

  /** P2: if a peer owns the feed, or has more of it, this peer first follows it, or catches up. */
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
        // More of this line, or a later line of this peer's own: this disk is old.
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
   * P9: whether the line in `theirs` may come from a member of the feed's replica set. That can be denied only for a
   * feed that this process made: a replica set read from a disk may be old, and another one by now.
   */
  isHeir(mine: FeedRecord, theirs: FeedRecord): boolean {
    return isHeir(mine, theirs) || !this.madeHere.has(mine.feed_id);
  }

  /**
   * P9: whether a peer may have owned this peer's feed, or kept a copy of it. That can be denied only for a feed that
   * this process made and that nobody else has owned: in another history of any other feed, an owner may have taken
   * followers that the record here does not name.
   */
  mayBeMember(feed: FeedRecord, peer: string): boolean {
    const { feed_id, lines, former } = feed;
    const namesAll = this.madeHere.has(feed_id) && lines.length === 1 && former.length < FORMER_FOLLOWERS_MAX;
    return !namesAll || members(feed).has(peer);
  }

  /**
   * P9: whether the leases that a peer has given in a feed of this one count. In a secured mesh only those of a peer that
   * the record here names: whoever brings a result could have given itself the lease. What another one gave, an owner in
   * a history that this disk has lost, is done again.
   */
  mayHaveOwned(feed: FeedRecord, peer: string): boolean {
    return this.#parts.signatures.isOn ? members(feed).has(peer) : this.mayBeMember(feed, peer);
  }

  /**
   * P9: whether a peer may bring what it wrote, or copied, of this peer's feed in `line`, which has lost (P5). Of a
   * peer that the record here does not name, that is asked: it has to have another history of the same feed.
   */
  async mayHandOver(peer: string, { feed_id, feed }: OwnedFeed, line: Line): Promise<boolean> {
    if (members(feed).has(peer)) return true;
    if (!this.mayBeMember(feed, peer) || compareLines(line, currentLine(feed)) >= 0) return false;
    const answer = await this.#parts.followed.ask(peer, feed_id);
    return answer !== null && compareLines(answer.feed.lines[0]!, feed.lines[0]!) === 0;
  }

  /** Whether a peer has a line that comes before the one in which this peer writes (P2). */
  async isOvertaken(peer: string, { feed_id, feed }: OwnedFeed): Promise<boolean> {
    const answer = await this.#parts.followed.ask(peer, feed_id);
    if (answer === null || compareLines(currentLine(answer.feed), currentLine(feed)) <= 0) return false;
    if (this.isHeir(feed, answer.feed)) return true;
    this.#parts.log.warn({ feed_id, peer }, 'a line of a feed does not come from its replica set: it is refused');
    return false;
  }

  // --- sleep ---------------------------------------------------------------------------------------------------------

  /** P11: this peer stood still. Writes nothing before the replica sets have said that its feeds are still its own. */
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

  /** Resolves when this peer knows which feeds are its own: at once, except for a moment after a sleep. */
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
