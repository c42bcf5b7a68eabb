/**
 * The owner's side of tasks: their life from queued to ended, as changes of rows.
 *
 * 1. A task that ended leaves memory; its record never changes status again (P5).
 * 2. The current lease commits anything; an earlier one commits a success only, and the current one is then
 *    cancelled (P3).
 * 3. A lost attempt of an ordinary task is repeated; of an `at_most_once` task it is the end: WORKER_LOST (P4).
 * 4. In a feed that has had another owner no `at_most_once` task is started: that one may have done it (P4).
 */
import { RECORD_ACTIONS } from '../../dag/actions.ts';
import { type ErrorShape, FlowmeshError } from '../../dag/errors.ts';
import { askedDelayMs, retryDelayMs } from '../../dag/retry.ts';
import { InvalidStateError } from '../errors.ts';
import { contentHash, isoTime, wallMs } from '../ids.ts';
import {
  LOG_LINE_CHARS_MAX,
  LOST_ATTEMPTS_MAX,
  OFFERED_RESULTS_MAX,
  POISON_CRASHES,
  POLICY_REFUSALS_MAX,
} from '../limits.ts';
import type { Directory, LeaseEnd } from '../membership/peer-table.ts';
import type { AttemptResult, LeaseToken } from '../messages.ts';
import type { Clock, Log, Network, Random } from '../ports.ts';
import type { LogLine, LogRecord, Placement, TaskRecord } from '../records.ts';
import { recordText } from '../sizes.ts';
import { setAside } from '../storage/aliases.ts';
import type { Turn } from '../storage/journal.ts';
import { LiveRecords } from '../storage/live-records.ts';
import { withLines } from '../worker/task-log.ts';
import type { WorkerPool } from '../worker/worker-pool.ts';
import { Leases } from './leases.ts';
import { type LiveTask, liveTask } from './live-task.ts';
import { Queue } from './queue.ts';
import { TimerQueue } from './timer-queue.ts';
import {
  deadlineError,
  ended,
  isOverdue,
  isPolicyRefusal,
  keptByOwner,
  mayHaveRun,
  neverStarted,
  ownerLost,
  poisonError,
  recordTooLarge,
  started,
  type TaskEnd,
  timeoutError,
  withAttempt,
  workerLost,
} from './transitions.ts';

export interface TaskHooks {
  /** A task has ended: its row is already put. */
  onEnded(turn: Turn, record: TaskRecord): void;
  /** A task of a workflow has begun, or its lease was refused before it had. */
  onBegun(turn: Turn, record: TaskRecord): void;
  onNeverBegun(turn: Turn, record: TaskRecord): void;
  /** A task began to wait for a person, or ceased to without having ended. */
  onWaiting(turn: Turn, record: TaskRecord): void;
  /** A nested workflow has taken longer than its task may. */
  onNestedTimeout(turn: Turn, record: TaskRecord): void;
  turn(work: (turn: Turn) => void): void;
  dispatchSoon(): void;
}

/** The feed that the tasks live in. */
export interface TaskFeed {
  feed_id: string;
  epoch: number;
  /** It has had another owner, which may have started any of its tasks. */
  passed_on: boolean;
}

export class Tasks {
  readonly queue = new Queue();
  readonly live = new LiveRecords<LiveTask>();
  private readonly timers: TimerQueue;
  private readonly clock: Clock;
  private readonly random: Random;
  private readonly network: Network;
  private readonly directory: Directory;
  private readonly pool: Pick<WorkerPool, 'needsOf'>;
  private readonly log: Log;
  private readonly hooks: TaskHooks;
  private readonly feed: TaskFeed;
  readonly leases: Leases;
  /** Moving average of execution times, for estimates; null before the first. */
  private meanExecutionMs: number | null = null;
  private readonly counted = { queued: 0, running: 0 };
  /** Tasks that wait, and whose row does not say why yet. */
  private readonly unwrittenReasons = new Set<string>();
  /** Tasks that have succeeded in another history of the feed, until they are made in this one. */
  private readonly offered = new Map<string, TaskRecord>();

