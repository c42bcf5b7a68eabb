import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { DURATION_MS_MAX } from '../../dag/limits.ts';
import { createClock } from '../../node/clock.ts';
import { type Config, configSchema } from '../../node/config/settings.ts';
import { MeshSupervisor } from '../../node/runtimes/mesh-supervisor.ts';
import { LoopRouter, type RouterCallOptions } from '../../node/runtimes/router.ts';
import { openSqliteReader } from '../../node/store/reader.ts';
import { openSqliteStore } from '../../node/store/store.ts';
import { EVERYBODY } from '../../scheduler/caller.ts';
import { eventually } from '../harness/eventually.ts';
import { startMeshInProcess } from '../harness/in-process.ts';
import { testLog } from '../harness/log.ts';
import type { Script } from './scripted-mesh-thread.ts';

const SCRIPTED = new URL('./scripted-mesh-thread.ts', import.meta.url);
const log = testLog('router');
const closing: (() => unknown)[] = [];

afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

interface Routed {
  router: LoopRouter;
  mesh: MeshSupervisor;
  config: Config;
}

/** A router on this loop, a mesh side on a thread of its own, and a store between them. */
async function start(options: { entry?: URL; calls_in_flight_max?: number } = {}): Promise<Routed> {
  const data_dir = await mkdtemp(join(tmpdir(), 'flowmesh-router-'));
  closing.push(() => rm(data_dir, { recursive: true, force: true }));
  const config = configSchema.parse({ data_dir, name: 'routed', mesh: `test-${data_dir.slice(-6)}` });
  if (options.entry !== undefined) {
    // The scripted mesh keeps nothing; reads find an empty store.
    const store = await openSqliteStore({ path: join(data_dir, 'flowmesh.db'), inline: true, log });
    await store.close();
  }
  const mesh = await MeshSupervisor.start({ config, log, entry: options.entry });
  closing.push(() => mesh.stop());
  const reader = openSqliteReader(join(data_dir, 'flowmesh.db'));
  closing.push(() => reader.close());
  return { router: new LoopRouter({ link: mesh, reader, clock: createClock(), config, log }, options), mesh, config };
}

it('a status that is read on this loop says why a task waits as the mesh loop knows it, or as its row does', async () => {
  const { router, mesh } = await start();
  const { task_id } = await router.call('task_submit', { task_type: 'fn:nope' });
  const status = () => router.call('task_status', { task_id: task_id! });
  const reason = 'no connected peer offers fn:nope';
  expect(await status()).toMatchObject({ status: 'queued', waiting: { for: 'worker', reason } });
  expect((await router.status()).tools.serve['task_status']).toMatchObject({ count: 1 });
  await eventually('its row says so too', async () => (await status())['placement'] !== null);
  mesh.call = () => Promise.reject(new Error('the mesh loop does not answer'));
  expect(await status()).toMatchObject({ waiting: { for: 'worker', reason } });
});

it('what a mesh loop that hangs was asked counts as in flight, and it is asked no more than that', async () => {
  const { router, mesh } = await start({ calls_in_flight_max: 2 });
  const { task_id } = await router.call('task_submit', { task_type: 'fn:nope' });
  const status = () => router.call('task_status', { task_id: task_id! });
  let asked = 0;
  mesh.call = () => {
    asked += 1;
    return new Promise(() => {});
  };
  for (let count = 0; count < 3; count += 1) expect(await status()).toMatchObject({ status: 'queued' });
  expect((await router.status()).in_flight).toBe(1);
  expect(asked).toBe(1);
});

