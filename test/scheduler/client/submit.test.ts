import { describe, expect, test } from 'vitest';
import { INPUT_BYTES_MAX } from '../../../dag/limits.ts';
import { ACTIVE_TASKS_MAX } from '../../../scheduler/limits.ts';
import type { Turn } from '../../../scheduler/storage/journal.ts';
import { taskRecord } from '../records.ts';
import { Scene, task, workflow } from '../scene.ts';

const ECHO = [{ step_id: 's', action: 'echo' }];
const NO_CONFIG = { max_retries: undefined, timeout_ms: undefined };
const bad = (over: Parameters<typeof task>[0] = {}) =>
  task({ task_type: 'sleep', payload: { duration_ms: 10 }, timeout_ms: 1, ...over });

/** A turn whose rows are not written: of hundreds of thousands of tasks only the number matters. */
const unwritten = (turn: Turn): Turn => ({ put() {}, after: (effect) => turn.after(effect) });

describe('an id', () => {
  test('again with the same content is the same record, in whatever order its keys come', async () => {
    const scene = await Scene.of(['a']);
    const { scheduler } = scene.peer('a');
    const first = await scene.run(
      scheduler.api.submitTask(task({ task_id: 't', payload: { x: 1, y: { z: 2, a: 3 } } })),
    );
    const again = await scene.run(
      scheduler.api.submitTask(task({ task_id: 't', payload: { y: { a: 3, z: 2 }, x: 1 } })),
    );
    expect([first.duplicate, again.duplicate]).toEqual([false, true]);
    expect(again.record.uid).toBe(first.record.uid);
    await scene.ended('a', first.record.uid);
    const later = await scene.run(
      scheduler.api.submitTask(task({ task_id: 't', payload: { x: 1, y: { z: 2, a: 3 } } })),
    );
    expect(later).toMatchObject({ duplicate: true, record: { uid: first.record.uid, status: 'completed' } });
    expect(scene.mesh.ledger).toHaveLength(1);
  });

  test('again with other content is a conflict, and changes nothing', async () => {
    const scene = await Scene.of(['a']);
    const { uid } = await scene.submit('a', task({ task_id: 't', delay_ms: 1_000 }));
    await expect(scene.submit('a', task({ task_id: 't', delay_ms: 2_000 }))).rejects.toMatchObject({
      code: 'CONFLICT',
    });
    expect(scene.feed('a').tasks.live.size).toBe(1);
    expect((await scene.task('a', uid)).status).toBe('queued');
    await scene.submitWorkflow('a', { workflow_id: 'w', name: 'w', steps: ECHO });
    await expect(scene.submitWorkflow('a', { workflow_id: 'w', name: 'v', steps: ECHO })).rejects.toMatchObject({
      code: 'CONFLICT',
    });
  });

  test('many times at once makes one record', async () => {
    const scene = await Scene.of(['a']);
    const { scheduler } = scene.peer('a');
    const submits = Array.from({ length: 20 }, () => scheduler.api.submitTask(task({ task_id: 't' })));
    const receipts = await scene.run(Promise.all(submits));
    expect(new Set(receipts.map(({ record }) => record.uid)).size).toBe(1);
    expect(receipts.filter(({ duplicate }) => !duplicate)).toHaveLength(1);
  });

  test('is free again after a submit that was refused', async () => {
    const scene = await Scene.of(['a']);
    await expect(scene.submit('a', task({ task_id: 't', depends_on: ['nowhere'] }))).rejects.toMatchObject({
      code: 'UNKNOWN_DEPENDENCY',
    });
    expect((await scene.submit('a', task({ task_id: 't' }))).task_id).toBe('t');
  });

  test('is made when none is given, and names the feed', async () => {
    const scene = await Scene.of(['a']);
    const { scheduler } = scene.peer('a');
    const { task_id } = await scene.submit('a', task());
    const { workflow_id } = await scene.submitWorkflow('a', { name: 'w', steps: ECHO });
    expect(task_id).toMatch(new RegExp(`^task-${scheduler.api.feed_id.slice(0, 6)}-[0-9a-v]{12}$`));
    expect(workflow_id).toMatch(new RegExp(`^wf-${scheduler.api.feed_id.slice(0, 6)}-[0-9a-v]{12}$`));
  });
});

