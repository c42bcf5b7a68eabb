/**
 * The owner's side of tasks: their life from queued to ended, as changes of rows.
 *
 * 1. A task that ended leaves memory; its record never changes status again (P5).
 * 2. The current lease commits anything; an earlier one commits a success only, and the current one is then
 *    cancelled (P3).
 * 3. A lost attempt of an ordinary task is repeated; of an `at_most_once` task it is the end: WORKER_LOST (P4).
 */
import { type ErrorShape, FlowmeshError, type JsonValue } from '../dag/errors.ts';
import { retryDelayMs } from '../dag/retry.ts';
import type { Directory } from './directory.ts';
import { DueTimes } from './due.ts';
import { InvalidStateError } from './errors.ts';
import { isoTime, wallMs } from './ids.ts';
import type { Turn } from './journal.ts';
import {
  ATTEMPT_HISTORY_MAX,
  LOG_LINE_CHARS_MAX,
  LOG_LINES_MAX,
  LOST_ATTEMPTS_MAX,
  REQUEST_DEADLINE_MS,
} from './limits.ts';
import type { AttemptResult, LeaseToken } from './messages.ts';
import type { Clock, Log, Network, Random } from './ports.ts';
import { Queue } from './queue.ts';
import { isTerminal, type LogLine, type LogRecord, type Placement, type TaskRecord } from './records.ts';

/** A grant to a worker. Its token is `(feed_id, epoch, attempt)` of the task. */
export interface GivenLease {
  attempt: number;
  peer_id: string;
  worker_id: string;
  /** Monotonic: when it was given, or last named by a beat of the worker's peer. */
  confirmed_at: number;
}

export interface LiveTask {
  record: TaskRecord;
  payload_bytes: number;
  lease: GivenLease | null;
  /** True once the task's first row is on disk: only then may a lease go out before its own row (P1). */
  durable: boolean;
  /** Ids of tasks that must complete first. */
  blockers: Set<string>;
  lost_attempts: number;
  log: LogRecord | null;
}

export interface TaskHooks {
  /** A task has ended: its row is already put. */
  onEnded(turn: Turn, record: TaskRecord): void;
  /** A task began or ended to wait for a person. */
  onWaiting(turn: Turn, record: TaskRecord): void;
  turn(work: (turn: Turn) => void): void;
  dispatchSoon(): void;
}

export class Tasks {
  readonly queue = new Queue();
  readonly live = new Map<string, LiveTask>();
  private readonly uids = new Map<string, string>();
  private readonly due: DueTimes;
  private readonly clock: Clock;
  private readonly random: Random;
  private readonly network: Network;
  private readonly directory: Directory;
  private readonly log: Log;
  private readonly hooks: TaskHooks;
  /** Moving average of execution times, for estimates; null before the first. */
  private meanExecutionMs: number | null = null;
  private runningCount = 0;
  /** Tasks that wait, and whose row does not say why yet. */
  private readonly unwrittenReasons = new Set<string>();

  constructor(
    components: { clock: Clock; random: Random; network: Network; directory: Directory; log: Log },
    hooks: TaskHooks,
  ) {
    this.clock = components.clock;
    this.random = components.random;
    this.network = components.network;
    this.directory = components.directory;
    this.log = components.log;
    this.hooks = hooks;
    this.due = new DueTimes(this.clock, (uid) => this.hooks.turn((turn) => this.onDue(turn, uid)));
  }

  now(): string {
    return isoTime(this.clock.wall());
  }

  byAlias(taskId: string): LiveTask | undefined {
    const uid = this.uids.get(taskId);
    return uid === undefined ? undefined : this.live.get(uid);
  }

  /** A new task: written, and queued unless it has to wait for something. */
  create(turn: Turn, record: TaskRecord, payloadBytes: number, blockers: Iterable<string> = []): LiveTask {
    const task: LiveTask = {
      record,
      payload_bytes: payloadBytes,
      lease: null,
      durable: false,
      blockers: new Set(blockers),
      lost_attempts: 0,
      log: null,
    };
    this.adopt(task);
    turn.put(record);
    turn.after(() => {
      task.durable = true;
    });
    this.enqueue(turn, task);
    return task;
  }

  /** Takes up a task read from the store; `resume` lets it go on, once everything is read. */
  restore(record: TaskRecord, payloadBytes: number, blockers: Iterable<string>, log: LogRecord | null): void {
    this.adopt({
      record,
      payload_bytes: payloadBytes,
      lease: null,
      durable: true,
      blockers: new Set(blockers),
      lost_attempts: 0,
      log,
    });
  }

