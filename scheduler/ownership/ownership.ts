/**
 * Which feeds this peer owns, and how that changes.
 *
 * 1. One of them takes new work (`main-feed.ts`). The others were taken over, or turned out to be this peer's after all
 *    when a new main feed had been made already.
 * 2. Before an owner that starts writes a feed, it asks the replica set who owns the feed and how far the feed has come
 *    (P2, `inquiry.ts`). Until then, and while nobody answers, the feed can be read but not written.
 * 3. When an owner is gone, a synced follower takes its feed over (`takeover.ts`), in a new line that begins where the
 *    furthest reachable copy ends. An owner that restarts opens a new line, too, so that no message of its old process
 *    can be taken for one of the new process.
 * 4. An owner that hears of a line that comes before its own (P2) stops writing the feed, hands over what it wrote
 *    beyond the fork (P5), and makes a new feed for new work.
 */
import type { Probe } from '../crash-points.ts';
import { DivergedError, NotOwnerError, NotReadyError } from '../errors.ts';
import type { Dependencies } from '../feed/dependencies.ts';
import type { FeedTable } from '../feed/feed-table.ts';
import type { OwnedFeed } from '../feed/owned-feed.ts';
import { type Remembered, readActive } from '../feed/restore.ts';
import type { Lifecycle } from '../lifecycle.ts';
import { INQUIRY_DEADLINE_MS } from '../limits.ts';
import type { AutoDial } from '../membership/auto-dial.ts';
import type { BeatListener } from '../membership/heartbeat.ts';
import type { PeerTable } from '../membership/peer-table.ts';
import { type Beat, type PeerState, takeoverAnswerSchema } from '../messages.ts';
import type { Clock, Log, Network, Random } from '../ports.ts';
import { type FeedRecord, type Line, LOCAL_FEED } from '../records.ts';
import type { Copy, FollowedFeeds } from '../replication/follower.ts';
import type { Signatures } from '../signatures.ts';
import type { Duplicate } from '../storage/aliases.ts';
import { compareLines, currentLine, members, openLine } from '../storage/feed-lines.ts';
import type { Writes } from '../storage/watched-store.ts';
import type { WorkerPool } from '../worker/worker-pool.ts';
import type { Inquiry, InquiryOutcome } from './inquiry.ts';
import type { MainFeed } from './main-feed.ts';
import type { OneAtATime } from './one-at-a-time.ts';
import type { StoredRecords } from './stored-records.ts';
import { Takeover } from './takeover.ts';

const NONCE_CHARS = 8;

interface OwnershipParts {
  clock: Clock;
  random: Random;
  network: Network;
  store: Writes;
  log: Log;
  probe: Probe;
  peers: PeerTable;
  pool: WorkerPool;
  feeds: FeedTable;
  followed: FollowedFeeds;
  dependencies: Dependencies;
  records: StoredRecords;
  inquiry: Inquiry;
  main: MainFeed;
  oneAtATime: OneAtATime;
  dial: AutoDial;
  lifecycle: Lifecycle;
  conflicts: Conflicts;
  reconciliation: HandsOver;
  signatures: Signatures;
  /** Makes an `OwnedFeed` and adds it to the feed table. */
  makeOwned(feed: FeedRecord): OwnedFeed;
  options: { takeover_ms: number; beat_interval_ms: number; gone: readonly string[] };
}

/** Finds records whose id another record has, too. */
export interface Conflicts {
  /** The records of a feed that is being opened that have to yield their id to other records. */
  among(remembered: Remembered): Promise<Duplicate[]>;
  /** This peer owns a feed from now on, and its records can be shown. */
  onOwned(): void;
}

/** Brings what this peer wrote in a line that lost to the owner of the line that stays (P5). */
export interface HandsOver {
  /** Brings every change after commit `fork` to the owner of `theirs`. Resolves when all of it is durable there. */
  send(mine: FeedRecord, theirs: FeedRecord, fork: number): Promise<void>;
}

export class Ownership implements InquiryOutcome, BeatListener {
  readonly #parts: OwnershipParts;
  readonly #takeover: Takeover;

