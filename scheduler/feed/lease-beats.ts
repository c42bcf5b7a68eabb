/** What beats say of leases: a lease that its worker still has is confirmed, the lease of a silent worker is lost. */
import type { Lifecycle } from '../lifecycle.ts';
import type { BeatListener } from '../membership/heartbeat.ts';
import type { Beat, LeaseToken } from '../messages.ts';
import type { Log, Reader } from '../ports.ts';
import type { WorkerPool } from '../worker/worker-pool.ts';
import type { FeedTable } from './feed-table.ts';
import type { OwnedFeed } from './owned-feed.ts';

const ENDED = { force: false, reason: 'the task has ended' };

interface LeaseBeatsParts {
  self: string;
  feeds: FeedTable;
  pool: WorkerPool;
  reader: Reader;
  log: Log;
  lifecycle: Lifecycle;
  options: { takeover_ms: number };
}

export class LeaseBeats implements BeatListener {
  readonly #parts: LeaseBeatsParts;

  constructor(parts: LeaseBeatsParts) {
    this.#parts = parts;
  }

  onTick(): void {
    const { self, feeds, pool } = this.#parts;
    const holding = pool.holding(self);
    for (const feed of feeds.all()) {
      feed.attempts.confirm(self, holding);
      feed.turn((turn) => feed.tasks.writeReasons(turn));
      if (feed.tasks.queue.size > 0) feed.dispatchSoon();
    }
  }

  onWatch(): void {
    const { feeds, options } = this.#parts;
    for (const feed of feeds.all()) {
      if (!feed.attempts.mustSweep(options.takeover_ms)) continue;
      feed.turn((turn) => feed.attempts.sweep(turn, options.takeover_ms));
    }
  }

  onWake(): void {
    for (const { tasks } of this.#parts.feeds.all()) tasks.leases.restartSilences();
  }

  onBeat(peer: string, { holding }: Beat): void {
    const { feeds, lifecycle } = this.#parts;
    if (!lifecycle.ready) return;
    for (const feed of feeds.all()) {
      const unknown = feed.attempts.confirm(peer, holding);
      // Only once the ends of these tasks are durable: told of them, the worker forgets the results it keeps (P1, P3).
      if (unknown.length > 0) feed.turn((turn) => turn.after(() => void this.#cancelEnded(peer, feed, unknown)));
      if (feed.tasks.queue.size > 0) feed.dispatchSoon();
    }
  }

  /**
   * A worker has leases of tasks that are not open here: tells it which of these tasks have ended. A task without a row
   * here may have been accepted on the other side of a partition, and be handed over later (P5): its lease goes on.
   */
  async #cancelEnded(peer: string, feed: OwnedFeed, tokens: readonly LeaseToken[]): Promise<void> {
    const { reader, log } = this.#parts;
    const { tasks, journal, feed_id } = feed;
    try {
      const feeds = await reader.feedsOf(tokens.map(({ uid }) => uid));
      if (journal.refused !== null) return; // the feed has left memory: `tasks.live` says nothing
      const ended = tokens.filter(({ uid }, at) => feeds[at] === feed_id && !tasks.live.has(uid));
      tasks.leases.cancel(
        peer,
        ended.map((token) => ({ ...token, ...ENDED })),
      );
    } catch (error) {
      log.debug({ peer, feed_id, err: error }, 'it cannot be read which tasks have ended; the next beat asks again');
    }
  }
}
