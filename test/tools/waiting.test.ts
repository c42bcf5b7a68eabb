/** Why something waits, as `workflow_status` and `task_status` say it. */
import { describe, expect, test } from 'vitest';
import type { JsonObject, JsonValue } from '../../dag/errors.ts';
import { requiresSchema, retrySchema } from '../../dag/schema.ts';
import { operationNamed } from '../../node/runtimes/mesh-calls.ts';
import { callTool } from '../../tools/call/route.ts';
import { HandPeer, tokenOf } from '../scheduler/hand-peer.ts';
import { Scene, task } from '../scheduler/scene.ts';

const LONG_MS = 60_000;

async function asked(scene: Scene, tool: string, input: JsonObject, name = 'a'): Promise<JsonObject> {
  return await scene.run(callTool(operationNamed(tool), input, scene.peer(name).context, 0));
}

/** A run of these steps, a second after it was accepted. */
async function run(scene: Scene, steps: JsonValue[], more: JsonObject = {}): Promise<JsonObject> {
  await scene.submitWorkflow('a', { workflow_id: 'w', name: 'w', steps, ...more });
  await scene.pass(1_000);
  return await asked(scene, 'workflow_status', { workflow_id: 'w' });
}

async function taskStatus(scene: Scene, over: Parameters<typeof task>[0]): Promise<JsonObject> {
  const { task_id } = await scene.submit('a', task(over));
  await scene.pass(1_000);
  return await asked(scene, 'task_status', { task_id });
}

describe('a step that waits says for what', () => {
  test('a worker that nobody has, and is not running, nor is its workflow', async () => {
    const scene = await Scene.of(['a', 'b', 'c']);
    const status = await run(scene, [
      { step_id: 'nope', action: 'fn:nope' },
      { step_id: 'h100', action: 'fn:work', requires: { labels: ['h100'] } },
      { step_id: 'after', action: 'echo', depends_on: ['nope', 'h100'] },
    ]);
    expect(status).toMatchObject({
      ...{ status: 'submitted', start_time: null, current_step: null, progress: 0 },
      steps: [
        {
          ...{ step_id: 'nope', status: 'queued', started_at: null, tasks: 1, peers: [] },
          waiting: { for: 'worker', reason: 'no connected peer offers fn:nope' },
        },
        { step_id: 'h100', status: 'queued', waiting: { for: 'worker', reason: 'label h100: none of 3 peers' } },
        { step_id: 'after', status: 'pending', waiting: { for: 'steps', reason: 'depends on nope, h100' } },
      ],
    });
  });

  test('a slot, and how many of its items do', async () => {
    const scene = await Scene.of(['a', 'b', 'c']);
    const items = Array.from({ length: 20 }, (_, at) => at);
    const status = await run(scene, [{ step_id: 'many', action: 'fn:work', foreach: items, inputs: { ms: LONG_MS } }]);
    expect(status).toMatchObject({
      status: 'running',
      steps: [{ status: 'running', waiting: { for: 'slot', reason: '8 of 20 items wait: all 12 slots are taken' } }],
    });
    expect(await taskStatus(scene, {})).toMatchObject({
      ...{ status: 'queued', waiting: { for: 'slot', reason: 'all 12 slots are taken' } },
    });
  });

  test('a queue that is paused', async () => {
    const scene = await Scene.of(['a']);
    await scene.run(scene.scheduler('a').api.pauseQueue('we move'));
    const { status, steps } = await run(scene, [{ step_id: 's', action: 'echo' }]);
    expect(status).toBe('submitted');
    expect(steps).toMatchObject([
      { status: 'queued', waiting: { for: 'queue', reason: 'the queue is paused: we move' } },
    ]);
    await scene.run(scene.scheduler('a').api.resumeQueue());
    await scene.pass(1_000);
    expect(await asked(scene, 'workflow_status', { workflow_id: 'w' })).toMatchObject({
      ...{ status: 'completed', steps: [{ status: 'completed', waiting: null }] },
    });
  });

  test('a person', async () => {
    const scene = await Scene.of(['a']);
    const { status, steps } = await run(scene, [{ step_id: 's', action: 'approve', inputs: { message: 'Ship it?' } }]);
    expect(status).toBe('input_required');
    expect(steps).toMatchObject([
      { status: 'input_required', waiting: { for: 'person', reason: 'a person has to answer: Ship it?' } },
    ]);
  });

  test('its next try, and when that is', async () => {
    const scene = await Scene.of(['a']);
    const { status, steps } = await run(scene, [
      {
        ...{ step_id: 's', action: 'fn:flaky', inputs: { failures: 1 } },
        retry: { max_retries: 1, initial_delay_ms: LONG_MS, jitter: false },
      },
    ]);
    const { due_at, attempts } = (await scene.peer('a').store.reader.byAlias('task', 'w:s'))!;
    expect(status).toBe('running');
    expect(steps).toMatchObject([
      {
        status: 'queued',
        waiting: { for: 'time', reason: `it is tried again at ${due_at}`, since: attempts[0]!.ended_at },
      },
    ]);
  });

  test('another workflow', async () => {
    const scene = await Scene.of(['a']);
    await scene.submitWorkflow('a', {
      ...{ workflow_id: 'first', name: 'first', steps: [{ step_id: 's', action: 'approve' }] },
    });
    const { status, steps } = await run(scene, [{ step_id: 's', action: 'echo' }], { dependencies: ['first'] });
    expect(status).toBe('submitted');
    expect(steps).toMatchObject([
      { status: 'pending', waiting: { for: 'workflows', reason: 'the workflow depends on first' } },
    ]);
  });
});

