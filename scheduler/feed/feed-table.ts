/** The feeds that this peer owns now, and the records in them. Only `ownership/` adds and removes feeds. */
import { ReadOnlyError } from '../errors.ts';
import type { Alias, OfferClass, PeerState } from '../messages.ts';
import type { Reader } from '../ports.ts';
import type { TaskRecord, WorkflowRecord } from '../records.ts';
import { currentLine, heirsOf } from '../storage/feed-lines.ts';
import type { Dependents } from './dependencies.ts';
import type { OwnedFeed } from './owned-feed.ts';

export class FeedTable implements Dependents {
  readonly #reader: Reader;
  readonly #feeds = new Map<string, OwnedFeed>();
  /** Counts dispatches: see `OwnedFeed.servedAt`. */
  #dispatches = 0;

  constructor(reader: Reader) {
    this.#reader = reader;
  }

  // --- which there are -----------------------------------------------------------------------------------------------

  /** A copy of the list: feeds may come and go while a caller walks through it. */
  all(): OwnedFeed[] {
    return [...this.#feeds.values()];
  }

  get(feedId: string): OwnedFeed | undefined {
    return this.#feeds.get(feedId);
  }

  has(feedId: string): boolean {
    return this.#feeds.has(feedId);
  }

  add(feed: OwnedFeed): void {
    this.#feeds.set(feed.feed_id, feed);
  }

  remove(feedId: string): void {
    this.#feeds.delete(feedId);
  }

  clear(): void {
    this.#feeds.clear();
  }

  /** The line in which this peer writes each feed, for its beats. */
  lines(): PeerState['feeds'] {
    return this.all().map(({ feed_id, feed }) => {
      const { epoch, base_seq, nonce } = currentLine(feed);
      return { feed_id, epoch, base_seq, nonce, heirs: heirsOf(feed) };
    });
  }

  // --- records -------------------------------------------------------------------------------------------------------

  /** The feed of a record, if this peer owns that feed. */
  async of(uid: string): Promise<OwnedFeed | undefined> {
    const holder = this.#holderOf(uid);
    if (holder !== undefined) return holder;
    const row = await this.#reader.row(uid);
    return row === undefined ? undefined : this.get(row.feed_id);
  }

  /** @throws ReadOnlyError when `of` found no feed: the record can be read here, but not changed now */
  mustOwn(feed: OwnedFeed | undefined): OwnedFeed {
    if (feed === undefined) throw new ReadOnlyError();
    return feed;
  }

  /** A record that has not ended, by the id that its user knows; undefined for a worker. */
  byAlias({ kind, id }: Alias): TaskRecord | WorkflowRecord | undefined {
    for (const { tasks, runs } of this.#feeds.values()) {
      const live = kind === 'task' ? tasks.live.byId(id) : kind === 'workflow' ? runs.live.byId(id) : undefined;
      if (live !== undefined) return live.record;
    }
    return undefined;
  }

  /** Whether a record is still being accepted: it may never reach the disk, so nobody may rely on it yet (P1). */
  isBeingMade(uid: string): boolean {
    return this.#makerOf(uid) !== undefined;
  }

  /**
   * Resolves true when a record that is being accepted may be shown (at once for any other record), false when that
   * record was never accepted.
   */
  async whenMade(uid: string): Promise<boolean> {
    try {
      await this.#makerOf(uid)?.journal.turn(() => undefined);
      return true;
    } catch {
      return false; // the disk failed, or another peer owns the feed by now; the client that submitted it gets the error
    }
  }

  #makerOf(uid: string): OwnedFeed | undefined {
    const feed = this.#holderOf(uid);
    return (feed?.tasks.live.get(uid) ?? feed?.runs.live.get(uid))?.durable === false ? feed : undefined;
  }

  /** The feed in which a record is live: it has not ended. */
  #holderOf(uid: string): OwnedFeed | undefined {
    for (const feed of this.#feeds.values()) if (feed.tasks.live.has(uid) || feed.runs.live.has(uid)) return feed;
    return undefined;
  }

  // --- records that wait for others ----------------------------------------------------------------------------------

  isLive(alias: Alias): boolean {
    return this.byAlias(alias) !== undefined;
  }

  unblock(kind: Alias['kind'], dependent: string, id: string, status: string): void {
    for (const feed of this.#feeds.values()) {
      if (!feed.tasks.live.has(dependent) && !feed.runs.live.has(dependent)) continue;
      feed.turn((turn) => {
        if (kind === 'task') feed.tasks.unblock(turn, dependent, id, status);
        else feed.runs.unblock(turn, dependent, id, status);
      });
    }
  }

  // --- waiting work --------------------------------------------------------------------------------------------------

  /** How many tasks of all these feeds are queued, and how many run. */
  get counts(): { queued: number; running: number } {
    const sum = { queued: 0, running: 0 };
    for (const { tasks } of this.#feeds.values()) {
      const { queued, running } = tasks.counts;
      sum.queued += queued;
      sum.running += running;
    }
    return sum;
  }

  /** At most `limit` classes of tasks that wait for a worker, the most urgent first. */
  waiting(limit: number): OfferClass[] {
    const classes = this.all().flatMap(({ tasks }) => tasks.queue.waiting(limit));
    return classes.sort((a, b) => b.max_priority - a.max_priority).slice(0, limit);
  }

  /** Sorts the queues by the priorities that tasks have now. @returns whether that changed any order */
  reorder(): boolean {
    return this.all()
      .map(({ tasks }) => tasks.reorder())
      .includes(true);
  }

  dispatchSoon(): void {
    for (const feed of this.#feeds.values()) feed.dispatchSoon();
  }

  /** All feeds share the free slots: the one served longest ago goes first, whichever feed asked for a dispatch. */
  dispatch(): void {
    const feeds = this.all();
    if (!feeds.some(({ wantsDispatch }) => wantsDispatch)) return;
    if (feeds.length > 1) feeds.sort((a, b) => a.servedAt - b.servedAt);
    this.#dispatches++;
    for (const feed of feeds) if (feed.dispatch()) feed.servedAt = this.#dispatches;
  }
}
