/** What user data may do to the evaluating processes: nothing to the peer, and nothing to other jobs. */
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, describe, expect, it } from 'vitest';
import { createEvaluator } from '../../node/expressions/evaluator.ts';
import { childPids, waitUntilGone, workedMs } from '../executors/processes.ts';
import { HANG_MS } from '../harness/patience.ts';

const TIMEOUT_MS = 1_000;
const STOPPED_MS = 5_000;
/** Backtracks for longer than a life; JSONata itself cannot stop it. */
const ENDLESS_REGEX = '$match("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", /(a+)+$/)';
const ENDLESS_RECURSION = '($f := function() { $f() }; $f())';
/** A few allocations that do not fit in the heap together, each nearly as large as it. */
const HUGE = '$map([1..4], function($n) { $string([1..10000000]) })';
const GROWING = '($f := function($x) { $f($append($x, $x)) }; $f([1..1000]))';

const evaluator = createEvaluator({ timeout_ms: TIMEOUT_MS });
afterAll(() => evaluator.close());

const jobs = (...expressions: string[]) => expressions.map((expression) => ({ expression, scope: {} }));
const FINE = { names: [] };
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

describe('a job in a process that has served others', () => {
  it('is not blamed for the memory that those have left taken: it is tried again in a fresh one', async () => {
    const generous = createEvaluator({ timeout_ms: 20_000 });
    try {
      for (let round = 0; round < 3; round++) {
        // The list is no result, and still there when the next ones come.
        await generous.evaluate(jobs('$count([1..9000000])'));
        for (let n = 0; n < 3; n++) expect(await generous.check([`${round} + ${n}`])).toEqual([FINE]);
      }
    } finally {
      await generous.close();
    }
  });

  it('finds the memory that many long expressions before it took', async () => {
    const long = Array.from({ length: 1_000 }, (_, n) => `${'1+'.repeat(2_000)}${n}`);
    expect(await evaluator.check(long)).toEqual(long.map(() => FINE));
    expect(await evaluator.check(['1 + 1'])).toEqual([FINE]);
  });
});

describe('turns', () => {
  const COSTLY = '$sum([1..100000].($ * 2))';

  it.each([COSTLY, ENDLESS_REGEX])(
    'other workflows do not wait until one has had all of its own: %s',
    async (costly) => {
      const own = createEvaluator({ timeout_ms: 20_000 });
      const short = createEvaluator({ timeout_ms: TIMEOUT_MS });
      const fair = costly === COSTLY ? own : short;
      try {
        const ended: string[] = [];
        const ends = (name: string) => () => ended.push(name);
        const many = Array.from({ length: 12 }, () => costly);
        // Three with much to do, for two processes.
        const busy = ['first', 'second', 'third'].map((name) => fair.evaluate(jobs(...many), name).then(ends(name)));
        // Results of the first ones leave before an endless job begins, those of the last ones do not.
        const cheap = Array.from({ length: 20 }, (_, n) => `1 + ${n}`);
        const quick = fair.evaluate(jobs(...cheap), 'quick').then(ends('quick'));
        const submit = fair.check(['1 + 1']).then(ends('check'));
        await Promise.all([quick, submit]);
        expect(ended.toSorted()).toEqual(['check', 'quick']);
        await fair.close();
        await Promise.all(busy);
      } finally {
        await Promise.all([own.close(), short.close()]);
      }
    },
  );

  it('a submit is checked while every process evaluates', async () => {
    const own = createEvaluator({ timeout_ms: 600_000 });
    try {
      const endless = [own.evaluate(jobs(ENDLESS_REGEX)), own.evaluate(jobs(ENDLESS_REGEX))];
      expect(await own.check(['1 +', '1'])).toMatchObject([{ problem: { position: 3 } }, FINE]);
      await own.close();
      for (const each of endless) expect(await each).toMatchObject([{ error: { code: 'EVALUATOR_CLOSED' } }]);
      await expect(own.check(['1'])).rejects.toMatchObject({ code: 'EVALUATOR_CLOSED', retryable: true });
    } finally {
      await own.close();
    }
  });

  it('take every job once, whatever is left of a batch', async () => {
    const own = createEvaluator({ timeout_ms: 20_000 });
    try {
      const isCostly = (n: number) => n % 13 === 5;
      const calls = Array.from({ length: 30 }, (_, call) => {
        const expressions = Array.from({ length: 40 }, (_, n) =>
          isCostly(n) ? '$sum([1..10000].($))' : `${call} + ${n}`,
        );
        return own.evaluate(jobs(...expressions), `workflow ${call % 10}`);
      });
      for (const [call, values] of (await Promise.all(calls)).entries()) {
        const expected = Array.from({ length: 40 }, (_, n) => (isCostly(n) ? 50_005_000 : call + n));
        expect(values).toEqual(expected.map((value) => ({ value })));
      }
    } finally {
      await own.close();
    }
  });

  it('many large results come in pieces that are no larger than a message may be', async () => {
    const own = createEvaluator({ timeout_ms: 20_000 });
    try {
      const large = Array.from({ length: 20 }, () => '$pad("", 4000000, "ä")');
      for (const result of await own.evaluate(jobs(...large))) expect(result).toEqual({ value: 'ä'.repeat(4_000_000) });
    } finally {
      await own.close();
    }
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

it.each(['$sum([1..400000].($ * 2))', '$match("aaaaaaaaaaaaaaaaaaaaaaab", /(a+)+$/) = []'])(
  'does not count the time in which its process did not run: %s',
  async (expression) => {
    const own = createEvaluator({ timeout_ms: STOPPED_MS / 2 });
    try {
      const before = await childPids(process.pid);
      await own.evaluate(jobs('1'));
      const [pid] = (await childPids(process.pid)).filter((each) => !before.includes(each));
      const idle = await workedMs(pid!);
      const answer = own.evaluate(jobs(expression));
      // No event tells that it is in the middle of it.
      while ((await workedMs(pid!)) < idle + 50) await delay(1);
      process.kill(pid!, 'SIGSTOP');
      await delay(STOPPED_MS);
      process.kill(pid!, 'SIGCONT');
      expect(await answer).toEqual([{ value: expect.anything() }]);
    } finally {
      await own.close();
    }
  },
);

it('reads what was answered while this peer stood still, before it gives a process up', async () => {
  const own = createEvaluator({ timeout_ms: 200, silence_ms: 3_000 });
  try {
    await own.evaluate(jobs('1'));
    const answer = own.evaluate(jobs('2'));
    // Long enough for the answer, which waits to be read then, on the busiest machine.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 3_500);
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
