/**
 * What the steps of workflows live through on a mesh of three, seen from outside: a person's answer, the cache, nested
 * runs, failures, and the cancel of everything at once. Owned by A, run on B and C, asked for at a third.
 */
import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { JsonObject } from '../../dag/errors.ts';
import { waitUntilGone } from '../executors/processes.ts';
import { eventually } from '../harness/eventually.ts';
import { type ToolPeer, toolMesh } from './tool-mesh.ts';

const FUNCTIONS = resolve(import.meta.dirname, 'life-functions.ts');
const mesh = toolMesh({ args: ['--allow-shell', '*', '--slots', '4', '--functions', FUNCTIONS] });

const shellAt = (peer: ToolPeer, command: string[]) => {
  return { action: 'shell', inputs: { command }, requires: { peers: [peer.peer_id] } };
};
const submit = (workflow_id: string, steps: JsonObject[], more: JsonObject = {}) =>
  mesh.a.call('workflow_submit', { workflow_id, name: workflow_id, steps, ...more });
const statuses = ({ steps }: JsonObject) =>
  Object.fromEntries((steps as JsonObject[]).map(({ step_id, status }) => [step_id, status]));

/** A person's answer, given to this peer. */
async function answer(peer: ToolPeer, task_id: string, body: JsonObject): Promise<{ code: number; body: JsonObject }> {
  const response = await fetch(`${peer.process.url}/tasks/${encodeURIComponent(task_id)}/answer`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  return { code: response.status, body: (await response.json()) as JsonObject };
}

const waits = (peer: ToolPeer, workflow_id: string) =>
  eventually('it waits for a person', async () => {
    return (await peer.call('workflow_status', { workflow_id }))['status'] === 'input_required';
  });

describe('approve', () => {
  const steps = (file: string) => [
    { step_id: 'ask', action: 'approve', inputs: { message: 'Go?' } },
    {
      step_id: 'next',
      depends_on: ['ask'],
      ...shellAt(mesh.c, mesh.append(file, 'room ${ steps.ask.output.data.room }')),
    },
  ];

  it('goes on with what the person said, told to any peer, once', async () => {
    const { b, c } = mesh;
    await submit('approved', steps('approved'));
    await waits(c, 'approved');
    expect(await c.call('task_status', { task_id: 'approved:ask' })).toMatchObject({ status: 'input_required' });
    expect(await answer(b, 'approved:ask', { approve: 'yes' })).toMatchObject({
      ...{ code: 400, body: { error: { code: 'INVALID_INPUT' } } },
    });
    const given = await answer(b, 'approved:ask', { approve: true, data: { room: 7 } });
    expect(given).toMatchObject({ code: 200, body: { status: 'completed', approved: true } });
    expect(await c.workflowEnds('approved')).toMatchObject({ status: 'completed' });
    expect(await mesh.lines('approved')).toEqual(['room 7']);
    const twice = await answer(c, 'approved:ask', { approve: false });
    expect(twice).toMatchObject({ code: 409, body: { success: false, error: { code: 'INVALID_STATE' } } });
    const unknown = await answer(c, 'nowhere:ask', { approve: true });
    expect(unknown).toMatchObject({ code: 404, body: { success: false, error: { code: 'NOT_FOUND' } } });
  });

  it('fails when the person rejects, and what depends on it does not run', async () => {
    const { b, c } = mesh;
    await submit('rejected', steps('rejected'));
    await waits(b, 'rejected');
    expect(await answer(c, 'rejected:ask', { approve: false, data: 'too dear' })).toMatchObject({ code: 200 });
    const ended = await b.workflowEnds('rejected');
    expect(ended).toMatchObject({ status: 'failed', error: { code: 'REJECTED', details: { data: 'too dear' } } });
    expect(statuses(ended)).toEqual({ ask: 'failed', next: 'cancelled' });
    expect(await mesh.lines('rejected')).toEqual([]);
  });

  it('is cancelled with its run', async () => {
    await submit('unanswered', steps('unanswered'));
    await waits(mesh.c, 'unanswered');
    await mesh.b.call('workflow_cancel', { workflow_id: 'unanswered' });
    expect(statuses(await mesh.c.workflowEnds('unanswered'))).toEqual({ ask: 'cancelled', next: 'cancelled' });
    expect(await answer(mesh.b, 'unanswered:ask', { approve: true })).toMatchObject({ code: 409 });
  });
});

describe('on_failure', () => {
  it.each([
    // `aside` does not depend on what fails; under `fail` it is cut short while it runs.
    ['fail', 'failed', { bad: 'failed', after: 'cancelled', aside: 'cancelled', join: 'cancelled' }, []],
    ['skip', 'completed', { bad: 'skipped', after: 'skipped', aside: 'completed', join: 'completed' }, ['join']],
    [
      ...(['continue', 'completed'] as const),
      { bad: 'failed', after: 'completed', aside: 'completed', join: 'completed' },
      ['after failed', 'join'],
    ],
  ] as const)('%s: the run is %s', async (on_failure, status, expected, lines) => {
    const { b, c } = mesh;
    const id = `on-${on_failure}`;
    const [gate, release] = [mesh.gate(id), mesh.gate(`${id}-release`)];
    await submit(id, [
      { step_id: 'aside', ...shellAt(c, gate.command) },
      { step_id: 'begin', ...shellAt(c, release.command) },
      { step_id: 'bad', depends_on: ['begin'], ...shellAt(b, ['false']), on_failure },
      { step_id: 'after', depends_on: ['bad'], ...shellAt(b, mesh.append(id, 'after ${ steps.bad.status }')) },
      { step_id: 'join', depends_on: ['after', 'aside'], ...shellAt(b, mesh.append(id, 'join')) },
    ]);
    const pid = await gate.pid();
    await release.pid();
    await release.open();
    if (status === 'completed') {
      await eventually('the failure has had its effect', async () => {
        const now = statuses(await c.call('workflow_status', { workflow_id: id }));
        return now['after'] === expected.after;
      });
      await gate.open();
    }
    const ended = await c.workflowEnds(id);
    expect(ended).toMatchObject({ status, error: status === 'failed' ? { code: 'EXIT_CODE' } : null });
    expect(statuses(ended)).toEqual({ begin: 'completed', ...expected });
    await waitUntilGone([pid]);
    expect(await mesh.lines(id)).toEqual(lines);
  });

  it('items of a foreach that fail leave null, and are tried again like any task', async () => {
    const command = ['sh', '-c', 'echo "$1.$FLOWMESH_ATTEMPT" >>"$2"; test "$1" != 2', 'sh', '${ item }'];
    await submit('some-items', [
      {
        ...{ step_id: 'each', foreach: [1, 2, 3], on_failure: 'continue', max_parallel: 1 },
        ...shellAt(mesh.b, [...command, mesh.path('items')]),
        retry: { max_retries: 1, initial_delay_ms: 1 },
      },
      {
        ...{ step_id: 'sum', depends_on: ['each'], action: 'echo' },
        inputs: { codes: '${ steps.each.output.exit_code }', all: '${ $count(steps.each.output) }' },
      },
    ]);
    expect(await mesh.c.workflowEnds('some-items')).toMatchObject({ status: 'completed' });
    expect(await mesh.c.call('workflow_result', { workflow_id: 'some-items' })).toMatchObject({
      outputs: { each: [{ exit_code: 0 }, null, { exit_code: 0 }], sum: { codes: [0, 0], all: 3 } },
    });
    expect(await mesh.lines('items')).toEqual(['1.1', '2.1', '2.2', '3.1']);
  });
});

describe('cache', () => {
  it('an output is used again for the same action and inputs, and for no other', async () => {
    const { b, c } = mesh;
    const run = async (workflow_id: string, value: number) => {
      const inputs = { path: mesh.path('counted'), value: '${ input.value }' };
      const step = { step_id: 'count', action: 'fn:counts', inputs, cache: true, requires: { peers: [b.peer_id] } };
      await submit(workflow_id, [step], { input: { value }, output: '${ steps.count.output.value }' });
      expect(await c.workflowEnds(workflow_id)).toMatchObject({ status: 'completed' });
      return (await c.call('workflow_result', { workflow_id }))['result'];
    };
    expect(await run('cached-1', 5)).toBe(5);
    expect(await run('cached-2', 5)).toBe(5);
    expect(await mesh.lines('counted')).toEqual(['5']);
    expect(await c.call('task_status', { task_id: 'cached-2:count' })).toMatchObject({
      ...{ status: 'completed', attempt: 0, placement: { reason: expect.stringContaining('cached') } },
    });
    expect(await run('cached-3', 6)).toBe(6);
    expect(await mesh.lines('counted')).toEqual(['5', '6']);
  });
});

describe('nested workflows', () => {
  /** The runs inside: their ids are made. */
  const inner = async (at: ToolPeer, name: string) => {
    const { workflows } = await at.call('workflow_list', { scope: 'mesh', limit: 1_000 });
    return (workflows as JsonObject[]).filter((workflow) => workflow['name'] === name);
  };

  it('hand their result and their failure to the step that they are', async () => {
    const { b, c } = mesh;
    const nested = (name: string, command: string[]) => ({
      action: 'workflow',
      inputs: {
        workflow: {
          name,
          steps: [{ step_id: 'work', ...shellAt(b, command) }],
          output: '$${ steps.work.output.stdout & input.mark }',
        },
        input: { mark: '!' },
      },
    });
    await submit('outer', [
      { step_id: 'good', ...nested('inner-good', ['echo', 'done']) },
      { step_id: 'bad', ...nested('inner-bad', ['false']), on_failure: 'continue' },
    ]);
    const ended = await c.workflowEnds('outer');
    expect(statuses(ended)).toEqual({ good: 'completed', bad: 'failed' });
    const { outputs } = await c.call('workflow_result', { workflow_id: 'outer' });
    expect(outputs).toEqual({ good: 'done!', bad: null });
    expect(await c.call('task_result', { task_id: 'outer:bad' })).toMatchObject({ error: { code: 'NESTED_FAILED' } });
    expect(await inner(c, 'inner-bad')).toMatchObject([{ status: 'failed', peer_id: mesh.a.peer_id }]);
  });

  it('are cancelled with their parent, down to the process', async () => {
    const { b, c } = mesh;
    const gate = mesh.gate('innermost');
    const innermost = { name: 'innermost', steps: [{ step_id: 'held', ...shellAt(b, gate.command) }] };
    const between = {
      name: 'between',
      steps: [{ step_id: 'in', action: 'workflow', inputs: { workflow: innermost } }],
    };
    await submit('outermost', [{ step_id: 'in', action: 'workflow', inputs: { workflow: between } }]);
    const pid = await gate.pid();
    for (const name of ['between', 'innermost']) expect(await inner(c, name)).toMatchObject([{ status: 'running' }]);
    await c.call('workflow_cancel', { workflow_id: 'outermost' });
    await waitUntilGone([pid]);
    expect(await b.workflowEnds('outermost')).toMatchObject({ status: 'cancelled' });
    for (const name of ['between', 'innermost']) {
      const [{ workflow_id }] = (await inner(c, name)) as [{ workflow_id: string }];
      expect(await c.workflowEnds(workflow_id)).toMatchObject({ status: 'cancelled' });
    }
  });
});

describe('a whole workflow', () => {
  it.each([{ force: false }, { force: true }])(
    'is cancelled with all its processes on all peers: %o',
    async ({ force }) => {
      const { a, b, c } = mesh;
      const id = `whole-${force}`;
      const gates = [0, 1, 2].map((index) => mesh.gate(`${id}-${index}`, { stubborn: true }));
      const [first, second, third] = gates as [(typeof gates)[0], (typeof gates)[0], (typeof gates)[0]];
      await submit(id, [
        {
          step_id: 'on-b',
          foreach: [first.command, second.command],
          action: 'shell',
          inputs: { command: '${ item }' },
        },
        { step_id: 'on-c', ...shellAt(c, third.command), retry: { max_retries: 3, initial_delay_ms: 1 } },
        { step_id: 'never', depends_on: ['on-b', 'on-c'], ...shellAt(b, mesh.append(id, 'ran')) },
      ]);
      const pids = await Promise.all(gates.map((gate) => gate.pid()));
      const cancelled = await c.call('workflow_cancel', { workflow_id: id, force });
      expect((cancelled['cancelled_steps'] as string[]).sort()).toEqual(['never', 'on-b', 'on-c']);
      await waitUntilGone(pids);
      const ended = await b.workflowEnds(id);
      expect(ended['status']).toBe('cancelled');
      expect(statuses(ended)).toEqual({ 'on-b': 'cancelled', 'on-c': 'cancelled', never: 'cancelled' });
      const { tasks } = await a.call('task_list', { limit: 1_000, scope: 'local' });
      const own = (tasks as JsonObject[]).filter(({ workflow_id }) => workflow_id === id);
      expect(own.map(({ status }) => status)).toEqual(['cancelled', 'cancelled', 'cancelled']);
    },
  );

  it('waits for a workflow of another peer, and fails when that one does', async () => {
    const { a, b, c } = mesh;
    const gate = mesh.gate('before');
    await submit('before', [{ step_id: 'held', ...shellAt(c, gate.command) }]);
    const after = { name: 'after', steps: [{ step_id: 's', ...shellAt(c, mesh.append('after', 'ran')) }] };
    await b.call('workflow_submit', { workflow_id: 'after', ...after, dependencies: ['before'] });
    await gate.pid();
    expect(await c.call('workflow_status', { workflow_id: 'after' })).toMatchObject({
      ...{ status: 'submitted', progress: 0, start_time: null, peer_id: b.peer_id },
    });
    await gate.open();
    expect(await a.workflowEnds('after')).toMatchObject({ status: 'completed' });
    expect(await mesh.lines('after')).toEqual(['ran']);

    await submit('fails-before', [{ step_id: 's', ...shellAt(c, ['false']) }]);
    await b.call('workflow_submit', { workflow_id: 'not-after', ...after, dependencies: ['fails-before'] });
    expect(await c.workflowEnds('not-after')).toMatchObject({ status: 'failed', error: { code: 'DEPENDENCY_FAILED' } });
    expect(await mesh.lines('after')).toEqual(['ran']);
  });
});
