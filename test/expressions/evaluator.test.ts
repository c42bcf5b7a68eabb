/** What user data may do to the evaluating processes: nothing to the peer, and nothing to other jobs. */
import { afterAll, describe, expect, it } from 'vitest';
import { createEvaluator } from '../../node/expressions/evaluator.ts';
import { childPids, waitUntilGone } from '../executors/processes.ts';
import { HANG_MS } from '../harness/patience.ts';

const TIMEOUT_MS = 1_000;
/** Backtracks for longer than a life; JSONata itself cannot stop it. */
const ENDLESS_REGEX = '$match("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", /(a+)+$/)';
const ENDLESS_RECURSION = '($f := function() { $f() }; $f())';
/** One allocation that is larger than the heap. */
const HUGE = '$string([1..10000000])';
const GROWING = '($f := function($x) { $f($append($x, $x)) }; $f([1..1000]))';

const evaluator = createEvaluator({ timeout_ms: TIMEOUT_MS });
afterAll(() => evaluator.close());

const jobs = (...expressions: string[]) => expressions.map((expression) => ({ expression, scope: {} }));
const timedOut = { error: { code: 'EXPRESSION_TIMEOUT', retryable: false, details: { timeout_ms: TIMEOUT_MS } } };
const outOfMemory = { error: { code: 'EXPRESSION_FAILED', message: expect.stringMatching(/more than 128 MB/) } };

describe('an expression that does not end', () => {
  it.each([ENDLESS_RECURSION, ENDLESS_REGEX])('is ended, and those beside it are answered: %s', async (endless) => {
    const results = await evaluator.evaluate(jobs('1', endless, '2', '3'));
    expect(results).toMatchObject([{ value: 1 }, timedOut, { value: 2 }, { value: 3 }]);
    expect(await evaluator.evaluate(jobs('4'))).toEqual([{ value: 4 }]);
  });

  it('is ended each time, when there are several in a call', async () => {
    const results = await evaluator.evaluate(jobs(ENDLESS_REGEX, '1', ENDLESS_REGEX, '2'));
    expect(results).toMatchObject([timedOut, { value: 1 }, timedOut, { value: 2 }]);
  });

  it('does not hold up other calls for longer than its deadline', async () => {
    const endless = evaluator.evaluate(jobs(ENDLESS_REGEX));
    const others = Array.from({ length: 20 }, (_, n) => evaluator.evaluate(jobs(`${n} + 1`)));
    expect(await Promise.all(others)).toEqual(Array.from({ length: 20 }, (_, n) => [{ value: n + 1 }]));
    expect(await endless).toMatchObject([timedOut]);
  });
});

describe('an expression that fills the memory', () => {
  const generous = createEvaluator({ timeout_ms: HANG_MS });
  afterAll(() => generous.close());

  it.each([HUGE, GROWING])('fails alone: %s', async (greedy) => {
    const results = await generous.evaluate(jobs('1', greedy, '2'));
    expect(results).toMatchObject([{ value: 1 }, outOfMemory, { value: 2 }]);
    expect(await generous.evaluate(jobs('3'))).toEqual([{ value: 3 }]);
  });
});

it('evaluates two expressions at the same time', async () => {
  const own = createEvaluator({ timeout_ms: HANG_MS });
  try {
    const slow = own.evaluate(jobs('$sum([1..300000].($ * 2))'));
    expect(await own.evaluate(jobs('1'))).toEqual([{ value: 1 }]);
    expect(await slow).toEqual([{ value: 90_000_300_000 }]);
  } finally {
    await own.close();
  }
});

it('reads what was answered while this peer stood still, before it gives a process up', async () => {
  const own = createEvaluator({ timeout_ms: 200, silence_ms: 500 });
  try {
    await own.evaluate(jobs('1'));
    const answer = own.evaluate(jobs('2'));
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 700);
    expect(await answer).toEqual([{ value: 2 }]);
    expect(await own.evaluate(jobs('3'))).toEqual([{ value: 3 }]);
  } finally {
    await own.close();
  }
});

it('starts its process with the first call and ends it when it closes', async () => {
  const before = await childPids(process.pid);
  const own = createEvaluator();
  expect(await childPids(process.pid)).toEqual(before);
  await own.evaluate(jobs('1'));
  const started = (await childPids(process.pid)).filter((pid) => !before.includes(pid));
  expect(started).toHaveLength(1);
  const waiting = own.evaluate(jobs(ENDLESS_REGEX));
  await own.close();
  await waitUntilGone(started);
  expect(await waiting).toMatchObject([{ error: { code: 'EVALUATOR_CLOSED', retryable: true } }]);
  expect(await own.evaluate(jobs('1'))).toMatchObject([{ error: { code: 'EVALUATOR_CLOSED' } }]);
});
