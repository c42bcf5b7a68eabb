import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { JsonObject } from '../../../dag/errors.ts';
import { MERGE_REACH_MAX, weightedMean } from '../../../tools/call/merge.ts';
import { callTool } from '../../../tools/call/route.ts';
import { tools } from '../../../tools/registry.ts';
import { at, task, workflow } from '../../store/sample-rows.ts';
import { connection, MeshOfDoubles, NOW_MS, workerView } from '../mesh-of-doubles.ts';

const call = (mesh: MeshOfDoubles, peer: string, name: string, input: JsonObject) =>
  callTool(tools.get(name)!, input, mesh.peer(peer).context, 0);

const PEERS = ['a', 'b', 'c'];

/** Tasks over three peers; `times` gives each its creation time, several may share one. */
function meshWith(times: { peer: number; ms: number }[]): MeshOfDoubles {
  const mesh = new MeshOfDoubles();
  for (const peer of PEERS) mesh.peer(peer);
  times.forEach(({ peer, ms }, n) => {
    const uid = `t${String(n).padStart(5, '0')}`;
    mesh.peer(PEERS[peer]!).put(task(uid, { created_at: at(ms), status: n % 3 === 0 ? 'completed' : 'queued' }));
  });
  return mesh;
}

describe('a list with scope "mesh"', () => {
  it('is one list whichever peer is asked: every task once, newest first, in pages of any size', async () => {
    const placed = fc.record({ peer: fc.nat({ max: 2 }), ms: fc.nat({ max: 20 }) });
    await fc.assert(
      fc.asyncProperty(
        fc.array(placed, { maxLength: 40 }),
        fc.integer({ min: 1, max: 15 }),
        fc.constantFrom(...PEERS),
        async (times, limit, asked) => {
          const mesh = meshWith(times);
          const found: { task_id: string; created_at: string; owner_peer_id: string }[] = [];
          for (let offset = 0; ; offset += limit) {
            const page = await call(mesh, asked, 'task_list', { scope: 'mesh', limit, offset });
            const tasks = page['tasks'] as typeof found;
            expect(page).toMatchObject({ total_count: times.length, returned_count: tasks.length, missing: [] });
            found.push(...tasks);
            expect(page['has_more']).toBe(found.length < times.length);
            if (!page['has_more']) break;
          }
          expect(new Set(found.map(({ task_id }) => task_id)).size).toBe(times.length);
          expect(found.length).toBe(times.length);
          const created = found.map(({ created_at }) => created_at);
          expect(created).toEqual([...created].sort().reverse());
          for (const { task_id, owner_peer_id } of found) {
            expect(owner_peer_id).toBe(PEERS[times[Number(task_id.slice(1, 6))]!.peer]);
          }
        },
      ),
      { numRuns: 60 },
    );
  });

  it('is what a list is when nothing else is said', async () => {
    const mesh = meshWith([
      { peer: 0, ms: 1 },
      { peer: 1, ms: 2 },
    ]);
    mesh.peer('b').put(workflow('w'));
    expect(await call(mesh, 'a', 'task_list', {})).toMatchObject({ total_count: 2, missing: [] });
    expect(await call(mesh, 'a', 'task_list', { scope: 'local' })).toMatchObject({ total_count: 1 });
    expect(await call(mesh, 'a', 'workflow_list', {})).toMatchObject({ total_count: 1, missing: [] });
    expect(await call(mesh, 'a', 'workflow_list', { scope: 'local' })).toMatchObject({ total_count: 0 });
    expect(await call(mesh, 'c', 'queue_stats', {})).toMatchObject({ queued_count: 1, completed_count: 1 });
    expect(await call(mesh, 'c', 'queue_stats', { scope: 'local' })).toMatchObject({ queued_count: 0 });
  });

  it('of the tasks of one workflow has those of its steps alone, and an unknown workflow is an error', async () => {
    const mesh = new MeshOfDoubles();
    for (const peer of PEERS) {
      const of_it = { workflow_uid: `w-${peer}`, workflow_id: `w-${peer}-id` };
      mesh.peer(peer).put(workflow(`w-${peer}`), task(`t-${peer}`, of_it), task(`other-${peer}`));
    }
    const found = await call(mesh, 'a', 'task_list', { workflow_filter: 'w-b-id' });
    expect(found).toMatchObject({ total_count: 1, tasks: [{ task_id: 't-b-id', workflow_id: 'w-b-id' }] });
    const finished = await call(mesh, 'a', 'task_list', { workflow_filter: 'w-b-id', status_filter: 'completed' });
    expect(finished).toMatchObject({ total_count: 0 });
    const unknown = call(mesh, 'a', 'task_list', { workflow_filter: 'w-x' });
    await expect(unknown).rejects.toMatchObject({ code: 'NOT_FOUND', message: expect.stringContaining('"w-x"') });
  });

  it('hands its filters on, and counts what matches everywhere', async () => {
    const mesh = meshWith(Array.from({ length: 30 }, (_, n) => ({ peer: n % 3, ms: n })));
    const page = await call(mesh, 'a', 'task_list', { scope: 'mesh', status_filter: 'completed', limit: 4 });
    expect(page).toMatchObject({ total_count: 10, returned_count: 4, has_more: true });
    expect(mesh.peer('b').calls).toEqual([
      {
        tool: 'task_list',
        input: { scope: 'local', status_filter: 'completed', tag_filter: [], dead_letter: false, limit: 4, offset: 0 },
        hops: 1,
      },
    ]);
  });

  it('asks in rounds for a page deeper than one answer, and refuses one too deep', async () => {
    const mesh = meshWith(Array.from({ length: 2_300 }, (_, n) => ({ peer: n % 2, ms: n })));
    const page = await call(mesh, 'c', 'task_list', { scope: 'mesh', limit: 100, offset: 2_200 });
    expect(page).toMatchObject({ total_count: 2_300, returned_count: 100, has_more: false });
    const times = (page['tasks'] as { created_at: string }[]).map(({ created_at }) => created_at);
    expect(times[0]).toBe(at(99));
    expect(times.at(-1)).toBe(at(0));
    const tooDeep = call(mesh, 'c', 'task_list', { scope: 'mesh', limit: 1, offset: MERGE_REACH_MAX });
    await expect(tooDeep).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED', details: { maximum: MERGE_REACH_MAX } });
  });

  it('names the peers that did not answer, or not in the shape of an answer', async () => {
    const mesh = meshWith([
      { peer: 0, ms: 1 },
      { peer: 1, ms: 2 },
      { peer: 2, ms: 3 },
    ]);
    mesh.down.add('b');
    const { context } = mesh.peer('a');
    const { everywhere } = context;
    context.everywhere = async (tool, input) => {
      const { outputs, missing } = await everywhere(tool, input);
      return { outputs: [...outputs, { peer_id: 'odd', output: { success: true, tasks: 'many' } }], missing };
    };
    expect(await call(mesh, 'a', 'task_list', { scope: 'mesh' })).toMatchObject({
      total_count: 2,
      missing: ['b', 'odd'],
    });
  });

  it('of workflows of another peer asks for those of that peer alone', async () => {
    const mesh = new MeshOfDoubles();
    for (const peer of PEERS) mesh.peer(peer).put(workflow(`w-${peer}`));
    const away = connection('away', { status: 'disconnected', name: 'ada' });
    mesh.peer('a').peers.list = () => [connection('b', { name: 'ben' }), connection('c'), away];
    const found = await call(mesh, 'a', 'workflow_list', { peer_filter: 'b' });
    expect(await call(mesh, 'a', 'workflow_list', { peer_filter: 'ben' })).toEqual(found);
    expect(await call(mesh, 'a', 'workflow_list', { peer_filter: 'name of a' })).toMatchObject({ total_count: 1 });
    const nothing = { total_count: 0, missing: ['away'] };
    expect(await call(mesh, 'a', 'workflow_list', { peer_filter: 'ada' })).toMatchObject(nothing);
    expect(found).toMatchObject({ total_count: 1, workflows: [{ workflow_id: 'w-b-id', peer_id: 'b' }] });
    expect(await call(mesh, 'a', 'workflow_list', { peer_filter: 'a' })).toMatchObject({
      total_count: 1,
      workflows: [{ peer_id: 'a' }],
    });
    expect(await call(mesh, 'a', 'workflow_list', { scope: 'mesh' })).toMatchObject({ total_count: 3 });
    mesh.down.add('b').add('c');
    const down = await call(mesh, 'a', 'workflow_list', { peer_filter: 'b' });
    expect(down).toMatchObject({ total_count: 0, missing: ['b'] });
  });
});

