/** Callers that ask more of a peer than its settings let them. */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { JsonObject } from '../../dag/errors.ts';
import { readLines } from '../audit/trail-folder.ts';
import { eventually } from '../harness/eventually.ts';
import { HAS_REDIS, RedisServer, SKIPPED_WITHOUT_REDIS } from '../throttle/redis-server.ts';
import { HttpPeers } from './http-peer.ts';

const SUBMIT = { task_type: 'echo', payload: {} };

describe('requests beyond a limit, sent at once', () => {
  it('are 429 with Retry-After, change nothing, hold back no other caller, and leave one line each', async () => {
    await using mesh = await HttpPeers.of(
      ['a'],
      {},
      { limits: { requests_per_second: 1_000, bytes_per_minute: 2_000 } },
    );
    const key = await mesh.key('greedy', { role: 'user' });
    const other = mesh.caller('a', await mesh.key('modest', { role: 'user' }));
    const greedy = mesh.caller('a', key);
    const bodies = Array.from({ length: 40 }, () =>
      greedy.post('/tasks/t/answer', { approve: true, data: 'x'.repeat(90) }),
    );
    const told = await Promise.all(bodies);
    const refused = told.filter(({ status }) => status === 429);
    // 2,000 bytes, of a little over 100 each.
    expect(told.length - refused.length).toBeLessThan(20);
    expect(told.length - refused.length).toBeGreaterThan(10);
    for (const { code, message, output, answer } of refused) {
      expect(code).toBe('RATE_LIMITED');
      expect(message).toMatch(/2000 bytes per minute .* come back in \d+ s/);
      expect(output['error']).toMatchObject({ retryable: true });
      expect(Number(answer.headers['retry-after'])).toBeGreaterThan(0);
    }
    expect((await other.call('task_submit', SUBMIT)).code).toBeUndefined();
    const folder = join(mesh.peer('a').config.data_dir, 'audit');
    await eventually('each has its line', async () => {
      const lines = await readLines(folder);
      return lines.filter(({ outcome }) => outcome === 'RATE_LIMITED').length === refused.length;
    });
  });

  it('are JSON-RPC errors on /mcp', async () => {
    await using mesh = await HttpPeers.of(['a'], {}, { limits: { requests_per_second: 3 } });
    const caller = mesh.caller('a', mesh.peer('a').admin_key);
    const told = await Promise.all(Array.from({ length: 30 }, () => caller.initialize()));
    const refused = told.filter(({ status }) => status === 429);
    expect(refused.length).toBeGreaterThan(0);
    for (const { code, answer } of refused) {
      expect(code).toBe('RATE_LIMITED');
      expect(JSON.parse(answer.text)).toMatchObject({ jsonrpc: '2.0', error: { code: -32_000 } });
      expect(answer.headers['retry-after']).toBe('1');
    }
  });
});

it('calls of a tool beyond a limit are errors of the tool, also when they come at once', async () => {
  await using mesh = await HttpPeers.of(['a'], {}, { limits: { submissions_per_minute: 4 } });
  const caller = mesh.caller('a', await mesh.key('ci', { role: 'user' }));
  await caller.initialize();
  const told = await Promise.all(Array.from({ length: 12 }, () => caller.call('task_submit', SUBMIT)));
  expect(told.filter(({ code }) => code === undefined)).toHaveLength(4);
  const refused = told.filter(({ code }) => code === 'RATE_LIMITED');
  expect(refused).toHaveLength(8);
  for (const { status, output } of refused) {
    expect(status).toBe(200);
    const { retryable, details } = output['error'] as JsonObject;
    expect({ retryable, details }).toEqual({
      retryable: true,
      details: { limit: 'submissions_per_minute', max: 4, retry_after_ms: expect.any(Number) },
    });
  }
  expect((await caller.call('task_list', {})).output['total_count']).toBe(4);
});

it('open workflows of a caller are counted, and its ended ones make room', async () => {
  await using mesh = await HttpPeers.of(['a'], {}, { limits: { open_workflows: 2 } });
  const caller = mesh.caller('a', await mesh.key('ci', { role: 'user' }));
  await caller.initialize();
  const waits = { name: 'waits', steps: [{ step_id: 'ask', action: 'sleep', inputs: { duration_ms: 600_000 } }] };
  const told = await Promise.all(Array.from({ length: 8 }, () => caller.call('workflow_submit', waits)));
  const accepted = told.filter(({ code }) => code === undefined);
  expect(told.map(({ code }) => code ?? 'ok').sort()).toEqual([...Array(6).fill('RATE_LIMITED'), 'ok', 'ok']);
  await caller.call('workflow_cancel', { workflow_id: accepted[0]!.output['workflow_id'] as string });
  await eventually('there is room', async () => (await caller.call('workflow_submit', waits)).code === undefined);
  expect((await caller.call('workflow_submit', waits)).code).toBe('RATE_LIMITED');
});

it('without Redis each peer counts by itself', async () => {
  await using mesh = await HttpPeers.of(['a', 'b'], {}, { limits: { submissions_per_minute: 3 } });
  const key = await mesh.key('ci', { role: 'user' });
  for (const peer of ['a', 'b']) {
    const caller = mesh.caller(peer, key);
    await caller.initialize();
    const told = await Promise.all(Array.from({ length: 9 }, () => caller.call('task_submit', SUBMIT)));
    expect(told.filter(({ code }) => code === undefined)).toHaveLength(3);
  }
});

describe.skipIf(!HAS_REDIS)(`over two peers with Redis ${SKIPPED_WITHOUT_REDIS}`, () => {
  it('a caller has one limit, whichever it calls, also when it calls both at once', async () => {
    await using redis = await RedisServer.start();
    const limits = { submissions_per_minute: 5, redis_url: redis.url };
    await using mesh = await HttpPeers.of(['a', 'b'], {}, { limits });
    const key = await mesh.key('ci', { role: 'user' });
    const callers = [mesh.caller('a', key), mesh.caller('b', key)];
    for (const each of callers) await each.initialize();
    const told = await Promise.all(Array.from({ length: 30 }, (_, at) => callers[at % 2]!.call('task_submit', SUBMIT)));
    expect(told.filter(({ code }) => code === undefined)).toHaveLength(5);
    expect(told.filter(({ code }) => code === 'RATE_LIMITED')).toHaveLength(25);
    await redis.kill();
    const later = await Promise.all(callers.map((each) => each.call('queue_stats', {})));
    expect(later.map(({ code }) => code)).toEqual([undefined, undefined]);
  });
});
