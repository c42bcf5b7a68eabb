/** `flowmesh node start` with real peers, each a process of its own. */

import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readdir, readFile, readlink, rm, stat, writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { execa } from 'execa';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ANYONE } from '../../node/auth/principal.ts';
import { stopWithin } from '../../node/cli/start.ts';
import { createLog } from '../../node/log.ts';
import { catalogueOf } from '../../node/mcp/catalogue.ts';
import { tools } from '../../tools/registry.ts';
import { PROGRAM } from '../harness/program.ts';
import { INITIALIZE } from '../mcp/raw-http.ts';
import { runCli, startCli } from './run-cli.ts';

const PEERS_MET_ROUNDS_MAX = 60;
const PINO_WARN = 40;
const PINO_ERROR = 50;

let home: string;
let env: Record<string, string>;
let started: ReturnType<typeof startCli>[];
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'flowmesh-start-'));
  env = { FLOWMESH_HOME: home };
  started = [];
});
afterEach(async () => {
  for (const child of started) child.kill('SIGKILL');
  await Promise.all(started);
  await rm(home, { recursive: true, force: true });
});

interface Facts {
  peer_id: string;
  addresses: string[];
  data_dir: string;
  mcp_url: string;
  shell: string;
}

/** Resolves with what the peer told of itself once it is ready. */
async function start(...args: string[]) {
  const child = startCli(['node', 'start', ...args], env, { cwd: home });
  started.push(child);
  const warnings: string[] = [];
  for await (const line of createInterface({ input: child.stderr! })) {
    // Where stderr is no terminal every line is JSON.
    const facts = JSON.parse(line) as { msg: string; level: unknown; [fact: string]: unknown };
    if (facts.level === PINO_WARN) warnings.push(facts.msg);
    if (facts.msg !== 'ready') continue;
    child.stderr!.resume();
    return { child, warnings, facts: facts as unknown as Facts };
  }
  throw new Error('the peer ended before it was ready');
}

/** The rights of each file, by its name. */
async function modesIn(folder: string): Promise<Record<string, number>> {
  const files = await readdir(folder);
  const modes = await Promise.all(files.map(async (file) => (await stat(join(folder, file))).mode & 0o777));
  return Object.fromEntries(files.map((file, index) => [file, modes[index]!]));
}

