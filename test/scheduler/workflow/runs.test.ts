import { describe, expect, test } from 'vitest';
import { FlowmeshError, type JsonValue } from '../../../dag/errors.ts';
import { EXPAND_CHUNK_ITEMS, NESTING_LEVELS_MAX } from '../../../dag/limits.ts';
import { SlowEvaluator } from '../../simulation/slow-evaluator.ts';
import { Scene, task, workflow } from '../scene.ts';

const SECONDS = [{ step_id: 's', action: 'sleep', inputs: { seconds: 1 } }];
const NOT_FORCED = { reason: 'not wanted', force: false };

async function withSlowEvaluator(): Promise<{ scene: Scene; evaluator: SlowEvaluator }> {
  const evaluator = new SlowEvaluator();
  return { scene: await Scene.of(['a'], { evaluator }), evaluator };
}

const nested = (over: object) => ({
  name: 'outer',
  steps: [{ step_id: 'inner', action: 'workflow', inputs: { workflow: { name: 'inner', ...over } } }],
});

/** A nested workflow that is known only when its step runs. */
const nestedLater = (inner: object) => ({
  name: 'outer',
  input: { inner },
  steps: [{ step_id: 'inner', action: 'workflow', inputs: { workflow: '${ input.inner }' } }],
});

/** The tasks of a workflow, by step and index. */
async function tasksOf(scene: Scene, uid: string): Promise<Record<string, string>> {
  const tasks = await scene.peer('a').store.reader.children('task', uid);
  return Object.fromEntries(tasks.map(({ step_id, index, status }) => [`${step_id}${index ?? ''}`, status]));
}

describe('a cancel that was confirmed holds over a crash (P1)', () => {
  test('while the inputs of a step are being evaluated', async () => {
    const { scene, evaluator } = await withSlowEvaluator();
    evaluator.hold();
    const { uid } = await scene.submitWorkflow('a', {
      name: 'w',
      input: { n: 2 },
      steps: [
        { step_id: 'a', action: 'fn:work', inputs: { x: '${ input.n * 2 }' } },
        { step_id: 'b', action: 'fn:work', depends_on: ['a'] },
      ],
    });
    await scene.until('the inputs are being evaluated', () => evaluator.waiting > 0);
    const { cancelled_steps } = await scene.run(scene.scheduler('a').api.cancelWorkflow(uid, NOT_FORCED));
    expect(cancelled_steps).toContain('b');
    await scene.restart('a');
    expect(await scene.endedWorkflow('a', uid)).toMatchObject({
      status: 'cancelled',
      error: { code: 'CANCELLED', message: 'cancelled: not wanted' },
    });
    expect(scene.mesh.ledger).toEqual([]);
    const steps = await scene.peer('a').store.reader.children('step', uid);
    expect(steps.map(({ step_id, status }) => [step_id, status]).sort()).toEqual([
      ['a', 'cancelled'],
      ['b', 'cancelled'],
    ]);
  });

  test('while the output is being evaluated', async () => {
    const { scene, evaluator } = await withSlowEvaluator();
    const { uid } = await scene.submitWorkflow('a', {
      name: 'w',
      steps: [{ step_id: 'a', action: 'fn:work', inputs: { ms: 100 } }],
      output: '${ steps.a.output.ms + 1 }',
    });
    evaluator.hold();
    await scene.until('the output is being evaluated', () => evaluator.waiting > 0);
    await scene.run(scene.scheduler('a').api.cancelWorkflow(uid, NOT_FORCED));
    await scene.restart('a');
    expect(await scene.endedWorkflow('a', uid)).toMatchObject({ status: 'cancelled', result: null });
  });

  test('without a crash, too: what is being evaluated does not start', async () => {
    const { scene, evaluator } = await withSlowEvaluator();
    evaluator.hold();
    const { uid } = await scene.submitWorkflow('a', {
      name: 'w',
      steps: [{ step_id: 'a', action: 'fn:work', foreach: [1, 2, 3], inputs: { x: '${ item * 2 }' } }],
    });
    await scene.until('the inputs are being evaluated', () => evaluator.waiting > 0);
    await scene.run(scene.scheduler('a').api.cancelWorkflow(uid, NOT_FORCED));
    evaluator.release();
    expect(await scene.endedWorkflow('a', uid)).toMatchObject({ status: 'cancelled' });
    expect(scene.mesh.ledger).toEqual([]);
  });

  test('of a workflow that waits for another one', async () => {
    const scene = await Scene.of(['a']);
    const steps = [{ step_id: 's', action: 'approve' }];
    await scene.submitWorkflow('a', { workflow_id: 'first', name: 'first', steps });
    const { uid } = await scene.submitWorkflow('a', { name: 'second', steps, dependencies: ['first'] });
    await scene.run(scene.scheduler('a').api.cancelWorkflow(uid, NOT_FORCED));
    await scene.restart('a');
    expect(await scene.workflow('a', uid)).toMatchObject({ status: 'cancelled', started_at: null });
  });
});

