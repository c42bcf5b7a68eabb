/** What a peer does with its own unfinished work when it starts again. */
import { expect, test } from 'vitest';
import { requiresSchema, retrySchema } from '../../dag/schema.ts';
import { SimulatedMesh } from './mesh.ts';

const SEED = 5;
const PEER = 'alone';
/** Far less than the silence after which a worker's leases are given up. */
const AT_ONCE_MS = 500;

/** One peer that runs one task, is killed, and starts again on its disk. */
async function restartWhileRunning(at_most_once: boolean): Promise<{ mesh: SimulatedMesh; uid: string }> {
  const mesh = new SimulatedMesh(SEED);
  const { world } = mesh;
  const { scheduler } = await mesh.start(PEER);
  let uid = '';
  scheduler.api
    .submitTask({
      task_id: undefined,
      task_type: 'fn:work',
      payload: { ms: 60_000 },
      priority: 1,
      tags: [],
      timeout_ms: undefined,
      retry: retrySchema.parse({}),
      delay_ms: undefined,
      deadline: undefined,
      requires: requiresSchema.parse({}),
      depends_on: [],
      at_most_once,
      metadata: {},
    })
    .then(({ record }) => {
      uid = record.uid;
    });
  await world.run(world.now + 1_000, () => mesh.ledger.length === 1 && uid !== '');
  await world.run(world.now + 100);
  const disk = mesh.kill(PEER);
  world.at(10, () => void mesh.restart(PEER, disk));
  await world.run(world.now + AT_ONCE_MS);
  return { mesh, uid };
}

test('runs again at once what its own worker ran', async () => {
  const { mesh, uid } = await restartWhileRunning(false);
  expect(mesh.ledger.map(({ attempt }) => attempt)).toEqual([1, 2]);
  expect(await mesh.task(PEER, uid)).toMatchObject({
    status: 'running',
    attempts: [{ error: { code: 'WORKER_LOST' } }],
  });
});

test('fails at once what its own worker ran and may not start twice', async () => {
  const { mesh, uid } = await restartWhileRunning(true);
  expect(mesh.ledger).toHaveLength(1);
  expect(await mesh.task(PEER, uid)).toMatchObject({ status: 'failed', error: { code: 'WORKER_LOST' } });
});
