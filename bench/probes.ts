/**
 * What is measured inside a peer: calls one after the other, each timed from its start on the loop that starts it.
 *
 * Probes run on the mesh loop (with the dedicated runtime that is another thread) or on the serve loop; both runtimes
 * run exactly these calls.
 */

import type { JsonObject, JsonValue } from '../dag/errors.ts';
import { packMessage } from '../node/p2p/frames.ts';
import type { Mesh } from '../node/runtimes/mesh.ts';
import type { CallOptions } from '../node/runtimes/mesh-link.ts';
import { EVERYBODY } from '../scheduler/caller.ts';
import { isTerminal, type Row } from '../scheduler/records.ts';

export interface Probe {
  /** A bare request on the peer stream; `task_status` or `task_submit` at the other peer; a no-op step placed there. */
  kind: 'request' | 'read_tool' | 'write_tool' | 'step';
  /** The loop that starts the calls. */
  loop: 'mesh' | 'serve';
  iterations: number;
  /** Of the request as it is packed, or of the task's payload. */
  size_bytes: number;
  /** The other peer. */
  peer_id: string;
  /** A task that the other peer owns. */
  task_id: string;
}

/** Milliseconds, in the order of the calls. */
export type Samples = number[];

export type Call = (tool: string, input: JsonObject) => Promise<JsonObject>;

const DEADLINE_MS = 30_000;
/** A submit that names a peer here is handed on to it: the product itself submits where it was asked. */
const ON_PEER = 'bench_on_peer';
/** Names the step whose committed result a probe waits for. */
const MARK = 'bench_mark';
/** Tasks that are only to be accepted wait for this long, and are cleared before. */
const DELAY_MS = 3_600_000;
const NS_PER_MS = 1_000_000;

/** Nanoseconds on a clock that all threads of the process share. */
export function nowNs(): bigint {
  return process.hrtime.bigint();
}

/** When the results of marked steps were on this peer's disk. */
export class CommittedResults {
  readonly #awaited = new Map<string, PromiseWithResolvers<bigint>>();

  expect(mark: string): Promise<bigint> {
    const waiting = Promise.withResolvers<bigint>();
    this.#awaited.set(mark, waiting);
    return waiting.promise;
  }

  /** @returns false when nobody here waits for it */
  settle({ mark, status, at_ns }: CommittedResult): boolean {
    const waiting = this.#awaited.get(mark);
    if (waiting === undefined) return false;
    this.#awaited.delete(mark);
    if (status === 'completed') waiting.resolve(at_ns);
    else waiting.reject(new Error(`a measured step ended as ${status}`));
    return true;
  }
}

export interface CommittedResult {
  mark: string;
  status: string;
  at_ns: bigint;
}

/** @param call starts a tool on the loop of the probe */
export async function runProbe(probe: Probe, call: Call, results: CommittedResults): Promise<Samples> {
  const samples: Samples = [];
  for (let index = 0; index < probe.iterations; index++) {
    const elapsedNs = probe.kind === 'step' ? await timeStep(probe, call, results) : await timeTool(probe, call);
    samples.push(Number(elapsedNs) / NS_PER_MS);
  }
  return samples;
}

async function timeTool({ kind, peer_id, task_id, size_bytes }: Probe, call: Call): Promise<bigint> {
  const metadata = { [ON_PEER]: peer_id };
  const submit = { task_type: 'echo', payload: padding(size_bytes), delay_ms: DELAY_MS, metadata };
  const started = nowNs();
  if (kind === 'read_tool') await call('task_status', { task_id });
  else await call('task_submit', submit);
  return nowNs() - started;
}

async function timeStep({ peer_id, size_bytes }: Probe, call: Call, results: CommittedResults): Promise<bigint> {
  const mark = String(nowNs());
  const requires = { peers: [peer_id] };
  const submit = { task_type: 'echo', payload: padding(size_bytes), requires, metadata: { [MARK]: mark } };
  const onDisk = results.expect(mark);
  const started = nowNs();
  // The result may be on disk before the answer to the submit is here; the next call waits for both.
  const [ended] = await Promise.all([onDisk, call('task_submit', submit)]);
  return ended - started;
}

function padding(bytes: number): JsonObject {
  return { pad: 'x'.repeat(bytes) };
}

/** The mesh side of a peer, with what probes need of it. */
export class ProbedMesh {
  readonly results = new CommittedResults();
  readonly #mesh: Mesh;
  readonly #onResult: (result: CommittedResult) => void;

  /**
   * Changes `mesh`: results of marked steps are noticed when they are committed, marked submits are handed on.
   *
   * @param onResult gets the results that nobody on this loop waits for
   */
  constructor(mesh: Mesh, onResult: (result: CommittedResult) => void) {
    this.#mesh = mesh;
    this.#onResult = onResult;
    const { store } = mesh;
    const commit = store.commit.bind(store);
    store.commit = async (rows) => {
      await commit(rows);
      this.#committed(rows);
    };
    const call = mesh.call.bind(mesh);
    mesh.call = (tool, input, options) => this.#handOn(tool, input) ?? call(tool, input, options);
  }

  run(probe: Probe): Promise<Samples> {
    if (probe.kind === 'request') return this.#requests(probe);
    return runProbe(probe, (tool, input) => this.#mesh.call(tool, input, callOptions()), this.results);
  }

  /** The barest request there is: to reserve these ids, of which there are none. */
  async #requests({ iterations, size_bytes, peer_id }: Probe): Promise<Samples> {
    const unpadded = packMessage({ id: 1_000, method: 'reserve', params: { items: [], pad: '' } }).byteLength;
    const params = { items: [], ...padding(Math.max(0, size_bytes - unpadded)) };
    const samples: Samples = [];
    for (let index = 0; index < iterations; index++) {
      const started = nowNs();
      await this.#mesh.network.request(peer_id, 'reserve', params, DEADLINE_MS);
      samples.push(Number(nowNs() - started) / NS_PER_MS);
    }
    return samples;
  }

  #committed(rows: readonly Row[]): void {
    const at_ns = nowNs();
    for (const { record } of rows) {
      if (record.kind !== 'task' || !isTerminal(record.status)) continue;
      const mark = record.metadata[MARK];
      if (typeof mark !== 'string') continue;
      const result = { mark, status: record.status, at_ns };
      if (!this.results.settle(result)) this.#onResult(result);
    }
  }

  #handOn(tool: string, input: unknown): Promise<JsonObject> | undefined {
    const peer = fieldOf(fieldOf(input, 'metadata'), ON_PEER);
    if (tool !== 'task_submit' || typeof peer !== 'string') return undefined;
    return this.#mesh.scheduler.api.call(
      { peer_id: peer, addresses: [] },
      { tool, input: { ...(input as JsonObject), metadata: {} }, caller: EVERYBODY, hops: 1 },
    );
  }
}

function callOptions(): CallOptions {
  return { signal: new AbortController().signal, deadlineMs: DEADLINE_MS, caller: EVERYBODY };
}

function fieldOf(value: unknown, field: string): JsonValue | undefined {
  return typeof value === 'object' && value !== null ? (value as JsonObject)[field] : undefined;
}
