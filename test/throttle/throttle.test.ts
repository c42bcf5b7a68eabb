import { afterEach, describe, expect, it } from 'vitest';
import type { z } from 'zod';
import { createClock } from '../../node/clock.ts';
import { limitsSchema } from '../../node/config/quotas.ts';
import { RateLimitedError } from '../../node/throttle/errors.ts';
import { openThrottle, type Throttle } from '../../node/throttle/throttle.ts';
import type { ListQuery, Reader } from '../../scheduler/ports.ts';
import { eventually } from '../harness/eventually.ts';
import { testLog } from '../harness/log.ts';
import { HAS_REDIS, RedisServer, SKIPPED_WITHOUT_REDIS } from './redis-server.ts';

const closing: Throttle[] = [];
afterEach(() => {
  for (const each of closing.splice(0)) each.close();
});

/** Of each status that an ended workflow may have. */
const ENDED = 7;
const STATUSES_OF_ENDED = 3;

/** Records of open workflows, as a reader counts them. */
class OpenRecords {
  readonly byCaller = new Map<string, number>();
  counted = 0;

  get reader(): Reader {
    return {
      list: async ({ submitted_by, status }: ListQuery) => {
        if (status !== undefined) return { records: [], total: ENDED };
        this.counted += 1;
        return { records: [], total: (this.byCaller.get(submitted_by!) ?? 0) + STATUSES_OF_ENDED * ENDED };
      },
    } as unknown as Reader;
  }
}

async function throttleOf(
  limits: z.input<typeof limitsSchema>,
  records = new OpenRecords(),
  log = testLog('throttle'),
): Promise<Throttle> {
  const settings = limitsSchema.parse(limits);
  const throttle = await openThrottle({ settings, mesh: 'm', reader: records.reader, clock: createClock(), log });
  closing.push(throttle);
  return throttle;
}

/** How many of the works are let through; the others are refused as RATE_LIMITED. */
async function passed(works: Iterable<Promise<unknown>>): Promise<number> {
  const ended = await Promise.allSettled(works);
  for (const each of ended) if (each.status === 'rejected') expect(each.reason).toBeInstanceOf(RateLimitedError);
  return ended.filter(({ status }) => status === 'fulfilled').length;
}

const times = <T>(count: number, work: (index: number) => T): T[] => Array.from({ length: count }, (_, at) => work(at));

describe('a caller', () => {
  it('may make so many requests in a second, however many at once, and others as many', async () => {
    const throttle = await throttleOf({ requests_per_second: 5 });
    const [one, other] = await Promise.all([
      passed(times(50, () => throttle.request('key:one', 0))),
      passed(times(50, () => throttle.request('key:other', 0))),
    ]);
    expect([one, other]).toEqual([5, 5]);
    await eventually('the second is over', () => throttle.request('key:one', 0).then(() => true));
  });

  it('is told the limit, its name in the settings, and when to come back', async () => {
    const throttle = await throttleOf({ submissions_per_minute: 1 });
    await throttle.call('key:ci', 'task_submit');
    const refused = await throttle.call('key:ci', 'task_submit').catch((error: RateLimitedError) => error.toShape());
    expect(refused).toMatchObject({
      code: 'RATE_LIMITED',
      retryable: true,
      message: expect.stringMatching(
        /^you may have 1 submissions per minute .* come back in \d+ s, .* limits\.submissions_per_minute$/,
      ),
      details: { limit: 'submissions_per_minute', max: 1, retry_after_ms: expect.any(Number) },
    });
    const { details } = refused as unknown as { details: { retry_after_ms: number } };
    expect(details.retry_after_ms).toBeGreaterThan(50_000);
    expect(details.retry_after_ms).toBeLessThanOrEqual(60_000);
  });

  it('may call each tool so often, and a tool that has a limit of its own as often as that says', async () => {
    const throttle = await throttleOf({ calls_per_second: 4, tools: { queue_stats: 2 } });
    const calls = (tool: string) => passed(times(10, () => throttle.call('key:ci', tool)));
    expect(await Promise.all(['task_list', 'task_status', 'queue_stats'].map(calls))).toEqual([4, 4, 2]);
  });

  it('may send so many bytes, and a body that did not say how large it is counts for the next one', async () => {
    const throttle = await throttleOf({ bytes_per_minute: 100 });
    await throttle.request('key:ci', 60);
    await expect(throttle.request('key:ci', 60)).rejects.toMatchObject({ details: { limit: 'bytes_per_minute' } });
    await throttle.request('key:other', 1);
    await throttle.spent('key:other', 500);
    await throttle.request('key:other', 0); // What carries nothing passes.
    await expect(throttle.request('key:other', 1)).rejects.toMatchObject({ code: 'RATE_LIMITED' });
  });
});

