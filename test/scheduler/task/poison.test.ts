/** Tasks that were worked on while mesh loops crashed: what their owner makes of it. */
import { expect, test } from 'vitest';
import type { TaskRecord } from '../../../scheduler/records.ts';
import { Scene, task } from '../scene.ts';

const LONG_MS = 600_000;
const SHORT_MS = 50;

const running = async (scene: Scene, uid: string, attempt: number): Promise<TaskRecord> => {
  await scene.until(`attempt ${attempt} runs`, async () => {
    const { status, attempt: now } = await scene.task('owner', uid);
    return status === 'running' && now >= attempt;
  });
  return await scene.task('owner', uid);
};

/** The mesh loop of a peer crashes while it works on a task, and starts again. */
async function crashAt(scene: Scene, peer: string, { uid, attempt }: TaskRecord, crash: string): Promise<void> {
  const { feed_id } = scene.feed('owner');
  const epoch = (await scene.task('owner', uid)).lease_epoch!;
  scene.mesh.crashed.set(peer, [{ uid, feed_id, epoch, attempt, owner: 'owner', crash }]);
  await scene.restart(peer);
}

const at = (peer: string, ms: number) =>
  task({ payload: { ms }, requires: { labels: [], peers: [peer] }, task_id: undefined });

test.each(['worker', 'owner'])('two crashes of the loop of the %s: the task is quarantined', async (peer) => {
  const scene = await Scene.of(['owner', 'worker']);
  const { uid } = await scene.submit('owner', at(peer, LONG_MS));
  const first = await running(scene, uid, 1);
  await crashAt(scene, peer, first, 'one');
  const second = await running(scene, uid, first.attempt + 1);
  expect(second.crashes).toEqual(['one']);
  await crashAt(scene, peer, second, 'two');
  expect(await scene.ended('owner', uid)).toMatchObject({
    status: 'failed',
    dead_letter: true,
    error: { code: 'POISON_TASK', retryable: false, details: { crashes: 2 } },
  });
  // Whoever keeps it knows it, and nobody begins it again.
  const starts = scene.mesh.actions.startsOf(uid).length;
  await scene.restart('owner');
  await scene.ownsAgain('owner');
  await scene.pass(10_000);
  expect(scene.mesh.actions.startsOf(uid)).toHaveLength(starts);
});

test('one crash costs a task nothing: it runs again, and its retries are untouched', async () => {
  const scene = await Scene.of(['owner', 'worker']);
  const { uid } = await scene.submit('owner', at('worker', LONG_MS / 100));
  await crashAt(scene, 'worker', await running(scene, uid, 1), 'one');
  expect(await scene.ended('owner', uid)).toMatchObject({ status: 'completed', failures: 0, crashes: ['one'] });
});

test('the crash of one loop that is told twice is one crash', async () => {
  const scene = await Scene.of(['owner', 'worker']);
  const { uid } = await scene.submit('owner', at('worker', LONG_MS));
  const first = await running(scene, uid, 1);
  await crashAt(scene, 'worker', first, 'one');
  await running(scene, uid, first.attempt + 1);
  await crashAt(scene, 'worker', first, 'one');
  await running(scene, uid, first.attempt + 2);
  expect(await scene.task('owner', uid)).toMatchObject({ crashes: ['one'] });
});

test('the owner that crashes over a result counts it, and the attempt of its worker goes on', async () => {
  const scene = await Scene.of(['owner', 'worker']);
  const { uid } = await scene.submit('owner', at('worker', LONG_MS / 60));
  const first = await running(scene, uid, 1);
  await scene.until('it has begun', () => scene.mesh.actions.startsOf(uid).length === 1);
  await crashAt(scene, 'owner', first, 'one');
  expect(await scene.ended('owner', uid)).toMatchObject({ status: 'completed', attempt: 1, crashes: ['one'] });
  expect(scene.mesh.actions.startsOf(uid)).toHaveLength(1);
});

test('a peer that never had the task says nothing about it (P9)', async () => {
  const scene = await Scene.of(['owner', 'worker', 'stranger']);
  const { uid } = await scene.submit('owner', at('worker', LONG_MS / 60));
  const first = await running(scene, uid, 1);
  for (const crash of ['one', 'two']) {
    await crashAt(scene, 'stranger', first, crash);
    await scene.pass(SHORT_MS * 100);
  }
  expect(await scene.ended('owner', uid)).toMatchObject({ status: 'completed', crashes: [] });
});

test('a task that is asked for again begins without its crashes', async () => {
  const scene = await Scene.of(['owner', 'worker']);
  const { uid } = await scene.submit('owner', at('worker', LONG_MS));
  const first = await running(scene, uid, 1);
  await crashAt(scene, 'worker', first, 'one');
  await crashAt(scene, 'worker', await running(scene, uid, first.attempt + 1), 'two');
  await scene.ended('owner', uid);
  const config = { max_retries: undefined, timeout_ms: undefined };
  const { record } = await scene.run(scene.scheduler('owner').api.retryTask(uid, config));
  expect(await running(scene, record.uid, 1)).toMatchObject({ retry_of: expect.any(String), crashes: [] });
});
