/**
 * One mesh on three machines, made with the commands that a person types: a server that all can reach, a laptop at home
 * and a workstation in an office, both behind a router. Each has a network namespace.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import type { JsonObject } from '../../dag/errors.ts';
import { eventually } from '../harness/eventually.ts';
import { HostedPeer } from '../harness/hosted-peers.ts';
import { Internet, NO_NAMESPACES, skipNote } from '../harness/namespaces.ts';

const MEMBER_TTL = '30s';

describe.skipIf(NO_NAMESPACES !== null)(`three machines${skipNote(NO_NAMESPACES)}`, () => {
  let net: Internet;
  afterEach(() => net[Symbol.asyncDispose]());

  it('join with one line each, work for each other, move, and go on without the one that founded the mesh', async () => {
    net = await Internet.make();
    const [home, office] = [await net.home('home'), await net.home('office')];
    const hosts = {
      server: await net.host('server'),
      laptop: await home.host('laptop'),
      workstation: await office.host('workstation'),
      tablet: await office.host('tablet'),
    };
    await using server = await HostedPeer.found(hosts.server, ['ours', '--member-ttl', MEMBER_TTL], ['--mesh', 'ours']);
    const issuer = await server.text('mesh', 'invite', '--issuer', '--member-ttl', MEMBER_TTL);
    await using laptop = await HostedPeer.join(hosts.laptop, issuer);
    const line = await server.text('mesh', 'invite');
    await using workstation = await HostedPeer.join(hosts.workstation, line, ['--allow-shell', 'uname', 'sleep']);
    note('members', await server.text('mesh', 'members'));

    // Neither can dial the other: the server carries it.
    const path = await eventually('laptop and workstation are connected', () => pathTo(laptop, workstation));
    expect(path).toBe('relayed');
    note('peer list at the laptop', await laptop.text('peer', 'list'));
    expect(await ran(laptop, await submit(laptop, workstation))).toMatchObject({ status: 'completed' });

    // The laptop is taken to a network that all can reach.
    const moved = performance.now();
    await hosts.laptop.moveTo(net);
    await eventually(
      'the laptop is back',
      async () => (await pathTo(server, laptop)) !== undefined && (await isNew(laptop)),
    );
    note('the laptop was back after', `${((performance.now() - moved) / 1_000).toFixed(1)} s`);
    await eventually(
      'the workstation reaches it directly',
      async () => (await pathTo(workstation, laptop)) === 'direct',
    );

    // The server, the only admin, is gone for good, in the middle of work that it accepted.
    const invite = await eventually('an invite that names the laptop', async () => {
      const made = (await server.cli('mesh', 'invite')) as { token: string; sponsors: string[] };
      return made.sponsors.some((each) => each.includes(hosts.laptop.address)) ? made.token : undefined;
    });
    const accepted = await submit(server, workstation, ['sleep', '3']);
    await server.end('SIGKILL');
    expect(await ran(laptop, accepted)).toMatchObject({ status: 'completed' });
    expect(await ran(workstation, await submit(laptop, workstation))).toMatchObject({ status: 'completed' });
    await using tablet = await HostedPeer.join(hosts.tablet, `flowmesh join ${invite}`);
    await eventually('the tablet is in', async () => (await pathTo(laptop, tablet)) !== undefined);
    const before = await expiryOf(workstation);
    await eventually('the workstation renews its certificate', async () => (await expiryOf(workstation)) > before);
    note('members at the laptop', await laptop.text('mesh', 'members'));
    note('doctor at the workstation', await workstation.text('mesh', 'doctor'));
  });
});

function note(what: string, text: string): void {
  if (process.env['FLOWMESH_TEST_LOG'] !== undefined) process.stderr.write(`--- ${what}\n${text}\n`);
}

/** How one reaches the other: direct or relayed; undefined while they are not connected. */
async function pathTo(from: HostedPeer, to: HostedPeer): Promise<string | undefined> {
  const { peers } = (await from.cli('peer', 'list', '--status-filter', 'connected')) as { peers: JsonObject[] };
  return (peers.find(({ peer_id }) => peer_id === to.record.peer_id)?.['path'] as string | undefined) ?? undefined;
}

async function isNew(peer: HostedPeer): Promise<boolean> {
  const { announces } = (await peer.cli('mesh', 'doctor')) as { announces: string[] };
  return announces.some((each) => each.includes(peer.host.address));
}

async function submit(at: HostedPeer, worker: HostedPeer, command: string[] = ['uname']): Promise<string> {
  const payload = JSON.stringify({ command });
  const requires = JSON.stringify({ peers: [worker.record.peer_id] });
  const { task_id } = await at.cli('task', 'submit', 'shell', '--payload', payload, '--requires', requires);
  return String(task_id);
}

async function ran(at: HostedPeer, task: string): Promise<JsonObject> {
  return eventually(`${task} has ended`, async () => {
    const status = await at.cli('task', 'status', task).catch(() => undefined);
    await delay(0);
    return ['completed', 'failed', 'cancelled'].includes(String(status?.['status'])) ? status : undefined;
  });
}

async function expiryOf(peer: HostedPeer): Promise<string> {
  const { certificate } = (await peer.cli('mesh', 'doctor')) as { certificate: { expires_at: string } };
  return certificate.expires_at;
}
