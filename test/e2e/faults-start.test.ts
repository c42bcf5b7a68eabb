/** What keeps a peer from starting: each is said by the command, with the place and what to do, and nothing is changed. */
import { once } from 'node:events';
import { appendFile, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { runCli } from '../cli/run-cli.ts';
import { eventually } from '../harness/eventually.ts';
import { type ProcessMesh, startProcesses } from '../harness/processes.ts';
import { temporaryFolder } from './temporary-folder.ts';

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

let folder: Awaited<ReturnType<typeof temporaryFolder>>;
beforeEach(async () => {
  folder = await temporaryFolder();
});
afterEach(() => folder[Symbol.asyncDispose]());

/** `flowmesh node start …` in an empty folder; it is to end by itself. */
function start(args: string[], env: Record<string, string> = {}) {
  return runCli(['node', 'start', ...args], { FLOWMESH_HOME: join(folder.path, 'home'), ...env }, { cwd: folder.path });
}

/** Ended with the code, stdout empty (P10), and one error on stderr without a stack. */
function expectRefusal(ended: Awaited<ReturnType<typeof start>>, exitCode: number, code: string, ...words: string[]) {
  const { stderr } = ended;
  expect(stderr.startsWith(`error ${code}  `), stderr).toBe(true);
  for (const word of words) expect(stderr).toContain(word);
  expect(stderr).not.toMatch(/^ +at /m);
  expect(ended).toMatchObject({ exitCode, stdout: '' });
}

describe('a setting', () => {
  it.each([
    [['--bootstap'], "unknown option '--bootstap'", 'Did you mean --bootstrap?'],
    [['--slotts', '2'], "unknown option '--slotts'", 'Did you mean --slots?'],
  ])('of an unknown name is answered with the nearest: %j', async (args, ...words) => {
    const { exitCode, stderr } = await start(args);
    expect(exitCode).toBe(EXIT_USAGE);
    for (const word of words) expect(stderr).toContain(word);
  });

  it('with a wrong value names where it was given: flag, environment, or file and field', async () => {
    const [flag, variable] = await Promise.all([
      start(['--runtime', 'inlin']),
      start([], { FLOWMESH_LOG_LEVEL: 'inf' }),
    ]);
    expectRefusal(flag, EXIT_USAGE, 'INVALID_CONFIG', '--runtime inlin: ', 'did you mean "inline"?');
    expectRefusal(variable, EXIT_USAGE, 'INVALID_CONFIG', 'FLOWMESH_LOG_LEVEL=inf: ', 'did you mean "info"?');

    const file = join(folder.path, 'mesh.json');
    await writeFile(file, JSON.stringify({ bootstrap: ['/ip4/127.0.0.1/tcp/x'], http: { hots: '::1' } }));
    const both = await start(['--bootstrap', 'mesh.json']);
    expectRefusal(both, EXIT_USAGE, 'INVALID_CONFIG', '2 settings are wrong', `${file}, bootstrap[0]: `);
    expect(both.stderr).toContain(`${file}, http.hots: is not a known field (did you mean "host"?)`);
  });

  it('that names a module which is not there says which', async () => {
    const { exitCode, stderr } = await start(['--functions', 'nosuch.mjs', '--http-port', '0']);
    expect(exitCode).toBe(EXIT_FAILED);
    const line = `error FUNCTIONS_INVALID  ${join(folder.path, 'nosuch.mjs')}: there is no such file; `;
    expect(stderr).toContain(line);
  });

  it('that offers MCP without authentication to other machines says what to do instead', async () => {
    const refused = await Promise.all([
      start(['--http-host', '0.0.0.0']),
      start([], { FLOWMESH_HTTP_HOST: '192.0.2.1' }),
    ]);
    for (const [index, place] of ['--http-host 0.0.0.0', 'FLOWMESH_HTTP_HOST=192.0.2.1'].entries()) {
      expectRefusal(refused[index]!, EXIT_USAGE, 'INVALID_CONFIG', place, 'must be a loopback address', 'SSH tunnel');
    }
    expect(await readdir(folder.path)).toEqual([]);
  });

  it('that offers an open mesh to other machines says how to make it one that only invited machines enter', async () => {
    const refused = await Promise.all([
      start(['--listen', '/ip4/0.0.0.0/tcp/7600']),
      start(['--listen', '/ip6/::/tcp/0']),
    ]);
    for (const [index, place] of ['/ip4/0.0.0.0/tcp/7600', '/ip6/::/tcp/0'].entries()) {
      expectRefusal(refused[index]!, EXIT_USAGE, 'INVALID_CONFIG', place, 'must be a loopback address', 'mesh init');
    }
  });
});

describe('a port', () => {
  it('that another program has is named, with how to choose another, and the folder stays free', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const address = `/ip4/127.0.0.1/tcp/${port}`;
    try {
      const [flag, variable, listen] = await Promise.all([
        start(['--http-port', String(port), '--data-dir', 'a']),
        start(['--data-dir', 'b'], { FLOWMESH_HTTP_PORT: String(port) }),
        start(['--listen', address, '--data-dir', 'c']),
      ]);
      for (const ended of [flag, variable]) {
        expectRefusal(ended, EXIT_FAILED, 'PORT_IN_USE', `127.0.0.1:${port} cannot be listened on`, '--http-port');
        expect(ended.stderr).toContain('FLOWMESH_HTTP_PORT');
      }
      expectRefusal(listen, EXIT_FAILED, 'PORT_IN_USE', `${address} cannot be listened on`, '--listen');
    } finally {
      server.close();
    }
    for (const name of ['a', 'b', 'c']) expect(await readdir(join(folder.path, name))).toEqual(['lock']);
  });
});

