/**
 * The workflows of one owner: each a fold (`dag/run.ts`) whose events come from its tasks, and whose ready steps
 * become tasks.
 *
 * 1. What changes within one turn is written in one commit: the ended task, the steps that follow, the workflow.
 * 2. Expressions are evaluated between turns, off this loop, unless they are plain paths. A crash in between costs
 *    only that they are evaluated again: a step has no row before its expressions have values.
 * 3. A step or item becomes tasks in bounded chunks (EXPAND_CHUNK_ITEMS), the rest in later turns (P7).
 */
import { parseInputs } from '../../dag/action-inputs.ts';
import { type ErrorShape, errorShape, FlowmeshError, type JsonValue } from '../../dag/errors.ts';
import { compileTemplate, fillTemplate } from '../../dag/expression.ts';
import { WorkflowGraph } from '../../dag/graph.ts';
import { EXPAND_CHUNK_ITEMS, NESTING_LEVELS_MAX } from '../../dag/limits.ts';
import type { RunChange, RunEvent } from '../../dag/run.ts';
import type { Workflow } from '../../dag/schema.ts';
import { ConflictError, QueueFullError, TooFewCopiesError } from '../errors.ts';
import { isoTime, makeId, makeUid, wallMs } from '../ids.ts';
import { ACTIVE_WORKFLOWS_MAX } from '../limits.ts';
import type { Clock, Evaluator, Log, Random, Reader } from '../ports.ts';
import type { StepRecord, TaskRecord, WorkflowRecord } from '../records.ts';
import { resultProblem } from '../sizes.ts';
import { setAside } from '../storage/aliases.ts';
import type { Turn } from '../storage/journal.ts';
import { LiveRecords } from '../storage/live-records.ts';
import type { LiveTask } from '../task/live-task.ts';
import type { Tasks } from '../task/tasks.ts';
import { timeoutError } from '../task/transitions.ts';
import { cacheUid, definitionUid, logUid, stepUid } from '../uids.ts';
import { checkDepth, checkParts } from './check-submission.ts';
import { Expressions } from './expressions.ts';
import { type LiveRun, liveRun, replay, stepRecord, taskEnded } from './live-run.ts';
import { nestedWorkflow } from './nested-workflow.ts';
import { StepTasks } from './step-tasks.ts';

const CANCELLED: ErrorShape = { code: 'CANCELLED', message: 'it was cancelled', retryable: false };

export interface RunHooks {
  turn(work: (turn: Turn) => void): void;
  /** A workflow has ended: its row is already put. */
  onEnded(turn: Turn, record: WorkflowRecord): void;
}

export class Runs {
  readonly live = new LiveRecords<LiveRun>();
  readonly #nested = new Map<string, string>();
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #tasks: Tasks;
  readonly #expressions: Expressions;
  readonly #steps: StepTasks;
  readonly #hooks: RunHooks;
  readonly #feedId: string;

  constructor(
    components: { clock: Clock; random: Random; evaluator: Evaluator; tasks: Tasks; reader: Reader; log: Log },
    feedId: string,
    hooks: RunHooks,
  ) {
    const { clock, random, evaluator, tasks, reader, log } = components;
    this.#clock = clock;
    this.#random = random;
    this.#tasks = tasks;
    this.#feedId = feedId;
    this.#hooks = hooks;
    this.#expressions = new Expressions(evaluator, (work) => hooks.turn(work));
    this.#steps = new StepTasks(
      { clock, tasks, reader, expressions: this.#expressions, log, feedId },
      {
        turn: (work) => hooks.turn(work),
        apply: (turn, live, event) => this.#apply(turn, live, event),
        isOpen: (live) => this.#isOpen(live),
      },
    );
  }

  clear(): void {
    this.live.clear();
    this.#nested.clear();
  }

  /** The most disks that one of them is to be on. */
  get copiesWanted(): number {
    let most = 1;
    for (const { record } of this.live.values()) most = Math.max(most, record.copies);
    return most;
  }

