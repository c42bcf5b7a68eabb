/** Waiting work is offered by gossip: a peer that the owner has never heard of comes and takes it. */
import { expect, it } from 'vitest';
import type { JsonObject } from '../../dag/errors.ts';
import { eventually } from '../harness/eventually.ts';
import {
  type ConfigOverrides,
  type InProcessMesh,
  type InProcessPeer,
  startMeshInProcess,
} from '../harness/in-process.ts';

const TASKS = 50;
const SLOTS = 2;

/** A line owner – neighbour – newcomer of which the first two run, with every slot taken and TASKS tasks waiting. */
async function startBusyMesh(config: ConfigOverrides): Promise<{
  mesh: InProcessMesh;
  owner: InProcessPeer;
  neighbour: InProcessPeer;
  blockers: string[];
  waiting: string[];
}> {
  const mesh = await startMeshInProcess(2, {
    topology: 'line',
    config: { ...config, worker: { slots: SLOTS }, shell: { allow: ['sleep'] } },
  });
  try {
    const [owner, neighbour] = mesh.peers as [InProcessPeer, InProcessPeer];
    const submit = async (input: JsonObject) => String((await owner.call('task_submit', input))['task_id']);
    const blocker = { task_type: 'shell', payload: { command: ['sleep', '600'] } };
    const blockers = await Promise.all(Array.from({ length: 2 * SLOTS }, () => submit(blocker)));
    await eventually(
      'every slot is taken',
      async () => (await owner.call('queue_stats', { scope: 'local' }))['running_count'] === 2 * SLOTS,
    );
    const waiting = await Promise.all(
      Array.from({ length: TASKS }, (_, n) => submit({ task_type: 'echo', payload: { n } })),
    );
    expect(await owner.call('queue_stats', { scope: 'local' })).toMatchObject({
      queued_count: TASKS,
      running_count: 2 * SLOTS,
    });
    return { mesh, owner, neighbour, blockers, waiting };
  } catch (error) {
    await mesh.close();
    throw error;
  }
}

async function completed(owner: InProcessPeer): Promise<number> {
  return Number((await owner.call('queue_stats', { scope: 'local' }))['completed_count']);
}

function statuses(peer: InProcessPeer, taskIds: readonly string[]): Promise<JsonObject[]> {
  return Promise.all(taskIds.map((task_id) => peer.call('task_status', { task_id })));
}

it('a newcomer that knows another peer alone hears the offer, dials the owner and takes its work', async ({
  annotate,
}) => {
  const { mesh, owner, neighbour, waiting } = await startBusyMesh({ auto_connect: false });
  await using _ = mesh;
  const newcomer = await mesh.add({ worker: { slots: 4 } });
  await eventually('the newcomer is connected', () => newcomer.mesh.network.connected().length > 0, { intervalMs: 1 });
  const joined = performance.now();
  expect(newcomer.mesh.network.connected()).toEqual([neighbour.peer_id]);
  expect(owner.mesh.network.connected()).toEqual([neighbour.peer_id]);
  mesh.join(0, 2);

  await eventually('it has taken work', async () => (await completed(owner)) > 0, { intervalMs: 1 });
  const taken = performance.now() - joined;
  await eventually('all work is done', async () => (await completed(owner)) === TASKS);
  await annotate(
    `first work taken ${Math.round(taken)} ms after joining, all ${TASKS} done after ${Math.round(performance.now() - joined)} ms`,
  );
  for (const status of await statuses(owner, waiting)) {
    expect(status).toMatchObject({
      status: 'completed',
      peer_id: newcomer.peer_id,
      attempt: 1,
      placement: { found_by: 'offer', chosen: { peer_id: newcomer.peer_id } },
    });
  }
});

it('without gossip the newcomer comes by what its neighbour tells of, and the work is done too', async ({
  annotate,
}) => {
  const { mesh, owner, neighbour, waiting } = await startBusyMesh({ gossip: false });
  await using _ = mesh;
  const newcomer = await mesh.add({ worker: { slots: 4 } });
  await eventually('the newcomer is connected', () => newcomer.mesh.network.connected().length > 0, { intervalMs: 1 });
  expect(newcomer.mesh.network.connected()).toEqual([neighbour.peer_id]);
  const joined = performance.now();
  mesh.join(0, 2);
  await eventually('all work is done', async () => (await completed(owner)) === TASKS);
  await annotate(`without gossip all ${TASKS} done after ${Math.round(performance.now() - joined)} ms`);
  for (const status of await statuses(owner, waiting)) {
    expect(status).toMatchObject({
      status: 'completed',
      peer_id: newcomer.peer_id,
      placement: { found_by: 'connected' },
    });
  }
});

it('without gossip and any other word of the newcomer, the work is done by those that are known', async () => {
  const { mesh, owner, neighbour, blockers, waiting } = await startBusyMesh({ gossip: false, auto_connect: false });
  await using _ = mesh;
  const newcomer = await mesh.add({ worker: { slots: 4 } });
  await eventually('the newcomer is connected', () => newcomer.mesh.network.connected().length > 0);
  mesh.join(0, 2);
  expect(await owner.call('queue_stats', { scope: 'local' })).toMatchObject({
    queued_count: TASKS,
    completed_count: 0,
  });
  for (const task_id of blockers) await owner.call('task_cancel', { task_id, force: true });
  await eventually('all work is done', async () => (await completed(owner)) === TASKS);
  const known = [owner.peer_id, neighbour.peer_id];
  for (const status of await statuses(owner, waiting)) {
    expect(status['status']).toBe('completed');
    expect(known).toContain(status['peer_id']);
  }
  expect(newcomer.mesh.network.connected()).toEqual([neighbour.peer_id]);
});
