/** `task_status`: where a task is, and why there. */
import { z } from 'zod';
import { anyJson } from '../../dag/json.ts';
import type { Reader } from '../../scheduler/ports.ts';
import {
  errorSchema,
  placementSchema,
  type TaskRecord,
  taskRecordSchema,
  taskStatusSchema,
} from '../../scheduler/records.ts';
import { containerUid } from '../../scheduler/uids.ts';
import { maxBytesField, truncatedOut, WHOLE } from '../cut.ts';
import { defineReadTool } from '../definition.ts';
import { countOut, msOut, rounded, staleOut, submittedByOut, supersededOut, taskIdField, timeOut } from '../fields.ts';
import { logLineOut, logsOf } from './logs.ts';
import { queuePositionOut } from './view.ts';
import { waitingOf, waitingOut } from './waiting.ts';

const metricsOut = z.object({
  wait_ms: msOut.describe('From being ready to the last start.'),
  execution_time_ms: msOut.describe('What the last attempt ran; while it runs, up to now.'),
  attempts: countOut.describe('Starts so far.'),
  failures: countOut.describe('Attempts in which the action itself failed.'),
  retries_left: countOut,
  attempt_history: taskRecordSchema.shape.attempts.describe('Failed attempts, newest last.'),
});

const supersededEnds = supersededOut({ status: taskStatusSchema, output: anyJson });

export const taskStatus = defineReadTool({
  name: 'task_status',
  title: 'Status of a task',
  description:
    'Shows where a task is: its status, progress, the worker and peer that run it, its place in the queue, and in `placement` why it went there or why it still waits. Use it to follow a task, or to see why one failed or does not start. Any peer can be asked.',
  input: z.strictObject({
    task_id: taskIdField,
    include_logs: z.boolean().default(false).describe('The kept lines of what it printed.'),
    include_metrics: z.boolean().default(false).describe('Times, attempts and the errors of failed attempts.'),
    max_bytes: maxBytesField,
  }),
  output: z.object({
    task_id: z.string(),
    task_type: z.string().describe('The action.'),
    status: taskStatusSchema,
    progress: z.number().min(0).max(100),
    progress_message: z
      .string()
      .nullable()
      .describe('What the action last said of its progress; of an approve task, what a person is asked.'),
    priority: z.number(),
    worker_id: z.string().nullable(),
    peer_id: z.string().nullable().describe('The peer that runs or ran it.'),
    owner_peer_id: z.string().describe('The peer that keeps its record.'),
    submitted_by: submittedByOut,
    attempt: countOut.describe('0 before the first start.'),
    created_at: z.string().describe('When it was accepted, ISO 8601 UTC.'),
    start_time: timeOut,
    end_time: timeOut,
    due_at: timeOut.describe('Not started before this: a delay, a backoff, or the end of a sleep.'),
    queue_position: queuePositionOut,
    dead_letter: z.boolean().describe('True when it failed and its retries are used up.'),
    error: errorSchema.nullable(),
    workflow_id: z.string().nullable().describe('The workflow whose step it is.'),
    step_id: z.string().nullable(),
    retry_of: z.string().nullable().describe('The task that task_retry made it from.'),
    superseded: supersededEnds,
    stale_ms: staleOut,
    waiting: waitingOut,
    placement: placementSchema
      .nullable()
      .optional()
      .describe(
        'How many workers were considered, which was chosen, how it became known, and why; null when not placed yet.',
      ),
    logs: z.array(logLineOut).optional().describe('Oldest first, with include_logs.'),
    truncated: truncatedOut.optional(),
    logs_dropped: countOut.optional().describe('Lines that were not kept because there were too many.'),
    metrics: metricsOut.optional().describe('With include_metrics.'),
  }),
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  permission: 'task:read',
  about: ({ task_id }) => ({ kind: 'task', id: task_id }),
  cli: { positional: ['task_id'], whole: WHOLE, list: { field: 'logs', columns: ['at', 'attempt', 'stream', 'line'] } },
  async handler({ task_id, include_logs, include_metrics, max_bytes }, reading) {
    const { reader, clock, owner, isCopy, record } = reading;
    const task = await record('task', task_id);
    if (task === undefined) return undefined;
    const [waiting, queue_position, logs, superseded] = await Promise.all([
      waitingOf([task], reading),
      task.status === 'queued' && !isCopy ? reader.queuePosition(task) : null,
      include_logs ? logsOf(reader, task.uid, max_bytes) : {},
      readSuperseded(reader, task),
    ]);
    return {
      task_id,
      task_type: task.task_type,
      status: task.status,
      progress: task.progress,
      progress_message: task.progress_message,
      priority: task.priority,
      worker_id: task.worker_id,
      peer_id: task.peer_id,
      owner_peer_id: owner,
      ...(task.submitted_by !== undefined && { submitted_by: task.submitted_by }),
      attempt: task.attempt,
      created_at: task.created_at,
      start_time: task.started_at,
      end_time: task.ended_at,
      due_at: task.due_at,
      queue_position,
      dead_letter: task.dead_letter,
      error: task.error,
      workflow_id: task.workflow_id,
      step_id: task.step_id,
      retry_of: task.retry_of,
      waiting: waiting.get(task.uid) ?? null,
      placement: task.placement,
      ...(superseded.length > 0 && { superseded }),
      ...logs,
      ...(include_metrics && { metrics: measure(task, clock.wall()) }),
    };
  },
});

async function readSuperseded(reader: Reader, task: TaskRecord): Promise<NonNullable<z.infer<typeof supersededEnds>>> {
  // Ends from another side of a partition are shown beside the task's own end, so not before it has one.
  if (task.ended_at === null) return [];
  const others = await reader.children('superseded', containerUid(task.uid));
  return others.flatMap(({ record, line, superseded_at }) => {
    if (record.kind !== 'task' || record.uid !== task.uid) return [];
    const { status, output, error } = record;
    return [{ status, output, error, line, superseded_at }];
  });
}

function measure(task: TaskRecord, nowMs: number): z.infer<typeof metricsOut> {
  const running = task.status === 'running' && task.started_at !== null;
  return {
    wait_ms: task.wait_ms,
    execution_time_ms: running ? rounded(Math.max(nowMs - Date.parse(task.started_at!), 0)) : task.execution_time_ms,
    attempts: task.attempt,
    failures: task.failures,
    retries_left: Math.max(task.retry.max_retries - task.failures, 0),
    attempt_history: task.attempts,
  };
}
