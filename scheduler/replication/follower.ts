/**
 * The follower's side: copies of other peers' feeds on this peer's disk.
 *
 * 1. A commit is taken only when everything before it is here (`prev_seq`); else the follower pulls what it lacks.
 * 2. It is acknowledged after this peer's own fsync (P1).
 * 3. A commit is taken whole: rows of a commit that goes on in the next page are held back until it is complete.
 * 4. An owner whose line loses against the known one is refused (P2). A line that forks from the known history is
 *    followed only after what is here beyond the fork was handed over (P5): the caller sees to that, as it takes time.
 */
import { FlowmeshError, type JsonObject } from '../../dag/errors.ts';
import type { Probe } from '../crash-points.ts';
import { DivergedError, ForgedError, NoCopyError, StaleOwnerError } from '../errors.ts';
import { isoTime } from '../ids.ts';
import { KeyedMutex } from '../keyed-mutex.ts';
import {
  COPIED_FEEDS_MAX,
  COPIED_FEEDS_PER_PEER_MAX,
  DISTRUSTED_MAX,
  PAGE_BYTES,
  REQUEST_DEADLINE_MS,
} from '../limits.ts';
import { type PullAnswer, type Push, pullAnswerSchema, rowMessages, rowsOf } from '../messages.ts';
import type { Clock, Log, Network } from '../ports.ts';
import { type FeedRecord, type Line, LOCAL_FEED, type Row } from '../records.ts';
import { type Signatures, signatoriesOf } from '../signatures.ts';
import { shipped } from '../sizes.ts';
import { compareLines, currentLine, forkSeq, isHeir, members } from '../storage/feed-lines.ts';
import type { Turn } from '../storage/journal.ts';
import type { Writes } from '../storage/watched-store.ts';
import { copyUid, feedUid } from '../uids.ts';
import { mustBeOfFeed, mustLieIn } from './write-guard.ts';

/** What this peer has of another peer's feed. */
export interface Copy {
  readonly feed_id: string;
  /** Null until the page with the feed's own record is here. */
  feed: FeedRecord | null;
  /** Until then the peer that it is made from. */
  madeFrom: string | null;
  /** The last commit handed to the disk. */
  cursor: number;
  /** Once the cursor has come to this commit, the copy is that of one moment. */
  wholeFrom: number;
  /** Until then: the lines of the history that its pages are from, which may be newer than those of `feed`. */
  pagesOf: readonly Line[];
  /** Monotonic: when the owner last said that it owns the feed, by a beat or a commit. */
  announcedAt: number;
  /** Monotonic: when this peer last began to take the feed over. */
  triedAt: number;
  /** Monotonic: when a call last waited for an owner of the feed here. */
  wantedAt: number;
  /** Resolves when everything up to the cursor is on the disk. */
  durable: Promise<void>;
}

export interface FollowerHooks {
  /** The record of a feed that this peer owns; undefined for any other feed. */
  owned(feedId: string): FeedRecord | undefined;
  /** A peer says that it owns a feed, in a line that may win against the one known here (P2). */
  onOvertaken(peer: string, feedId: string): void;
  /** Whether a peer is there and says that it owns a feed. */
  isOwnedBy(feedId: string, peer: string): boolean;
  /** Whether a peer may be asked for rows. */
  mayPullFrom(peer: string): boolean;
  /** Writes to what this peer keeps for itself (LOCAL_FEED). */
  remember(work: (turn: Turn) => void): Promise<void>;
}

/** The copies that this peer keeps of other peers' feeds. */
export class FollowedFeeds {
  readonly #clock: Clock;
  readonly #network: Network;
  readonly #store: Writes;
  readonly #probe: Probe;
  readonly #hooks: FollowerHooks;
  readonly #copies = new Map<string, Copy>();
  readonly #order = new KeyedMutex();
  readonly #signatures: Signatures;
  readonly #log: Log;
  /** Peers, each with a feed: they brought something forged of it, and are not asked for it again. */
  readonly #distrusted = new Set<string>();

  constructor(
    components: { clock: Clock; network: Network; store: Writes; probe: Probe; signatures: Signatures; log: Log },
    hooks: FollowerHooks,
  ) {
    this.#clock = components.clock;
    this.#network = components.network;
    this.#store = components.store;
    this.#probe = components.probe;
    this.#signatures = components.signatures;
    this.#log = components.log;
    this.#hooks = hooks;
  }

  all(): Iterable<Copy> {
    return this.#copies.values();
  }