describe('an evaluation that ends after a failed commit', () => {
  test('does not make the tasks of the run that was dropped a second time', async () => {
    const { scene, evaluator } = await withSlowEvaluator();
    evaluator.hold();
    const { uid } = await scene.submitWorkflow('a', {
      name: 'w',
      steps: [{ step_id: 'a', action: 'fn:work', foreach: [1, 2], inputs: { ms: 50, x: '${ item * 2 }' } }],
    });
    await scene.until('the inputs are being evaluated', () => evaluator.waiting === 1);
    scene.mesh.failNextSync('a');
    await expect(scene.submit('a', task())).rejects.toMatchObject({ code: 'DISK_FULL' });
    await scene.until('the run is taken up again', () => evaluator.waiting === 2);
    evaluator.release();
    expect(await scene.endedWorkflow('a', uid)).toMatchObject({
      status: 'completed',
      result: {
        a: [
          { ms: 50, x: 2 },
          { ms: 50, x: 4 },
        ],
      },
    });
    expect(scene.mesh.ledger).toHaveLength(2);
  });
});

describe('the cache of a step', () => {
  test('is used by a later run with the same action and inputs', async () => {
    const scene = await Scene.of(['a']);
    const value = (n: number): JsonValue => ({
      name: 'w',
      steps: [{ step_id: 'a', action: 'fn:work', cache: true, inputs: { n } }],
    });
    const first = await scene.submitWorkflow('a', value(1));
    await scene.endedWorkflow('a', first.uid);
    const again = await scene.submitWorkflow('a', value(1));
    expect(await scene.endedWorkflow('a', again.uid)).toMatchObject({ status: 'completed', result: { a: { n: 1 } } });
    expect(scene.mesh.ledger).toHaveLength(1);
    const other = await scene.submitWorkflow('a', value(2));
    await scene.endedWorkflow('a', other.uid);
    expect(scene.mesh.ledger).toHaveLength(2);
  });

  test('does not change how a task ended that may not be started any more (P5)', async () => {
    const scene = await Scene.of(['a', 'b', 'c', 'd']);
    const once = { action: 'fn:work', cache: true, at_most_once: true };
    const { uid } = await scene.submitWorkflow('a', {
      name: 'w',
      steps: [
        { step_id: 'first', ...once },
        { step_id: 'wait', action: 'sleep', inputs: { duration_ms: 60_000 }, depends_on: ['first'] },
        { step_id: 'again', ...once, depends_on: ['wait'] },
      ],
    });
    await scene.until('it waits, with a copy', async () => {
      const tasks = await scene.peer('a').store.reader.children('task', uid);
      return scene.feed('a').replicas.copies === 2 && tasks.length === 2;
    });
    const { feed_id } = scene.feed('a');
    const owner = () => ['b', 'c', 'd'].find((name) => scene.scheduler(name).parts.feeds.has(feed_id));
    scene.mesh.kill('a');
    await scene.until('it is taken over', () => owner() !== undefined);
    expect(await scene.endedWorkflow(owner()!, uid)).toMatchObject({ status: 'failed', error: { code: 'OWNER_LOST' } });
    expect(await scene.task(owner()!, `${uid}/again/0`)).toMatchObject({
      status: 'failed',
      output: null,
      error: { code: 'OWNER_LOST' },
    });
  });
});

