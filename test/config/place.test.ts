/** What starting processes take on one host: each folder and each port one process, and nothing outlives it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { claimDataFolder, runningPeer, runningPeers } from '../../node/data-folder.ts';

const HOLD = join(import.meta.dirname, 'hold.ts');

interface Held {
  pid: number;
  got: {
    path: string;
    listen: string[];
    http: { port: number } | null;
    name: string;
    error?: string;
    message?: string;
  };
  /** Lets go and ends. */
  leave(): Promise<void>;
  kill(signal: NodeJS.Signals): Promise<void>;
}

let home: string;
let held: Held[];
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'flowmesh-home-'));
  held = [];
});
afterEach(async () => {
  await Promise.all(held.map((each) => each.kill('SIGKILL')));
  await rm(home, { recursive: true, force: true });
});

async function hold(settings: object): Promise<Held> {
  const child = spawn(process.execPath, [HOLD, JSON.stringify(settings), home], { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = once(child, 'exit');
  const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string];
  const process_: Held = {
    pid: child.pid!,
    got: JSON.parse(line),
    async leave() {
      child.stdin.end();
      await ended;
    },
    async kill(signal) {
      child.kill(signal);
      await ended;
    },
  };
  held.push(process_);
  return process_;
}

/** A port that nothing listens on. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

describe('data folders', () => {
  it('processes that start at once get one each, numbered from 1', async () => {
    const all = await Promise.all(Array.from({ length: 4 }, () => hold({ mesh: 'm', http: false })));
    const paths = all.map(({ got }) => got.path).sort();
    expect(paths).toEqual([1, 2, 3, 4].map((number) => join(home, 'm', `peer-${number}`)));
    expect(new Set(all.map(({ got }) => got.name)).size).toBe(4);
  });

  it.for(['SIGKILL', 'SIGTERM'] as const)(
    'one whose process ended by %s is free again, and its peer.json ignored',
    async (signal) => {
      const first = await hold({ http: false });
      const { path } = first.got;
      expect(await runningPeer(path)).toMatchObject({ pid: first.pid });
      await first.kill(signal);
      expect(existsSync(join(path, 'peer.json'))).toBe(true);
      expect(await runningPeer(path)).toBeUndefined();
      expect(await runningPeers(home, undefined)).toEqual([]);
      const second = await hold({ http: false });
      expect(second.got.path).toBe(path);
    },
  );

  it('one that was left in order has no peer.json', async () => {
    const first = await hold({ http: false });
    await first.leave();
    expect(existsSync(join(first.got.path, 'peer.json'))).toBe(false);
  });

  it('the one asked for is used or fails with the pid of its user', async () => {
    const data_dir = join(home, 'mine');
    const first = await hold({ data_dir, http: false });
    expect(first.got.path).toBe(data_dir);
    const second = await hold({ data_dir, http: false });
    expect(second.got).toMatchObject({
      error: 'DATA_FOLDER_IN_USE',
      message: expect.stringContaining(`process ${first.pid}`),
    });
  });

  it('looking at a folder does not keep a peer from taking it', async () => {
    const folder = await claimDataFolder({ home, mesh: 'm', explicit: undefined });
    await folder.release();
    const looking = Promise.all(Array.from({ length: 20 }, () => runningPeers(home, 'm')));
    const again = await claimDataFolder({ home, mesh: 'm', explicit: folder.path });
    await looking;
    await again.release();
  });

  it('running peers are listed in the order of their numbers, and only those of the mesh', async () => {
    const [a, b] = [await hold({ mesh: 'a', http: false }), await hold({ mesh: 'b', http: false })];
    const c = await hold({ mesh: 'a', http: false });
    expect((await runningPeers(home, 'a')).map(({ record }) => record.pid)).toEqual([a.pid, c.pid]);
    expect((await runningPeers(home, undefined)).map(({ record }) => record.pid)).toEqual([a.pid, c.pid, b.pid]);
    await writeFile(join(home, 'notes.txt'), 'files of other people');
    expect((await runningPeers(home, undefined)).map(({ record }) => record.pid)).toEqual([a.pid, c.pid, b.pid]);
  });

  it('one that cannot be made, or whose lock is no lock, is said to be unusable, and why', async () => {
    const blocked = join(home, 'file');
    await writeFile(blocked, '');
    const inFile = { home, mesh: 'm', explicit: join(blocked, 'x') };
    await expect(claimDataFolder(inFile)).rejects.toMatchObject({
      code: 'DATA_FOLDER_UNUSABLE',
      message: expect.stringContaining('is a file'),
    });
    const folder = await claimDataFolder({ home, mesh: 'm', explicit: join(home, 'corrupt') });
    await folder.release();
    await writeFile(join(folder.path, 'lock'), 'this is no database at all, whatever its name says'.repeat(20));
    const corrupt = { home, mesh: 'm', explicit: folder.path };
    await expect(claimDataFolder(corrupt)).rejects.toMatchObject({
      code: 'DATA_FOLDER_UNUSABLE',
      message: expect.stringContaining(`its lock file ${join(folder.path, 'lock')} cannot be used`),
    });
  });

  it.skipIf(process.getuid?.() === 0)('one that may not be written is said to be so', async () => {
    await chmod(home, 0o500);
    await expect(claimDataFolder({ home, mesh: 'm', explicit: undefined })).rejects.toMatchObject({
      message: expect.stringContaining('permission denied'),
    });
    await chmod(home, 0o700);
  });

  it('what a peer says of itself is written whole', async () => {
    const { got } = await hold({ http: false });
    expect(JSON.parse(await readFile(join(got.path, 'peer.json'), 'utf8'))).toMatchObject({
      peer_id: 'p',
      name: got.name,
    });
  });
});

describe('ports', () => {
  it('of three that start at once one takes the bootstrap port, and each another HTTP port', async () => {
    const bootstrap = [`/ip4/127.0.0.1/tcp/${await freePort()}`];
    const all = await Promise.all([1, 2, 3].map(() => hold({ bootstrap })));
    expect(all.filter(({ got }) => got.listen[0] === bootstrap[0]).length).toBe(1);
    expect(all.filter(({ got }) => got.listen[0] === '/ip4/127.0.0.1/tcp/0').length).toBe(2);
    const ports = all.map(({ got }) => got.http!.port);
    expect(new Set(ports).size).toBe(3);
    expect(Math.min(...ports)).toBeGreaterThanOrEqual(7601);
  });

  it('the bootstrap port is taken again when its peer was killed', async () => {
    const bootstrap = [`/ip4/127.0.0.1/tcp/${await freePort()}`];
    const first = await hold({ bootstrap, http: false });
    await first.kill('SIGKILL');
    expect((await hold({ bootstrap, http: false })).got.listen).toEqual(bootstrap);
  });

  it('a port that another program uses is left alone, or an error when it was asked for', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    const address = `/ip4/127.0.0.1/tcp/${port}`;
    try {
      expect((await hold({ bootstrap: [address], http: false })).got.listen).toEqual(['/ip4/127.0.0.1/tcp/0']);
      const http = (await hold({ http: { port } })).got;
      expect(http).toMatchObject({
        error: 'PORT_IN_USE',
        message: expect.stringMatching(new RegExp(`^127.0.0.1:${port} .* --http-port `)),
      });
      const listen = (await hold({ listen: [address], http: false })).got;
      expect(listen).toMatchObject({
        error: 'PORT_IN_USE',
        message: expect.stringMatching(new RegExp(`^${address} .* --listen `)),
      });
    } finally {
      server.close();
    }
    // A place that failed is let go.
    expect((await hold({ http: { port: 0 } })).got.path).toBe(join(home, 'default', 'peer-2'));
  });

  it('a bootstrap address of another host, or of a certain peer, is not listened on', async () => {
    const port = await freePort();
    const bootstrap = [
      `/ip4/192.0.2.1/tcp/${port}`,
      `/ip4/127.0.0.1/tcp/${port}/p2p/12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo`,
    ];
    expect((await hold({ bootstrap, http: false })).got.listen).toEqual(['/ip4/127.0.0.1/tcp/0']);
  });
});