  resume(turn: Turn): void {
    for (const task of [...this.live.values()]) {
      const { record } = task;
      if (this.live.get(record.uid) !== task || task.lease !== null || this.queue.has(record.uid)) continue;
      if (record.status === 'running' && record.worker_id !== null && record.peer_id !== null) {
        this.resumeLease(task, record.peer_id, record.worker_id);
      } else if (record.status === 'running') {
        if (record.due_at !== null) this.due.set(record.uid, wallMs(record.due_at));
      } else if (record.status === 'queued') {
        // A lease of the next attempt may have gone out before its row was durable: its number is not used again.
        if (!record.at_most_once && task.durable) task.record = { ...record, attempt: record.attempt + 1 };
        this.enqueue(turn, task);
      }
    }
  }

  /** The worker may still run it, or keep its result: its beats will say, or their silence. */
  private resumeLease(task: LiveTask, peer_id: string, worker_id: string): void {
    const { uid, attempt } = task.record;
    task.lease = { attempt, peer_id, worker_id, confirmed_at: this.clock.now() };
    this.directory.leaseGiven(peer_id, worker_id, uid);
  }

  private adopt(task: LiveTask): void {
    this.live.set(task.record.uid, task);
    if (task.record.status === 'running') this.runningCount++;
    this.uids.set(task.record.task_id, task.record.uid);
  }

  clear(): void {
    for (const task of this.live.values()) this.dropLease(task, false);
    for (const uid of this.queue.uids()) this.queue.remove(uid);
    this.live.clear();
    this.unwrittenReasons.clear();
    this.runningCount = 0;
    this.uids.clear();
    this.due.clear();
  }

  /** Puts a queued task where it waits: for its dependencies, for its time, or in the queue. */
  private enqueue(turn: Turn, task: LiveTask): void {
    const { record } = task;
    const now = this.clock.wall();
    const deadline = record.deadline_at === null ? null : wallMs(record.deadline_at);
    if (deadline !== null && deadline <= now) {
      this.fail(turn, task, deadlineError(record), false);
      return;
    }
    if (task.blockers.size > 0) {
      if (deadline !== null) this.due.set(record.uid, deadline);
      return;
    }
    const due = record.due_at === null ? now : wallMs(record.due_at);
    if (due > now) {
      this.due.set(record.uid, deadline === null ? due : Math.min(due, deadline));
      return;
    }
    if (deadline !== null) this.due.set(record.uid, deadline);
    else this.due.delete(record.uid);
    this.queue.add(record);
    this.hooks.dispatchSoon();
  }

  private onDue(turn: Turn, uid: string): void {
    const task = this.live.get(uid);
    if (task === undefined) return;
    const { record } = task;
    if (record.status === 'queued') this.enqueue(turn, task);
    else if (record.status === 'running' && record.task_type === 'sleep') {
      this.finish(turn, task, { status: 'completed', output: { slept_until: record.due_at } });
    }
  }

  /** @throws InvalidStateError when it has ended */
  mustBeLive(uid: string): LiveTask {
    const task = this.live.get(uid);
    if (task === undefined) throw new InvalidStateError('the task has just ended; read its result');
    return task;
  }

  /** Takes the leases of a peer back, but those of `at_most_once` tasks, which stay with it. */
  takeBack(turn: Turn, peer: string): number {
    let count = 0;
    for (const task of [...this.live.values()]) {
      if (task.lease?.peer_id !== peer || task.record.at_most_once) continue;
      this.endAtWorker(turn, task, task.lease, false, 'the owner disconnects');
      this.dropLease(task, true);
      this.requeue(turn, task);
      count++;
    }
    return count;
  }

  change(turn: Turn, task: LiveTask, changes: Partial<TaskRecord>): void {
    const wasRunning = task.record.status === 'running';
    task.record = { ...task.record, ...changes };
    this.runningCount += Number(task.record.status === 'running') - Number(wasRunning);
    this.unwrittenReasons.delete(task.record.uid);
    turn.put(task.record);
  }

  /** A lease goes to a worker. */
  leased(turn: Turn, task: LiveTask, placement: Placement & { chosen: NonNullable<Placement['chosen']> }): void {
    const { record } = task;
    this.queue.remove(record.uid);
    this.due.delete(record.uid);
    const { peer_id, worker_id } = placement.chosen;
    const attempt = record.attempt + 1;
    task.lease = { attempt, peer_id, worker_id, confirmed_at: this.clock.now() };
    this.directory.leaseGiven(peer_id, worker_id, record.uid);
    this.change(turn, task, { ...this.started(record), attempt, peer_id, worker_id, placement, due_at: null });
  }

