/**
 * A mesh of real processes on loopback, started as a user starts them, in a temporary FLOWMESH_HOME:
 *
 *   await using mesh = await startProcesses(3, { args: ['--allow-shell', '*'] });
 *   const client = await mesh.peers[1].mcp();
 *   await mesh.peers[2].kill('SIGKILL');
 *   await mesh.peers[2].restart();
 *
 * Leaving the block ends every process by its id and removes the folder; a runner that dies takes them with it.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { SecuredFolders } from '../../bench/secured-folders.ts';
import { type JsonObject, RemoteError } from '../../dag/errors.ts';
import { type PeerRecord, runningPeer } from '../../node/data-folder.ts';
import { errorSchema } from '../../scheduler/records.ts';
import { environmentWithoutSettings } from './environment.ts';
import { eventually, type Patience } from './eventually.ts';
import { HANG_MS } from './patience.ts';
import { PROGRAM } from './program.ts';
import { areNeighbours, type Topology } from './topology.ts';

const START_MS = HANG_MS;
/** Then it is asked again: one answer that is lost is not a peer that does not start. */
const READY_ANSWER_MS = 30_000;
/** After SIGTERM, before SIGKILL. */
const STOP_MS = 60_000;
/** Kept of what a peer wrote, for the message of a failed start. */
const OUTPUT_CHARS_MAX = 100_000;
const REPORT_CHARS = 10_000;

export interface ProcessesOptions {
  /** Default: full. In another one peers dial only their neighbours of lower index (`--no-auto-connect`). */
  topology?: Topology;
  /** More arguments of `node start`, for all or by index. */
  args?: string[] | ((index: number) => string[]);
  /** More variables of the environment, for all or by index. */
  env?: Record<string, string> | ((index: number) => Record<string, string>);
  /** Wait until every peer has all its neighbours. Default: true. */
  connected?: boolean;
  /** The peers are members of a secured mesh, still on loopback. Default: false. */
  secured?: boolean;
}

export async function startProcesses(count: number, options: ProcessesOptions = {}): Promise<ProcessMesh> {
  const home = await mkdtemp(join(tmpdir(), 'flowmesh-home-'));
  const mesh = new ProcessMesh(home, options);
  try {
    // The first alone: in a full mesh and in a star, the others need only its address and start together.
    if (count > 0) await mesh.add();
    if (options.topology === undefined || options.topology === 'full' || options.topology === 'star') {
      await Promise.all(Array.from({ length: count - 1 }, () => mesh.add()));
    } else for (let index = 1; index < count; index++) await mesh.add();
    if (options.connected ?? true) await mesh.allConnected();
    return mesh;
  } catch (error) {
    await mesh.close();
    throw error;
  }
}

export class ProcessMesh implements AsyncDisposable {
  readonly peers: PeerProcess[] = [];
  /** FLOWMESH_HOME of the peers, and the place to run the CLI in. */
  readonly home: string;
  readonly name: string;
  readonly #options: ProcessesOptions;
  #members: Promise<SecuredFolders> | undefined;

  constructor(home: string, options: ProcessesOptions) {
    this.home = home;
    this.name = `test-${home.slice(-6)}`;
    this.#options = options;
  }

  /** The environment of every program of the mesh: no setting of the machine reaches it. */
  get env(): NodeJS.ProcessEnv {
    const { env } = this.#options;
    return { ...environmentWithoutSettings(), FLOWMESH_HOME: this.home, ...(typeof env === 'function' ? {} : env) };
  }

  /** The environment of one peer. */
  envOf(index: number): NodeJS.ProcessEnv {
    const { env } = this.#options;
    return { ...this.env, ...(typeof env === 'function' ? env(index) : {}) };
  }