describe('calls', () => {
  const scripted = ({ router }: Routed, script: Script, options?: RouterCallOptions) =>
    router.call('task_submit', { task_type: 'echo', payload: { ...script } }, options);

  it('are bounded: one more is TOO_BUSY, and one that was given up counts until it has ended', async () => {
    const routed = await start({ entry: SCRIPTED, calls_in_flight_max: 2 });
    const caller = new AbortController();
    const first = scripted(routed, { do: 'stubborn' }, { signal: caller.signal });
    const second = scripted(routed, { do: 'stubborn' });
    await expect(scripted(routed, { do: 'echo', value: 'x' })).rejects.toMatchObject({
      code: 'TOO_BUSY',
      retryable: true,
      details: { limit: 'CALLS_IN_FLIGHT_MAX', value: 2 },
    });
    caller.abort();
    await expect(first).rejects.toMatchObject({ code: 'CANCELLED' });
    await expect(scripted(routed, { do: 'echo', value: 'x' })).rejects.toMatchObject({ code: 'TOO_BUSY' });
    // Only the other loop can end them; this asks it past the router.
    await routed.mesh.call(
      'task_submit',
      { payload: { do: 'release' } },
      { signal: new AbortController().signal, deadlineMs: 5_000, caller: EVERYBODY },
    );
    await second;
    expect(await scripted(routed, { do: 'echo', value: 'x' })).toMatchObject({ value: 'x' });
    expect((await routed.router.status()).in_flight).toBe(0);
  });

  it('that are cancelled end at once, and their signal on the mesh loop says so', async () => {
    const routed = await start({ entry: SCRIPTED });
    const caller = new AbortController();
    const waiting = scripted(routed, { do: 'wait' }, { signal: caller.signal });
    await scripted(routed, { do: 'echo', value: 'the wait has begun' });
    caller.abort();
    await expect(waiting).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(await scripted(routed, { do: 'report' })).toMatchObject({ aborted: ['CANCELLED'] });
  });

  it('that were cancelled before they came are not executed', async () => {
    const routed = await start({ entry: SCRIPTED });
    await expect(scripted(routed, { do: 'echo', value: 'x' }, { signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: 'CANCELLED',
    });
    expect(await scripted(routed, { do: 'report' })).toMatchObject({ executed: 1 });
  });

  it('past their deadline fail as DEADLINE_EXCEEDED and are aborted on the mesh loop', async () => {
    const routed = await start({ entry: SCRIPTED });
    await expect(scripted(routed, { do: 'wait' }, { deadline_ms: 30 })).rejects.toMatchObject({
      code: 'DEADLINE_EXCEEDED',
      retryable: true,
      details: { deadline_ms: 30 },
    });
    await eventually('the mesh loop has heard of it', async () => {
      const { aborted } = await scripted(routed, { do: 'report' });
      return (aborted as string[]).join() === 'DEADLINE_EXCEEDED';
    });
  });

  it('tell the mesh loop their deadline', async () => {
    const routed = await start({ entry: SCRIPTED });
    const { deadline_ms } = await scripted(routed, { do: 'report' }, { deadline_ms: 5_000 });
    expect(deadline_ms).toBeGreaterThan(4_000);
    expect(deadline_ms).toBeLessThanOrEqual(5_000);
  });

  it('that are to wait for longer than others have the time for it', async () => {
    const { router } = await start({ entry: SCRIPTED });
    const minutesFor = async (timeout_ms: number) => {
      const { deadline_ms } = await router.call('worker_unregister', { worker_id: 'w', timeout_ms });
      // What was spent on the way there is gone from it.
      return Math.ceil(Number(deadline_ms) / 30_000) / 2;
    };
    expect(await minutesFor(25_000)).toBe(10);
    expect(await minutesFor(20 * 60_000)).toBe(20.5);
    expect(await minutesFor(DURATION_MS_MAX)).toBe(30.5);
  });

  it('that fail were executed once, and are counted as failed where they ran', async () => {
    const routed = await start({ entry: SCRIPTED });
    await expect(scripted(routed, { do: 'fail' })).rejects.toMatchObject({ code: 'SCRIPTED' });
    expect(await scripted(routed, { do: 'report' })).toMatchObject({ executed: 2 });
    const { tools } = await routed.router.status();
    expect(tools.mesh['task_submit']).toMatchObject({ count: 2, errors: 1 });
    expect(tools.mesh['task_submit']!.p50_ms).toBeGreaterThan(0);
    expect(tools.serve).toEqual({});
  });

  it('of an unknown tool, and all of a router that was closed, are refused', async () => {
    const routed = await start({ entry: SCRIPTED });
    await expect(routed.router.call('task_explode', {})).rejects.toMatchObject({ code: 'UNKNOWN_TOOL' });
    routed.router.close();
    await expect(scripted(routed, { do: 'echo', value: 'x' })).rejects.toMatchObject({ code: 'PEER_STOPPED' });
    expect(await routed.router.status()).toMatchObject({ ready: false, reasons: ['the peer is stopping'] });
  });
});

describe('with the real mesh side on its thread', () => {
  it('reads are answered on the serve loop, the rest crosses, and bad input is refused on either', async () => {
    const { router } = await start();
    await expect(router.call('task_status', { task_id: 7 })).rejects.toMatchObject({ code: 'INVALID_INPUT' });
    await expect(router.call('task_submit', {})).rejects.toMatchObject({ code: 'INVALID_INPUT' });
    await expect(router.call('task_status', { task_id: 'nobody' })).rejects.toMatchObject({ code: 'NOT_FOUND' });
    // The record that is not here was asked for on the mesh.
    expect((await router.status()).tools.mesh['task_status']).toMatchObject({ count: 1, errors: 1 });
    await router.call('task_submit', { task_id: 't', task_type: 'echo', payload: { n: 1 } });
    await eventually('the task is done', async () => {
      return (await router.call('task_status', { task_id: 't' }))['status'] === 'completed';
    });
    expect(await router.call('task_result', { task_id: 't' })).toMatchObject({ success: true, output: { n: 1 } });
    const { tools, ready } = await router.status();
    expect(ready).toBe(true);
    expect(tools.serve['task_result']).toMatchObject({ count: 1, errors: 0 });
    expect(tools.serve['task_status']).toMatchObject({ errors: 1 });
    // A read that met a row before its release crossed, too (P1), and had its answer.
    expect(tools.mesh['task_status']).toMatchObject({ errors: 1 });
    expect(tools.mesh['task_submit']).toMatchObject({ count: 2, errors: 1 });
    expect(tools.mesh['task_result']).toBeUndefined();
  });

  it('a crash of the mesh loop loses no accepted work', async () => {
    const { router, mesh, config } = await start();
    const { peer_id } = mesh.info;
    const steps = [
      { step_id: 'wait', action: 'sleep', inputs: { duration_ms: 600 } },
      { step_id: 'say', action: 'echo', depends_on: ['wait'], inputs: { said: 'after the crash' } },
    ];
    await router.call('workflow_submit', { workflow_id: 'w', name: 'survivor', steps });
    const inFlight = router.call('worker_unregister', { worker_id: 'nobody-here' });
    await Promise.allSettled([mesh.crash(), inFlight]);
    // Reads go on without the mesh loop, from what is on disk.
    expect(await router.call('workflow_status', { workflow_id: 'w' })).toMatchObject({ success: true });
    await eventually('the workflow has ended', async () => {
      return (await router.call('workflow_status', { workflow_id: 'w' }))['status'] === 'completed';
    });
    expect(await router.call('workflow_result', { workflow_id: 'w' })).toMatchObject({
      result: { say: { said: 'after the crash' } },
    });
    expect(await router.status()).toMatchObject({ ready: true, mesh_restarts: 1, peer_id, mesh: config.mesh });
  });
});

it('a call about a record of another peer is counted there as inbound', async () => {
  await using mesh = await startMeshInProcess(2);
  const [owner, asked] = [mesh.peers[0]!, mesh.peers[1]!];
  await owner.call('task_submit', { task_id: 'there', task_type: 'approve' });
  expect(await asked.call('task_status', { task_id: 'there' })).toMatchObject({ peer_id: owner.peer_id });
  const answer = { approve: true, data: { by: 'somebody' } };
  expect(await asked.router.answerTask('there', answer)).toMatchObject({ success: true, approved: true });
  const result = await eventually('the answer is the output', async () => {
    const found = await asked.call('task_result', { task_id: 'there' });
    return found['status'] === 'completed' && found;
  });
  expect(result).toMatchObject({ output: { approved: true, data: { by: 'somebody' } } });
  const { inbound } = (await owner.router.status()).tools;
  expect(inbound['task_status']).toMatchObject({ count: 1, errors: 0 });
  expect(inbound['task_answer']).toMatchObject({ count: 1, errors: 0 });
});