  /** A task that is a state of its record, not a lease, begins: `sleep`, `approve`, `workflow`. */
  begin(turn: Turn, task: LiveTask, status: 'running' | 'input_required', dueAt: string | null): void {
    this.queue.remove(task.record.uid);
    const placement: Placement = {
      considered: 0,
      chosen: null,
      reason: `${task.record.task_type} is kept by the owner and holds no slot`,
      found_by: null,
    };
    const attempt = task.record.attempt + 1;
    this.change(turn, task, {
      ...this.started(task.record),
      status,
      attempt,
      peer_id: this.network.self,
      worker_id: null,
      placement,
      due_at: dueAt,
    });
    if (dueAt === null) this.due.delete(task.record.uid);
    else this.due.set(task.record.uid, wallMs(dueAt));
    if (status === 'input_required') this.hooks.onWaiting(turn, task.record);
  }

  /** `approve`: what is asked (`message` of its payload) is kept where people look. */
  waitForPerson(turn: Turn, task: LiveTask): void {
    this.begin(turn, task, 'input_required', null);
    const { message } = task.record.payload;
    if (typeof message === 'string') {
      this.change(turn, task, { progress_message: message.slice(0, LOG_LINE_CHARS_MAX) });
    }
  }

  private started(record: TaskRecord): Partial<TaskRecord> {
    const now = this.now();
    return {
      status: 'running',
      started_at: now,
      wait_ms: record.wait_ms ?? Math.max(wallMs(now) - wallMs(record.queued_at), 0),
    };
  }

  /** Why a task still waits, kept with it. */
  waits(task: LiveTask, considered: number, reason: string): void {
    const known = task.record.placement;
    if (known?.reason === reason && known.considered === considered) return;
    task.record = { ...task.record, placement: { considered, chosen: null, reason, found_by: null } };
    // Not worth a row for every task that waits a moment: `writeReasons` writes what still waits at the next beat.
    this.unwrittenReasons.add(task.record.uid);
  }

  writeReasons(turn: Turn): void {
    for (const uid of this.unwrittenReasons) {
      const task = this.live.get(uid);
      if (task !== undefined) turn.put(task.record);
    }
    this.unwrittenReasons.clear();
  }

  /** A worker gave a lease back. */
  refused(turn: Turn, peer: string, token: LeaseToken, reason: 'busy' | 'unable' | 'handed_back'): void {
    const task = this.live.get(token.uid);
    if (task?.lease === null || task?.lease.attempt !== token.attempt || task.lease.peer_id !== peer) return;
    if (reason === 'handed_back' && task.record.at_most_once) {
      this.lost(turn, task);
      return;
    }
    this.dropLease(task, true);
    this.requeue(turn, task);
  }

  private requeue(turn: Turn, task: LiveTask, dueAt: string | null = null): void {
    this.change(turn, task, { status: 'queued', peer_id: null, worker_id: null, due_at: dueAt });
    this.enqueue(turn, task);
  }

  /** The attempt is gone with its worker. */
  lost(turn: Turn, task: LiveTask): void {
    const lease = task.lease;
    if (lease === null) return;
    this.dropLease(task, false);
    this.log.warn({ task_id: task.record.task_id, peer_id: lease.peer_id, attempt: lease.attempt }, 'lease lost');
    const error = new FlowmeshError(
      'WORKER_LOST',
      `worker ${lease.worker_id} on peer ${lease.peer_id} was lost while it ran attempt ${lease.attempt}`,
      { retryable: true },
    ).toShape();
    task.lost_attempts++;
    if (task.record.at_most_once || task.lost_attempts > LOST_ATTEMPTS_MAX) {
      this.fail(turn, task, error, true); // P4
      return;
    }
    task.record = { ...task.record, attempts: this.history(task.record, error) };
    this.requeue(turn, task);
  }

  /** What ran at a peer that is known to run none of it any more, such as this one when its process starts. */
  loseLeasesOf(turn: Turn, peer: string): void {
    for (const task of [...this.live.values()]) if (task.lease?.peer_id === peer) this.lost(turn, task);
  }

  /** Looks for leases that their worker has not named for `silentMs`. */
  sweep(turn: Turn, silentMs: number): void {
    const now = this.clock.now();
    for (const task of this.live.values()) {
      if (task.lease !== null && now - task.lease.confirmed_at > silentMs) this.lost(turn, task);
    }
  }

