/** A run that has not ended, in the memory of its owner; how its rows are made, and how it is rebuilt from them. */
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
  /** Uid of the task that began first, or of the run once a step has ended; null while the run is `submitted`. */
  begun_with: string | null;
  /** Ids of workflows that must complete before this one begins. */
  blockers: Set<string>;
  /** Uids of its tasks that have not ended. */
  tasks: Set<string>;
  /** Uids of tasks that are being ended with an output from the cache: that output is not cached a second time. */
  from_cache: Set<string>;
  /** ISO times, by step id. */
  started_at: Map<string, string>;
  /** Ready steps whose expressions are not evaluated yet. */
  todo: string[];
  /** Every step has ended: the output is being evaluated, and nothing else of the run may begin. */
  settling: boolean;
  /** A cancel asked to end the run's tasks without grace time. */
  forceStop: boolean;
  /** How many workflows this one is nested in. */
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

/** @param now ISO time, the end of a step that has ended */
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

/** The event for the run of a task that has ended. */
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
 * Brings a new run to where the rows of its steps and tasks left it.
 * @returns true when the run has stopped, so its open tasks have to be cancelled
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

/** The events that the rows of one step and its tasks stand for, in order. */
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
  // The inputs of an item without a row could not be made: the item counted as failed.
  const made = new Set([...tasks.map((task) => task.index ?? 0), ...(step.left_out ?? [])]);
  for (let index = 0; index < (step.items?.length ?? 1); index++) {
    if (!made.has(index))
      yield { type: 'task_ended', step_id, index, status: 'failed', output: null, error: step.error };
  }
}

/** Whether a step with this status runs; one that waits for a person does. */
export function isRunning(status: string): boolean {
  return status === 'running' || status === 'input_required';
}

/** The status of a run that has not ended: `submitted` until a task has begun or a step has ended. */
export function statusOf({ begun_with }: LiveRun): 'submitted' | 'running' {
  return begun_with === null ? 'submitted' : 'running';
}

/** The uid of a task of this run that has begun; null when none has. */
export function begunAmong({ tasks }: LiveRun, live: Pick<LiveRecords<LiveTask>, 'get'>): string | null {
  for (const uid of tasks) {
    const record = live.get(uid)?.record;
    if (record !== undefined && (record.status !== 'queued' || record.started_at !== null)) return uid;
  }
  return null;
}

/** Whether a step with this status has ended. */
export function isEnded(status: string): boolean {
  return status === 'completed' || status === 'failed' || status === 'skipped' || status === 'cancelled';
}
