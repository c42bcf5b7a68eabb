/**
 * The runs of one feed. Each is a fold (`dag/run.ts`): the ends of its tasks are events, and ready steps are made into
 * tasks.
 *
 * 1. What changes within one turn is written in one commit: the ended task, the steps that follow, the workflow.
 * 2. Expressions other than plain paths are evaluated between turns, outside this event loop. A step has no row before
 *    its expressions have values, so after a crash in between they are simply evaluated again.
 * 3. Steps and items become tasks in chunks of at most EXPAND_CHUNK_ITEMS, one chunk in a turn (P7).
 */
import { type ErrorShape, FlowmeshError, type JsonValue } from '../../dag/errors.ts';
import { compileTemplate, fillTemplate } from '../../dag/expression.ts';
import { WorkflowGraph } from '../../dag/graph.ts';
import { EXPAND_CHUNK_ITEMS } from '../../dag/limits.ts';
import type { RunChange, RunEvent } from '../../dag/run.ts';
import type { Workflow } from '../../dag/schema.ts';
import { QueueFullError, TooFewCopiesError } from '../errors.ts';
import { isoTime, makeUid, wallMs } from '../ids.ts';
import { ACTIVE_WORKFLOWS_MAX } from '../limits.ts';
import type { Clock, Evaluator, Log, Random, Reader } from '../ports.ts';
import type { StepRecord, TaskRecord, WorkflowRecord } from '../records.ts';
import type { Signatures } from '../signatures.ts';
import { resultProblem } from '../sizes.ts';
import { setAside } from '../storage/aliases.ts';
import type { FeedWriter, Turn } from '../storage/journal.ts';
import { LiveRecords } from '../storage/live-records.ts';
import { runUids, taskUids } from '../storage/record-tree.ts';
import type { Tasks } from '../task/tasks.ts';
import { cacheUid } from '../uids.ts';
import { Expressions } from './expressions.ts';
import { begunAmong, isEnded, type LiveRun, liveRun, replay, statusOf, stepRecord, taskEnded } from './live-run.ts';
import { type NewRun, newRun } from './new-run.ts';
import { StepTasks } from './step-tasks.ts';

const CANCELLED: ErrorShape = { code: 'CANCELLED', message: 'it was cancelled', retryable: false };

export interface RunHooks {
  /** A run is in memory from now on: it is new, or was read from the store. */
  onKept(record: WorkflowRecord): void;
  /** A workflow has ended, and its row is put already. */
  onEnded(turn: Turn, record: WorkflowRecord): void;
  /**
   * A run has left memory without an end.
   * @param taskUids its tasks that have not ended, which are still in memory
   * @returns the uids of the rows that workflows nested in these tasks may have
   */
  onDropped(turn: Turn, record: WorkflowRecord, taskUids: Iterable<string>): string[];
}

export interface RunParts {
  clock: Clock;
  random: Random;
  evaluator: Evaluator;
  tasks: Tasks;
  reader: Reader;
  log: Log;
  feedId: string;
  signatures: Signatures;
  writer: FeedWriter;
  hooks: RunHooks;
}

export class Runs {
  readonly live = new LiveRecords<LiveRun>();
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #tasks: Tasks;
  readonly #expressions: Expressions;
  readonly #steps: StepTasks;
  readonly #writer: FeedWriter;
  readonly #hooks: RunHooks;
  readonly #feedId: string;
  readonly #signatures: Signatures;

  constructor({ clock, random, evaluator, tasks, reader, log, feedId, signatures, writer, hooks }: RunParts) {
    this.#clock = clock;
    this.#random = random;
    this.#tasks = tasks;
    this.#feedId = feedId;
    this.#signatures = signatures;
    this.#writer = writer;
    this.#hooks = hooks;
    this.#expressions = new Expressions(evaluator, writer);
    this.#steps = new StepTasks(
      { clock, tasks, reader, expressions: this.#expressions, log, feedId, writer },
      {
        apply: (turn, live, event) => this.#apply(turn, live, event),
        isOpen: (live) => this.#isOpen(live),
      },
    );
  }

  clear(): void {
    this.live.clear();
  }

  /** On how many disks the most demanding run wants its rows; at least 1. */
  get copiesWanted(): number {
    let most = 1;
    for (const { record } of this.live.values()) most = Math.max(most, record.copies);
    return most;
  }

