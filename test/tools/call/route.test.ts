import { describe, expect, it } from 'vitest';
import { DURATION_MS_MAX } from '../../../dag/limits.ts';
import { CALL_DEADLINE_MS, CALL_HOPS_MAX, CALL_WAIT_MAX_MS } from '../../../scheduler/limits.ts';
import type { Alias } from '../../../scheduler/messages.ts';
import { parseInput } from '../../../tools/call/envelope.ts';
import { callTool, readLocally } from '../../../tools/call/route.ts';
import { tools } from '../../../tools/registry.ts';
import { answerOperation } from '../../../tools/task/answer.ts';
import { task, worker, workflow } from '../../store/sample-rows.ts';
import { MeshOfDoubles, workerView } from '../mesh-of-doubles.ts';

const tool = (name: string) => tools.get(name)!;
const read = (name: string, input: object, peer: { context: Parameters<typeof readLocally>[2] }) =>
  readLocally(tool(name), parseInput(tool(name), input), peer.context);

describe('a read on the serve loop', () => {
  it('answers what this peer has', async () => {
    const a = new MeshOfDoubles().peer('a');
    a.put(task('t', { status: 'running', peer_id: 'b' }));
    const output = await read('task_status', { task_id: 't-id' }, a);
    expect(output).toMatchObject({
      success: true,
      task_id: 't-id',
      status: 'running',
      peer_id: 'b',
      owner_peer_id: 'a',
    });
  });

  it('leaves to the mesh loop: records of others, merges, live state, and tools of that loop', async () => {
    const mesh = new MeshOfDoubles();
    const a = mesh.peer('a');
    mesh.peer('b').put(task('t'));
    expect(await read('task_status', { task_id: 't-id' }, a)).toBeUndefined();
    expect(await read('task_list', {}, a)).toBeUndefined();
    expect(await read('queue_stats', {}, a)).toBeUndefined();
    expect(await read('workflow_list', { peer_filter: 'b' }, a)).toBeUndefined();
    expect(await read('queue_stats', { include_worker_stats: true }, a)).toBeUndefined();
    expect(await read('peer_list', {}, a)).toBeUndefined();
    expect(await read('task_list', { scope: 'local' }, a)).toMatchObject({ success: true, tasks: [] });
  });
});

