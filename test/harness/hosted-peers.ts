/**
 * Peers on the hosts of `namespaces.ts`, each with a FLOWMESH_HOME of its own. MCP is served on the loopback of the
 * host, so the command line runs there too:
 *
 *   await using peer = await HostedPeer.start(server, ['--mesh', 'ours']);
 *   const { peers } = await peer.cli('peer', 'list');
 */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { JsonObject } from '../../dag/errors.ts';
import { type PeerRecord, runningPeer } from '../../node/data-folder.ts';
import { environmentWithoutSettings } from './environment.ts';
import { eventually } from './eventually.ts';
import type { Host } from './namespaces.ts';
import { PROGRAM } from './program.ts';

/** Where a peer runs. */
export type PeerHost = Pick<Host, 'name' | 'spawn' | 'run'>;

export class HostedPeer<H extends PeerHost = Host> implements AsyncDisposable {
  readonly host: H;
  /** Its FLOWMESH_HOME. */
  readonly home: string;
  /** What it wrote since it was started first. */
  output = '';
  /** Of its last start. */
  record!: PeerRecord;
  readonly #args: readonly string[];
  #child: ChildProcess | undefined;

  private constructor(host: H, home: string, args: readonly string[]) {
    this.host = host;
    this.home = home;
    this.#args = args;
  }

  /** @param args of `node start`. @throws with what it wrote when it ends before it is ready */
  static start<H extends PeerHost>(host: H, args: readonly string[] = []): Promise<HostedPeer<H>> {
    return HostedPeer.#make(host, args, (peer) => peer.start());
  }

  /** Founds a mesh there. @param founding of `mesh init` */
  static found<H extends PeerHost>(
    host: H,
    founding: readonly string[],
    args: readonly string[] = [],
  ): Promise<HostedPeer<H>> {
    return HostedPeer.#make(host, args, async (peer) => {
      await peer.text('mesh', 'init', ...founding, '--name', host.name);
      await peer.start();
    });
  }

  /** Runs there what `mesh invite` printed. */
  static join<H extends PeerHost>(host: H, line: string, args: readonly string[] = []): Promise<HostedPeer<H>> {
    return HostedPeer.#make(host, args, (peer) => peer.start(line.trim().split(' ').slice(1)));
  }

  static async #make<H extends PeerHost>(
    host: H,
    args: readonly string[],
    begin: (peer: HostedPeer<H>) => Promise<void>,
  ): Promise<HostedPeer<H>> {
    const peer = new HostedPeer(host, await mkdtemp(join(tmpdir(), `flowmesh-${host.name}-`)), args);
    try {
      await begin(peer);
      return peer;
    } catch (error) {
      await peer[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Again, on the same folder. */
  async start(command: readonly string[] = ['node', 'start']): Promise<void> {
    const args = [PROGRAM, ...command, '--name', this.host.name, '--http-port', '0', ...this.#args];
    // It ends with the process at the other end of the channel.
    const child = this.host.spawn(process.execPath, args, { ...this.#place, stdio: ['ignore', 'pipe', 'pipe', 'ipc'] });
    this.#child = child;
    for (const stream of [child.stdout!, child.stderr!]) {
      stream.on('data', (chunk) => {
        this.output += chunk;
        if (process.env['FLOWMESH_TEST_LOG'] !== undefined) process.stderr.write(`${this.host.name}: ${chunk}`);
      });
    }
    this.record = await eventually(`${this.host.name} runs`, async () => {
      if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}: ${this.output}`);
      const record = await runningPeer(this.#data);
      return record?.pid === child.pid && record?.http_url !== null ? record : undefined;
    });
    await this.cli('node', 'status');
  }

  /** Runs a command on its host, against it. @throws with what it wrote when it fails */
  async cli(...args: string[]): Promise<JsonObject> {
    return JSON.parse(await this.text(...args, '--json')) as JsonObject;
  }

  /** What a command writes, for people. */
  text(...args: string[]): Promise<string> {
    return this.host.run(process.execPath, [PROGRAM, ...args], this.#place);
  }

  /** Sends a signal and waits until it is gone. */
  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, 'exit');
    child.kill(signal);
    await gone;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end('SIGKILL');
    await rm(this.home, { recursive: true, force: true });
  }

  get #data(): string {
    return join(this.home, 'peer');
  }

  /** No setting of the machine and no file of this repository reaches it. */
  get #place(): { cwd: string; env: NodeJS.ProcessEnv } {
    const own = { FLOWMESH_HOME: this.home, FLOWMESH_DATA_DIR: this.#data, FLOWMESH_HANDED_OVER: '1' };
    return { cwd: this.home, env: { ...environmentWithoutSettings(), ...own } };
  }
}
