/** The feed that takes new work. A peer whose main feed is lost, or cannot be written now, makes a new one. */
import type { MainFeedState } from '../api.ts';
import { NotReadyError } from '../errors.ts';
import type { FeedTable } from '../feed/feed-table.ts';
import type { OwnedFeed } from '../feed/owned-feed.ts';
import { feedIdOf } from '../ids.ts';
import type { Lifecycle } from '../lifecycle.ts';
import type { BeatListener } from '../membership/heartbeat.ts';
import type { PeerTable } from '../membership/peer-table.ts';
import type { Clock, Random } from '../ports.ts';
import type { FeedRecord } from '../records.ts';
import { newFeed } from '../storage/feed-lines.ts';
import type { LocalFeed } from '../storage/local-feed.ts';
import type { Writes } from '../storage/watched-store.ts';
import type { Inquiry } from './inquiry.ts';

const NONCE_CHARS = 20;

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
  /** Makes an `OwnedFeed` and adds it to the feed table. */
  makeOwned(feed: FeedRecord): OwnedFeed;
  /** Told the state of the main feed with every beat and after changes, for readers on other event loops. */
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

  /** Its first characters are part of the ids made here; empty before there is a main feed. */
  get id(): string {
    return this.#id;
  }

  /** The main feed; undefined while it cannot be written. */
  get feed(): OwnedFeed | undefined {
    return this.#parts.feeds.get(this.#id);
  }

  /** Reads which feed was the main one when this peer last wrote to its disk. */
  async remember(): Promise<void> {
    this.#id = (await this.#parts.store.reader.get('peer', 'peer'))?.main_feed ?? '';
  }

  /**
   * The main feed, once it can be written. Waits as long as the inquiry may take, then makes a new one.
   * @throws NotReadyError when the store has just failed, or the peer stops
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

  /** The main feed may have changed: lets the waiting `whenThere` calls look again. */
  tell(): void {
    for (const tell of this.#waiters) tell();
    this.#waiters = [];
  }

  /** The feeds have left memory: the store has failed and is read anew. */
  forget(): void {
    this.#made = null;
    this.tell();
  }

  /** Makes a new feed, which takes new work from now on; calls at the same time share one. */
  make(): Promise<OwnedFeed> {
    this.#made ??= this.#makeNew().finally(() => {
      this.#made = null;
    });
    return this.#made;
  }

  async #makeNew(): Promise<OwnedFeed> {
    const { self, random, local, store, inquiry, makeOwned } = this.#parts;
    const nonce = random.id(NONCE_CHARS);
    const feedId = feedIdOf(self, nonce);
    // Remembered before anything is written to it: after a crash the feed must be found again.
    await local.turn((turn) => turn.put({ kind: 'peer', uid: 'peer', main_feed: feedId }));
    await store.own(feedId, true);
    const feed = makeOwned(newFeed(feedId, self, nonce));
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

  /** Tells `onState` how the main feed is now. */
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
