/** The steps of a run as answers show them: put together from the definition, the step records and the tasks. */
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
import { definitionUid } from '../../scheduler/uids.ts';
import { countOut, timeOut } from '../fields.ts';
import { type Waiting, waitingOut } from '../task/waiting.ts';

/** For a run with more tasks than this, tasks are not read, and an answer leaves out what only they say. */
export const TASKS_READ_MAX = 10_000;

export const stepStatusSchema = z.enum([
  'pending',
  'queued',
  'running',
  'input_required',
  'completed',
  'failed',
  'skipped',
  'cancelled',
]);
type ShownStatus = z.infer<typeof stepStatusSchema>;

const itemsOut = z.object({
  total: countOut,
  completed: countOut,
  failed: countOut,
  skipped: countOut.describe('Left out by `when`.'),
  running: countOut,
  by_peer: z.array(z.object({ peer_id: z.string(), tasks: countOut })).describe('Tasks that ran or run at each peer.'),
});
const itemIndexOut = z.number().int().nullable().describe('Its item; null for a step that is one task.');
const retryingOut = z.object({
  task_id: z.string(),
  index: itemIndexOut,
  attempt: countOut.describe('The one that runs or comes next, counted from 1.'),
  attempts_max: countOut,
  next_at: timeOut.describe('When it is tried, ISO 8601 UTC; null when it runs or may run now.'),
  error: errorSchema.nullable().describe('Why the attempt before it failed.'),
});
const failedTaskOut = z.object({
  task_id: z.string(),
  index: itemIndexOut,
  peer_id: z.string().nullable(),
  error: errorSchema.nullable(),
});

export const stepOut = z.object({
  step_id: z.string(),
  action: z.string(),
  status: stepStatusSchema.describe(
    'pending: others come first. queued: it waits for a worker or its time, and nothing of it has begun.',
  ),
  waiting: waitingOut,
  reason: z.string().nullable().describe('Why it was skipped or cancelled, or what a person is asked.'),
  started_at: timeOut,
  ended_at: timeOut,
  error: errorSchema.nullable(),
  tasks: countOut.describe('Tasks made for it so far: one, or one per item of `foreach`.'),
  peers: z
    .array(z.string())
    .nullable()
    .describe(`Peers that ran them; null in runs of more than ${TASKS_READ_MAX} tasks.`),
  items: itemsOut.optional().describe('Of a `foreach` step, while the tasks of its run are read.'),
  retrying: retryingOut.optional().describe('The task of it that is tried again next, or now.'),
  failed_task: failedTaskOut
    .optional()
    .describe('The first task of it that failed: task_status and its logs say more.'),
  asking_task: z.string().optional().describe('The first task of it that waits for a person.'),
});
export type ShownStep = z.infer<typeof stepOut>;

/** The records of one run in this peer's store. `tasks` is null when there are more than TASKS_READ_MAX. */
export interface RunRecords {
  workflow: Workflow;
  steps: Map<string, StepRecord>;
  tasks: Map<string, TaskRecord[]> | null;
}

