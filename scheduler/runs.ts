/**
 * The workflows of one owner: each a fold (`dag/run.ts`) whose events come from its tasks, and whose ready steps
 * become tasks.
 *
 * 1. What changes within one turn is written in one commit: the ended task, the steps that follow, the workflow.
 * 2. Expressions are evaluated between turns, off this loop, unless they are plain paths. A crash in between costs
 *    only that they are evaluated again: a step has no row before its expressions have values.
 * 3. A step or item becomes tasks in bounded chunks (EXPAND_CHUNK_ITEMS), the rest in later turns (P7).
 */
import { type ErrorShape, errorShape, FlowmeshError, type JsonObject, type JsonValue } from '../dag/errors.ts';
import {
  checkReferences,
  compileTemplate,
  fillTemplate,
  holds,
  referencedSteps,
  resolvePath,
  templatesOf,
} from '../dag/expression.ts';
import { WorkflowGraph } from '../dag/graph.ts';
import { EXPAND_CHUNK_ITEMS, INPUT_BYTES_MAX, jsonBytes, LimitError, NESTING_LEVELS_MAX } from '../dag/limits.ts';
import { Run, type RunChange, type RunEvent } from '../dag/run.ts';
import { parseWorkflow, type Step, type Workflow } from '../dag/schema.ts';
import { contentHash, isoTime, makeId, makeUid, wallMs } from './ids.ts';
import type { Turn } from './journal.ts';
import { ACTIVE_TASKS_MAX, RESULT_BYTES_MAX } from './limits.ts';
import type { Clock, Evaluator, Log, Random, Reader } from './ports.ts';
import type { CacheRecord, StepRecord, TaskRecord, WorkflowRecord } from './records.ts';
import type { LiveTask, Tasks } from './tasks.ts';

export interface LiveRun {
  record: WorkflowRecord;
  workflow: Workflow;
  steps: Map<string, Step>;
  run: Run;
  /** Ids of workflows that must complete first. */
  blockers: Set<string>;
  /** Uids of its live tasks. */
  tasks: Set<string>;
  started_at: Map<string, string>;
  /** Ready steps whose expressions are not evaluated yet. */
  todo: string[];
  /** Set once the run's end is being written: its output is being evaluated. */
  settling: boolean;
  /** A cancel asked for its tasks to be ended without grace time. */
  forceStop: boolean;
  depth: number;
}

export interface RunHooks {
  turn(work: (turn: Turn) => void): void;
  /** A workflow has ended: its row is already put. */
  onEnded(turn: Turn, record: WorkflowRecord): void;
}

type Values = Map<string, JsonValue>;

export class Runs {
  readonly live = new Map<string, LiveRun>();
  private readonly uids = new Map<string, string>();
  private readonly nested = new Map<string, string>();
  private readonly clock: Clock;
  private readonly random: Random;
  private readonly evaluator: Evaluator;
  private readonly tasks: Tasks;
  private readonly reader: Reader;
  private readonly log: Log;
  private readonly hooks: RunHooks;
  feedId = '';

  constructor(
    components: { clock: Clock; random: Random; evaluator: Evaluator; tasks: Tasks; reader: Reader; log: Log },
    hooks: RunHooks,
  ) {
    this.clock = components.clock;
    this.random = components.random;
    this.evaluator = components.evaluator;
    this.tasks = components.tasks;
    this.reader = components.reader;
    this.log = components.log;
    this.hooks = hooks;
  }

  byAlias(workflowId: string): LiveRun | undefined {
    const uid = this.uids.get(workflowId);
    return uid === undefined ? undefined : this.live.get(uid);
  }

  clear(): void {
    this.live.clear();
    this.uids.clear();
    this.nested.clear();
  }