describe('foreach', () => {
  const run = async (value: JsonValue) => {
    const scene = await Scene.of(['a']);
    const { uid } = await scene.submitWorkflow('a', value);
    return { scene, uid, record: await scene.endedWorkflow('a', uid) };
  };
  const each = (foreach: JsonValue, over = {}) => ({
    name: 'w',
    input: {
      servers: [
        { name: 's1', region: 'eu' },
        { name: 's2', region: 'us' },
      ],
      ids: [7],
      none: null,
    },
    steps: [{ step_id: 'a', action: 'echo', foreach, inputs: { v: '${ item }' }, ...over }],
  });

  test.each<[string, string, JsonValue]>([
    ['one match', '${ input.servers[region = "eu"].name }', [{ v: 's1' }]],
    ['no match', '${ input.servers[region = "asia"].name }', []],
    ['a list of one', '${ input.ids }', [{ v: 7 }]],
    ['one object', '${ input.servers[0] }', [{ v: { name: 's1', region: 'eu' } }]],
    ['null', '${ input.none }', []],
    ['what is not there', '${ input.nothing.here }', []],
  ])('over %s makes a task of each item', async (_what, foreach, output) => {
    expect((await run(each(foreach))).record).toMatchObject({ status: 'completed', result: { a: output } });
  });

  test('over the one output of a foreach before it goes on', async () => {
    const after = {
      step_id: 'b',
      action: 'echo',
      depends_on: ['a'],
      foreach: '${ steps.a.output.v }',
      inputs: { w: '${ item }' },
    };
    const { steps, ...rest } = each('${ input.ids }');
    const { record } = await run({ ...rest, steps: [...steps, after] } as JsonValue);
    expect(record).toMatchObject({ status: 'completed', result: { b: [{ w: 7 }] } });
  });

  test('with a `when` about the item is decided for each; about anything else, once', async () => {
    const { scene, uid, record } = await run(each([1, 2, 3], { when: '${ item > 1 }' }));
    expect(record.result).toEqual({ a: [null, { v: 2 }, { v: 3 }] });
    expect(await tasksOf(scene, uid)).toEqual({ a1: 'completed', a2: 'completed' });
    expect(await scene.peer('a').store.reader.children('step', uid)).toMatchObject([{ left_out: [0], error: null }]);
    expect((await run(each([1, 2, 3], { when: '${ index = 5 }' }))).record.result).toEqual({ a: [null, null, null] });
    const once = await run(each([1, 2, 3], { when: '${ input.none }' }));
    expect(await once.scene.peer('a').store.reader.children('step', once.uid)).toMatchObject([{ status: 'skipped' }]);
    const broken = await run(each([1, 2], { when: '${ item = 2 ? $error("no") : true }' }));
    expect(broken.record).toMatchObject({ status: 'failed', error: { details: { index: 1, step_id: 'a' } } });
    expect(await tasksOf(broken.scene, broken.uid)).toEqual({});
  });

  test('is not evaluated where its `when` does not hold: it may be what the list depends on', async () => {
    const guarded = each('${ $split(input.none, ",") }', { when: '${ input.none != null }' });
    const { scene, uid, record } = await run(guarded);
    expect(record).toMatchObject({ status: 'completed', result: { a: null } });
    expect(await scene.peer('a').store.reader.children('step', uid)).toMatchObject([{ status: 'skipped' }]);
  });

  test('that leaves items out goes on over a restart, and a cancel ends only what there is', async () => {
    const scene = await Scene.of(['a']);
    const inputs = { n: '${ item }', ms: 5_000 };
    const over = { action: 'fn:work', max_parallel: 1, when: '${ item % 2 = 1 }', inputs };
    const { uid } = await scene.submitWorkflow('a', each([0, 1, 2, 3, 4, 5], over));
    const runs = (task: string) => async () => (await scene.task('a', `${uid}/a/${task}`))?.status === 'running';
    await scene.until('the second one runs', runs('3'));
    await scene.restart('a');
    await scene.until('the last one runs', runs('5'));
    await scene.run(scene.scheduler('a').api.cancelWorkflow(uid, NOT_FORCED));
    await scene.restart('a');
    expect(await scene.endedWorkflow('a', uid)).toMatchObject({ status: 'cancelled' });
    expect(await tasksOf(scene, uid)).toEqual({ a1: 'completed', a3: 'completed', a5: 'cancelled' });
    const { record } = await run(each([0, 1, 2], { ...over, inputs: { n: '${ item }' } }));
    expect(record).toMatchObject({ status: 'completed', progress: 100, result: { a: [null, { n: 1 }, null] } });
  });

  test('of more items than are decided in a turn', async () => {
    const list = Array.from({ length: 2 * EXPAND_CHUNK_ITEMS + 5 }, (_, index) => ({ n: index, odd: index % 2 === 1 }));
    const { record } = await run(each(list, { when: '${ item.odd }', inputs: { n: '${ item.n }' } }));
    expect(record.result).toEqual({ a: list.map(({ n, odd }) => (odd ? { n } : null)) });
  });
});

