import { existsSync } from 'node:fs';
import { expect, it } from 'vitest';
import { eventually } from './eventually.ts';
import { startProcesses } from './processes.ts';

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

it('three processes make a mesh that a real MCP client can use, and leave nothing behind', async () => {
  const mesh = await startProcesses(3);
  const pids = mesh.peers.map((peer) => peer.pid);
  try {
    const client = await mesh.peers[1]!.mcp();
    expect((await client.listTools()).tools).toHaveLength(26);
    const { peers } = (await mesh.peers[2]!.call('peer_list')) as { peers: { peer_id: string }[] };
    expect(peers.map((peer) => peer.peer_id).sort()).toEqual([mesh.peers[0]!.peer_id, mesh.peers[1]!.peer_id].sort());
    await expect(mesh.peers[0]!.call('task_status', { task_id: 'nobody' })).rejects.toMatchObject({
      code: 'NOT_FOUND',
    });
  } finally {
    await mesh.close();
  }
  expect(pids.map(isAlive)).toEqual([false, false, false]);
  expect(existsSync(mesh.home)).toBe(false);
});

it('a process that is killed comes back on its folder and ports; one that is paused answers after it', async () => {
  await using mesh = await startProcesses(2);
  const [first, second] = [mesh.peers[0]!, mesh.peers[1]!];
  await second.call('task_submit', { task_id: 'kept', task_type: 'sleep', payload: { duration_ms: 600_000 } });
  const before = { id: second.peer_id, url: second.url, pid: second.pid };
  await second.kill('SIGKILL');
  expect(second.isRunning).toBe(false);
  await second.start();
  expect({ id: second.peer_id, url: second.url }).toEqual({ id: before.id, url: before.url });
  expect(second.pid).not.toBe(before.pid);
  await mesh.allConnected();
  expect(await first.call('task_status', { task_id: 'kept' })).toMatchObject({ status: 'running' });

  second.pause();
  const answer = second.call('queue_stats', { scope: 'local' });
  expect(
    await Promise.race([
      answer.then(() => 'answered'),
      first.call('queue_stats', { scope: 'local' }).then(() => 'paused'),
    ]),
  ).toBe('paused');
  second.resume();
  expect(await answer).toMatchObject({ success: true });
});

it('a peer that cannot start says why', async () => {
  await expect(startProcesses(1, { args: ['--slots', 'many'] })).rejects.toThrow(/--slots many/);
});

it('in a line the ends are connected to the middle alone', async () => {
  await using mesh = await startProcesses(3, { topology: 'line' });
  const counts = await Promise.all(mesh.peers.map(async (peer) => (await peer.ready())?.connected_peers));
  expect(counts).toEqual([1, 2, 1]);
  await eventually('all are still ready', async () => (await mesh.peers[0]!.ready())?.ready);
});
