import { describe, expect, test } from 'vitest';
import { DURATION_MS_MAX } from '../../../dag/limits.ts';
import { retrySchema } from '../../../dag/schema.ts';
import { hand, openWithHands, tokenOf } from '../hand-peer.ts';
import { taskRecord } from '../records.ts';
import { Scene, task } from '../scene.ts';

describe('cancel', () => {
  test('ends a task at once and tells its worker when that is durable', async () => {
    const { scene, peers } = await openWithHands();
    const { uid } = await scene.submit('a', hand());
    const lease = await peers[0]!.leased(1);
    const { record, cleanup_required } = await scene.run(
      scene.scheduler('a').api.cancelTask(uid, { reason: 'not wanted', force: true }),
    );
    expect(record).toMatchObject({ status: 'cancelled', error: { code: 'CANCELLED' } });
    expect(cleanup_required).toBe(true);
    await scene.until('the worker is told', () => peers[0]!.cancels.length > 0);
    expect(peers[0]!.cancels).toMatchObject([{ uid, attempt: lease.attempt, force: true, reason: 'not wanted' }]);
    await peers[0]!.result('a', lease);
    expect((await scene.task('a', uid)).status).toBe('cancelled');
  });

  test('a cancel that got lost is told again when a beat names the lease', async () => {
    const { scene, peers } = await openWithHands();
    const { uid } = await scene.submit('a', hand());
    const lease = await peers[0]!.leased(1);
    scene.mesh.board.faults = { loss: 1, delayMs: [0.1, 1] };
    await scene.run(scene.scheduler('a').api.cancelTask(uid, { reason: undefined, force: false }));
    await scene.pass(100);
    expect(peers[0]!.cancels).toEqual([]);
    scene.mesh.board.faults = { loss: 0, delayMs: [0.1, 1] };
    peers[0]!.holding = [tokenOf(lease)];
    await scene.until('the worker is told', () => peers[0]!.cancels.length > 0);
    expect(peers[0]!.cancels[0]).toMatchObject({ uid, attempt: 1, reason: 'the task has ended' });
  });

  test('a beat that names thousands of leases of ended tasks has all of them cancelled', async () => {
    const { scene, peers } = await openWithHands();
    const count = 3_000;
    const { feed_id, journal } = scene.feed('a');
    const ended = Array.from({ length: count }, (_, index) => taskRecord(`ended-${index}`, { status: 'completed' }));
    await scene.run(
      journal.turn((turn) => {
        for (const record of ended) turn.put(record);
      }),
    );
    peers[0]!.holding = ended.map(({ uid }) => ({ uid, feed_id, epoch: 1, attempt: 1 }));
    await peers[0]!.beat('a');
    await scene.pass(10);
    const messages = peers[0]!.messages.filter(({ method }) => method === 'cancel');
    expect(messages.every(({ params }) => (params['items'] as unknown[]).length <= 1_024)).toBe(true);
    expect(peers[0]!.cancels).toHaveLength(count);
  });
});

describe('times', () => {
  test('a delayed task starts not before its time', async () => {
    const { scene, peers } = await openWithHands();
    await scene.submit('a', hand({ delay_ms: 5_000 }));
    await scene.pass(4_900);
    expect(peers[0]!.leases).toEqual([]);
    await scene.pass(200);
    expect(peers[0]!.leases).toHaveLength(1);
  });

  test('a task that has not started at its deadline fails', async () => {
    const { scene } = await openWithHands([]);
    const wall = scene.peer('a').clock.wall();
    const deadline = new Date(wall + 5_000).toISOString();
    const { uid } = await scene.submit('a', hand({ deadline }));
    await scene.pass(4_500);
    expect((await scene.task('a', uid)).status).toBe('queued');
    expect(await scene.ended('a', uid)).toMatchObject({ status: 'failed', error: { code: 'DEADLINE_EXCEEDED' } });
  });

  test('a deadline does not end what has started', async () => {
    const { scene, peers } = await openWithHands();
    const deadline = new Date(scene.peer('a').clock.wall() + 2_000).toISOString();
    const { uid } = await scene.submit('a', hand({ deadline }));
    peers[0]!.holding = [tokenOf(await peers[0]!.leased(1))];
    await scene.pass(20_000);
    expect((await scene.task('a', uid)).status).toBe('running');
  });
});

