/** What the end of an attempt means for its task, one line for each thing that a worker can say. */
import { describe, expect, test } from 'vitest';
import { retrySchema } from '../../../dag/schema.ts';
import { contentHash } from '../../../scheduler/ids.ts';
import { ATTEMPT_HISTORY_MAX, LOST_ATTEMPTS_MAX, POLICY_REFUSALS_MAX } from '../../../scheduler/limits.ts';
import type { AttemptResult } from '../../../scheduler/messages.ts';
import type { TaskRecord } from '../../../scheduler/records.ts';
import { type GivenLease, type LiveTask, liveTask } from '../../../scheduler/task/live-task.ts';
import { failureOutcome, lossOutcome, outcomeOf, type TaskFeed } from '../../../scheduler/task/transitions.ts';
import { taskRecord } from '../records.ts';

const NOW = '2026-01-01T00:01:00.000Z';
const FEED: TaskFeed = {
  ...{ feed_id: 'f', epoch: 3, passed_on: false },
  mayHaveOwned: (peer) => peer !== 'stranger',
  ownerIn: (epoch) => ['first', 'before', 'me'][epoch - 1],
};
const PAYLOAD = { n: 1 };
const HASH = contentHash(PAYLOAD);
const broken = (over: object = {}) => ({ code: 'BROKEN', message: 'it broke', retryable: true, ...over });

/** A task whose second attempt runs at the peer `w`; its first one was lost at `v`. */
const RUNNING: Partial<TaskRecord> = {
  task_type: 'fn:work',
  payload: PAYLOAD,
  status: 'running',
  attempt: 2,
  peer_id: 'w',
  lease_epoch: 3,
  unanswered: [{ attempt: 1, epoch: 3, peer_id: 'v' }],
  retry: retrySchema.parse({ max_retries: 1 }),
  attempts: [{ attempt: 1, peer_id: 'v', ended_at: NOW, error: broken({ code: 'WORKER_LOST' }) }],
};
const LEASE: GivenLease = {
  ...{ attempt: 2, epoch: 3, peer_id: 'w', worker_id: 'w1' },
  ...{ confirmed_at: null, overdue_at: null, restored: false },
};

interface Case {
  record?: Partial<TaskRecord>;
  task?: Partial<LiveTask>;
  lease?: Partial<GivenLease> | null;
  feed?: Partial<TaskFeed>;
  peer?: string;
  result?: Partial<AttemptResult>;
}

function taskOf({ record, task, lease }: Case): LiveTask {
  const live = liveTask(taskRecord('u', { ...RUNNING, ...record }), 0, [], { durable: true, log: null, needs: [] });
  return { ...live, lease: lease === null ? null : { ...LEASE, ...lease }, ...task };
}

function outcome(given: Case) {
  const result: AttemptResult = {
    ...{ uid: 'u', feed_id: 'f', epoch: 3, attempt: 2 },
    ...{ status: 'completed', output: 'done', error: null, execution_time_ms: 7, lines: [], dropped_lines: 0 },
    ...given.result,
  };
  const owner = { self: 'me', feed: { ...FEED, ...given.feed } };
  return outcomeOf(taskOf(given), { peer: given.peer ?? 'w', result }, owner, NOW);
}

const FAILED = { status: 'failed', output: null, error: broken() } as const;
const CANCELLED = { status: 'cancelled', output: null, error: broken({ code: 'ABORTED' }) } as const;
const REFUSED = { ...FAILED, error: broken({ code: 'ACTION_NOT_ALLOWED', retryable: false }) };
const crashed = (crash: string, over: object = {}) => ({
  ...FAILED,
  error: broken({ code: 'MESH_CRASHED' }),
  crash,
  ...over,
});

const STALE = { kind: 'stale' };
const done = (over: object = {}) => ({
  kind: 'finish',
  measured_ms: 7,
  end: { status: 'completed', output: 'done', execution_time_ms: 7, ...over },
});
const dead = (code: string, over: object = {}) => ({
  status: 'failed',
  dead_letter: true,
  error: expect.objectContaining({ code }),
  ...over,
});
const CALLED_BACK = { call_back: 'an earlier attempt has succeeded' };

