import { existsSync } from 'node:fs';
import { expect, it } from 'vitest';
import { eventually } from './eventually.ts';
import { startMeshInProcess } from './in-process.ts';

it('three peers in a full mesh: a task submitted to one is answered by another, and nothing is left behind', async () => {
  const mesh = await startMeshInProcess(3);
  try {
    const { task_id } = await mesh.peers[0]!.call('task_submit', { task_type: 'echo', payload: { hello: 'mesh' } });
    const result = await eventually('the task is completed', async () => {
      const answer = await mesh.peers[2]!.call('task_result', { task_id: task_id! });
      return answer['status'] === 'completed' && answer;
    });
    expect(result).toMatchObject({ success: true, output: { hello: 'mesh' } });
  } finally {
    await mesh.close();
  }
  expect(existsSync(mesh.root)).toBe(false);
});

it('in a line the ends are not connected, in a star only the centre is', async () => {
  await using line = await startMeshInProcess(3, { topology: 'line' });
  const connected = line.peers.map((peer) => peer.mesh.network.connected().sort());
  const ids = line.peers.map((peer) => peer.peer_id);
  expect(connected[0]).toEqual([ids[1]]);
  expect(connected[1]).toEqual([ids[0], ids[2]].sort());
  expect(connected[2]).toEqual([ids[1]]);
  await using star = await startMeshInProcess(4, { topology: 'star' });
  expect(star.peers.map((peer) => peer.mesh.network.connected().length)).toEqual([3, 1, 1, 1]);
});

it('a peer that is killed is gone for the others and comes back as itself with its records', async () => {
  await using mesh = await startMeshInProcess(2);
  const [first, second] = [mesh.peers[0]!, mesh.peers[1]!];
  await second.call('task_submit', { task_id: 'kept', task_type: 'sleep', payload: { duration_ms: 600_000 } });
  await second.kill();
  await eventually('the other side has noticed', () => first.mesh.network.connected().length === 0);
  expect(() => second.router).toThrow('does not run');
  await second.start();
  await mesh.allConnected();
  expect(second.mesh.network.self).toBe(second.peer_id);
  expect(await first.call('task_status', { task_id: 'kept' })).toMatchObject({ status: 'running' });
});

it('two peers can be separated and joined again', async () => {
  await using mesh = await startMeshInProcess(2);
  mesh.separate(0, 1);
  await eventually('they are apart', () => mesh.peers.every((peer) => peer.mesh.network.connected().length === 0));
  mesh.join(0, 1);
  await mesh.allConnected();
});
