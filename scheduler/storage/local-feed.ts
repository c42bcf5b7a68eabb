/** What this peer keeps for itself alone (LOCAL_FEED): on its own disk, never copied, reopened after a failure. */
import type { Probe } from '../crash-points.ts';
import type { Lifecycle } from '../lifecycle.ts';
import type { Clock, Log, Store } from '../ports.ts';
import { LOCAL_FEED } from '../records.ts';
import { Journal, type Turn } from './journal.ts';

interface LocalFeedParts {
  clock: Clock;
  store: Store;
  log: Log;
  probe: Probe;
  lifecycle: Lifecycle;
  /** A commit failed. */
  onFailure(error: unknown): void;
}

export class LocalFeed {
  readonly #parts: LocalFeedParts;
  #journal: Journal;

  constructor(parts: LocalFeedParts) {
    this.#parts = parts;
    this.#journal = this.#open();
  }

  /** The journal until the store fails; afterwards there is another one, so do not hold on to it. */
  get journal(): Journal {
    return this.#journal;
  }

  /** Runs `work`, and resolves with its value when the rows it put are on the disk. */
  turn<T>(work: (turn: Turn) => T): Promise<T> {
    return this.#journal.turn(work);
  }

  /**
   * A change that a client asked for.
   * @throws NotReadyError while the store is being read, or why the commit failed
   */
  async commit<T>(work: (turn: Turn) => T): Promise<T> {
    this.#parts.lifecycle.mustBeReady();
    return await this.turn(work);
  }

  /** Begins a new journal: the store is open again. */
  reopen(): void {
    this.#journal = this.#open();
  }

  #open(): Journal {
    const { store, clock, log, probe, onFailure } = this.#parts;
    const seq = store.feeds.get(LOCAL_FEED)?.seq ?? 0;
    return new Journal({ store, clock, log, probe }, { feed_id: LOCAL_FEED, epoch: 1, seq }, { onFailure });
  }
}
