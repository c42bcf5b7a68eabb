/** The six workflow tools on a mesh of three, over MCP. */
import { expect, it } from 'vitest';
import type { JsonObject } from '../../dag/errors.ts';
import { waitUntilGone } from '../executors/processes.ts';
import { eventually } from '../harness/eventually.ts';
import { coverTools, refused, TOOLS, type ToolPeer, toolMesh } from './tool-mesh.ts';

const mesh = toolMesh();

const shellAt = (peer: ToolPeer, command: string[]) => {
  return { action: 'shell', inputs: { command }, requires: { peers: [peer.peer_id] } };
};
const echo = (step_id: string) => ({ step_id, action: 'echo' });
const ids = ({ workflows }: JsonObject) => (workflows as { workflow_id: string }[]).map((each) => each.workflow_id);

it('the tools of all families together are those that a peer lists, 26', async () => {
  const listed = (await mesh.a.client.listTools()).tools.map(({ name }) => name);
  expect(listed).toHaveLength(26);
  expect(Object.values(TOOLS).flat().sort()).toEqual(listed.sort());
});

coverTools(TOOLS.workflow, mesh, {
  effects: {
    async workflow_submit() {
      const { a, b, c } = mesh;
      const workflow = {
        workflow_id: 'wf-submitted',
        name: 'two steps on two peers',
        input: { word: 'first' },
        steps: [
          { step_id: 'first', ...shellAt(b, mesh.append('submitted', '${ input.word }')) },
          {
            step_id: 'second',
            depends_on: ['first'],
            ...shellAt(c, mesh.append('submitted', 'second after ${ steps.first.status }')),
          },
        ],
        output: { codes: ['${ steps.first.output.exit_code }', '${ steps.second.output.exit_code + 1 }'] },
      };
      const accepted = await a.call('workflow_submit', workflow);
      expect(accepted).toMatchObject({ workflow_id: 'wf-submitted', peer_assigned: a.peer_id });
      expect(accepted['durability']).toEqual({ copies: 2, wanted: 2 });
      expect(accepted).not.toHaveProperty('duplicate');
      expect(await c.workflowEnds('wf-submitted')).toMatchObject({ status: 'completed', peer_id: a.peer_id });
      expect(await b.call('workflow_result', { workflow_id: 'wf-submitted' })).toMatchObject({
        result: { codes: [0, 1] },
      });
      expect(await mesh.lines('submitted')).toEqual(['first', 'second after completed']);

      // Once more, at another peer: nothing runs again.
      const again = await c.call('workflow_submit', workflow);
      expect(again).toMatchObject({ duplicate: true, status: 'completed', peer_assigned: a.peer_id });
      expect(await mesh.lines('submitted')).toHaveLength(2);

      // More copies than there are peers: what was written before that was known is cancelled, and nothing runs.
      const steps = [{ step_id: 's', ...shellAt(b, mesh.append('submitted', 'too few copies')) }];
      const copies = { copies: 8, require_copies: true };
      const error = await a.refuse('workflow_submit', { workflow_id: 'wf-too-few', name: 'x', steps, ...copies });
      expect(error).toMatchObject({ code: 'TOO_FEW_COPIES', message: expect.stringMatching(/8 copies/) });
      expect(await c.workflowEnds('wf-too-few')).toMatchObject({ status: 'cancelled' });
      expect(await mesh.lines('submitted')).toHaveLength(2);

      const { workflow_id } = await b.call('workflow_submit', { name: 'an id is made', steps: [echo('only')] });
      expect(await c.workflowEnds(String(workflow_id))).toMatchObject({ status: 'completed', peer_id: b.peer_id });
    },

    async workflow_status() {
      const { a, b, c } = mesh;
      const gate = mesh.gate('status');
      await a.call('workflow_submit', {
        workflow_id: 'wf-status',
        name: 'half way',
        steps: [
          { step_id: 'first', ...shellAt(b, ['true']) },
          { step_id: 'second', depends_on: ['first'], ...shellAt(c, gate.command) },
        ],
      });
      await gate.pid();
      const half = await c.call('workflow_status', { workflow_id: 'wf-status' });
      expect(half).toMatchObject({
        ...{ status: 'running', progress: 50, current_step: 'second', steps_ended: 1, end_time: null },
        steps: [
          { step_id: 'first', status: 'completed', peers: [b.peer_id] },
          { step_id: 'second', status: 'running', peers: [c.peer_id] },
        ],
      });
      await gate.open();
      await b.workflowEnds('wf-status');
      const whole = await c.call('workflow_status', { workflow_id: 'wf-status', include_metrics: true });
      expect(whole).toMatchObject({
        ...{ status: 'completed', progress: 100, current_step: null },
        metrics: { tasks_total: 2, tasks_by_status: { completed: 2 }, attempts: 2, retries: 0 },
      });
      expect(Date.parse(String(whole['end_time']))).toBeGreaterThanOrEqual(Date.parse(String(whole['start_time'])));
      const short = await b.call('workflow_status', { workflow_id: 'wf-status', include_steps: false });
      expect(short).not.toHaveProperty('steps');
    },

    async workflow_cancel() {
      const { a, b, c } = mesh;
      const gate = mesh.gate('cancelled');
      await a.call('workflow_submit', {
        workflow_id: 'wf-cancelled',
        name: 'cut short',
        steps: [
          { step_id: 'held', ...shellAt(c, gate.command) },
          { step_id: 'never', depends_on: ['held'], ...shellAt(b, mesh.append('never', 'ran')) },
        ],
      });
      const pid = await gate.pid();
      const cancelled = await b.call('workflow_cancel', { workflow_id: 'wf-cancelled', reason: 'not wanted' });
      expect(cancelled).toMatchObject({ cancelled_steps: ['held', 'never'] });
      await waitUntilGone([pid]);
      const status = await c.workflowEnds('wf-cancelled');
      expect(status).toMatchObject({
        status: 'cancelled',
        error: { code: 'CANCELLED', message: expect.stringContaining('not wanted') },
        steps: [
          { step_id: 'held', status: 'cancelled' },
          { step_id: 'never', status: 'cancelled' },
        ],
      });
      await gate.open();
      expect(await mesh.lines('never')).toEqual([]);
    },

    async workflow_list() {
      const { a, b, c } = mesh;
      const workflow = (workflow_id: string, tags: string[]) => ({ workflow_id, name: 'x', tags, steps: [echo('s')] });
      await a.call('workflow_submit', workflow('wf-list-1', ['listed', 'red']));
      await b.call('workflow_submit', workflow('wf-list-2', ['listed']));
      await a.call('workflow_submit', workflow('wf-list-3', ['listed', 'red']));
      for (const id of ['wf-list-1', 'wf-list-2', 'wf-list-3']) await c.workflowEnds(id);

      const listed = (input: JsonObject) => c.call('workflow_list', { tag_filter: ['listed'], ...input });
      expect(ids(await listed({ scope: 'local' }))).toEqual([]);
      const all = await listed({});
      expect(ids(all)).toEqual(['wf-list-3', 'wf-list-2', 'wf-list-1']);
      expect(all).toMatchObject({ total_count: 3, returned_count: 3, has_more: false, missing: [] });
      expect(ids(await listed({ tag_filter: ['red', 'listed'] }))).toEqual(['wf-list-3', 'wf-list-1']);
      expect(ids(await listed({ peer_filter: b.peer_id }))).toEqual(['wf-list-2']);
      expect(ids(await listed({ status_filter: 'running' }))).toEqual([]);
      const page = await listed({ limit: 1, offset: 1 });
      expect(ids(page)).toEqual(['wf-list-2']);
      expect(page).toMatchObject({ total_count: 3, returned_count: 1, has_more: true });
    },

    async workflow_dependencies() {
      const { a, b } = mesh;
      const gate = mesh.gate('dependencies');
      await a.call('workflow_submit', {
        workflow_id: 'wf-graph',
        name: 'graph',
        dependencies: ['wf-done'],
        steps: [
          { step_id: 'load', ...shellAt(b, ['true']) },
          { ...echo('left'), depends_on: ['load'] },
          { step_id: 'right', depends_on: ['load'], ...shellAt(b, gate.command) },
          { ...echo('join'), depends_on: ['left', 'right'] },
        ],
      });
      await gate.pid();
      const of = (input: JsonObject) => b.call('workflow_dependencies', { workflow_id: 'wf-graph', ...input });
      const shown = await eventually('left has ended', async () => {
        const answer = await of({});
        return JSON.stringify(answer['nodes']).includes('"left","action":"echo","status":"completed"') && answer;
      });
      expect(shown['edges']).toEqual([
        { from: 'load', to: 'left' },
        { from: 'load', to: 'right' },
        { from: 'left', to: 'join' },
        { from: 'right', to: 'join' },
      ]);
      expect(shown).toMatchObject({
        nodes: [
          { id: 'load', status: 'completed' },
          { id: 'left', status: 'completed' },
          { id: 'right', action: 'shell', status: 'running' },
          { id: 'join', status: 'pending' },
        ],
        dag: { roots: ['load'], sinks: ['join'] },
        critical_path: { basis: 'mixed' },
        dependencies: ['wf-done'],
      });
      expect((await of({ format: 'dot' }))['dag']).toMatch(/^digraph[\s\S]*"load" -> "left"/);
      expect((await of({ fmt: 'mermaid' }))['dag']).toMatch(/^flowchart|^graph/);
      await gate.open();
      await b.workflowEnds('wf-graph');
      const { critical_path } = await of({});
      expect(critical_path).toMatchObject({ steps: ['load', 'right', 'join'], basis: 'measured' });
    },

    async workflow_result() {
      const { a, b, c } = mesh;
      const gate = mesh.gate('result');
      await a.call('workflow_submit', {
        workflow_id: 'wf-result',
        name: 'result',
        steps: [
          { step_id: 'held', ...shellAt(b, gate.command) },
          {
            step_id: 'each',
            foreach: ['x', 'y'],
            depends_on: ['held'],
            ...shellAt(c, ['sh', '-c', 'echo "item $1"', 'sh', '${ item }']),
          },
        ],
      });
      await gate.pid();
      const early = await c.call('workflow_result', { workflow_id: 'wf-result' });
      expect(early).toMatchObject({ status: 'running', result: null, execution_time_ms: null, outputs: {} });
      await gate.open();
      await c.workflowEnds('wf-result');
      const result = await c.call('workflow_result', { workflow_id: 'wf-result', include_logs: true });
      const items = [{ stdout: 'item x' }, { stdout: 'item y' }];
      expect(result).toMatchObject({
        ...{ status: 'completed', error: null },
        outputs: { held: { exit_code: 0, stdout: 'through' }, each: items },
        logs: [
          { step_id: 'held', stream: 'stdout', line: 'through' },
          { step_id: 'each', index: 0, line: 'item x' },
          { step_id: 'each', index: 1, line: 'item y' },
        ],
      });
      expect(result['result']).toMatchObject({ each: items });
      expect(result['execution_time_ms']).toBeGreaterThan(0);
      const bare = await b.call('workflow_result', { workflow_id: 'wf-result', include_outputs: false });
      expect(bare).not.toHaveProperty('outputs');
    },
  },

  refusals: () => ({
    workflow_submit: [
      refused('INVALID_INPUT', /name: is missing/, { steps: [echo('s')] }),
      refused('INVALID_INPUT', /at least one step/, { name: 'x', steps: [] }),
      refused('INVALID_INPUT', /did you mean "tags"/, { name: 'x', steps: [echo('s')], tag: ['y'] }),
      refused('INVALID_WORKFLOW', /"s"/, { name: 'x', steps: [echo('s'), echo('s')] }),
      refused('CONFLICT', /"wf-done" exists already .* other content/, {
        ...{ workflow_id: 'wf-done', name: 'x', steps: [echo('other')] },
      }),
      refused('UNKNOWN_DEPENDENCY', /"wf-nowhere"/, { name: 'x', steps: [echo('s')], dependencies: ['wf-nowhere'] }),
    ],
    workflow_status: [
      refused('NOT_FOUND', /"wf-nowhere".*workflow_list/, { workflow_id: 'wf-nowhere' }),
      refused('INVALID_INPUT', /workflow_id: is missing/, {}),
      refused('INVALID_INPUT', /workflow_id/, { workflow_id: 'wf done' }),
      refused('INVALID_INPUT', /include_steps/, { workflow_id: 'wf-done', include_steps: 'yes' }),
    ],
    workflow_cancel: [
      refused('NOT_FOUND', /"wf-nowhere"/, { workflow_id: 'wf-nowhere' }),
      refused('INVALID_STATE', /wf-done is completed already/, { workflow_id: 'wf-done' }),
      refused('INVALID_INPUT', /force: must be true or false/, { workflow_id: 'wf-open', force: 1 }),
    ],
    workflow_list: [
      refused('INVALID_INPUT', /limit/, { limit: 0 }),
      refused('INVALID_INPUT', /did you mean "completed"/, { status_filter: 'complete' }),
      refused('INVALID_INPUT', /tag_filter: must be a list/, { tag_filter: 'red' }),
      refused('LIMIT_EXCEEDED', /offset \+ limit/, { scope: 'mesh', offset: 1_000_000 }),
    ],
    workflow_dependencies: [
      refused('NOT_FOUND', /"wf-nowhere"/, { workflow_id: 'wf-nowhere' }),
      refused('INVALID_INPUT', /"json", "dot", "mermaid"/, { workflow_id: 'wf-done', format: 'svg' }),
      refused('INVALID_INPUT', /fmt/, { workflow_id: 'wf-done', format: 'dot', fmt: 'json' }),
    ],
    workflow_result: [
      refused('NOT_FOUND', /"wf-nowhere"/, { workflow_id: 'wf-nowhere' }),
      refused('INVALID_INPUT', /did you mean "include_logs"/, { workflow_id: 'wf-done', include_log: true }),
    ],
  }),
});
