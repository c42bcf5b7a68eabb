/**
 * Which feeds this peer owns, and how that changes.
 *
 * 1. One of them takes new work (the main feed). The others were taken over, or came back after a doubt.
 * 2. A starting owner asks its replica set how far its feed has come and who owns it before it writes (P2). Until then,
 *    and while nobody answers, the feed can be read and not written; new work goes to a new feed after START_WAIT_MS.
 * 3. A synced follower takes over when its owner is gone, in a new line that begins where the furthest reachable copy
 *    ends. Going on after a restart is the same: a new line, so that nothing of the old process can be taken for it.
 * 4. An owner that hears of a line that comes before its own (P2) stops, hands over what it wrote beyond the fork (P5),
 *    and gives new work a new feed.
 */
import type { Probe } from '../crash-points.ts';
import { DivergedError, NotOwnerError, NotReadyError, ReadOnlyError } from '../errors.ts';
import type { OwnedFeed } from '../feed/owned-feed.ts';
import { type Remembered, readActive } from '../feed/restore.ts';
import { INQUIRY_DEADLINE_MS, START_WAIT_MS } from '../limits.ts';
import type { Directory } from '../membership/peer-table.ts';
import { type Alias, type OfferClass, type PeerState, takeoverAnswerSchema } from '../messages.ts';
import type { Clock, Log, Network, Random } from '../ports.ts';
import { type FeedRecord, type Line, LOCAL_FEED, type TaskRecord, type WorkflowRecord } from '../records.ts';
import type { Copy, FollowedFeeds } from '../replication/follower.ts';
import type { Duplicate, LocalRecord } from '../storage/aliases.ts';
import { compareLines, currentLine, isHeir, newFeed, withLine } from '../storage/feed-lines.ts';
import type { Journal } from '../storage/journal.ts';
import type { Writes } from '../storage/watched-store.ts';
import type { WorkerPool } from '../worker/worker-pool.ts';
import { Takeover } from './takeover.ts';

const FEED_ID_CHARS = 20;
const NONCE_CHARS = 8;

interface FeedsParts {
  clock: Clock;
  random: Random;
  network: Network;
  store: Writes;
  log: Log;
  probe: Probe;
  directory: Directory;
  pool: WorkerPool;
  followed: FollowedFeeds;
  /** The journal of LOCAL_FEED. */
  local(): Journal;
  makeOwned(feed: FeedRecord): OwnedFeed;
  lookUp(alias: Alias): Promise<LocalRecord | undefined>;
  /** A feed is owned, and what is in it can be shown. */
  onTakenUp(): void;
  /** Brings what is here beyond `fork` to the owner of `theirs`. */
  reconcile(mine: FeedRecord, theirs: FeedRecord, fork: number): Promise<void>;
  /** Records of a feed whose ids others have, too, and that give way to those. */
  conflictsAmong(remembered: Remembered): Promise<Duplicate[]>;
  /** Records that others wait for may have another owner, or have ended unnoticed. */
  doubt(): void;
  /** Dials a peer that is not connected, now and then. */
  reach(peer: string): void;
  options: { takeover_ms: number; beat_interval_ms: number; gone: readonly string[] };
}

/** The peers that have answered what they have of a feed; true: all that this disk has, and no more. */
type Answered = Map<string, boolean>;

export class Feeds {
  readonly owned = new Map<string, OwnedFeed>();
  readonly takeover: Takeover;
  private readonly parts: FeedsParts;
  private mainId = '';
  private mainMade: Promise<OwnedFeed> | null = null;
  /** Feeds of this peer whose replica set was not heard yet. */
  private readonly asking = new Map<string, Answered>();
  private readonly saidReadOnly = new Set<string>();
  /** Feeds that are just being taken over, followed or given up, each with what does it. */
  private readonly busy = new Map<string, symbol>();
  /** Questions after a sleep that are not answered. */
  private readonly waking = new Set<Promise<void>>();
  /** Feeds that this process has made: it knows everybody who was ever in their replica sets. */
  private readonly made = new Set<string>();
  private mainWaiters: (() => void)[] = [];
  private startedAt = 0;
  private dispatches = 0;
  private stopped = false;

  constructor(parts: FeedsParts) {
    this.parts = parts;
    this.takeover = new Takeover({
      ...parts,
      hasOpen: (feedId) => parts.store.reader.hasOpen(feedId),
      own: async (feedId, above) => {
        if (this.asking.has(feedId)) throw new NotReadyError(); // the store was read anew meanwhile: it is asked for first
        await this.own(feedId, { above });
      },
    });
  }

