/** `queue_clear` on this peer: cancels queued tasks, and forgets failed and cancelled ones. */
import type { FeedTable } from '../feed/feed-table.ts';
import type { OwnedFeed } from '../feed/owned-feed.ts';
import { isoTime } from '../ids.ts';
import type { Lifecycle } from '../lifecycle.ts';
import type { Clock, Reader } from '../ports.ts';
import { taskUids } from '../storage/record-tree.ts';
import type { LiveTask } from '../task/live-task.ts';

interface ClearQueueParts {
  clock: Clock;
  reader: Reader;
  feeds: FeedTable;
  lifecycle: Lifecycle;
}

/** Tasks cleared in one commit; between two commits, other work has its turn (P7). */
const CLEAR_PAGE = 500;

export class ClearQueue {
  readonly #parts: ClearQueueParts;

  constructor(parts: ClearQueueParts) {
    this.#parts = parts;
  }

  /**
   * Cancels queued tasks, those of workflows too, and forgets failed and cancelled tasks that belong to no workflow.
   *
   * @param filter the only kind to clear (`failed` is without `dead_letter`); all four when undefined
   * @returns how many tasks were cleared, and how many are queued now
   */
  async clear(
    filter: 'queued' | 'failed' | 'cancelled' | 'dead_letter' | undefined,
  ): Promise<{ cleared_count: number; remaining_count: number }> {
    const { feeds, lifecycle } = this.#parts;
    lifecycle.mustBeReady();
    let cleared = 0;
    // Ended tasks first: the queued tasks that this call cancels can still be seen afterwards.
    for (const status of ['failed', 'cancelled', 'dead_letter'] as const) {
      if (filter === undefined || filter === status) cleared += await this.#forgetEnded(status);
    }
    if (filter === undefined || filter === 'queued') {
      for (const feed of feeds.all()) {
        const queued = [...feed.tasks.live.values()].filter(({ record }) => record.status === 'queued');
        for (let from = 0; from < queued.length; from += CLEAR_PAGE) {
          cleared += await this.#cancelQueued(feed, queued.slice(from, from + CLEAR_PAGE));
        }
      }
    }
    return { cleared_count: cleared, remaining_count: feeds.counts.queued };
  }

  /** @returns how many were cancelled; tasks that started or ended meanwhile are left alone */
  async #cancelQueued({ tasks, journal }: OwnedFeed, page: readonly LiveTask[]): Promise<number> {
    return await journal.turn((turn) => {
      let count = 0;
      for (const task of page) {
        if (tasks.live.get(task.record.uid) !== task || task.record.status !== 'queued') continue;
        tasks.cancel(turn, task, 'the queue was cleared', false);
        count++;
      }
      return count;
    });
  }

  async #forgetEnded(status: 'failed' | 'cancelled' | 'dead_letter'): Promise<number> {
    const { reader, feeds, clock } = this.#parts;
    const query = status === 'cancelled' ? { status } : { status: 'failed', dead_letter: status === 'dead_letter' };
    let count = 0;
    for (let offset = 0; ; ) {
      const { records } = await reader.list({ kind: 'task', ...query, limit: CLEAR_PAGE, offset });
      if (records.length === 0) return count;
      const own = records.filter(({ workflow_uid }) => workflow_uid === null);
      offset += records.length - own.length; // tasks of workflows stay: the next page begins behind them
      const cleared_at = isoTime(clock.wall());
      const places = await Promise.all(own.map(async ({ uid }) => ({ uid, feed: await feeds.of(uid) })));
      for (const [feed, ofFeed] of Map.groupBy(places, (place) => place.feed)) {
        await feeds.mustOwn(feed).journal.turn((turn) => {
          for (const uid of ofFeed.flatMap((each) => taskUids(each.uid))) {
            turn.put({ kind: 'tombstone', uid, cleared_at });
          }
        });
      }
      count += own.length;
    }
  }
}