describe('the current lease', () => {
  test.each<[string, Case, object]>([
    ['commits a success', {}, { ...done({ attempt: 2 }), lease: 'kept' }],
    [
      'that was read from the store commits what another owner granted',
      { lease: { restored: true }, result: { granted_by: 'before' } },
      { ...done({ attempt: 2 }), lease: 'kept' },
    ],
    [
      'fails, and the task is tried again',
      { result: FAILED },
      {
        kind: 'retry',
        lease: 'kept',
        measured_ms: 7,
        error: broken(),
        changes: {
          failures: 1,
          execution_time_ms: 7,
          attempts: [{ attempt: 1 }, { attempt: 2, peer_id: 'w', ended_at: NOW, error: broken() }],
        },
      },
    ],
    [
      'fails for the last time',
      { record: { failures: 1 }, result: FAILED },
      { kind: 'finish', lease: 'kept', measured_ms: 7, end: dead('BROKEN', { failures: 2, execution_time_ms: 7 }) },
    ],
    [
      'fails as it would again',
      { result: { ...FAILED, error: broken({ retryable: false }) } },
      { kind: 'finish', end: dead('BROKEN', { failures: 1 }) },
    ],
    [
      'fails, at_most_once, whatever its retries say (P4)',
      { record: { at_most_once: true }, result: FAILED },
      { kind: 'finish', end: dead('BROKEN', { failures: 1 }) },
    ],
    [
      'has timed out, and the task is tried again',
      { result: { ...FAILED, error: broken({ code: 'TIMEOUT' }) } },
      { kind: 'retry', error: { code: 'TIMEOUT' } },
    ],
    [
      'fails and does not say why',
      { result: { ...FAILED, error: null } },
      { kind: 'retry', error: { code: 'UNKNOWN_FAILURE', retryable: true } },
    ],
    [
      'was cancelled by another owner: it is lost',
      { result: CANCELLED },
      { kind: 'lost', lease: 'lost', changes: { attempts: [{}, { attempt: 2, error: { code: 'WORKER_LOST' } }] } },
    ],
    [
      'was cancelled by another owner, at_most_once (P4)',
      { record: { at_most_once: true }, result: CANCELLED },
      { kind: 'finish', lease: 'lost', end: dead('WORKER_LOST') },
    ],
    [
      'is refused by policy: others are asked',
      { result: REFUSED },
      { kind: 'barred', lease: 'kept', measured_ms: 7, error: REFUSED.error },
    ],
    [
      'is refused by policy once too often',
      { task: { barred: Array(POLICY_REFUSALS_MAX - 1).fill('p') }, result: REFUSED },
      { kind: 'finish', lease: 'kept', end: dead('ACTION_NOT_ALLOWED') },
    ],
    [
      'is refused by policy, at_most_once: it may have begun (P4)',
      { record: { at_most_once: true }, result: REFUSED },
      { kind: 'finish', end: dead('ACTION_NOT_ALLOWED', { failures: 1 }) },
    ],
    [
      'fails with what a handler threw, which is no policy',
      { result: REFUSED, record: { task_type: 'fn:work' } },
      { kind: 'finish', end: dead('ACTION_NOT_ALLOWED', { failures: 1 }) },
    ],
  ])('%s', (_what, given, expected) => {
    const http = { task_type: 'http', ...given.record };
    expect(outcome({ ...given, record: http })).toMatchObject(expected);
  });
});

describe('a lease that is not the current one (P3)', () => {
  test.each<[string, Case, object]>([
    [
      'an earlier attempt succeeds',
      { peer: 'v', result: { attempt: 1 } },
      { ...done({ attempt: 1, peer_id: 'v' }), ...CALLED_BACK },
    ],
    [
      'an earlier attempt succeeds while none runs',
      { lease: null, result: {} },
      { ...done({ attempt: 2, peer_id: 'w' }), ...CALLED_BACK },
    ],
    ['an earlier attempt fails', { peer: 'v', result: { ...FAILED, attempt: 1 } }, STALE],
    ['an earlier attempt was cancelled', { peer: 'v', result: { ...CANCELLED, attempt: 1 } }, STALE],
    ['an earlier attempt is refused by policy', { peer: 'v', result: { ...REFUSED, attempt: 1 } }, STALE],
    ['an attempt that another peer had succeeds (P9)', { peer: 'x', result: { attempt: 1 } }, STALE],
    ['an attempt that another peer has succeeds (P9)', { peer: 'v' }, STALE],
    [
      'an attempt that nobody is known to have had succeeds (P9)',
      { record: { unanswered: [] }, peer: 'v', result: { attempt: 1 } },
      STALE,
    ],
    ['an attempt that was never made', { result: { attempt: 3 } }, STALE],
    ['no attempt', { result: { attempt: 0 } }, STALE],
    ['the success of a task that is a state of its record', { lease: null, record: { task_type: 'approve' } }, STALE],
    [
      'a success in an earlier line, with the same inputs',
      { result: { epoch: 2, granted_by: 'before', payload_hash: HASH } },
      { ...done(), ...CALLED_BACK },
    ],
    [
      'a success in an earlier line of this owner, of the peer that had the lease',
      { peer: 'v', record: { unanswered: [{ attempt: 1, epoch: 2, peer_id: 'v' }] }, result: { epoch: 2, attempt: 1 } },
      { ...done({ attempt: 1, peer_id: 'v' }), ...CALLED_BACK },
    ],
    [
      'a success in an earlier line, of another peer than had the lease there (P9)',
      {
        record: { unanswered: [{ attempt: 2, epoch: 2, peer_id: 'v' }] },
        result: { epoch: 2, granted_by: 'before', payload_hash: HASH },
      },
      STALE,
    ],
    [
      'a success in another history, where another peer had the lease with that token',
      {
        record: { unanswered: [{ attempt: 2, epoch: 2, peer_id: 'v' }] },
        result: { epoch: 2, granted_by: 'y', payload_hash: HASH },
      },
      { ...done(), ...CALLED_BACK },
    ],
    [
      'a success that is said to be granted by one that was never an owner (P9)',
      { result: { epoch: 2, granted_by: 'stranger', payload_hash: HASH } },
      STALE,
    ],
    [
      'a success in an earlier line, with others',
      { result: { epoch: 2, granted_by: 'before', payload_hash: 'other' } },
      STALE,
    ],
    ['a success in an earlier line that does not say with which', { result: { epoch: 2 } }, STALE],
    [
      'a success that another owner granted, with the same inputs',
      { result: { granted_by: 'x', payload_hash: HASH } },
      { ...done(), ...CALLED_BACK },
    ],
    ['a failure that another owner granted', { result: { ...FAILED, granted_by: 'x', payload_hash: HASH } }, STALE],
    ['a failure with the token of another feed', { result: { ...FAILED, feed_id: 'g' } }, STALE],
    ['a failure told by another peer', { peer: 'x', result: FAILED }, STALE],
  ])('%s', (_what, given, expected) => {
    const found = outcome(given);
    expect(found).toMatchObject(expected);
    expect(found).not.toHaveProperty('lease');
  });
});

