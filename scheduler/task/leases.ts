/**
 * The leases that this owner has given and that have not ended: which workers hold them by what their beats say, and
 * what they are told when a lease ends here first.
 */
import { BEATS_LATE_MAX, CANCEL_BATCH_MAX, REQUEST_DEADLINE_MS, TIMEOUT_GRACE_MS } from '../limits.ts';
import type { Directory, LeaseEnd } from '../membership/peer-table.ts';
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
  readonly #directory: Directory;
  readonly #log: Log;
  readonly #lateMs: number;
  readonly #given = new Set<LiveTask>();
  readonly feed: { feed_id: string; epoch: number };

  /** @param feed that the leases belong to */
  constructor(
    components: { clock: Clock; network: Network; directory: Directory; log: Log },
    feed: { feed_id: string; epoch: number },
    options: { beat_interval_ms: number },
  ) {
    this.feed = feed;
    this.#lateMs = options.beat_interval_ms * BEATS_LATE_MAX;
    this.#clock = components.clock;
    this.#network = components.network;
    this.#directory = components.directory;
    this.#log = components.log;
  }

  get size(): number {
    return this.#given.size;
  }

  tokenOf(record: TaskRecord, { epoch, attempt }: { epoch: number; attempt: number }): LeaseToken {
    return { uid: record.uid, feed_id: this.feed.feed_id, epoch, attempt };
  }

  /** The next attempt of a task belongs to a worker. Its silence and its timeout count from `sent` on. */
  give(task: LiveTask, lease: Omit<GivenLease, 'confirmed_at' | 'overdue_at'>): void {
    task.lease = { ...lease, confirmed_at: null, overdue_at: null };
    this.#given.add(task);
    this.#directory.leaseGiven(lease.peer_id, lease.worker_id, task.record.uid);
  }

  /** It goes out, or its worker has just named it. */
  sent(task: LiveTask): void {
    if (task.lease === null) return;
    task.lease.confirmed_at = this.#clock.now();
    task.lease.overdue_at ??= this.#overdueAt(task);
  }

  #overdueAt({ record: { timeout_ms } }: LiveTask): number | null {
    return timeout_ms === null ? null : this.#clock.now() + timeout_ms + TIMEOUT_GRACE_MS;
  }

  /**
   * A lease that was read from the store: its worker may still run the task, or keep its result. Its beats will say, or
   * their silence, which may have begun before.
   */
  readopt(task: LiveTask, lease: Omit<GivenLease, 'confirmed_at' | 'overdue_at' | 'restored'>): void {
    this.give(task, { ...lease, restored: true });
    task.lease!.overdue_at = this.#overdueAt(task); // how much of its time is over, another process or peer knew (P8)
    task.lease!.confirmed_at = this.#directory.silentSince(lease.peer_id, this.#lateMs, this.#clock.now());
  }

  end(task: LiveTask, how: LeaseEnd): void {
    const { lease } = task;
    if (lease === null) return;
    task.lease = null;
    this.#given.delete(task);
    this.#directory.leaseEnded(lease.peer_id, lease.worker_id, task.record.uid, how, this.#clock.now());
  }

  clear(): void {
    for (const task of this.#given) this.end(task, 'given_up');
  }

  /** Tasks whose lease a peer has. */
  of(peer: string): LiveTask[] {
    return [...this.#given].filter(({ lease }) => lease?.peer_id === peer);
  }

  /** Tasks whose worker is gone: it has not named the lease for `takeoverMs`, or its peer is lost (`goneFor`). */
  silent(takeoverMs: number): LiveTask[] {
    const now = this.#clock.now();
    return [...this.#given].filter(({ lease }) => {
      if (lease?.confirmed_at == null) return false;
      return this.#directory.goneFor(lease.peer_id, now - lease.confirmed_at, takeoverMs, now) > 0;
    });
  }

  /**
   * Tasks whose worker goes on to name them when it should long have ended them. One that says nothing is not meant:
   * its result may wait for a connection, until it is `silent`.
   */
  overdue(): LiveTask[] {
    return [...this.#given].filter(({ lease }) => {
      if (lease?.confirmed_at == null || lease.overdue_at === null) return false;
      return lease.confirmed_at >= lease.overdue_at;
    });
  }

  /** This peer heard nothing because it slept itself: every silence begins anew, and what has come is read first (P11). */
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
   * A beat named the leases that a peer holds: what of them is current is confirmed.
   * @param find the task of a uid while it has not ended
   * @returns those of tasks that are not open here
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

  /** Once the turn is durable, the worker of a task is told that its attempt is not wanted any more. */
  callBack(turn: Turn, task: LiveTask, force: boolean, reason: string): void {
    const { lease } = task;
    if (lease === null) return;
    const token = this.tokenOf(task.record, lease);
    turn.after(() => this.cancel(lease.peer_id, [{ ...token, force, reason: reason.slice(0, REASON_CHARS_MAX) }]));
  }

  cancel(peer: string, items: readonly Cancel[]): void {
    for (let from = 0; from < items.length; from += CANCEL_BATCH_MAX) {
      const batch = items.slice(from, from + CANCEL_BATCH_MAX);
      this.#network.request(peer, 'cancel', { items: batch }, REQUEST_DEADLINE_MS).catch((cause: unknown) => {
        // The next beat that names the lease has it cancelled again.
        this.#log.debug({ peer, cause }, 'a cancel was not answered');
      });
    }
  }
}