  /** Starts one more peer and waits until it is ready. */
  async add(extraArgs: string[] = []): Promise<PeerProcess> {
    const { args = [], topology = 'full' } = this.#options;
    const index = this.peers.length;
    const neighbours = this.peers.filter((other) => areNeighbours(topology, index, other.index) && other.isRunning);
    const dataDir = join(this.home, this.name, `peer-${index + 1}`);
    const secured = this.#options.secured ?? false;
    const peer = new PeerProcess(this, index, [
      ...['--mesh', this.name, '--name', `peer-${index}`, '--data-dir', dataDir],
      ...(secured ? ['--listen', '/ip4/127.0.0.1/tcp/0'] : []),
      ...(topology === 'full' ? [] : ['--no-auto-connect']),
      ...neighbours.flatMap((other) => other.record?.addresses ?? []).flatMap((address) => ['--join', address]),
      ...['--log-level', process.env['FLOWMESH_TEST_LOG'] ?? 'info'],
      // What a test leaves running is not waited for.
      ...['--drain-timeout-ms', '0'],
      ...(typeof args === 'function' ? args(index) : args),
      ...extraArgs,
    ]);
    this.peers.push(peer);
    if (secured) {
      this.#members ??= SecuredFolders.found(join(this.home, 'office'));
      await (await this.#members).add(dataDir, `peer-${index}`);
    }
    await peer.start();
    return peer;
  }

  /** Waits until every running peer has as many connections as running neighbours. */
  async allConnected(patience: Patience = { timeoutMs: START_MS }): Promise<void> {
    const { topology = 'full' } = this.#options;
    const up = this.peers.filter((peer) => peer.isRunning);
    await Promise.all(
      up.map((peer) => {
        const wanted = up.filter((other) => areNeighbours(topology, peer.index, other.index)).length;
        return eventually(
          `peer ${peer.index} has ${wanted} connections`,
          async () => ((await peer.ready())?.connected_peers ?? -1) >= wanted,
          patience,
        );
      }),
    );
  }

  /** Ends every process and removes the folder. */
  async close(): Promise<void> {
    await Promise.all(this.peers.map((peer) => peer.stop()));
    (await this.#members)?.[Symbol.dispose]();
    await rm(this.home, { recursive: true, force: true });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

export class PeerProcess {
  readonly index: number;
  /** Of the last start; undefined before the first. */
  record: PeerRecord | undefined;
  /** What it wrote to stderr since its last start. */
  stderr = '';
  stdout = '';
  readonly #of: ProcessMesh;
  readonly #args: string[];
  readonly #clients = new Set<Client>();
  #child: ChildProcess | undefined;
  #exited: Promise<unknown> = Promise.resolve();

  constructor(of: ProcessMesh, index: number, args: string[]) {
    this.#of = of;
    this.index = index;
    this.#args = args;
  }

  get isRunning(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }
  /** Of its last end; null while it runs and after a signal that it did not handle. */
  get exitCode(): number | null {
    return this.#child?.exitCode ?? null;
  }
  /** Resolves when it has ended, by itself or not. */
  get ended(): Promise<void> {
    return this.#exited.then(() => undefined);
  }
  /** Whether it runs, and the end of what it wrote: for the message of a test that failed. */
  get report(): string {
    const ended = `ended with ${this.#child?.exitCode ?? this.#child?.signalCode}`;
    return `peer ${this.index} ${this.isRunning ? 'runs' : ended}; ${this.stderr.slice(-REPORT_CHARS)}`;
  }
  get pid(): number {
    return this.#mustHave(this.#child?.pid);
  }
  get peer_id(): string {
    return this.#mustHave(this.record?.peer_id);
  }
  /** Without a path. */
  get url(): string {
    return this.#mustHave(this.record?.http_url);
  }
  get data_dir(): string {
    return this.#args[this.#args.lastIndexOf('--data-dir') + 1]!;
  }

  /**
   * Resolves when it is ready.
   *
   * @param env more variables of the environment, for this start alone
   * @throws with its output when it ends before, or is not ready in time
   */
  async start(env: Record<string, string> = {}): Promise<void> {
    if (this.isRunning) throw new Error(`peer ${this.index} runs already`);
    await this.#closeClients(); // Those of a process that ended by itself.
    this.stderr = '';
    this.stdout = '';
    const child = spawn(process.execPath, [PROGRAM, 'node', 'start', ...this.#args, ...this.#ports()], {
      // The program ends with the process at the other end of this channel, so none outlives a runner that is killed.
      env: { ...this.#of.envOf(this.index), ...env, FLOWMESH_HANDED_OVER: '1' },
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    });
    this.#child = child;
    this.#exited = once(child, 'exit');
    child.stderr!.on('data', (chunk) => {
      this.stderr = (this.stderr + chunk).slice(-OUTPUT_CHARS_MAX);
      if (process.env['FLOWMESH_TEST_LOG'] !== undefined) process.stderr.write(chunk);
    });
    child.stdout!.on('data', (chunk) => {
      this.stdout = (this.stdout + chunk).slice(-OUTPUT_CHARS_MAX);
    });
    const ready = eventually(`peer ${this.index} is ready`, () => this.#looksReady(), { timeoutMs: START_MS });
    const early = this.#exited.then(() => {
      throw new Error(`it ended with ${child.exitCode ?? child.signalCode}`);
    });
    try {
      await Promise.race([ready, early]);
    } catch (error) {
      await this.kill('SIGKILL');
      throw new Error(`peer ${this.index} did not start: ${(error as Error).message}\n${this.stderr}`, {
        cause: error,
      });
    } finally {
      early.catch(() => {}); // It ends one day; only an end before it was ready is of interest.
      ready.catch(() => {});
    }
  }

  /** What `/ready` says; undefined when it is not ready or does not answer. */
  async ready(): Promise<{ ready: boolean; peer_id: string; connected_peers: number } | undefined> {
    const response = await fetch(`${this.url}/ready`, { signal: AbortSignal.timeout(READY_ANSWER_MS) });
    return response.ok
      ? ((await response.json()) as { ready: boolean; peer_id: string; connected_peers: number })
      : undefined;
  }

  /** Sends a signal and waits until the process is gone. */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    if (this.isRunning) this.#child!.kill(signal);
    await this.#exited;
    await this.#closeClients();
  }

  /** SIGSTOP: the process is there and does nothing. */
  pause(): void {
    process.kill(this.pid, 'SIGSTOP');
  }

  resume(): void {
    process.kill(this.pid, 'SIGCONT');
  }

  /** SIGTERM, and SIGKILL when that takes too long. Does nothing when it does not run. */
  async stop(): Promise<void> {
    await this.#closeClients();
    if (!this.isRunning) return;
    this.resume();
    const tooLate = setTimeout(() => this.#child?.kill('SIGKILL'), STOP_MS);
    try {
      await this.kill('SIGTERM');
    } finally {
      clearTimeout(tooLate);
    }
  }

  /** On the same folder and ports; stops it first when it runs. */
  async restart(): Promise<void> {
    await this.stop();
    await this.start();
  }

  /** A new MCP client of the SDK over HTTP, closed with the peer at the latest. */
  async mcp(): Promise<Client> {
    const client = new Client({ name: 'flowmesh-test', version: '1.0.0' });
    await client.connect(new StreamableHTTPClientTransport(new URL(`${this.url}/mcp`)));
    this.#clients.add(client);
    return client;
  }

  /** Calls a tool over MCP. @throws RemoteError when its result says `success: false` */
  async call(tool: string, input: JsonObject = {}): Promise<JsonObject> {
    const [client = await this.mcp()] = this.#clients;
    const { structuredContent } = await client.callTool({ name: tool, arguments: input });
    const output = structuredContent as JsonObject;
    if (output['success'] !== true) throw new RemoteError(errorSchema.parse(output['error']) as RemoteError);
    return output;
  }

  async #looksReady(): Promise<boolean> {
    const record = await runningPeer(this.data_dir);
    if (record === undefined || record.pid !== this.#child!.pid || record.http_url === null) return false;
    this.record = record;
    return (await this.ready())?.ready ?? false;
  }

  /** Any free ports at first, the same ones ever after: other peers and clients come back to where it was. */
  #ports(): string[] {
    const http = ['--http-port', this.record === undefined ? '0' : new URL(this.url).port];
    if (this.#args.includes('--listen')) return http;
    const listen = this.record?.addresses.map((address) => address.replace(/\/p2p\/.*$/, ''));
    return [...http, ...(listen ?? ['/ip4/127.0.0.1/tcp/0']).flatMap((address) => ['--listen', address])];
  }

  async #closeClients(): Promise<void> {
    const clients = [...this.#clients];
    this.#clients.clear();
    // A client whose peer is gone fails to say goodbye; there is nobody to say it to.
    await Promise.allSettled(clients.map((client) => client.close()));
  }

  #mustHave<T>(value: T | null | undefined): T {
    if (value === null || value === undefined) throw new Error(`peer ${this.index} does not run`);
    return value;
  }
}