  /** A new workflow, its definition already checked. It starts at once unless it waits for others. */
  create(
    turn: Turn,
    workflow: Workflow & { workflow_id: string },
    options: {
      graph: WorkflowGraph;
      content_hash: string;
      copies: number;
      parent: TaskRecord | null;
      blockers: Iterable<string>;
      depth: number;
    },
  ): LiveRun {
    const uid = makeUid(this.random, this.clock.wall());
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
      steps_total: workflow.steps.length,
      steps_ended: 0,
      progress: 0,
      current_step: null,
      result: null,
      error: null,
      created_at: this.now(),
      started_at: null,
      ended_at: null,
      execution_time_ms: null,
    };
    turn.put({ kind: 'definition', uid: `${uid}:definition`, workflow });
    const live = this.adopt(record, workflow, options.graph, options.depth);
    for (const blocker of options.blockers) live.blockers.add(blocker);
    turn.put(record);
    if (live.blockers.size === 0) this.begin(turn, live);
    return live;
  }

  private adopt(record: WorkflowRecord, workflow: Workflow, graph: WorkflowGraph, depth: number): LiveRun {
    const live: LiveRun = {
      record,
      workflow,
      steps: new Map(workflow.steps.map((step) => [step.step_id, step])),
      run: new Run(workflow, graph),
      blockers: new Set(),
      tasks: new Set(),
      started_at: new Map(),
      todo: [],
      settling: false,
      forceStop: false,
      depth,
    };
    this.live.set(record.uid, live);
    this.uids.set(record.workflow_id, record.uid);
    if (record.parent_task_uid !== null) this.nested.set(record.parent_task_uid, record.uid);
    return live;
  }

  private begin(turn: Turn, live: LiveRun): void {
    this.change(turn, live, { status: 'running', started_at: this.now() });
    this.follow(turn, live, live.run.start());
  }

  private now(): string {
    return isoTime(this.clock.wall());
  }

  private change(turn: Turn, live: LiveRun, changes: Partial<WorkflowRecord>): void {
    live.record = { ...live.record, ...changes };
    turn.put(live.record);
  }

  private apply(turn: Turn, live: LiveRun, event: RunEvent): void {
    this.follow(turn, live, live.run.apply(event));
  }

  /** Writes what an event changed, and goes on with what it made ready. */
  private follow(turn: Turn, live: LiveRun, change: RunChange): void {
    for (const stepId of change.ended) turn.put(this.stepRecord(live, stepId));
    if (change.stopping) this.stopTasks(turn, live);
    const pumping = live.todo.length > 0;
    for (const stepId of change.ready) live.todo.push(stepId);
    const { run } = live;
    if (live.record.ended_at === null) {
      const status = run.status === 'input_required' ? 'input_required' : 'running';
      this.change(turn, live, {
        status,
        progress: run.progress,
        current_step: run.current_step,
        steps_ended: run.counts.ended,
      });
    }
    if (change.settled !== null) this.settle(turn, live);
    else if (!pumping && live.todo.length > 0) this.pump(turn, live);
  }

  /** Works through the ready steps, at most a chunk of them in one turn. */
  private pump(turn: Turn, live: LiveRun): void {
    for (let done = 0; live.todo.length > 0; done++) {
      if (done === EXPAND_CHUNK_ITEMS) {
        this.clock.defer(() => this.hooks.turn((later) => this.pump(later, live)));
        return;
      }
      // The step stays in the list while it is prepared, so that what follows from it only appends.
      const stepId = live.todo[0]!;
      if (this.isOpen(live) && live.run.step(stepId).status === 'ready') this.prepare(turn, live, stepId);
      live.todo.shift();
    }
  }

  private isOpen(live: LiveRun): boolean {
    return this.live.get(live.record.uid) === live && !live.settling;
  }

  /** Evaluates `when` and `foreach` of a ready step, and starts or skips it. */
  private prepare(turn: Turn, live: LiveRun, stepId: string): void {
    const step = live.steps.get(stepId)!;
    const { when, foreach } = templatesOf(step);
    const expressions = [...(when?.expressions ?? []), ...(foreach?.expressions ?? [])];
    this.evaluate(turn, live, expressions, [{}], (later, results) => {
      if (!this.isOpen(live) || live.run.step(stepId).status !== 'ready') return;
      const [result] = results;
      if (result instanceof FlowmeshError) {
        this.apply(later, live, { type: 'step_failed', step_id: stepId, error: result.toShape() });
        return;
      }
      if (when !== undefined && !holds(fillTemplate(when, result!))) {
        this.apply(later, live, { type: 'step_skipped', step_id: stepId, reason: 'its condition `when` did not hold' });
        return;
      }
      const items = foreach === undefined ? null : fillTemplate(foreach, result!);
      this.startStep(later, live, stepId, items);
    });
  }

  private startStep(turn: Turn, live: LiveRun, stepId: string, items: JsonValue): void {
    if (items !== null && !Array.isArray(items)) {
      const error = new FlowmeshError(
        'FOREACH_NOT_A_LIST',
        `foreach of step "${stepId}" gave ${describe(items)}, not a list`,
      );
      this.apply(turn, live, { type: 'step_failed', step_id: stepId, error: error.toShape() });
      return;
    }
    const step = live.steps.get(stepId)!;
    const list = step.foreach === undefined ? null : ((items ?? []) as JsonValue[]);
    try {
      live.run.checkItems(stepId, list?.length ?? 1);
    } catch (error) {
      this.apply(turn, live, { type: 'step_failed', step_id: stepId, error: errorShape(error) });
      return;
    }
    live.started_at.set(stepId, this.now());
    this.apply(turn, live, { type: 'step_started', step_id: stepId, items: list });
    if (isRunning(live.run.step(stepId).status)) {
      turn.put(this.stepRecord(live, stepId));
      this.issue(turn, live, stepId);
    }
  }

  /** Makes the tasks of a running step that may exist now. */
  private issue(turn: Turn, live: LiveRun, stepId: string): void {
    const indexes = live.run.nextIndexes(stepId);
    if (indexes.length === 0) return;
    const step = live.steps.get(stepId)!;
    const items = live.run.step(stepId).items;
    const { inputs } = templatesOf(step);
    const scopes = indexes.map((index): JsonObject => (items === null ? {} : { item: items[index] ?? null, index }));
    this.evaluate(turn, live, inputs.expressions, scopes, (later, results) => {
      for (const [position, index] of indexes.entries()) {
        if (!this.live.has(live.record.uid)) return;
        const values = results[position]!;
        this.makeTask(later, live, step, items === null ? null : index, values, (filled) =>
          fillTemplate(inputs, filled),
        );
      }
    });
  }

  private makeTask(
    turn: Turn,
    live: LiveRun,
    step: Step,
    item: number | null,
    values: Values | FlowmeshError,
    fill: (values: Values) => JsonValue,
  ): void {
    const index = item ?? 0;
    const ended = (status: 'failed' | 'cancelled', error: ErrorShape | null) =>
      this.apply(turn, live, { type: 'task_ended', step_id: step.step_id, index, status, output: null, error });
    // The run stopped while the inputs were evaluated: what was announced to it must end.
    if (!isRunning(live.run.step(step.step_id).status)) {
      ended('cancelled', null);
      return;
    }
    if (values instanceof FlowmeshError) {
      ended('failed', values.toShape());
      return;
    }
    const payload = fill(values) as JsonObject;
    const bytes = jsonBytes(payload);
    if (bytes > INPUT_BYTES_MAX) {
      const what = `inputs of step "${step.step_id}"${item === null ? '' : `, item ${item}`} are too large, in bytes`;
      const advice = 'Pass a reference to the data instead.';
      ended('failed', new LimitError('INPUT_BYTES_MAX', bytes, INPUT_BYTES_MAX, what, advice).toShape());
      return;
    }
    if (this.tasks.live.size >= ACTIVE_TASKS_MAX) {
      const message = `this peer holds ACTIVE_TASKS_MAX (${ACTIVE_TASKS_MAX}) tasks; run the workflow again later`;
      ended('failed', { code: 'QUEUE_FULL', message, retryable: true });
      return;
    }
    const record = this.taskRecord(live, step, item, payload);
    if (record.cache_key === null) {
      live.tasks.add(record.uid);
      this.tasks.create(turn, record, bytes);
      return;
    }
    this.reader.get('cache', `cache/${record.cache_key}`).then(
      (hit) => this.hooks.turn((later) => this.createCached(later, live, record, bytes, hit)),
      (error: unknown) => {
        this.log.warn({ error }, 'the cache could not be read; the task runs');
        this.hooks.turn((later) => this.createCached(later, live, record, bytes, undefined));
      },
    );
  }

  private createCached(
    turn: Turn,
    live: LiveRun,
    record: TaskRecord,
    bytes: number,
    hit: CacheRecord | undefined,
  ): void {
    const step_id = record.step_id!;
    const index = record.index ?? 0;
    if (!isRunning(live.run.step(step_id).status)) {
      this.apply(turn, live, { type: 'task_ended', step_id, index, status: 'cancelled', output: null, error: null });
      return;
    }
    live.tasks.add(record.uid);
    const task = this.tasks.create(turn, record, bytes);
    if (hit === undefined) return;
    const placement = { considered: 0, chosen: null, reason: `cached: the output of ${hit.task_uid}`, found_by: null };
    this.tasks.finish(turn, task, { status: 'completed', output: hit.output, placement });
  }

  private taskRecord(live: LiveRun, step: Step, item: number | null, payload: JsonObject): TaskRecord {
    const { record } = live;
    const now = this.now();
    return {
      kind: 'task',
      uid: `${record.uid}/${step.step_id}/${item ?? 0}`,
      task_id: `${record.workflow_id}:${step.step_id}${item === null ? '' : `:${item}`}`,
      task_type: step.action,
      payload,
      workflow_uid: record.uid,
      workflow_id: record.workflow_id,
      step_id: step.step_id,
      index: item,
      priority: step.priority ?? record.priority,
      tags: record.tags,
      metadata: {},
      requires: step.requires,
      retry: step.retry,
      timeout_ms: step.timeout_ms ?? null,
      depends_on: [],
      at_most_once: step.at_most_once,
      cache_key: step.cache ? contentHash([step.action, payload]) : null,
      content_hash: '',
      copies: record.copies,
      ...EMPTY_TASK_STATE,
      created_at: now,
      queued_at: now,
    };
  }

  /** Resolves expressions for each of several scopes: at once when all are plain paths, else in a later turn. */
  private evaluate(
    turn: Turn,
    live: LiveRun,
    expressions: string[],
    extras: JsonObject[],
    then: (turn: Turn, results: (Values | FlowmeshError)[]) => void,
  ): void {
    const base = expressions.length === 0 ? {} : this.scopeFor(live, expressions);
    const results: Values[] = [];
    const jobs: { at: number; expression: string; scope: JsonObject }[] = [];
    for (const [at, extra] of extras.entries()) {
      const scope = { ...base, ...extra };
      const values: Values = new Map();
      for (const expression of expressions) {
        const direct = resolvePath(expression, scope);
        if (direct.resolved) values.set(expression, direct.value);
        else jobs.push({ at, expression, scope });
      }
      results.push(values);
    }
    if (jobs.length === 0) {
      then(turn, results);
      return;
    }
    const finish = (outcomes: (Values | FlowmeshError)[]) => this.hooks.turn((later) => then(later, outcomes));
    this.evaluator.evaluate(jobs.map(({ expression, scope }) => ({ expression, scope }))).then(
      (answers) => {
        const outcomes: (Values | FlowmeshError)[] = results;
        for (const [position, { at, expression }] of jobs.entries()) {
          const answer = answers[position]!;
          const outcome = outcomes[at]!;
          if (outcome instanceof FlowmeshError) continue;
          if ('value' in answer) outcome.set(expression, answer.value);
          else outcomes[at] = expressionError(expression, answer.error);
        }
        finish(outcomes);
      },
      (error: unknown) => finish(results.map(() => expressionError(expressions.join(', '), errorShape(error)))),
    );
  }

  private scopeFor(live: LiveRun, expressions: string[]): JsonObject {
    const mentioned = new Set<string>();
    for (const expression of expressions) {
      const steps = referencedSteps(expression);
      if (steps === 'all') return this.named(live, live.run.scope('all'));
      for (const stepId of steps) mentioned.add(stepId);
    }
    return this.named(live, live.run.scope([...mentioned]));
  }

  private named(live: LiveRun, scope: JsonObject): JsonObject {
    const { workflow_id, name } = live.record;
    return { ...scope, workflow: { workflow_id, name } };
  }

  private stepRecord(live: LiveRun, stepId: string): StepRecord {
    const { status, items, error, reason } = live.run.step(stepId);
    const open = status === 'running' || status === 'input_required';
    return {
      kind: 'step',
      uid: `${live.record.uid}/${stepId}`,
      workflow_uid: live.record.uid,
      step_id: stepId,
      status: open ? 'running' : (status as StepRecord['status']),
      items,
      reason,
      error,
      started_at: live.started_at.get(stepId) ?? null,
      ended_at: open ? null : this.now(),
    };
  }

  /** A task has begun or ceased to wait for a person. */
  onTaskWaiting(turn: Turn, record: TaskRecord, waiting: boolean): void {
    const live = record.workflow_uid === null ? undefined : this.live.get(record.workflow_uid);
    if (live === undefined) return;
    this.apply(turn, live, { type: 'task_waiting', step_id: record.step_id!, index: record.index ?? 0, waiting });
  }

  /** A task has ended: its step may end, others may become ready. */
  onTaskEnded(turn: Turn, record: TaskRecord): void {
    const child = this.nested.get(record.uid);
    if (child !== undefined && record.status !== 'completed') this.cancel(turn, this.live.get(child), record.error);
    if (record.status === 'completed' && record.cache_key !== null && !record.placement?.reason.startsWith('cached')) {
      turn.put({ kind: 'cache', uid: `cache/${record.cache_key}`, task_uid: record.uid, output: record.output });
    }
    const live = record.workflow_uid === null ? undefined : this.live.get(record.workflow_uid);
    if (live === undefined) return;
    live.tasks.delete(record.uid);
    this.apply(turn, live, taskEnded(record));
    if (this.live.has(live.record.uid) && !live.settling) this.issue(turn, live, record.step_id!);
  }

  private stopTasks(turn: Turn, live: LiveRun): void {
    for (const uid of [...live.tasks]) {
      const task = this.tasks.live.get(uid);
      if (task !== undefined) this.tasks.cancel(turn, task, 'its workflow stopped', live.forceStop);
    }
  }

  /** Stops a workflow; returns the steps that this cancelled. */
  cancel(turn: Turn, live: LiveRun | undefined, error: ErrorShape | null, force = false): string[] {
    if (live === undefined) return [];
    const open = new Set<string>();
    for (const [stepId, { status }] of live.run.steps()) if (!isEnded(status)) open.add(stepId);
    live.forceStop = force;
    if (live.blockers.size > 0) {
      live.blockers.clear();
      live.run.start();
    }
    this.apply(turn, live, { type: 'stop', status: 'cancelled', error });
    const cancelled: string[] = [];
    for (const stepId of open) if (live.run.step(stepId).status === 'cancelled') cancelled.push(stepId);
    return cancelled;
  }

  /** A workflow that this one waits for has ended. */
  unblock(turn: Turn, uid: string, dependency: string, status: string): void {
    const live = this.live.get(uid);
    if (live === undefined || !live.blockers.delete(dependency)) return;
    if (status !== 'completed') {
      live.blockers.clear();
      const message = `the workflow "${dependency}" it depends on is ${status}`;
      live.run.start();
      this.apply(turn, live, {
        type: 'stop',
        status: 'failed',
        error: { code: 'DEPENDENCY_FAILED', message, retryable: false },
      });
    } else if (live.blockers.size === 0) {
      this.begin(turn, live);
    }
  }

  /** Every step has ended: the result is made and the workflow ends. */
  private settle(turn: Turn, live: LiveRun): void {
    if (live.settling) return;
    live.settling = true;
    const { run, workflow } = live;
    const status = run.status as 'completed' | 'failed' | 'cancelled';
    if (status !== 'completed' || workflow.output === undefined) {
      this.end(turn, live, status, status === 'completed' ? run.result() : null, run.error);
      return;
    }
    const template = compileTemplate(workflow.output);
    this.evaluate(turn, live, template.expressions, [{}], (later, [values]) => {
      if (this.live.get(live.record.uid) !== live) return;
      if (values instanceof FlowmeshError) this.end(later, live, 'failed', null, values.toShape());
      else this.end(later, live, 'completed', fillTemplate(template, values!), null);
    });
  }

  private end(
    turn: Turn,
    live: LiveRun,
    status: 'completed' | 'failed' | 'cancelled',
    result: JsonValue,
    error: ErrorShape | null,
  ): void {
    const bytes = jsonBytes(result);
    const tooLarge = bytes > RESULT_BYTES_MAX;
    const ended_at = this.now();
    const { started_at } = live.record;
    this.change(turn, live, {
      status,
      result: tooLarge ? null : result,
      error: tooLarge
        ? {
            code: 'RESULT_TOO_LARGE',
            message: `every step completed, but the result has ${bytes} bytes (RESULT_BYTES_MAX is ${RESULT_BYTES_MAX}): give the workflow an \`output\` that is smaller, and read the outputs of single tasks with task_result`,
            retryable: false,
          }
        : error,
      ended_at,
      current_step: null,
      progress: live.run.progress,
      steps_ended: live.run.counts.ended,
      execution_time_ms: started_at === null ? null : Math.max(wallMs(ended_at) - wallMs(started_at), 0),
    });
    this.live.delete(live.record.uid);
    this.uids.delete(live.record.workflow_id);
    const parent = live.record.parent_task_uid;
    if (parent !== null) {
      this.nested.delete(parent);
      this.endParent(turn, parent, live.record);
    }
    this.hooks.onEnded(turn, live.record);
  }

  private endParent(turn: Turn, taskUid: string, child: WorkflowRecord): void {
    const task = this.tasks.live.get(taskUid);
    if (task === undefined) return;
    if (child.status === 'completed') {
      this.tasks.finish(turn, task, { status: 'completed', output: child.result });
    } else {
      const why = child.error?.message ?? 'no reason was given';
      const message = `the nested workflow ${child.workflow_id} is ${child.status}: ${why}`;
      this.tasks.attemptFailed(turn, task, { code: 'NESTED_FAILED', message, retryable: true });
    }
  }

  /** Begins the workflow that a task with action `workflow` is. Its payload is `{ workflow, input? }`. */
  startNested(turn: Turn, task: LiveTask): void {
    const parent = task.record.workflow_uid === null ? undefined : this.live.get(task.record.workflow_uid);
    const depth = (parent?.depth ?? 0) + 1;
    try {
      if (depth > NESTING_LEVELS_MAX) {
        throw new LimitError(
          'NESTING_LEVELS_MAX',
          depth,
          NESTING_LEVELS_MAX,
          'workflows are nested too deep',
          'Flatten them.',
        );
      }
      const workflow = nestedWorkflow(task.record, () => makeId('wf', this.feedId, this.random));
      // A wrong graph fails the task here, before anything is written.
      const graph = new WorkflowGraph(workflow.steps);
      checkReferences(workflow, graph);
      this.tasks.begin(turn, task, 'running', null);
      this.create(turn, workflow, {
        graph,
        content_hash: '',
        copies: task.record.copies,
        parent: task.record,
        blockers: [],
        depth,
      });
    } catch (error) {
      this.tasks.fail(turn, task, errorShape(error), true);
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
    const live = this.adopt(record, workflow, new WorkflowGraph(workflow.steps), 0);
    for (const blocker of blockers) live.blockers.add(blocker);
    if (live.blockers.size > 0) return;
    if (record.started_at === null) {
      this.begin(turn, live);
      return;
    }
    const stepRecords = new Map(steps.map((step) => [step.step_id, step]));
    const tasksOf = Map.groupBy(tasks, (task) => task.step_id);
    const { run } = live;
    let stopping = run.start().stopping;
    for (const [stepId] of [...run.steps()]) {
      const step = stepRecords.get(stepId);
      if (step === undefined) continue;
      if (step.started_at !== null) live.started_at.set(stepId, step.started_at);
      for (const event of eventsOf(step, tasksOf.get(stepId) ?? [])) stopping = run.apply(event).stopping || stopping;
      for (const task of tasksOf.get(stepId) ?? []) {
        run.markIssued(stepId, task.index ?? 0);
        if (task.ended_at === null) live.tasks.add(task.uid);
      }
    }
    if (stopping) this.stopTasks(turn, live);
    const ready: string[] = [];
    for (const [stepId, { status }] of run.steps()) if (status === 'ready') ready.push(stepId);
    const settled = run.status === 'running' || run.status === 'input_required' ? null : run.status;
    this.follow(turn, live, { ready, ended: [], stopping: false, settled });
    if (settled === null) for (const stepId of run.started()) this.issue(turn, live, stepId);
  }

  /** Nesting depths are known once all runs are restored. */
  restoreDepths(): void {
    for (const live of this.live.values()) {
      let depth = 0;
      let parent = live.record.parent_task_uid;
      while (parent !== null && depth < NESTING_LEVELS_MAX) {
        depth++;
        const workflowUid = this.tasks.live.get(parent)?.record.workflow_uid ?? null;
        parent = workflowUid === null ? null : (this.live.get(workflowUid)?.record.parent_task_uid ?? null);
      }
      live.depth = depth;
    }
  }
}

