/**
 * The leases that this owner has given and that have not ended. The beats of a worker's peer say which of them it still
 * holds; when a lease ends here first, its worker is told.
 */
import { BEATS_LATE_MAX, CANCEL_BATCH_MAX, REQUEST_DEADLINE_MS, TIMEOUT_GRACE_MS } from '../limits.ts';
import type { LeaseEnd, PeerTable } from '../membership/peer-table.ts';
import type { LeaseToken } from '../messages.ts';
import type { Clock, Log, Network } from '../ports.ts';
import type { TaskRecord } from '../records.ts';
import type { Turn } from '../storage/journal.ts';
import { type GivenLease, isNamedBy, type LiveTask } from './live-task.ts';

export type Cancel = LeaseToken & { force: boolean; reason: string };

const REASON_CHARS_MAX = 1_024;

export class Leases {
  readonly #clock: Clock;
  readonly #network: Network;
  readonly #peers: PeerTable;
  readonly #log: Log;
  readonly #lateMs: number;
  readonly #given = new Set<LiveTask>();
  readonly feed: { feed_id: string; epoch: number };

  /** @param parts.feed the feed that the leases belong to */
  constructor(parts: {
    clock: Clock;
    network: Network;
    peers: PeerTable;
    log: Log;
    feed: { feed_id: string; epoch: number };
    beat_interval_ms: number;
  }) {
    this.feed = parts.feed;
    this.#lateMs = parts.beat_interval_ms * BEATS_LATE_MAX;
    this.#clock = parts.clock;
    this.#network = parts.network;
    this.#peers = parts.peers;
    this.#log = parts.log;
  }

  /** How many leases have not ended. */
  get size(): number {
    return this.#given.size;
  }

  /** The token that names a lease of the task in messages. */
  tokenOf(record: TaskRecord, { epoch, attempt }: { epoch: number; attempt: number }): LeaseToken {
    return { uid: record.uid, feed_id: this.feed.feed_id, epoch, attempt };
  }

  /** Gives the next attempt of a task to a worker. The worker's silence and the timeout count from `sent` on. */
  give(task: LiveTask, lease: Omit<GivenLease, 'confirmed_at' | 'overdue_at'>): void {
    task.lease = { ...lease, confirmed_at: null, overdue_at: null };
    this.#given.add(task);
    this.#peers.leaseGiven(lease.peer_id, lease.worker_id, task.record.uid);
  }

  /** The lease goes out, or its worker has just named it: the worker's silence counts from now on. */
  sent(task: LiveTask): void {
    if (task.lease === null) return;
    task.lease.confirmed_at = this.#clock.now();
    task.lease.overdue_at ??= this.#overdueAt(task);
  }

  #overdueAt({ record: { timeout_ms } }: LiveTask): number | null {
    return timeout_ms === null ? null : this.#clock.now() + timeout_ms + TIMEOUT_GRACE_MS;
  }

  /**
   * Takes up a lease that was read from the store: its worker may still run the task, or keep its result. The beats of
   * the worker's peer will show it, or its silence, which may have begun before this process did.
   */
  readopt(task: LiveTask, lease: Omit<GivenLease, 'confirmed_at' | 'overdue_at' | 'restored'>): void {
    this.give(task, { ...lease, restored: true });
    // From now: only the process that gave the lease knows how much of the time is used up (P8).
    task.lease!.overdue_at = this.#overdueAt(task);
    task.lease!.confirmed_at = this.#peers.silentSince(lease.peer_id, this.#lateMs, this.#clock.now());
  }

  /** @param how the lease ended: counts for or against the worker's peer when the next task is placed */
  end(task: LiveTask, how: LeaseEnd): void {
    const { lease } = task;
    if (lease === null) return;
    task.lease = null;
    this.#given.delete(task);
    this.#peers.leaseEnded(lease.peer_id, lease.worker_id, task.record.uid, how, this.#clock.now());
  }

  /** Ends all leases: another peer owns the feed, or the feed is read again. */
  clear(): void {
    for (const task of this.#given) this.end(task, 'given_up');
  }

  /** Tasks whose lease a peer has. */
  of(peer: string): LiveTask[] {
    return [...this.#given].filter(({ lease }) => lease?.peer_id === peer);
  }

  /**
   * Tasks whose worker is gone: it has not named the lease for `takeoverMs`, its peer is lost (`goneFor`), or may work
   * no more.
   */
  silent(takeoverMs: number): LiveTask[] {
    const now = this.#clock.now();
    return [...this.#given].filter(({ lease }) => {
      if (lease?.confirmed_at == null) return false;
      if (this.#peers.mayNotWork(lease.peer_id)) return true;
      return this.#peers.goneFor(lease.peer_id, now - lease.confirmed_at, takeoverMs, now) > 0;
    });
  }

  /**
   * Tasks that their worker still names in its beats although their timeout is over. A silent worker has not broken
   * its timeout: the result may wait for a connection, until the worker counts as gone (`silent`).
   */
  overdue(): LiveTask[] {
    return [...this.#given].filter(({ lease }) => {
      if (lease?.confirmed_at == null || lease.overdue_at === null) return false;
      return lease.confirmed_at >= lease.overdue_at;
    });
  }

  /** P11: this peer slept and heard nobody. Every silence counts anew, and results that wait to be read get time. */
  restartSilences(): void {
    const now = this.#clock.now();
    for (const task of this.#given) {
      if (task.lease?.confirmed_at == null) continue;
      this.sent(task);
      if (task.lease.overdue_at !== null)
        task.lease.overdue_at = Math.max(task.lease.overdue_at, now + TIMEOUT_GRACE_MS);
    }
  }

  /**
   * Confirms the current leases among those that a peer named in its beat.
   * @param find returns the task of a uid while it has not ended
   * @returns the named leases of tasks that are not open here
   */
  confirm(peer: string, held: readonly LeaseToken[], find: (uid: string) => LiveTask | undefined): LeaseToken[] {
    const unknown: LeaseToken[] = [];
    for (const token of held) {
      if (token.feed_id !== this.feed.feed_id) continue;
      const task = find(token.uid);
      if (task === undefined) unknown.push(token);
      else if (this.isFrom(peer, task, token)) this.sent(task);
    }
    return unknown;
  }

  /** Whether a token that a peer names is the task's current lease (P3). */
  isFrom(peer: string, { lease }: LiveTask, token: LeaseToken): boolean {
    return isNamedBy(lease, this.feed.feed_id, peer, token);
  }

  /** Once the turn is durable, tells the worker of a task that its attempt is not wanted any more. */
  callBack(turn: Turn, task: LiveTask, force: boolean, reason: string): void {
    const { lease } = task;
    if (lease === null) return;
    const token = this.tokenOf(task.record, lease);
    turn.after(() => this.cancel(lease.peer_id, [{ ...token, force, reason: reason.slice(0, REASON_CHARS_MAX) }]));
  }

  /** Tells a peer to end these attempts if they run, and to drop their results if it keeps them. */
  cancel(peer: string, items: readonly Cancel[]): void {
    for (let from = 0; from < items.length; from += CANCEL_BATCH_MAX) {
      const batch = items.slice(from, from + CANCEL_BATCH_MAX);
      this.#network.request(peer, 'cancel', { items: batch }, REQUEST_DEADLINE_MS).catch((cause: unknown) => {
        // When a beat names the lease again, another cancel is sent.
        this.#log.debug({ peer, cause }, 'a cancel was not answered');
      });
    }
  }
}
