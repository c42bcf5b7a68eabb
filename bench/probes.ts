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
import { isTerminal, type Row } from '../scheduler/records.ts';

export type ProbeKind = 'request' | 'read_tool' | 'write_tool' | 'step';

export interface Probe {
  kind: ProbeKind;
  /** The loop that starts the calls. */
  loop: 'mesh' | 'serve';
  iterations: number;
  /** Of the request or the payload. */
  size_bytes: number;
  /** The other peer. */
  peer_id: string;
  /** A task that the other peer owns. */
  task_id: string;
}

/** Milliseconds, in the order of the calls. */
export type Samples = number[];

const DEADLINE_MS = 30_000;
/** A submit that carries this in its metadata is handed on to the peer it names: the product never does that. */
const ON_PEER = 'bench_on_peer';
/** Names the step whose committed result a probe waits for. */
const MARK = 'bench_mark';
/** Submitted tasks that only cost their commit: they wait until they are cleared. */
const DELAY_MS = 3_600_000;
const NS_PER_MS = 1_000_000;

export type Call = (tool: string, input: JsonObject) => Promise<JsonObject>;

/** Tells when the result of a marked step is on this peer's disk, on the clock of `nowNs`. */
export type AwaitResult = (mark: string) => Promise<bigint>;

/** The same clock on every thread of the process. */
export function nowNs(): bigint {
  return process.hrtime.bigint();
}

/** @param call starts a tool on the loop of the probe */
export async function runProbe(probe: Probe, call: Call, results: AwaitResult): Promise<Samples> {
  const samples: Samples = [];
  for (let index = 0; index < probe.iterations; index++) {
    const started = nowNs();
    const ended = await once(probe, `${probe.loop}/${started}`, call, results);
    samples.push(Number(ended - started) / NS_PER_MS);
  }
  return samples;
}

async function once(probe: Probe, mark: string, call: Call, results: AwaitResult): Promise<bigint> {
  const { kind, peer_id, task_id, size_bytes } = probe;
  const payload = { pad: 'x'.repeat(size_bytes) };
  switch (kind) {
    case 'read_tool':
      await call('task_status', { task_id });
      return nowNs();
    case 'write_tool':
      await call('task_submit', { task_type: 'echo', payload, delay_ms: DELAY_MS, metadata: { [ON_PEER]: peer_id } });
      return nowNs();
    case 'step': {
      const onDisk = results(mark);
      // The result may be on disk before the answer to the submit is here; the next call waits for both.
      const requires = { peers: [peer_id] };
      const [ended] = await Promise.all([
        onDisk,
        call('task_submit', { task_type: 'echo', payload, requires, metadata: { [MARK]: mark } }),
      ]);
      return ended;
    }
    case 'request':
      throw new Error('requests are made by the mesh loop itself');
  }
}

/** The mesh side of one peer, with what a probe needs of it. */
export class ProbedMesh {
  private readonly mesh: Mesh;
  private readonly awaited = new Map<string, (endedNs: bigint) => void>();

  /** Changes `mesh`: it says when results are committed, and hands marked submits on. */
  constructor(mesh: Mesh) {
    this.mesh = mesh;
    const { store } = mesh;
    const commit = store.commit.bind(store);
    store.commit = async (rows) => {
      await commit(rows);
      this.committed(rows);
    };
    const call = mesh.call.bind(mesh);
    mesh.call = (tool, input, options) => this.handOn(tool, input) ?? call(tool, input, options);
  }

  run(probe: Probe): Promise<Samples> {
    if (probe.kind === 'request') return this.requests(probe);
    const call: Call = (tool, input) => this.mesh.call(tool, input, callOptions());
    return runProbe(probe, call, (mark) => this.result(mark));
  }

  readonly result: AwaitResult = (mark) => new Promise((resolve) => this.awaited.set(mark, resolve));

  /** The barest request there is: where are these records, of which there are none. */
  private async requests({ iterations, size_bytes, peer_id }: Probe): Promise<Samples> {
    const unpadded = packMessage({ id: 1_000, method: 'locate', params: { items: [], hops: 0, pad: '' } }).byteLength;
    const params = { items: [], hops: 0, pad: 'x'.repeat(Math.max(0, size_bytes - unpadded)) };
    const samples: Samples = [];
    for (let index = 0; index < iterations; index++) {
      const started = nowNs();
      await this.mesh.network.request(peer_id, 'locate', params, DEADLINE_MS);
      samples.push(Number(nowNs() - started) / NS_PER_MS);
    }
    return samples;
  }

  private committed(rows: readonly Row[]): void {
    for (const { record } of rows) {
      if (record.kind !== 'task' || !isTerminal(record.status)) continue;
      const mark = record.metadata[MARK];
      if (typeof mark !== 'string') continue;
      if (record.status !== 'completed') throw new Error(`a measured step ended as ${record.status}`);
      this.awaited.get(mark)?.(nowNs());
      this.awaited.delete(mark);
    }
  }

  private handOn(tool: string, input: unknown): Promise<JsonObject> | undefined {
    const peer = fieldOf(fieldOf(input, 'metadata'), ON_PEER);
    if (tool !== 'task_submit' || typeof peer !== 'string') return undefined;
    const metadata = {};
    return this.mesh.scheduler.call(peer, [], tool, { ...(input as JsonObject), metadata }, 1);
  }
}

function callOptions(): CallOptions {
  return { signal: new AbortController().signal, deadlineMs: DEADLINE_MS };
}

function fieldOf(value: unknown, field: string): JsonValue | undefined {
  return typeof value === 'object' && value !== null ? (value as JsonObject)[field] : undefined;
}
