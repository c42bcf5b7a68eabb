/**
 * A mesh of real peers in this process, over real libp2p on loopback, each with its own folder, store and router:
 *
 *   await using mesh = await startMeshInProcess(3, { topology: 'line' });
 *   await mesh.peers[0].call('task_submit', { task_type: 'echo' });
 *   await mesh.peers[2].kill();
 *
 * Leaving the block stops every peer and removes the folders. FLOWMESH_TEST_LOG=debug shows what they log.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import type { z } from 'zod';
import type { JsonObject } from '../../dag/errors.ts';
import { configSchema } from '../../node/config/settings.ts';
import { loadIdentity } from '../../node/p2p/identity.ts';
import { type RunningPeer, startPeer } from '../../node/peer.ts';
import type { Mesh } from '../../node/runtimes/mesh.ts';
import type { RouterCallOptions, ToolRouter } from '../../node/runtimes/router.ts';
import { eventually, type Patience } from './eventually.ts';
import { createHaltableClock, type HaltableClock } from './haltable-clock.ts';
import { testLog } from './log.ts';
import { areNeighbours, type Topology } from './topology.ts';

export type ConfigOverrides = Partial<z.input<typeof configSchema>>;

export interface InProcessOptions {
  /** Default: full. */
  topology?: Topology;
  /** For all peers, or by index. Default: inline runtime, no HTTP, any port, a mesh name of its own. */
  config?: ConfigOverrides | ((index: number) => ConfigOverrides);
  /** Wait until all neighbours are connected. Default: true. */
  connected?: boolean;
}

export async function startMeshInProcess(count: number, options: InProcessOptions = {}): Promise<InProcessMesh> {
  const root = await mkdtemp(join(tmpdir(), 'flowmesh-mesh-'));
  const mesh = new InProcessMesh(root, options);
  try {
    for (let index = 0; index < count; index++) await mesh.add();
    if (options.connected ?? true) await mesh.allConnected();
    return mesh;
  } catch (error) {
    await mesh.close();
    throw error;
  }
}

export class InProcessMesh implements AsyncDisposable {
  readonly peers: InProcessPeer[] = [];
  /** The temporary folder of the mesh, removed at the end. */
  readonly root: string;
  readonly #options: InProcessOptions;
  readonly #changed = new Map<string, boolean>();
  readonly #name: string;

  constructor(root: string, options: InProcessOptions) {
    this.root = root;
    this.#options = options;
    this.#name = `test-${root.slice(-6)}`;
  }

  /** Starts one more peer, which bootstraps from its neighbours among those that run. */
  async add(overrides: ConfigOverrides = {}): Promise<InProcessPeer> {
    const index = this.peers.length;
    const data_dir = join(this.root, `peer-${index}`);
    // The identity is made first, so that the others know whom to deny before the peer can dial them.
    const peerId = peerIdFromPrivateKey(await loadIdentity(data_dir, testLog(`peer-${index}`))).toString();
    const { config = {} } = this.#options;
    const peer = new InProcessPeer(this, index, peerId, {
      mesh: this.#name,
      name: `peer-${index}`,
      runtime: 'inline',
      http: null,
      ...(typeof config === 'function' ? config(index) : config),
      ...overrides,
      data_dir,
    });
    this.peers.push(peer);
    await peer.start();
    return peer;
  }

  mayConnect(a: number, b: number): boolean {
    return this.#changed.get(pairKey(a, b)) ?? areNeighbours(this.#options.topology ?? 'full', a, b);
  }

  /** Cuts the connection of two peers and keeps them apart. */
  separate(a: number, b: number): void {
    this.#changed.set(pairKey(a, b), false);
    for (const index of [a, b]) this.peers[index]?.running?.mesh.network.dropDenied();
  }

  /** Lets two peers connect, also where the topology does not. They do when one has a reason to dial. */
  join(a: number, b: number): void {
    this.#changed.set(pairKey(a, b), true);
  }