describe('tasks that are states of their records', () => {
  const sleep = (duration_ms: number, over = {}) => task({ task_type: 'sleep', payload: { duration_ms }, ...over });

  test('sleep ends at its time and holds no slot, also over a restart', async () => {
    const scene = await Scene.of(['a'], { slots: 1 });
    const { uid } = await scene.submit('a', sleep(10_000));
    const other = await scene.submit('a', task({ task_type: 'echo' }));
    expect((await scene.ended('a', other.uid)).status).toBe('completed');
    await scene.restart('a');
    expect((await scene.task('a', uid)).status).toBe('running');
    const { output, started_at } = await scene.ended('a', uid);
    const slept = Date.parse((output as { slept_until: string }).slept_until) - Date.parse(started_at!);
    expect(slept).toBe(10_000);
  });

  test.each([
    ['too long to be a time', 1e300],
    ['longer than anything may take', DURATION_MS_MAX + 1],
    ['negative', -1],
    ['no number', 'a while'],
  ])('a sleep that is %s is refused, or fails when only its step makes it so', async (_what, duration_ms) => {
    const scene = await Scene.of(['a']);
    const payload = { duration_ms };
    await expect(scene.submit('a', task({ task_type: 'sleep', payload }))).rejects.toMatchObject({
      code: 'INVALID_PAYLOAD',
      message: expect.stringContaining('payload.duration_ms'),
    });
    const steps = [{ step_id: 's', action: 'sleep', inputs: { duration_ms: '${ input.duration_ms }' } }];
    const { uid } = await scene.submitWorkflow('a', { name: 'w', input: payload, steps });
    expect(await scene.endedWorkflow('a', uid)).toMatchObject({ status: 'failed', error: { code: 'INVALID_PAYLOAD' } });
    const { uid: next } = await scene.submit('a', task({ task_type: 'echo' }));
    expect((await scene.ended('a', next)).status).toBe('completed');
  });

  test('a sleep has a timeout like any action', async () => {
    const scene = await Scene.of(['a']);
    const long = await scene.submit('a', sleep(10_000, { timeout_ms: 1_000 }));
    const short = await scene.submit('a', sleep(1_000, { timeout_ms: 10_000 }));
    expect(await scene.ended('a', long.uid)).toMatchObject({ status: 'failed', error: { code: 'TIMEOUT' } });
    expect(await scene.ended('a', short.uid)).toMatchObject({ status: 'completed' });
  });

  test('approve waits for its answer, over a restart too', async () => {
    const scene = await Scene.of(['a']);
    const { uid } = await scene.submit('a', task({ task_type: 'approve', payload: { message: 'may I?' } }));
    await scene.until('it waits', async () => (await scene.task('a', uid)).status === 'input_required');
    expect(await scene.task('a', uid)).toMatchObject({ progress_message: 'may I?', worker_id: null });
    await scene.restart('a');
    const answer = { approve: true, data: { by: 'Ada' } };
    await scene.run(scene.scheduler('a').api.answerTask(uid, answer));
    expect(await scene.task('a', uid)).toMatchObject({
      status: 'completed',
      output: { approved: true, data: { by: 'Ada' } },
    });
    await expect(scene.run(scene.scheduler('a').api.answerTask(uid, answer))).rejects.toMatchObject({
      code: 'INVALID_STATE',
    });
  });

  test('of two answers at once one counts, the other is told so', async () => {
    const scene = await Scene.of(['a']);
    const { uid } = await scene.submit('a', task({ task_type: 'approve' }));
    await scene.pass(100);
    const { scheduler } = scene.peer('a');
    const both = await scene.run(
      Promise.allSettled([
        scheduler.api.answerTask(uid, { approve: true, data: null }),
        scheduler.api.answerTask(uid, { approve: false, data: null }),
      ]),
    );
    expect(both.map(({ status }) => status)).toEqual(['fulfilled', 'rejected']);
    expect((await scene.task('a', uid)).status).toBe('completed');
  });

  test('an approval that nobody gives in time has timed out, over a restart too', async () => {
    const scene = await Scene.of(['a']);
    const { uid } = await scene.submit('a', task({ task_type: 'approve', timeout_ms: 60_000 }));
    await scene.pass(1_000);
    await scene.restart('a');
    expect((await scene.task('a', uid)).status).toBe('input_required');
    expect(await scene.ended('a', uid)).toMatchObject({ status: 'failed', error: { code: 'TIMEOUT' } });
  });

  test('an approval that may be asked for again is asked for again', async () => {
    const scene = await Scene.of(['a']);
    const retry = retrySchema.parse({ max_retries: 1, initial_delay_ms: 1_000, jitter: false });
    const { uid } = await scene.submit('a', task({ task_type: 'approve', timeout_ms: 10_000, retry }));
    await scene.pass(10_500);
    expect((await scene.task('a', uid)).status).toBe('queued');
    await scene.pass(1_000);
    expect(await scene.task('a', uid)).toMatchObject({ status: 'input_required', attempt: 2 });
    expect((await scene.ended('a', uid)).failures).toBe(2);
  });
});

describe('counts', () => {
  test('tell queued and running tasks apart from those that wait for a person', async () => {
    const { scene } = await openWithHands([]);
    const { tasks } = scene.feed('a');
    await scene.submit('a', hand());
    await scene.submit('a', task({ task_type: 'approve' }));
    const { uid } = await scene.submit('a', task({ task_type: 'fn:work', payload: { ms: 5_000 } }));
    await scene.pass(100);
    expect(tasks.counts).toEqual({ queued: 1, running: 1 });
    await scene.ended('a', uid);
    expect(tasks.counts).toEqual({ queued: 1, running: 0 });
    await scene.restart('a');
    expect(scene.feed('a').tasks.counts).toEqual({ queued: 1, running: 0 });
  });
});
