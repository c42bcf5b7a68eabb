/** A peer that is killed cannot end its processes: what runs code of ours sees for itself that it is gone. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { WorkEnvironment } from '../../node/processes/environment.ts';
import { childPids, isRunning, waitUntilGone } from './processes.ts';
import { quietLog } from './recorded-io.ts';

let folder: string;
let peer: ChildProcess;
let commands: number[];
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'flowmesh-killed-'));
  peer = fork(join(import.meta.dirname, 'killed-peer.ts'), [folder]);
  [{ commands }] = await once(peer, 'message');
});
afterEach(async () => {
  peer.kill('SIGKILL');
  for (const pid of commands) if (await isRunning(pid)) process.kill(pid, 'SIGKILL');
  await rm(folder, { recursive: true });
});

async function killPeer(): Promise<void> {
  peer.kill('SIGKILL');
  await once(peer, 'exit');
}

it('leaves no process of ours behind when the peer is killed, though their code never yields', async () => {
  const children = (await childPids(peer.pid!)).filter((pid) => !commands.includes(pid));
  expect(children).toHaveLength(2);
  await killPeer();
  await waitUntilGone(children);
});

it('ends at the next start what its commands had left, also in sessions of their own', async () => {
  await killPeer();
  expect(await Promise.all(commands.map(isRunning))).toEqual([true, true]);
  await new WorkEnvironment(folder, []).endLeftBehind(quietLog);
  expect(await Promise.all(commands.map(isRunning))).toEqual([false, false]);
});

it('leaves alone what another folder started, and what runs for a peer that lives', async () => {
  const other = await mkdtemp(join(tmpdir(), 'flowmesh-other-'));
  await new WorkEnvironment(other, []).endLeftBehind(quietLog);
  await new WorkEnvironment(folder, []).endLeftBehind(quietLog);
  await rm(other, { recursive: true });
  expect(await Promise.all(commands.map(isRunning))).toEqual([true, true]);
});
