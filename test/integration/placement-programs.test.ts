/** Programs and private addresses that one of three peers allows. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, it } from 'vitest';
import { eventually } from '../harness/eventually.ts';
import { type InProcessPeer, startMeshInProcess } from '../harness/in-process.ts';

const ENDED = new Set(['completed', 'failed', 'cancelled']);

async function ended(peer: InProcessPeer, task_id: unknown) {
  return await eventually('the task has ended', async () => {
    const status = await peer.call('task_status', { task_id: task_id as string, include_metrics: true });
    return ENDED.has(String(status['status'])) && status;
  });
}

it('run there, whichever peer was asked; what none allows fails and names it', async () => {
  await using mesh = await startMeshInProcess(3, {
    config: (index) => ({
      shell: { allow: index === 1 ? ['date'] : ['echo'] },
      http_action: { private: index === 2 },
    }),
  });
  const [a, b, c] = mesh.peers as [InProcessPeer, InProcessPeer, InProcessPeer];
  const dates = await Promise.all(
    [a, b, c, a, b, c].map(async (peer) => {
      const { task_id } = await peer.call('task_submit', { task_type: 'shell', payload: { command: ['date'] } });
      return await ended(peer, task_id);
    }),
  );
  for (const date of dates)
    expect(date).toMatchObject({ status: 'completed', peer_id: b.peer_id, metrics: { failures: 0 } });

  const server = createServer((_request, response) => response.end('here')).listen(0, '127.0.0.1');
  try {
    await new Promise((resolve) => server.once('listening', resolve));
    const { port } = server.address() as AddressInfo;
    const payload = { url: `http://127.0.0.1:${port}/` };
    const { task_id } = await a.call('task_submit', { task_type: 'http', payload });
    expect(await ended(a, task_id)).toMatchObject({ status: 'completed', peer_id: c.peer_id });
  } finally {
    server.close();
  }

  const { task_id } = await a.call('task_submit', { task_type: 'shell', payload: { command: ['rsync'] } });
  const waiting = await a.call('task_status', { task_id: task_id! });
  expect(waiting).toMatchObject({
    ...{ status: 'queued', waiting: { for: 'worker', reason: 'program rsync: not allowed on any of 3 peers' } },
  });
  const { status, error } = await ended(a, task_id);
  expect(status).toBe('failed');
  expect(error).toMatchObject({ code: 'ACTION_NOT_ALLOWED', message: expect.stringMatching(/program rsync.*3 peers/) });
  const offered = await a.call('peer_discover', { capability_filter: ['shell:date'], timeout_ms: 5_000 });
  expect(offered['peers']).toMatchObject([{ peer_id: b.peer_id }]);
});

it('run only for the peers that a policy names', async () => {
  await using mesh = await startMeshInProcess(2, {
    config: (index) => ({
      shell: { allow: index === 1 ? ['date'] : [] },
      ...(index === 1 && {
        policy: [
          { from: ['self'], allow: ['*'] },
          { from: ['*'], allow: ['echo'] },
        ],
      }),
    }),
  });
  const [a, b] = mesh.peers as [InProcessPeer, InProcessPeer];
  const date = { task_type: 'shell', payload: { command: ['date'] } };
  const own = await b.call('task_submit', date);
  expect(await ended(b, own['task_id'])).toMatchObject({ status: 'completed', peer_id: b.peer_id });
  const { task_id } = await a.call('task_submit', date);
  const { status, error } = await ended(a, task_id);
  expect({ status, code: (error as { code: string }).code }).toEqual({ status: 'failed', code: 'ACTION_NOT_ALLOWED' });
  const echoed = await a.call('task_submit', { task_type: 'echo', payload: {}, requires: { peers: [b.peer_id] } });
  expect(await ended(a, echoed['task_id'])).toMatchObject({ status: 'completed', peer_id: b.peer_id });
});