  /** @throws QueueFullError when this feed has ACTIVE_WORKFLOWS_MAX runs */
  checkRoom(): void {
    if (this.live.size < ACTIVE_WORKFLOWS_MAX) return;
    throw new QueueFullError('too many workflows', 'ACTIVE_WORKFLOWS_MAX', this.live.size);
  }

  /**
   * Makes a run of a workflow that was checked. It begins at once, unless it waits for other workflows or for copies.
   * Its first rows are part of the commit of `turn`.
   */
  create(
    turn: Turn,
    workflow: Workflow & { workflow_id: string },
    options: NewRun & {
      graph: WorkflowGraph;
      /** Ids of the workflows that must complete before this one begins. */
      blockers: Iterable<string>;
      /** How many workflows this one is nested in. */
      depth: number;
    },
  ): LiveRun {
    const wall = this.#clock.wall();
    const { record, definition } = newRun(workflow, options, makeUid(this.#random, wall), isoTime(wall));
    turn.put(this.#signatures.accepted(this.#feedId, definition));
    const live = this.#keep(record, workflow, options.graph, options.depth);
    live.durable = false;
    turn.after(() => {
      live.durable = true;
    });
    for (const blocker of options.blockers) live.blockers.add(blocker);
    turn.put(record);
    this.#beginIfFree(turn, live);
    return live;
  }

  /** A run that waited for copies is on as many disks as it requires: it may begin. */
  confirm(turn: Turn, live: LiveRun): void {
    this.#change(turn, live, { awaits_copies: false });
    this.#beginIfFree(turn, live);
  }

  #beginIfFree(turn: Turn, live: LiveRun): void {
    if (live.blockers.size === 0 && !live.record.awaits_copies) this.#begin(turn, live);
  }

  #keep(record: WorkflowRecord, workflow: Workflow, graph: WorkflowGraph, depth: number): LiveRun {
    const live = liveRun(record, workflow, graph, depth);
    this.live.add(live);
    this.#hooks.onKept(record);
    return live;
  }

  #begin(turn: Turn, live: LiveRun): void {
    this.#change(turn, live, { started_at: this.#now() });
    this.#follow(turn, live, live.run.start());
  }

  #now(): string {
    return isoTime(this.#clock.wall());
  }