  constructor(
    components: {
      clock: Clock;
      random: Random;
      network: Network;
      directory: Directory;
      pool: Pick<WorkerPool, 'needsOf'>;
      log: Log;
    },
    feed: TaskFeed,
    options: { beat_interval_ms: number },
    hooks: TaskHooks,
  ) {
    this.clock = components.clock;
    this.directory = components.directory;
    this.pool = components.pool;
    this.random = components.random;
    this.network = components.network;
    this.log = components.log;
    this.hooks = hooks;
    this.feed = feed;
    this.leases = new Leases(components, feed, options);
    this.timers = new TimerQueue(this.clock, (uid) => this.hooks.turn((turn) => this.onDue(turn, uid)));
  }

  now(): string {
    return isoTime(this.clock.wall());
  }

  /** A new task: written, and queued unless it has to wait for something. */
  create(turn: Turn, record: TaskRecord, payloadBytes: number, blockers: Iterable<string> = []): LiveTask {
    const task = liveTask(record, payloadBytes, blockers, { durable: false, log: null, needs: this.needsOf(record) });
    this.keep(task);
    turn.put(record);
    turn.after(() => {
      task.durable = true;
    });
    this.enqueue(turn, task);
    return task;
  }

  /** Loads a task that was read from the store; `resume` lets it go on, once everything is read. */
  restore(record: TaskRecord, payloadBytes: number, blockers: Iterable<string>, log: LogRecord | null): void {
    this.keep(liveTask(record, payloadBytes, blockers, { durable: true, log, needs: this.needsOf(record) }));
  }

  resume(turn: Turn): void {
    for (const task of [...this.live.values()]) {
      const { record } = task;
      if (this.live.get(record.uid) !== task || task.lease !== null || this.queue.has(record.uid)) continue;
      const { attempt, peer_id, worker_id } = record;
      if (record.status === 'running' && worker_id !== null && peer_id !== null) {
        this.leases.readopt(task, { attempt, epoch: record.lease_epoch ?? this.feed.epoch, peer_id, worker_id });
      } else if (record.status === 'running' || record.status === 'input_required') {
        if (record.due_at !== null) this.timers.set(record.uid, wallMs(record.due_at));
      } else if (record.status === 'queued') {
        // A lease of the next attempt may have gone out before its row was durable: its number is not used again.
        if (!record.at_most_once && task.durable) task.record = { ...record, attempt: record.attempt + 1 };
        this.enqueue(turn, task);
      }
    }
  }

  private needsOf({ task_type, payload }: TaskRecord): readonly string[] {
    return this.pool.needsOf(task_type, payload);
  }

  private keep(task: LiveTask): void {
    this.live.add(task);
    this.count(task.record.status, 1);
  }

  clear(): void {
    this.leases.clear();
    this.queue.clear();
    this.live.clear();
    this.unwrittenReasons.clear();
    this.counted.queued = 0;
    this.counted.running = 0;
    this.timers.clear();
    this.offered.clear();
  }

  /** Puts a queued task where it waits: for its dependencies, for its time, or in the queue. */
  private enqueue(turn: Turn, task: LiveTask): void {
    const { record } = task;
    const now = this.clock.wall();
    const offer = this.offered.get(record.uid);
    if (offer !== undefined && this.succeed(turn, task, offer)) return;
    if (record.at_most_once && this.feed.passed_on) {
      this.fail(turn, task, ownerLost(record), true); // P4
      return;
    }
    const deadline = record.deadline_at === null ? null : wallMs(record.deadline_at);
    if (deadline !== null && deadline <= now) {
      this.fail(turn, task, deadlineError(record), false);
      return;
    }
    if (task.blockers.size > 0) {
      if (deadline !== null) this.timers.set(record.uid, deadline);
      return;
    }
    const due = record.due_at === null ? now : wallMs(record.due_at);
    if (due > now) {
      this.timers.set(record.uid, deadline === null ? due : Math.min(due, deadline));
      return;
    }
    if (deadline !== null) this.timers.set(record.uid, deadline);
    else this.timers.delete(record.uid);
    // One that only moves in the queue goes on waiting.
    if (!this.queue.has(record.uid)) task.ready_at = this.clock.now();
    this.queue.add(record, task);
    this.hooks.dispatchSoon();
  }

