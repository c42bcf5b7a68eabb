/** The first row of a task that a client submits, or asks for again. */
import { FlowmeshError } from '../../dag/errors.ts';
import type { TaskSubmission } from '../api.ts';
import { isoTime, wallMs } from '../ids.ts';
import { EMPTY_TASK_STATE, type TaskRecord } from '../records.ts';

/** @throws FlowmeshError INVALID_INPUT for a deadline that is not a time */
export function newTask(
  submission: TaskSubmission & { copies: number },
  task_id: string,
  content_hash: string,
  uid: string,
  now: number,
): TaskRecord {
  if (submission.deadline !== undefined && Number.isNaN(wallMs(submission.deadline))) {
    throw new FlowmeshError('INVALID_INPUT', `deadline: "${submission.deadline}" is not an ISO 8601 time`);
  }
  return {
    kind: 'task',
    uid,
    task_id,
    task_type: submission.task_type,
    payload: submission.payload,
    workflow_uid: null,
    workflow_id: null,
    step_id: null,
    index: null,
    priority: submission.priority,
    tags: submission.tags,
    metadata: submission.metadata,
    requires: submission.requires,
    ...wishes(submission),
    retry: submission.retry,
    timeout_ms: submission.timeout_ms ?? null,
    depends_on: submission.depends_on,
    ...(submission.submitted_by !== undefined && { submitted_by: submission.submitted_by }),
    at_most_once: submission.at_most_once,
    cache_key: null,
    content_hash,
    copies: submission.copies,
    ...EMPTY_TASK_STATE,
    due_at: submission.delay_ms === undefined ? null : isoTime(now + submission.delay_ms),
    deadline_at: submission.deadline === undefined ? null : isoTime(wallMs(submission.deadline)),
    created_at: isoTime(now),
    queued_at: isoTime(now),
  };
}

/** Fields that few tasks have; they are absent from the records of all others. */
export function wishes({ prefer, wait_timeout_ms }: Pick<TaskRecord, 'prefer' | 'wait_timeout_ms'>) {
  return {
    ...(prefer !== undefined && prefer.length > 0 && { prefer }),
    ...(wait_timeout_ms !== undefined && { wait_timeout_ms }),
  };
}

/** A new task with the work of one that failed or was cancelled. It belongs to no workflow, even if that one did. */
export function retriedTask(
  { signed: _accepted, signed_result: _ended, ...task }: TaskRecord,
  root: TaskRecord,
  retry_count: number,
  config: { max_retries: number | undefined; timeout_ms: number | undefined },
  uid: string,
  now: string,
): TaskRecord {
  return {
    ...task,
    ...EMPTY_TASK_STATE,
    uid,
    task_id: `${root.task_id}-retry-${retry_count}`,
    workflow_uid: null,
    workflow_id: null,
    step_id: null,
    index: null,
    depends_on: [],
    retry: { ...task.retry, max_retries: config.max_retries ?? task.retry.max_retries },
    timeout_ms: config.timeout_ms ?? task.timeout_ms,
    retry_of: root.task_id,
    retry_count,
    created_at: now,
    queued_at: now,
  };
}