describe('a call about a record of another peer', () => {
  it('runs at the owner, with the same answer as there', async () => {
    const mesh = new MeshOfDoubles();
    const [a, b] = [mesh.peer('a'), mesh.peer('b')];
    b.put(workflow('w', { status: 'completed', result: { words: 7 } }));
    const asked = await callTool(tool('workflow_result'), { workflow_id: 'w-id' }, a.context, 0);
    expect(asked).toEqual(await callTool(tool('workflow_result'), { workflow_id: 'w-id' }, b.context, 0));
    expect(asked).toMatchObject({ success: true, status: 'completed', result: { words: 7 } });
    expect(b.calls).toMatchObject([{ tool: 'workflow_result', input: { workflow_id: 'w-id' }, hops: 1 }]);
  });

  it('changes the record there and not here', async () => {
    const mesh = new MeshOfDoubles();
    const [a, b] = [mesh.peer('a'), mesh.peer('b')];
    b.put(task('t', { status: 'running' }));
    const cancelled: string[] = [];
    b.scheduler.cancelTask = async (uid, options) => {
      cancelled.push(`${uid} ${JSON.stringify(options)}`);
      return {
        record: task('t', { status: 'cancelled', ended_at: '2026-01-01T00:00:01.000Z' }),
        cleanup_required: true,
      };
    };
    const output = await callTool(tool('task_cancel'), { task_id: 't-id', reason: 'late' }, a.context, 0);
    expect(output).toEqual({
      success: true,
      task_id: 't-id',
      status: 'cancelled',
      cancelled_at: '2026-01-01T00:00:01.000Z',
      cleanup_required: true,
    });
    expect(cancelled).toEqual(['t {"reason":"late","force":false}']);
  });

  it('carries the answer of a person to the owner', async () => {
    const mesh = new MeshOfDoubles();
    const [a, b] = [mesh.peer('a'), mesh.peer('b')];
    b.put(task('t', { status: 'input_required' }));
    b.scheduler.answerTask = async (uid, { approve, data }) => {
      expect([uid, approve, data]).toEqual(['t', true, { note: 'fine' }]);
      return task('t', { status: 'completed' });
    };
    const input = { task_id: 't-id', approve: true, data: { note: 'fine' } };
    expect(await callTool(answerOperation, input, a.context, 0)).toEqual({
      success: true,
      task_id: 't-id',
      status: 'completed',
      approved: true,
    });
  });

  it('fails with the owner’s own error, and is not tried again', async () => {
    const mesh = new MeshOfDoubles();
    const [a, b] = [mesh.peer('a'), mesh.peer('b')];
    b.put(task('t'));
    b.scheduler.retryTask = async () => {
      throw new RangeError('the disk is full');
    };
    await expect(callTool(tool('task_retry'), { task_id: 't-id' }, a.context, 0)).rejects.toThrow('the disk is full');
    expect(b.calls).toHaveLength(1);
  });

  it('finds a worker wherever it is', async () => {
    const mesh = new MeshOfDoubles();
    const [a, b] = [mesh.peer('a'), mesh.peer('b')];
    b.put({
      kind: 'worker',
      uid: 'worker-uid',
      worker_id: 'pool',
      capabilities: ['echo', 'gpu'],
      max_concurrent_tasks: 4,
      resource_limits: { cpu_cores: 2, memory_gb: null },
      metadata: {},
      status: 'active',
      registered_at: '2026-01-01T00:00:00.000Z',
    });
    b.scheduler.workers = () => [workerView('b', { worker_id: 'pool' })];
    expect(await callTool(tool('worker_status'), { worker_id: 'pool' }, a.context, 0)).toMatchObject({
      peer_id: 'b',
      status: 'active',
      running_tasks: 1,
      resource_usage: { slots: 4, slots_used: 1, slots_free: 3 },
    });
  });
});