  /** The id of the feed that takes new work; empty before there is one. */
  get main_feed(): string {
    return this.mainId;
  }

  /** The feed that takes new work, if it can be written now. */
  get main(): OwnedFeed | undefined {
    return this.owned.get(this.mainId);
  }

  /** The feed in which this peer owns a record, if it does. */
  async of(uid: string): Promise<OwnedFeed | undefined> {
    for (const feed of this.owned.values()) if (feed.tasks.live.has(uid) || feed.runs.live.has(uid)) return feed;
    const row = await this.parts.store.reader.row(uid);
    return row === undefined ? undefined : this.owned.get(row.feed_id);
  }

  /** @throws ReadOnlyError for a feed that can be read and not written now */
  mustOwn(feed: OwnedFeed | undefined): OwnedFeed {
    if (feed === undefined) throw new ReadOnlyError();
    return feed;
  }

  /** Tasks of all owned feeds. */
  get counts(): { queued: number; running: number } {
    const sum = { queued: 0, running: 0 };
    for (const { tasks } of this.owned.values()) {
      const { queued, running } = tasks.counts;
      sum.queued += queued;
      sum.running += running;
    }
    return sum;
  }

  /** A record that has not ended, by the id that its user knows. */
  byAlias(kind: 'task' | 'workflow', id: string): TaskRecord | WorkflowRecord | undefined {
    for (const { tasks, runs } of this.owned.values()) {
      const record = kind === 'task' ? tasks.live.byId(id)?.record : runs.live.byId(id)?.record;
      if (record !== undefined) return record;
    }
    return undefined;
  }

  /** Whether this peer is just accepting a record, which may never come to its disk (P1): nobody may rely on it. */
  isBeingMade(uid: string): boolean {
    return this.makerOf(uid) !== undefined;
  }

  /** Resolves when a record that is just being accepted may be shown, at once for any other. False when it never will. */
  async whenMade(uid: string): Promise<boolean> {
    try {
      await this.makerOf(uid)?.journal.turn(() => undefined);
      return true;
    } catch {
      return false; // the disk failed, or another peer owns the feed by now; whoever submitted it is told
    }
  }

  private makerOf(uid: string): OwnedFeed | undefined {
    for (const feed of this.owned.values()) {
      if ((feed.tasks.live.get(uid) ?? feed.runs.live.get(uid))?.durable === false) return feed;
    }
    return undefined;
  }

  /** What waits for a worker, most urgent first. */
  waiting(limit: number): OfferClass[] {
    const classes = [...this.owned.values()].flatMap(({ tasks }) => tasks.queue.waiting(limit));
    return classes.sort((a, b) => b.max_priority - a.max_priority).slice(0, limit);
  }

  /** No other peer could keep a copy now. */
  isAlone(): boolean {
    for (const _ of this.parts.directory.connected()) return false;
    return true;
  }

  claims(): PeerState['feeds'] {
    return [...this.owned.values()].map(({ feed_id, feed }) => {
      const { epoch, base_seq, nonce } = currentLine(feed);
      return { feed_id, epoch, base_seq, nonce };
    });
  }

  // --- start and stop ------------------------------------------------------------------------------------------------

  /** Takes up what the store holds. Feeds that nobody else can have written are written again when it resolves. */
  async start(): Promise<void> {
    const { store, network, followed, clock, probe } = this.parts;
    this.startedAt = clock.now();
    this.takeover.listen();
    probe('start:before');
    this.mainId = (await store.reader.get('peer', 'peer'))?.main_feed ?? '';
    const alone: Copy[] = [];
    for (const [feedId, { owned }] of store.feeds) {
      if (feedId === LOCAL_FEED) continue;
      const copy = await followed.load(feedId);
      if (copy.feed === null) continue;
      if (currentLine(copy.feed).owner !== network.self) {
        // A take-over ended with its process before there was a line of it: what is here is a copy, as it was.
        if (owned) await store.own(feedId, false);
        continue;
      }
      this.asking.set(feedId, new Map());
      if (copy.feed.followers.length === 0 && followed.isComplete(copy)) alone.push(copy);
    }
    for (const { feed_id } of alone) await this.goOn(feed_id, true);
    if (!this.owned.has(this.mainId) && !this.asking.has(this.mainId)) await this.makeMain();
  }

