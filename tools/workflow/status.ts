/** `workflow_status`: where a run is. */
import { z } from 'zod';
import { anyJson } from '../../dag/json.ts';
import type { Reader } from '../../scheduler/ports.ts';
import { errorSchema, type TaskRecord, type WorkflowRecord, workflowStatusSchema } from '../../scheduler/records.ts';
import { cutJson, maxBytesField, truncatedOut, WHOLE } from '../cut.ts';
import { defineReadTool } from '../definition.ts';
import {
  countOut,
  durabilityOut,
  msOut,
  rounded,
  staleOut,
  submittedByOut,
  supersededOut,
  timeOut,
  workflowIdField,
} from '../fields.ts';
import {
  ALL_STEPS,
  namedSteps,
  pageOf,
  stepFilterField,
  stepLimitField,
  stepOffsetField,
  stepStatusFilterField,
  stepsWithin,
} from './step-pages.ts';
import { type RunRecords, readRun, type ShownStep, showSteps, stepOut } from './steps.ts';
import { waitingSteps } from './waiting.ts';

/** Bytes of JSON that are shown of a result from another side of a partition. */
const SUPERSEDED_RESULT_BYTES_MAX = 4_000;

const metricsOut = z.object({
  tasks_total: countOut,
  tasks_by_status: z.record(z.string(), countOut),
  attempts: countOut.describe('Starts of tasks, retries included.'),
  retries: countOut.describe('Starts after the first one of each task.'),
  elapsed_ms: msOut.describe('From the start of the run to its end, or to now.'),
  execution_ms: z.number().describe('What its tasks ran, added up.'),
  wait_ms: z.number().describe('What its tasks waited for a worker, added up.'),
  parallelism: z.number().nullable().describe('execution_ms / elapsed_ms: how many ran at a time on average.'),
  peers: z.array(z.object({ peer_id: z.string(), tasks: countOut, execution_ms: z.number() })),
});

const supersededEnds = supersededOut({ status: workflowStatusSchema, result: anyJson });

export const workflowStatus = defineReadTool({
  name: 'workflow_status',
  title: 'Status of a workflow',
  description:
    'Shows where a workflow is: its status, progress in percent, the step that runs now, and every step with the peers that ran it. Use it to follow a run, or to see why one failed or waits (`input_required`: a person has to answer an approve step). Any peer can be asked; the answer is that of the owner, or of a copy while the owner cannot be reached.',
  input: z.strictObject({
    workflow_id: workflowIdField,
    include_steps: z.boolean().default(true).describe('Every step with its status, times, error and peers.'),
    include_metrics: z.boolean().default(false).describe('Counts and times over all tasks of the run.'),
    step_filter: stepFilterField,
    step_status_filter: stepStatusFilterField,
    limit: stepLimitField,
    offset: stepOffsetField,
    max_bytes: maxBytesField,
  }),
  output: z.object({
    workflow_id: z.string(),
    name: z.string(),
    status: workflowStatusSchema.describe('submitted: accepted, and nothing of it has begun.'),
    progress: z.number().min(0).max(100).describe('0–100: ended steps, a `foreach` step by its ended items.'),
    current_step: z.string().nullable().describe('A step that runs now.'),
    peer_id: z.string().describe('The peer that owns the workflow.'),
    submitted_by: submittedByOut,
    steps_total: countOut,
    steps_ended: countOut,
    created_at: z.string().describe('When it was accepted, ISO 8601 UTC.'),
    start_time: timeOut,
    end_time: timeOut,
    error: errorSchema.nullable().describe('Why it failed or was cancelled.'),
    durability: durabilityOut.optional().describe('On how many disks it is now, of how many wanted; not from a copy.'),
    superseded: supersededEnds,
    stale_ms: staleOut,
    steps: z
      .array(stepOut)
      .optional()
      .describe('With include_steps: those that the filters leave, in the order of the workflow.'),
    steps_by_status: z
      .record(z.string(), countOut)
      .optional()
      .describe('With include_steps: how many of all steps have which status.'),
    truncated: truncatedOut,
    metrics: metricsOut
      .nullable()
      .optional()
      .describe('With include_metrics; null for a run of too many tasks to add up.'),
  }),
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  permission: 'workflow:read',
  about: ({ workflow_id }) => ({ kind: 'workflow', id: workflow_id }),
  cli: {
    positional: ['workflow_id'],
    whole: { ...WHOLE, ...ALL_STEPS },
    list: {
      field: 'steps',
      columns: ['step_id', 'action', 'status', 'waiting', 'tasks', 'peers', 'started_at', 'ended_at'],
    },
  },
  async handler({ workflow_id, include_steps, include_metrics, ...asked }, reading) {
    const { reader, clock, owner, durability, record: recordOf } = reading;
    const record = await recordOf('workflow', workflow_id);
    if (record === undefined) return undefined;
    const run = include_steps || include_metrics ? await readRun(reader, record.uid) : undefined;
    const superseded = await readSuperseded(reader, record.uid);
    const all =
      include_steps && run !== undefined ? showSteps(record, run, await waitingSteps(record, run, reading)) : [];
    const shown = include_steps ? stepsOf(all, asked) : { truncated: false };
    return {
      workflow_id,
      name: record.name,
      status: record.status,
      progress: record.progress,
      current_step: record.status === 'submitted' ? null : record.current_step,
      peer_id: owner,
      ...(record.submitted_by !== undefined && { submitted_by: record.submitted_by }),
      steps_total: record.steps_total,
      steps_ended: record.steps_ended,
      created_at: record.created_at,
      start_time: record.status === 'submitted' ? null : record.started_at,
      end_time: record.ended_at,
      error: record.error,
      durability: durability(record.copies) ?? undefined,
      ...(superseded.length > 0 && { superseded }),
      ...shown,
      ...(include_metrics && { metrics: run === undefined ? null : measure(record, run, clock.wall()) }),
    };
  },
});