  find(feedId: string): Copy | undefined {
    return this.#copies.get(feedId);
  }

  isComplete(copy: Copy): boolean {
    return copy.feed !== null && copy.cursor >= copy.wholeFrom;
  }

  /** Reads from the store what this peer has of a feed that it does not own, or owns no more. */
  async load(feedId: string): Promise<Copy> {
    const { reader } = this.#store;
    const feed = (await reader.get('feed', feedUid(feedId))) ?? null;
    const whole = await reader.get('copy', copyUid(feedId));
    const cursor = this.#store.feeds.get(feedId)?.seq ?? 0;
    const copy: Copy = {
      feed_id: feedId,
      feed,
      madeFrom: null,
      cursor,
      wholeFrom: whole?.whole_from ?? 0,
      pagesOf: whole?.lines ?? [],
      announcedAt: this.#clock.now(),
      triedAt: Number.NEGATIVE_INFINITY,
      wantedAt: Number.NEGATIVE_INFINITY,
      durable: Promise.resolve(),
    };
    this.#copies.set(feedId, copy);
    return copy;
  }

  /** Stops following a feed, because this peer owns it from now on. */
  release(feedId: string): void {
    this.#copies.delete(feedId);
  }

  /** Forgets all copies in memory. Work in progress on a feed still ends before any other work on it begins. */
  clear(): void {
    this.#copies.clear();
  }

  /** Runs `work` after all earlier work on the same feed. */
  inOrder<T>(feedId: string, work: () => Promise<T>): Promise<T> {
    return this.#order.run(feedId, work);
  }

  // --- commits that come ---------------------------------------------------------------------------------------------

