/**
 * The owner's side of tasks: their life from queued to ended, as changes of rows. What workers do with them meanwhile
 * is in `attempts.ts`.
 *
 * 1. A task that ended leaves memory; its record never changes status again (P5).
 * 2. In a feed that has had another owner no `at_most_once` task is started: that owner may have done so (P4).
 */
import type { ErrorShape } from '../../dag/errors.ts';
import { askedDelayMs, retryDelayMs } from '../../dag/retry.ts';
import { InvalidStateError } from '../errors.ts';
import { contentHash, isoTime, wallMs } from '../ids.ts';
import { LOG_LINE_CHARS_MAX, OFFERED_RESULTS_MAX } from '../limits.ts';
import type { LeaseEnd } from '../membership/peer-table.ts';
import type { Clock, Network, Random } from '../ports.ts';
import type { LogRecord, TaskRecord } from '../records.ts';
import type { Signatures } from '../signatures.ts';
import { recordText } from '../sizes.ts';
import { setAside } from '../storage/aliases.ts';
import type { FeedWriter, Turn } from '../storage/journal.ts';
import { LiveRecords } from '../storage/live-records.ts';
import type { WorkerPool } from '../worker/worker-pool.ts';
import type { Leases } from './leases.ts';
import { type LiveTask, liveTask } from './live-task.ts';
import { Queue } from './queue.ts';
import { TimerQueue } from './timer-queue.ts';
import {
  deadlineError,
  ended,
  type FailureOutcome,
  failureOutcome,
  isOverdue,
  keptByOwner,
  ownerLost,
  recordTooLarge,
  type TaskEnd,
  type TaskFeed,
  timeoutError,
} from './transitions.ts';

export interface TaskHooks {
  /** A task has ended: its row is already put. */
  onEnded(turn: Turn, record: TaskRecord): void;
  /** A task has begun. */
  onBegun(turn: Turn, record: TaskRecord): void;
  /** A task began to wait for a person, or stopped waiting without having ended. */
  onWaiting(turn: Turn, record: TaskRecord): void;
  /** A nested workflow has taken longer than its task may. */
  onNestedTimeout(turn: Turn, record: TaskRecord): void;
}

/** The tasks of one feed that have not ended. Methods that change a task are given the turn that writes the change. */
export class Tasks {
  /** The tasks that are ready for a worker. */
  readonly queue: Queue;
  readonly live = new LiveRecords<LiveTask>();
  readonly leases: Leases;
  readonly #timers: TimerQueue;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #network: Network;
  readonly #pool: Pick<WorkerPool, 'needsOf'>;
  readonly #signatures: Signatures;
  readonly #writer: FeedWriter;
  readonly #hooks: TaskHooks;
  readonly #feed: TaskFeed;
  /** Moving average of execution times, for estimates; null before the first. */
  #meanExecutionMs: number | null = null;
  readonly #counted = { queued: 0, running: 0 };
  /** Uids of waiting tasks whose row does not say yet why they wait. */
  readonly #unwrittenReasons = new Set<string>();
  /** By uid: tasks that succeeded in another history of the feed, until they are made in this one. */
  readonly #offered = new Map<string, TaskRecord>();

  constructor(parts: {
    clock: Clock;
    random: Random;
    network: Network;
    pool: Pick<WorkerPool, 'needsOf'>;
    leases: Leases;
    feed: TaskFeed;
    signatures: Signatures;
    writer: FeedWriter;
    hooks: TaskHooks;
    /** As of `Queue`. */
    weights: ReadonlyMap<string, number>;
  }) {
    this.queue = new Queue(parts.weights);
    this.#clock = parts.clock;
    this.#random = parts.random;
    this.#network = parts.network;
    this.#pool = parts.pool;
    this.leases = parts.leases;
    this.#feed = parts.feed;
    this.#writer = parts.writer;
    this.#signatures = parts.signatures;
    this.#hooks = parts.hooks;
    this.#timers = new TimerQueue(this.#clock, (uid) => this.#writer.turn((turn) => this.#onDue(turn, uid)));
  }

