/** A secured mesh of real processes, run by its admin's commands while it works. On loopback. */
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, expect, it } from 'vitest';
import type { JsonObject } from '../../dag/errors.ts';
import { PeerClient } from '../../node/cli/client.ts';
import { eventually } from '../harness/eventually.ts';
import { HostedPeer, type PeerHost } from '../harness/hosted-peers.ts';
import { LOOPBACK_ARGS, thisMachine } from '../harness/this-machine.ts';

type Peer = HostedPeer<PeerHost>;

const TASKS = 100;
const IN_FLIGHT = 8;

let peers: Peer[] = [];
afterEach(async () => {
  await Promise.all(peers.splice(0).map((peer) => peer[Symbol.asyncDispose]()));
});

/** A founder and some that it invited, all connected. */
async function secured(count: number, args: (index: number) => string[] = () => []): Promise<Peer[]> {
  const at = (index: number) => [...LOOPBACK_ARGS, ...args(index)];
  peers = [await HostedPeer.found(thisMachine('p0'), ['ours'], ['--mesh', 'ours', ...at(0)])];
  for (let index = 1; index < count; index++) {
    const line = await peers[0]!.text('mesh', 'invite', ...(index === 1 ? ['--issuer'] : []));
    peers.push(await HostedPeer.join(thisMachine(`p${index}`), line, at(index)));
  }
  for (const peer of peers)
    await eventually('all are connected', async () => (await connected(peer)).length === count - 1);
  return peers;
}

/** What is asked again and again is asked without a process for each question. */
async function calls(peer: Peer, tool: string, input: JsonObject): Promise<JsonObject> {
  const client = new PeerClient({ url: peer.record.http_url! });
  try {
    return await client.call(tool, input);
  } finally {
    await client.close();
  }
}

function asks(peer: Peer, request: 'members' | 'doctor'): Promise<JsonObject> {
  return new PeerClient({ url: peer.record.http_url! }).meshRequest(request, {}, peer.record.admin_key!);
}

async function connected(peer: Peer): Promise<string[]> {
  const { peers: found } = await calls(peer, 'peer_list', { status_filter: 'connected' });
  return (found as JsonObject[]).map(({ peer_id }) => String(peer_id));
}

async function membersOf(peer: Peer): Promise<JsonObject[]> {
  return (await asks(peer, 'members'))['members'] as JsonObject[];
}

it('the root is rotated under load: every task ends, once, and nobody is lost', async () => {
  const [founder, ...others] = await secured(5);
  const client = new PeerClient({ url: others[0]!.record.http_url! });
  let left = TASKS;
  const ids: string[] = [];
  const load = Promise.all(
    Array.from({ length: IN_FLIGHT }, async () => {
      while (left-- > 0) {
        const { task_id } = await client.call('task_submit', { task_type: 'echo', payload: { n: left } });
        ids.push(String(task_id));
        await delay(20);
      }
    }),
  );
  await founder!.cli('mesh', 'rotate', '--root');
  await eventually('all have renewed', async () =>
    (await membersOf(founder!)).every(({ renewed }) => renewed === true),
  );
  await founder!.cli('mesh', 'rotate', '--drop');
  await eventually('the old root is dropped everywhere', async () => {
    const answers = await Promise.all(others.map((peer) => asks(peer, 'doctor')));
    return answers.every(({ roots }) => roots === 1);
  });
  await load;
  for (const id of ids) {
    const task = await eventually(`${id} has ended`, async () => {
      const status = await client.call('task_status', { task_id: id });
      return ['completed', 'failed', 'cancelled'].includes(String(status['status'])) ? status : undefined;
    });
    expect(task).toMatchObject({ status: 'completed', attempt: 1 });
  }
  expect(ids).toHaveLength(TASKS);
  for (const peer of peers) expect(await connected(peer)).toHaveLength(4);
  await client.close();
});

it('a worker that is revoked while it works is out everywhere within seconds, also at a peer that was away', async () => {
  const [founder, away, worker, other] = await secured(4, (index) => [
    ...(index === 2 ? ['--label', 'wanted', '--allow-shell', 'sleep'] : []),
    ...(index === 3 ? ['--label', 'wanted', '--allow-shell', 'sleep', '--slots', '1'] : []),
  ]);
  const lost = worker!.record.peer_id!;
  const task = ['task', 'submit', 'shell', '--payload', '{"command":["sleep","600"]}', '--requires'];
  const { task_id } = await founder!.cli(...task, JSON.stringify({ peers: [lost] }));
  const { task_id: movable } = await founder!.cli(...task, JSON.stringify({ labels: ['wanted'] }));
  const where = (id: unknown) => calls(founder!, 'task_status', { task_id: String(id) });
  await eventually('both run', async () => {
    return (await where(task_id))['status'] === 'running' && (await where(movable))['status'] === 'running';
  });
  await away!.end('SIGKILL');
  const began = performance.now();
  await founder!.cli('mesh', 'revoke', lost, '--reason', 'test');
  await eventually('its lease is over', async () => (await where(task_id))['status'] !== 'running');
  const leaseMs = performance.now() - began;
  await eventually('its connections are over', async () => {
    const left = await Promise.all([founder!, other!].map(connected));
    return left.every((found) => !found.includes(lost)) && (await connected(worker!)).length === 0;
  });
  note(`lease over after ${Math.round(leaseMs)} ms, connections after ${Math.round(performance.now() - began)} ms`);
  expect((await where(movable))['status']).toBe('running');
  await away!.start();
  await eventually('who was away knows it', async () => {
    return (await membersOf(away!)).some(({ peer_id, state }) => peer_id === lost && state === 'revoked');
  });
  expect(await connected(away!)).not.toContain(lost);
  await worker!.end();
  await worker!.start();
  await eventually('it is told why', async () => worker!.output.includes('REVOKED'));
  for (const peer of [founder!, away!, other!]) expect(await connected(peer)).not.toContain(lost);
});

function note(text: string): void {
  if (process.env['FLOWMESH_TEST_LOG'] !== undefined) process.stderr.write(`${text}\n`);
}
