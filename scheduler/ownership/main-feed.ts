/** The feed that takes new work. A peer that cannot write the one it had, or lost it, makes a new one. */
import type { MainFeedState } from '../api.ts';
import { NotReadyError } from '../errors.ts';
import type { FeedTable } from '../feed/feed-table.ts';
import type { OwnedFeed } from '../feed/owned-feed.ts';
import type { Lifecycle } from '../lifecycle.ts';
import type { BeatListener } from '../membership/heartbeat.ts';
import type { PeerTable } from '../membership/peer-table.ts';
import type { Clock, Random } from '../ports.ts';
import type { FeedRecord } from '../records.ts';
import { newFeed } from '../storage/feed-lines.ts';
import type { LocalFeed } from '../storage/local-feed.ts';
import type { Writes } from '../storage/watched-store.ts';
import type { Inquiry } from './inquiry.ts';

const FEED_ID_CHARS = 20;

interface MainFeedParts {
  self: string;
  clock: Clock;
  random: Random;
  store: Writes;
  local: LocalFeed;
  feeds: FeedTable;
  peers: PeerTable;
  inquiry: Inquiry;
  lifecycle: Lifecycle;
  /** Makes a feed that this peer writes, and puts it on the table. */
  makeOwned(feed: FeedRecord): OwnedFeed;
  /** Told how the feed is, whenever that changed: for readers on other loops. */
  onState: ((state: MainFeedState) => void) | undefined;
}

export class MainFeed implements BeatListener {
  readonly #parts: MainFeedParts;
  #id = '';
  #made: Promise<OwnedFeed> | null = null;
  #waiters: (() => void)[] = [];

  constructor(parts: MainFeedParts) {
    this.#parts = parts;
  }

  /** Its first characters are part of the ids made here; empty before there is one. */
  get id(): string {
    return this.#id;
  }

  /** If it can be written now. */
  get feed(): OwnedFeed | undefined {
    return this.#parts.feeds.get(this.#id);
  }

  /** The one that this peer had when it wrote to its disk last. */
  async remember(): Promise<void> {
    this.#id = (await this.#parts.store.reader.get('peer', 'peer'))?.main_feed ?? '';
  }

  /**
   * Waited for until the inquiry gives up; then there is a new one.
   * @throws NotReadyError when the store has just failed
   */
  async whenThere(): Promise<OwnedFeed> {
    const { clock, inquiry, lifecycle } = this.#parts;
    const wait = inquiry.patienceEnds - clock.now();
    if (this.feed === undefined && inquiry.isOpen(this.#id) && wait > 0) {
      const { promise, resolve } = Promise.withResolvers<void>();
      const cancel = clock.after(wait, resolve);
      this.#waiters.push(resolve);
      await promise;
      cancel();
    }
    const feed = this.feed ?? (lifecycle.stopping ? undefined : await this.make());
    if (feed === undefined) throw new NotReadyError();
    return feed;
  }

  /** Whoever waits for it looks again. */
  tell(): void {
    for (const tell of this.#waiters) tell();
    this.#waiters = [];
  }

  /** Nothing is in memory any more. */
  forget(): void {
    this.#made = null;
    this.tell();
  }

  /** Another one takes new work from now on. */
  make(): Promise<OwnedFeed> {
    this.#made ??= this.#makeNew().finally(() => {
      this.#made = null;
    });
    return this.#made;
  }

  async #makeNew(): Promise<OwnedFeed> {
    const { self, random, local, store, inquiry, makeOwned } = this.#parts;
    const feedId = random.id(FEED_ID_CHARS);
    // Remembered first: a feed that was written to must be found again.
    await local.turn((turn) => turn.put({ kind: 'peer', uid: 'peer', main_feed: feedId }));
    await store.own(feedId, true);
    const feed = makeOwned(newFeed(feedId, self));
    await feed.open({ tasks: [], workflows: [] }, () => {});
    this.#id = feedId;
    inquiry.madeHere.add(feedId);
    feed.replicas.mend();
    this.tell();
    return feed;
  }

  onTick(): void {
    this.report();
  }

  report(): void {
    const { onState, peers } = this.#parts;
    if (onState === undefined) return;
    const { feed } = this;
    onState({
      feed_id: feed?.feed_id ?? '',
      released: feed?.journal.released ?? 0,
      copied: feed?.replicas.copied ?? [],
      alone: peers.isAlone(),
    });
  }
}
