/**
 * What other programs and people do wrong to a running peer: files that are no workflows, bytes that are no messages,
 * peers that do not belong to the mesh, addresses where nobody is. Each is told why, and the peer goes on.
 */
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { HELLO, PEER_PROTOCOL } from '../../node/p2p/greeting.ts';
import { runCli } from '../cli/run-cli.ts';
import { eventually } from '../harness/eventually.ts';
import { type PeerProcess, type ProcessMesh, startProcesses } from '../harness/processes.ts';
import { stateNamed } from '../integration/p2p-peers.ts';
import { RawPeer, type RawStream } from '../integration/p2p-raw-peer.ts';
import { temporaryFolder } from './temporary-folder.ts';

const LOOPBACK = '/ip4/127.0.0.1/tcp/0';
const WARN = 40;
const EXIT_USAGE = 2;

let mesh: ProcessMesh;
let peer: PeerProcess;
beforeAll(async () => {
  mesh = await startProcesses(2);
  peer = mesh.peers[0]!;
});
afterAll(() => mesh.close());

interface LogLine {
  level: number;
  msg: string;
}

/** The first line of a peer's log that says all of this. */
function logged(of: PeerProcess, ...words: string[]): Promise<LogLine> {
  return eventually(`peer ${of.index} says ${words.join(' … ')}`, () => {
    const line = of.stderr.split('\n').find((each) => words.every((word) => each.includes(word)));
    return line === undefined ? undefined : (JSON.parse(line) as LogLine);
  });
}

