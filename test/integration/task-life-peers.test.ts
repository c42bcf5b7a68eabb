/** What tasks live through when a peer stops or is killed, on a mesh of three, seen from outside. */
import { describe, expect, it } from 'vitest';
import type { JsonObject } from '../../dag/errors.ts';
import { eventually } from '../harness/eventually.ts';
import { HANG_MS } from '../harness/patience.ts';
import { toolMesh } from './tool-mesh.ts';

const ARGS = ['--allow-shell', '*', '--slots', '4'];

describe('a peer that starts again', () => {
  // Nobody takes over what is its own meanwhile, however long its start takes.
  const mesh = toolMesh({ args: [...ARGS, '--takeover-ms', String(HANG_MS)] });

  it('a paused queue stays paused over a restart, with what waits in it', async () => {
    const { a, b, c } = mesh;
    await c.call('queue_pause', { reason: 'night' });
    await c.call('task_submit', {
      task_id: 'overnight',
      task_type: 'shell',
      payload: { command: mesh.append('overnight', 'ran') },
      requires: { peers: [b.peer_id] },
    });
    await c.restart();
    await mesh.processes.allConnected();
    expect(await c.call('queue_stats', { scope: 'local' })).toMatchObject({ paused: true });
    expect(await a.call('task_status', { task_id: 'overnight' })).toMatchObject({ status: 'queued', attempt: 0 });
    await a.call('queue_resume', { scope: 'mesh' });
    expect(await a.taskEnds('overnight')).toMatchObject({ status: 'completed', owner_peer_id: c.peer_id });
    expect(await mesh.lines('overnight')).toEqual(['ran']);
  });
});

describe('a peer that is', () => {
  const mesh = toolMesh({ args: ARGS });

  const script = (text: string, ...words: string[]) => {
    return { task_type: 'shell', payload: { command: ['sh', '-c', text, 'sh', ...words] } };
  };
  const submit = (task_id: string, ...parts: JsonObject[]) =>
    mesh.a.call('task_submit', Object.assign({ task_id }, ...parts));

  it('killed, its tasks run elsewhere, but those that may start once only have failed', async () => {
    const { b, c } = mesh;
    const first = script('echo $$ >>"$1"; test "$FLOWMESH_ATTEMPT" -gt 1 || sleep 300', mesh.path('first'));
    const only = script('echo $$ >>"$1"; sleep 300; true', mesh.path('only'));
    await c.call('worker_register', { worker_id: 'w-doomed', capabilities: ['shell', 'doomed'] });
    const doomed = { requires: { labels: ['doomed'] } };
    await submit('repeated', first, doomed);
    await submit('only-once', only, doomed, { at_most_once: true });
    const pids = await eventually('both run', async () => {
      const lines = [...(await mesh.lines('first')), ...(await mesh.lines('only'))];
      return lines.length === 2 && lines.map(Number);
    });
    await b.call('worker_register', { worker_id: 'w-heir-of-c', capabilities: ['shell', 'doomed'] });
    await c.process.kill('SIGKILL');
    // Their peer cannot end them any more.
    for (const pid of pids) process.kill(-pid, 'SIGKILL');
    expect(await b.taskEnds('repeated')).toMatchObject({ status: 'completed', attempt: 2, peer_id: b.peer_id });
    expect(await b.taskEnds('only-once')).toMatchObject({
      ...{ status: 'failed', attempt: 1, peer_id: c.peer_id, error: { code: 'WORKER_LOST' } },
    });
    expect(await mesh.lines('only')).toHaveLength(1);
  });
});
