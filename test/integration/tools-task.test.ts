/** The seven task tools on a mesh of three, over MCP. */
import { writeFile } from 'node:fs/promises';
import { expect } from 'vitest';
import type { JsonObject } from '../../dag/errors.ts';
import { INPUT_BYTES_MAX } from '../../dag/limits.ts';
import { waitUntilGone } from '../executors/processes.ts';
import { coverTools, refused, TOOLS, type ToolPeer, toolMesh } from './tool-mesh.ts';

const mesh = toolMesh();

const shellAt = (peer: ToolPeer, command: string[]) => {
  return { task_type: 'shell', payload: { command }, requires: { peers: [peer.peer_id] } };
};
const ids = ({ tasks }: JsonObject) => (tasks as { task_id: string }[]).map(({ task_id }) => task_id);

coverTools(TOOLS.task, mesh, {
  effects: {
    async task_submit() {
      const { a, b, c } = mesh;
      const task = {
        task_id: 'submitted',
        ...shellAt(b, mesh.append('submitted', 'ran')),
        tags: ['x'],
        metadata: { n: 1 },
      };
      const accepted = await a.call('task_submit', task);
      expect(accepted).toMatchObject({
        task_id: 'submitted',
        owner_peer_id: a.peer_id,
        durability: { copies: 2, wanted: 2 },
      });
      expect(accepted).not.toHaveProperty('duplicate');
      expect(await c.taskEnds('submitted')).toMatchObject({
        ...{ status: 'completed', peer_id: b.peer_id, owner_peer_id: a.peer_id, attempt: 1 },
        placement: { considered: 1, chosen: { peer_id: b.peer_id }, found_by: 'connected' },
      });
      expect(await mesh.lines('submitted')).toEqual(['ran']);

      // Once more, at another peer: it is the same task and does not run again.
      const again = await c.call('task_submit', task);
      expect(again).toMatchObject({ duplicate: true, status: 'completed', owner_peer_id: a.peer_id });
      expect(await mesh.lines('submitted')).toEqual(['ran']);

      const { task_id } = await b.call('task_submit', { task_type: 'echo', payload: { made: true } });
      expect(await c.taskEnds(String(task_id))).toMatchObject({ status: 'completed', owner_peer_id: b.peer_id });
    },

    async task_status() {
      const { a, b, c } = mesh;
      const gate = mesh.gate('status');
      await a.call('task_submit', { task_id: 'status', ...shellAt(b, gate.command) });
      await gate.pid();
      const running = await c.call('task_status', { task_id: 'status', include_metrics: true });
      expect(running).toMatchObject({
        ...{ task_type: 'shell', status: 'running', attempt: 1, peer_id: b.peer_id, owner_peer_id: a.peer_id },
        ...{ worker_id: `worker-${b.peer_id.slice(-8)}`, end_time: null, queue_position: null, dead_letter: false },
        metrics: { attempts: 1, failures: 0, retries_left: 0 },
      });
      await gate.open();
      await c.taskEnds('status');
      const ended = await c.call('task_status', { task_id: 'status', include_logs: true });
      expect(ended).toMatchObject({ progress: 100, logs: [{ attempt: 1, stream: 'stdout', line: 'through' }] });
      expect(Date.parse(String(ended['end_time']))).toBeGreaterThanOrEqual(Date.parse(String(ended['start_time'])));

      // Seen from where it is not kept: why it does not start.
      const waiting = await c.call('task_status', { task_id: 't-later' });
      expect(waiting).toMatchObject({ status: 'queued', attempt: 0, start_time: null, owner_peer_id: b.peer_id });
      await a.call('task_submit', { task_id: 'nowhere', task_type: 'echo', requires: { labels: ['no-such-label'] } });
      const unplaced = await c.call('task_status', { task_id: 'nowhere' });
      expect(unplaced).toMatchObject({ status: 'queued', queue_position: 0 });
    },

    async task_cancel() {
      const { a, b, c } = mesh;
      const gate = mesh.gate('cancelled');
      await a.call('task_submit', { task_id: 'cancelled', ...shellAt(b, gate.command) });
      const pid = await gate.pid();
      const cancelled = await c.call('task_cancel', { task_id: 'cancelled', reason: 'not wanted' });
      expect(cancelled).toMatchObject({ status: 'cancelled', cleanup_required: true });
      await waitUntilGone([pid]);
      expect(await b.call('task_result', { task_id: 'cancelled' })).toMatchObject({
        ...{ status: 'cancelled', result: null, error: { code: 'CANCELLED' } },
      });

      const later = { task_id: 'cancelled-later', ...shellAt(b, mesh.append('later', 'ran')), delay_ms: 600_000 };
      await a.call('task_submit', later);
      const unstarted = await b.call('task_cancel', { task_id: 'cancelled-later' });
      expect(unstarted).toMatchObject({ status: 'cancelled', cleanup_required: false });
      expect(await c.call('task_status', { task_id: 'cancelled-later' })).toMatchObject({ status: 'cancelled' });
    },

    async task_list() {
      const { a, b, c } = mesh;
      await a.call('task_submit', { task_id: 'list-1', task_type: 'echo', tags: ['listed', 'red'], priority: 5 });
      await b.call('task_submit', { task_id: 'list-2', ...shellAt(c, ['true']), tags: ['listed'] });
      await a.call('task_submit', { task_id: 'list-3', ...shellAt(c, ['false']), tags: ['listed', 'red'] });
      for (const id of ['list-1', 'list-2', 'list-3']) await c.taskEnds(id);

      const listed = (input: JsonObject) => c.call('task_list', { tag_filter: ['listed'], ...input });
      expect(ids(await listed({ scope: 'local' }))).toEqual([]);
      const all = await listed({});
      expect(ids(all)).toEqual(['list-3', 'list-2', 'list-1']);
      expect(all).toMatchObject({ total_count: 3, returned_count: 3, has_more: false, missing: [] });
      const filters: [JsonObject, string[]][] = [
        [{ tag_filter: ['red', 'listed'] }, ['list-3', 'list-1']],
        [{ status_filter: 'completed' }, ['list-2', 'list-1']],
        [{ dead_letter: true }, ['list-3']],
        [{ priority_min: 5 }, ['list-1']],
        [{ worker_filter: `worker-${c.peer_id.slice(-8)}` }, ['list-3', 'list-2']],
        [{ limit: 1, offset: 2 }, ['list-1']],
      ];
      for (const [filter, expected] of filters) {
        expect(ids(await listed(filter)), JSON.stringify(filter)).toEqual(expected);
      }
      expect(await listed({ limit: 2 })).toMatchObject({ total_count: 3, has_more: true });
    },

    async task_priority() {
      const { a, b, c } = mesh;
      await a.call('queue_pause');
      for (const id of ['p-1', 'p-2'])
        await a.call('task_submit', { task_id: id, ...shellAt(b, mesh.append('order', id)) });
      expect(await c.call('task_status', { task_id: 'p-2' })).toMatchObject({ queue_position: 2, priority: 1 });
      const boosted = await c.call('task_priority', { task_id: 'p-2', boost: 3 });
      expect(boosted).toMatchObject({ old_priority: 1, new_priority: 4, new_queue_position: 0 });
      expect(await b.call('task_status', { task_id: 'p-1' })).toMatchObject({ queue_position: 2 });
      const set = await b.call('task_priority', { task_id: 'p-1', new_priority: 10 });
      expect(set).toMatchObject({ old_priority: 1, new_priority: 10, new_queue_position: 0 });
      const demoted = await c.call('task_priority', { task_id: 'p-1', demote: 9.5 });
      expect(demoted).toMatchObject({ old_priority: 10, new_priority: 0.5, new_queue_position: 2 });
      await a.call('queue_resume');
      for (const id of ['p-1', 'p-2']) expect(await c.taskEnds(id)).toMatchObject({ status: 'completed' });
    },

    async task_retry() {
      const { a, b, c } = mesh;
      const needs = mesh.path('needed');
      await a.call('task_submit', { task_id: 'retried', ...shellAt(b, ['cat', needs]) });
      expect(await c.taskEnds('retried')).toMatchObject({ status: 'failed', dead_letter: true });
      await writeFile(needs, 'here now');
      const retried = await c.call('task_retry', { task_id: 'retried' });
      expect(retried).toMatchObject({ task_id: 'retried', retry_task_id: 'retried-retry-1', retry_count: 1 });
      expect(await b.taskEnds('retried-retry-1')).toMatchObject({
        ...{ status: 'completed', retry_of: 'retried', owner_peer_id: a.peer_id, peer_id: b.peer_id },
      });
      expect(await c.call('task_status', { task_id: 'retried' })).toMatchObject({
        status: 'failed',
        dead_letter: true,
      });
    },

    async task_result() {
      const { a, b, c } = mesh;
      const gate = mesh.gate('result');
      await a.call('task_submit', { task_id: 'result', ...shellAt(b, gate.command) });
      await gate.pid();
      const early = await c.call('task_result', { task_id: 'result' });
      expect(early).toMatchObject({ status: 'running', result: null, execution_time_ms: null, attempts: 1 });
      await gate.open();
      await c.taskEnds('result');
      const result = await c.call('task_result', { task_id: 'result', include_logs: true });
      expect(result).toMatchObject({
        ...{ status: 'completed', error: null, attempts: 1, logs_dropped: 0 },
        result: { exit_code: 0, stdout: 'through', stderr: '' },
        logs: [{ stream: 'stdout', line: 'through' }],
      });
      expect(result['output']).toEqual(result['result']);
      expect(result['execution_time_ms']).toBeGreaterThan(0);
      expect(await b.call('task_result', { task_id: 'result', include_output: false })).not.toHaveProperty('output');
    },
  },

  refusals: () => ({
    task_submit: [
      refused('INVALID_INPUT', /task_type: is missing/, { payload: {} }),
      refused('INVALID_INPUT', /did you mean "priority"/, { task_type: 'echo', prioriti: 3 }),
      refused('INVALID_INPUT', /priority/, { task_type: 'echo', priority: 11 }),
      refused('INVALID_INPUT', /deadline: must be a time/, { task_type: 'echo', deadline: 'tomorrow' }),
      refused('INVALID_INPUT', /retry_policy\.max_retries/, { task_type: 'echo', retry_policy: { max_retries: -1 } }),
      refused('UNKNOWN_ACTION', /did you mean "shell"/, { task_type: 'shel' }),
      refused('UNKNOWN_DEPENDENCY', /"t-nowhere"/, { task_type: 'echo', depends_on: ['t-nowhere'] }),
      refused('CONFLICT', /"t-done" exists already .* other content/, { task_id: 't-done', task_type: 'echo' }),
      refused('LIMIT_EXCEEDED', /INPUT_BYTES_MAX/, {
        task_type: 'echo',
        payload: { text: 'x'.repeat(INPUT_BYTES_MAX) },
      }),
    ],
    task_status: [
      refused('NOT_FOUND', /"t-nowhere".*task_list/, { task_id: 't-nowhere' }),
      refused('INVALID_INPUT', /task_id/, { task_id: '' }),
      refused('INVALID_INPUT', /include_logs/, { task_id: 't-done', include_logs: 'yes' }),
    ],
    task_cancel: [
      refused('NOT_FOUND', /"t-nowhere"/, { task_id: 't-nowhere' }),
      refused('INVALID_STATE', /t-done is completed already/, { task_id: 't-done' }),
      refused('INVALID_INPUT', /force/, { task_id: 't-later', force: 'now' }),
    ],
    task_list: [
      refused('INVALID_INPUT', /limit/, { limit: 1_001 }),
      refused('INVALID_INPUT', /priority_min/, { priority_min: -1 }),
      refused('INVALID_INPUT', /status_filter: must be one of/, { status_filter: 'dead' }),
      refused('INVALID_INPUT', /did you mean "mesh"/, { scope: 'mash' }),
    ],
    task_priority: [
      refused('INVALID_INPUT', /exactly one of/, { task_id: 't-later' }),
      refused('INVALID_INPUT', /exactly one of/, { task_id: 't-later', boost: 1, new_priority: 3 }),
      refused('INVALID_INPUT', /new_priority/, { task_id: 't-later', new_priority: 10.5 }),
      refused('INVALID_STATE', /t-done is completed already/, { task_id: 't-done', boost: 1 }),
      refused('NOT_FOUND', /"t-nowhere"/, { task_id: 't-nowhere', boost: 1 }),
    ],
    task_retry: [
      refused('NOT_FOUND', /"t-nowhere"/, { task_id: 't-nowhere' }),
      refused('INVALID_STATE', /t-done is completed/, { task_id: 't-done' }),
      refused('INVALID_STATE', /t-later is queued/, { task_id: 't-later' }),
      refused('INVALID_INPUT', /retry_config\.max_retries/, { task_id: 't-dead', retry_config: { max_retries: 101 } }),
    ],
    task_result: [
      refused('NOT_FOUND', /"t-nowhere"/, { task_id: 't-nowhere' }),
      refused('INVALID_INPUT', /task_id: is missing/, { include_logs: true }),
      refused('INVALID_INPUT', /include_output/, { task_id: 't-done', include_output: 'no' }),
    ],
  }),
});
