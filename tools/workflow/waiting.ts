/** Why the steps of a run wait that have not begun, or have items that have not begun. */
import { isTerminal, type StepRecord, type TaskRecord, type WorkflowRecord } from '../../scheduler/records.ts';
import type { Reading } from '../definition.ts';
import { type Waiting, waitingOf } from '../task/waiting.ts';
import type { RunRecords } from './steps.ts';

/** Steps named in one reason. */
const NAMED_MAX = 5;

/** @returns by step id; steps that do not wait are not in it */
export async function waitingSteps(
  record: WorkflowRecord,
  { workflow, steps, tasks }: RunRecords,
  reading: Pick<Reading, 'clock' | 'isCopy' | 'whyWaiting'>,
): Promise<Map<string, Waiting>> {
  const waiting = new Map<string, Waiting>();
  if (isTerminal(record.status)) return waiting;
  const asked = new Map<string, { task: TaskRecord; waits: number; of: number }>();
  for (const { step_id, depends_on } of workflow.steps) {
    const step = steps.get(step_id);
    if (step === undefined) {
      waiting.set(step_id, { ...whyPending(record, depends_on, steps), since: record.started_at ?? record.created_at });
      continue;
    }
    if (step.ended_at !== null) continue;
    const own = tasks?.get(step_id) ?? [];
    const idle = own.filter(({ status }) => status === 'queued' || status === 'input_required');
    const first = idle.find(({ status }) => status === 'input_required') ?? soonest(idle);
    if (first !== undefined) asked.set(step_id, { task: first, waits: idle.length, of: own.length });
  }
  const why = await waitingOf(
    [...asked.values()].map(({ task }) => task),
    reading,
  );
  for (const [step_id, { task, waits, of }] of asked) {
    const found = why.get(task.uid);
    if (found === undefined) continue;
    const reason = of === 1 ? found.reason : `${waits} of ${of} items wait: ${found.reason}`;
    waiting.set(step_id, { ...found, reason });
  }
  return waiting;
}

/** A task that could begin now, else the one whose time comes first. */
function soonest(tasks: readonly TaskRecord[]): TaskRecord | undefined {
  let found: TaskRecord | undefined;
  for (const task of tasks) if (found === undefined || (task.due_at ?? '') < (found.due_at ?? '')) found = task;
  return found;
}

/** Why a step without a row waits: its run has not begun, or other steps have to end before it. */
function whyPending(
  { started_at, dependencies }: WorkflowRecord,
  depends_on: readonly string[],
  steps: ReadonlyMap<string, StepRecord>,
): Pick<Waiting, 'for' | 'reason'> {
  if (started_at === null) {
    if (dependencies.length === 0) return { for: 'queue', reason: 'enough copies of the workflow are not kept yet' };
    return { for: 'workflows', reason: `the workflow depends on ${named(dependencies)}` };
  }
  const open = depends_on.filter((id) => steps.get(id)?.ended_at == null);
  if (open.length > 0) return { for: 'steps', reason: `depends on ${named(open)}` };
  return { for: 'queue', reason: 'its expressions are being evaluated' };
}

function named(ids: readonly string[]): string {
  const more = ids.length - NAMED_MAX;
  return more > 0 ? `${ids.slice(0, NAMED_MAX).join(', ')} and ${more} more` : ids.join(', ');
}