interface StepsAsked {
  step_filter: string[];
  step_status_filter: string[];
  limit: number;
  offset: number;
  max_bytes: number;
}

function stepsOf(all: ShownStep[], asked: StepsAsked) {
  const steps_by_status: Record<string, number> = {};
  for (const { status } of all) steps_by_status[status] = (steps_by_status[status] ?? 0) + 1;
  const statuses = new Set(asked.step_status_filter);
  const named = all.length === 0 ? [] : namedSteps('workflow_status', all, asked.step_filter);
  const matching = statuses.size === 0 ? named : named.filter(({ status }) => statuses.has(status));
  const { page, truncated } = pageOf(matching, asked);
  const steps = stepsWithin(page, asked.max_bytes);
  return { steps, steps_by_status, truncated: truncated || steps.length < page.length };
}

async function readSuperseded(reader: Reader, uid: string): Promise<NonNullable<z.infer<typeof supersededEnds>>> {
  const others = await reader.children('superseded', uid);
  return others.flatMap(({ record, line, superseded_at }) => {
    if (record.kind !== 'workflow' || record.uid !== uid) return [];
    const { status, error } = record;
    const { value: result } = cutJson(record.result, SUPERSEDED_RESULT_BYTES_MAX);
    return [{ status, result, error, line, superseded_at }];
  });
}

function measure(record: WorkflowRecord, run: RunRecords, nowMs: number): z.infer<typeof metricsOut> | null {
  if (run.tasks === null) return null;
  const tasks = [...run.tasks.values()].flat();
  const tasks_by_status: Record<string, number> = {};
  for (const { status } of tasks) tasks_by_status[status] = (tasks_by_status[status] ?? 0) + 1;
  const execution_ms = sum(tasks, (task) => task.execution_time_ms ?? 0);
  const elapsed_ms = elapsed(record, nowMs);
  return {
    tasks_total: tasks.length,
    tasks_by_status,
    attempts: sum(tasks, (task) => task.attempt),
    retries: sum(tasks, (task) => Math.max(task.attempt - 1, 0)),
    elapsed_ms,
    execution_ms: rounded(execution_ms),
    wait_ms: rounded(sum(tasks, (task) => task.wait_ms ?? 0)),
    parallelism: elapsed_ms === null || elapsed_ms === 0 ? null : rounded(execution_ms / elapsed_ms),
    peers: byPeer(tasks),
  };
}

function elapsed(record: WorkflowRecord, nowMs: number): number | null {
  if (record.execution_time_ms !== null) return record.execution_time_ms;
  return record.started_at === null ? null : Math.max(nowMs - Date.parse(record.started_at), 0);
}

function byPeer(tasks: TaskRecord[]): { peer_id: string; tasks: number; execution_ms: number }[] {
  const peers = new Map<string, { peer_id: string; tasks: number; execution_ms: number }>();
  for (const { peer_id, execution_time_ms } of tasks) {
    if (peer_id === null) continue;
    const peer = peers.get(peer_id) ?? { peer_id, tasks: 0, execution_ms: 0 };
    peer.tasks++;
    peer.execution_ms = rounded(peer.execution_ms + (execution_time_ms ?? 0));
    peers.set(peer_id, peer);
  }
  return [...peers.values()].sort((a, b) => b.tasks - a.tasks || (a.peer_id < b.peer_id ? -1 : 1));
}

function sum(tasks: TaskRecord[], value: (task: TaskRecord) => number): number {
  return tasks.reduce((total, task) => total + value(task), 0);
}