describe('open workflows', () => {
  it('are never more than the limit, however many are submitted at once', async () => {
    const records = new OpenRecords();
    records.byCaller.set('key:ci', 2);
    const throttle = await throttleOf({ open_workflows: 5 }, records);
    expect(await passed(times(20, () => throttle.call('key:ci', 'workflow_submit')))).toBe(3);
    expect(await passed(times(20, () => throttle.call('key:other', 'workflow_submit')))).toBe(5);
    expect(await passed([throttle.call('key:ci', 'task_submit')])).toBe(1);
  });

  it('that have ended make room, and the records are read only when the limit may be reached', async () => {
    const records = new OpenRecords();
    const throttle = await throttleOf({ open_workflows: 3 }, records);
    const submit = async () => (await throttle.call('key:ci', 'workflow_submit'))();
    for (let count = 1; count <= 3; count++) {
      await submit();
      records.byCaller.set('key:ci', count);
    }
    expect(records.counted).toBe(1);
    await expect(submit()).rejects.toMatchObject({ details: { limit: 'open_workflows', max: 3 } });
    records.byCaller.set('key:ci', 1);
    await submit();
    await submit();
    expect(records.counted).toBe(3);
  });

  it('that failed to be submitted do not count for ever', async () => {
    const throttle = await throttleOf({ open_workflows: 2 });
    for (let count = 0; count < 10; count++) (await throttle.call('key:ci', 'workflow_submit'))();
  });
});

describe.skipIf(!HAS_REDIS)(`with Redis ${SKIPPED_WITHOUT_REDIS}`, () => {
  it('two peers count together, and peers of another mesh apart', async () => {
    await using redis = await RedisServer.start();
    const limits = { requests_per_second: 1, submissions_per_minute: 10, redis_url: redis.url };
    const [a, b] = [await throttleOf(limits), await throttleOf(limits)];
    const submits = times(40, (at) => (at % 2 === 0 ? a : b).call('key:ci', 'task_submit'));
    expect(await passed(submits)).toBe(10);
    const settings = limitsSchema.parse(limits);
    const reader = new OpenRecords().reader;
    const other = await openThrottle({ settings, mesh: 'other', reader, clock: createClock(), log: testLog('other') });
    closing.push(other);
    expect(await passed([other.call('key:ci', 'task_submit')])).toBe(1);
  });

  it.each(['killed', 'halted'])('one that is %s stops nobody: each peer counts by itself, and says so', async (how) => {
    await using redis = await RedisServer.start();
    const warnings: string[] = [];
    const log = { ...testLog('throttle'), warn: (_: object, text: string) => void warnings.push(text) };
    const limits = { submissions_per_minute: 5, redis_url: redis.url };
    const a = await throttleOf(limits, new OpenRecords(), log as ReturnType<typeof testLog>);
    expect(await passed(times(10, () => a.call('key:before', 'task_submit')))).toBe(5);
    if (how === 'killed') await redis.kill();
    else redis.halt();
    expect(await passed(times(10, () => a.call('key:ci', 'task_submit')))).toBe(5);
    await eventually('it is said', () => warnings.length > 0);
    expect(await passed([a.call('key:other', 'task_submit')])).toBe(1);
    expect(warnings).toEqual([expect.stringContaining('this peer counts what callers do by itself')]);
  });

  it('one that is not there yet does not stop the start, and is used when it is', async () => {
    await using redis = await RedisServer.start();
    await redis.kill();
    const limits = { submissions_per_minute: 3, redis_url: redis.url };
    const [a, b] = [await throttleOf(limits), await throttleOf(limits)];
    expect(await passed([a.call('key:ci', 'task_submit')])).toBe(1);
    await redis.restart();
    let tries = 0;
    await eventually('both count in it', async () => {
      const caller = `key:${++tries}`;
      return (await passed(times(6, (at) => (at % 2 === 0 ? a : b).call(caller, 'task_submit')))) === 3;
    });
  });
});
