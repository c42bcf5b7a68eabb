/**
 * The measured mesh: an owner in this process, as a program that embeds flowmesh has it, and two workers in processes
 * of their own. The owner has no slots: every task goes over the wire.
 *
 *   await using mesh = await ThroughputMesh.start({ copies: 2, slots: 64 }, folder);
 *   const { answered_ms, ended_ms } = await mesh.run('task_submit', { task_type: 'echo' });
 */
import { join } from 'node:path';
import type { JsonObject } from '../dag/errors.ts';
import { nowNs } from './probes.ts';
import { SecuredFolders } from './secured-folders.ts';
import type { PeerFigures } from './throughput-figures.ts';
import { ThroughputPeer } from './throughput-peer.ts';
import { WorkerProcess } from './throughput-worker.ts';

/** The numbers of copies that are measured against each other. */
export const COPIES = [1, 2];

const WORKERS = ['worker-1', 'worker-2'] as const;
const READY_DEADLINE_MS = 30_000;
const READY_INTERVAL_MS = 50;
const NS_PER_MS = 1_000_000;

export interface MeshSpec {
  copies: number;
  /** Of each worker. */
  slots: number;
  /** The peers are members of a secured mesh. */
  secured: boolean;
}

type SubmitTool = 'task_submit' | 'workflow_submit';

/** Since the submit. */
export interface Submitted {
  answered_ms: number;
  ended_ms: Promise<number>;
}

export interface Ran {
  answered_ms: number;
  ended_ms: number;
}

export class ThroughputMesh implements AsyncDisposable {
  readonly copies: number;
  /** Answers that told of fewer copies than were asked for. */
  short_answers = 0;
  readonly #owner: ThroughputPeer;
  readonly #workers: WorkerProcess[] = [];

  private constructor(owner: ThroughputPeer, copies: number) {
    this.#owner = owner;
    this.copies = copies;
  }

  /** @param root the peers' folders are made in it, and left there */
  static async start({ copies, slots, secured }: MeshSpec, root: string): Promise<ThroughputMesh> {
    const which = `${secured ? 'secured-' : ''}copies-${copies}`;
    if (secured) {
      using folders = await SecuredFolders.found(join(root, `${which}-office`));
      for (const name of ['owner', ...WORKERS]) await folders.add(join(root, `${which}-${name}`), name);
    }
    const config = (name: string, own: number) => ({
      name,
      mesh: `bench-${which}`,
      data_dir: join(root, `${which}-${name}`),
      worker: { slots: own },
      copies,
    });
    const owner = await ThroughputPeer.start(config('owner', 0));
    const mesh = new ThroughputMesh(owner, copies);
    try {
      for (const name of WORKERS) {
        mesh.#workers.push(await WorkerProcess.start({ ...config(name, slots), bootstrap: owner.addresses }));
      }
      await mesh.#ready();
      return mesh;
    } catch (error) {
      await mesh[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Resolves with the answer to the submit; what is to be waited for next is the end of what was submitted. */
  async submit(tool: SubmitTool, input: JsonObject): Promise<Submitted> {
    const started = nowNs();
    const answer = await this.#owner.call(tool, input);
    const answered_ms = msSince(started, nowNs());
    const { copies } = answer['durability'] as { copies: number };
    if (copies < this.copies) this.short_answers++;
    const ended = this.#owner.end(String(answer[tool === 'task_submit' ? 'task_id' : 'workflow_id']));
    return { answered_ms, ended_ms: ended.then((endedNs) => msSince(started, endedNs)) };
  }

  /** As `submit`, and waits for the end. */
  async run(tool: SubmitTool, input: JsonObject): Promise<Ran> {
    const { answered_ms, ended_ms } = await this.submit(tool, input);
    return { answered_ms, ended_ms: await ended_ms };
  }

  /** Of the owner first, then of each worker. */
  figures(): Promise<PeerFigures[]> {
    return Promise.all([this.#owner, ...this.#workers].map((each) => each.figures()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.#owner, ...this.#workers].map((each) => each.stop()));
  }

  /** Each worker has run a task, and an answer has told of as many copies as are wanted. */
  async #ready(): Promise<void> {
    for (const { peer_id } of this.#workers) {
      await this.run('task_submit', { task_type: 'echo', requires: { peers: [peer_id] } });
    }
    const end = performance.now() + READY_DEADLINE_MS;
    for (;;) {
      this.short_answers = 0;
      await this.run('task_submit', { task_type: 'echo' });
      if (this.short_answers === 0) return;
      if (performance.now() > end) throw new Error(`no ${this.copies} copies within ${READY_DEADLINE_MS} ms`);
      await new Promise((resolve) => setTimeout(resolve, READY_INTERVAL_MS));
    }
  }
}

function msSince(startedNs: bigint, endedNs: bigint): number {
  return Number(endedNs - startedNs) / NS_PER_MS;
}