  /** The wall clock, as in records. */
  now(): string {
    return isoTime(this.#clock.wall());
  }

  /** A new task: written, and queued unless it has to wait for something. */
  create(turn: Turn, given: TaskRecord, payloadBytes: number, blockers: Iterable<string> = []): LiveTask {
    const record = given.workflow_uid === null ? this.#signatures.accepted(this.#feed.feed_id, given) : given;
    const task = liveTask(record, payloadBytes, blockers, { durable: false, log: null, needs: this.#needsOf(record) });
    this.#keep(task);
    turn.put(record);
    turn.after(() => {
      task.durable = true;
    });
    this.#enqueue(turn, task);
    return task;
  }

  /** Loads a task that was read from the store; `resume` lets it go on, once everything is read. */
  restore(record: TaskRecord, payloadBytes: number, blockers: Iterable<string>, log: LogRecord | null): void {
    this.#keep(liveTask(record, payloadBytes, blockers, { durable: true, log, needs: this.#needsOf(record) }));
  }

  /** Every task that was loaded goes on where its record says it is. */
  resume(turn: Turn): void {
    for (const task of [...this.live.values()]) {
      this.#signOld(turn, task);
      const { record } = task;
      if (this.live.get(record.uid) !== task || task.lease !== null || this.queue.has(record.uid)) continue;
      const { attempt, peer_id, worker_id } = record;
      if (record.status === 'running' && worker_id !== null && peer_id !== null) {
        this.leases.readopt(task, { attempt, epoch: record.lease_epoch ?? this.#feed.epoch, peer_id, worker_id });
      } else if (record.status === 'running' || record.status === 'input_required') {
        if (record.due_at !== null) this.#timers.set(record.uid, wallMs(record.due_at));
      } else if (record.status === 'queued') {
        // A lease of the next attempt may have gone out before its row was durable: that number is not used again.
        if (!record.at_most_once && task.durable) task.record = { ...record, attempt: record.attempt + 1 };
        this.#enqueue(turn, task);
      }
    }
  }

  /** A task from before the mesh was secured: this owner vouches for what is to be done. */
  #signOld(turn: Turn, task: LiveTask): void {
    if (task.record.workflow_uid !== null || task.record.signed !== undefined) return;
    const record = this.#signatures.accepted(this.#feed.feed_id, task.record);
    if (record.signed !== undefined) this.change(turn, task, { signed: record.signed });
  }

  #needsOf({ task_type, payload }: TaskRecord): readonly string[] {
    return this.#pool.needsOf(task_type, payload);
  }

  #keep(task: LiveTask): void {
    this.live.add(task);
    this.#count(task.record.status, 1);
  }

  /** Forgets everything: another peer owns the feed, or the feed is read again. */
  clear(): void {
    this.leases.clear();
    this.queue.clear();
    this.live.clear();
    this.#unwrittenReasons.clear();
    this.#counted.queued = 0;
    this.#counted.running = 0;
    this.#timers.clear();
    this.#offered.clear();
  }

  /** Puts a queued task where it waits: for its dependencies, for its time, or in the queue. */
  #enqueue(turn: Turn, task: LiveTask): void {
    const { record } = task;
    const now = this.#clock.wall();
    const offer = this.#offered.get(record.uid);
    if (offer !== undefined && this.#succeed(turn, task, offer)) return;
    if (record.at_most_once && this.#feed.passed_on) {
      this.fail(turn, task, ownerLost(record), true); // P4
      return;
    }
    const deadline = record.deadline_at === null ? null : wallMs(record.deadline_at);
    if (deadline !== null && deadline <= now) {
      this.fail(turn, task, deadlineError(record), false);
      return;
    }
    if (task.blockers.size > 0) {
      if (deadline !== null) this.#timers.set(record.uid, deadline);
      return;
    }
    const due = record.due_at === null ? now : wallMs(record.due_at);
    if (due > now) {
      this.#timers.set(record.uid, deadline === null ? due : Math.min(due, deadline));
      return;
    }
    if (deadline !== null) this.#timers.set(record.uid, deadline);
    else this.#timers.delete(record.uid);
    // A task that only moves in the queue has been waiting all along.
    if (!this.queue.has(record.uid)) task.ready_at = this.#clock.now();
    this.queue.add(record, task);
    this.#writer.dispatchSoon();
  }

  #onDue(turn: Turn, uid: string): void {
    const task = this.live.get(uid);
    if (task === undefined) return;
    const { record } = task;
    if (record.status === 'queued') {
      this.#enqueue(turn, task);
    } else if (record.task_type === 'sleep' && !isOverdue(record)) {
      this.finish(turn, task, { status: 'completed', output: { slept_until: record.due_at } });
    } else if (record.task_type === 'workflow') {
      this.#hooks.onNestedTimeout(turn, record);
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

  /** Writes a changed record of a task that goes on. */
  change(turn: Turn, task: LiveTask, changes: Partial<TaskRecord>): void {
    this.#count(task.record.status, -1);
    task.record = { ...task.record, ...changes };
    this.#count(task.record.status, 1);
    this.#unwrittenReasons.delete(task.record.uid);
    turn.put(task.record);
  }

  #count(status: TaskRecord['status'], change: 1 | -1): void {
    if (status === 'queued' || status === 'running') this.#counted[status] += change;
  }

  /**
   * Begins a task that is only a state of its record, without a lease: `sleep`, `approve`, `workflow`.
   * @param lastsMs how long it lasts by itself; null: until something else ends it. The task's timeout may be sooner.
   */
  begin(turn: Turn, task: LiveTask, status: 'running' | 'input_required', lastsMs: number | null): void {
    const dueMs = Math.min(lastsMs ?? Number.POSITIVE_INFINITY, task.record.timeout_ms ?? Number.POSITIVE_INFINITY);
    const dueAt = dueMs === Number.POSITIVE_INFINITY ? null : isoTime(this.#clock.wall() + dueMs);
    this.stopWaiting(task);
    this.change(turn, task, { ...keptByOwner(task.record, this.#network.self, this.now()), status, due_at: dueAt });
    this.#hooks.onBegun(turn, task.record);
    if (dueAt !== null) this.#timers.set(task.record.uid, wallMs(dueAt));
    if (status === 'input_required') this.#hooks.onWaiting(turn, task.record);
  }

  /** Begins an `approve`. The question is kept where people look: as the task's progress message. */
  waitForPerson(turn: Turn, task: LiveTask, { message }: { message?: string | undefined }): void {
    this.begin(turn, task, 'input_required', null);
    if (message !== undefined) {
      this.change(turn, task, { progress_message: message.slice(0, LOG_LINE_CHARS_MAX) });
    }
  }

  /** Notes why a task still waits. */
  waits(task: LiveTask, considered: number, reason: string): void {
    const known = task.record.placement;
    if (known?.reason === reason && known.considered === considered) return;
    task.record = { ...task.record, placement: { considered, chosen: null, reason, found_by: null } };
    // A task that waits for a moment is not worth a row: at the next beat `writeReasons` writes those that still wait.
    this.#unwrittenReasons.add(task.record.uid);
  }

  /** Writes why tasks still wait, where that changed since it was last written. */
  writeReasons(turn: Turn): void {
    for (const uid of this.#unwrittenReasons) {
      const task = this.live.get(uid);
      if (task !== undefined) turn.put(task.record);
    }
    this.#unwrittenReasons.clear();
  }

  /** Takes a task out of the queue, and ends its timer. */
  stopWaiting({ record }: LiveTask): void {
    this.queue.remove(record.uid);
    this.#timers.delete(record.uid);
  }

  /** Queues a task again. @param dueAt the earliest time for its next start, as in records; null: now */
  requeue(turn: Turn, task: LiveTask, dueAt: string | null = null): void {
    const waited = task.record.status === 'input_required';
    this.change(turn, task, { status: 'queued', peer_id: null, worker_id: null, lease_epoch: null, due_at: dueAt });
    if (waited) this.#hooks.onWaiting(turn, task.record);
    this.#enqueue(turn, task);
  }

  /** Ends the lease of a task, if it has one. */
  endLease(task: LiveTask, how: LeaseEnd): void {
    if (task.lease === null) return;
    this.leases.end(task, how);
    this.#writer.dispatchSoon();
  }

  /**
   * Takes over a success from another history of this feed: a task with the same inputs need not run again.
   * @returns false when the task here is other work, or is not open; the success then waits for a task to be made here
   */
  acceptResult(turn: Turn, record: TaskRecord): boolean {
    const task = this.live.get(record.uid);
    if (task !== undefined) return this.#succeed(turn, task, record);
    this.#offered.set(record.uid, record);
    if (this.#offered.size > OFFERED_RESULTS_MAX) this.#offered.delete(this.#offered.keys().next().value!);
    return false;
  }

  #succeed(
    turn: Turn,
    task: LiveTask,
    { task_type, payload, output, peer_id, execution_time_ms, signed_result }: TaskRecord,
  ): boolean {
    this.#offered.delete(task.record.uid);
    const same = task_type === task.record.task_type && contentHash(payload) === contentHash(task.record.payload);
    if (!same) return false;
    this.leases.callBack(turn, task, true, 'it has succeeded on the other side of a partition');
    const signed = signed_result === undefined ? {} : { signed_result };
    this.finish(turn, task, { status: 'completed', output, peer_id, execution_time_ms, ...signed });
    return true;
  }

  /** Takes a task out of memory without ending it: its record from another history is written instead. */
  drop(turn: Turn, task: LiveTask): void {
    const { uid, status } = task.record;
    this.leases.callBack(turn, task, true, 'it has ended on the other side of a partition');
    this.endLease(task, 'given_up');
    this.stopWaiting(task);
    this.#unwrittenReasons.delete(uid);
    this.#count(status, -1);
    this.live.delete(task);
  }

  /** Retries or ends a task whose action failed. */
  attemptFailed(turn: Turn, task: LiveTask, error: ErrorShape): void {
    this.settle(turn, task, failureOutcome(task.record, error, this.now()));
  }

  /** Ends a task, or queues it again after its backoff. */
  settle(turn: Turn, task: LiveTask, outcome: FailureOutcome): void {
    if (outcome.kind === 'finish') {
      this.finish(turn, task, outcome.end);
      return;
    }
    task.record = { ...task.record, ...outcome.changes };
    const { retry, failures } = task.record;
    const delay = retryDelayMs(retry, failures, this.#random.next(), askedDelayMs(outcome.error));
    this.requeue(turn, task, isoTime(this.#clock.wall() + delay));
  }

  /** @param deadLetter true when the task was tried, or may have been, and is not tried again */
  fail(turn: Turn, task: LiveTask, error: ErrorShape, deadLetter: boolean): void {
    this.finish(turn, task, { status: 'failed', error, dead_letter: deadLetter });
  }

  /** Ends a task, for good (P5). */
  finish(turn: Turn, task: LiveTask, changes: TaskEnd): void {
    this.endLease(task, 'given_up');
    this.stopWaiting(task);
    this.#end(turn, task, changes);
    this.#count(task.record.status, -1);
    this.live.delete(task);
    this.#hooks.onEnded(turn, task.record);
  }

  #end(turn: Turn, task: LiveTask, changes: TaskEnd): void {
    const before = task.record;
    const end = { ...before, ...ended(before, changes, this.now()) };
    if (changes.status !== 'completed') {
      this.change(turn, task, end);
      return;
    }
    const signed_result = end.signed_result ?? this.#signatures.ended(this.#feed, end);
    const signed = signed_result === undefined ? end : { ...end, signed_result };
    const text = recordText(signed);
    this.change(turn, task, text === null ? ended(before, recordTooLarge(changes), this.now()) : signed);
    if (text !== null) turn.put(task.record, text);
  }

  /**
   * Ends a task for a client. Its worker is told once the cancel is durable.
   * @returns whether a worker had it
   */
  cancel(turn: Turn, task: LiveTask, reason: string | undefined, force: boolean): boolean {
    const wasRunning = task.lease !== null;
    const message = reason === undefined ? 'cancelled by a client' : `cancelled: ${reason}`;
    this.leases.callBack(turn, task, force, reason ?? 'cancelled');
    this.finish(turn, task, { status: 'cancelled', error: { code: 'CANCELLED', message, retryable: false } });
    return wasRunning;
  }

  /** Gives a task the id of a record that was set aside: another record keeps its own. */
  setAside(turn: Turn, task: LiveTask): void {
    const before = task.record.task_id;
    this.change(turn, task, setAside(task.record));
    this.live.renamed(before, task);
  }

  /** Cancels a task because something else does its work; `error` says what. */
  giveUp(turn: Turn, task: LiveTask, error: ErrorShape): void {
    this.leases.callBack(turn, task, false, error.message);
    this.finish(turn, task, { status: 'cancelled', error });
  }

  /** A dependency of a task has ended. @param status how it ended */
  unblock(turn: Turn, uid: string, dependency: string, status: string): void {
    const task = this.live.get(uid);
    if (task === undefined || !task.blockers.delete(dependency)) return;
    if (status !== 'completed') {
      const message = `the task "${dependency}" it depends on is ${status}`;
      this.fail(turn, task, { code: 'DEPENDENCY_FAILED', message, retryable: false }, false);
    } else if (task.blockers.size === 0 && task.record.status === 'queued') {
      this.#enqueue(turn, task);
    }
  }

  /** @param requeue true when a task that waits moves in the queue at once */
  setPriority(turn: Turn, task: LiveTask, priority: number, requeue: boolean): void {
    this.change(turn, task, { priority });
    if (requeue && this.queue.has(task.record.uid)) this.#enqueue(turn, task);
  }

  /** Sorts the waiting tasks by their current priorities; true when that changed their order. */
  reorder(): boolean {
    return this.queue.reorder((uid) => this.live.get(uid)!.record);
  }

  /** Notes how long an action took, for later estimates. */
  measured(executionMs: number): void {
    const mean = this.#meanExecutionMs;
    this.#meanExecutionMs = mean === null ? executionMs : mean * 0.9 + executionMs * 0.1;
  }

  /** Rough guess of when a task at this position starts (ISO 8601), from measured execution times. */
  estimateStart(position: number | null, slots: number): string {
    const wait =
      position === null || this.#meanExecutionMs === null ? 0 : (position / Math.max(slots, 1)) * this.#meanExecutionMs;
    return isoTime(this.#clock.wall() + Math.round(wait));
  }

  /** Tasks that wait for a person count as neither. */
  get counts(): { queued: number; running: number } {
    return { ...this.#counted };
  }
}
