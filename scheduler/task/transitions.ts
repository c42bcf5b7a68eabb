/**
 * The state transitions of a task: what the end of an attempt means for it (`outcomeOf`), and the changes of its
 * record. Pure: `now` is the wall clock, as in records.
 *
 * 1. Every result of the current lease counts; of an earlier one only a success, and the current is called back (P3).
 *    It has to come from the peer that has or had the lease, as far as that can be known (P9, `isUsable`).
 * 2. An attempt that was lost with its worker is repeated; for an `at_most_once` task it is the end (P4).
 * 3. A task with which mesh loops crash again and again is not run any more.
 */
import { RECORD_ACTIONS } from '../../dag/actions.ts';
import { cutText, type ErrorShape, FlowmeshError, type JsonValue } from '../../dag/errors.ts';
import { contentHash, wallMs } from '../ids.ts';
import {
  ATTEMPT_HISTORY_MAX,
  LOST_ATTEMPTS_MAX,
  POISON_CRASHES,
  POLICY_REFUSALS_MAX,
  RECORD_BYTES_MAX,
} from '../limits.ts';
import type { LeaseEnd } from '../membership/peer-table.ts';
import type { AttemptResult, LeaseToken } from '../messages.ts';
import type { ResultSignature, TaskRecord } from '../records.ts';
import { type GivenLease, isNamedBy, type LiveTask } from './live-task.ts';

export type TaskEnd = Partial<TaskRecord> & { status: 'completed' | 'failed' | 'cancelled'; output?: JsonValue };

/** The feed that tasks live in, as its owner writes it now. */
export interface TaskFeed {
  feed_id: string;
  epoch: number;
  /** True when the feed has had another owner, which may have started any of its tasks. */
  passed_on: boolean;
  /** P9: whether a peer is believed to have owned the feed, in this history of it or in another one. */
  mayHaveOwned(peer: string): boolean;
  /** The owner of an epoch in this history; undefined when that is forgotten. */
  ownerIn(epoch: number): string | undefined;
}

/** What a result comes with. */
export interface Proof {
  /** Of the worker; absent in an open mesh. */
  signed?: ResultSignature | undefined;
  /** Whether the owner that the result names has signed that this worker has the lease. */
  granted?: () => boolean;
}

/** This peer, and the feed of a task. */
interface Owner {
  self: string;
  feed: TaskFeed;
}

/** What the end of an attempt means for its task. */
export type Outcome =
  /** It changes nothing: the worker may forget the result. */
  | { kind: 'stale' }
  /** The task's record notes it, and what runs goes on. */
  | (Consequences & { kind: 'noted'; changes: Partial<TaskRecord> })
  | FailureOutcome
  /** The attempt is gone with its worker: the task is queued again at once, its retries untouched. */
  | (Consequences & { kind: 'lost'; changes: Partial<TaskRecord> })
  /** The worker's peer does not allow the task: other peers are tried, as if it had not begun. */
  | (Consequences & { kind: 'barred'; error: ErrorShape });

export type FailureOutcome =
  | (Consequences & { kind: 'finish'; end: TaskEnd })
  /** The task is queued again after its backoff. */
  | (Consequences & { kind: 'retry'; error: ErrorShape; changes: Partial<TaskRecord> });

interface Consequences {
  /** How the current lease has ended; absent where the attempt goes on, or ends with the task. */
  lease?: LeaseEnd;
  /** Why the worker that has the current lease is told to stop. */
  call_back?: string;
  /** How long the action took. */
  measured_ms?: number;
}

const STALE: Outcome = { kind: 'stale' };

/**
 * What the result of an attempt means for its task.
 * @param task a task that has not ended
 * @param told the result, the peer that brought it, and its signature
 * @param owner this peer and the feed of the task
 */
