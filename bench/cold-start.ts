/** A peer as a user starts it: how long until it is ready, the memory it holds when nothing happens, its first client. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { get } from 'node:http';
import { type AddressInfo, createServer } from 'node:net';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { Runtime } from './peer-pair.ts';
import { RawMcpClient } from './raw-mcp-client.ts';

const PROGRAM = resolve(import.meta.dirname, '../bin/flowmesh.js');
const READY_DEADLINE_MS = 60_000;
const STOP_DEADLINE_MS = 10_000;
/** Between two looks at `/ready`: the resolution of the figure. */
const READY_INTERVAL_MS = 5;
const KIB_PER_MB = 1_000_000 / 1_024;

export interface ColdStart {
  /** From the start of the process to the first good answer of `/ready`. */
  ready_ms: number;
  /** Resident memory of the process after `idle_ms`. */
  rss_mb: number;
  /** Of its first MCP client, after that. */
  initialize_ms: number;
}

/**
 * @param options.root a folder for the peer's own, which is removed
 * @param options.compiled false: without the cache of compiled sources, as the very first start on a machine
 * @throws when it is not ready in time
 */
export async function measureColdStart(options: {
  runtime: Runtime;
  root: string;
  idle_ms: number;
  compiled: boolean;
}): Promise<ColdStart> {
  const home = await mkdtemp(join(options.root, 'start-'));
  const port = await freePort();
  const args = ['node', 'start', '--runtime', options.runtime, '--http-port', String(port), '--log-level', 'error'];
  const clean = Object.entries(process.env).filter(([name]) => !name.startsWith('FLOWMESH_'));
  const env = {
    ...Object.fromEntries(clean),
    FLOWMESH_HOME: home,
    FLOWMESH_HANDED_OVER: '1',
    ...(!options.compiled && { NODE_DISABLE_COMPILE_CACHE: '1' }),
  };
  const started = performance.now();
  const child = spawn(process.execPath, [PROGRAM, ...args], { env, stdio: ['ignore', 'ignore', 'ignore', 'ipc'] });
  const exited = once(child, 'exit');
  try {
    while (!(await isReady(port))) {
      if (child.exitCode !== null) throw new Error(`a peer that was to be measured ended with ${child.exitCode}`);
      if (performance.now() - started > READY_DEADLINE_MS)
        throw new Error('a peer that was to be measured is not ready');
      await delay(READY_INTERVAL_MS);
    }
    const ready_ms = performance.now() - started;
    await delay(options.idle_ms);
    const rss_mb = await residentMb(child.pid!);
    const client = new RawMcpClient(`http://127.0.0.1:${port}/mcp`, 1);
    const initialize_ms = await client.initialize();
    client.close();
    return { ready_ms, rss_mb, initialize_ms };
  } finally {
    // In order: a process keeps what it compiled when it ends.
    child.kill('SIGTERM');
    const tooLate = setTimeout(() => child.kill('SIGKILL'), STOP_DEADLINE_MS);
    await exited;
    clearTimeout(tooLate);
    await rm(home, { recursive: true, force: true });
  }
}

function isReady(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const request = get({ host: '127.0.0.1', port, path: '/ready' }, (response) => {
      response.resume();
      response.once('end', () => resolve(response.statusCode === 200));
    });
    request.once('error', () => resolve(false)); // Nobody listens yet.
  });
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

async function residentMb(pid: number): Promise<number> {
  const { stdout } = await promisify(execFile)('ps', ['-o', 'rss=', '-p', String(pid)]);
  return Number(stdout.trim()) / KIB_PER_MB;
}