  /**
   * A beat named the leases that a peer holds. Confirms ours; returns those that are not current, to be cancelled.
   */
  confirm(peer: string, held: readonly LeaseToken[]): LeaseToken[] {
    const stale: LeaseToken[] = [];
    const now = this.clock.now();
    for (const token of held) {
      const task = this.live.get(token.uid);
      if (task?.lease?.attempt === token.attempt && task.lease.peer_id === peer) task.lease.confirmed_at = now;
      else if (task === undefined) stale.push(token); // ended here: also its kept result is of no use
    }
    return stale;
  }

  private dropLease(task: LiveTask, kept: boolean): void {
    const lease = task.lease;
    if (lease === null) return;
    task.lease = null;
    this.directory.leaseEnded(lease.peer_id, lease.worker_id, task.record.uid, kept, this.clock.now());
    this.hooks.dispatchSoon();
  }

  /** The end of an attempt, told by its worker. What is stale is dropped: the worker may forget it (P3). */
  result(turn: Turn, peer: string, result: AttemptResult): void {
    const task = this.live.get(result.uid);
    if (task === undefined) return;
    const { lease } = task;
    const current = lease !== null && lease.attempt === result.attempt && lease.peer_id === peer;
    if (!current && (result.status !== 'completed' || result.attempt > task.record.attempt)) return;
    if (!current && task.record.task_type === 'approve') return;
    this.appendLog(turn, task, result.lines, result.dropped_lines);
    if (!current && lease !== null) this.endAtWorker(turn, task, lease, true, 'an earlier attempt has succeeded');
    this.dropLease(task, true);
    const execution_time_ms = result.execution_time_ms;
    this.meanExecutionMs =
      this.meanExecutionMs === null ? execution_time_ms : this.meanExecutionMs * 0.9 + execution_time_ms * 0.1;
    if (result.status === 'completed') {
      this.finish(turn, task, {
        status: 'completed',
        output: result.output,
        execution_time_ms,
        attempt: result.attempt,
        ...(!current && { peer_id: peer }),
      });
      return;
    }
    const error =
      result.error ??
      new FlowmeshError('CANCELLED_BY_WORKER', 'the worker ended it without being asked', {
        retryable: true,
      }).toShape();
    task.record = { ...task.record, execution_time_ms };
    this.attemptFailed(turn, task, error);
  }

  /** Retries or ends a task whose action failed. */
  attemptFailed(turn: Turn, task: LiveTask, error: ErrorShape): void {
    const failures = task.record.failures + 1;
    const { retry } = task.record;
    task.record = { ...task.record, failures, attempts: this.history(task.record, error) };
    if (!error.retryable || failures > retry.max_retries) {
      this.fail(turn, task, error, true);
      return;
    }
    const delay = retryDelayMs(retry, failures, this.random.next());
    this.requeue(turn, task, isoTime(this.clock.wall() + delay));
  }

  private history(record: TaskRecord, error: ErrorShape): TaskRecord['attempts'] {
    const entry = { attempt: record.attempt, peer_id: record.peer_id, ended_at: this.now(), error };
    return [...record.attempts, entry].slice(-ATTEMPT_HISTORY_MAX);
  }

  /** @param deadLetter true when it was tried and its retries are used up */
  fail(turn: Turn, task: LiveTask, error: ErrorShape, deadLetter: boolean): void {
    this.finish(turn, task, { status: 'failed', error, dead_letter: deadLetter });
  }

  finish(
    turn: Turn,
    task: LiveTask,
    changes: Partial<TaskRecord> & { status: 'completed' | 'failed' | 'cancelled'; output?: JsonValue },
  ): void {
    const ended_at = this.now();
    const { started_at } = task.record;
    const measured = changes.execution_time_ms ?? task.record.execution_time_ms;
    this.dropLease(task, changes.status === 'completed');
    this.queue.remove(task.record.uid);
    this.due.delete(task.record.uid);
    this.change(turn, task, {
      ...changes,
      ended_at,
      progress: changes.status === 'completed' ? 100 : task.record.progress,
      execution_time_ms: measured ?? (started_at === null ? null : Math.max(wallMs(ended_at) - wallMs(started_at), 0)),
      due_at: null,
    });
    this.live.delete(task.record.uid);
    this.uids.delete(task.record.task_id);
    this.hooks.onEnded(turn, task.record);
  }