describe('why a step failed', () => {
  test('is seen by those that follow, of an item the first one that failed, of a rejection with its data', async () => {
    const scene = await Scene.of(['a'], {
      actions: {
        'fn:fail': ({ payload }) => {
          throw new FlowmeshError('EXIT_CODE', 'no space left', {
            details: { exit_code: 3, at: payload['v'] ?? null },
          });
        },
      },
    });
    const on_failure = 'continue';
    const { uid } = await scene.submitWorkflow('a', {
      name: 'w',
      steps: [
        { step_id: 'work', action: 'fn:fail', on_failure },
        {
          step_id: 'many',
          action: 'fn:fail',
          on_failure,
          foreach: [1, 2, 3],
          when: '${ item > 1 }',
          inputs: { v: '${ item }' },
        },
        { step_id: 'ask', action: 'approve', on_failure },
        { step_id: 'fine', action: 'echo' },
        {
          step_id: 'tell',
          action: 'echo',
          depends_on: ['work', 'many', 'ask', 'fine'],
          inputs: {
            why: '${ steps.work.error.code & ": " & steps.work.error.message }',
            code: '${ steps.work.error.details.exit_code }',
            item: '${ steps.many.error.details }',
            data: '${ steps.ask.error.details.data.reason }',
            none: '${ steps.fine.error }',
          },
        },
      ],
    });
    const asked = () => scene.feed('a').tasks.live.get(`${uid}/ask/0`)?.record;
    await scene.until('somebody is asked', () => asked()?.status === 'input_required');
    await scene.run(
      scene.scheduler('a').api.answerTask(`${uid}/ask/0`, { approve: false, data: { reason: 'not today' } }),
    );
    expect(await scene.endedWorkflow('a', uid)).toMatchObject({
      status: 'completed',
      result: {
        tell: {
          why: 'EXIT_CODE: no space left',
          code: 3,
          item: { exit_code: 3, at: 2, index: 1 },
          data: 'not today',
          none: null,
        },
      },
    });
  });
});

