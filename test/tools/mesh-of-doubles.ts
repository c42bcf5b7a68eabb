/**
 * A mesh for tests of the tools: real readers and the real router, with schedulers and peer directories written by
 * hand that do nothing but keep and find records. What a test needs of a scheduler it sets as a method.
 */

import { FlowmeshError, type JsonObject } from '../../dag/errors.ts';
import type { PeerView, SchedulerApi, ToolCall, WorkerView } from '../../scheduler/api.ts';
import { type Caller, EVERYBODY } from '../../scheduler/caller.ts';
import { type FlowRecord, indexOf, LOCAL_FEED } from '../../scheduler/records.ts';
import { callTool } from '../../tools/call/route.ts';
import type { MeshContext } from '../../tools/definition.ts';
import type { ConnectionInfo, PeerDirectory } from '../../tools/peers.ts';
import { tools } from '../../tools/registry.ts';
import { answerOperation } from '../../tools/task/answer.ts';
import { keptRow, MemoryReader } from '../simulation/memory-reader.ts';

/** 2026-01-01T01:00:00Z */
export const NOW_MS = Date.UTC(2026, 0, 1, 1);

/** Records that a peer keeps of itself. */
const OF_THE_PEER = new Set<FlowRecord['kind']>(['worker', 'queue']);

export interface PeerDouble {
  self: string;
  reader: MemoryReader;
  context: MeshContext;
  /** The context of a call of this caller; that of `context` is of everybody. */
  as(caller: Caller): MeshContext;
  scheduler: Partial<SchedulerApi>;
  peers: Partial<PeerDirectory>;
  /** Calls that other peers handed on to this one. */
  calls: { tool: string; input: JsonObject; hops: number }[];
  /** How long each of them may take. */
  deadlines: (number | undefined)[];
  put(...records: FlowRecord[]): void;
}

export class MeshOfDoubles {
  readonly all = new Map<string, PeerDouble>();
  /** Peers that do not answer. */
  readonly down = new Set<string>();

  peer(self: string): PeerDouble {
    const known = this.all.get(self);
    if (known !== undefined) return known;
    const reader = new MemoryReader();
    const feed_id = `feed-${self}`;
    reader.apply({ type: 'own', feed_id, owned: true });
    let seq = 0;
    const scheduler = unless<SchedulerApi>('SchedulerApi', this.#scheduler(self, reader));
    const peers = unless<PeerDirectory>('PeerDirectory', {
      list: () => [],
      started_at: new Date(NOW_MS).toISOString(),
    });
    const double: PeerDouble = {
      self,
      reader,
      scheduler,
      peers,
      calls: [],
      deadlines: [],
      put(...records) {
        seq += 1;
        for (const record of records) {
          const at = { feed_id: OF_THE_PEER.has(record.kind) ? LOCAL_FEED : feed_id, epoch: 1, seq };
          reader.apply({ type: 'commit', ...at }, [keptRow({ uid: record.uid, ...at, record })]);
        }
      },
      context: {
        reader,
        self,
        scheduler: scheduler as SchedulerApi,
        feeds: scheduler as SchedulerApi,
        caller: EVERYBODY,
        whyWaiting: async (uids) => (scheduler as SchedulerApi).whyWaiting(uids),
        peers: peers as PeerDirectory,
        clock: {
          now: () => 0,
          wall: () => NOW_MS,
          after: () => () => {},
          defer: (callback) => callback(),
        },
        signal: new AbortController().signal,
        everywhere: (tool, input) => this.#everywhere(self, tool, input, EVERYBODY),
      },
      as: (caller) => {
        const everywhere = (tool: string, input: JsonObject) => this.#everywhere(self, tool, input, caller);
        return { ...double.context, caller, everywhere };
      },
    };
    this.all.set(self, double);
    return double;
  }

  #scheduler(self: string, reader: MemoryReader): Partial<SchedulerApi> {
    return {
      self,
      name: `name of ${self}`,
      feed_id: `feed-${self}`,
      workers: () => [],
      whyWaiting: () => ({}),
      peers: () => [],
      resolve: async ({ kind, id }) => {
        const here = await reader.byAlias(kind, id);
        if (here !== undefined) return { here: true, uid: here.uid };
        for (const other of this.all.values()) {
          const record = await other.reader.byAlias(kind, id);
          if (record === undefined || this.down.has(other.self)) continue;
          const status = indexOf(record).status ?? '';
          return { here: false, at: { peer_id: other.self, addresses: [], status, content_hash: '' } };
        }
        return undefined;
      },
      isReleased: () => true,
      whenReleased: async () => {},
      durabilityOf: (_feedId, _seq, wanted) => ({ copies: wanted, wanted }),
      staleMs: () => null,
      call: ({ peer_id }, call, deadline_ms) => {
        this.all.get(peer_id)?.deadlines.push(deadline_ms);
        return this.#call(peer_id, call);
      },
    };
  }