  constructor(parts: OwnershipParts) {
    this.#parts = parts;
    const { inquiry, store } = parts;
    this.#takeover = new Takeover({
      ...parts,
      hasOpen: (feedId) => store.reader.hasOpen(feedId),
      own: async (feedId, above) => {
        if (inquiry.isOpen(feedId)) throw new NotReadyError(); // the store was read anew meanwhile: ask first
        await this.#own(feedId, { above });
      },
    });
  }

  /** How long the owner of a copied feed has been silent, in ms; null for a feed of which no whole copy is here. */
  staleMs(feedId: string): number | null {
    const owner = this.#parts.records.ownerOfCopy(feedId);
    return owner === null ? null : this.#takeover.silenceOf(owner);
  }

  // --- start and stop ------------------------------------------------------------------------------------------------

  /** Loads the feeds in the store. Those without followers can be written when this resolves; others need an inquiry. */
  async load(): Promise<void> {
    const { store, network, followed, inquiry, feeds, main, probe } = this.#parts;
    inquiry.begin();
    this.#takeover.listen();
    probe('start:before');
    await main.remember();
    const alone: Copy[] = [];
    for (const [feedId, { owned }] of store.feeds) {
      if (feedId === LOCAL_FEED) continue;
      const copy = await followed.load(feedId);
      if (copy.feed === null) continue;
      if (currentLine(copy.feed).owner !== network.self) {
        // The process ended in a takeover, before it had opened a line: this feed is still a copy.
        if (owned) await store.own(feedId, false);
        continue;
      }
      inquiry.open(feedId);
      if (copy.feed.followers.length === 0 && followed.isComplete(copy)) alone.push(copy);
    }
    for (const { feed_id } of alone) await this.goOn(feed_id, true);
    if (!feeds.has(main.id) && !inquiry.isOpen(main.id)) await main.make();
  }

  /** Drops all feeds and copies from memory: the store has failed (`reason`) and is read anew. */
  forget(reason: unknown): void {
    const { feeds, inquiry, oneAtATime, followed, main } = this.#parts;
    for (const feed of feeds.all()) feed.abandon(reason);
    feeds.clear();
    inquiry.clear();
    oneAtATime.clear();
    followed.clear();
    main.forget();
  }

  // --- feeds that become this peer's ---------------------------------------------------------------------------------

  async goOn(feedId: string, isCertain: boolean): Promise<void> {
    const { main, followed, inquiry, network, lifecycle, log, probe } = this.#parts;
    this.#stopAsking(feedId);
    probe('start:after');
    if (feedId === main.id && !isCertain) await main.make();
    let isOwn = true;
    try {
      await followed.inOrder(feedId, async () => {
        const feed = followed.find(feedId)?.feed;
        // A commit of another owner that was before this in the order may have brought the line of that one.
        isOwn = feed == null || currentLine(feed).owner === network.self;
        if (isOwn) await this.#own(feedId, { isCertain });
      });
      if (!isOwn) await this.#leave(feedId);
    } catch (error) {
      log.warn({ feed_id: feedId, err: error }, 'a feed cannot be taken up; it is read-only, and tried again');
      if (followed.find(feedId) !== undefined && !lifecycle.stopping) inquiry.open(feedId);
      throw error;
    }
  }

  /**
   * The owner of the feed is known now. Until then its records counted as this peer's own, but they may be another
   * peer's, or have ended without this peer. So the mesh is asked about every awaited record.
   * @returns whether the inquiry about the feed was open
   */
  #stopAsking(feedId: string): boolean {
    const asked = this.#parts.inquiry.close(feedId);
    if (asked) this.#parts.dependencies.doubt();
    return asked;
  }

  /** Does nothing for a feed whose inquiry is not open. */
  async giveUp(feedId: string): Promise<void> {
    if (this.#stopAsking(feedId)) await this.#leave(feedId);
  }

  /** A feed that was this peer's is another peer's, and the copy here is in the line of that one. */
  async #leave(feedId: string): Promise<void> {
    const { store, main, lifecycle } = this.#parts;
    await store.own(feedId, false);
    if (feedId === main.id && !lifecycle.stopping) await main.make();
  }

  /**
   * Opens a new line of a feed whose rows are here, and loads its open records. Called in the order of the feed.
   * @param how.isCertain as `InquiryOutcome.goOn`
   * @param how.above an epoch of another history: the new line gets a higher one, so that it comes first
   */
  async #own(feedId: string, { isCertain = true, above = 0 } = {}): Promise<void> {
    const { followed, store, network, random, makeOwned, pool, records, main } = this.#parts;
    const copy = followed.find(feedId);
    if (copy === undefined) throw new NotReadyError();
    const { feed, cursor } = copy;
    const before = currentLine(feed!).owner;
    await copy.durable;
    const remembered = await readActive(store.reader, feedId, records);
    const conflicts = await this.#parts.conflicts.among(remembered);
    const mustBeKnown = () => {
      if (followed.find(feedId) !== copy) throw new NotReadyError(); // the store has failed meanwhile, and was read anew
    };
    mustBeKnown();
    await store.own(feedId, true);
    mustBeKnown();
    followed.release(feedId);
    const line = openLine(feed!, network.self, cursor, random.id(NONCE_CHARS), above);
    const next = this.#parts.signatures.opening(line, feed!, cursor);
    const owned = makeOwned({ ...next, passed_on: next.passed_on || !isCertain });
    const opened = owned.open(remembered, (turn) => {
      owned.attempts.loseLeasesBut(turn, network.self, pool.holdingOf(feedId));
      if (before !== network.self) owned.attempts.loseLeasesBut(turn, before, []);
      for (const conflict of conflicts) owned.yieldId(turn, conflict);
    });
    pool.reassign(feedId, network.self);
    owned.replicas.mend(); // so that followers get the new line itself
    await opened;
    if (feedId === main.id) main.tell();
    this.#announce(owned);
    this.#parts.conflicts.onOwned();
  }

  /** Tells all connected peers of the new line. They answer which leases they run: other tasks are queued again. */
  #announce(owned: OwnedFeed): void {
    const { network, peers, log } = this.#parts;
    const opened = { feed_id: owned.feed_id, line: currentLine(owned.feed) };
    for (const { peer_id } of peers.connected()) {
      const answer = network.request(peer_id, 'takeover', opened, INQUIRY_DEADLINE_MS);
      const said = answer.then((value) => takeoverAnswerSchema.parse(value));
      said.then(
        ({ holding }) => {
          owned.turn((turn) => owned.attempts.loseLeasesBut(turn, peer_id, holding));
        },
        (error: unknown) => log.debug({ peer_id, err: error }, 'a worker did not say what it holds; its beats will'),
      );
    }
  }

  // --- lines of others -----------------------------------------------------------------------------------------------

  onBeat(peer: string, { state }: Beat): void {
    if (this.#parts.lifecycle.ready) this.onLines(peer, state);
  }

  /** The lines of all feeds that a peer says it owns. */
  onLines(peer: string, state: PeerState | null): void {
    const { peers, pool } = this.#parts;
    const leased = pool.feeds();
    for (const { feed_id, heirs = [], ...line } of peers.linesOf({ peer_id: peer, state })) {
      this.onLine(peer, feed_id, { ...line, owner: peer });
      if (!leased.has(feed_id)) continue;
      this.#bringResults(feed_id);
      pool.heirsSaid(peer, feed_id, heirs);
    }
    for (const feedId of leased) this.#bringResults(feedId);
  }

  onLine(peer: string, feedId: string, line: Line): void {
    const { followed, feeds } = this.#parts;
    followed.announced(feedId, line);
    const mine = feeds.get(feedId)?.feed ?? followed.find(feedId)?.feed;
    if (mine == null || compareLines(line, currentLine(mine)) <= 0) return;
    this.look(peer, feedId);
  }

  look(peer: string, feedId: string): void {
    const { oneAtATime, feeds, inquiry } = this.#parts;
    oneAtATime.run(feedId, async () => {
      const owned = feeds.get(feedId);
      if (owned !== undefined && !(await inquiry.isOvertaken(peer, owned))) return;
      if (owned !== undefined) await this.stepDown(peer, owned);
      await this.follow(feedId, peer);
    });
  }

  /** P2: another peer owns a feed that this one wrote until now. */
  async stepDown(owner: string, owned: OwnedFeed): Promise<void> {
    const { store, followed, feeds, main, lifecycle, log } = this.#parts;
    const { feed_id } = owned;
    log.warn({ feed_id, owner }, 'another peer has taken over a feed of this one');
    owned.abandon(new NotOwnerError(owner));
    // In the order of the feed: no commit of the new owner may be taken before this peer knows how far its own disk is.
    await followed.inOrder(feed_id, async () => {
      if (feeds.get(feed_id) !== owned) return; // the store was read anew meanwhile
      feeds.remove(feed_id);
      await store.own(feed_id, false); // after commits that are still on their way to the disk
      await followed.load(feed_id);
    });
    if (feed_id === main.id && !lifecycle.stopping) await main.make();
  }

  /** Copies the line of another owner; changes that this peer made beyond the fork are handed over to that owner. */
  async follow(feedId: string, owner: string): Promise<void> {
    const { followed, network } = this.#parts;
    await this.giveUp(feedId);
    await network.connect(owner, []);
    try {
      await followed.inOrder(feedId, () => followed.catchUp(owner, feedId));
    } catch (error) {
      if (!(error instanceof DivergedError)) throw error;
      const diverged = followed.find(feedId);
      const cursor = diverged?.cursor;
      await diverged?.durable; // commits still on their way to the disk are handed over, too
      // Not in the order of the feed: its new owner may wait for this peer to copy the very records that it hands over.
      await this.#parts.reconciliation.send(error.mine, error.theirs, error.fork);
      await followed.inOrder(feedId, async () => {
        const copy = followed.find(feedId);
        // Otherwise the copy has changed meanwhile. If it still leaves the owner's line, the next `follow` finds that.
        if (copy === diverged && copy?.feed === error.mine && copy.cursor === cursor) await followed.forget(feedId);
      });
    }
  }

  /** Whether a feed has an owner that can be reached: this peer, or a connected one. */
  isOwned(feedId: string): boolean {
    const { peers, feeds } = this.#parts;
    return feeds.has(feedId) || peers.ownerOfFeed((id) => id === feedId) !== undefined;
  }

  /**
   * The owner of a feed that leases here are of. P9: of the peers that say so, only those count that the peer which gave
   * the leases has named as heirs, or that the copy here names as the owner.
   */
  #ownerOfLeases(feedId: string): string | undefined {
    const { peers, network, feeds, pool, records } = this.#parts;
    if (feeds.has(feedId)) return network.self;
    const copied = records.ownerOfCopy(feedId);
    const isBelieved = (peer: string) => peer === copied || pool.believes(feedId, peer);
    return peers.ownerOfFeed((id) => id === feedId, isBelieved)?.peer_id;
  }

  /** Lets workers here send results of a feed to its present owner. False when the owner is not known. */
  #bringResults(feedId: string): boolean {
    const owner = this.#ownerOfLeases(feedId);
    if (owner !== undefined) this.#parts.pool.reassign(feedId, owner);
    return owner !== undefined;
  }

  /** Dials the peers that may have taken a feed over: the one that has says so in its greeting. */
  #lookForOwner(feedId: string): void {
    if (this.#bringResults(feedId)) return;
    for (const heir of this.#parts.pool.heirsOf(feedId)) this.#parts.dial.meet(heir, []);
    const claimant = this.#parts.peers.ownerOfFeed((id) => id === feedId)?.peer_id;
    if (claimant !== undefined) this.#askForHistory(feedId, claimant);
  }

  /**
   * P9: a peer says that it owns a feed, and nobody that is believed here has named it: the owner was gone before its
   * heirs were told here. The record of the feed shows it, if a peer that is believed was a member before this one.
   */
  #askForHistory(feedId: string, claimant: string): void {
    const { oneAtATime, followed, pool } = this.#parts;
    oneAtATime.run(feedId, async () => {
      const answer = await followed.ask(claimant, feedId);
      if (answer === null || currentLine(answer.feed).owner !== claimant) return;
      // Also a member: the line of who gave the leases may have lost to that of another member (P2).
      const isHeir = [...members(answer.feed)].some((peer) => peer !== claimant && pool.believes(feedId, peer));
      if (isHeir) pool.reassign(feedId, claimant);
    });
  }

  // --- owners that are gone ------------------------------------------------------------------------------------------

  onTick(): void {
    const { feeds, inquiry, pool } = this.#parts;
    for (const feed of feeds.all()) feed.replicas.mend();
    inquiry.ask(this);
    for (const feedId of pool.feeds()) this.#lookForOwner(feedId);
    pool.forgetHeirs();
  }

  /** Checks whether owners or followers are gone, and takes over feeds when it is this peer's turn. */
  onWatch(): void {
    const { feeds, followed, clock, options } = this.#parts;
    this.#takeover.noticeCut();
    for (const feed of feeds.all()) feed.replicas.mendSet();
    const now = clock.now();
    for (const copy of followed.all()) {
      if (now - copy.triedAt < options.beat_interval_ms || !this.#takeover.isDue(copy)) continue;
      copy.triedAt = now;
      this.#takeOver(copy.feed_id);
    }
  }

  #takeOver(feedId: string): void {
    const { inquiry, oneAtATime, followed } = this.#parts;
    if (inquiry.isOpen(feedId)) return;
    oneAtATime.run(feedId, () => followed.inOrder(feedId, () => this.#takeover.takeOver(feedId)));
  }

  onConnected(peer: string): void {
    const { feeds, inquiry } = this.#parts;
    for (const feed of feeds.all()) feed.replicas.connected(peer);
    inquiry.ask(this);
  }

  onDisconnected(peer: string): void {
    for (const feed of this.#parts.feeds.all()) feed.replicas.disconnected(peer);
    this.#takeover.noticeCut();
  }

  /** P11: counts every silence from now, and writes nothing before the replica sets have been asked. */
  onWake(): void {
    const { inquiry } = this.#parts;
    inquiry.begin();
    this.#takeover.listen();
    inquiry.wake(this);
  }
}
