/** What it costs the mesh to say where a record is. */
import { expect, test } from 'vitest';
import { requiresSchema, retrySchema } from '../../dag/schema.ts';
import { SimulatedMesh } from './mesh.ts';

const SEED = 3;
const MEETING_MS = 2_000;

async function startMesh(names: readonly string[], cuts: [string, string][] = []): Promise<SimulatedMesh> {
  const mesh = new SimulatedMesh(SEED, { trace: true });
  for (const [a, b] of cuts) mesh.board.cut(a, b);
  for (const name of names) await mesh.start(name);
  await mesh.world.run(mesh.world.now + MEETING_MS);
  return mesh;
}

/** Lets simulated time pass until the promise settles. */
async function run<T>({ world }: SimulatedMesh, promise: Promise<T>): Promise<T> {
  let settled = false;
  promise.then(
    () => (settled = true),
    () => (settled = true),
  );
  await world.run(world.now + 60_000, () => settled);
  return await promise;
}

function questions({ world }: SimulatedMesh): number {
  return world.trace!.filter((line) => / > \S+ locate /.test(line)).length;
}

test('in a full mesh each peer is asked once where an unknown record is', async () => {
  const names = ['a', 'b', 'c', 'd', 'e'];
  const mesh = await startMesh(names);
  const { scheduler } = mesh.peers.get('a')!;
  expect(await run(mesh, scheduler.api.resolve({ kind: 'task', id: 'nobody-has-it' }))).toBeUndefined();
  expect(questions(mesh)).toBe(names.length - 1);
});

test('a record at the far end of a line is found through the peer between', async () => {
  const mesh = await startMesh(['a', 'b', 'c'], [['a', 'c']]);
  const submitted = mesh.peers.get('c')!.scheduler.api.submitTask({
    task_id: 'far-away',
    task_type: 'echo',
    payload: {},
    priority: 1,
    tags: [],
    timeout_ms: undefined,
    retry: retrySchema.parse({}),
    delay_ms: 600_000,
    deadline: undefined,
    requires: requiresSchema.parse({}),
    depends_on: [],
    at_most_once: false,
    metadata: {},
  });
  await run(mesh, submitted);
  const before = questions(mesh);
  const found = mesh.peers.get('a')!.scheduler.api.resolve({ kind: 'task', id: 'far-away' });
  expect(await run(mesh, found)).toMatchObject({ here: false, at: { peer_id: 'c' } });
  expect(questions(mesh) - before).toBe(2);
});
