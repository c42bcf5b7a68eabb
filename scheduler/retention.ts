/**
 * History is bounded (P7). A root (what a client submitted, see `roots.ts`) that has ended is forgotten when it is
 * older than `history_days`, or when there are more than `history_max` in its feed, the oldest first.
 *
 * 1. Only what has ended, and nothing that something open here waits for or is a retry of.
 * 2. Whole, the parts before the root: after a crash in between the root is still there, and the next look goes on.
 * 3. In commits of PRUNED_ROWS_MAX tombstones, so that copies forget it too and nobody else waits for long.
 * 4. A tombstone is forgotten itself when every follower has it: a copy that has come less far (`pruned_to_seq`) is
 *    made anew, so it cannot bring back what it has not heard was forgotten.
 */
import type { Copies } from './copies.ts';
import { isoTime } from './ids.ts';
import type { Journal } from './journal.ts';
import {
  HISTORY_GRACE_MS,
  OFFLINE_WORKERS_MAX,
  PRUNE_PAUSE_MS,
  PRUNED_ROOTS_PAGE,
  PRUNED_ROWS_MAX,
  RETENTION_INTERVAL_MS,
  TOMBSTONES_KEPT_MS,
  TOMBSTONES_KEPT_MS_MAX,
} from './limits.ts';
import type { OwnedFeed } from './owned-feed.ts';
import type { Clock, Log, Reader, Store } from './ports.ts';
import { LOCAL_FEED } from './records.ts';

const DAY_MS = 24 * 3_600_000;

export interface RetentionOptions {
  /** Days after its end for which a workflow or task is kept. */
  history_days: number;
  /** Ended workflows and tasks of clients kept in one feed. */
  history_max: number;
}

interface RetentionParts {
  clock: Clock;
  store: Store;
  log: Log;
  copies: Copies;
  owned(): Iterable<OwnedFeed>;
  /** The journal of LOCAL_FEED. */
  local(): Journal;
  options: RetentionOptions;
}

interface Root {
  kind: 'workflow' | 'task';
  uid: string;
  id: string;
  created_at: string;
  ended_at: string;
}

/** A row to be forgotten; with the name of the root, if it is what others would look for. */
interface Doomed {
  uid: string;
  name: string | null;
}

export class Retention {
  private readonly parts: RetentionParts;
  private readonly reader: Reader;
  private nextAt = Number.NEGATIVE_INFINITY;
  private looking = false;
  /** Up to where tombstones are to be swept next, and when (monotonic) they were all there. */
  private readonly marks = new WeakMap<OwnedFeed, { seq: number; at: number }>();
  private readonly swept = new WeakMap<Journal, number>();

  constructor(parts: RetentionParts) {
    this.parts = parts;
    this.reader = parts.store.reader;
  }

  /** Called with every beat; looks every RETENTION_INTERVAL_MS, one look at a time. */
  tick(): void {
    const { clock } = this.parts;
    if (this.looking || clock.now() < this.nextAt) return;
    this.nextAt = clock.now() + RETENTION_INTERVAL_MS;
    this.looking = true;
    void this.look().finally(() => {
      this.looking = false;
    });
  }

  /** Never rejects. */
  private async look(): Promise<void> {
    const { owned, local } = this.parts;
    for (const feed of [...owned()]) {
      await this.tried(feed.journal, async () => {
        await this.prune(feed);
        await this.sweep(feed);
      });
    }
    const journal = local();
    await this.tried(journal, () => this.tidyLocal(journal));
  }

  private async tried(journal: Journal, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      // Its owner changed, its disk failed or the peer stops: whoever owns it next looks anew.
      const level = journal.refused === null ? 'warn' : 'debug';
      this.parts.log[level]({ err: error }, 'history could not be cut back now; tried again');
    }
  }

  // --- what has ended ------------------------------------------------------------------------------------------------

  private async prune(feed: OwnedFeed): Promise<void> {
    const { clock, log, options } = this.parts;
    const { feed_id } = feed;
    const now = clock.wall();
    const graceEnd = isoTime(now - HISTORY_GRACE_MS);
    const old = isoTime(now - Math.max(options.history_days * DAY_MS, HISTORY_GRACE_MS));
    const kept = (await this.reader.countRoots('workflow', feed_id)) + (await this.reader.countRoots('task', feed_id));
    let surplus = kept - options.history_max;
    let pruned = 0;
    /** Those that were looked at and stay, by kind: the next page begins behind them. */
    const passed = { workflow: 0, task: 0 };
    const doomed: Doomed[] = [];
    for (;;) {
      const page = await this.oldest(feed_id, surplus > 0 ? graceEnd : old, passed);
      if (page.length === 0) break;
      const needed = this.needed();
      for (const root of page) {
        if (root.ended_at >= (surplus > 0 ? graceEnd : old) || needed.has(nameOf(root))) {
          passed[root.kind]++;
          continue;
        }
        for await (const part of this.partsOf(feed_id, root.uid)) {
          doomed.push(...part.map((uid) => ({ uid, name: null })));
          await this.forget(feed, doomed, PRUNED_ROWS_MAX);
        }
        for (const uid of await this.ownRows(root)) doomed.push({ uid, name: nameOf(root) });
        // Until its commit the store still names it.
        passed[root.kind]++;
        surplus--;
        pruned++;
      }
      await this.forget(feed, doomed, 1);
      for (const { kind } of page) passed[kind] = 0;
      await this.pause();
    }
    if (pruned > 0) log.info({ feed_id, roots: pruned }, 'history was cut back');
  }

  /** The oldest roots of both kinds that were created before a time, without those passed over. */
  private async oldest(feedId: string, before: string, passed: Record<Root['kind'], number>): Promise<Root[]> {
    const found: Root[] = [];
    for (const kind of ['workflow', 'task'] as const) {
      const uids = await this.reader.oldest(kind, feedId, before, passed[kind] + PRUNED_ROOTS_PAGE);
      for (const uid of uids.slice(passed[kind])) {
        const record = await this.reader.get(kind, uid);
        if (record === undefined) continue;
        const id = record.kind === 'workflow' ? record.workflow_id : record.task_id;
        found.push({ kind, uid, id, created_at: record.created_at, ended_at: record.ended_at ?? record.created_at });
      }
    }
    return found.sort((a, b) => (a.created_at < b.created_at ? -1 : 1)).slice(0, PRUNED_ROOTS_PAGE);
  }
}
