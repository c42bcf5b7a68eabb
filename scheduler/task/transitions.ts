/** What happens to a task, as changes of its record. Pure: `now` is the wall clock, as in records. */
import { RECORD_ACTIONS } from '../../dag/actions.ts';
import { cutText, type ErrorShape, type JsonValue } from '../../dag/errors.ts';
import { wallMs } from '../ids.ts';
import { ATTEMPT_HISTORY_MAX, RECORD_BYTES_MAX } from '../limits.ts';
import type { TaskRecord } from '../records.ts';
import type { GivenLease, LiveTask } from './live-task.ts';

export type TaskEnd = Partial<TaskRecord> & { status: 'completed' | 'failed' | 'cancelled'; output?: JsonValue };

/** An attempt begins. */
export function started(record: TaskRecord, now: string): Partial<TaskRecord> {
  return {
    status: 'running',
    progress: 0,
    progress_message: null,
    started_at: now,
    wait_ms: record.wait_ms ?? Math.max(wallMs(now) - wallMs(record.queued_at), 0),
  };
}

/** An attempt of a task that is a state of its record begins. */
export function keptByOwner(record: TaskRecord, owner: string, now: string): Partial<TaskRecord> {
  const reason = `${record.task_type} is kept by the owner and holds no slot`;
  return {
    ...started(record, now),
    attempt: record.attempt + 1,
    peer_id: owner,
    worker_id: null,
    placement: { considered: 0, chosen: null, reason, found_by: null },
  };
}

/** A lease was refused before it started: the wait goes on as if it had not been given. */
export function neverStarted(record: TaskRecord): Partial<TaskRecord> {
  return record.attempts.length === 0 ? { started_at: null, wait_ms: null } : {};
}

/** The failed attempts with the current one. */
export function withAttempt(record: TaskRecord, error: ErrorShape, now: string): TaskRecord['attempts'] {
  const entry = { attempt: record.attempt, peer_id: record.peer_id, ended_at: now, error };
  return [...record.attempts, entry].slice(-ATTEMPT_HISTORY_MAX);
}

export function ended(record: TaskRecord, end: TaskEnd, now: string): TaskEnd {
  const { started_at } = record;
  const measured = end.execution_time_ms ?? record.execution_time_ms;
  return {
    ...end,
    ended_at: now,
    progress: end.status === 'completed' ? 100 : record.progress,
    execution_time_ms: measured ?? (started_at === null ? null : Math.max(wallMs(now) - wallMs(started_at), 0)),
    due_at: null,
  };
}

/** Not to be tried again by a program, where that may have its effect a second time. */
const LOOK_FIRST = 'it may have had its effect, and may run at most once: look, then use task_retry';

/** Its output would make its row one that no message carries. */
export function recordTooLarge(end: TaskEnd): TaskEnd {
  const message = `the task succeeded, and its record with the output is larger than RECORD_BYTES_MAX (${RECORD_BYTES_MAX} bytes): keep the output elsewhere and return where it is`;
  const error = { code: 'OUTPUT_TOO_LARGE', message, retryable: false };
  return { ...end, status: 'failed', output: null, error, dead_letter: true };
}

export function workerLost({ worker_id, peer_id, attempt }: GivenLease, record: TaskRecord): ErrorShape {
  const message = `worker ${worker_id} on peer ${peer_id} was lost while it ran attempt ${attempt}`;
  if (!record.at_most_once) return { code: 'WORKER_LOST', message, retryable: true };
  return { code: 'WORKER_LOST', message: `${message}; ${LOOK_FIRST}`, retryable: false };
}

/** It is not run any more: whatever is in it would go on to stop one peer after the other. */
export function poisonError({ task_id }: TaskRecord, crashes: number): ErrorShape {
  const message = `the mesh loop of a peer crashed ${crashes} times while it worked on task ${task_id}, which is not run any more; the log of that peer says why it crashed: change what the task does, or what it gives, before you retry it`;
  return { code: 'POISON_TASK', message, retryable: false, details: { crashes } };
}

export function ownerLost({ task_id }: TaskRecord): ErrorShape {
  return { code: 'OWNER_LOST', message: `the owner of task ${task_id} was lost; ${LOOK_FIRST}`, retryable: false };
}

export function deadlineError({ deadline_at, attempts }: TaskRecord): ErrorShape {
  const last = attempts.at(-1);
  const message =
    last === undefined
      ? `it had not started at its deadline ${deadline_at}; submit it again with a later one`
      : `its next attempt had not started at its deadline ${deadline_at}; the last one failed: ${cutText(last.error.message)}`;
  return { code: 'DEADLINE_EXCEEDED', message, retryable: false };
}

/**
 * True when an attempt ended because its worker's policy forbids the task, which another peer may allow. Not of an
 * `at_most_once` task (P4): a refused redirect comes after a first request. What a handler throws is its own.
 */
export function isPolicyRefusal({ record }: LiveTask, error: ErrorShape): boolean {
  return error.code === 'ACTION_NOT_ALLOWED' && !record.at_most_once && !record.task_type.startsWith('fn:');
}

/** True for one whose timeout ends it before it has lasted as long as it should. */
export function isOverdue({ timeout_ms, payload }: TaskRecord): boolean {
  return timeout_ms !== null && timeout_ms < Number(payload['duration_ms']);
}

export function timeoutError(record: TaskRecord): ErrorShape {
  const message = `the action "${record.task_type}" ran longer than timeout_ms (${record.timeout_ms})`;
  return { code: 'TIMEOUT', message, retryable: true };
}

/** False for an attempt that no worker can have been given. */
export function mayHaveRun(record: TaskRecord, attempt: number): boolean {
  return attempt > 0 && attempt <= record.attempt && !RECORD_ACTIONS.has(record.task_type);
}