export function outcomeOf(
  task: LiveTask,
  { peer, result, signed, granted = () => true }: { peer: string; result: AttemptResult } & Proof,
  owner: Owner,
  now: string,
): Outcome {
  if (result.crash !== undefined) return crashOutcome(task, peer, { ...result, crash: result.crash }, owner, now);
  const { record, lease } = task;
  const current = isCurrent(lease, peer, result, owner.feed);
  if (!current && (result.status !== 'completed' || !isUsable(record, peer, result, owner, granted))) return STALE;
  // This owner did not ask to cancel; one whose history was given up did. How the action would have ended is unknown.
  if (result.status === 'cancelled') return lossOutcome(task, lease!, owner.feed, now);
  const { execution_time_ms, attempt, output } = result;
  const signature = signed === undefined ? {} : { signed_result: signed };
  const measured = { lease: 'kept', measured_ms: execution_time_ms } as const;
  if (result.status === 'completed') {
    const end = { status: 'completed', output, execution_time_ms, attempt, ...signature } as const;
    if (current) return { kind: 'finish', ...measured, end };
    const call_back = 'an earlier attempt has succeeded';
    return { kind: 'finish', call_back, measured_ms: execution_time_ms, end: { ...end, peer_id: peer } };
  }
  const error =
    result.error ??
    new FlowmeshError('UNKNOWN_FAILURE', 'the worker did not say why it failed', { retryable: true }).toShape();
  if (!isPolicyRefusal(task, error)) {
    const failure = failureOutcome(record, error, now, { execution_time_ms });
    // Only an end is signed: of an attempt that is repeated nothing is kept but its error.
    if (failure.kind === 'retry' || result.error === null) return { ...failure, ...measured };
    return { ...failure, ...measured, end: { ...failure.end, ...signature } };
  }
  if (task.barred.length + 1 < POLICY_REFUSALS_MAX) return { kind: 'barred', ...measured, error };
  return { kind: 'finish', ...measured, end: deadLetter(error) };
}

/** Whether a result is that of the current lease. */
function isCurrent(lease: GivenLease | null, peer: string, result: AttemptResult, { feed_id }: TaskFeed): boolean {
  if (!isNamedBy(lease, feed_id, peer, result)) return false;
  // A lease that another owner granted is the current one only if this owner has read it from the store.
  return result.granted_by === undefined || lease!.restored;
}

/**
 * Whether the success of a lease that is not the current one is a success of the task as it is now, and comes from the
 * peer that had the lease (P9).
 *
 * Of a lease that this peer gave, the record says who had it. One that another owner gave may be in no row that has
 * come here: then a success counts if that owner has signed the lease, it ran with the same inputs, and that owner may
 * have been one.
 */
function isUsable(
  record: TaskRecord,
  peer: string,
  result: AttemptResult,
  { self, feed }: Owner,
  isGranted: () => boolean,
): boolean {
  const { granted_by, payload_hash, epoch } = result;
  if (RECORD_ACTIONS.has(record.task_type)) return false;
  const holder = holderOf(record, result);
  if (granted_by === undefined || granted_by === self) return holder === peer;
  if (payload_hash !== contentHash(record.payload) || !feed.mayHaveOwned(granted_by)) return false;
  // In another history of the feed, the same token may have been given to another peer.
  if (holder === peer) return true;
  return (holder === undefined || feed.ownerIn(epoch) !== granted_by) && isGranted();
}

/** The peer that has a lease, or had it until it ended without a word of that peer; undefined when that is not known. */
function holderOf(record: TaskRecord, { attempt, epoch }: LeaseToken): string | undefined {
  if (record.attempt === attempt && record.lease_epoch === epoch) return record.peer_id ?? undefined;
  return record.unanswered?.find((lease) => lease.attempt === attempt && lease.epoch === epoch)?.peer_id;
}

/** The mesh loop of a peer crashed while it worked on an attempt. That may have been the task's doing, or another's. */
function crashOutcome(
  task: LiveTask,
  peer: string,
  result: AttemptResult & { crash: string },
  { self, feed }: Owner,
  now: string,
): Outcome {
  const { record, lease } = task;
  const { attempts, crashes: known = [] } = record;
  const current = isNamedBy(lease, feed.feed_id, peer, result);
  const hadIt = current || attempts.some(({ attempt, peer_id }) => attempt === result.attempt && peer_id === peer);
  if (!hadIt && peer !== self) return STALE; // P9
  const crashes = known.includes(result.crash) ? known : [...known, result.crash].slice(-POISON_CRASHES);
  if (crashes.length >= POISON_CRASHES) {
    const end = { ...deadLetter(poisonError(record, crashes.length)), crashes };
    return { kind: 'finish', call_back: 'mesh loops crash while they work on it', end };
  }
  if (current) return lossOutcome(task, lease!, feed, now, { crashes });
  return crashes === known ? STALE : { kind: 'noted', changes: { crashes } };
}

/**
 * An attempt is gone with its worker.
 * @param changes further changes of the task's record
 */