describe('what is refused changes nothing', () => {
  test.each([
    ['an unknown action', { task_type: 'shel' }, 'UNKNOWN_ACTION'],
    ['too large a payload', { payload: { x: 'x'.repeat(INPUT_BYTES_MAX) } }, 'LIMIT_EXCEEDED'],
    ['a deadline that is no time', { deadline: 'tomorrow' }, 'INVALID_INPUT'],
    ['a dependency nobody knows', { depends_on: ['nowhere'] }, 'UNKNOWN_DEPENDENCY'],
  ])('a task with %s', async (_what, over, code) => {
    const scene = await Scene.of(['a']);
    const seq = scene.head('a');
    await expect(scene.submit('a', task(over))).rejects.toMatchObject({ code });
    await scene.pass(100);
    expect(scene.feed('a').tasks.live.size).toBe(0);
    expect(scene.head('a')).toBe(seq);
  });

  test.each([
    ['an unknown action', { steps: [{ step_id: 's', action: 'shel' }] }, 'UNKNOWN_ACTION'],
    ['a cycle', { steps: [{ step_id: 's', action: 'echo', depends_on: ['s'] }] }, 'CYCLE'],
    [
      'an expression that cannot be read',
      { steps: [{ step_id: 's', action: 'echo', inputs: { x: '${ 1 + }' } }] },
      'INVALID_EXPRESSION',
    ],
    [
      'a reference to a step it does not wait for',
      { steps: [...ECHO, { step_id: 't', action: 'echo', inputs: { x: '${ steps.s.output }' } }] },
      'INVALID_WORKFLOW',
    ],
  ])('a workflow with %s', async (_what, over, code) => {
    const scene = await Scene.of(['a']);
    const seq = scene.head('a');
    await expect(scene.submitWorkflow('a', { name: 'w', ...over })).rejects.toMatchObject({ code });
    expect(scene.feed('a').runs.live.size).toBe(0);
    expect(scene.head('a')).toBe(seq);
  });

  test('a workflow that must have more copies than there can be', async () => {
    const scene = await Scene.of(['a']);
    const submission = { ...workflow({ name: 'w', steps: ECHO }), copies: 2, require_copies: true };
    await expect(scene.run(scene.scheduler('a').api.submitWorkflow(submission))).rejects.toMatchObject({
      code: 'TOO_FEW_COPIES',
    });
    const { durability } = await scene.run(
      scene.scheduler('a').api.submitWorkflow({ ...submission, require_copies: false }),
    );
    expect(durability).toEqual({ copies: 1, wanted: 2 });
  });

  test('a workflow that had too few copies: the same submit is another try, and the id is not used up', async () => {
    const scene = await Scene.of(['a']);
    const submission = {
      ...workflow({ workflow_id: 'again', name: 'w', steps: ECHO }),
      copies: 2,
      require_copies: true,
    };
    const submit = () => scene.run(scene.scheduler('a').api.submitWorkflow(submission));
    for (let time = 0; time < 2; time++) {
      await expect(submit()).rejects.toMatchObject({ code: 'TOO_FEW_COPIES', retryable: true });
    }
    await scene.mesh.start('b');
    await scene.until('b counts', () => scene.feed('a').replicas.copies === 2);
    const { record, duplicate, durability } = await submit();
    expect({ duplicate, durability }).toEqual({ duplicate: false, durability: { copies: 2, wanted: 2 } });
    expect(await scene.endedWorkflow('a', record.uid)).toMatchObject({ workflow_id: 'again', status: 'completed' });
    expect(await submit()).toMatchObject({ duplicate: true, record: { uid: record.uid } });
    const { records } = await scene.peer('a').store.reader.list({ kind: 'workflow', limit: 9, offset: 0 });
    expect(records.map(({ uid }) => uid)).toEqual([record.uid]);
  });

  test('a workflow that had too few copies: its next try and a first one at another peer are one record', async () => {
    for (let betweenMs = 0; betweenMs <= 30; betweenMs += 3) {
      const scene = await Scene.of(['a']);
      const submission = {
        ...workflow({ workflow_id: 'again', name: 'w', steps: ECHO }),
        copies: 2,
        require_copies: true,
      };
      const submitTo = (name: string) => scene.scheduler(name).api.submitWorkflow(submission);
      await expect(scene.run(submitTo('a'))).rejects.toMatchObject({ code: 'TOO_FEW_COPIES' });
      for (const name of ['b', 'c']) await scene.mesh.start(name);
      await scene.until('their feeds are copied', () =>
        ['a', 'b'].every((name) => scene.feed(name).replicas.copies === 2),
      );
      const again = submitTo('a');
      await scene.pass(betweenMs);
      await expect(scene.run(submitTo('b'))).rejects.toMatchObject({ code: 'ELSEWHERE' });
      expect(await scene.run(again)).toMatchObject({ duplicate: false, durability: { copies: 2 } });
    }
  });

  test('a duplicate is told of the durability that its record has, whatever it asks for itself', async () => {
    const scene = await Scene.of(['a']);
    const submit = (copies?: number) => {
      const submission = { ...workflow({ workflow_id: 'x', name: 'w', steps: ECHO }), copies };
      return scene.run(scene.scheduler('a').api.submitWorkflow(submission));
    };
    expect(await submit()).toMatchObject({ duplicate: false, durability: { copies: 1, wanted: 1 } });
    expect(await submit(5)).toMatchObject({ duplicate: true, durability: { copies: 1, wanted: 1 } });
    const same = task({ task_id: 't', task_type: 'echo' });
    for (const duplicate of [false, true]) {
      const receipt = await scene.run(scene.scheduler('a').api.submitTask(same));
      expect(receipt).toMatchObject({ duplicate, durability: { copies: 1, wanted: 1 } });
    }
  });

  test('a task for a full queue, also of many that come at once', async () => {
    const scene = await Scene.of(['a']);
    const { scheduler } = scene.peer('a');
    const room = 3;
    const { journal, tasks } = scene.feed('a');
    await scene.run(
      journal.turn((turn) => {
        for (let index = 0; index < ACTIVE_TASKS_MAX - room; index++) {
          tasks.create(unwritten(turn), taskRecord(`u${index}`, { task_type: 'fn:nobody' }), 2);
        }
      }),
    );
    const submits = Array.from({ length: 10 }, (_, index) =>
      scheduler.api.submitTask(task({ task_id: `t${index}`, delay_ms: 60_000 })),
    );
    const outcomes = await scene.run(Promise.allSettled(submits));
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(room);
    for (const each of outcomes) {
      if (each.status === 'rejected') expect(each.reason).toMatchObject({ code: 'QUEUE_FULL', retryable: true });
    }
    expect(tasks.live.size).toBe(ACTIVE_TASKS_MAX);
  });
});

