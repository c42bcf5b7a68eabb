/** Calls of other peers on the mesh loop, and how long they may take. */

import { afterEach, expect, it, vi } from 'vitest';
import { FlowmeshError, type JsonObject } from '../../dag/errors.ts';
import { LARGE_ELEMENTS } from '../../dag/limits.ts';
import { MeshCalls } from '../../node/runtimes/mesh-calls.ts';
import type { SchedulerApi } from '../../scheduler/api.ts';
import { EVERYBODY } from '../../scheduler/caller.ts';
import { CALL_DEADLINE_MS } from '../../scheduler/limits.ts';
import { testLog } from '../harness/log.ts';
import { worker } from '../store/sample-rows.ts';
import { MeshOfDoubles } from '../tools/mesh-of-doubles.ts';

afterEach(() => {
  vi.useRealTimers();
});

it('a call that is to wait ends after that, and one that hangs when its time is over', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  const peer = new MeshOfDoubles().peer('a');
  const drained = Promise.withResolvers<{ completed_tasks: number; abandoned_tasks: number }>();
  peer.put(worker('w'));
  peer.scheduler.unregisterWorker = () => drained.promise;
  const { reader, peers, clock } = peer.context;
  const calls = new MeshCalls({
    scheduler: peer.scheduler as SchedulerApi,
    ...{ peers, reader, clock, log: testLog('inbound') },
  });
  const unregister = (timeout_ms: number) =>
    calls
      .runInbound({ tool: 'worker_unregister', input: { worker_id: 'w-id', timeout_ms }, caller: EVERYBODY, hops: 1 })
      .catch(({ code }) => code);
  const [short, long] = [unregister(5_000), unregister(60_000)];
  await vi.advanceTimersByTimeAsync(CALL_DEADLINE_MS + 5_000);
  expect(await short).toBe('DEADLINE_EXCEEDED');
  await vi.advanceTimersByTimeAsync(50_000);
  drained.resolve({ completed_tasks: 1, abandoned_tasks: 0 });
  expect(await long).toMatchObject({ success: true, completed_tasks: 1 });
  expect(calls.inboundFigures()['worker_unregister']).toMatchObject({ count: 2, errors: 1 });
});

it('a large call is checked in a turn of the loop of its own, and done in the next', async () => {
  const peer = new MeshOfDoubles().peer('a');
  const { reader, peers, clock } = peer.context;
  const turns: number[] = [];
  let turn = 0;
  const count = () => {
    turn++;
    if (turns.length === 0) setImmediate(count);
  };
  setImmediate(count);
  peer.scheduler.submitTask = async () => {
    turns.push(turn);
    throw new FlowmeshError('ENOUGH', 'it got this far');
  };
  const calls = new MeshCalls({
    scheduler: peer.scheduler as SchedulerApi,
    reader,
    peers,
    clock,
    log: testLog('inbound'),
  });
  const submit = (values: number) =>
    calls.runInbound({
      tool: 'task_submit',
      input: { task_type: 'echo', payload: { x: Array(values).fill(0) } },
      caller: EVERYBODY,
      hops: 1,
    });
  await expect(submit(LARGE_ELEMENTS)).rejects.toMatchObject({ code: 'ENOUGH' });
  expect(turns[0]).toBeGreaterThanOrEqual(2);
});

it('a peer without clients brings what it kept for the next owner of a record, and no other call', async () => {
  const { context, scheduler } = new MeshOfDoubles().peer('a');
  const { reader, peers, clock } = context;
  const calls = new MeshCalls({
    scheduler: scheduler as SchedulerApi,
    ...{ peers, reader, clock, log: testLog('inbound') },
  });
  const call = (tool: string, input: JsonObject) =>
    calls.runInbound({ tool, input, caller: EVERYBODY, hops: 1, kept_only: true }).catch(({ code }) => code);
  expect(await call('task_submit', { task_type: 'echo', payload: {} })).toBe('FORBIDDEN');
  expect(await call('queue_pause', {})).toBe('FORBIDDEN');
  expect(await call('task_cancel', { task_id: 'none' })).toBe('NOT_FOUND');
});

it('a call that is refused for its input is counted as one that failed', async () => {
  const { context, scheduler } = new MeshOfDoubles().peer('a');
  const { reader, peers, clock } = context;
  const calls = new MeshCalls({
    scheduler: scheduler as SchedulerApi,
    ...{ peers, reader, clock, log: testLog('inbound') },
  });
  await expect(
    calls.runInbound({ tool: 'task_status', input: { task: 1 }, caller: EVERYBODY, hops: 1 }),
  ).rejects.toMatchObject({ code: 'INVALID_INPUT' });
  expect(calls.inboundFigures()['task_status']).toMatchObject({ count: 1, errors: 1 });
});
