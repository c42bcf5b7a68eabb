/** One measured peer: the product's own, what it has done so far, and when what was submitted to it ended. */
import { BroadcastChannel } from 'node:worker_threads';
import type { z } from 'zod';
import type { JsonObject } from '../dag/errors.ts';
import { type Config, configSchema } from '../node/config/settings.ts';
import { createLog } from '../node/log.ts';
import { type RunningPeer, startPeer } from '../node/peer.ts';
import { yieldToMesh } from '../node/runtimes/priority.ts';
import { type MeshFigures, ownThreadFigures, type PeerFigures } from './throughput-figures.ts';
import type { Ended } from './throughput-watch.ts';

export type PeerConfig = z.input<typeof configSchema>;

/** Between the serve loop and the watch on the mesh loop. */
export type ToWatch = { kind: 'ask' };
export type ToServe = { kind: 'figures'; figures: MeshFigures } | { kind: 'ended'; ended: Ended[] };

/** Several peers may run in one process. */
export function watchChannel({ mesh, name }: Pick<Config, 'mesh' | 'name'>): string {
  return `flowmesh-bench-throughput ${mesh} ${name}`;
}

const MESH_THREAD = new URL('./throughput-mesh-thread.ts', import.meta.url);

export class ThroughputPeer {
  readonly #peer: RunningPeer;
  readonly #channel: BroadcastChannel;
  #asked: PromiseWithResolvers<MeshFigures> | undefined;
  /** By id. An end may be heard before the answer to the submit, or the other way round. */
  readonly #ends = new Map<string, PromiseWithResolvers<Ended>>();

  private constructor(peer: RunningPeer) {
    this.#peer = peer;
    this.#channel = new BroadcastChannel(watchChannel(peer.config));
    this.#channel.unref();
    this.#channel.onmessage = ({ data }) => this.#heard(data as ToServe);
  }

  static async start(given: PeerConfig): Promise<ThroughputPeer> {
    const config = configSchema.parse({ runtime: 'dedicated', http: null, log_level: 'error', ...given });
    const log = createLog({ level: config.log_level, fields: { name: config.name } });
    const peer = await startPeer(config, log, { mesh_entry: MESH_THREAD });
    yieldToMesh(log);
    return new ThroughputPeer(peer);
  }

  get peer_id(): string {
    return this.#peer.peer_id;
  }

  get addresses(): string[] {
    return this.#peer.addresses;
  }

  call(tool: string, input: JsonObject): Promise<JsonObject> {
    return this.#peer.router.call(tool, input);
  }

  /**
   * When a submitted task or workflow ended, on the clock of `nowNs`. Asked once for each id.
   * @throws when it did not complete
   */
  async end(id: string): Promise<bigint> {
    const { status, at_ns } = await this.#endOf(id).promise;
    this.#ends.delete(id);
    if (status !== 'completed') throw new Error(`what was measured ended as ${status}`);
    return at_ns;
  }

  async figures(): Promise<PeerFigures> {
    this.#asked = Promise.withResolvers();
    this.#channel.postMessage({ kind: 'ask' } satisfies ToWatch);
    return { ...(await this.#asked.promise), serve: ownThreadFigures() };
  }

  async stop(): Promise<void> {
    await this.#peer.stop();
    this.#channel.close();
  }

  #heard(message: ToServe): void {
    if (message.kind === 'figures') this.#asked?.resolve(message.figures);
    else for (const ended of message.ended) this.#endOf(ended.id).resolve(ended);
  }

  #endOf(id: string): PromiseWithResolvers<Ended> {
    const known = this.#ends.get(id) ?? Promise.withResolvers<Ended>();
    this.#ends.set(id, known);
    return known;
  }
}
