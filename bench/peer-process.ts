/**
 * A measured peer: the product's own peer in a process of its own, told over the channel of `fork` what to do. Its
 * argument is the peer's config as JSON.
 */
import { errorShape, type JsonObject } from '../dag/errors.ts';
import { configSchema } from '../node/config/settings.ts';
import { createLog } from '../node/log.ts';
import { type RunningPeer, startPeer } from '../node/peer.ts';
import { yieldToMesh } from '../node/runtimes/priority.ts';
import { ProbeClient } from './probe-channel.ts';
import { CommittedResults, type Probe, ProbedMesh, runProbe, type Samples } from './probes.ts';
import { type LoadFigures, ServeLoad } from './serve-load.ts';

export interface PeerCommands {
  probe(probe: Probe): Promise<Samples>;
  /** A tool, started on the serve loop. */
  call(tool: string, input: JsonObject): Promise<JsonObject>;
  startLoad(): Promise<null>;
  stopLoad(): Promise<LoadFigures>;
  stop(): Promise<null>;
}

export type CommandMessage = { id: number; command: keyof PeerCommands; args: unknown[] };
export type AnswerMessage =
  | { started: { peer_id: string; addresses: string[]; url: string } }
  | { id: number; value: unknown }
  | { id: number; error: string };

class MeasuredPeer implements PeerCommands {
  readonly #peer: RunningPeer;
  readonly #results: CommittedResults;
  readonly #onMesh: { run(probe: Probe): Promise<Samples> };
  #load: ServeLoad | undefined;

  constructor(peer: RunningPeer) {
    this.#peer = peer;
    if (peer.mesh === null) {
      this.#results = new CommittedResults();
      this.#onMesh = new ProbeClient(this.#results);
    } else {
      const mesh = new ProbedMesh(peer.mesh, () => {});
      this.#results = mesh.results;
      this.#onMesh = mesh;
    }
  }

  probe(probe: Probe): Promise<Samples> {
    if (probe.loop === 'mesh') return this.#onMesh.run(probe);
    return runProbe(probe, (tool, input) => this.#peer.router.call(tool, input), this.#results);
  }

  call(tool: string, input: JsonObject): Promise<JsonObject> {
    return this.#peer.router.call(tool, input);
  }

  async startLoad(): Promise<null> {
    this.#load = await ServeLoad.start(`${this.#peer.http_url}/mcp`);
    return null;
  }

  async stopLoad(): Promise<LoadFigures> {
    return this.#load!.stop();
  }

  async stop(): Promise<null> {
    await this.#peer.stop();
    return null;
  }
}

const config = configSchema.parse(JSON.parse(process.argv[2]!));
const log = createLog({ level: config.log_level, fields: { name: config.name } });
const peer = await startPeer(config, log, { mesh_entry: new URL('./mesh-probe-thread.ts', import.meta.url) });
if (config.runtime === 'dedicated') yieldToMesh(log);
const measured = new MeasuredPeer(peer);
const send = (message: AnswerMessage) => process.send!(message);

process.on('message', async (message) => {
  const { id, command, args } = message as CommandMessage;
  try {
    const run = measured[command] as (...args: unknown[]) => Promise<unknown>;
    send({ id, value: await run.apply(measured, args) });
  } catch (error) {
    send({ id, error: errorShape(error).message });
  }
});
// libp2p lets go of its sockets slowly; nobody waits for what is left.
process.once('disconnect', () => process.exit());
send({ started: { peer_id: peer.peer_id, addresses: peer.addresses, url: `${peer.http_url}/mcp` } });