  async #call(to: string, { tool, input, caller, hops }: ToolCall): Promise<JsonObject> {
    const peer = this.all.get(to);
    if (peer === undefined || this.down.has(to)) throw new FlowmeshError('PEER_UNREACHABLE', `${to} is down`);
    peer.calls.push({ tool, input, hops });
    const definition = tool === answerOperation.name ? answerOperation : tools.get(tool)!;
    return callTool(definition, input, peer.as(caller), hops);
  }

  async #everywhere(self: string, tool: string, input: JsonObject, caller: Caller) {
    const outputs: { peer_id: string; output: JsonObject }[] = [];
    const missing: string[] = [];
    for (const peer_id of this.all.keys()) {
      if (peer_id === self) continue;
      const output = await this.#call(peer_id, { tool, input, caller, hops: 1 }).catch(() => undefined);
      if (output === undefined) missing.push(peer_id);
      else outputs.push({ peer_id, output });
    }
    return { outputs, missing };
  }
}

/** A double whose methods that the test did not set say so when they are called. */
function unless<T extends object>(name: string, known: Partial<T>): Partial<T> {
  return new Proxy(known, {
    get(target, property, receiver) {
      if (property in target || property === 'then') return Reflect.get(target, property, receiver);
      return () => {
        throw new Error(`${name}.${String(property)} was called, and the test did not expect it`);
      };
    },
  });
}

export function workerView(peer_id: string, fields: Partial<WorkerView> = {}): WorkerView {
  return {
    peer_id,
    worker_id: `${peer_id}-worker`,
    actions: ['shell', 'echo'],
    labels: ['gpu'],
    cpu_cores: 4,
    memory_gb: null,
    slots: 4,
    running: 1,
    completed: 3,
    failed: 1,
    status: 'active',
    registered_at: new Date(NOW_MS - 60_000).toISOString(),
    metadata: {},
    tasks: [],
    ...fields,
  };
}

export function peerView(peer_id: string, fields: Partial<PeerView> = {}): PeerView {
  const { peer_id: _, tasks: __, ...worker } = workerView(peer_id);
  return {
    peer_id,
    state: {
      name: `name of ${peer_id}`,
      version: '0.1.0',
      feeds: [],
      workers: [worker],
      queued: 2,
      running: 1,
      paused: false,
      waiting: [],
      addresses: [],
    },
    connected: true,
    rtt_ms: 2,
    jitter_ms: 0.5,
    leases_kept: 3,
    leases_lost: 1,
    requests_served: 7,
    ...fields,
  };
}

export function connection(peer_id: string, fields: Partial<ConnectionInfo> = {}): ConnectionInfo {
  return {
    peer_id,
    name: null,
    status: 'connected',
    multiaddrs: ['/ip4/127.0.0.1/tcp/7600'],
    connected_since: new Date(NOW_MS - 10_000).toISOString(),
    last_seen: new Date(NOW_MS).toISOString(),
    direction: 'outbound',
    path: 'direct',
    relay: null,
    path_reason: null,
    source: 'connected',
    protocol_version: '1.0.0',
    bytes_sent: 1_000_000,
    bytes_received: 250_000,
    connection_id: `connection-${peer_id}`,
    ...fields,
  };
}