describe('a nested workflow', () => {
  test('runs with its input, and its result is the output of the step', async () => {
    const scene = await Scene.of(['a']);
    const { uid } = await scene.submitWorkflow('a', {
      name: 'outer',
      input: { n: 3 },
      steps: [
        {
          step_id: 'inner',
          action: 'workflow',
          inputs: {
            workflow: { name: 'inner', steps: [{ step_id: 's', action: 'echo', inputs: { x: 1 } }] },
            input: { n: '${ input.n }' },
          },
        },
      ],
    });
    expect(await scene.endedWorkflow('a', uid)).toMatchObject({
      status: 'completed',
      result: { inner: { s: { x: 1 } } },
    });
  });

  test.each([
    ['with an action that nobody can offer', { steps: [{ step_id: 's', action: 'shel' }] }, 'UNKNOWN_ACTION'],
    ['with a cycle', { steps: [{ step_id: 's', action: 'echo', depends_on: ['s'] }] }, 'CYCLE'],
    ['without steps', {}, 'INVALID_WORKFLOW'],
    [
      'that waits for another workflow',
      { steps: [{ step_id: 's', action: 'echo' }], dependencies: ['other'] },
      'INVALID_PAYLOAD',
    ],
    ['with inputs that its action does not take', { steps: SECONDS }, 'INVALID_WORKFLOW'],
  ])('%s is refused where it stands, or fails the step that it is made for', async (_what, inner, code) => {
    const scene = await Scene.of(['a']);
    await expect(scene.submitWorkflow('a', nested(inner) as never)).rejects.toMatchObject({ code });
    expect(scene.feed('a').runs.live.size).toBe(0);
    const { uid } = await scene.submitWorkflow('a', nestedLater({ name: 'inner', ...inner }) as never);
    expect(await scene.endedWorkflow('a', uid)).toMatchObject({ status: 'failed', error: { code } });
    expect(scene.feed('a').runs.live.size).toBe(0);
  });

  test('with the id of one that runs fails: ids are of one run', async () => {
    const scene = await Scene.of(['a']);
    const steps = [{ step_id: 's', action: 'approve' }];
    const first = await scene.submitWorkflow('a', { workflow_id: 'taken', name: 'first', steps });
    const { uid } = await scene.submitWorkflow('a', nested({ workflow_id: 'taken', steps }) as never);
    expect(await scene.endedWorkflow('a', uid)).toMatchObject({ status: 'failed', error: { code: 'CONFLICT' } });
    expect(scene.feed('a').runs.live.byId('taken')?.record.uid).toBe(first.uid);
  });

  test('in itself is nested only so deep', async () => {
    const scene = await Scene.of(['a']);
    let inner: JsonValue = { name: 'leaf', steps: [{ step_id: 's', action: 'echo' }] };
    for (let level = 0; level <= NESTING_LEVELS_MAX; level++) {
      inner = { name: `level-${level}`, steps: [{ step_id: 's', action: 'workflow', inputs: { workflow: inner } }] };
    }
    await expect(scene.submitWorkflow('a', inner)).rejects.toThrow('nested too deep');
    const { uid } = await scene.submitWorkflow('a', nestedLater(inner as object) as never);
    const { status, error } = await scene.endedWorkflow('a', uid);
    expect(status).toBe('failed');
    expect(error!.message).toContain('nested too deep');
  });

  test('is cancelled with the workflow around it, its running tasks by force when that is asked', async () => {
    const forces: boolean[] = [];
    const scene = await Scene.of(['a'], {
      actions: {
        'fn:listen': (_request, { signal }) =>
          new Promise((_resolve, reject) => {
            signal.addEventListener('abort', () => {
              forces.push((signal.reason as { force: boolean }).force);
              reject(new Error('aborted'));
            });
          }),
      },
    });
    for (const force of [true, false]) {
      const { uid } = await scene.submitWorkflow(
        'a',
        nested({ steps: [{ step_id: 's', action: 'fn:listen' }] }) as never,
      );
      await scene.until('it runs', () => scene.scheduler('a').parts.pool.running === 1);
      await scene.run(scene.scheduler('a').api.cancelWorkflow(uid, { reason: undefined, force }));
      expect((await scene.workflow('a', uid)).status).toBe('cancelled');
      await scene.until('it is ended', () => scene.scheduler('a').parts.pool.running === 0);
      expect(scene.feed('a').runs.live.size).toBe(0);
    }
    expect(forces).toEqual([true, false]);
  });

  test('whose task is cancelled is cancelled too', async () => {
    const scene = await Scene.of(['a']);
    const { uid } = await scene.submitWorkflow('a', nested({ steps: [{ step_id: 's', action: 'approve' }] }) as never);
    await scene.until('the nested one runs', () => scene.feed('a').runs.live.size === 2);
    await scene.run(scene.scheduler('a').api.cancelTask(`${uid}/inner/0`, NOT_FORCED));
    expect(scene.feed('a').runs.live.size).toBe(0);
    expect(scene.feed('a').tasks.live.size).toBe(0);
  });

  test('goes on over a restart', async () => {
    const scene = await Scene.of(['a']);
    const steps = [{ step_id: 's', action: 'fn:work', inputs: { ms: 3_000 } }];
    const { uid } = await scene.submitWorkflow('a', nested({ steps }) as never);
    await scene.until('it runs', () => scene.mesh.ledger.length === 1);
    await scene.restart('a');
    expect(await scene.endedWorkflow('a', uid)).toMatchObject({ status: 'completed' });
  });

  test('that takes longer than its step may is ended', async () => {
    const scene = await Scene.of(['a']);
    const { uid } = await scene.submitWorkflow('a', {
      name: 'outer',
      steps: [
        {
          step_id: 'inner',
          action: 'workflow',
          timeout_ms: 2_000,
          inputs: { workflow: { name: 'inner', steps: [{ step_id: 's', action: 'approve' }] } },
        },
      ],
    });
    await scene.pass(1_900);
    expect(scene.feed('a').runs.live.size).toBe(2);
    expect(await scene.endedWorkflow('a', uid)).toMatchObject({ status: 'failed', error: { code: 'TIMEOUT' } });
    expect(scene.feed('a').runs.live.size).toBe(0);
    expect(scene.feed('a').tasks.live.size).toBe(0);
  });

  test('that fails is tried again as its step says', async () => {
    const scene = await Scene.of(['a']);
    const { uid } = await scene.submitWorkflow('a', {
      name: 'outer',
      steps: [
        {
          step_id: 'inner',
          action: 'workflow',
          retry: { max_retries: 1, initial_delay_ms: 10 },
          inputs: {
            workflow: {
              workflow_id: 'inner-id',
              name: 'inner',
              steps: [{ step_id: 's', action: 'fn:flaky', inputs: { failures: 1 } }],
            },
          },
        },
      ],
    });
    // The flaky action fails the first attempt of each task, and each nested run has its own tasks.
    expect(await scene.endedWorkflow('a', uid)).toMatchObject({ status: 'failed', error: { code: 'NESTED_FAILED' } });
    const tasks = await scene.peer('a').store.reader.children('task', uid);
    expect(tasks).toMatchObject([{ failures: 2, dead_letter: true }]);
  });

  test('that no other attempt can help is not run again', async () => {
    const scene = await Scene.of(['a'], {
      actions: { 'fn:never': () => Promise.reject(new FlowmeshError('NEVER', 'it cannot be')) },
    });
    const workflow = { name: 'inner', steps: [{ step_id: 's', action: 'fn:never' }] };
    const retry = { max_retries: 3, initial_delay_ms: 10 };
    const { uid } = await scene.submitWorkflow('a', {
      name: 'outer',
      steps: [{ step_id: 'inner', action: 'workflow', retry, inputs: { workflow } }],
    });
    const { error } = await scene.endedWorkflow('a', uid);
    expect(error).toMatchObject({ code: 'NESTED_FAILED', retryable: false });
    expect(await scene.peer('a').store.reader.children('task', uid)).toMatchObject([{ failures: 1, attempt: 1 }]);
  });
});

