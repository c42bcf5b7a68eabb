import { expect, it } from 'vitest';
import { LateRouter } from '../../node/runtimes/late-router.ts';
import { CALLS_IN_FLIGHT_MAX } from '../../node/runtimes/limits.ts';
import type { ToolRouter } from '../../node/runtimes/router.ts';

function setUp() {
  const { promise, resolve, reject } = Promise.withResolvers<Pick<ToolRouter, 'call'>>();
  const arrive = () => resolve({ call: async (tool, input) => ({ success: true, tool, input: input as string }) });
  return { late: new LateRouter(promise), arrive, fail: reject };
}

it('calls wait for the router, and later ones go straight to it', async () => {
  const { late, arrive } = setUp();
  const early = late.call('a', 1);
  arrive();
  expect(await early).toEqual({ success: true, tool: 'a', input: 1 });
  expect(await late.call('b', 2)).toEqual({ success: true, tool: 'b', input: 2 });
});

it('a call that is given up while it waits is not made', async () => {
  const { late } = setUp();
  const caller = new AbortController();
  const call = late.call('a', 1, { signal: caller.signal });
  caller.abort();
  await expect(call).rejects.toMatchObject({ code: 'CANCELLED' });
});

it('calls fail with what kept the peer from starting', async () => {
  const { late, fail } = setUp();
  const early = late.call('a', 1);
  fail(new Error('the port is in use'));
  await expect(early).rejects.toThrow('the port is in use');
  await expect(late.call('a', 1)).rejects.toThrow('the port is in use');
});

it('no more wait than a peer carries (P7)', async () => {
  const { late, arrive } = setUp();
  const waiting = Array.from({ length: CALLS_IN_FLIGHT_MAX }, () => late.call('a', 1));
  await expect(late.call('a', 1)).rejects.toMatchObject({ code: 'TOO_BUSY', retryable: true });
  arrive();
  expect(await Promise.all(waiting)).toHaveLength(CALLS_IN_FLIGHT_MAX);
});