  /** Waits until all pairs that may be connected are, and no other. */
  async allConnected(patience?: Patience): Promise<void> {
    const up = () => this.peers.filter((peer) => peer.running !== null);
    await eventually(
      'the peers are connected as they may be',
      () => {
        for (const peer of up()) {
          const wanted = up().filter((other) => this.mayConnect(peer.index, other.index));
          const have = peer.mesh.network.connected();
          const missing = wanted.filter((other) => !have.includes(other.peer_id)).map((other) => other.index);
          if (missing.length > 0) throw new Error(`peer ${peer.index} is not connected to ${missing.join(', ')}`);
          if (have.length > wanted.length) throw new Error(`peer ${peer.index} has ${have.length} connections`);
        }
        return true;
      },
      patience,
    );
  }

  /** Stops every peer and removes the folders. */
  async close(): Promise<void> {
    const outcomes = await Promise.allSettled(this.peers.map((peer) => peer.stop()));
    await rm(this.root, { recursive: true, force: true });
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

interface Running {
  peer: RunningPeer;
  mesh: Mesh;
  clock: HaltableClock;
}

export class InProcessPeer {
  readonly index: number;
  /** Known before the peer runs, and the same after a restart. */
  readonly peer_id: string;
  /** Null while it is stopped or killed. */
  running: Running | null = null;
  readonly #of: InProcessMesh;
  #config: z.input<typeof configSchema>;
  #isolated = false;

  constructor(of: InProcessMesh, index: number, peerId: string, config: z.input<typeof configSchema>) {
    this.#of = of;
    this.index = index;
    this.peer_id = peerId;
    this.#config = config;
  }

  get data_dir(): string {
    return this.#config.data_dir;
  }
  get router(): ToolRouter {
    return this.#mustRun().peer.router;
  }
  /** Scheduler, network and store of the peer. */
  get mesh(): Mesh {
    return this.#mustRun().mesh;
  }
  get http_url(): string | null {
    return this.#mustRun().peer.http_url;
  }

  call(tool: string, input: JsonObject = {}, options?: RouterCallOptions): Promise<JsonObject> {
    return this.router.call(tool, input, options);
  }

  async start(): Promise<void> {
    if (this.running !== null) throw new Error(`peer ${this.index} runs already`);
    this.#isolated = false;
    const neighbours = this.#of.peers.filter((other) => other !== this && this.#of.mayConnect(this.index, other.index));
    const known = neighbours.flatMap((other) => other.running?.mesh.network.addresses() ?? []);
    const bootstrap = [...(this.#config.bootstrap ?? []), ...known];
    const clock = createHaltableClock();
    const config = configSchema.parse({ ...this.#config, bootstrap });
    const peer = await startPeer(config, testLog(config.name), { clock, denied: () => this.#denied() });
    if (peer.mesh === null)
      throw new Error('peers in one process need the inline runtime; start processes for the other');
    this.running = { peer, mesh: peer.mesh, clock };
    // The same port after a restart: the others dial what they know.
    this.#config = { ...this.#config, listen: peer.addresses.map((address) => address.replace(/\/p2p\/.*$/, '')) };
  }

  /** Ends it in order. Does nothing when it does not run. */
  async stop(): Promise<void> {
    const { running } = this;
    this.running = null;
    await running?.peer.stop();
  }

  /** Ends it as a crash would: its connections break without a word and nothing more is written. */
  async kill(): Promise<void> {
    const { peer, mesh, clock } = this.#mustRun();
    this.running = null;
    this.#isolated = true;
    mesh.network.dropDenied();
    clock.halt();
    await mesh.stop({ handOver: false });
    await peer.stop();
  }

  /** On the same folder and port; ends it in order first when it runs. */
  async restart(): Promise<void> {
    await this.stop();
    await this.start();
  }

  #denied(): Set<string> {
    const others = this.#of.peers.filter((other) => other !== this);
    const kept = others.filter((other) => this.#isolated || !this.#of.mayConnect(this.index, other.index));
    return new Set(kept.map((other) => other.peer_id));
  }

  #mustRun(): Running {
    if (this.running === null) throw new Error(`peer ${this.index} does not run`);
    return this.running;
  }
}

function pairKey(a: number, b: number): string {
  return `${Math.min(a, b)}-${Math.max(a, b)}`;
}