describe('figures of several queues', () => {
  const ended = (uid: string, minutesAgo: number, wait_ms: number, execution_time_ms: number) =>
    task(uid, {
      status: 'completed',
      ended_at: new Date(NOW_MS - minutesAgo * 60_000).toISOString(),
      wait_ms,
      execution_time_ms,
    });

  it('are added, and means weighted by what they were made of', async () => {
    const mesh = new MeshOfDoubles();
    mesh.peer('a').put(ended('a1', 0.5, 10, 100), ended('a2', 30, 20, 100), ended('a3', 40, 30, 100), task('a4'));
    mesh.peer('b').put(ended('b1', 0.5, 100, 500), task('b2', { status: 'failed', dead_letter: true }));
    mesh.peer('b').put({ kind: 'queue', uid: 'queue', paused: true, reason: 'disk', paused_at: at(0) });
    mesh.peer('c').put(task('c1', { status: 'input_required' }), ended('c2', 90, 9_999, 9_999));
    const stats = await call(mesh, 'a', 'queue_stats', { scope: 'mesh', include_historical: true });
    expect(stats).toMatchObject({
      queued_count: 1,
      running_count: 0,
      input_required_count: 1,
      completed_count: 5,
      failed_count: 0,
      dead_letter_count: 1,
      paused: true,
      paused_peers: ['b'],
      average_wait_time_ms: (10 + 20 + 30 + 100) / 4,
      average_execution_time_ms: (100 * 3 + 500) / 4,
      throughput_per_minute: 2,
      missing: [],
    });
    const minutes = stats['historical'] as { completed: number }[];
    expect(minutes.map(({ completed }) => completed)).toEqual([1, 1, 2]);
    expect(await call(mesh, 'a', 'queue_stats', { scope: 'local' })).toMatchObject({
      paused: false,
      average_wait_time_ms: 20,
    });
  });

  it('have the workers of every peer, and only when asked for', async () => {
    const mesh = new MeshOfDoubles();
    for (const self of ['a', 'b']) {
      // Each sees the other's workers too; they are counted at their own peer only.
      mesh.peer(self).scheduler.workers = () => [workerView('a'), workerView('b', { running: 4 })];
    }
    expect(await call(mesh, 'a', 'queue_stats', {})).not.toHaveProperty('worker_stats');
    const stats = await call(mesh, 'a', 'queue_stats', { scope: 'mesh', include_worker_stats: true });
    expect(stats['worker_stats']).toMatchObject([
      { worker_id: 'a-worker', status: 'active', utilization: 0.25 },
      { worker_id: 'b-worker', status: 'busy', utilization: 1 },
    ]);
  });

  it('pause and resume everywhere and name who did not', async () => {
    const mesh = new MeshOfDoubles();
    for (const self of PEERS) {
      const peer = mesh.peer(self);
      peer.put(task(`${self}1`), task(`${self}2`, { status: 'running' }));
      const queue = { kind: 'queue' as const, uid: 'queue', paused: true, reason: 'disk', paused_at: at(5) };
      peer.scheduler.pauseQueue = async (reason) => ({ ...queue, reason: reason ?? null });
      peer.scheduler.resumeQueue = async (options) => {
        const reordered = self === 'b' && options?.reorder_by_priority === true;
        return { queue: { ...queue, paused: false }, reordered };
      };
    }
    mesh.down.add('c');
    expect(await call(mesh, 'a', 'queue_pause', { scope: 'mesh', reason: 'disk' })).toEqual({
      success: true,
      status: 'paused',
      paused_at: at(5),
      reason: 'disk',
      queued_tasks: 2,
      running_tasks: 2,
      missing: ['c'],
    });
    expect(await call(mesh, 'a', 'queue_resume', { scope: 'mesh' })).toMatchObject({
      status: 'active',
      queued_tasks: 2,
      reordered: true,
      missing: ['c'],
    });
    expect(await call(mesh, 'a', 'queue_resume', { scope: 'mesh', reorder_by_priority: false })).toMatchObject({
      reordered: false,
    });
    expect(await call(mesh, 'a', 'queue_pause', {})).toMatchObject({ queued_tasks: 1, reason: null });
  });

  it('weigh an unknown mean as nothing, and one without completed tasks as one', () => {
    expect(weightedMean([])).toBeNull();
    expect(weightedMean([{ mean: null, weight: 10 }])).toBeNull();
    expect(weightedMean([{ mean: 4, weight: 0 }])).toBe(4);
    expect(
      weightedMean([
        { mean: 1, weight: 3 },
        { mean: 5, weight: 1 },
        { mean: null, weight: 9 },
      ]),
    ).toBe(2);
  });
});