/** A task's state before anything happened to it. */
export const EMPTY_TASK_STATE = {
  status: 'queued' as const,
  progress: 0,
  progress_message: null,
  attempt: 0,
  failures: 0,
  worker_id: null,
  peer_id: null,
  placement: null,
  due_at: null,
  deadline_at: null,
  output: null,
  error: null,
  attempts: [],
  dead_letter: false,
  retry_of: null,
  retry_count: 0,
  started_at: null,
  ended_at: null,
  wait_ms: null,
  execution_time_ms: null,
};

function taskEnded(record: TaskRecord): RunEvent {
  return {
    type: 'task_ended',
    step_id: record.step_id!,
    index: record.index ?? 0,
    status: record.status as 'completed' | 'failed' | 'cancelled',
    output: record.output,
    error: record.error,
  };
}

/** What a step's rows say that happened. */
function* eventsOf(step: StepRecord, tasks: readonly TaskRecord[]): Iterable<RunEvent> {
  const { step_id } = step;
  if (step.status === 'skipped' && step.started_at === null) {
    if (step.error === null) yield { type: 'step_skipped', step_id, reason: step.reason ?? '' };
    else yield { type: 'step_failed', step_id, error: step.error };
    return;
  }
  if (step.status === 'failed' && step.started_at === null) {
    yield { type: 'step_failed', step_id, error: step.error! };
    return;
  }
  if (step.started_at === null) return; // cancelled with its run before it began
  yield { type: 'step_started', step_id, items: step.items };
  for (const task of tasks) {
    if (task.status === 'input_required')
      yield { type: 'task_waiting', step_id, index: task.index ?? 0, waiting: true };
    if (task.ended_at !== null) yield taskEnded(task);
  }
  if (step.ended_at === null || step.status === 'cancelled') return;
  // An item without a row: its inputs could not be made, which counted as its failure.
  const made = new Set(tasks.map((task) => task.index ?? 0));
  for (let index = 0; index < (step.items?.length ?? 1); index++) {
    if (!made.has(index))
      yield { type: 'task_ended', step_id, index, status: 'failed', output: null, error: step.error };
  }
}

