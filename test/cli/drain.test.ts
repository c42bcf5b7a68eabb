/** A peer that is told to stop lets what it runs end first: by a signal, and by the command. */
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { JsonObject } from '../../dag/errors.ts';
import { temporaryFolder } from '../e2e/temporary-folder.ts';
import { eventually } from '../harness/eventually.ts';
import { HANG_MS } from '../harness/patience.ts';
import { type PeerProcess, type ProcessMesh, startProcesses } from '../harness/processes.ts';
import { runCli } from './run-cli.ts';

const PATIENCE = { timeoutMs: HANG_MS };
/** Between two signals that are two, with time for what the first one does. */
const PRESS_MS = 5_000;

/** An owner that runs nothing, one peer that drains and one that stays, and tasks that end when a file is there. */
async function begin(mesh: ProcessMesh, folder: string) {
  const [owner, leaving, staying] = mesh.peers as [PeerProcess, PeerProcess, PeerProcess];
  const script = `until [ -e ${join(folder, 'open')} ] || [ $FLOWMESH_ATTEMPT -gt 1 ]; do sleep 0.05; done`;
  const task = { task_type: 'shell', payload: { command: ['sh', '-c', script] } };
  const status = (task_id: string) => owner.call('task_status', { task_id });
  const runs = (task_id: string) =>
    eventually('it runs', async () => (await status(task_id))['status'] === 'running', PATIENCE);
  const ends = (task_id: string) =>
    eventually(
      'it ends',
      async () => {
        const now = await status(task_id);
        return !['queued', 'running'].includes(String(now['status'])) && now;
      },
      PATIENCE,
    );
  const draining = () =>
    eventually(
      'it says that it drains',
      async () => {
        const ready = await fetch(`${leaving.url}/ready`).then((answer) => answer.json() as Promise<JsonObject>);
        return JSON.stringify(ready['reasons']).includes('draining');
      },
      PATIENCE,
    );
  await owner.call('task_submit', { task_id: 'first', ...task, requires: { labels: ['leaves'] } });
  await runs('first');
  return { owner, leaving, staying, task, status, runs, ends, draining };
}

const start = () =>
  startProcesses(3, {
    args: (index) => [
      ...['--allow-shell', 'sh', '--drain-timeout-ms', String(HANG_MS)],
      ...[
        ['--slots', '0'],
        ['--label', 'leaves', 'any'],
        ['--label', 'any'],
      ][index]!,
    ],
  });

it('SIGTERM: what runs ends, what comes goes elsewhere, and then the process ends', async () => {
  await using folder = await temporaryFolder();
  await using mesh = await start();
  const { owner, leaving, staying, task, ends, draining } = await begin(mesh, folder.path);
  const gone = leaving.kill('SIGTERM');
  await draining();
  const quick = { task_type: 'echo', payload: {}, requires: { labels: ['any'] } };
  for (const task_id of ['a', 'b', 'c']) await owner.call('task_submit', { task_id, ...quick });
  for (const task_id of ['a', 'b', 'c']) expect(await ends(task_id)).toMatchObject({ peer_id: staying.peer_id });
  await owner.call('task_submit', { task_id: 'waits', ...task, requires: { labels: ['leaves'] } });
  await writeFile(join(folder.path, 'open'), '');
  await gone;
  expect(leaving.exitCode).toBe(0);
  expect(await ends('first')).toMatchObject({ status: 'completed', attempt: 1, peer_id: leaving.peer_id });
  expect(await owner.call('task_status', { task_id: 'waits' })).toMatchObject({ status: 'queued' });
});

it('a second signal hands back at once what still runs', async () => {
  await using folder = await temporaryFolder();
  await using mesh = await start();
  const { owner, leaving, staying, task, runs, ends, draining } = await begin(mesh, folder.path);
  await owner.call('task_submit', {
    task_id: 'moves',
    ...task,
    requires: { peers: [leaving.peer_id, staying.peer_id] },
  });
  await runs('moves');
  const gone = leaving.kill('SIGTERM');
  await draining();
  // One that comes within a moment of the first is taken for the same press.
  await eventually(
    'it stops',
    () => {
      const stops = leaving.stderr.includes('"msg":"stopping"');
      if (!stops) process.kill(leaving.pid, 'SIGTERM');
      return stops;
    },
    { ...PATIENCE, intervalMs: PRESS_MS },
  );
  await gone;
  expect(leaving.exitCode).toBe(0);
  expect(await owner.call('task_status', { task_id: 'first' })).toMatchObject({ status: 'queued', attempt: 1 });
  await writeFile(join(folder.path, 'open'), '');
  expect(await ends('moves')).toMatchObject({ status: 'completed', peer_id: staying.peer_id });
});

it('flowmesh node drain does the same, within the time it names, and returns when the peer has stopped', async () => {
  await using folder = await temporaryFolder();
  await using mesh = await start();
  const { owner, leaving } = await begin(mesh, folder.path);
  const wrong = await runCli(['node', 'drain', '--url', leaving.url, '--timeout-ms', 'soon']);
  expect(wrong).toMatchObject({ exitCode: 2, stderr: expect.stringContaining('not a number of milliseconds') });
  const refused = await fetch(`${leaving.url}/drain`, {
    method: 'POST',
    body: '{"timeout_ms":-1}',
    headers: JSON_TYPE,
  });
  expect(refused.status).toBe(400);
  const drained = await runCli(['node', 'drain', '--url', leaving.url, '--timeout-ms', '300', '--json']);
  expect(drained.exitCode).toBe(0);
  expect(JSON.parse(drained.stdout)).toMatchObject({ peer_id: leaving.peer_id, status: 'stopped' });
  await leaving.ended;
  expect(leaving.exitCode).toBe(0);
  expect(await owner.call('task_status', { task_id: 'first' })).toMatchObject({ status: 'queued', attempt: 1 });
});

const JSON_TYPE = { 'content-type': 'application/json' };

it('the command does not wait for a peer that was started again where the one was that drained', async () => {
  const states = [{ ready: false, reasons: ['the peer is draining'] }, { ready: true }];
  const server = createServer((request, response) => {
    const answer = request.url === '/drain' ? { status: 'draining', name: 'ada', peer_id: 'a' } : states.shift();
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(answer ?? { ready: true }));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    const { port } = server.address() as AddressInfo;
    const drained = await runCli(['node', 'drain', '--url', `http://127.0.0.1:${port}`]);
    expect(drained).toMatchObject({ exitCode: 0, stdout: expect.stringContaining('Peer ada has stopped') });
    expect(states).toEqual([]);
  } finally {
    server.close();
  }
});