  /** Ends a task for a client. Its worker is told once the cancel is durable. */
  cancel(turn: Turn, task: LiveTask, reason: string | undefined, force: boolean): boolean {
    const wasRunning = task.lease !== null;
    if (task.lease !== null) this.endAtWorker(turn, task, task.lease, force, reason ?? 'cancelled');
    const message = reason === undefined ? 'cancelled by a client' : `cancelled: ${reason}`;
    this.finish(turn, task, { status: 'cancelled', error: { code: 'CANCELLED', message, retryable: false } });
    return wasRunning;
  }

  private endAtWorker(turn: Turn, task: LiveTask, lease: GivenLease, force: boolean, reason: string): void {
    const token = this.tokenOf(task.record, lease.attempt);
    turn.after(() => this.tellCancel(lease.peer_id, [{ ...token, force, reason: reason.slice(0, 1_024) }]));
  }

  tellCancel(peer: string, items: (LeaseToken & { force: boolean; reason: string })[]): void {
    if (items.length === 0) return;
    this.network.request(peer, 'cancel', { items }, REQUEST_DEADLINE_MS).catch((cause: unknown) => {
      // The next beat that names the lease has it cancelled again.
      this.log.debug({ peer, cause }, 'a cancel was not answered');
    });
  }

  /** Set by the scheduler: the feed that leases belong to. */
  feed: { feed_id: string; epoch: number } = { feed_id: '', epoch: 0 };

  tokenOf(record: TaskRecord, attempt: number): LeaseToken {
    return { uid: record.uid, feed_id: this.feed.feed_id, epoch: this.feed.epoch, attempt };
  }

  progress(
    turn: Turn,
    peer: string,
    item: LeaseToken & { percent: number | null; message: string | null; lines: LogLine[] },
  ): void {
    const task = this.live.get(item.uid);
    if (task?.lease?.attempt !== item.attempt || task.lease.peer_id !== peer) return;
    task.lease.confirmed_at = this.clock.now();
    this.appendLog(turn, task, item.lines, 0);
    if (item.percent !== null) this.change(turn, task, { progress: item.percent, progress_message: item.message });
  }

  private appendLog(turn: Turn, task: LiveTask, lines: readonly LogLine[], dropped: number): void {
    if (lines.length === 0 && dropped === 0) return;
    const uid = `${task.record.uid}/log`;
    const known = task.log ?? { kind: 'log', uid, task_uid: task.record.uid, lines: [], dropped_lines: 0 };
    const all = [...known.lines, ...lines];
    const surplus = Math.max(all.length - LOG_LINES_MAX, 0);
    task.log = { ...known, lines: all.slice(surplus), dropped_lines: known.dropped_lines + surplus + dropped };
    turn.put(task.log);
  }

  /** A dependency has ended. */
  unblock(turn: Turn, uid: string, dependency: string, status: string): void {
    const task = this.live.get(uid);
    if (task === undefined || !task.blockers.delete(dependency)) return;
    if (status !== 'completed') {
      const message = `the task "${dependency}" it depends on is ${status}`;
      this.fail(turn, task, { code: 'DEPENDENCY_FAILED', message, retryable: false }, false);
    } else if (task.blockers.size === 0) {
      this.enqueue(turn, task);
    }
  }

  setPriority(turn: Turn, task: LiveTask, priority: number, requeue: boolean): void {
    this.change(turn, task, { priority });
    if (requeue && this.queue.has(task.record.uid)) this.enqueue(turn, task);
  }

  /** Sorts the waiting tasks by their priorities of now; true when that changed anything. */
  reorder(): boolean {
    const position = (uid: string) => this.queue.position(uid);
    let changed = false;
    for (const uid of this.queue.uids()) {
      const before = position(uid);
      this.queue.add(this.live.get(uid)!.record);
      if (position(uid) !== before) changed = true;
    }
    return changed;
  }

  /** Seconds-level guess of when a task at this position starts, from measured execution times. */
  estimateStart(position: number | null, slots: number): string {
    const wait =
      position === null || this.meanExecutionMs === null ? 0 : (position / Math.max(slots, 1)) * this.meanExecutionMs;
    return isoTime(this.clock.wall() + Math.round(wait));
  }

  get counts(): { queued: number; running: number } {
    return { queued: this.live.size - this.runningCount, running: this.runningCount };
  }

  isLive(uid: string): boolean {
    const task = this.live.get(uid);
    return task !== undefined && !isTerminal(task.record.status);
  }
}

function deadlineError(record: TaskRecord): ErrorShape {
  return {
    code: 'DEADLINE_EXCEEDED',
    message: `it had not started at its deadline ${record.deadline_at}; submit it again with a later one`,
    retryable: false,
  };
}