describe('receipts', () => {
  test('tell the place in the queue', async () => {
    const scene = await Scene.of(['a']);
    const { scheduler } = scene.peer('a');
    const positions: (number | null)[] = [];
    for (const priority of [1, 1, 5]) {
      const { queue_position } = await scene.run(scheduler.api.submitTask(task({ task_type: 'fn:nobody', priority })));
      positions.push(queue_position);
      await scene.pass(5);
    }
    expect(positions).toEqual([0, 1, 0]);
  });

  test('of a delayed task tell when it starts', async () => {
    const scene = await Scene.of(['a']);
    const { scheduler } = scene.peer('a');
    const wall = scene.peer('a').clock.wall();
    const receipt = await scene.run(scheduler.api.submitTask(task({ delay_ms: 60_000 })));
    expect(receipt.queue_position).toBeNull();
    expect(Date.parse(receipt.estimated_start_time) - wall).toBe(60_000);
  });
});

describe('a retry', () => {
  test('makes a new task that is linked to the first one; the old one stays as it is', async () => {
    const scene = await Scene.of(['a']);
    const { scheduler } = scene.peer('a');
    const { uid } = await scene.submit('a', bad({ task_id: 't' }));
    await scene.ended('a', uid);
    const { record } = await scene.run(scheduler.api.retryTask(uid, { max_retries: 4, timeout_ms: 9 }));
    expect(record).toMatchObject({
      task_id: 't-retry-1',
      retry_of: 't',
      retry_count: 1,
      attempts: [],
      timeout_ms: 9,
      retry: { max_retries: 4 },
    });
    await scene.ended('a', record.uid);
    expect(await scene.task('a', uid)).toMatchObject({ status: 'failed', retry_count: 1 });
    const again = await scene.run(scheduler.api.retryTask(record.uid, NO_CONFIG));
    expect(again.record).toMatchObject({ task_id: 't-retry-2', retry_of: 't', retry_count: 2 });
  });

  test('asked for twice at once makes two tasks of their own', async () => {
    const scene = await Scene.of(['a']);
    const { scheduler } = scene.peer('a');
    const { uid } = await scene.submit('a', bad({ task_id: 't' }));
    await scene.ended('a', uid);
    const both = await scene.run(
      Promise.all([scheduler.api.retryTask(uid, NO_CONFIG), scheduler.api.retryTask(uid, NO_CONFIG)]),
    );
    expect(both.map(({ record }) => record.task_id)).toEqual(['t-retry-1', 't-retry-2']);
    expect(both[0]!.record.uid).not.toBe(both[1]!.record.uid);
  });

  test('of what runs or has completed is refused', async () => {
    const scene = await Scene.of(['a']);
    const { scheduler } = scene.peer('a');
    const { uid } = await scene.submit('a', task({ payload: { ms: 500 } }));
    await expect(scene.run(scheduler.api.retryTask(uid, NO_CONFIG))).rejects.toMatchObject({ code: 'INVALID_STATE' });
    await scene.ended('a', uid);
    await expect(scene.run(scheduler.api.retryTask(uid, NO_CONFIG))).rejects.toMatchObject({ code: 'INVALID_STATE' });
  });
});
