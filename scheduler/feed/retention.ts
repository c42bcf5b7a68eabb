/**
 * History is bounded (P7). A root (what a client submitted, see `record-tree.ts`) that has ended is forgotten when it
 * is older than `history_days`, or when there are more than `history_max` in its feed, the oldest first.
 *
 * 1. Only roots that have ended are forgotten, and none that an open record here waits for or is a retry of.
 * 2. A root is forgotten whole, its parts first: after a crash in between, the root is still there for the next look.
 * 3. Each row is replaced by a tombstone, so that copies forget it too, in commits of at most PRUNED_ROWS_MAX, so that
 *    other turns need not wait for long.
 * 4. A tombstone is removed when every follower has it. A copy that has not come that far (`pruned_to_seq`) is made
 *    anew: it cannot bring back a record that it never heard was forgotten.
 */
import { isoTime } from '../ids.ts';
import {
  HISTORY_GRACE_MS,
  OFFLINE_WORKERS_MAX,
  PRUNE_PAUSE_MS,
  PRUNED_ROOTS_PAGE,
  PRUNED_ROWS_MAX,
  RETENTION_INTERVAL_MS,
  TOMBSTONES_KEPT_MS,
  TOMBSTONES_KEPT_MS_MAX,
} from '../limits.ts';
import type { BeatListener } from '../membership/heartbeat.ts';
import type { Clock, Log, Reader, Store } from '../ports.ts';
import { LOCAL_FEED } from '../records.ts';
import type { FollowedFeeds } from '../replication/follower.ts';
import { aliasKey } from '../storage/aliases.ts';
import type { Journal } from '../storage/journal.ts';
import type { LocalFeed } from '../storage/local-feed.ts';
import { ownUids, partUids } from '../storage/record-tree.ts';
import type { FeedTable } from './feed-table.ts';
import type { OwnedFeed } from './owned-feed.ts';

const DAY_MS = 24 * 3_600_000;

export interface RetentionOptions {
  /** How many days a workflow or task is kept after its end. */
  history_days: number;
  /** How many ended workflows and tasks of clients one feed keeps. */
  history_max: number;
}

interface RetentionParts {
  clock: Clock;
  store: Store;
  log: Log;
  followed: FollowedFeeds;
  feeds: FeedTable;
  local: LocalFeed;
  options: RetentionOptions;
}

interface Root {
  kind: 'workflow' | 'task';
  uid: string;
  id: string;
  created_at: string;
  ended_at: string;
}

/** A row to be forgotten. `name` is the `kind/id` of a root that other records may refer to; null for a part. */
interface Doomed {
  uid: string;
  name: string | null;
}

export class Retention implements BeatListener {
  readonly #parts: RetentionParts;
  readonly #reader: Reader;
  #nextAt = Number.NEGATIVE_INFINITY;
  #looking = false;
  /** Up to which commit tombstones are removed next, and when (monotonic) that commit was the newest one. */
  readonly #marks = new WeakMap<OwnedFeed, { seq: number; at: number }>();
  readonly #swept = new WeakMap<Journal, number>();

  constructor(parts: RetentionParts) {
    this.#parts = parts;
    this.#reader = parts.store.reader;
  }

