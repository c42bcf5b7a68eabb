/** A workflow in memory: its fold, its live tasks, and the rows that say how it stands. */
import type { WorkflowGraph } from '../../dag/graph.ts';
import { Run, type RunEvent } from '../../dag/run.ts';
import type { Step, Workflow } from '../../dag/schema.ts';
import type { StepRecord, TaskRecord, WorkflowRecord } from '../records.ts';
import type { LiveRecords } from '../storage/live-records.ts';
import type { LiveTask } from '../task/live-task.ts';
import { stepUid } from '../uids.ts';

export interface LiveRun {
  record: WorkflowRecord;
  workflow: Workflow;
  /** False until its first rows may be shown (P1). */
  durable: boolean;
  steps: Map<string, Step>;
  run: Run;
  /** What of it began first; null while nothing has: it is `submitted` until then. */
  begun_with: string | null;
  /** Ids of workflows that must complete first. */
  blockers: Set<string>;
  /** Uids of its live tasks. */
  tasks: Set<string>;
  /** Uids of tasks that are just being ended with an output of the cache, which is not to be put there again. */
  from_cache: Set<string>;
  started_at: Map<string, string>;
  /** Ready steps whose expressions are not evaluated yet. */
  todo: string[];
  /** Set once the run's end is being written: its output is being evaluated. */
  settling: boolean;
  /** A cancel asked for its tasks to be ended without grace time. */
  forceStop: boolean;
  depth: number;
}

export function liveRun(record: WorkflowRecord, workflow: Workflow, graph: WorkflowGraph, depth: number): LiveRun {
  return {
    record,
    workflow,
    durable: true,
    steps: new Map(workflow.steps.map((step) => [step.step_id, step])),
    run: new Run(workflow, graph),
    begun_with: record.status === 'submitted' ? null : record.uid,
    blockers: new Set(),
    tasks: new Set(),
    from_cache: new Set(),
    started_at: new Map(),
    todo: [],
    settling: false,
    forceStop: false,
    depth,
  };
}

/** The row of a step as it stands. */
export function stepRecord(live: LiveRun, stepId: string, now: string): StepRecord {
  const { status, items, left_out, error, reason } = live.run.step(stepId);
  const open = status === 'running' || status === 'input_required';
  return {
    kind: 'step',
    uid: stepUid(live.record.uid, stepId),
    workflow_uid: live.record.uid,
    step_id: stepId,
    status: open ? 'running' : (status as StepRecord['status']),
    items,
    ...(left_out.length > 0 && { left_out: [...left_out] }),
    reason,
    error,
    started_at: live.started_at.get(stepId) ?? null,
    ended_at: open ? null : now,
  };
}

/** What the end of a task means for its run. */
export function taskEnded(record: TaskRecord): RunEvent {
  return {
    type: 'task_ended',
    step_id: record.step_id!,
    index: record.index ?? 0,
    status: record.status as 'completed' | 'failed' | 'cancelled',
    output: record.output,
    error: record.error,
  };
}

/**
 * Applies to a new run what the rows of its steps and tasks say that happened.
 * @returns true when the run stops: its tasks are to be cancelled
 */
export function replay(live: LiveRun, steps: readonly StepRecord[], tasks: readonly TaskRecord[]): boolean {
  const stepRecords = new Map(steps.map((step) => [step.step_id, step]));
  const tasksOf = Map.groupBy(tasks, (task) => task.step_id);
  const { run, record } = live;
  run.start();
  // A run that has not ended and has an error was stopped from outside.
  const stop: RunEvent = { type: 'stop', status: 'cancelled', error: record.error };
  let stopping = record.error !== null && run.apply(stop).stopping;
  for (const [stepId] of [...run.steps()]) {
    const step = stepRecords.get(stepId);
    if (step === undefined) continue;
    if (step.started_at !== null) live.started_at.set(stepId, step.started_at);
    for (const event of eventsOf(step, tasksOf.get(stepId) ?? [])) stopping = run.apply(event).stopping || stopping;
    for (const task of tasksOf.get(stepId) ?? []) {
      const index = task.index ?? 0;
      run.markIssued(stepId, index);
      if (task.status === 'input_required') run.apply({ type: 'task_waiting', step_id: stepId, index, waiting: true });
      if (task.ended_at === null) live.tasks.add(task.uid);
    }
  }
  return stopping;
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
  yield { type: 'step_started', step_id, items: step.items, left_out: step.left_out ?? [] };
  for (const task of tasks) if (task.ended_at !== null) yield taskEnded(task);
  if (step.ended_at === null || step.status === 'cancelled') return;
  // An item without a row: its inputs could not be made, which counted as its failure.
  const made = new Set([...tasks.map((task) => task.index ?? 0), ...(step.left_out ?? [])]);
  for (let index = 0; index < (step.items?.length ?? 1); index++) {
    if (!made.has(index))
      yield { type: 'task_ended', step_id, index, status: 'failed', output: null, error: step.error };
  }
}

/** A step that waits for a person runs, too. */
export function isRunning(status: string): boolean {
  return status === 'running' || status === 'input_required';
}

/** What a run that has not ended is: `submitted` until something of it has begun. */
export function statusOf({ begun_with }: LiveRun): 'submitted' | 'running' {
  return begun_with === null ? 'submitted' : 'running';
}

/** @returns the uid of a task of a run that has begun; null for none */
export function begunAmong({ tasks }: LiveRun, live: Pick<LiveRecords<LiveTask>, 'get'>): string | null {
  for (const uid of tasks) {
    const record = live.get(uid)?.record;
    if (record !== undefined && (record.status !== 'queued' || record.started_at !== null)) return uid;
  }
  return null;
}

/** Of a step. */
export function isEnded(status: string): boolean {
  return status === 'completed' || status === 'failed' || status === 'skipped' || status === 'cancelled';
}
