/** How long the steps of a run take, for the critical path: measured where tasks have ended, else estimated. */
import type { TaskRecord, WorkflowRecord } from '../../scheduler/records.ts';
import { type RunRecords, statusOf } from './steps.ts';

/** The estimate for every step while nothing of the run is measured: then only the shape of the graph counts. */
export const ESTIMATE_MS = 1_000;

export interface StepDuration {
  ms: number;
  measured: boolean;
}

/**
 * The duration of each step, in ms.
 *
 * A step that ended: the time its task ran, or for several tasks from the first one's start to the last one's end.
 * A skipped or cancelled step: 0. Any other: the mean of the measured steps with the same action, else of all
 * measured ones, else ESTIMATE_MS.
 */
export function stepDurations(record: WorkflowRecord, run: RunRecords): Map<string, StepDuration> {
  const durations = new Map<string, StepDuration>();
  const byAction = new Map<string, Mean>();
  const all = new Mean();
  for (const { step_id, action } of run.workflow.steps) {
    const tasks = run.tasks?.get(step_id) ?? [];
    const status = statusOf(record, run.steps.get(step_id), run.tasks && tasks);
    if (status === 'skipped' || status === 'cancelled') durations.set(step_id, { ms: 0, measured: true });
    if (status !== 'completed' && status !== 'failed') continue;
    const ms = measuredMs(tasks);
    if (ms === null) continue;
    durations.set(step_id, { ms, measured: true });
    all.add(ms);
    const same = byAction.get(action) ?? new Mean();
    same.add(ms);
    byAction.set(action, same);
  }
  const overall = all.value ?? ESTIMATE_MS;
  for (const { step_id, action } of run.workflow.steps) {
    if (durations.has(step_id)) continue;
    durations.set(step_id, { ms: byAction.get(action)?.value ?? overall, measured: false });
  }
  return durations;
}

function measuredMs(tasks: TaskRecord[]): number | null {
  if (tasks.length === 1) return tasks[0]!.execution_time_ms;
  let first = Number.POSITIVE_INFINITY;
  let last = Number.NEGATIVE_INFINITY;
  for (const { started_at, ended_at } of tasks) {
    if (started_at !== null) first = Math.min(first, Date.parse(started_at));
    if (ended_at !== null) last = Math.max(last, Date.parse(ended_at));
  }
  const ms = last - first;
  return Number.isFinite(ms) ? Math.max(ms, 0) : null;
}

class Mean {
  #sum = 0;
  #count = 0;

  add(value: number): void {
    this.#sum += value;
    this.#count++;
  }

  get value(): number | null {
    return this.#count === 0 ? null : this.#sum / this.#count;
  }
}