  /** Takes in a commit from an owner. Resolves with the last `seq` of the feed on this disk. */
  async onPush(peer: string, push: Push): Promise<{ seq: number }> {
    const { durable, seq } = await this.inOrder(push.feed_id, () => this.#take(peer, push));
    await durable;
    this.announced(push.feed_id, push.line);
    this.#probe('ack:before');
    this.#clock.defer(() => this.#probe('ack:after'));
    return { seq };
  }

  /** The owner of a line has shown that it still owns the feed. Nothing changes unless the copy is in that line. */
  announced(feedId: string, line: Line): void {
    const copy = this.#copies.get(feedId);
    if (copy?.feed == null || compareLines(line, currentLine(copy.feed)) !== 0) return;
    copy.announcedAt = this.#clock.now();
  }

  /** A call waits for the next owner of a feed. */
  want(feedId: string): void {
    const copy = this.#copies.get(feedId);
    if (copy !== undefined) copy.wantedAt = this.#clock.now();
  }

  /** P2, P9: only the owner of a line may bring its commits, and not to the owner of the feed. */
  #checkOwner(peer: string, { feed_id, line }: Push): void {
    if (feed_id === LOCAL_FEED) {
      throw new FlowmeshError('INVALID_MESSAGE', `peer ${peer} brings commits of what this peer remembers of itself`);
    }
    if (line.owner !== peer) {
      throw new FlowmeshError('INVALID_MESSAGE', `peer ${peer} brings commits of ${line.owner}; only an owner may`);
    }
    const owned = this.#hooks.owned(feed_id);
    if (owned === undefined) return;
    if (compareLines(line, currentLine(owned)) < 0) throw new StaleOwnerError(feed_id, this.#network.self);
    this.#hooks.onOvertaken(peer, feed_id);
    throw new NoCopyError(feed_id, this.#network.self, 'it is the owner until it has looked');
  }

  /** @returns once the commit is on its way to the disk; `durable` when it is there */
  async #take(peer: string, push: Push): Promise<{ durable: Promise<void>; seq: number }> {
    this.#checkOwner(peer, push);
    const { feed_id, line, prev_seq, head_seq } = push;
    const rows = rowsOf(feed_id, push.rows);
    const copy = this.#copies.get(feed_id);
    const known = copy?.feed == null ? null : currentLine(copy.feed);
    const order = known === null ? 1 : compareLines(line, known);
    if (order < 0) throw new StaleOwnerError(feed_id, known!.owner);
    mustLieIn({ from: Math.max(prev_seq, line.base_seq) + 1, to: head_seq, line }, rows);
    if (order === 0 && rows.length > 0 && prev_seq <= copy!.cursor) {
      // P1: a commit that came again may still be on its way to the disk.
      if (head_seq > copy!.cursor) await this.#keep(copy!, rows);
      return { durable: copy!.durable, seq: copy!.cursor };
    }
    if (order > 0 || head_seq > copy!.cursor) {
      await this.catchUp(peer, feed_id).catch((error: unknown) => {
        if (error instanceof DivergedError) this.#hooks.onOvertaken(peer, feed_id);
        throw error;
      });
    }
    const now = this.#copies.get(feed_id);
    return { durable: now?.durable ?? Promise.resolve(), seq: now?.cursor ?? 0 };
  }

  /**
   * Writes the next whole commits of a copy.
   * @param before done when the rows were checked, before the first of them is written
   * @throws FlowmeshError INVALID_MESSAGE for rows that it must not have
   */
  async #keep(copy: Copy, rows: Row[], before = async () => {}): Promise<void> {
    await mustBeOfFeed(
      this.#store.reader,
      copy.feed_id,
      rows.map(({ record }) => record),
    );
    await before();
    if (this.#copies.get(copy.feed_id) !== copy)
      throw new NoCopyError(copy.feed_id, this.#network.self, 'it was read anew');
    this.#probe('copy:before');
    copy.cursor = rows.at(-1)!.seq;
    copy.durable = this.#write(copy, rows);
  }

  #write(copy: Copy, rows: Row[]): Promise<void> {
    const before = copy.feed;
    for (const { record } of rows) if (record.kind === 'feed') copy.feed = record;
    const { feed } = copy;
    const kept = this.#store.commit(rows);
    if (feed === null) return kept; // the feed's record is in one of the next pages
    const swept = feed.pruned_to_seq > (before?.pruned_to_seq ?? 0);
    const done = swept ? kept.then(() => this.#store.sweep(feed.feed_id, feed.pruned_to_seq)) : kept;
    const { self } = this.#network;
    if (feed.followers.some(({ peer_id }) => peer_id === self) || currentLine(feed).owner === self) return done;
    // This peer is no follower any more, so nobody will ask for the copy: it is not kept. In the order of the feed: a
    // commit that makes this peer a follower again must not be taken for a part of this copy.
    const forgotten = this.inOrder(feed.feed_id, async () => {
      await done;
      if (this.#copies.get(feed.feed_id) === copy) await this.forget(feed.feed_id);
    });
    forgotten.catch(() => {}); // the disk failed: everything is read anew
    return done;
  }

  /** Deletes the copy of a feed, in memory and on the disk. */
  async forget(feedId: string): Promise<void> {
    this.#copies.delete(feedId);
    if (this.#store.feeds.has(feedId)) await this.#store.drop(feedId);
    const uid = copyUid(feedId);
    if ((await this.#store.reader.get('copy', uid)) === undefined) return;
    const cleared_at = isoTime(this.#clock.wall());
    await this.#hooks.remember((turn) => turn.put({ kind: 'tombstone', uid, cleared_at }));
  }

  // --- pulls ---------------------------------------------------------------------------------------------------------

  /**
   * Pulls from a peer until this copy is as far as that peer's. Called in the order of the feed (`inOrder`).
   * @throws NoCopyError, StaleOwnerError, DivergedError, or why the peer cannot be asked
   */
  async catchUp(peer: string, feedId: string): Promise<Copy> {
    try {
      return await this.#catchUp(peer, feedId);
    } catch (error) {
      const copy = this.#copies.get(feedId);
      // P7: of a feed of which nothing was kept nothing is remembered.
      if (copy?.feed === null && copy.cursor === 0) this.#copies.delete(feedId);
      throw error;
    }
  }

  async #catchUp(peer: string, feedId: string): Promise<Copy> {
    // This peer may have taken the feed over since the call was queued.
    if (this.#hooks.owned(feedId) !== undefined) throw new NoCopyError(feedId, this.#network.self, 'it is the owner');
    let copy = this.#copies.get(feedId) ?? (await this.load(feedId));
    let tail: Row[] = [];
    for (;;) {
      const last = tail.at(-1);
      const answer = await this.#pull(peer, feedId, last ?? { seq: copy.cursor + 1, uid: '' });
      if (this.#copies.get(feedId) !== copy) throw new NoCopyError(feedId, this.#network.self, 'it was read anew');
      const { feed } = answer;
      if (feed === null) throw new NoCopyError(feedId, peer, 'it has nothing of it');
      if (!answer.complete) throw new NoCopyError(feedId, peer, 'it is still being made there');
      if (!members(feed).has(peer)) throw new NoCopyError(feedId, peer, 'it is no member of the replica set'); // P9
      if (await this.#mustStartAnew(copy, feed, peer)) {
        tail = [];
        copy = await this.load(feedId);
        continue;
      }
      const page = rowsOf(feedId, answer.rows);
      mustLieIn({ from: last?.seq ?? copy.cursor + 1, to: answer.head_seq, line: currentLine(feed) }, page);
      this.#mustBeSigned(peer, feed, page);
      const rows = [...tail, ...page];
      const cut = answer.whole ? rows.length : rows.findIndex(({ seq }) => seq === rows.at(-1)!.seq);
      tail = rows.slice(cut);
      if (cut > 0) await this.#keepPage(copy, rows.slice(0, cut), answer.head_seq, feed);
      if (!this.#copies.has(feedId)) throw new NoCopyError(feedId, this.#network.self, 'it follows no more');
      if (answer.whole && copy.cursor >= answer.head_seq) return copy;
      if (answer.rows.length === 0) throw new NoCopyError(feedId, peer, 'its pages do not reach its head');
    }
  }

  async #pull(
    peer: string,
    feed_id: string,
    { seq, uid }: { seq: number; uid: string },
    deadlineMs = REQUEST_DEADLINE_MS,
  ): Promise<PullAnswer> {
    if (!this.#hooks.mayPullFrom(peer)) throw new NoCopyError(feed_id, peer, 'its certificate lets it keep none');
    if (this.#distrusted.has(`${peer} ${feed_id}`)) throw new ForgedError(peer, `feed ${feed_id}`);
    const said = await this.#network.request(peer, 'pull', { feed_id, after: { seq, uid } }, deadlineMs);
    const answer = pullAnswerSchema.parse(said);
    if (answer.feed !== null && !this.#isBelieved(peer, feed_id, answer.feed)) this.#distrust(peer, feed_id, 'feed');
    return answer;
  }

  /** P9: whether a feed's record is that of the owner of its line, as far as that can be known. */
  #isBelieved(peer: string, feedId: string, feed: FeedRecord): boolean {
    if (feed.feed_id !== feedId || !this.#signatures.isLawful(feed)) return false;
    const mine = this.#hooks.owned(feedId) ?? this.#copies.get(feedId)?.feed;
    // What is signed here was not unsigned before, nor further back than is known here.
    const knows = mine?.signed !== undefined;
    if (knows && (feed.signed === undefined || feed.unsigned_to_seq !== mine.unsigned_to_seq)) return false;
    if (currentLine(feed).owner === peer || this.#signatures.isOfOwner(feed)) return true;
    // One from before the mesh was secured, whose owner has not written since.
    if (feed.signed !== undefined || mine == null) return false;
    return mine.signed === undefined && compareLines(currentLine(feed), currentLine(mine)) === 0;
  }

  /** P9: a peer is believed about its own lines; what others have written has to be signed (`signatures.ts`). */
  #mustBeSigned(peer: string, feed: FeedRecord, rows: readonly Row[]): void {
    const signatories = signatoriesOf(feed);
    const own = new Set(feed.lines.filter(({ owner }) => owner === peer).map(({ epoch }) => epoch));
    for (const { epoch, seq, record } of rows) {
      if (!own.has(epoch) && this.#signatures.isForged(signatories, record, seq))
        this.#distrust(peer, feed.feed_id, `${record.kind} ${record.uid}`);
    }
  }

  /** @throws ForgedError */
  #distrust(peer: string, feedId: string, what: string): never {
    const error = new ForgedError(peer, `${what} of feed ${feedId}`);
    this.#log.warn(
      { feed_id: feedId, peer, err: error },
      'a copy of a feed is forged: this peer is not asked for it again',
    );
    this.#distrusted.add(`${peer} ${feedId}`);
    if (this.#distrusted.size > DISTRUSTED_MAX) this.#distrusted.delete(this.#distrusted.values().next().value!);
    throw error;
  }

  /** Asks a peer how much it has of a feed, without taking rows. Null: nothing. */
  async ask(
    peer: string,
    feedId: string,
    deadlineMs?: number,
  ): Promise<{ feed: FeedRecord; head_seq: number; complete: boolean } | null> {
    const end = { seq: Number.MAX_SAFE_INTEGER, uid: '' };
    const { feed, head_seq, complete } = await this.#pull(peer, feedId, end, deadlineMs);
    return feed === null ? null : { feed, head_seq, complete };
  }

  /** True when the copy was deleted, to begin anew: it left the history that is followed, or is too old for it. */
  async #mustStartAnew(copy: Copy, theirs: FeedRecord, peer: string): Promise<boolean> {
    const { feed_id, feed: mine, cursor, pagesOf } = copy;
    if (mine === null) {
      await this.#mustBeAsked(copy, theirs, peer);
    } else {
      if (compareLines(currentLine(theirs), currentLine(mine)) < 0) {
        throw new StaleOwnerError(feed_id, currentLine(mine).owner);
      }
      this.#mustBeMember(mine, theirs);
      // Pages of a later line can come before the feed's record that has that line.
      const fork = forkSeq(this.isComplete(copy) ? mine.lines : pagesOf, theirs.lines);
      if (cursor > fork) throw new DivergedError(mine, theirs, fork);
    }
    const pruned = cursor > 0 && cursor < theirs.pruned_to_seq;
    const cutShort = mine === null && cursor > forkSeq(pagesOf, theirs.lines);
    if (!pruned && !cutShort) return false;
    await this.forget(feed_id);
    return true;
  }

  async #mustBeAsked(copy: Copy, theirs: FeedRecord, peer: string): Promise<void> {
    const feedId = copy.feed_id;
    const asked = theirs.followers.some(({ peer_id }) => peer_id === this.#network.self);
    if (!asked) {
      await this.forget(feedId); // pages that came while this peer was a follower
      throw new NoCopyError(feedId, peer, 'this peer is none of its followers');
    }
    let ofOwner = 0;
    for (const each of this.#copies.values()) {
      const from = each.feed === null ? each.madeFrom : currentLine(each.feed).owner;
      if (from === peer && each !== copy) ofOwner++; // those that are being made count, too
    }
    const limit =
      ofOwner >= COPIED_FEEDS_PER_PEER_MAX ? `COPIED_FEEDS_PER_PEER_MAX (${COPIED_FEEDS_PER_PEER_MAX})` : null;
    if (limit !== null || this.#copies.size > COPIED_FEEDS_MAX) {
      this.#copies.delete(feedId);
      const most = limit ?? `COPIED_FEEDS_MAX (${COPIED_FEEDS_MAX})`;
      throw new NoCopyError(feedId, this.#network.self, `it keeps ${most} already`);
    }
    copy.madeFrom = peer;
  }

  /**
   * P9: a line counts only from a member of the replica set. A copy that lags may not know all members: the line of a
   * stranger counts, too, when the owner known here no longer says that it owns the feed.
   */
  #mustBeMember(mine: FeedRecord, theirs: FeedRecord): void {
    if (isHeir(mine, theirs) || !this.#hooks.isOwnedBy(mine.feed_id, currentLine(mine).owner)) return;
    const { owner } = currentLine(theirs);
    throw new NoCopyError(mine.feed_id, owner, 'it is no member of the replica set, so its line does not count');
  }

  async #keepPage(copy: Copy, rows: Row[], headSeq: number, { lines }: FeedRecord): Promise<void> {
    await this.#keep(copy, rows, async () => {
      // The first page replaces the `copy` record of an earlier copy that was given up.
      if (copy.cursor > 0 && rows.at(-1)!.seq >= headSeq) return;
      copy.wholeFrom = headSeq;
      copy.pagesOf = lines;
      const { feed_id } = copy;
      const record = { kind: 'copy', uid: copyUid(feed_id), feed_id, whole_from: headSeq, lines } as const;
      await this.#hooks.remember((turn) => turn.put(record));
    });
    await copy.durable;
  }

  /**
   * Another peer pulls: from a feed that is owned here, or from a copy.
   * @param withRows false for a peer that may have none
   */
  async onPull(
    { feed_id, after }: { feed_id: string; after: { seq: number; uid: string } },
    withRows = true,
  ): Promise<JsonObject> {
    const { reader, feeds } = this.#store;
    const nothing = { feed: null, rows: [], whole: true, head_seq: 0, complete: true };
    if (feed_id === LOCAL_FEED || !feeds.has(feed_id)) return nothing;
    const feed = await reader.get('feed', feedUid(feed_id));
    if (feed === undefined) return nothing;
    const rows = withRows ? await reader.changes(feed_id, after, PAGE_BYTES) : [];
    const last = rows.at(-1);
    const [next] = last === undefined ? [] : await reader.changes(feed_id, last, 1);
    const copy = this.#copies.get(feed_id);
    return {
      feed,
      rows: rowMessages(rows.map(shipped)),
      whole: next === undefined || next.seq !== last!.seq,
      head_seq: feeds.get(feed_id)?.seq ?? 0,
      complete: copy === undefined || this.isComplete(copy),
    } as unknown as JsonObject;
  }
}