  /** Called with every beat, but looks only every RETENTION_INTERVAL_MS, and never twice at once. */
  onTick(): void {
    const { clock } = this.#parts;
    if (this.#looking || clock.now() < this.#nextAt) return;
    this.#nextAt = clock.now() + RETENTION_INTERVAL_MS;
    this.#looking = true;
    void this.#look().finally(() => {
      this.#looking = false;
    });
  }

  /** Never rejects. */
  async #look(): Promise<void> {
    const { feeds, local } = this.#parts;
    for (const feed of feeds.all()) {
      await this.#tried(feed.journal, async () => {
        await this.#prune(feed);
        await this.#sweep(feed);
      });
    }
    const { journal } = local;
    await this.#tried(journal, () => this.#tidyLocal(journal));
  }

  async #tried(journal: Journal, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      // The feed's owner changed, the disk failed or the peer stops: the next owner of the feed looks anew.
      const level = journal.refused === null ? 'warn' : 'debug';
      this.#parts.log[level]({ err: error }, 'history could not be cut back now; tried again');
    }
  }

  // --- what has ended ------------------------------------------------------------------------------------------------

  async #prune(feed: OwnedFeed): Promise<void> {
    const { clock, log, options } = this.#parts;
    const { feed_id } = feed;
    const now = clock.wall();
    const graceEnd = isoTime(now - HISTORY_GRACE_MS);
    const old = isoTime(now - Math.max(options.history_days * DAY_MS, HISTORY_GRACE_MS));
    const kept =
      (await this.#reader.countRoots('workflow', feed_id)) + (await this.#reader.countRoots('task', feed_id));
    let surplus = kept - options.history_max;
    let pruned = 0;
    /** How many of the oldest roots stay, by kind: the next page begins behind them. */
    const stay = { workflow: 0, task: 0 };
    while (feed.journal.refused === null) {
      const page = await this.#oldest(feed_id, surplus > 0 ? graceEnd : old, stay);
      if (page.length === 0) break;
      const needed = this.#needed();
      const doomed: Doomed[] = [];
      for (const root of page) {
        if (root.ended_at >= (surplus > 0 ? graceEnd : old) || needed.has(aliasKey(root))) {
          stay[root.kind]++;
          continue;
        }
        for await (const part of partUids(this.#reader, feed_id, root.uid, PRUNED_ROWS_MAX)) {
          for (const uid of part) doomed.push({ uid, name: null });
          if (doomed.length >= PRUNED_ROWS_MAX) await this.#forget(feed, doomed);
        }
        for (const uid of await ownUids(this.#reader, root)) doomed.push({ uid, name: aliasKey(root) });
        surplus--;
        pruned++;
      }
      await this.#forget(feed, doomed);
      await this.#pause();
    }
    if (pruned > 0) log.info({ feed_id, roots: pruned }, 'history was cut back');
  }

  /** A page of the oldest ended roots that were created before an ISO time, without the first `stay` of each kind. */
  async #oldest(feedId: string, before: string, stay: Record<Root['kind'], number>): Promise<Root[]> {
    const found: Root[] = [];
    for (const kind of ['workflow', 'task'] as const) {
      const uids = await this.#reader.oldest(kind, feedId, before, stay[kind] + PRUNED_ROOTS_PAGE);
      for (const uid of uids.slice(stay[kind])) {
        const record = await this.#reader.get(kind, uid);
        if (record === undefined) continue;
        const id = record.kind === 'workflow' ? record.workflow_id : record.task_id;
        found.push({ kind, uid, id, created_at: record.created_at, ended_at: record.ended_at ?? record.created_at });
      }
    }
    return found.sort((a, b) => (a.created_at < b.created_at ? -1 : 1)).slice(0, PRUNED_ROOTS_PAGE);
  }

  /** The roots, as `kind/id`, that open records here refer to. */
  #needed(): Set<string> {
    const names = new Set<string>();
    for (const { tasks, runs } of this.#parts.feeds.all()) {
      for (const { record } of tasks.live.values()) {
        for (const id of record.depends_on) names.add(aliasKey({ kind: 'task', id }));
        if (record.retry_of !== null) names.add(aliasKey({ kind: 'task', id: record.retry_of }));
      }
      for (const { record } of runs.live.values()) {
        for (const id of record.dependencies) names.add(aliasKey({ kind: 'workflow', id }));
      }
    }
    return names;
  }

  /** Empties the list and puts tombstones in place of its rows, except roots that an open record has come to need. */
  async #forget({ journal }: OwnedFeed, doomed: Doomed[]): Promise<void> {
    while (doomed.length > 0) {
      const rows = doomed.splice(0, PRUNED_ROWS_MAX);
      await journal.turn((turn) => {
        const needed = this.#needed();
        const cleared_at = isoTime(this.#parts.clock.wall());
        for (const { uid, name } of rows) {
          if (name === null || !needed.has(name)) turn.put({ kind: 'tombstone', uid, cleared_at });
        }
      });
    }
  }

  /** Lets other work have its turn (P7). */
  #pause(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#parts.clock.after(PRUNE_PAUSE_MS, resolve);
    return promise;
  }

  // --- tombstones ----------------------------------------------------------------------------------------------------

  /** Removes tombstones that all followers have; one that stays away too long gets its copy anew when it is back. */
  async #sweep(feed: OwnedFeed): Promise<void> {
    const { clock, store } = this.#parts;
    const { journal, replicas, feed_id } = feed;
    const mark = this.#marks.get(feed);
    if (mark === undefined) {
      const any = journal.tombstones > feed.feed.pruned_to_seq;
      if (any) this.#marks.set(feed, { seq: journal.head, at: clock.now() });
      return;
    }
    const age = clock.now() - mark.at;
    if (age < TOMBSTONES_KEPT_MS || (replicas.ackedByAll < mark.seq && age < TOMBSTONES_KEPT_MS_MAX)) return;
    this.#marks.delete(feed);
    replicas.change({ pruned_to_seq: mark.seq });
    await journal.turn(() => undefined); // after the commit that says so
    await store.sweep(feed_id, mark.seq);
  }

  // --- what the peer remembers of itself -----------------------------------------------------------------------------

  /** Forgets old rows of the local feed. That feed has no followers, so its tombstones can go at once. */
  async #tidyLocal(journal: Journal): Promise<void> {
    const { clock, store, followed } = this.#parts;
    const workers = await this.#reader.active('worker', LOCAL_FEED);
    const offline = workers.filter(({ status }) => status === 'offline');
    const gone = offline.slice(0, Math.max(offline.length - OFFLINE_WORKERS_MAX, 0)).map(({ uid }) => uid);
    for (const { uid, feed_id } of await this.#reader.active('copy', LOCAL_FEED)) {
      if (!store.feeds.has(feed_id) && followed.find(feed_id) === undefined) gone.push(uid);
    }
    if (gone.length > 0) {
      const cleared_at = isoTime(clock.wall());
      await journal.turn((turn) => {
        for (const uid of gone.slice(0, PRUNED_ROWS_MAX)) turn.put({ kind: 'tombstone', uid, cleared_at });
      });
    }
    const { tombstones } = journal;
    if (tombstones === 0 || this.#swept.get(journal) === tombstones) return;
    await journal.turn(() => undefined);
    await store.sweep(LOCAL_FEED, tombstones);
    this.#swept.set(journal, tombstones);
  }
}
