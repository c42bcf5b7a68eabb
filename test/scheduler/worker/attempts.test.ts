import { describe, expect, test } from 'vitest';
import { FlowmeshError } from '../../../dag/errors.ts';
import { CANCEL_GRACE_MS, PROGRESS_INTERVAL_MS } from '../../../scheduler/limits.ts';
import { lease, openPool } from '../pool.ts';

const SOON_MS = 100;

describe('an attempt is ended before its time', () => {
  test('by its timeout: it has failed, retryably', async () => {
    const { pools, pool, owner } = await openPool();
    pool.accept('owner', [lease('a', { timeout_ms: 500 })]);
    await pools.pass(499);
    expect(pool.running).toBe(1);
    await pools.pass(CANCEL_GRACE_MS + SOON_MS);
    expect(owner.results).toMatchObject([{ status: 'failed', error: { code: 'TIMEOUT', retryable: true } }]);
  });

  test('by a cancel of its owner, and of nobody else', async () => {
    const { pools, pool, owner } = await openPool();
    pool.accept('owner', [lease('a')]);
    const token = { uid: 'a', feed_id: 'feed', epoch: 1, attempt: 1 };
    pool.cancel('other', [{ ...token, force: true }]);
    pool.cancel('owner', [{ ...token, attempt: 2, force: true }]);
    await pools.pass(SOON_MS);
    expect(pool.running).toBe(1);
    pool.cancel('owner', [{ ...token, force: true }]);
    await pools.pass(SOON_MS);
    expect(pool.running).toBe(0);
    expect(owner.results).toMatchObject([{ status: 'cancelled', output: null }]);
  });

  test('with grace time, or with force at once, when the action does not listen', async () => {
    for (const force of [false, true]) {
      const { pools, pool } = await openPool({}, { 'fn:deaf': () => new Promise(() => {}) });
      pool.accept('owner', [lease('a', { action: 'fn:deaf' })]);
      pool.cancel('owner', [{ uid: 'a', feed_id: 'feed', epoch: 1, attempt: 1, force }]);
      await pools.pass(CANCEL_GRACE_MS / 2);
      expect(pool.running).toBe(force ? 0 : 1);
      await pools.pass(CANCEL_GRACE_MS);
      expect(pool.running).toBe(0);
    }
  });

  test('a cancel drops a result that is kept', async () => {
    const { pools, pool, owner } = await openPool();
    owner.onResults = () => Promise.reject(new FlowmeshError('NOT_READY', 'later', { retryable: true }));
    pool.accept('owner', [lease('a', { action: 'echo' })]);
    await pools.pass(SOON_MS);
    pool.cancel('other', [{ uid: 'a', feed_id: 'feed', epoch: 1, attempt: 1, force: false }]);
    expect(pool.holding('owner')).toHaveLength(1);
    pool.cancel('owner', [{ uid: 'a', feed_id: 'feed', epoch: 1, attempt: 1, force: false }]);
    expect(pool.holding('owner')).toEqual([]);
  });
});

describe('progress', () => {
  test('is reported now and then, with the lines since the last report, the rest with the result', async () => {
    const { pools, pool, owner } = await openPool(
      {},
      {
        'fn:talk': async (
          request: { uid: string },
          io: { progress(percent: number, message: string): void; log(stream: 'log', line: string): void },
        ) => {
          io.progress(150, 'nearly');
          io.log('log', 'first');
          await pools.gate(request.uid).opened;
          io.log('log', 'last');
          return null;
        },
      },
    );
    pool.accept('owner', [lease('a', { action: 'fn:talk' })]);
    await pools.pass(PROGRESS_INTERVAL_MS + SOON_MS);
    const reports = owner.heard.filter(({ method }) => method === 'progress');
    expect(reports).toMatchObject([
      { params: { items: [{ uid: 'a', percent: 100, message: 'nearly', lines: [{ line: 'first' }] }] } },
    ]);
    pools.gate('a').open();
    await pools.pass(2 * PROGRESS_INTERVAL_MS);
    expect(owner.results[0]!.lines.map(({ line }) => line)).toEqual(['last']);
    expect(owner.heard.filter(({ method }) => method === 'progress')).toHaveLength(1);
  });
});
