/**
 * The part of a task's life in which workers have it: from the lease that goes out to the end of the attempt.
 * `transitions.ts` decides what that end means for the task.
 */
import type { ErrorShape } from '../../dag/errors.ts';
import type { PeerTable } from '../membership/peer-table.ts';
import type { AttemptResult, LeaseToken } from '../messages.ts';
import type { Log, Network } from '../ports.ts';
import type { LogLine, Placement, TaskRecord } from '../records.ts';
import type { Turn } from '../storage/journal.ts';
import { withLines } from '../worker/task-log.ts';
import type { LiveTask } from './live-task.ts';
import type { Tasks } from './tasks.ts';
import {
  lossOutcome,
  neverStarted,
  type Outcome,
  outcomeOf,
  type Proof,
  started,
  type TaskFeed,
  timeoutError,
  withUnanswered,
} from './transitions.ts';

export interface AttemptHooks {
  /** A task has begun. */
  onBegun(turn: Turn, record: TaskRecord): void;
  /** The lease of a task was refused, and no attempt before it had begun. */
  onNeverBegun(turn: Turn, record: TaskRecord): void;
}

/** The attempts of the tasks of one feed, at workers of any peer. */
export class Attempts {
  readonly #tasks: Tasks;
  readonly #peers: PeerTable;
  readonly #network: Network;
  readonly #log: Log;
  readonly #feed: TaskFeed;
  readonly #hooks: AttemptHooks;

  /** @param parts.feed the feed that the tasks live in */
  constructor(parts: {
    tasks: Tasks;
    peers: PeerTable;
    network: Network;
    log: Log;
    feed: TaskFeed;
    hooks: AttemptHooks;
  }) {
    this.#tasks = parts.tasks;
    this.#peers = parts.peers;
    this.#network = parts.network;
    this.#log = parts.log;
    this.#feed = parts.feed;
    this.#hooks = parts.hooks;
  }

  /** Gives a lease to a worker; `leases.sent` follows when the lease goes out. */
  leased(turn: Turn, task: LiveTask, placement: Placement & { chosen: NonNullable<Placement['chosen']> }): void {
    const { record } = task;
    this.#tasks.stopWaiting(task);
    const { peer_id, worker_id } = placement.chosen;
    const attempt = record.attempt + 1;
    const { epoch } = this.#feed;
    this.#tasks.leases.give(task, { attempt, epoch, peer_id, worker_id, restored: false });
    const lease = { attempt, lease_epoch: epoch, peer_id, worker_id, placement };
    this.#tasks.change(turn, task, { ...started(record, this.#tasks.now()), ...lease, due_at: null });
    this.#hooks.onBegun(turn, task.record);
  }

  /** A worker gave a lease back. */
  refused(turn: Turn, peer: string, token: LeaseToken, reason: 'busy' | 'unable' | 'handed_back'): void {
    const task = this.#tasks.live.get(token.uid);
    if (task === undefined || !this.#tasks.leases.isFrom(peer, task, token)) return;
    if (reason === 'handed_back' && task.record.at_most_once) {
      this.#lost(turn, task);
      return;
    }
    this.#tasks.endLease(task, 'given_up');
    if (reason === 'handed_back') this.#tasks.requeue(turn, task);
    else this.#neverBegan(turn, task);
  }

  /** The lease of a task was refused: the task waits on as if the lease had not been given. */
  #neverBegan(turn: Turn, task: LiveTask): void {
    task.record = { ...task.record, ...neverStarted(task.record) };
    this.#tasks.requeue(turn, task);
    if (task.record.started_at === null) this.#hooks.onNeverBegun(turn, task.record);
  }

  /** Takes in progress and log lines of an attempt that goes on. */
  progress(
    turn: Turn,
    peer: string,
    item: LeaseToken & { percent: number | null; message: string | null; lines: LogLine[] },
  ): void {
    const task = this.#tasks.live.get(item.uid);
    if (task === undefined || !this.#tasks.leases.isFrom(peer, task, item)) return;
    this.#tasks.leases.sent(task);
    this.#appendLog(turn, task, item.lines, 0);
    if (item.percent === null) return;
    this.#tasks.change(turn, task, { progress: item.percent, progress_message: item.message });
  }

  #appendLog(turn: Turn, task: LiveTask, lines: readonly LogLine[], dropped: number): void {
    if (lines.length === 0 && dropped === 0) return;
    task.log = withLines(task.log, task.record.uid, lines, dropped);
    turn.put(task.log);
  }