describe('the mesh loop of a peer crashed', () => {
  const POISON = { kind: 'finish', call_back: 'mesh loops crash while they work on it', end: dead('POISON_TASK') };
  test.each<[string, Case, object]>([
    [
      'over the current attempt: it is lost, and the crash is counted',
      { result: crashed('one') },
      { kind: 'lost', lease: 'lost', changes: { crashes: ['one'] } },
    ],
    [
      'over the current attempt, at_most_once (P4)',
      { record: { at_most_once: true }, result: crashed('one') },
      { kind: 'finish', lease: 'lost', end: dead('WORKER_LOST', { crashes: ['one'] }) },
    ],
    [
      'over an attempt that is not lost with it',
      { peer: 'v', result: crashed('one', { attempt: 1 }) },
      { kind: 'noted', changes: { crashes: ['one'] } },
    ],
    [
      'of the owner, over a result',
      { peer: 'me', result: crashed('one') },
      { kind: 'noted', changes: { crashes: ['one'] } },
    ],
    [
      'once, which is told twice',
      { peer: 'v', record: { crashes: ['one'] }, result: crashed('one', { attempt: 1 }) },
      STALE,
    ],
    [
      'for the second time: it is poison',
      { record: { crashes: ['one'] }, result: crashed('two') },
      { ...POISON, end: { ...POISON.end, crashes: ['one', 'two'] } },
    ],
    [
      'for the second time, at another attempt',
      { peer: 'me', record: { crashes: ['one'] }, result: crashed('two') },
      POISON,
    ],
    ['of one that never had the task (P9)', { peer: 'x', result: crashed('one') }, STALE],
  ])('%s', (_what, given, expected) => {
    expect(outcome(given)).toMatchObject(expected);
  });
});

describe('an attempt that is lost', () => {
  const lost = (given: Case) => lossOutcome(taskOf(given), LEASE, { ...FEED, ...given.feed }, NOW);
  test.each<[string, Case, object]>([
    ['is repeated', {}, { kind: 'lost', lease: 'lost' }],
    ['is repeated in a feed that was passed on, too', { feed: { passed_on: true } }, { kind: 'lost' }],
    [
      'is repeated at most LOST_ATTEMPTS_MAX times',
      { task: { lost_attempts: LOST_ATTEMPTS_MAX - 1 } },
      { kind: 'lost' },
    ],
    [
      'is the end after that',
      { task: { lost_attempts: LOST_ATTEMPTS_MAX } },
      { kind: 'finish', end: dead('WORKER_LOST') },
    ],
    [
      'is the end when it may run at most once',
      { record: { at_most_once: true } },
      { kind: 'finish', end: dead('WORKER_LOST') },
    ],
    [
      'may be that of an owner before',
      { record: { at_most_once: true }, feed: { passed_on: true } },
      { kind: 'finish', end: dead('OWNER_LOST') },
    ],
  ])('%s', (_what, given, expected) => {
    expect(lost(given)).toMatchObject(expected);
  });
});

test('the history of failed attempts is bounded', () => {
  const attempts = Array(ATTEMPT_HISTORY_MAX).fill(RUNNING.attempts![0]);
  const { changes } = failureOutcome(taskRecord('u', { ...RUNNING, attempts }), broken(), NOW) as {
    changes: TaskRecord;
  };
  expect(changes.attempts).toHaveLength(ATTEMPT_HISTORY_MAX);
  expect(changes.attempts.at(-1)!.attempt).toBe(2);
});