function nestedWorkflow(record: TaskRecord, newId: () => string): Workflow & { workflow_id: string } {
  const { workflow, input } = record.payload as { workflow?: JsonValue; input?: JsonValue };
  if (workflow === undefined || workflow === null || typeof workflow !== 'object' || Array.isArray(workflow)) {
    throw new FlowmeshError(
      'INVALID_PAYLOAD',
      'the action "workflow" takes inputs { workflow: { name, steps, … }, input: { … } }',
    );
  }
  if (input !== undefined && (input === null || typeof input !== 'object' || Array.isArray(input))) {
    throw new FlowmeshError('INVALID_PAYLOAD', 'the input of a nested workflow must be an object');
  }
  const parsed = parseWorkflow({ ...workflow, input: { ...((workflow['input'] as JsonObject) ?? {}), ...input } });
  return { ...parsed, workflow_id: parsed.workflow_id ?? newId() };
}

function expressionError(expression: string, error: ErrorShape): FlowmeshError {
  const text = expression.length > 200 ? `${expression.slice(0, 200)}…` : expression;
  return new FlowmeshError(error.code, `in \${ ${text} }: ${error.message}`, {
    retryable: error.retryable,
    details: { ...error.details, expression: text },
  });
}

/** A step that waits for a person runs, too. */
function isRunning(status: string): boolean {
  return status === 'running' || status === 'input_required';
}

function isEnded(status: string): boolean {
  return status === 'completed' || status === 'failed' || status === 'skipped' || status === 'cancelled';
}

function describe(value: JsonValue): string {
  const text = JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}