  /** Nothing is owned, and nothing is known, any more. */
  forget(reason: unknown): void {
    for (const feed of this.owned.values()) feed.abandon(reason);
    this.owned.clear();
    this.made.clear();
    this.asking.clear();
    this.busy.clear();
    this.parts.followed.clear();
    this.mainMade = null;
    this.tellMain();
  }

  stop(): void {
    this.stopped = true;
    this.tellMain();
  }

  /**
   * The feed that takes new work, waited for at most START_WAIT_MS after the start; then a new one.
   * @throws NotReadyError when the store has just failed
   */
  async whenMain(): Promise<OwnedFeed> {
    const { clock } = this.parts;
    const wait = this.startedAt + START_WAIT_MS - clock.now();
    if (this.main === undefined && this.asking.has(this.mainId) && wait > 0) {
      const { promise, resolve } = Promise.withResolvers<void>();
      const cancel = clock.after(wait, resolve);
      this.mainWaiters.push(resolve);
      await promise;
      cancel();
    }
    const feed = this.main ?? (this.stopped ? undefined : await this.makeMain());
    if (feed === undefined) throw new NotReadyError();
    return feed;
  }

  private tellMain(): void {
    for (const tell of this.mainWaiters) tell();
    this.mainWaiters = [];
  }

  private makeMain(): Promise<OwnedFeed> {
    this.mainMade ??= this.newMain().finally(() => {
      this.mainMade = null;
    });
    return this.mainMade;
  }

  private async newMain(): Promise<OwnedFeed> {
    const { random, network, local, makeOwned } = this.parts;
    const feedId = random.id(FEED_ID_CHARS);
    // Remembered first: a feed that was written to must be found again.
    await local().turn((turn) => turn.put({ kind: 'peer', uid: 'peer', main_feed: feedId }));
    await this.parts.store.own(feedId, true);
    const feed = makeOwned(newFeed(feedId, network.self));
    this.owned.set(feedId, feed);
    await feed.takeUp({ tasks: [], workflows: [] }, () => {});
    this.mainId = feedId;
    this.made.add(feedId);
    feed.replicas.mend();
    this.tellMain();
    return feed;
  }

  // --- an owner that starts ------------------------------------------------------------------------------------------

  /** Asks those that are there and have not answered; the members have to. */
  private ask(feedId: string): void {
    const answered = this.asking.get(feedId);
    if (answered === undefined || this.busy.has(feedId)) return;
    this.exclusively(feedId, async () => {
      const { clock, followed, directory, network, options } = this.parts;
      // Not the members alone: this disk may be one from the past, and the set another one by now.
      const peers = [...directory.connected()].map(({ peer_id }) => peer_id);
      await Promise.all(peers.map((peer) => this.askMember(feedId, peer, answered)));
      const copy = followed.find(feedId);
      if (copy?.feed == null || this.asking.get(feedId) !== answered) return; // the store was read anew meanwhile
      const { feed } = copy;
      if (currentLine(feed).owner !== network.self) return await this.giveUpAsking(feedId); // it has brought its line
      const waited = clock.now() - this.startedAt >= START_WAIT_MS;
      const members = feed.followers.map(({ peer_id }) => peer_id).filter((peer) => !options.gone.includes(peer));
      const heard = members.filter((peer) => answered.has(peer));
      // P4: one that has more shows that this disk is one from the past. One that has less was away while this peer
      // wrote: it may have been replaced since, and what came then be at the others alone.
      const areEven = feed.followers.every(({ peer_id, synced }) => !synced || answered.get(peer_id) === true);
      const isCertain = areEven && heard.length > 0;
      // One that was never synced cannot have taken it over: it need not answer, should it never come again.
      const isAnswerNeeded = feed.followers.some(({ peer_id, synced }) => synced && members.includes(peer_id));
      const isHeard = heard.length === members.length || (waited && (heard.length > 0 || !isAnswerNeeded));
      if (isHeard && followed.isComplete(copy)) await this.goOn(feedId, isCertain);
      else if (waited) this.lookForMembers(feedId, members);
    });
  }

  private lookForMembers(feed_id: string, followers: string[]): void {
    for (const peer of followers) this.parts.reach(peer);
    if (this.saidReadOnly.has(feed_id)) return;
    this.saidReadOnly.add(feed_id);
    const message =
      'no follower of a feed answers: it is read-only until one does; name those that never will as --gone';
    this.parts.log.warn({ feed_id, followers }, message);
  }