describe('a call about a record that cannot be reached', () => {
  it.each([
    ['workflow_status', { workflow_id: 'nothing' }, 'workflow_list'],
    ['task_priority', { task_id: 'nothing', boost: 1 }, 'task_list'],
    ['worker_unregister', { worker_id: 'nothing' }, 'queue_stats'],
  ])('%s of what nobody has is NOT_FOUND, and says how to look', async (name, input, how) => {
    const mesh = new MeshOfDoubles();
    mesh.peer('b');
    await expect(callTool(tool(name), input, mesh.peer('a').context, 0)).rejects.toMatchObject({
      code: 'NOT_FOUND',
      message: expect.stringMatching(new RegExp(`"nothing".*${how}`)),
    });
  });

  it('that is to wait for something has the time for that at the other peer too, within a bound', async () => {
    const mesh = new MeshOfDoubles();
    const [a, b] = [mesh.peer('a'), mesh.peer('b')];
    b.put(task('t'), worker('w'));
    b.scheduler.unregisterWorker = async () => ({ completed_tasks: 0, abandoned_tasks: 0 });
    const unregister = (input: object) =>
      callTool(tool('worker_unregister'), { worker_id: 'w-id', ...input }, a.context, 0);
    await callTool(tool('task_status'), { task_id: 't-id' }, a.context, 0);
    await unregister({ timeout_ms: 120_000 });
    await unregister({ timeout_ms: 120_000, graceful: false });
    await unregister({ timeout_ms: DURATION_MS_MAX });
    expect(b.deadlines).toEqual([
      CALL_DEADLINE_MS,
      CALL_DEADLINE_MS + 120_000,
      CALL_DEADLINE_MS,
      CALL_DEADLINE_MS + CALL_WAIT_MAX_MS,
    ]);
  });

  it('is HOPS_EXCEEDED when it was handed on too often', async () => {
    const mesh = new MeshOfDoubles();
    const [a, b] = [mesh.peer('a'), mesh.peer('b')];
    b.put(task('t'));
    const call = (hops: number) => callTool(tool('task_status'), { task_id: 't-id' }, a.context, hops);
    await expect(call(CALL_HOPS_MAX)).rejects.toMatchObject({ code: 'HOPS_EXCEEDED' });
    expect(await call(CALL_HOPS_MAX - 1)).toMatchObject({ success: true });
    expect(b.calls.map(({ hops }) => hops)).toEqual([CALL_HOPS_MAX]);
  });

  it('finds the owner where two peers remember the record at each other', async () => {
    const mesh = new MeshOfDoubles();
    const [a, b, c] = [mesh.peer('a'), mesh.peer('b'), mesh.peer('c')];
    c.put(task('t', { status: 'running' }));
    const remembered =
      (peer_id: string) =>
      async (_alias: Alias, except: readonly string[] = []) => ({
        here: false as const,
        at: { peer_id: except.includes(peer_id) ? 'c' : peer_id, addresses: [], status: '', content_hash: '' },
      });
    a.scheduler.resolve = remembered('b');
    b.scheduler.resolve = remembered('a');
    const output = await callTool(tool('task_status'), { task_id: 't-id' }, a.context, 0);
    expect(output).toMatchObject({ success: true, owner_peer_id: 'c' });
  });

  it('ends when every peer believes that the next one has it', async () => {
    const mesh = new MeshOfDoubles();
    const [a, b] = [mesh.peer('a'), mesh.peer('b')];
    const at = (peer_id: string) => async () => ({
      here: false as const,
      at: { peer_id, addresses: [], status: 'running', content_hash: '' },
    });
    a.scheduler.resolve = at('b');
    b.scheduler.resolve = at('a');
    await expect(callTool(tool('task_status'), { task_id: 't' }, a.context, 0)).rejects.toMatchObject({
      code: 'HOPS_EXCEEDED',
    });
    b.scheduler.resolve = at('b');
    await expect(callTool(tool('task_status'), { task_id: 't' }, a.context, 0)).rejects.toMatchObject({
      code: 'NOT_FOUND',
    });
  });

  it('says NOT_FOUND for what its owner has forgotten, where a copy that was still there led in a circle', async () => {
    const mesh = new MeshOfDoubles();
    const [a, b, c] = [mesh.peer('a'), mesh.peer('b'), mesh.peer('c')];
    const remembered =
      (peer_id: string) =>
      async (_alias: Alias, except: readonly string[] = []) => {
        if (except.includes(peer_id)) return undefined; // the copy is gone meanwhile, too
        return { here: false as const, at: { peer_id, addresses: [], status: '', content_hash: '' } };
      };
    c.scheduler.resolve = remembered('b');
    b.scheduler.resolve = remembered('a');
    a.scheduler.resolve = remembered('b');
    await expect(callTool(tool('task_status'), { task_id: 't' }, c.context, 0)).rejects.toMatchObject({
      code: 'NOT_FOUND',
    });
  });

  it('reads once more when the record was committed between the first look and the search', async () => {
    const a = new MeshOfDoubles().peer('a');
    a.scheduler.resolve = async () => {
      a.put(task('t'));
      return { here: true, uid: 't' };
    };
    expect(await callTool(tool('task_status'), { task_id: 't-id' }, a.context, 0)).toMatchObject({ status: 'queued' });
  });

  it('says NOT_FOUND for what is accepted here and not yet on disk', async () => {
    const a = new MeshOfDoubles().peer('a');
    a.scheduler.resolve = async () => ({ here: true, uid: 't' });
    await expect(callTool(tool('task_status'), { task_id: 't-id' }, a.context, 0)).rejects.toMatchObject({
      code: 'NOT_FOUND',
    });
  });
});
