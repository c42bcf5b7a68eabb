/** The four queue tools and the three worker tools on a mesh of three, over MCP. */
import { expect } from 'vitest';
import type { JsonObject } from '../../dag/errors.ts';
import { eventually } from '../harness/eventually.ts';
import { coverTools, refused, TOOLS, type ToolPeer, toolMesh } from './tool-mesh.ts';

const mesh = toolMesh();

const echoAt = (peer: ToolPeer) => ({ task_type: 'echo', requires: { peers: [peer.peer_id] } });

coverTools(TOOLS.queue, mesh, {
  effects: {
    async queue_stats() {
      const { a, b, c } = mesh;
      const [own, all] = [
        await a.call('queue_stats', { scope: 'local' }),
        await c.call('queue_stats', { scope: 'mesh' }),
      ];
      const gate = mesh.gate('stats');
      await a.call('task_submit', { task_id: 's-1', ...echoAt(b) });
      await a.call('task_submit', { task_id: 's-2', task_type: 'shell', payload: { command: ['false'] } });
      await a.call('task_submit', { task_id: 's-3', task_type: 'echo', delay_ms: 600_000 });
      await a.call('task_submit', {
        task_id: 's-4',
        ...echoAt(b),
        task_type: 'shell',
        payload: { command: gate.command },
      });
      await gate.pid();
      for (const id of ['s-1', 's-2']) await b.taskEnds(id);
      const more = (stats: JsonObject, field: string, count: number) => [field, Number(stats[field]) + count];
      const expected = (stats: JsonObject) =>
        Object.fromEntries(
          ['queued_count', 'running_count', 'completed_count', 'dead_letter_count'].map((it) => more(stats, it, 1)),
        );
      expect(await a.call('queue_stats', { scope: 'local' })).toMatchObject({ ...expected(own), paused: false });
      const seen = await c.call('queue_stats', {
        ...{ include_worker_stats: true, include_historical: true },
      });
      expect(seen).toMatchObject({ ...expected(all), missing: [] });
      expect(seen['average_execution_time_ms']).toBeGreaterThan(0);
      const minutes = seen['historical'] as { completed: number; failed: number }[];
      const ended = Number(seen['completed_count']) + Number(seen['dead_letter_count']);
      expect(minutes.reduce((sum, { completed, failed }) => sum + completed + failed, 0)).toBe(ended);
      const workers = seen['worker_stats'] as { peer_id: string; running_tasks: number; utilization: number }[];
      expect(new Set(workers.map(({ peer_id }) => peer_id))).toEqual(new Set(mesh.peers.map((peer) => peer.peer_id)));
      expect(workers).toContainEqual(
        expect.objectContaining({ peer_id: b.peer_id, running_tasks: 1, utilization: 0.25 }),
      );
      await gate.open();
      await b.taskEnds('s-4');
    },

    async queue_pause() {
      const { a, b, c } = mesh;
      const gate = mesh.gate('pause');
      await b.call('task_submit', { task_id: 'pause-runs', task_type: 'shell', payload: { command: gate.command } });
      await gate.pid();
      const paused = await a.call('queue_pause', { scope: 'mesh', reason: 'maintenance' });
      expect(paused).toMatchObject({ status: 'paused', reason: 'maintenance', missing: [] });
      expect(paused['running_tasks']).toBeGreaterThanOrEqual(1);
      // Accepted everywhere, started nowhere, also where another peer would run it.
      for (const [peer, id] of [
        [b, 'pause-b'],
        [c, 'pause-c'],
      ] as const) {
        const accepted = await peer.call('task_submit', { task_id: id, ...echoAt(a) });
        expect(accepted).toMatchObject({ status: 'queued', assigned_worker: null });
      }
      expect(await c.call('queue_stats', { scope: 'mesh' })).toMatchObject({
        ...{ paused: true, paused_peers: mesh.peers.map((peer) => peer.peer_id).sort() },
      });
      // What runs goes on to its end, and nothing follows it.
      await gate.open();
      expect(await a.taskEnds('pause-runs')).toMatchObject({ status: 'completed' });
      for (const id of ['pause-b', 'pause-c']) {
        expect(await a.call('task_status', { task_id: id })).toMatchObject({ status: 'queued', attempt: 0 });
      }
    },

    async queue_resume() {
      const { a, b, c } = mesh;
      await a.call('queue_pause', { scope: 'mesh' });
      await b.call('task_submit', { task_id: 'resume-b', ...echoAt(c) });
      expect(await b.call('queue_resume')).toMatchObject({ status: 'active', reordered: false });
      expect(await a.taskEnds('resume-b')).toMatchObject({ status: 'completed', peer_id: c.peer_id });
      expect(await b.call('queue_stats', { scope: 'mesh' })).toMatchObject({
        ...{ paused: true, paused_peers: [a.peer_id, c.peer_id].sort() },
      });

      await a.call('task_submit', { task_id: 'resume-a', ...echoAt(b) });
      expect(await c.call('queue_resume', { scope: 'mesh' })).toMatchObject({ status: 'active', missing: [] });
      expect(await c.taskEnds('resume-a')).toMatchObject({ status: 'completed' });
      expect(await b.call('queue_stats', { scope: 'mesh' })).toMatchObject({ paused: false, paused_peers: [] });
    },

    async queue_clear() {
      const { a, b, c } = mesh;
      await b.call('task_submit', { task_id: 'clear-dead', task_type: 'shell', payload: { command: ['false'] } });
      await b.call('task_submit', { task_id: 'clear-done', task_type: 'echo' });
      for (const id of ['clear-dead', 'clear-done']) await b.taskEnds(id);
      const dead = await b.call('queue_stats', { scope: 'local' });
      const cleared = await b.call('queue_clear', { confirm: true, status_filter: 'dead_letter' });
      expect(cleared['cleared_count']).toBe(dead['dead_letter_count']);
      expect(await c.refuse('task_status', { task_id: 'clear-dead' })).toMatchObject({ code: 'NOT_FOUND' });
      expect(await c.call('task_status', { task_id: 'clear-done' })).toMatchObject({ status: 'completed' });
      expect(await b.call('queue_stats', { scope: 'local' })).toMatchObject({ dead_letter_count: 0 });

      // Of another peer's queue nothing is touched, and what runs is left alone.
      await a.call('task_submit', { task_id: 'clear-of-a', task_type: 'echo', delay_ms: 600_000 });
      const gate = mesh.gate('clear');
      await b.call('task_submit', { task_id: 'clear-runs', task_type: 'shell', payload: { command: gate.command } });
      await gate.pid();
      await b.call('task_submit', { task_id: 'clear-later', task_type: 'echo', delay_ms: 600_000 });
      await b.call('queue_clear', { confirm: true });
      expect(await c.call('task_status', { task_id: 'clear-later' })).toMatchObject({ status: 'cancelled' });
      expect(await c.call('task_status', { task_id: 'clear-runs' })).toMatchObject({ status: 'running' });
      expect(await c.call('task_status', { task_id: 'clear-of-a' })).toMatchObject({ status: 'queued' });
      await gate.open();
      expect(await c.taskEnds('clear-runs')).toMatchObject({ status: 'completed' });
    },

    async worker_register() {
      const { a, b, c } = mesh;
      const registered = await b.call('worker_register', {
        ...{ worker_id: 'w-registered', capabilities: ['echo', 'press'], max_concurrent_tasks: 2 },
        resource_limits: { cpu_cores: 8 },
      });
      expect(registered).toMatchObject({ status: 'active', assigned_peers: [b.peer_id] });
      expect(await a.call('worker_status', { worker_id: 'w-registered' })).toMatchObject({
        ...{ peer_id: b.peer_id, status: 'idle', actions: ['echo'], labels: ['press'] },
        resource_usage: { slots: 2, slots_used: 0, cpu_cores: 8, memory_gb: null },
      });
      // Used by tasks of another peer that need its label, and its cores.
      await c.call('task_submit', {
        ...{ task_id: 'pressed', task_type: 'echo', requires: { labels: ['press'], cpu_cores: 6 } },
      });
      expect(await a.taskEnds('pressed')).toMatchObject({
        ...{ status: 'completed', worker_id: 'w-registered', peer_id: b.peer_id, owner_peer_id: c.peer_id },
      });
      expect(await c.call('worker_status', { worker_id: 'w-registered' })).toMatchObject({ completed_tasks: 1 });
      // An action that it does not name is not run there, whatever its label.
      const shell = { task_type: 'shell', payload: { command: ['true'] }, requires: { labels: ['press'] } };
      await c.call('task_submit', { task_id: 'unpressed', ...shell });
      expect(await a.call('task_status', { task_id: 'unpressed' })).toMatchObject({ status: 'queued' });
      await a.call('task_cancel', { task_id: 'unpressed' });
    },

    async worker_unregister() {
      const { a, b, c } = mesh;
      await b.call('worker_register', { worker_id: 'w-leaves', capabilities: ['shell', 'leaving'] });
      const gate = mesh.gate('unregister');
      const work = { task_type: 'shell', requires: { labels: ['leaving'] } };
      await c.call('task_submit', { task_id: 'leaves-1', ...work, payload: { command: gate.command } });
      await gate.pid();
      const leaving = a.call('worker_unregister', { worker_id: 'w-leaves' });
      await eventually('it takes nothing new', async () => {
        return (await c.call('worker_status', { worker_id: 'w-leaves' }))['status'] === 'draining';
      });
      await c.call('task_submit', { task_id: 'leaves-2', ...work, payload: { command: mesh.append('left', 'ran') } });
      await gate.open();
      expect(await leaving).toMatchObject({ status: 'offline', completed_tasks: 1, abandoned_tasks: 0 });
      expect(await c.call('worker_status', { worker_id: 'w-leaves' })).toMatchObject({
        ...{ status: 'offline', peer_id: b.peer_id, completed_tasks: null },
      });
      expect(await a.taskEnds('leaves-1')).toMatchObject({ status: 'completed', attempt: 1 });
      // What came too late waits for somebody else who offers this.
      expect(await a.call('task_status', { task_id: 'leaves-2' })).toMatchObject({ status: 'queued' });
      await a.call('worker_register', { worker_id: 'w-comes', capabilities: ['shell', 'leaving'] });
      expect(await b.taskEnds('leaves-2')).toMatchObject({ status: 'completed', worker_id: 'w-comes' });
      expect(await mesh.lines('left')).toEqual(['ran']);
    },

    async worker_status() {
      const { a, b, c } = mesh;
      await b.call('worker_register', {
        ...{ worker_id: 'w-shown', capabilities: ['shell', 'shown'], max_concurrent_tasks: 1 },
      });
      const gate = mesh.gate('shown');
      const work = { task_type: 'shell', requires: { labels: ['shown'] } };
      await b.call('task_submit', { task_id: 'shown', ...work, payload: { command: gate.command } });
      await gate.pid();
      const ask = { worker_id: 'w-shown', include_tasks: true, include_metrics: true };
      expect(await a.call('worker_status', ask)).toMatchObject({
        ...{ status: 'busy', peer_id: b.peer_id, running_tasks: 1, completed_tasks: 0, failed_tasks: 0 },
        resource_usage: { slots: 1, slots_used: 1, slots_free: 0 },
        tasks: [{ task_id: 'shown', task_type: 'shell', status: 'running' }],
        metrics: { utilization: 1, success_rate: null },
      });
      await gate.open();
      await c.taskEnds('shown');
      await c.call('task_submit', { task_id: 'shown-bad', ...work, payload: { command: ['false'] } });
      await b.taskEnds('shown-bad');
      expect(await c.call('worker_status', ask)).toMatchObject({
        ...{ status: 'idle', running_tasks: 0, completed_tasks: 1, failed_tasks: 1, tasks: [] },
        metrics: { utilization: 0, success_rate: 0.5 },
      });
    },
  },

  refusals: () => ({
    queue_stats: [
      refused('INVALID_INPUT', /scope: must be one of "local", "mesh"/, { scope: 'all' }),
      refused('INVALID_INPUT', /did you mean "include_historical"/, { include_historic: true }),
    ],
    queue_pause: [
      refused('INVALID_INPUT', /scope/, { scope: 'everything' }),
      refused('INVALID_INPUT', /reason: must be a string/, { reason: 5 }),
    ],
    queue_resume: [
      refused('INVALID_INPUT', /reorder_by_priority/, { reorder_by_priority: 'no' }),
      refused('INVALID_INPUT', /did you mean "reorder_by_priority"/, { reorder_by_priorty: true }, 'b'),
    ],
    queue_clear: [
      refused('INVALID_INPUT', /confirm: is missing/, {}, 'b'),
      refused('CONFIRM_REQUIRED', /confirm: true/, { confirm: false }, 'b'),
      refused('INVALID_INPUT', /status_filter/, { confirm: true, status_filter: 'completed' }, 'b'),
      refused('INVALID_INPUT', /did you mean "status_filter"/, { confirm: true, status_filtr: 'queued' }, 'b'),
    ],
    worker_register: [
      refused('INVALID_INPUT', /capabilities: must name at least one/, { worker_id: 'w-bad', capabilities: [] }),
      refused('INVALID_INPUT', /max_concurrent_tasks/, {
        ...{ worker_id: 'w-bad', capabilities: ['echo'], max_concurrent_tasks: 0 },
      }),
      refused('INVALID_INPUT', /cpu_cores/, {
        ...{ worker_id: 'w-bad', capabilities: ['echo'], resource_limits: { cpu_cores: -2 } },
      }),
      refused('CONFLICT', /"w-seed" exists/, { worker_id: 'w-seed', capabilities: ['echo'] }),
    ],
    worker_unregister: [
      refused('NOT_FOUND', /"w-nowhere"/, { worker_id: 'w-nowhere' }),
      refused('INVALID_INPUT', /timeout_ms/, { worker_id: 'w-seed', timeout_ms: -1 }),
      refused('INVALID_INPUT', /graceful/, { worker_id: 'w-seed', graceful: 'yes' }),
    ],
    worker_status: [
      refused('NOT_FOUND', /"w-nowhere".*queue_stats/, { worker_id: 'w-nowhere' }),
      refused('INVALID_INPUT', /worker_id: is missing/, { include_tasks: true }),
      refused('INVALID_INPUT', /include_tasks/, { worker_id: 'w-seed', include_tasks: 'yes' }),
    ],
  }),
});
