/** A worker pool of one peer and the owners of its leases at the other ends of simulated connections. */
import { FlowmeshError, type JsonObject, type JsonValue } from '../../dag/errors.ts';
import { requiresSchema } from '../../dag/schema.ts';
import { OPEN_SIGNER } from '../../node/membership/signer.ts';
import type { AttemptResult, Lease } from '../../scheduler/messages.ts';
import type { Executors } from '../../scheduler/ports.ts';
import type { WorkerRecord } from '../../scheduler/records.ts';
import { Signatures } from '../../scheduler/signatures.ts';
import { WorkerPool } from '../../scheduler/worker/worker-pool.ts';
import { type Behaviour, MemoryExecutors } from '../simulation/memory-executors.ts';
import { SimulatedNetwork } from '../simulation/simulated-network.ts';
import { Switchboard } from '../simulation/switchboard.ts';
import { quiet, SimulatedClock, World } from '../simulation/world.ts';
import { type Gate, gate } from './scene.ts';

const LONG_MS = 60_000;

/** Nobody has to know what is worked on, nothing has crashed, and nothing is signed. */
export const unwatched = {
  watch: { began: () => {}, ending: () => {}, over: () => {} },
  crashes: { untold: [], told: () => {} },
  signatures: new Signatures({ signer: OPEN_SIGNER, self: '' }),
};

/** An owner: what came from the worker's peer, and what it answers. */
export interface Owner {
  network: SimulatedNetwork;
  /** Every message, in order. */
  heard: { method: string; params: JsonObject }[];
  results: AttemptResult[];
  /** Throws, or resolves when the results are acknowledged. */
  onResults: (results: AttemptResult[]) => Promise<void>;
}

export class PoolScene {
  readonly world = new World(1);
  readonly board = new Switchboard<SimulatedNetwork>(this.world);
  readonly clock = new SimulatedClock(this.world, 1);
  readonly network = new SimulatedNetwork('worker-peer', this.board);
  readonly pool: WorkerPool;
  /** By task uid: what lets its action end. */
  readonly gates = new Map<string, Gate>();
  slotsFreed = 0;

  /** @param run runs actions in place of `behaviours`, with nothing between it and the pool */
  constructor(
    behaviours: Record<string, Behaviour> = {},
    run?: Executors['run'],
    refuses: Executors['refuses'] = () => null,
  ) {
    const memory = new MemoryExecutors({
      clock: this.clock,
      refuses,
      behaviours: {
        'fn:wait': async (request, { signal }) => {
          const waits = this.gate(request.uid);
          const ended = new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
          await Promise.race([waits.opened, ended]);
          return request.payload;
        },
        'fn:fail': () => {
          throw new FlowmeshError('BROKEN', 'it fails', { retryable: true });
        },
        ...behaviours,
      },
    });
    const executors =
      run === undefined ? memory : { actions: () => ['fn:wait'], allows: () => [], needs: () => [], refuses, run };
    this.pool = new WorkerPool({
      ...{ clock: this.clock, executors, network: this.network, log: quiet, probe: () => {} },
      ...unwatched,
      onSlotFree: () => this.slotsFreed++,
    });
    this.network.attach(
      { onMessage: async () => null, onOffer() {}, onConnected() {}, onDisconnected() {} },
      () => null as never,
    );
  }

  gate(uid: string): Gate {
    const known = this.gates.get(uid) ?? gate();
    this.gates.set(uid, known);
    return known;
  }

  async owner(name: string): Promise<Owner> {
    const network = new SimulatedNetwork(name, this.board);
    const owner: Owner = { network, heard: [], results: [], onResults: async () => {} };
    const onMessage = async (_from: string, method: string, params: unknown): Promise<JsonValue> => {
      owner.heard.push({ method, params: params as JsonObject });
      if (method === 'result') {
        const { results } = params as { results: AttemptResult[] };
        await owner.onResults(results);
        owner.results.push(...results);
      }
      return {};
    };
    network.attach({ onMessage, onOffer() {}, onConnected() {}, onDisconnected() {} }, () => null as never);
    await this.connect(owner);
    return owner;
  }

  async connect({ network }: Owner): Promise<void> {
    await this.run(this.network.connect(network.self));
  }

  async run<T>(promise: Promise<T>): Promise<T> {
    let settled = false;
    const note = () => {
      settled = true;
    };
    promise.then(note, note);
    if (!(await this.world.run(this.world.now + LONG_MS, () => settled))) throw new Error('it does not settle');
    return await promise;
  }

  async pass(ms: number): Promise<void> {
    await this.world.run(this.world.now + ms);
  }

  define(over: Partial<WorkerRecord> = {}): WorkerRecord {
    const record: WorkerRecord = {
      kind: 'worker',
      uid: 'worker/w',
      worker_id: 'w',
      capabilities: ['*', 'gpu'],
      max_concurrent_tasks: 2,
      resource_limits: { cpu_cores: 4, memory_gb: 8 },
      metadata: {},
      status: 'active',
      registered_at: '2026-01-01T00:00:00.000Z',
      ...over,
    };
    this.pool.define(record);
    return record;
  }
}

export function lease(uid: string, over: Partial<Lease> = {}): Lease {
  return {
    uid,
    feed_id: 'feed',
    epoch: 1,
    attempt: 1,
    worker_id: 'w',
    action: 'fn:wait',
    payload: {},
    requires: requiresSchema.parse({}),
    timeout_ms: null,
    ...over,
  };
}

/** The pool of a peer with one worker, and the owner that it is connected to. */
export async function openPool(options: Parameters<PoolScene['define']>[0] = {}, behaviours = {}) {
  const pools = new PoolScene(behaviours);
  pools.define(options);
  return { pools, pool: pools.pool, owner: await pools.owner('owner') };
}