export function lossOutcome(
  { record, lost_attempts }: LiveTask,
  lease: GivenLease,
  { passed_on }: TaskFeed,
  now: string,
  changes: Partial<TaskRecord> = {},
): Exclude<Outcome, { kind: 'stale' }> {
  const error = passed_on && record.at_most_once ? ownerLost(record) : workerLost(lease, record);
  const mayRepeat = !record.at_most_once && lost_attempts < LOST_ATTEMPTS_MAX; // P4
  if (!mayRepeat) return { kind: 'finish', lease: 'lost', end: { ...changes, ...deadLetter(error) } };
  const noted = { attempts: withAttempt(record, error, now), ...withUnanswered(record, lease) };
  return { kind: 'lost', lease: 'lost', changes: { ...changes, ...noted } };
}

/** A lease ends without a word of its worker, which may go on with the attempt. */
export function withUnanswered(
  { unanswered = [] }: TaskRecord,
  { attempt, epoch, peer_id }: GivenLease,
): Pick<TaskRecord, 'unanswered'> {
  return { unanswered: [...unanswered, { attempt, epoch, peer_id }].slice(-ATTEMPT_HISTORY_MAX) };
}

/**
 * The action of an attempt failed, or took too long.
 * @param more further changes of the task's record
 */
export function failureOutcome(
  record: TaskRecord,
  error: ErrorShape,
  now: string,
  more: Partial<TaskRecord> = {},
): FailureOutcome {
  const failures = record.failures + 1;
  const changes = { ...more, failures, attempts: withAttempt(record, error, now) };
  // P4: an `at_most_once` task that was started once is not started again, whatever its retries say.
  const mayRetry = error.retryable && failures <= record.retry.max_retries && !record.at_most_once;
  if (mayRetry) return { kind: 'retry', error, changes };
  return { kind: 'finish', end: { ...changes, ...deadLetter(error) } };
}

/** The end of a task that was tried and is not tried again. */
function deadLetter(error: ErrorShape): TaskEnd {
  return { status: 'failed', error, dead_letter: true };
}

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

/** A task that no worker runs begins: `sleep`, `approve` and `workflow` are only states of their record. */
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

/** A lease was refused before the action started: the task waits on as if the lease had not been given. */
export function neverStarted(record: TaskRecord): Partial<TaskRecord> {
  return record.attempts.length === 0 ? { started_at: null, wait_ms: null } : {};
}

/** The failed attempts, with the current one added. */
function withAttempt(record: TaskRecord, error: ErrorShape, now: string): TaskRecord['attempts'] {
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

/** For people: a program must not try again what may then have its effect twice. */
const LOOK_FIRST = 'it may have had its effect, and may run at most once: look, then use task_retry';

/** With its output the task's row would be larger than any message may be. */
export function recordTooLarge({ signed_result: _ofOutput, ...end }: TaskEnd): TaskEnd {
  const message = `the task succeeded, and its record with the output is larger than RECORD_BYTES_MAX (${RECORD_BYTES_MAX} bytes): keep the output elsewhere and return where it is`;
  const error = { code: 'OUTPUT_TOO_LARGE', message, retryable: false };
  return { ...end, status: 'failed', output: null, error, dead_letter: true };
}

function workerLost({ worker_id, peer_id, attempt }: GivenLease, record: TaskRecord): ErrorShape {
  const message = `worker ${worker_id} on peer ${peer_id} was lost while it ran attempt ${attempt}`;
  if (!record.at_most_once) return { code: 'WORKER_LOST', message, retryable: true };
  return { code: 'WORKER_LOST', message: `${message}; ${LOOK_FIRST}`, retryable: false };
}

/** Such a task is not run any more: it would go on to crash one peer after the other. */
function poisonError({ task_id }: TaskRecord, crashes: number): ErrorShape {
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
 * True when an attempt ended because the policy of its worker's peer forbids the task, which another peer may allow.
 * Never for an `at_most_once` task (P4): when a redirect is refused, the first request was sent. Nor for a function:
 * its handler can throw any code.
 */
function isPolicyRefusal({ record }: LiveTask, error: ErrorShape): boolean {
  return error.code === 'ACTION_NOT_ALLOWED' && !record.at_most_once && !record.task_type.startsWith('fn:');
}

/** Whether the timeout of a `sleep` ends it before its time. */
export function isOverdue({ timeout_ms, payload }: TaskRecord): boolean {
  return timeout_ms !== null && timeout_ms < Number(payload['duration_ms']);
}

export function timeoutError(record: TaskRecord): ErrorShape {
  const message = `the action "${record.task_type}" ran longer than timeout_ms (${record.timeout_ms})`;
  return { code: 'TIMEOUT', message, retryable: true };
}
