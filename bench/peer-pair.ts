/**
 * Two connected peers in processes of their own, measured from outside:
 *
 *   await using pair = await PeerPair.start('dedicated', folder);
 *   const samples = await pair.from.probe({ kind: 'request', loop: 'mesh', … });
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { z } from 'zod';
import type { JsonObject } from '../dag/errors.ts';
import type { configSchema } from '../node/config/settings.ts';
import type { AnswerMessage, CommandMessage, PeerCommands } from './peer-process.ts';
import type { Probe, Samples } from './probes.ts';
import type { LoadFigures } from './serve-load.ts';

export type Runtime = 'dedicated' | 'inline';

const PROGRAM = join(import.meta.dirname, 'peer-process.ts');
const CONNECTED_DEADLINE_MS = 20_000;
const CONNECTED_INTERVAL_MS = 20;
const STOP_DEADLINE_MS = 10_000;

export class PeerPair implements AsyncDisposable {
  readonly runtime: Runtime;
  /** Where calls start. */
  readonly from: MeasuredPeer;
  /** Where they go. */
  readonly to: MeasuredPeer;
  /** A task that `from` owns, and one that `to` owns. */
  readonly ownTask: string;
  readonly otherTask: string;

  private constructor(runtime: Runtime, from: MeasuredPeer, to: MeasuredPeer, tasks: { own: string; other: string }) {
    this.runtime = runtime;
    this.from = from;
    this.to = to;
    this.ownTask = tasks.own;
    this.otherTask = tasks.other;
  }

  /** @param root the peers' folders are made in it, and left there */
  static async start(runtime: Runtime, root: string): Promise<PeerPair> {
    const config = (name: string) => ({
      runtime,
      name: `${runtime}-${name}`,
      mesh: `bench-${runtime}`,
      data_dir: join(root, `${runtime}-${name}`),
      log_level: 'error' as const,
    });
    const to = await MeasuredPeer.start(config('to'));
    try {
      const from = await MeasuredPeer.start({ ...config('from'), bootstrap: to.addresses });
      try {
        await Promise.all([connected(from), connected(to)]);
        return new PeerPair(runtime, from, to, { own: await someTask(from), other: await someTask(to) });
      } catch (error) {
        await from.stop();
        throw error;
      }
    } catch (error) {
      await to.stop();
      throw error;
    }
  }

  async startLoad(): Promise<void> {
    await Promise.all([this.from.startLoad(), this.to.startLoad()]);
  }

  async stopLoad(): Promise<LoadFigures[]> {
    return await Promise.all([this.from.stopLoad(), this.to.stopLoad()]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.from.stop(), this.to.stop()]);
  }
}

export class MeasuredPeer {
  readonly peer_id: string;
  readonly addresses: string[];
  /** Of MCP. */
  readonly url: string;
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>();
  #nextId = 1;

  private constructor(child: ChildProcess, about: { peer_id: string; addresses: string[]; url: string }) {
    this.#child = child;
    this.peer_id = about.peer_id;
    this.addresses = about.addresses;
    this.url = about.url;
    child.on('message', (message) => this.#onAnswer(message as AnswerMessage));
    child.once('exit', (code, signal) => {
      for (const each of this.#waiting.values()) each.reject(new Error(`a measured peer ended: ${signal ?? code}`));
      this.#waiting.clear();
    });
  }

  static async start(config: z.input<typeof configSchema>): Promise<MeasuredPeer> {
    const child = fork(PROGRAM, [JSON.stringify(config)], { serialization: 'advanced' });
    const early = once(child, 'exit').then(([code, signal]) => {
      throw new Error(`a measured peer did not start: ${signal ?? `exit code ${code}`}`);
    });
    const [message] = (await Promise.race([once(child, 'message'), early])) as [AnswerMessage];
    early.catch(() => {}); // Its end is of interest to those who wait for an answer then; they are told.
    if (!('started' in message)) throw new Error('a measured peer spoke before it was started');
    return new MeasuredPeer(child, message.started);
  }

  probe(probe: Probe): Promise<Samples> {
    return this.#ask('probe', probe) as Promise<Samples>;
  }

  call(tool: string, input: JsonObject): Promise<JsonObject> {
    return this.#ask('call', tool, input) as Promise<JsonObject>;
  }

  async startLoad(): Promise<void> {
    await this.#ask('startLoad');
  }

  stopLoad(): Promise<LoadFigures> {
    return this.#ask('stopLoad') as Promise<LoadFigures>;
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = once(this.#child, 'exit');
    const tooLate = setTimeout(() => this.#child.kill('SIGKILL'), STOP_DEADLINE_MS);
    try {
      await this.#ask('stop');
    } finally {
      this.#child.disconnect();
      await exited;
      clearTimeout(tooLate);
    }
  }

  #ask(command: keyof PeerCommands, ...args: unknown[]): Promise<unknown> {
    const id = this.#nextId++;
    const answer = Promise.withResolvers<unknown>();
    this.#waiting.set(id, answer);
    this.#child.send({ id, command, args } satisfies CommandMessage);
    return answer.promise;
  }

  #onAnswer(message: AnswerMessage): void {
    if (!('id' in message)) return;
    const waiting = this.#waiting.get(message.id);
    this.#waiting.delete(message.id);
    if ('error' in message) waiting?.reject(new Error(message.error));
    else waiting?.resolve(message.value);
  }
}

async function connected(peer: MeasuredPeer): Promise<void> {
  const end = performance.now() + CONNECTED_DEADLINE_MS;
  while (performance.now() < end) {
    const { peers } = (await peer.call('peer_list', {})) as { peers: { status?: string }[] };
    if (peers.length > 0) return;
    await new Promise((resolve) => setTimeout(resolve, CONNECTED_INTERVAL_MS));
  }
  throw new Error(`the measured peers were not connected within ${CONNECTED_DEADLINE_MS} ms`);
}

/** A task that stays as it is while everything is measured. */
async function someTask(peer: MeasuredPeer): Promise<string> {
  const { task_id } = await peer.call('task_submit', { task_type: 'approve' });
  return String(task_id);
}
