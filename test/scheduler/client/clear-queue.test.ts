import { describe, expect, test } from 'vitest';
import { Scene, task } from '../scene.ts';

const bad = () => task({ task_type: 'sleep', payload: { duration_ms: 10 }, timeout_ms: 1 });

describe('clearing the queue', () => {
  test('cancels what waits, in several commits when it is much, and leaves what runs', async () => {
    const scene = await Scene.of(['a'], { slots: 1 });
    const { scheduler } = scene.peer('a');
    const running = await scene.submit('a', task({ payload: { ms: 60_000 } }));
    const count = 1_200;
    await scene.run(
      Promise.all(Array.from({ length: count }, () => scheduler.api.submitTask(task({ task_type: 'fn:nobody' })))),
    );
    const seq = scene.head('a');
    expect(await scene.run(scheduler.api.clearQueue('queued'))).toEqual({ cleared_count: count, remaining_count: 0 });
    expect(scene.head('a') - seq).toBeGreaterThanOrEqual(3);
    expect((await scene.task('a', running.uid)).status).toBe('running');
    const { records } = await scene
      .peer('a')
      .store.reader.list({ kind: 'task', status: 'cancelled', limit: 1, offset: 0 });
    expect(records[0]!.error!.message).toContain('the queue was cleared');
  });

  test('forgets what has ended, but of no workflow', async () => {
    const scene = await Scene.of(['a']);
    const { scheduler } = scene.peer('a');
    const dead = await scene.submit('a', bad());
    const alone = await scene.ended('a', dead.uid);
    expect(alone.dead_letter).toBe(true);
    const { uid } = await scene.submitWorkflow('a', {
      name: 'w',
      steps: [{ step_id: 's', action: 'sleep', inputs: { duration_ms: 10 }, timeout_ms: 1 }],
    });
    await scene.endedWorkflow('a', uid);
    expect(await scene.run(scheduler.api.clearQueue('failed'))).toEqual({ cleared_count: 0, remaining_count: 0 });
    expect(await scene.run(scheduler.api.clearQueue('dead_letter'))).toEqual({ cleared_count: 1, remaining_count: 0 });
    const { reader } = scene.peer('a').store;
    expect(await reader.get('task', dead.uid)).toBeUndefined();
    expect(await reader.children('task', uid)).toHaveLength(1);
  });

  test('does not count approvals that wait for a person as queued', async () => {
    const scene = await Scene.of(['a']);
    const { uid } = await scene.submit('a', task({ task_type: 'approve' }));
    await scene.pass(100);
    expect(await scene.run(scene.scheduler('a').api.clearQueue(undefined))).toEqual({
      cleared_count: 0,
      remaining_count: 0,
    });
    expect((await scene.task('a', uid)).status).toBe('input_required');
  });
});
