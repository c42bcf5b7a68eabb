/**
 * Bad input over MCP on a mesh of three: each is a clear error that names the place, changes nothing, and leaves what
 * is there at work.
 */
import { describe, expect, it } from 'vitest';
import type { JsonObject, JsonValue } from '../../dag/errors.ts';
import {
  INPUT_BYTES_MAX,
  JSON_DEPTH_MAX,
  OUTPUT_BYTES_MAX,
  STEPS_MAX,
  SUBMISSION_BYTES_MAX,
} from '../../dag/limits.ts';
import { type ToolPeer, toolMesh } from './tool-mesh.ts';

const mesh = toolMesh();

/** Ids that are submitted at every peer at the same time. */
const RACES = 10;
const ENDLESS = '${ ($f := function($n) { $f($n + 1) }; $f(0)) }';
const BACKTRACKS = '${ $match("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", /^(a+)+$/) }';

const echo = (step_id: string, more: JsonObject = {}) => ({ step_id, action: 'echo', ...more });
const workflow = (...steps: JsonObject[]): JsonObject => ({ name: 'x', steps });
const nested = (levels: number): JsonValue => {
  let value: JsonValue = 1;
  for (let level = 0; level < levels; level++) value = [value];
  return value;
};

describe('a workflow that is wrong is refused with the place', () => {
  const cases: [what: string, input: JsonObject, code: string, ...says: RegExp[]][] = [
    ['no object', { name: 'x', steps: 'load' }, 'INVALID_INPUT', /steps: must be a list, not "load"/],
    [
      'unknown field',
      { ...workflow(echo('a')), tag: [] },
      'INVALID_INPUT',
      /tag: is not a known field .did you mean "tags"/,
    ],
    [
      'unknown field of a step',
      workflow(echo('a'), echo('b', { dependson: ['a'] })),
      'INVALID_INPUT',
      /steps\[1\]\.dependson: is not a known field .did you mean "depends_on"/,
    ],
    [
      'unknown field deeper',
      workflow(echo('a', { retry: { max_retrys: 3 } })),
      'INVALID_INPUT',
      /steps\[0\]\.retry\.max_retrys: .*"max_retries"/,
    ],
    [
      'unknown step',
      workflow(echo('load'), echo('b', { depends_on: ['laod'] })),
      'INVALID_WORKFLOW',
      /steps\[1\]\.depends_on\[0\].*"laod".*did you mean "load"/,
    ],
    ['a step twice', workflow(echo('a'), echo('a')), 'INVALID_WORKFLOW', /steps\[1\]\.step_id.*"a"/],
    [
      'cycle',
      workflow(
        echo('a', { depends_on: ['c'] }),
        echo('b', { depends_on: ['a'] }),
        echo('c', { depends_on: ['b'] }),
        echo('d'),
      ),
      'CYCLE',
      /a -> c -> b -> a .each depends on the next/,
    ],
    ['a step that waits for itself', workflow(echo('a', { depends_on: ['a'] })), 'CYCLE', /a/],
    [
      'unknown action',
      workflow(echo('a'), { step_id: 'b', action: 'shel' }),
      'UNKNOWN_ACTION',
      /steps\[1\]\.action.*"shell"/,
    ],
    [
      'bad expression',
      workflow(echo('a', { inputs: { list: [1, '${ $sum(input.x }'] } })),
      'INVALID_EXPRESSION',
      /steps\[0\]\.inputs\.list\[1\].*\$sum\(input\.x.*character \d+/,
    ],
    [
      'an expression without an end',
      workflow(echo('a', { inputs: { x: 'n ${ input.n' } })),
      'INVALID_EXPRESSION',
      /steps\[0\]\.inputs\.x/,
    ],
    ['bad output expression', { ...workflow(echo('a')), output: '${ 1 + }' }, 'INVALID_EXPRESSION', /output/],
    [
      'an expression about a step that is not waited for',
      workflow(echo('a'), echo('b', { inputs: { x: '${ steps.a.output }' } })),
      'INVALID_WORKFLOW',
      /steps\[1\]\.inputs\.x.*depends_on/,
    ],
    [
      'an expression about no step',
      workflow(echo('load'), echo('b', { depends_on: ['load'], when: '${ steps.laod.output }' })),
      'INVALID_WORKFLOW',
      /steps\[1\]\.when.*did you mean "load"/,
    ],
    ['when without an expression', workflow(echo('a', { when: 'yes' })), 'INVALID_EXPRESSION', /steps\[0\]\.when/],
    [
      'nested too deep',
      workflow(echo('a', { inputs: { x: nested(JSON_DEPTH_MAX) } })),
      'LIMIT_EXCEEDED',
      /JSON_DEPTH_MAX/,
    ],
    [
      'too many steps',
      workflow(...Array.from({ length: STEPS_MAX + 1 }, (_, index) => echo(`s${index}`))),
      'LIMIT_EXCEEDED',
      /STEPS_MAX/,
    ],
    [
      'too large',
      { ...workflow(echo('a')), input: { text: 'x'.repeat(SUBMISSION_BYTES_MAX) } },
      'LIMIT_EXCEEDED',
      /SUBMISSION_BYTES_MAX/,
    ],
  ];

  it.each(cases)('%s', async (what, input, code, ...says) => {
    const workflow_id = `bad-${cases.findIndex(([each]) => each === what)}`;
    const before = await mesh.state();
    const error = await mesh.b.refuse('workflow_submit', { ...input, workflow_id });
    expect(error.code).toBe(code);
    for (const each of says) expect(error.message).toMatch(each);
    expect(await mesh.state()).toEqual(before);
    // The id is still free, at every peer.
    expect(await mesh.c.refuse('workflow_status', { workflow_id })).toMatchObject({ code: 'NOT_FOUND' });
    await mesh.c.call('workflow_submit', { ...workflow(echo('a')), workflow_id });
    expect(await mesh.a.workflowEnds(workflow_id)).toMatchObject({ status: 'completed' });
  });
});

describe('what only the run can show', () => {
  it.each([
    ['when', { when: ENDLESS }],
    ['foreach', { foreach: ENDLESS }],
    ['inputs', { inputs: { n: ENDLESS } }],
    ['inputs', { inputs: { n: BACKTRACKS } }],
  ])('an expression that runs for ever fails its step: %s %o', async (_place, fields) => {
    const { a, b } = mesh;
    const { workflow_id } = await a.call('workflow_submit', workflow(echo('bad', fields), echo('good')));
    // Nobody waits for it.
    await a.call('task_submit', { task_type: 'echo', payload: { while: 'it runs' } });
    const ended = await b.workflowEnds(String(workflow_id));
    expect(ended).toMatchObject({
      ...{ status: 'failed', error: { code: 'EXPRESSION_TIMEOUT' } },
      steps: [{ step_id: 'bad', status: 'failed' }, { step_id: 'good' }],
    });
    expect((ended['error'] as JsonObject)['message']).toMatch(/\$f\(|\$match\(/);
  });

  it('so does an output that never comes', async () => {
    const { workflow_id } = await mesh.a.call('workflow_submit', { ...workflow(echo('good')), output: ENDLESS });
    expect(await mesh.b.workflowEnds(String(workflow_id))).toMatchObject({
      ...{ status: 'failed', error: { code: 'EXPRESSION_TIMEOUT' }, steps: [{ status: 'completed' }] },
    });
  });

  it('an input or an output that grows too large fails its step, and names the limit', async () => {
    const { a, b, c } = mesh;
    const large = '${ $pad("", input.length, "x") }';
    const resolved = { ...workflow(echo('bad', { inputs: { text: large } })), input: { length: INPUT_BYTES_MAX } };
    const { workflow_id } = await a.call('workflow_submit', resolved);
    const ended = await b.workflowEnds(String(workflow_id));
    expect(ended).toMatchObject({ status: 'failed', error: { code: 'LIMIT_EXCEEDED' } });
    expect((ended['error'] as JsonObject)['message']).toMatch(/step "bad".*INPUT_BYTES_MAX/);

    const floods = ['sh', '-c', `head -c ${OUTPUT_BYTES_MAX + 1} /dev/zero`];
    await a.call('task_submit', {
      ...{ task_id: 'floods', task_type: 'shell', payload: { command: floods }, requires: { peers: [c.peer_id] } },
    });
    expect(await b.taskEnds('floods')).toMatchObject({ status: 'failed', error: { code: 'OUTPUT_TOO_LARGE' } });
  });

  it('a nested workflow that is wrong is refused with the place in it, or fails the step that it is made for', async () => {
    const inner = workflow(echo('a', { depends_on: ['b'] }), echo('b', { depends_on: ['a'] }));
    const step = { step_id: 'in', action: 'workflow', inputs: { workflow: inner } };
    expect(await mesh.a.refuse('workflow_submit', workflow(step))).toMatchObject({
      code: 'CYCLE',
      message: expect.stringContaining('steps[0].inputs.workflow.steps'),
    });
    const later = { ...step, inputs: { workflow: '${ input.inner }' } };
    const { workflow_id } = await mesh.a.call('workflow_submit', { ...workflow(later), input: { inner } });
    expect(await mesh.b.workflowEnds(String(workflow_id))).toMatchObject({
      status: 'failed',
      error: { code: 'CYCLE' },
    });
  });
});

describe('an id that is submitted again', () => {
  const kinds = [
    {
      ...{ kind: 'task', tool: 'task_submit', key: 'task_id' },
      content: (file: string, text: string): JsonObject => ({
        ...{ task_type: 'shell', payload: { command: mesh.append(file, text) }, tags: ['t'] },
      }),
      ends: (peer: ToolPeer, id: string) => peer.taskEnds(id),
    },
    {
      ...{ kind: 'workflow', tool: 'workflow_submit', key: 'workflow_id' },
      content: (file: string, text: string): JsonObject =>
        workflow({ step_id: 's', action: 'shell', inputs: { command: mesh.append(file, text) } }),
      ends: (peer: ToolPeer, id: string) => peer.workflowEnds(id),
    },
  ];

  it.each(kinds)(
    'with the same content is the same $kind, with other content CONFLICT, at every peer',
    async (kind) => {
      const { tool, key, content, ends } = kind;
      const id = `same-${kind.kind}`;
      const first = await mesh.a.call(tool, { [key]: id, ...content(id, 'ran') });
      expect(first).not.toHaveProperty('duplicate');
      for (const when of ['at once', 'when it has ended']) {
        for (const peer of mesh.peers) {
          const again = await peer.call(tool, { [key]: id, ...content(id, 'ran') });
          expect(again, when).toMatchObject({ duplicate: true, [key]: id });
          expect(again['owner_peer_id'] ?? again['peer_assigned']).toBe(mesh.a.peer_id);
          const error = await peer.refuse(tool, { [key]: id, ...content(id, 'ran otherwise') });
          expect(error, when).toMatchObject({ code: 'CONFLICT', details: { kind: kind.kind, id } });
        }
        expect(await ends(mesh.c, id)).toMatchObject({ status: 'completed' });
      }
      expect(await mesh.lines(id)).toEqual(['ran']);
    },
  );

  const ids = (name: string) => Array.from({ length: RACES }, (_, index) => `${name}-${index}`);

  it.each(kinds)('at three peers at once is one $kind', async ({ kind, tool, key, content, ends }) => {
    await Promise.all(
      ids(`race-${kind}`).map(async (id) => {
        const same = { [key]: id, ...content(id, 'ran') };
        const answers = await Promise.all(mesh.peers.map((peer) => peer.call(tool, same)));
        expect(answers.filter(({ duplicate }) => duplicate === undefined)).toHaveLength(1);
        expect(new Set(answers.map((answer) => answer['owner_peer_id'] ?? answer['peer_assigned'])).size).toBe(1);
        for (const peer of mesh.peers) expect(await ends(peer, id)).toMatchObject({ status: 'completed' });
        expect(await mesh.lines(id)).toEqual(['ran']);
      }),
    );
  });

  it.each(kinds)('at three peers at once with three contents is one $kind and two conflicts', async (each) => {
    const { kind, tool, key, content, ends } = each;
    await Promise.all(
      ids(`contest-${kind}`).map(async (id) => {
        const results = await Promise.all(
          mesh.peers.map(({ client }, index) =>
            client.callTool({ name: tool, arguments: { [key]: id, ...content(id, String(index)) } }),
          ),
        );
        const codes = results.map(({ structuredContent }) => {
          return (structuredContent as { error?: { code: string } }).error?.code ?? 'accepted';
        });
        expect(codes.toSorted()).toEqual(['CONFLICT', 'CONFLICT', 'accepted']);
        await ends(mesh.b, id);
        expect(await mesh.lines(id)).toEqual([String(codes.indexOf('accepted'))]);
      }),
    );
  });
});