describe('a data folder', () => {
  let mesh: ProcessMesh;
  beforeAll(async () => {
    mesh = await startProcesses(1);
  });
  afterAll(() => mesh.close());

  it('that another process uses is named with the process, which goes on', async () => {
    const [peer] = mesh.peers;
    const second = await start(['--data-dir', peer!.data_dir]);
    const words = [`the data folder ${peer!.data_dir} is in use by process ${peer!.pid}`, 'another --data-dir'];
    expectRefusal(second, EXIT_FAILED, 'DATA_FOLDER_IN_USE', ...words);
    expect((await peer!.ready())?.ready).toBe(true);
    expect(await peer!.call('task_submit', { task_type: 'echo' })).toMatchObject({ success: true });
  });

  it('that is a file, or below one, is named', async () => {
    await writeFile(join(folder.path, 'file'), 'mine');
    const [itself, below] = await Promise.all([
      start(['--data-dir', 'file']),
      start(['--data-dir', join('file', 'below')]),
    ]);
    const words = [join(folder.path, 'file'), 'file', 'another --data-dir'];
    expectRefusal(itself, EXIT_FAILED, 'DATA_FOLDER_UNUSABLE', ...words);
    expectRefusal(below, EXIT_FAILED, 'DATA_FOLDER_UNUSABLE', ...words);
    expect(await readFile(join(folder.path, 'file'), 'utf8')).toBe('mine');
  });

  /** Bytes that are no file of any of the formats. */
  const garbage = 'these bytes were written by a failing disk, not by a peer. '.repeat(100);
  it.each([
    ['the database', 'flowmesh.db', 'DATA_FOLDER_CORRUPT', 'restore the file from a backup'],
    ['the identity key', 'identity.key', 'IDENTITY_UNREADABLE', 'Restore it from a backup'],
    ['the memory of libp2p', 'libp2p.db', 'DATA_FOLDER_UNUSABLE', 'move that file away'],
    ['the lock', 'lock', 'DATA_FOLDER_UNUSABLE', 'remove that file'],
  ])('in which %s is damaged is refused, says what to do, and is left as it is', async (_what, file, code, remedy) => {
    const damaged = join(folder.path, 'data', file);
    await mkdir(join(damaged, '..'), { recursive: true, mode: 0o700 });
    await writeFile(damaged, garbage);
    const ended = await start(['--data-dir', 'data', '--http-port', '0']);
    expectRefusal(ended, EXIT_FAILED, code, damaged, remedy);
    expect(await readFile(damaged, 'utf8')).toBe(garbage);
  });

  it('of a peer that ran is refused when a file of it was damaged, and starts again when it is mended', async () => {
    const peer = mesh.peers[0]!;
    await peer.call('task_submit', { task_id: 'kept', task_type: 'echo', payload: { n: 1 } });
    const isDone = async () => (await peer.call('task_status', { task_id: 'kept' }))['status'] === 'completed';
    await eventually('the task is done', isDone);
    await peer.stop();
    const database = join(peer.data_dir, 'flowmesh.db');
    const key = join(peer.data_dir, 'identity.key');
    const [rows, identity] = await Promise.all([readFile(database), readFile(key)]);

    await writeFile(database, Buffer.concat([rows.subarray(0, 4_096), Buffer.alloc(rows.length - 4_096, 0xa5)]));
    const again = ['--data-dir', peer.data_dir, '--http-port', '0'];
    expectRefusal(await start(again), EXIT_FAILED, 'DATA_FOLDER_CORRUPT', `The data file ${database} is damaged`);
    await writeFile(database, rows);
    await appendFile(key, 'x');
    expectRefusal(await start(again), EXIT_FAILED, 'IDENTITY_UNREADABLE', `The identity key ${key} cannot be read`);
    await writeFile(key, identity);
    await rm(join(peer.data_dir, 'libp2p.db'));

    await peer.start();
    expect(await peer.call('task_result', { task_id: 'kept' })).toMatchObject({
      status: 'completed',
      result: { n: 1 },
    });
  });
});