  #change(turn: Turn, live: LiveRun, changes: Partial<WorkflowRecord>): void {
    live.record = { ...live.record, ...changes };
    turn.put(live.record);
  }

  #apply(turn: Turn, live: LiveRun, event: RunEvent): void {
    this.#follow(turn, live, live.run.apply(event));
  }

  /** Puts the rows that an event changed, and prepares the steps that it made ready. */
  #follow(turn: Turn, live: LiveRun, change: RunChange): void {
    for (const stepId of change.ended) turn.put(stepRecord(live, stepId, this.#now()));
    if (change.stopping) this.#stopTasks(turn, live);
    const pumping = live.todo.length > 0;
    for (const stepId of change.ready) live.todo.push(stepId);
    const { run } = live;
    if (change.ended.length > 0 || run.status === 'input_required') live.begun_with = live.record.uid;
    if (live.record.ended_at === null) {
      const status = run.status === 'input_required' ? 'input_required' : statusOf(live);
      this.#change(turn, live, {
        status,
        progress: run.progress,
        current_step: run.current_step,
        steps_ended: run.counts.ended,
      });
    }
    if (change.settled !== null) this.#settle(turn, live);
    else if (!pumping && live.todo.length > 0) this.#pump(turn, live);
  }

  /** Prepares the ready steps, at most EXPAND_CHUNK_ITEMS of them in one turn (P7). */
  #pump(turn: Turn, live: LiveRun): void {
    for (let done = 0; live.todo.length > 0; done++) {
      if (done === EXPAND_CHUNK_ITEMS) {
        this.#clock.defer(() => this.#writer.turn((later) => this.#pump(later, live)));
        return;
      }
      // The step stays in the list while it is prepared: `#follow` then only appends, and starts no second loop.
      const stepId = live.todo[0]!;
      if (this.#isOpen(live) && live.run.step(stepId).status === 'ready') this.#steps.prepare(turn, live, stepId);
      live.todo.shift();
    }
  }

  #isOpen(live: LiveRun): boolean {
    return this.live.get(live.record.uid) === live && !live.settling;
  }

  /** A task has begun: if it is the first of its run, the run has begun with it. */
  onTaskBegun(turn: Turn, record: TaskRecord): void {
    const live = this.live.get(record.workflow_uid ?? '');
    if (live === undefined || live.begun_with !== null) return;
    live.begun_with = record.uid;
    this.#change(turn, live, { status: statusOf(live) });
  }

  /** A worker refused the lease of a task: if no other task has begun, the run has not begun either. */
  onNeverBegun(turn: Turn, record: TaskRecord): void {
    const live = this.live.get(record.workflow_uid ?? '');
    if (live === undefined || live.begun_with !== record.uid) return;
    live.begun_with = begunAmong(live, this.#tasks.live);
    if (live.begun_with === null) this.#change(turn, live, { status: 'submitted' });
  }

  /** A task has begun to wait for a person, or no longer does. */
  onTaskWaiting(turn: Turn, record: TaskRecord): void {
    const live = record.workflow_uid === null ? undefined : this.live.get(record.workflow_uid);
    if (live === undefined) return;
    const waiting = record.status === 'input_required';
    this.#apply(turn, live, { type: 'task_waiting', step_id: record.step_id!, index: record.index ?? 0, waiting });
  }

  /** A task has ended: its step may end, others may become ready. */
  onTaskEnded(turn: Turn, record: TaskRecord): void {
    const live = this.live.get(record.workflow_uid ?? '');
    const isFromCache = live?.from_cache.delete(record.uid) === true;
    if (record.status === 'completed' && record.cache_key !== null && !isFromCache) {
      const uid = cacheUid(this.#feedId, record.cache_key);
      turn.put({ kind: 'cache', uid, task_uid: record.uid, output: record.output });
    }
    if (live === undefined) return;
    live.tasks.delete(record.uid);
    this.#apply(turn, live, taskEnded(record));
    if (this.#isOpen(live)) this.#steps.issue(turn, live, record.step_id!);
  }

  #stopTasks(turn: Turn, live: LiveRun): void {
    for (const uid of [...live.tasks]) {
      const task = this.#tasks.live.get(uid);
      if (task !== undefined) this.#tasks.cancel(turn, task, 'its workflow stopped', live.forceStop);
    }
  }

  /**
   * Stops a run; its end may come later, when its running tasks have ended. Does nothing for a run that is undefined.
   * @param force ends its tasks without grace time
   * @returns the ids of the steps that are cancelled by this
   */
  cancel(turn: Turn, live: LiveRun | undefined, error: ErrorShape | null, force = false): string[] {
    if (live === undefined) return [];
    const open = new Set<string>();
    for (const [stepId, { status }] of live.run.steps()) if (!isEnded(status)) open.add(stepId);
    live.forceStop = force;
    if (live.blockers.size > 0 || live.record.awaits_copies) {
      live.blockers.clear();
      live.run.start();
    }
    // Tasks may still be ending when this peer crashes. With the error in its row, the run goes on stopping after that.
    live.record = { ...live.record, error: error ?? CANCELLED };
    this.#apply(turn, live, { type: 'stop', status: 'cancelled', error });
    const cancelled: string[] = [];
    for (const stepId of open) if (live.run.step(stepId).status === 'cancelled') cancelled.push(stepId);
    return cancelled;
  }

  /** Another record keeps the id of this run: from now on it is found under `<id>~<uid>` (P5). */
  setAside(turn: Turn, live: LiveRun): void {
    const before = live.record.workflow_id;
    this.#change(turn, live, setAside(live.record));
    this.live.renamed(before, live);
  }

  /**
   * A workflow that a run waits for has ended: the run begins when it was the last one, or fails unless it completed.
   * @param uid of the run that waits
   * @param dependency id of the workflow that has ended
   */
  unblock(turn: Turn, uid: string, dependency: string, status: string): void {
    const live = this.live.get(uid);
    if (live === undefined || !live.blockers.delete(dependency)) return;
    if (status !== 'completed') {
      live.blockers.clear();
      const message = `the workflow "${dependency}" it depends on is ${status}`;
      live.run.start();
      this.#apply(turn, live, {
        type: 'stop',
        status: 'failed',
        error: { code: 'DEPENDENCY_FAILED', message, retryable: false },
      });
    } else {
      this.#beginIfFree(turn, live);
    }
  }

  /** Every step has ended: makes the result, then ends the workflow. */
  #settle(turn: Turn, live: LiveRun): void {
    if (live.settling) return;
    live.settling = true;
    const { run, workflow } = live;
    const status = run.status as 'completed' | 'failed' | 'cancelled';
    if (status !== 'completed') {
      this.#end(turn, live, status, null, run.error);
      return;
    }
    if (workflow.output === undefined) {
      this.#complete(turn, live, run.result());
      return;
    }
    const template = compileTemplate(workflow.output);
    this.#expressions.evaluate(turn, live, template.expressions, [{}], (later, [values]) => {
      if (this.live.get(live.record.uid) !== live) return;
      // A cancel may have come while the output was evaluated.
      if (run.status !== 'completed') this.#end(later, live, run.status as 'failed' | 'cancelled', null, run.error);
      else if (values instanceof FlowmeshError) this.#end(later, live, 'failed', null, values.toShape());
      else this.#complete(later, live, fillTemplate(template, values!));
    });
  }

  /** A result that is too large to be kept fails the workflow: its client must not go on without a result. */
  #complete(turn: Turn, live: LiveRun, result: JsonValue): void {
    const problem = resultProblem(result, live.record);
    if (problem === null) this.#end(turn, live, 'completed', result, null);
    else this.#end(turn, live, 'failed', null, problem);
  }

  #end(
    turn: Turn,
    live: LiveRun,
    status: 'completed' | 'failed' | 'cancelled',
    result: JsonValue,
    error: ErrorShape | null,
  ): void {
    const ended_at = this.#now();
    const { started_at } = live.record;
    this.#change(turn, live, {
      status,
      result,
      error,
      ended_at,
      current_step: null,
      progress: live.run.progress,
      steps_ended: live.run.counts.ended,
      execution_time_ms: started_at === null ? null : Math.max(wallMs(ended_at) - wallMs(started_at), 0),
    });
    this.live.delete(live);
    this.#hooks.onEnded(turn, live.record);
  }

  /** Goes on with a run that was read from the store: the same fold, fed from rows instead of messages. */
  restore(
    turn: Turn,
    record: WorkflowRecord,
    workflow: Workflow,
    steps: readonly StepRecord[],
    tasks: readonly TaskRecord[],
    blockers: Iterable<string>,
  ): void {
    const live = this.#keep(record, workflow, new WorkflowGraph(workflow.steps), 0);
    for (const blocker of blockers) live.blockers.add(blocker);
    if (record.awaits_copies) {
      // Its client was never told that the workflow is accepted.
      this.cancel(turn, live, new TooFewCopiesError(1, record.copies).toShape());
      return;
    }
    if (live.blockers.size > 0) return;
    if (record.started_at === null) {
      this.#begin(turn, live);
      return;
    }
    const { run } = live;
    const stopping = replay(live, steps, tasks);
    if (stopping) this.#stopTasks(turn, live);
    // Steps that were still ending when the run stopped have ended with the old process: only their rows are missing.
    for (const { step_id, ended_at } of steps) {
      if (ended_at === null && isEnded(run.step(step_id).status)) turn.put(stepRecord(live, step_id, this.#now()));
    }
    const ready: string[] = [];
    for (const [stepId, { status }] of run.steps()) if (status === 'ready') ready.push(stepId);
    const settled = run.status === 'running' || run.status === 'input_required' ? null : run.status;
    this.#follow(turn, live, { ready, ended: [], stopping: false, settled });
    if (settled === null) for (const stepId of run.started()) this.#steps.issue(turn, live, stepId);
  }

  /**
   * Takes a run out of memory without an end, with its tasks and nested runs: its rows are replaced by another history.
   * @returns the uids of all rows that the run may have
   */
  drop(turn: Turn, live: LiveRun): string[] {
    const { uid } = live.record;
    const stepIds = live.workflow.steps.map(({ step_id }) => step_id);
    const uids = runUids(uid, stepIds);
    this.live.delete(live);
    uids.push(...this.#hooks.onDropped(turn, live.record, live.tasks));
    for (const taskUid of live.tasks) {
      const task = this.#tasks.live.get(taskUid);
      if (task !== undefined) this.#tasks.drop(turn, task);
      uids.push(...taskUids(taskUid));
    }
    return uids;
  }
}