  /**
   * Takes in the end of an attempt. A stale result changes nothing: its worker may forget it (P3).
   * @param proof its signature, kept with the task if it ends with this result; and whether its lease was given
   */
  result(turn: Turn, peer: string, result: AttemptResult, proof: Proof = {}): void {
    const task = this.#tasks.live.get(result.uid);
    if (task === undefined) return;
    const owner = { self: this.#network.self, feed: this.#feed };
    const outcome = outcomeOf(task, { peer, result, ...proof }, owner, this.#tasks.now());
    if (outcome.kind === 'stale') return;
    if (result.crash === undefined) this.#appendLog(turn, task, result.lines, result.dropped_lines);
    this.#apply(turn, task, outcome);
  }

  /** The one place that carries out what was decided about an attempt. */
  #apply(turn: Turn, task: LiveTask, outcome: Exclude<Outcome, { kind: 'stale' }>): void {
    const { lease } = task;
    if (outcome.call_back !== undefined) this.#tasks.leases.callBack(turn, task, true, outcome.call_back);
    if (outcome.lease !== undefined) this.#tasks.endLease(task, outcome.lease);
    if (outcome.measured_ms !== undefined) this.#tasks.measured(outcome.measured_ms);
    if (outcome.lease === 'lost') {
      const { peer_id, attempt } = lease!;
      this.#log.warn({ task_id: task.record.task_id, peer_id, attempt }, 'lease lost');
    }
    switch (outcome.kind) {
      case 'noted':
        this.#tasks.change(turn, task, outcome.changes);
        break;
      case 'finish':
      case 'retry':
        this.#tasks.settle(turn, task, outcome);
        break;
      case 'lost':
        task.lost_attempts++;
        task.record = { ...task.record, ...outcome.changes };
        this.#tasks.requeue(turn, task);
        break;
      case 'barred':
        this.#barred(turn, task, lease!.peer_id, outcome.error);
    }
  }

  /** Other peers may allow the task; this peer is not asked again. */
  #barred(turn: Turn, task: LiveTask, peer: string, error: ErrorShape): void {
    task.barred = [...task.barred, this.#peers.markOf(peer)].sort();
    task.refusal = error;
    this.#neverBegan(turn, task);
  }

  /** The attempt is gone with its worker. */
  #lost(turn: Turn, task: LiveTask): void {
    if (task.lease === null) return;
    this.#apply(turn, task, lossOutcome(task, task.lease, this.#feed, this.#tasks.now()));
  }

  /** Loses the leases of a peer that are not among those that the peer says it holds. */
  loseLeasesBut(turn: Turn, peer: string, held: readonly LeaseToken[]): void {
    const names = new Set(held.map(({ uid, attempt }) => `${uid} ${attempt}`));
    for (const task of this.#tasks.leases.of(peer)) {
      if (!names.has(`${task.record.uid} ${task.lease!.attempt}`)) this.#lost(turn, task);
    }
  }

  /**
   * Takes back the leases of a peer, except those of `at_most_once` tasks, which it keeps.
   * @returns how many were taken back
   */
  takeBack(turn: Turn, peer: string): number {
    let count = 0;
    for (const task of this.#tasks.leases.of(peer)) {
      if (task.record.at_most_once) continue;
      this.#noteUnanswered(task);
      this.#tasks.leases.callBack(turn, task, false, 'the owner disconnects');
      this.#tasks.endLease(task, 'given_up');
      this.#tasks.requeue(turn, task);
      count++;
    }
    return count;
  }

  /** True when `sweep` would find something. */
  mustSweep(takeoverMs: number): boolean {
    const { leases } = this.#tasks;
    return leases.silent(takeoverMs).length > 0 || leases.overdue().length > 0;
  }

  /**
   * Ends the leases whose workers are gone, and those whose workers do not keep their timeouts.
   * @param takeoverMs how long a worker may not name a lease before it counts as gone
   */
  sweep(turn: Turn, takeoverMs: number): void {
    for (const task of this.#tasks.leases.silent(takeoverMs)) this.#lost(turn, task);
    for (const task of this.#tasks.leases.overdue()) this.#overdue(turn, task);
  }

  /** A worker holds a task longer than its timeout: the attempt has failed, whatever the worker does. */
  #overdue(turn: Turn, task: LiveTask): void {
    const { peer_id, attempt } = task.lease!;
    this.#log.warn({ task_id: task.record.task_id, peer_id, attempt }, 'a worker has not kept a timeout');
    this.#noteUnanswered(task);
    this.#tasks.leases.callBack(turn, task, true, 'it ran longer than timeout_ms');
    this.#tasks.endLease(task, 'lost');
    this.#tasks.attemptFailed(turn, task, timeoutError(task.record));
  }

  /** The lease of a task ends here, and its worker may still bring a success. The change that follows writes it. */
  #noteUnanswered(task: LiveTask): void {
    task.record = { ...task.record, ...withUnanswered(task.record, task.lease!) };
  }

  /** Takes in the leases that a peer named in its beat. Returns those of tasks that are not open here. */
  confirm(peer: string, held: readonly LeaseToken[]): LeaseToken[] {
    return this.#tasks.leases.confirm(peer, held, (uid) => this.#tasks.live.get(uid));
  }
}
