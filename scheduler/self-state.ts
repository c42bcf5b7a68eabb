/** What this peer says of itself: to others in beats and greetings, and to its own placement in the peer table. */
import { capabilityNames } from './capabilities.ts';
import type { QueueState } from './client/queue-state.ts';
import type { FeedTable } from './feed/feed-table.ts';
import type { Lifecycle } from './lifecycle.ts';
import { OFFER_CLASSES_MAX } from './limits.ts';
import type { PeerTable } from './membership/peer-table.ts';
import type { PeerState } from './messages.ts';
import type { Clock, Network } from './ports.ts';
import type { WorkerPool } from './worker/worker-pool.ts';

interface SelfStateParts {
  clock: Clock;
  network: Network;
  peers: PeerTable;
  pool: WorkerPool;
  feeds: FeedTable;
  queueState: QueueState;
  lifecycle: Lifecycle;
  options: { name: string; version: string };
}

export class SelfState {
  readonly #parts: SelfStateParts;

  constructor(parts: SelfStateParts) {
    this.#parts = parts;
  }

  /** @param reader the peer that is told it: what the workers here allow may depend on who asks. Null: everybody */
  describe(reader: string | null): PeerState {
    const { pool, feeds, queueState, lifecycle, network, options } = this.#parts;
    return {
      name: options.name,
      version: options.version,
      feeds: lifecycle.ready ? feeds.lines() : [],
      workers: pool.states(reader),
      ...feeds.counts,
      paused: queueState.paused,
      waiting: queueState.paused ? [] : feeds.waiting(OFFER_CLASSES_MAX),
      addresses: network.addresses(),
    };
  }

  /** Announces what this peer can do in the DHT, so that peers that look for a capability find it. */
  announce(): void {
    this.#parts.network.provide(capabilityNames(this.#parts.pool.believedStates()));
  }

  /** What the workers here could do, and this peer's certificate does not let it offer. */
  withheld(): string[] {
    const believed = this.#parts.pool.believedStates();
    const names = this.#parts.pool.states(null).flatMap(({ actions, labels }, at) => {
      const may = new Set([...believed[at]!.actions, ...believed[at]!.labels]);
      return [...actions, ...labels].filter((name) => !may.has(name));
    });
    return [...new Set(names)].sort();
  }

  /** Brings this peer's own entry in the peer table up to date: its workers are candidates like any other. */
  refresh(): void {
    const { clock, network, peers, pool, feeds, queueState, options } = this.#parts;
    const entry = peers.entry(network.self, clock.now());
    const { name, version } = options;
    const known = entry.state ?? { name, version, feeds: [], waiting: [], addresses: [] };
    entry.held_at_beat.clear();
    const workers = pool.states(network.self);
    for (const { worker_id } of workers) {
      entry.held_at_beat.set(worker_id, pool.runningFor(network.self, worker_id));
    }
    const { queued, running } = feeds.counts;
    entry.state = {
      ...known,
      workers,
      queued: 0,
      running,
      paused: queued > 0 && queueState.paused,
    };
  }
}