/** Resolves undefined when the definition is not here. */
export async function readRun(reader: Reader, uid: string): Promise<RunRecords | undefined> {
  const [definition, records] = await Promise.all([
    reader.get('definition', definitionUid(uid)),
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

/** The steps as answers show them, in the order of the workflow's definition. */
export function showSteps(record: WorkflowRecord, run: RunRecords, waiting: ReadonlyMap<string, Waiting>): ShownStep[] {
  return run.workflow.steps.map(({ step_id, action }) => {
    const step = run.steps.get(step_id);
    const tasks = run.tasks?.get(step_id) ?? [];
    const status = statusOf(record, step, run.tasks && tasks);
    return {
      step_id,
      action,
      status,
      waiting: waiting.get(step_id) ?? null,
      reason: step?.reason ?? questionOf(tasks),
      started_at: status === 'queued' ? null : (step?.started_at ?? null),
      ended_at: step?.ended_at ?? null,
      error: step?.error ?? null,
      tasks: run.tasks === null ? tasksOf(step) : tasks.length,
      peers: run.tasks === null ? null : peersOf(tasks),
      ...(run.tasks !== null && detailsOf(step, tasks)),
    };
  });
}

/** About how many tasks a step has, from its record alone. */
function tasksOf(step: StepRecord | undefined): number {
  if (step === undefined) return 0;
  return step.items === null ? 1 : step.items.length - (step.left_out?.length ?? 0);
}

/**
 * The status of a step. A step without a record never started: it still may, or the run has ended.
 * @param tasks of the step; null when there are too many to read: the step then counts as begun
 */
export function statusOf(
  record: WorkflowRecord,
  step: StepRecord | undefined,
  tasks: readonly TaskRecord[] | null,
): ShownStatus {
  if (step === undefined) {
    if (!isTerminal(record.status)) return 'pending';
    return record.status === 'completed' ? 'skipped' : 'cancelled';
  }
  if (step.status !== 'running') return step.status;
  if (tasks?.some(({ status }) => status === 'input_required')) return 'input_required';
  return tasks?.every(({ status }) => status === 'queued') === true ? 'queued' : 'running';
}

/** The question of the first task that waits for a person; null when none does. */
function questionOf(tasks: TaskRecord[]): string | null {
  return tasks.find(({ status }) => status === 'input_required')?.progress_message ?? null;
}

/** Fields about tasks that only some steps have. */
function detailsOf(step: StepRecord | undefined, tasks: TaskRecord[]): Partial<ShownStep> {
  const failed = tasks.find(({ status }) => status === 'failed');
  const asking = tasks.find(({ status }) => status === 'input_required');
  const retried = nextTried(tasks);
  return {
    ...(step != null && step.items !== null && { items: itemsOf(step, step.items.length, tasks) }),
    ...(retried !== undefined && { retrying: retryOf(retried) }),
    ...(failed !== undefined && {
      failed_task: { task_id: failed.task_id, index: failed.index, peer_id: failed.peer_id, error: failed.error },
    }),
    ...(asking !== undefined && { asking_task: asking.task_id }),
  };
}

function itemsOf({ left_out }: StepRecord, total: number, tasks: TaskRecord[]): NonNullable<ShownStep['items']> {
  const count = (status: TaskRecord['status']) => tasks.filter((task) => task.status === status).length;
  const counts = new Map<string, number>();
  for (const { peer_id } of tasks) if (peer_id !== null) counts.set(peer_id, (counts.get(peer_id) ?? 0) + 1);
  const by_peer = [...counts].map(([peer_id, count]) => ({ peer_id, tasks: count }));
  by_peer.sort((a, b) => (a.peer_id < b.peer_id ? -1 : 1));
  const ended = { completed: count('completed'), failed: count('failed'), skipped: left_out?.length ?? 0 };
  return { total, ...ended, running: count('running'), by_peer };
}

/** Of the tasks that are tried again: one that runs, else the one whose next attempt comes first. */
function nextTried(tasks: TaskRecord[]): TaskRecord | undefined {
  const again = tasks.filter(({ status, failures }) => failures > 0 && (status === 'queued' || status === 'running'));
  const time = ({ status, due_at }: TaskRecord) => (status === 'running' ? '' : (due_at ?? ''));
  return again.reduce<TaskRecord | undefined>(
    (first, task) => (first === undefined || time(task) < time(first) ? task : first),
    undefined,
  );
}

function retryOf({ task_id, index, failures, retry, status, due_at, attempts }: TaskRecord) {
  return {
    task_id,
    index,
    attempt: failures + 1,
    attempts_max: retry.max_retries + 1,
    next_at: status === 'queued' ? due_at : null,
    error: attempts.at(-1)?.error ?? null,
  };
}

function peersOf(tasks: TaskRecord[]): string[] {
  return [...new Set(tasks.flatMap(({ peer_id }) => (peer_id === null ? [] : [peer_id])))].sort();
}