  /** @throws QueueFullError when no further workflow may begin here */
  checkRoom(): void {
    if (this.live.size < ACTIVE_WORKFLOWS_MAX) return;
    throw new QueueFullError('too many workflows', 'ACTIVE_WORKFLOWS_MAX', this.live.size);
  }

  /** A new workflow, its definition already checked. It starts at once unless it waits for others. */
  create(
    turn: Turn,
    workflow: Workflow & { workflow_id: string },
    options: {
      graph: WorkflowGraph;
      content_hash: string;
      copies: number;
      /** It begins with `confirm`, not before. */
      awaits_copies: boolean;
      parent: TaskRecord | null;
      blockers: Iterable<string>;
      depth: number;
    },
  ): LiveRun {
    const uid = makeUid(this.#random, this.#clock.wall());
    const record: WorkflowRecord = {
      kind: 'workflow',
      uid,
      workflow_id: workflow.workflow_id,
      name: workflow.name,
      status: 'submitted',
      priority: workflow.priority,
      tags: workflow.tags,
      metadata: workflow.metadata,
      dependencies: workflow.dependencies,
      content_hash: options.content_hash,
      parent_task_uid: options.parent?.uid ?? null,
      copies: options.copies,
      awaits_copies: options.awaits_copies,
      steps_total: workflow.steps.length,
      steps_ended: 0,
      progress: 0,
      current_step: null,
      result: null,
      error: null,
      created_at: this.#now(),
      started_at: null,
      ended_at: null,
      execution_time_ms: null,
    };
    turn.put({ kind: 'definition', uid: definitionUid(uid), workflow });
    const live = this.#adopt(record, workflow, options.graph, options.depth);
    live.durable = false;
    turn.after(() => {
      live.durable = true;
    });
    for (const blocker of options.blockers) live.blockers.add(blocker);
    turn.put(record);
    this.#beginIfFree(turn, live);
    return live;
  }

  /** As many disks have it as it requires. */
  confirm(turn: Turn, live: LiveRun): void {
    this.#change(turn, live, { awaits_copies: false });
    this.#beginIfFree(turn, live);
  }

  #beginIfFree(turn: Turn, live: LiveRun): void {
    if (live.blockers.size === 0 && !live.record.awaits_copies) this.#begin(turn, live);
  }

  #adopt(record: WorkflowRecord, workflow: Workflow, graph: WorkflowGraph, depth: number): LiveRun {
    const live = liveRun(record, workflow, graph, depth);
    this.live.add(live);
    if (record.parent_task_uid !== null) this.#nested.set(record.parent_task_uid, record.uid);
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

  /** Writes what an event changed, and goes on with what it made ready. */
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

  /** Works through the ready steps, at most a chunk of them in one turn. */
  #pump(turn: Turn, live: LiveRun): void {
    for (let done = 0; live.todo.length > 0; done++) {
      if (done === EXPAND_CHUNK_ITEMS) {
        this.#clock.defer(() => this.#hooks.turn((later) => this.#pump(later, live)));
        return;
      }
      // The step stays in the list while it is prepared, so that what follows from it only appends.
      const stepId = live.todo[0]!;
      if (this.#isOpen(live) && live.run.step(stepId).status === 'ready') this.#steps.prepare(turn, live, stepId);
      live.todo.shift();
    }
  }