  private onDue(turn: Turn, uid: string): void {
    const task = this.live.get(uid);
    if (task === undefined) return;
    const { record } = task;
    if (record.status === 'queued') {
      this.enqueue(turn, task);
    } else if (record.task_type === 'sleep' && !isOverdue(record)) {
      this.finish(turn, task, { status: 'completed', output: { slept_until: record.due_at } });
    } else if (record.task_type === 'workflow') {
      this.hooks.onNestedTimeout(turn, record);
    } else {
      this.attemptFailed(turn, task, timeoutError(record));
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
    for (const task of this.leases.of(peer)) {
      if (task.record.at_most_once) continue;
      this.leases.callBack(turn, task, false, 'the owner disconnects');
      this.endLease(task, 'given_up');
      this.requeue(turn, task);
      count++;
    }
    return count;
  }

  change(turn: Turn, task: LiveTask, changes: Partial<TaskRecord>): void {
    this.count(task.record.status, -1);
    task.record = { ...task.record, ...changes };
    this.count(task.record.status, 1);
    this.unwrittenReasons.delete(task.record.uid);
    turn.put(task.record);
  }

  private count(status: TaskRecord['status'], change: 1 | -1): void {
    if (status === 'queued' || status === 'running') this.counted[status] += change;
  }

  /** A lease goes to a worker; `leases.sent` follows when it does. */
  leased(turn: Turn, task: LiveTask, placement: Placement & { chosen: NonNullable<Placement['chosen']> }): void {
    const { record } = task;
    this.queue.remove(record.uid);
    this.timers.delete(record.uid);
    const { peer_id, worker_id } = placement.chosen;
    const attempt = record.attempt + 1;
    const { epoch } = this.feed;
    this.leases.give(task, { attempt, epoch, peer_id, worker_id, restored: false });
    const lease = { attempt, lease_epoch: epoch, peer_id, worker_id, placement };
    this.change(turn, task, { ...started(record, this.now()), ...lease, due_at: null });
    this.hooks.onBegun(turn, task.record);
  }

  /**
   * A task that is a state of its record, not a lease, begins: `sleep`, `approve`, `workflow`.
   * @param lastsMs how long it lasts by itself; null: until something else ends it. Its timeout may be sooner.
   */
  begin(turn: Turn, task: LiveTask, status: 'running' | 'input_required', lastsMs: number | null): void {
    const dueMs = Math.min(lastsMs ?? Number.POSITIVE_INFINITY, task.record.timeout_ms ?? Number.POSITIVE_INFINITY);
    const dueAt = dueMs === Number.POSITIVE_INFINITY ? null : isoTime(this.clock.wall() + dueMs);
    this.queue.remove(task.record.uid);
    this.change(turn, task, { ...keptByOwner(task.record, this.network.self, this.now()), status, due_at: dueAt });
    this.hooks.onBegun(turn, task.record);
    if (dueAt === null) this.timers.delete(task.record.uid);
    else this.timers.set(task.record.uid, wallMs(dueAt));
    if (status === 'input_required') this.hooks.onWaiting(turn, task.record);
  }

  /** `approve`: what is asked is kept where people look. */
  waitForPerson(turn: Turn, task: LiveTask, { message }: { message?: string | undefined }): void {
    this.begin(turn, task, 'input_required', null);
    if (message !== undefined) {
      this.change(turn, task, { progress_message: message.slice(0, LOG_LINE_CHARS_MAX) });
    }
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
    if (task === undefined || !this.leases.isFrom(peer, task, token)) return;
    if (reason === 'handed_back' && task.record.at_most_once) {
      this.lost(turn, task);
      return;
    }
    this.endLease(task, 'given_up');
    if (reason === 'handed_back') this.requeue(turn, task);
    else this.neverBegan(turn, task);
  }

  private requeue(turn: Turn, task: LiveTask, dueAt: string | null = null): void {
    const waited = task.record.status === 'input_required';
    this.change(turn, task, { status: 'queued', peer_id: null, worker_id: null, lease_epoch: null, due_at: dueAt });
    if (waited) this.hooks.onWaiting(turn, task.record);
    this.enqueue(turn, task);
  }

  /** The attempt is gone with its worker. */
  lost(turn: Turn, task: LiveTask): void {
    const lease = task.lease;
    if (lease === null) return;
    this.endLease(task, 'lost');
    this.log.warn({ task_id: task.record.task_id, peer_id: lease.peer_id, attempt: lease.attempt }, 'lease lost');
    const error =
      this.feed.passed_on && task.record.at_most_once ? ownerLost(task.record) : workerLost(lease, task.record);
    task.lost_attempts++;
    if (task.record.at_most_once || task.lost_attempts > LOST_ATTEMPTS_MAX) {
      this.fail(turn, task, error, true); // P4
      return;
    }
    task.record = { ...task.record, attempts: withAttempt(task.record, error, this.now()) };
    this.requeue(turn, task);
  }

  /** What ran at a peer that is known to run none of it any more, such as this one when its process starts. */
  loseLeasesOf(turn: Turn, peer: string): void {
    for (const task of this.leases.of(peer)) this.lost(turn, task);
  }

  /** What ran at a peer and is not among what it says it holds. */
  loseLeasesBut(turn: Turn, peer: string, held: readonly LeaseToken[]): void {
    const names = new Set(held.map(({ uid, attempt }) => `${uid} ${attempt}`));
    for (const task of this.leases.of(peer)) {
      if (!names.has(`${task.record.uid} ${task.lease!.attempt}`)) this.lost(turn, task);
    }
  }

  /** True when `sweep` would find something. */
  mustSweep(takeoverMs: number): boolean {
    return this.leases.silent(takeoverMs).length > 0 || this.leases.overdue().length > 0;
  }

  /** Looks for leases whose workers are gone, and for those whose workers do not keep their timeouts. */
  sweep(turn: Turn, takeoverMs: number): void {
    for (const task of this.leases.silent(takeoverMs)) this.lost(turn, task);
    for (const task of this.leases.overdue()) this.overdue(turn, task);
  }

  /** Its worker holds it longer than it may: the attempt has failed, whatever the worker does. */
  private overdue(turn: Turn, task: LiveTask): void {
    const { peer_id, attempt } = task.lease!;
    this.log.warn({ task_id: task.record.task_id, peer_id, attempt }, 'a worker has not kept a timeout');
    this.leases.callBack(turn, task, true, 'it ran longer than timeout_ms');
    this.endLease(task, 'lost');
    this.attemptFailed(turn, task, timeoutError(task.record));
  }

  /** A beat named the leases that a peer holds. Returns those of tasks that are not open here. */
  confirm(peer: string, held: readonly LeaseToken[]): LeaseToken[] {
    return this.leases.confirm(peer, held, (uid) => this.live.get(uid));
  }

  private endLease(task: LiveTask, how: LeaseEnd): void {
    if (task.lease === null) return;
    this.leases.end(task, how);
    this.hooks.dispatchSoon();
  }

  /** The end of an attempt, told by its worker. What is stale is dropped: the worker may forget it (P3). */
  result(turn: Turn, peer: string, result: AttemptResult): void {
    const task = this.live.get(result.uid);
    if (task === undefined) return;
    if (result.crash !== undefined) {
      this.crashed(turn, peer, task, { ...result, crash: result.crash });
      return;
    }
    const current = this.isCurrent(task, peer, result);
    if (!current && (result.status !== 'completed' || !this.isUsable(task, result))) return;
    this.appendLog(turn, task, result.lines, result.dropped_lines);
    if (result.status === 'cancelled') {
      // An owner in a line that was given up wanted that: it says nothing of what the action would have done.
      this.lost(turn, task);
      return;
    }
    if (!current) this.leases.callBack(turn, task, true, 'an earlier attempt has succeeded');
    this.endLease(task, current ? 'kept' : 'given_up');
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
      new FlowmeshError('UNKNOWN_FAILURE', 'the worker did not say why it failed', { retryable: true }).toShape();
    if (current && isPolicyRefusal(task, error)) {
      this.refusedByPolicy(turn, task, peer, error);
      return;
    }
    task.record = { ...task.record, execution_time_ms };
    this.attemptFailed(turn, task, error);
  }

  /** The mesh loop of a peer crashed while it worked on an attempt. That may have been the task's doing, or another's. */
  private crashed(turn: Turn, peer: string, task: LiveTask, result: AttemptResult & { crash: string }): void {
    const { attempts, crashes = [] } = task.record;
    const current = this.leases.isFrom(peer, task, result);
    const hadIt = current || attempts.some(({ attempt, peer_id }) => attempt === result.attempt && peer_id === peer);
    if (!hadIt && peer !== this.network.self) return; // P9
    if (!crashes.includes(result.crash)) {
      this.change(turn, task, { crashes: [...crashes, result.crash].slice(-POISON_CRASHES) });
    }
    const count = task.record.crashes!.length;
    if (count >= POISON_CRASHES) {
      this.leases.callBack(turn, task, true, 'mesh loops crash while they work on it');
      this.fail(turn, task, poisonError(task.record, count), true);
    } else if (current) {
      this.lost(turn, task);
    }
  }

  /** A peer's policy refused the very task: others may allow it, and the first one is not asked again. */
  private refusedByPolicy(turn: Turn, task: LiveTask, peer: string, error: ErrorShape): void {
    task.barred = [...task.barred, this.directory.markOf(peer)].sort();
    task.refusal = error;
    if (task.barred.length >= POLICY_REFUSALS_MAX) {
      this.fail(turn, task, error, true);
      return;
    }
    this.neverBegan(turn, task);
  }

  /** Its lease was refused. */
  private neverBegan(turn: Turn, task: LiveTask): void {
    task.record = { ...task.record, ...neverStarted(task.record) };
    this.requeue(turn, task);
    if (task.record.started_at === null) this.hooks.onNeverBegun(turn, task.record);
  }

  private isCurrent(task: LiveTask, peer: string, result: AttemptResult): boolean {
    if (!this.leases.isFrom(peer, task, result)) return false;
    return result.granted_by === undefined || task.lease!.restored;
  }

  /** Whether the success of a lease that is not the current one is one of the task as it is now (P3). */
  private isUsable({ record }: LiveTask, result: AttemptResult): boolean {
    if (result.epoch === this.feed.epoch && result.granted_by === undefined) return mayHaveRun(record, result.attempt);
    return !RECORD_ACTIONS.has(record.task_type) && result.payload_hash === contentHash(record.payload);
  }

  /**
   * A task that succeeded in another history of this feed, with the same inputs: it has not to run again.
   * @returns false when this one has ended already, or is another piece of work
   */
  acceptResult(turn: Turn, record: TaskRecord): boolean {
    const task = this.live.get(record.uid);
    if (task !== undefined) return this.succeed(turn, task, record);
    this.offered.set(record.uid, record);
    if (this.offered.size > OFFERED_RESULTS_MAX) this.offered.delete(this.offered.keys().next().value!);
    return false;
  }

  private succeed(
    turn: Turn,
    task: LiveTask,
    { task_type, payload, output, peer_id, execution_time_ms }: TaskRecord,
  ): boolean {
    this.offered.delete(task.record.uid);
    const same = task_type === task.record.task_type && contentHash(payload) === contentHash(task.record.payload);
    if (!same) return false;
    this.leases.callBack(turn, task, true, 'it has succeeded on the other side of a partition');
    this.finish(turn, task, { status: 'completed', output, peer_id, execution_time_ms });
    return true;
  }

  /** Takes a task out of memory without an end: another history of it is written instead. */
  drop(turn: Turn, task: LiveTask): void {
    const { uid, status } = task.record;
    this.leases.callBack(turn, task, true, 'it has ended on the other side of a partition');
    this.endLease(task, 'given_up');
    this.queue.remove(uid);
    this.timers.delete(uid);
    this.unwrittenReasons.delete(uid);
    this.count(status, -1);
    this.live.delete(task);
  }

  /** Retries or ends a task whose action failed. */
  attemptFailed(turn: Turn, task: LiveTask, error: ErrorShape): void {
    const failures = task.record.failures + 1;
    const { retry } = task.record;
    task.record = { ...task.record, failures, attempts: withAttempt(task.record, error, this.now()) };
    // P4: an `at_most_once` task that was started once is not started again, whatever its retries say.
    if (!error.retryable || failures > retry.max_retries || task.record.at_most_once) {
      this.fail(turn, task, error, true);
      return;
    }
    const delay = retryDelayMs(retry, failures, this.random.next(), askedDelayMs(error));
    this.requeue(turn, task, isoTime(this.clock.wall() + delay));
  }

  /** @param deadLetter true when it was tried and its retries are used up */
  fail(turn: Turn, task: LiveTask, error: ErrorShape, deadLetter: boolean): void {
    this.finish(turn, task, { status: 'failed', error, dead_letter: deadLetter });
  }

  finish(turn: Turn, task: LiveTask, changes: TaskEnd): void {
    this.endLease(task, 'given_up');
    this.queue.remove(task.record.uid);
    this.timers.delete(task.record.uid);
    this.end(turn, task, changes);
    this.count(task.record.status, -1);
    this.live.delete(task);
    this.hooks.onEnded(turn, task.record);
  }

  private end(turn: Turn, task: LiveTask, changes: TaskEnd): void {
    const before = task.record;
    this.change(turn, task, ended(before, changes, this.now()));
    if (changes.status !== 'completed') return;
    const text = recordText(task.record);
    if (text !== null) turn.put(task.record, text);
    else this.change(turn, task, ended(before, recordTooLarge(changes), this.now()));
  }

  /** Ends a task for a client. Its worker is told once the cancel is durable. */
  cancel(turn: Turn, task: LiveTask, reason: string | undefined, force: boolean): boolean {
    const wasRunning = task.lease !== null;
    const message = reason === undefined ? 'cancelled by a client' : `cancelled: ${reason}`;
    this.leases.callBack(turn, task, force, reason ?? 'cancelled');
    this.finish(turn, task, { status: 'cancelled', error: { code: 'CANCELLED', message, retryable: false } });
    return wasRunning;
  }

  /** Another record keeps its id. */
  setAside(turn: Turn, task: LiveTask): void {
    const before = task.record.task_id;
    this.change(turn, task, setAside(task.record));
    this.live.renamed(before, task);
  }

  /** It is not wanted any more. */
  giveUp(turn: Turn, task: LiveTask, error: ErrorShape): void {
    this.leases.callBack(turn, task, false, error.message);
    this.finish(turn, task, { status: 'cancelled', error });
  }

  progress(
    turn: Turn,
    peer: string,
    item: LeaseToken & { percent: number | null; message: string | null; lines: LogLine[] },
  ): void {
    const task = this.live.get(item.uid);
    if (task === undefined || !this.leases.isFrom(peer, task, item)) return;
    this.leases.sent(task);
    this.appendLog(turn, task, item.lines, 0);
    if (item.percent !== null) this.change(turn, task, { progress: item.percent, progress_message: item.message });
  }

  private appendLog(turn: Turn, task: LiveTask, lines: readonly LogLine[], dropped: number): void {
    if (lines.length === 0 && dropped === 0) return;
    task.log = withLines(task.log, task.record.uid, lines, dropped);
    turn.put(task.log);
  }

  /** A dependency has ended. */
  unblock(turn: Turn, uid: string, dependency: string, status: string): void {
    const task = this.live.get(uid);
    if (task === undefined || !task.blockers.delete(dependency)) return;
    if (status !== 'completed') {
      const message = `the task "${dependency}" it depends on is ${status}`;
      this.fail(turn, task, { code: 'DEPENDENCY_FAILED', message, retryable: false }, false);
    } else if (task.blockers.size === 0 && task.record.status === 'queued') {
      this.enqueue(turn, task);
    }
  }

  setPriority(turn: Turn, task: LiveTask, priority: number, requeue: boolean): void {
    this.change(turn, task, { priority });
    if (requeue && this.queue.has(task.record.uid)) this.enqueue(turn, task);
  }

  /** Sorts the waiting tasks by their priorities of now; true when that changed anything. */
  reorder(): boolean {
    return this.queue.reorder((uid) => this.live.get(uid)!.record);
  }

  /** Seconds-level guess of when a task at this position starts, from measured execution times. */
  estimateStart(position: number | null, slots: number): string {
    const wait =
      position === null || this.meanExecutionMs === null ? 0 : (position / Math.max(slots, 1)) * this.meanExecutionMs;
    return isoTime(this.clock.wall() + Math.round(wait));
  }

  get counts(): { queued: number; running: number } {
    return { ...this.counted };
  }
}