describe('a workflow that waits for a person', () => {
  test('says so after a restart, too, and goes on when it has the answer', async () => {
    const scene = await Scene.of(['a']);
    const steps = [{ step_id: 's', action: 'approve' }];
    const { uid } = await scene.submitWorkflow('a', { name: 'w', steps });
    await scene.until('it waits', async () => (await scene.workflow('a', uid)).status === 'input_required');
    await scene.restart('a');
    await scene.pass(1_000);
    expect((await scene.workflow('a', uid)).status).toBe('input_required');
    await scene.run(scene.scheduler('a').api.answerTask(`${uid}/s/0`, { approve: true, data: null }));
    expect((await scene.endedWorkflow('a', uid)).status).toBe('completed');
  });
});

describe('a stopping run', () => {
  test('ends its tasks everywhere: running, queued, sleeping and waiting ones', async () => {
    const scene = await Scene.of(['a'], { slots: 1 });
    const { uid } = await scene.submitWorkflow('a', {
      name: 'w',
      steps: [
        { step_id: 'runs', action: 'fn:work', inputs: { ms: 60_000 } },
        { step_id: 'queued', action: 'fn:work' },
        { step_id: 'sleeps', action: 'sleep', inputs: { duration_ms: 60_000 } },
        { step_id: 'asks', action: 'approve' },
        { step_id: 'fails', action: 'sleep', inputs: { duration_ms: '${ "x" }' }, when: '${ true }' },
      ],
    });
    expect(await scene.endedWorkflow('a', uid)).toMatchObject({ status: 'failed', error: { code: 'INVALID_PAYLOAD' } });
    expect(await tasksOf(scene, uid)).toMatchObject({ fails: 'failed' });
    expect(Object.values(await tasksOf(scene, uid)).filter((status) => status === 'cancelled')).toHaveLength(4);
    await scene.until('nothing runs', () => scene.scheduler('a').parts.pool.running === 0);
    const { tasks, runs } = scene.feed('a');
    expect([tasks.live.size, tasks.queue.size, runs.live.size]).toEqual([0, 0, 0]);
  });
});

describe('an id', () => {
  test('of a task of a step may be that of a submitted one: each is found while it lives', async () => {
    const scene = await Scene.of(['a']);
    const mine = await scene.submit('a', task({ task_id: 'w:s', task_type: 'approve' }));
    const { uid } = await scene.submitWorkflow('a', {
      workflow_id: 'w',
      name: 'w',
      steps: [{ step_id: 's', action: 'fn:work', inputs: { ms: 100 } }],
    });
    await scene.run(scene.scheduler('a').api.cancelTask(mine.uid, NOT_FORCED));
    expect(scene.feed('a').tasks.live.byId('w:s')?.record.uid).toBe(`${uid}/s/0`);
    await scene.endedWorkflow('a', uid);
  });

  test('submitted twice at once makes one workflow', async () => {
    const scene = await Scene.of(['a']);
    const value = { workflow_id: 'w', name: 'w', steps: [{ step_id: 's', action: 'echo' }] };
    const { scheduler } = scene.peer('a');
    const both = await scene.run(
      Promise.all([scheduler.api.submitWorkflow(workflow(value)), scheduler.api.submitWorkflow(workflow(value))]),
    );
    expect(both.map(({ duplicate }) => duplicate)).toEqual([false, true]);
    expect(both[0]!.record.uid).toBe(both[1]!.record.uid);
  });
});
