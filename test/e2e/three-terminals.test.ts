/** The same plain command in three terminals makes a mesh of three, and mends it when the first one was killed. */
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type PeerRecord, runningPeers } from '../../node/data-folder.ts';
import { runCli, startCli } from '../cli/run-cli.ts';
import { eventually } from '../harness/eventually.ts';
import { temporaryFolder } from './temporary-folder.ts';

const MESH = 'three-terminals';

interface Terminal {
  child: ReturnType<typeof startCli>;
  data_dir: string;
  record: PeerRecord;
}

interface ListedPeer {
  peer_id: string;
  status: string;
  latency_ms: number | null;
}

let folder: Awaited<ReturnType<typeof temporaryFolder>>;
let env: Record<string, string>;
let address: string;
let children: Terminal['child'][];

beforeEach(async () => {
  folder = await temporaryFolder();
  env = { FLOWMESH_HOME: join(folder.path, 'home') };
  children = [];
  address = `/ip4/127.0.0.1/tcp/${await freePort()}`;
  await writeFile(join(folder.path, 'bootstrap.json'), JSON.stringify({ mesh: MESH, bootstrap: [address] }));
});

afterEach(async () => {
  for (const child of children) child.kill('SIGKILL');
  await Promise.all(children);
  await folder[Symbol.asyncDispose]();
});

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

/** One more terminal: resolves when its peer serves. */
async function openTerminal(): Promise<Terminal> {
  const child = startCli(['node', 'start', '--bootstrap'], env, { cwd: folder.path });
  children.push(child);
  return await eventually('the peer serves', async () => {
    const running = await runningPeers(env['FLOWMESH_HOME']!, MESH);
    const mine = running.find(({ record }) => record.pid === child.pid && record.http_url !== null);
    return mine && { child, data_dir: mine.path, record: mine.record };
  });
}

/** What `flowmesh peer list` says at a peer about those it is connected to. */
async function peerList({ data_dir }: Terminal): Promise<ListedPeer[]> {
  const { exitCode, stdout, stderr } = await runCli(
    ['peer', 'list', '--data-dir', data_dir, '--status-filter', 'connected', '--json'],
    env,
    { cwd: folder.path },
  );
  expect(exitCode, stderr).toBe(0);
  return (JSON.parse(stdout) as { peers: ListedPeer[] }).peers;
}

/** Resolves when every one of them lists all others, with a measured latency. */
async function allSeeEachOther(terminals: readonly Terminal[]): Promise<void> {
  // One after the other: so many commands at once would take the machine's cores from the peers they ask.
  for (const terminal of terminals) {
    const others = terminals.filter((other) => other !== terminal).map(({ record }) => record.peer_id!);
    await eventually(`${terminal.data_dir} lists the others`, async () => {
      const listed = await peerList(terminal);
      expect(listed.map(({ peer_id }) => peer_id).sort()).toEqual(others.sort());
      return listed.every(({ latency_ms }) => latency_ms !== null && latency_ms > 0);
    });
  }
}

it('`flowmesh peer list` shows the other two with their latency, and the mesh mends when the first was killed', async ({
  annotate,
}) => {
  const first = await openTerminal();
  const second = await openTerminal();
  const started = performance.now();
  const third = await openTerminal();
  await allSeeEachOther([first, second, third]);
  const seen = performance.now() - started;
  await annotate(`all three list the others ${Math.round(seen)} ms after the third command`);
  expect(first.record.addresses[0]).toMatch(new RegExp(`^${address}/`));
  expect([first, second, third].map(({ data_dir }) => data_dir.slice(-6))).toEqual(['peer-1', 'peer-2', 'peer-3']);

  first.child.kill('SIGKILL');
  await first.child;
  await allSeeEachOther([second, third]);
  const restarted = performance.now();
  const again = await openTerminal();
  expect(again).toMatchObject({ data_dir: first.data_dir, record: { peer_id: first.record.peer_id } });
  await allSeeEachOther([again, second, third]);
  await annotate(`the mesh is whole ${Math.round(performance.now() - restarted)} ms after the first was started again`);
});
