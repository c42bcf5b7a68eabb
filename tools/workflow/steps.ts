/** The steps of a run as they are shown: the definition, the step records and the tasks put together. */
import { z } from 'zod';
import type { Workflow } from '../../dag/schema.ts';
import type { Reader } from '../../scheduler/ports.ts';
import {
  errorSchema,
  isTerminal,
  type StepRecord,
  type TaskRecord,
  type WorkflowRecord,
} from '../../scheduler/records.ts';
import { countOut, timeOut } from '../fields.ts';

/** Above this many task instances, an answer leaves out what can only be read from each task. */
export const TASKS_READ_MAX = 10_000;

export const stepStatusSchema = z.enum([
  'pending',
  'running',
  'input_required',
  'completed',
  'failed',
  'skipped',
  'cancelled',
]);
type ShownStatus = z.infer<typeof stepStatusSchema>;

export const stepOut = z.object({
  step_id: z.string(),
  action: z.string(),
  status: stepStatusSchema,
  reason: z.string().nullable().describe('Why it was skipped or cancelled, or what a person is asked.'),
  started_at: timeOut,
  ended_at: timeOut,
  error: errorSchema.nullable(),
  tasks: countOut.describe('Tasks made for it so far: one, or one per item of `foreach`.'),
  peers: z
    .array(z.string())
    .nullable()
    .describe(`Peers that ran them; null in runs of more than ${TASKS_READ_MAX} tasks.`),
});
export type ShownStep = z.infer<typeof stepOut>;

/** What this peer's store has of one run. `tasks` is null when there are more than TASKS_READ_MAX. */
export interface RunRecords {
  workflow: Workflow;
  steps: Map<string, StepRecord>;
  tasks: Map<string, TaskRecord[]> | null;
}

/** Resolves undefined when the definition is not here. */
export async function readRun(reader: Reader, uid: string): Promise<RunRecords | undefined> {
  const [definition, records] = await Promise.all([
    reader.get('definition', `${uid}:definition`),
    reader.children('step', uid),
  ]);
  if (definition === undefined) return undefined;
  const steps = new Map(records.map((step) => [step.step_id, step]));
  const instances = records.reduce((sum, step) => sum + (step.items?.length ?? 1), 0);
  const tasks = instances > TASKS_READ_MAX ? null : tasksByStep(await reader.children('task', uid));
  return { workflow: definition.workflow, steps, tasks };
}

function tasksByStep(tasks: TaskRecord[]): Map<string, TaskRecord[]> {
  const byStep = new Map<string, TaskRecord[]>();
  for (const task of tasks) {
    if (task.step_id === null) continue;
    const list = byStep.get(task.step_id);
    if (list === undefined) byStep.set(task.step_id, [task]);
    else list.push(task);
  }
  for (const list of byStep.values()) list.sort((a, b) => (a.index ?? 0) - (b.index ?? 0));
  return byStep;
}

/** In the order of the workflow's definition. */
export function showSteps(record: WorkflowRecord, run: RunRecords): ShownStep[] {
  return run.workflow.steps.map(({ step_id, action }) => {
    const step = run.steps.get(step_id);
    const tasks = run.tasks?.get(step_id) ?? [];
    return {
      step_id,
      action,
      status: statusOf(record, step, tasks),
      reason: step?.reason ?? questionOf(tasks),
      started_at: step?.started_at ?? null,
      ended_at: step?.ended_at ?? null,
      error: step?.error ?? null,
      tasks: run.tasks === null ? (step?.items?.length ?? (step === undefined ? 0 : 1)) : tasks.length,
      peers: run.tasks === null ? null : peersOf(tasks),
    };
  });
}

/** Without a record a step never started: it still may, or the run ended before. */
export function statusOf(record: WorkflowRecord, step: StepRecord | undefined, tasks: TaskRecord[]): ShownStatus {
  if (step === undefined) {
    if (!isTerminal(record.status)) return 'pending';
    return record.status === 'completed' ? 'skipped' : 'cancelled';
  }
  if (step.status === 'running' && tasks.some(({ status }) => status === 'input_required')) return 'input_required';
  return step.status;
}

/** Of the first task that waits for a person. */
function questionOf(tasks: TaskRecord[]): string | null {
  return tasks.find(({ status }) => status === 'input_required')?.progress_message ?? null;
}

function peersOf(tasks: TaskRecord[]): string[] {
  return [...new Set(tasks.flatMap(({ peer_id }) => (peer_id === null ? [] : [peer_id])))].sort();
}