/** A task is accepted, runs and ends. */
async function expectWorks(of: PeerProcess): Promise<void> {
  const { task_id } = await of.call('task_submit', { task_type: 'echo', payload: { n: 1 } });
  const isDone = async () => (await of.call('task_status', { task_id: task_id! }))['status'] === 'completed';
  await eventually(`a task of peer ${of.index} is done`, isDone);
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

const isConnected = async (of: PeerProcess, count: number) => (await of.ready())?.connected_peers === count;

describe('a workflow file', () => {
  it.each([
    ['an open bracket', 'name: x\nsteps:\n  - step_id: a\n    action: [echo\n  - step_id: b\n', ':5:3: '],
    ['a tab', 'name: x\nsteps:\n\t- step_id: a\n', ':3:1: '],
    ['a key twice', 'name: x\nsteps:\n  - step_id: a\n    action: echo\n    action: http\n', ':5:5: '],
    ['JSON cut short', '{ "name": "x",\n  "steps": [{ "step_id": "a" }\n', ':3:1: '],
  ])('with %s is shown with its line and column, and nothing is submitted', async (_what, text, place) => {
    await using folder = await temporaryFolder();
    const file = join(folder.path, 'bad.yaml');
    await writeFile(file, text);
    const before = await peer.call('workflow_list', { scope: 'local' });
    const ended = await runCli(['workflow', 'submit', file, '--url', peer.url]);
    expect(ended).toMatchObject({ exitCode: EXIT_USAGE, stdout: '' });
    expect(ended.stderr).toMatch(/^error USAGE {2}/);
    expect(ended.stderr).toContain(`${file}${place}`);
    expect(ended.stderr).toMatch(/^ +\| +\^$/m);
    expect((await peer.call('workflow_list', { scope: 'local' }))['total_count']).toBe(before['total_count']);
  });
});

describe('a stream of the peer protocol', () => {
  it.each([
    ['bytes that are no message', [0, 0, 0, 2, 0x92, 0x01], 'ends in the middle of a value'],
    ['a frame longer than allowed', [0xff, 0xff, 0xff, 0xff], ''],
    ['a frame of nothing', [0, 0, 0, 0], ''],
  ])('with %s is closed with the reason, and the others are served on', async (_what, bytes, reason) => {
    await using folder = await temporaryFolder();
    const raw = await RawPeer.open(folder.path);
    try {
      const stream = await raw.stream({ addresses: () => peer.record!.addresses });
      await stream.greet(mesh.name);
      await eventually('the raw peer is connected', () => isConnected(peer, 2));
      stream.bytes(Buffer.from(bytes));
      const goodbye = await stream.goodbye();
      expect(goodbye.code).toBe('MALFORMED_FRAME');
      expect(goodbye.message).toContain(reason);
      expect(goodbye.message).toMatch(/^The stream is closed because .{10}/);
      await eventually('the raw peer is gone', () => isConnected(peer, 1));
      expect(await logged(peer, raw.id, 'malformed frame')).toMatchObject({ level: WARN });
      await expectWorks(mesh.peers[1]!);
      expect((await peer.call('peer_list', { status_filter: 'connected' }))['total_count']).toBe(1);
    } finally {
      await raw.close();
    }
  });
});

describe('a peer that does not belong here', () => {
  it('because of its mesh is told both names, as is this one, and both go on alone', async () => {
    const other = await mesh.add(['--mesh', 'elsewhere']);
    const both = [`is in mesh \\"${mesh.name}\\"`, 'refuses a peer of mesh \\"elsewhere\\"', 'the same mesh name'];
    expect(await logged(peer, other.peer_id, ...both)).toMatchObject({ level: WARN });
    expect(await logged(other, 'cannot be joined', 'Trying on')).toMatchObject({ level: WARN });
    expect(other.stderr).toContain('Start both with the same mesh name');
    expect((await other.ready())?.connected_peers).toBe(0);
    await Promise.all([expectWorks(peer), expectWorks(other)]);
    await other.stop();
    expect((await peer.ready())?.connected_peers).toBe(1);
  });

  const foreign = (id: number) => ({
    id,
    protocol: '2.0.0',
    mesh: mesh.name,
    state: stateNamed('newer'),
    addresses: [],
  });

  it('because of its major version is told so when it knocks', async () => {
    await using folder = await temporaryFolder();
    const raw = await RawPeer.open(folder.path);
    try {
      const stream = await raw.stream({ addresses: () => peer.record!.addresses });
      const { id, ...params } = foreign(1);
      stream.send({ id, method: HELLO, params });
      const { error } = await stream.next((message) => message.id === 1);
      expect(error).toMatchObject({ code: 'VERSION_MISMATCH', retryable: false });
      expect((await stream.goodbye()).message).toMatch(/2\.0\.0.*Upgrade the older one/);
      expect(await logged(peer, raw.id, 'version 1.0.0', '2.0.0', 'Upgrade')).toMatchObject({ level: WARN });
      await expectWorks(peer);
    } finally {
      await raw.close();
    }
  });

  it('because of its major version is told so when it is knocked at, and the joining peer works alone', async () => {
    await using folder = await temporaryFolder();
    const raw = await RawPeer.open(folder.path, [LOOPBACK]);
    await using alone = await startProcesses(0);
    try {
      const opened = Promise.withResolvers<RawStream>();
      await raw.handle(PEER_PROTOCOL, opened.resolve);
      const starting = alone.add(['--join', raw.address]);
      const stream = await opened.promise;
      const { id: asked } = await stream.next(({ method }) => method === HELLO);
      const { id: _, ...result } = foreign(0);
      stream.send({ id: asked!, result });
      expect(await stream.goodbye()).toMatchObject({ code: 'VERSION_MISMATCH' });
      const joining = await starting;
      expect(await logged(joining, raw.address, 'cannot be joined', 'refuses version 2.0.0')).toBeDefined();
      await expectWorks(joining);
    } finally {
      await raw.close();
    }
  });

  it('because it speaks only a later protocol is named on both ways in', async () => {
    await using folder = await temporaryFolder();
    const raw = await RawPeer.open(folder.path, [LOOPBACK]);
    try {
      const later = PEER_PROTOCOL.replace('1.0.0', '2.0.0');
      await raw.handle(later, () => {});
      await expect(raw.stream({ addresses: () => peer.record!.addresses }, later)).rejects.toThrow(later);
      expect(await logged(peer, raw.id, 'another major version', later)).toMatchObject({ level: WARN });
      await using alone = await startProcesses(1, { args: ['--join', raw.address] });
      const words = ['cannot be joined', `does not speak ${PEER_PROTOCOL}`, 'Run the same major version'];
      expect(await logged(alone.peers[0]!, raw.address, ...words)).toMatchObject({ level: WARN });
      await expectWorks(alone.peers[0]!);
    } finally {
      await raw.close();
    }
  });
});

describe('a bootstrap address', () => {
  it('where nobody is: said, tried on, work is served meanwhile, and joined when somebody comes', async () => {
    const address = `/ip4/127.0.0.1/tcp/${await freePort()}`;
    await using pair = await startProcesses(1, { args: ['--join', address] });
    const [early] = pair.peers;
    const words = [`bootstrap peer ${address} is not reachable`, 'ECONNREFUSED', 'Trying on', 'local work is served'];
    expect(await logged(early!, ...words)).toMatchObject({ level: WARN });
    await expectWorks(early!);
    await logged(early!, '"failures":2');

    // It knows of nobody: that the two meet is the doing of the one that tried on.
    await using later = await startProcesses(1, { args: ['--mesh', pair.name, '--listen', address] });
    const [late] = later.peers;
    await eventually('they have met', () => isConnected(early!, 1));
    expect(await logged(early!, 'connected to a bootstrap peer', address, late!.peer_id)).toBeDefined();
    await expectWorks(late!);
  });

  it('that is none is refused at the start, with the option', async () => {
    const { exitCode, stderr } = await runCli(['node', 'start', '--join', '127.0.0.1:7600']);
    expect(exitCode).toBe(EXIT_USAGE);
    expect(stderr).toMatch(/INVALID_CONFIG {2}--join 127\.0\.0\.1:7600: is not a multiaddr such as \/ip4\//);
  });
});