  /** P2: whoever is further, or owns it, is followed first. */
  private async askMember(feedId: string, member: string, answered: Answered): Promise<void> {
    const { followed, network, log } = this.parts;
    if (answered.has(member)) return;
    try {
      const answer = await followed.ask(member, feedId);
      const mine = followed.find(feedId);
      let isEven = false;
      if (answer !== null && mine?.feed != null && this.isHeir(mine.feed, answer.feed)) {
        const order = compareLines(currentLine(answer.feed), currentLine(mine.feed));
        const { owner } = currentLine(answer.feed);
        if (order > 0 && owner !== network.self) return await this.follow(feedId, owner);
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

  /**
   * This peer goes on with its feed after a restart.
   * @param isCertain nothing that was written in it can be missing here; else it is as one that was passed on (P4)
   */
  private async goOn(feedId: string, isCertain: boolean): Promise<void> {
    this.stopAsking(feedId);
    this.parts.probe('start:after');
    if (feedId === this.mainId && !isCertain) await this.makeMain();
    try {
      await this.parts.followed.inOrder(feedId, () => this.own(feedId, { isCertain }));
    } catch (error) {
      this.parts.log.warn(
        { feed_id: feedId, err: error },
        'a feed cannot be taken up; it is read-only, and tried again',
      );
      if (this.parts.followed.find(feedId) !== undefined && !this.stopped) this.asking.set(feedId, new Map());
      throw error;
    }
  }

  /**
   * It is known whose the feed is. Meanwhile its records were taken for this peer's own; they may be another's, or have
   * ended without this peer: what waits for them asks for them. True when the feed was one that is asked for.
   */
  private stopAsking(feedId: string): boolean {
    const asked = this.asking.delete(feedId);
    if (asked) this.parts.doubt();
    return asked;
  }

  /** Another peer owns the feed. Does nothing for a feed that is not asked for. */
  private async giveUpAsking(feedId: string): Promise<void> {
    if (!this.stopAsking(feedId)) return;
    await this.parts.store.own(feedId, false);
    if (feedId === this.mainId && !this.stopped) await this.makeMain();
  }

  /**
   * Opens a new line of a feed whose rows are here, and takes up what is open in it. Called in the order of the feed.
   * @param how.above an epoch of another history, which the new line comes before
   */
  private async own(feedId: string, { isCertain = true, above = 0 } = {}): Promise<OwnedFeed> {
    const { followed, store, network, random, makeOwned, pool, lookUp, conflictsAmong } = this.parts;
    const copy = followed.find(feedId);
    if (copy === undefined) throw new NotReadyError();
    const { feed, cursor } = copy;
    const before = currentLine(feed!).owner;
    await copy.durable;
    const remembered = await readActive(store.reader, feedId, lookUp);
    const duplicates = await conflictsAmong(remembered);
    const mustBeKnown = () => {
      if (followed.find(feedId) !== copy) throw new NotReadyError(); // the store has failed meanwhile, and was read anew
    };
    mustBeKnown();
    await store.own(feedId, true);
    mustBeKnown();
    followed.release(feedId);
    const next = withLine(feed!, network.self, cursor, random.id(NONCE_CHARS), above);
    const owned = makeOwned({ ...next, passed_on: next.passed_on || !isCertain });
    this.owned.set(feedId, owned);
    const takenUp = owned.takeUp(remembered, (turn) => {
      owned.attempts.loseLeasesBut(turn, network.self, pool.holdingOf(feedId));
      if (before !== network.self) owned.attempts.loseLeasesBut(turn, before, []);
      for (const duplicate of duplicates) owned.yieldId(turn, duplicate);
    });
    pool.reassign(feedId, network.self);
    owned.replicas.mend(); // the new line itself is to be copied
    await takenUp;
    if (feedId === this.mainId) this.tellMain();
    this.announce(owned);
    this.parts.onTakenUp();
    return owned;
  }

  /** Tells everybody, and asks what they run of it: what nobody has is queued again. */
  private announce(owned: OwnedFeed): void {
    const { network, directory, log } = this.parts;
    const claim = { feed_id: owned.feed_id, line: currentLine(owned.feed) };
    for (const { peer_id } of directory.connected()) {
      const answer = network.request(peer_id, 'takeover', claim, INQUIRY_DEADLINE_MS);
      const said = answer.then((value) => takeoverAnswerSchema.parse(value));
      said.then(
        ({ holding }) => {
          owned.turn((turn) => owned.attempts.loseLeasesBut(turn, peer_id, holding));
        },
        (error: unknown) => log.debug({ peer_id, err: error }, 'a worker did not say what it holds; its beats will'),
      );
    }
  }

  // --- claims of others ----------------------------------------------------------------------------------------------

  /** What a peer says that it owns. */
  onClaims(peer: string, claims: PeerState['feeds']): void {
    for (const { feed_id, ...line } of claims) this.onClaim(peer, feed_id, { ...line, owner: peer });
    for (const feedId of this.parts.pool.feeds()) this.bringResults(feedId);
  }

  onClaim(peer: string, feedId: string, line: Line): void {
    this.parts.followed.claimed(feedId, line);
    const mine = this.owned.get(feedId)?.feed ?? this.parts.followed.find(feedId)?.feed;
    if (mine == null || compareLines(line, currentLine(mine)) <= 0) return;
    this.look(peer, feedId);
  }

  /** A peer is said to have a line of a feed that comes before the one known here. */
  look(peer: string, feedId: string): void {
    this.exclusively(feedId, async () => {
      const owned = this.owned.get(feedId);
      if (owned !== undefined && !(await this.mustGiveWay(peer, owned))) return;
      if (owned !== undefined) await this.stepDown(peer, owned);
      await this.follow(feedId, peer);
    });
  }

  /**
   * P9: whether a member of the replica set went on with it, if anybody did. Only of a feed that this process itself
   * has made it is known who is none: what was read from a disk may be from the past, and the set another one since.
   */
  private isHeir(mine: FeedRecord, theirs: FeedRecord): boolean {
    return isHeir(mine, theirs) || !this.made.has(mine.feed_id);
  }

  private async mustGiveWay(peer: string, { feed_id, feed }: OwnedFeed): Promise<boolean> {
    const answer = await this.parts.followed.ask(peer, feed_id);
    if (answer === null || compareLines(currentLine(answer.feed), currentLine(feed)) <= 0) return false;
    if (this.isHeir(feed, answer.feed)) return true;
    this.parts.log.warn({ feed_id, peer }, 'a claim to a feed does not come from its replica set: it is refused');
    return false;
  }

  /** P2: another peer owns it. */
  private async stepDown(peer: string, owned: OwnedFeed): Promise<void> {
    const { store, followed, log } = this.parts;
    const { feed_id } = owned;
    log.warn({ feed_id, owner: peer }, 'another peer has taken over a feed of this one');
    owned.abandon(new NotOwnerError(peer));
    // In the order of the feed: what its new owner brings must not be taken before it is known how far this disk is.
    await followed.inOrder(feed_id, async () => {
      if (this.owned.get(feed_id) !== owned) return; // the store was read anew meanwhile
      this.owned.delete(feed_id);
      await store.own(feed_id, false); // after what was on its way to the disk
      await followed.load(feed_id);
    });
    if (feed_id === this.mainId && !this.stopped) await this.makeMain();
  }

  /** Goes after the line of another owner; what is here beyond the fork is handed over. */
  private async follow(feedId: string, owner: string): Promise<void> {
    const { followed, network } = this.parts;
    await this.giveUpAsking(feedId);
    await network.connect(owner, []);
    try {
      await followed.inOrder(feedId, () => followed.catchUp(owner, feedId));
    } catch (error) {
      if (!(error instanceof DivergedError)) throw error;
      const diverged = followed.find(feedId);
      const cursor = diverged?.cursor;
      await diverged?.durable; // what is on its way to the disk is handed over, too
      // Not in the order of the feed: its new owner may want this peer to copy what is just handed over.
      await this.parts.reconcile(error.mine, error.theirs, error.fork);
      await followed.inOrder(feedId, async () => {
        const copy = followed.find(feedId);
        // Else it was given up, made anew or followed another line meanwhile: what leaves it then is found again.
        if (copy === diverged && copy?.feed === error.mine && copy.cursor === cursor) await followed.forget(feedId);
      });
    }
  }

  /** Workers bring what they run of a feed to whoever owns it now. False when that is not known. */
  private bringResults(feedId: string): boolean {
    const { directory, pool, network } = this.parts;
    const owner = this.owned.has(feedId) ? network.self : directory.ownerOfFeed((id) => id === feedId)?.peer_id;
    if (owner !== undefined) pool.reassign(feedId, owner);
    return owner !== undefined;
  }

  /** Those that may have taken it over are greeted: they say so. */
  private lookForOwner(feedId: string): void {
    if (this.bringResults(feedId)) return;
    for (const heir of this.parts.pool.heirsOf(feedId)) this.parts.reach(heir);
  }

  /** Does one thing with a feed at a time; what comes meanwhile is not done: its cause comes again. */
  private exclusively(feedId: string, work: () => Promise<unknown>): void {
    if (this.busy.has(feedId) || this.stopped) return;
    const mine = Symbol(feedId);
    this.busy.set(feedId, mine);
    work()
      .catch((error: unknown) => {
        this.parts.log.debug({ feed_id: feedId, err: error }, 'a feed could not be followed or owned; tried again');
      })
      .finally(() => {
        if (this.busy.get(feedId) === mine) this.busy.delete(feedId);
      });
  }

  // --- waiting work --------------------------------------------------------------------------------------------------

  /** A slot that is free is everybody's: it goes to the feed that was served the longest ago, also when another one asks. */
  dispatch(): void {
    const feeds = [...this.owned.values()];
    if (!feeds.some(({ wantsDispatch }) => wantsDispatch)) return;
    if (feeds.length > 1) feeds.sort((a, b) => a.servedAt - b.servedAt);
    this.dispatches++;
    for (const feed of feeds) if (feed.dispatch()) feed.servedAt = this.dispatches;
  }

  // --- owners that are gone ------------------------------------------------------------------------------------------

  /** Looks for owners and followers that are gone. Called some times per beat. */
  watch(): void {
    this.takeover.noticeCut();
    for (const feed of this.owned.values()) feed.replicas.mendSet();
    const now = this.parts.clock.now();
    for (const copy of this.parts.followed.all()) {
      if (now - copy.triedAt < this.parts.options.beat_interval_ms || !this.takeover.isDue(copy)) continue;
      copy.triedAt = now;
      this.takeOver(copy.feed_id);
    }
  }

  /** Called with every beat. */
  tick(): void {
    for (const feed of this.owned.values()) feed.replicas.mend();
    for (const feedId of this.asking.keys()) this.ask(feedId);
    for (const feedId of this.parts.pool.feeds()) this.lookForOwner(feedId);
    this.parts.pool.forgetHeirs();
  }

  private takeOver(feedId: string): void {
    if (this.asking.has(feedId)) return;
    this.exclusively(feedId, () => this.parts.followed.inOrder(feedId, () => this.takeover.takeOver(feedId)));
  }

  onConnected(peer: string): void {
    for (const feed of this.owned.values()) feed.replicas.connected(peer);
    for (const feedId of this.asking.keys()) this.ask(feedId);
  }

  onDisconnected(peer: string): void {
    for (const feed of this.owned.values()) feed.replicas.disconnected(peer);
    this.takeover.noticeCut();
  }

  // --- sleep ---------------------------------------------------------------------------------------------------------

  /** P11: this peer stood still. Nothing is written before its replica sets have said that they are still its own. */
  wake(): void {
    const { clock } = this.parts;
    this.startedAt = clock.now();
    this.takeover.listen(); // every silence begins anew
    for (const feed of this.owned.values()) {
      if (feed.feed.followers.length === 0) continue;
      feed.journal.freeze();
      const asked = this.askAfterSleep(feed).finally(() => {
        feed.journal.thaw();
        this.waking.delete(asked);
      });
      this.waking.add(asked);
    }
  }

  /** Resolves when it is known again which feeds are this peer's: at once, but for a moment after a sleep. */
  async whenAwake(): Promise<void> {
    await Promise.all(this.waking);
  }

  private async askAfterSleep(owned: OwnedFeed): Promise<void> {
    const { clock, network, followed, log } = this.parts;
    const { promise: tooLate, resolve } = Promise.withResolvers<void>();
    const cancel = clock.after(START_WAIT_MS, resolve);
    const { feed } = owned;
    const asked = feed.followers.map(async ({ peer_id }) => {
      try {
        await network.connect(peer_id, []);
        const answer = await followed.ask(peer_id, owned.feed_id);
        if (answer === null || compareLines(currentLine(answer.feed), currentLine(feed)) <= 0) return;
        const { owner } = currentLine(answer.feed);
        if (this.owned.get(owned.feed_id) === owned) await this.stepDown(owner, owned);
        this.look(owner, owned.feed_id);
      } catch (error) {
        log.debug({ peer_id, err: error }, 'a member of the replica set did not answer after a sleep');
      }
    });
    await Promise.race([Promise.all(asked), tooLate]);
    cancel();
  }
}