/** Files of the folder that a process has open for whatever it starts. */
async function inheritableIn(pid: number, folder: string): Promise<string[]> {
  const found: string[] = [];
  for (const descriptor of await readdir(`/proc/${pid}/fd`)) {
    try {
      const file = await readlink(`/proc/${pid}/fd/${descriptor}`);
      const flags = /^flags:\s+(\d+)$/m.exec(await readFile(`/proc/${pid}/fdinfo/${descriptor}`, 'utf8'))![1]!;
      const isClosedOnExec = (Number.parseInt(flags, 8) & 0o2000000) !== 0;
      if (file.startsWith(folder) && !isClosedOnExec) found.push(file);
    } catch (error) {
      // It was closed while this looked.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  return found;
}

async function environmentOf(pid: number): Promise<string[]> {
  return (await readFile(`/proc/${pid}/environ`, 'utf8')).split('\0');
}

it('a peer that does not stop is told of in the log, and its exit code says so', async () => {
  const lines: string[] = [];
  const stream = { write: (line: string) => void lines.push(line) };
  const log = createLog({ level: 'info', fields: { name: 'ada' }, stream, pretty: false });
  expect(await stopWithin({ stop: () => new Promise(() => {}) }, 20, log)).toBe(1);
  expect(lines.map((line) => JSON.parse(line))).toMatchObject([
    { level: PINO_ERROR, name: 'ada', msg: expect.stringContaining('did not stop within 0.02 s') },
  ]);
});

describe('node start', () => {
  it('takes the names of common deployments', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    server.close();
    await once(server, 'close');
    Object.assign(env, { PORT: String(port), HOST: '127.0.0.2', TRANSPORT_TYPE: 'http', SOME_SECRET: 'x' });
    const { facts, child } = await start();
    expect(facts.mcp_url).toBe(`http://127.0.0.2:${port}/mcp`);
    expect(await environmentOf(child.pid!)).not.toContain('SOME_SECRET=x');
  });

  it.each([
    [[], 'No shell steps run here'],
    [['--allow-shell', 'git,wc'], 'Shell steps may run git, wc here, and no other command.'],
    [['--allow-shell', '*'], 'Every command may run here'],
  ])('says with %j in one sentence which commands may run', async (args, sentence) => {
    const { facts } = await start(...args);
    expect(facts.shell).toContain(sentence);
  });

  it('keeps its files to its user in any folder, and names one that others can look into', async () => {
    const folder = join(home, 'shared');
    await mkdir(folder);
    await chmod(folder, 0o755);
    const first = await start('--data-dir', folder);
    first.child.kill('SIGTERM');
    await first.child;
    const files = await readdir(folder);
    await Promise.all(files.map((file) => chmod(join(folder, file), 0o644)));

    const { child, warnings } = await start('--data-dir', folder);
    expect(warnings).toContainEqual(expect.stringContaining(`can look into the data folder ${folder}; chmod 700 it`));
    const modes = await modesIn(folder);
    expect(Object.keys(modes)).toEqual(
      expect.arrayContaining(['flowmesh.db', 'libp2p.db', 'identity.key', 'peer.json']),
    );
    expect(modes).toEqual(Object.fromEntries(Object.keys(modes).map((file) => [file, 0o600])));
    expect(await inheritableIn(child.pid!, folder)).toEqual([]);
  });

  it('has no variables in its environment that are neither its own nor to be passed on', async () => {
    env = { ...env, CLOUD_KEY: 'secret', AWS_PROFILE: 'prod', APP_MODE: 'x', APP_NAME: 'y' };
    const { child } = await start('--pass-env', 'AWS_PROFILE,APP_*', '--slots', '2');
    const variables = await environmentOf(child.pid!);
    expect(variables).toEqual(expect.arrayContaining(['AWS_PROFILE=prod', 'APP_MODE=x', 'APP_NAME=y', 'NO_COLOR=1']));
    expect(variables.join()).not.toContain('secret');
  });

  it('keeps what its mesh file may name to be passed on', async () => {
    env = { ...env, CLOUD_KEY: 'passed' };
    await writeFile(join(home, 'mesh.json'), JSON.stringify({ pass_env: ['CLOUD_KEY'] }));
    const { child } = await start('--bootstrap', 'mesh.json');
    expect(await environmentOf(child.pid!)).toContain('CLOUD_KEY=passed');
  });

  it('refuses --allow-shell without words', async () => {
    const { exitCode, stderr } = await runCli(['node', 'start', '--allow-shell', '--slots', '2'], env);
    expect(exitCode).not.toBe(0);
    expect(stderr).toContain('--allow-shell: names no command');
  });

  it('commands find the peer while it runs, and say that none runs when it has stopped', async () => {
    const { child, facts } = await start();
    expect(facts.data_dir).toBe(join(home, 'default', 'peer-1'));
    const status = await runCli(['node', 'status', '--json'], env);
    expect(status.exitCode).toBe(0);
    expect(JSON.parse(status.stdout)).toMatchObject({ ready: true, peer_id: facts.peer_id, pid: child.pid });
    expect((await runCli(['peer', 'list', '--data-dir', facts.data_dir], env)).exitCode).toBe(0);

    const second = await runCli(['node', 'start', '--data-dir', facts.data_dir], env);
    expect(second.exitCode).toBe(1);
    expect(second.stderr).toContain(
      `DATA_FOLDER_IN_USE  the data folder ${facts.data_dir} is in use by process ${child.pid}`,
    );

    child.kill('SIGINT');
    expect((await child).exitCode).toBe(0);
    expect(existsSync(join(facts.data_dir, 'peer.json'))).toBe(false);
    expect((await runCli(['peer', 'list'], env)).exitCode).toBe(3);
  });

  it('the same command three times at once makes a mesh of three', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = `/ip4/127.0.0.1/tcp/${(server.address() as { port: number }).port}`;
    server.close();
    await once(server, 'close');
    await writeFile(join(home, 'bootstrap.json'), JSON.stringify({ mesh: 'three', bootstrap: [address] }));

    const peers = await Promise.all([1, 2, 3].map(() => start('--bootstrap')));
    expect(new Set(peers.map(({ facts }) => facts.data_dir)).size).toBe(3);
    expect(new Set(peers.map(({ facts }) => facts.mcp_url)).size).toBe(3);
    expect(peers.filter(({ facts }) => facts.addresses[0]!.startsWith(`${address}/`)).length).toBe(1);

    // Meeting takes as long as the dials do; asking is the only way to see it from outside.
    let names: string[] = [];
    for (let round = 0; round < PEERS_MET_ROUNDS_MAX && names.length < 2; round++) {
      const { stdout } = await runCli(['peer', 'list', '--status-filter', 'connected', '--json'], env, { cwd: home });
      names = JSON.parse(stdout).peers.map(({ name }: { name: string }) => name);
    }
    expect(names.length).toBe(2);
    for (const { child } of peers) child.kill('SIGTERM');
    expect((await Promise.all(peers.map(({ child }) => child))).map(({ exitCode }) => exitCode)).toEqual([0, 0, 0]);
  });

  it('with --stdio nothing but MCP is on stdout, and the end of stdin stops the peer', async () => {
    const transport = new StdioClientTransport({
      command: process.execPath,
      args: [PROGRAM, 'node', 'start', '--stdio', '--no-http'],
      env: { ...env, PATH: process.env['PATH']! },
      stderr: 'ignore',
    });
    const client = new Client({ name: 'test', version: '1.0.0' });
    const strays: Error[] = [];
    client.onerror = (error) => strays.push(error);
    await client.connect(transport);
    expect((await client.listTools()).tools).toEqual(catalogueOf(tools).list(ANYONE).tools);
    await client.close();
    expect(strays).toEqual([]);
    expect(existsSync(join(home, 'default', 'peer-1', 'peer.json'))).toBe(false);
  });

  it('with --stdio a client is greeted before there is a peer, and a call hears why there will be none', async () => {
    const missing = join(home, 'none.ts');
    const peer = execa(process.execPath, [PROGRAM, 'node', 'start', '--stdio', '--no-http', '--functions', missing], {
      env: { ...env, PATH: process.env['PATH']! },
      extendEnv: false,
      reject: false,
    });
    for (const message of [
      INITIALIZE,
      { jsonrpc: '2.0', id: 2, method: 'tools/call', params: { name: 'peer_list' } },
    ]) {
      peer.stdin.write(`${JSON.stringify(message)}\n`);
    }
    const { stdout, exitCode } = await peer;
    const [greeting, answer] = stdout.split('\n').map((line) => JSON.parse(line));
    expect(greeting).toMatchObject({ id: 1, result: { serverInfo: { name: 'flowmesh' } } });
    expect(answer).toMatchObject({
      id: 2,
      result: { isError: true, structuredContent: { error: { code: 'FUNCTIONS_INVALID' } } },
    });
    expect(exitCode).toBe(1);
  });

  it('what cannot be started is said, with exit code 1 for the host and 2 for a wrong setting', async () => {
    const blocked = join(home, 'file');
    await writeFile(blocked, '');
    const unusable = await runCli(['node', 'start', '--data-dir', join(blocked, 'x')], env);
    expect([unusable.exitCode, unusable.stderr]).toEqual([1, expect.stringContaining('DATA_FOLDER_UNUSABLE')]);
    const wrong = await runCli(['node', 'start', '--http-port', 'x'], env);
    expect([wrong.exitCode, wrong.stderr]).toEqual([2, expect.stringContaining('--http-port x: ')]);
    const missing = await runCli(['node', 'start', '--bootstrap', 'none.json'], env, { cwd: home });
    expect([missing.exitCode, missing.stderr]).toEqual([
      2,
      expect.stringContaining('none.json cannot be read: there is no such file'),
    ]);
    await writeFile(join(home, 'bad.json'), '{\n  "mesh": "a",\n  "bootstrap": [}\n');
    const syntax = await runCli(['node', 'start', '--bootstrap', 'bad.json'], env, { cwd: home });
    expect([syntax.exitCode, syntax.stderr]).toEqual([2, expect.stringMatching(/bad\.json:3:17: /)]);
  });
});