  #isOpen(live: LiveRun): boolean {
    return this.live.get(live.record.uid) === live && !live.settling;
  }

  /** A task of a run has begun: with its first one the run has. */
  onTaskBegun(turn: Turn, record: TaskRecord): void {
    const live = this.live.get(record.workflow_uid ?? '');
    if (live === undefined || live.begun_with !== null) return;
    live.begun_with = record.uid;
    this.#change(turn, live, { status: statusOf(live) });
  }

  /** The lease of a task was refused: if nothing else has begun, its run has not. */
  onNeverBegun(turn: Turn, record: TaskRecord): void {
    const live = this.live.get(record.workflow_uid ?? '');
    if (live === undefined || live.begun_with !== record.uid) return;
    live.begun_with = begunAmong(live, this.#tasks);
    if (live.begun_with === null) this.#change(turn, live, { status: 'submitted' });
  }

  /** A task has begun or ceased to wait for a person. */
  onTaskWaiting(turn: Turn, record: TaskRecord): void {
    const live = record.workflow_uid === null ? undefined : this.live.get(record.workflow_uid);
    if (live === undefined) return;
    const waiting = record.status === 'input_required';
    this.#apply(turn, live, { type: 'task_waiting', step_id: record.step_id!, index: record.index ?? 0, waiting });
  }

  /** A task has ended: its step may end, others may become ready. */
  onTaskEnded(turn: Turn, record: TaskRecord): void {
    const child = this.#nested.get(record.uid);
    if (child !== undefined && this.live.has(child)) {
      const parent = record.workflow_uid === null ? undefined : this.live.get(record.workflow_uid);
      this.cancel(turn, this.live.get(child), record.error, parent?.forceStop);
    }
    if (record.status === 'completed' && record.cache_key !== null && !record.placement?.reason.startsWith('cached')) {
      const uid = cacheUid(this.#feedId, record.cache_key);
      turn.put({ kind: 'cache', uid, task_uid: record.uid, output: record.output });
    }
    const live = record.workflow_uid === null ? undefined : this.live.get(record.workflow_uid);
    if (live === undefined) return;
    live.tasks.delete(record.uid);
    this.#apply(turn, live, taskEnded(record));
    if (this.live.has(live.record.uid) && !live.settling) this.#steps.issue(turn, live, record.step_id!);
  }

  /** The workflow that a task stands for has taken too long: it is ended, and the task with it. */
  onNestedTimeout(turn: Turn, record: TaskRecord): void {
    const child = this.#nested.get(record.uid);
    if (child !== undefined) this.cancel(turn, this.live.get(child), timeoutError(record));
  }

  #stopTasks(turn: Turn, live: LiveRun): void {
    for (const uid of [...live.tasks]) {
      const task = this.#tasks.live.get(uid);
      if (task !== undefined) this.#tasks.cancel(turn, task, 'its workflow stopped', live.forceStop);
    }
  }

  /** Stops a workflow; returns the steps that this cancelled. */
  cancel(turn: Turn, live: LiveRun | undefined, error: ErrorShape | null, force = false): string[] {
    if (live === undefined) return [];
    const open = new Set<string>();
    for (const [stepId, { status }] of live.run.steps()) if (!isEnded(status)) open.add(stepId);
    live.forceStop = force;
    if (live.blockers.size > 0 || live.record.awaits_copies) {
      live.blockers.clear();
      live.run.start();
    }
    // What still has to end may take until after a crash: why the run stops is kept with it (P1).
    live.record = { ...live.record, error: error ?? CANCELLED };
    this.#apply(turn, live, { type: 'stop', status: 'cancelled', error });
    const cancelled: string[] = [];
    for (const stepId of open) if (live.run.step(stepId).status === 'cancelled') cancelled.push(stepId);
    return cancelled;
  }

  /** Another record keeps its id. */
  setAside(turn: Turn, live: LiveRun): void {
    const before = live.record.workflow_id;
    this.#change(turn, live, setAside(live.record));
    this.live.renamed(before, live);
  }

  /** A workflow that this one waits for has ended. */
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

  /** Every step has ended: the result is made and the workflow ends. */
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

  /** Whoever waits for the result must not go on with none: one that cannot be kept is a failure. */
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
    const parent = live.record.parent_task_uid;
    if (parent !== null) {
      this.#nested.delete(parent);
      this.#endParent(turn, parent, live.record);
    }
    this.#hooks.onEnded(turn, live.record);
  }

  #endParent(turn: Turn, taskUid: string, child: WorkflowRecord): void {
    const task = this.#tasks.live.get(taskUid);
    if (task === undefined) return;
    if (child.status === 'completed') {
      this.#tasks.finish(turn, task, { status: 'completed', output: child.result });
    } else {
      const why = child.error?.message ?? 'no reason was given';
      const message = `the nested workflow ${child.workflow_id} is ${child.status}: ${why}`;
      const code = child.error?.code === 'TIMEOUT' ? 'TIMEOUT' : 'NESTED_FAILED';
      // Another run helps where another attempt of what failed in it would have.
      this.#tasks.attemptFailed(turn, task, { code, message, retryable: child.error?.retryable ?? true });
    }
  }

  /** Begins the workflow that a task with action `workflow` is. Its payload is `{ workflow, input? }`. */
  startNested(turn: Turn, task: LiveTask): void {
    const parent = task.record.workflow_uid === null ? undefined : this.live.get(task.record.workflow_uid);
    const depth = (parent?.depth ?? 0) + 1;
    try {
      checkDepth(depth);
      this.checkRoom();
      const nested = nestedWorkflow(parseInputs('workflow', task.record.payload));
      const workflow = { ...nested, workflow_id: nested.workflow_id ?? makeId('wf', this.#feedId, this.#random) };
      if (this.live.byId(workflow.workflow_id) !== undefined)
        throw new ConflictError('workflow', workflow.workflow_id, 'and runs');
      // A wrong one fails the task here, before anything is written.
      const graph = checkParts(workflow, depth);
      this.#tasks.begin(turn, task, 'running', null);
      this.create(turn, workflow, {
        graph,
        content_hash: '',
        copies: task.record.copies,
        awaits_copies: false,
        parent: task.record,
        blockers: [],
        depth,
      });
    } catch (error) {
      this.#tasks.fail(turn, task, errorShape(error), true);
    }
  }

  /** Takes up a workflow read from the store: the same fold, from rows instead of messages. */
  restore(
    turn: Turn,
    record: WorkflowRecord,
    workflow: Workflow,
    steps: readonly StepRecord[],
    tasks: readonly TaskRecord[],
    blockers: Iterable<string>,
  ): void {
    const live = this.#adopt(record, workflow, new WorkflowGraph(workflow.steps), 0);
    for (const blocker of blockers) live.blockers.add(blocker);
    if (record.awaits_copies) {
      // Its client was never told that it is accepted.
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
    // What was still to end when a stop was kept has ended with the process.
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
   * Takes a run out of memory without an end, with its tasks and nested runs: another history of it is written.
   * @returns the uids of the rows that it may have
   */
  drop(turn: Turn, live: LiveRun): string[] {
    const { uid, parent_task_uid } = live.record;
    const uids = [uid, definitionUid(uid), ...live.workflow.steps.map(({ step_id }) => stepUid(uid, step_id))];
    this.live.delete(live);
    if (parent_task_uid !== null) this.#nested.delete(parent_task_uid);
    for (const taskUid of live.tasks) {
      uids.push(...this.dropNested(turn, taskUid));
      const task = this.#tasks.live.get(taskUid);
      if (task !== undefined) this.#tasks.drop(turn, task);
      uids.push(taskUid, logUid(taskUid));
    }
    return uids;
  }

  /** As `drop`, of the run that a task is, if it is one. */
  dropNested(turn: Turn, taskUid: string): string[] {
    const live = this.live.get(this.#nested.get(taskUid) ?? '');
    return live === undefined ? [] : this.drop(turn, live);
  }

  /** Nesting depths are known once all runs are restored. */
  restoreDepths(): void {
    for (const live of this.live.values()) {
      let depth = 0;
      let parent = live.record.parent_task_uid;
      while (parent !== null && depth < NESTING_LEVELS_MAX) {
        depth++;
        const workflowUid = this.#tasks.live.get(parent)?.record.workflow_uid ?? null;
        parent = workflowUid === null ? null : (this.live.get(workflowUid)?.record.parent_task_uid ?? null);
      }
      live.depth = depth;
    }
  }
}

function statusOf({ begun_with }: LiveRun): 'submitted' | 'running' {
  return begun_with === null ? 'submitted' : 'running';
}

/** Another task of a run that has begun. */
function begunAmong({ tasks }: LiveRun, { live }: Tasks): string | null {
  for (const uid of tasks) {
    const record = live.get(uid)?.record;
    if (record !== undefined && (record.status !== 'queued' || record.started_at !== null)) return uid;
  }
  return null;
}

function isEnded(status: string): boolean {
  return status === 'completed' || status === 'failed' || status === 'skipped' || status === 'cancelled';
}
