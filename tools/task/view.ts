/** Shapes of tasks that several tools answer. */
import { z } from 'zod';
import { type TaskRecord, taskStatusSchema } from '../../scheduler/records.ts';
import { countOut, msOut, submittedByOut, timeOut } from '../fields.ts';

export const queuePositionOut = countOut
  .nullable()
  .describe(
    'How many queued tasks of its owner come before it by priority and age, 0 for the first; with several callers, who take turns, it may run sooner or later. Null when it is not queued.',
  );

export const taskItemOut = z.object({
  task_id: z.string(),
  task_type: z.string(),
  status: taskStatusSchema,
  progress: z.number(),
  priority: z.number(),
  tags: z.array(z.string()),
  worker_id: z.string().nullable(),
  peer_id: z.string().nullable().describe('The peer that runs or ran it.'),
  owner_peer_id: z.string().describe('The peer that keeps its record.'),
  submitted_by: submittedByOut,
  attempt: countOut,
  dead_letter: z.boolean(),
  workflow_id: z.string().nullable(),
  step_id: z.string().nullable(),
  created_at: z.string(),
  start_time: timeOut,
  end_time: timeOut,
  execution_time_ms: msOut,
});
export type TaskItem = z.infer<typeof taskItemOut>;

export function taskItem(record: TaskRecord, self: string): TaskItem {
  return {
    task_id: record.task_id,
    task_type: record.task_type,
    status: record.status,
    progress: record.progress,
    priority: record.priority,
    tags: record.tags,
    worker_id: record.worker_id,
    peer_id: record.peer_id,
    owner_peer_id: self,
    ...(record.submitted_by !== undefined && { submitted_by: record.submitted_by }),
    attempt: record.attempt,
    dead_letter: record.dead_letter,
    workflow_id: record.workflow_id,
    step_id: record.step_id,
    created_at: record.created_at,
    start_time: record.started_at,
    end_time: record.ended_at,
    execution_time_ms: record.execution_time_ms,
  };
}