describe('a task that waits says for what', () => {
  test('a worker, its time, other tasks; one that runs for nothing', async () => {
    const scene = await Scene.of(['a']);
    expect(await taskStatus(scene, { requires: requiresSchema.parse({ memory_gb: 999 }) })).toMatchObject({
      ...{ status: 'queued', waiting: { for: 'worker', reason: 'memory_gb 999: at most 8 on 1 peer' } },
    });
    const delayed = await taskStatus(scene, { task_id: 'delayed', delay_ms: LONG_MS });
    expect(delayed).toMatchObject({
      waiting: { for: 'time', reason: `it does not begin before ${delayed['due_at']}`, since: delayed['created_at'] },
    });
    expect(await taskStatus(scene, { depends_on: ['delayed'] })).toMatchObject({
      waiting: { for: 'tasks', reason: 'depends on delayed' },
    });
    expect(await taskStatus(scene, { payload: { ms: LONG_MS } })).toMatchObject({ status: 'running', waiting: null });
    expect(await taskStatus(scene, { task_type: 'echo' })).toMatchObject({ status: 'completed', waiting: null });
  });

  test('is asked of its owner at any peer, and a copy says that the owner is away', async () => {
    const scene = await Scene.of(['a', 'b', 'c'], { servesTools: true });
    await scene.submit('a', task({ task_id: 't', task_type: 'fn:nope', retry: retrySchema.parse({}) }));
    await scene.pass(3_000);
    expect(await asked(scene, 'task_status', { task_id: 't' }, 'c')).toMatchObject({
      ...{ owner_peer_id: 'a', waiting: { for: 'worker', reason: 'no connected peer offers fn:nope' } },
    });
  });
});

test('a workflow whose only lease was refused has not begun', async () => {
  const scene = await Scene.of(['a']);
  const peer = await HandPeer.joins(scene, 'h', ['a']);
  peer.answers.set('lease', (params) => ({
    items: (params['leases'] as never[]).map((lease) => ({ ...tokenOf(lease), reason: 'unable', message: '' })),
  }));
  const status = await run(scene, [{ step_id: 's', action: 'fn:hand' }]);
  expect(peer.leases).toHaveLength(1);
  expect(status).toMatchObject({
    ...{ status: 'submitted', start_time: null },
    steps: [{ status: 'queued', waiting: { for: 'worker', reason: 'refused a moment ago by h' } }],
  });
  const other = await HandPeer.joins(scene, 'i', ['a']);
  await other.leased(1);
  await scene.pass(100);
  expect(await asked(scene, 'workflow_status', { workflow_id: 'w' })).toMatchObject({
    ...{ status: 'running', steps: [{ status: 'running', waiting: null }] },
  });
});

test('a run that waits is taken up by its next process as it was', async () => {
  const scene = await Scene.of(['a']);
  await run(scene, [
    { step_id: 'nope', action: 'fn:nope' },
    { step_id: 'done', action: 'echo', when: false },
  ]);
  await scene.restart('a');
  await scene.ownsAgain('a');
  await scene.pass(3_000);
  expect(await asked(scene, 'workflow_status', { workflow_id: 'w' })).toMatchObject({
    ...{
      steps: [
        { status: 'queued', waiting: { for: 'worker' } },
        { status: 'skipped', waiting: null },
      ],
    },
  });
});
