/** One process of a simulated mesh: the real scheduler and tools over simulated ports. */

import type { FlowmeshError } from '../../dag/errors.ts';
import { OPEN_SIGNER } from '../../node/membership/signer.ts';
import { operationNamed } from '../../node/runtimes/mesh-calls.ts';
import { EVERYBODY } from '../../scheduler/caller.ts';
import type { CrashedLease, Evaluator, Executors, Log, Store } from '../../scheduler/ports.ts';
import type { Row } from '../../scheduler/records.ts';
import type { Membership } from '../../scheduler/roles.ts';
import { Scheduler } from '../../scheduler/scheduler.ts';
import { callTool } from '../../tools/call/route.ts';
import type { MeshContext } from '../../tools/definition.ts';
import type { PeerDirectory } from '../../tools/peers.ts';
import type { MemoryStore } from './memory-store.ts';
import type { SimulatedActions } from './simulated-actions.ts';
import type { SimulatedDisk } from './simulated-disk.ts';
import { SimulatedNetwork } from './simulated-network.ts';
import { simulatedSigner } from './simulated-signer.ts';
import type { Switchboard } from './switchboard.ts';
import { SeededRandom, SimulatedClock, tracing, type World } from './world.ts';

export interface SimulatedPeer {
  peer_id: string;
  scheduler: Scheduler;
  network: SimulatedNetwork;
  disk: SimulatedDisk;
  store: MemoryStore;
  clock: SimulatedClock;
  alive: boolean;
  /** Calls of clients without an answer. */
  calls: Set<(error: FlowmeshError) => void>;
  context: MeshContext;
}

/** The machine that a peer runs on, over the restarts of its process. */
export interface Machine {
  disk: SimulatedDisk;
  /** Of its clock. */
  rate: number;
  slots: number;
  labels: readonly string[];
}

/** A member that lies (`liar.ts`), as the mesh that it is in sees it. */
export interface LyingMember {
  readonly name: string;
  readonly membership: Membership;
  readonly network: SimulatedNetwork;
  /** How often it lied. */
  readonly told: number;
  executors(honest: Executors): Executors;
  begin(): void;
  end(): void;
}

export interface PeerWorld {
  world: World;
  board: Switchboard<SimulatedNetwork>;
  actions: SimulatedActions;
  evaluator: Evaluator;
  servesTools: boolean;
  /** The mesh is a secured one. */
  signs: boolean;
  gone: readonly string[];
  /** What the process before was at when its mesh loop crashed. */
  crashed: readonly CrashedLease[];
  /** Its network and its actions, when they are not those of an honest peer. */
  liar?: LyingMember;
  /** A process hands rows to its store. */
  onCommit(peer: string, rows: readonly Row[]): void;
  broken(message: string): void;
}

const NEVER_ABORTED = new AbortController().signal;

/** A process that has not started yet. */
export async function newPeer(peer_id: string, machine: Machine, mesh: PeerWorld): Promise<SimulatedPeer> {
  const { world, board, actions, evaluator } = mesh;
  const { disk, rate, slots, labels } = machine;
  const clock = new SimulatedClock(world, rate);
  const network = mesh.liar?.network ?? new SimulatedNetwork(peer_id, board);
  const executors = actions.executors(peer_id, clock);
  const store = await disk.open(clock);
  const scheduler = new Scheduler(
    {
      clock,
      random: new SeededRandom(world.random.below(2 ** 31)),
      network,
      store: watched(store, (rows) => mesh.onCommit(peer_id, rows)),
      executors: mesh.liar?.executors(executors) ?? executors,
      evaluator: ofProcess(evaluator, clock),
      log: logOf(peer_id, mesh),
      signer: mesh.signs ? simulatedSigner(peer_id) : OPEN_SIGNER,
      crashes: { untold: mesh.crashed, told: () => {} },
    },
    {
      ...{ name: peer_id, version: '0.0.0', gone: mesh.gone },
      worker: { slots, labels: [...labels], cpu_cores: 8, memory_gb: 8 },
    },
  );
  const context = contextOf(scheduler, store, clock);
  if (mesh.servesTools) {
    scheduler.serveCalls(({ tool, input, hops, caller, vouched }) => {
      return callTool(operationNamed(tool), input, { ...context, caller, vouched }, hops);
    });
  }
  network.attach(scheduler.inbound, (peer) => scheduler.describe(peer), clock);
  return { peer_id, scheduler, network, disk, store, clock, alive: true, calls: new Set(), context };
}

function watched(store: MemoryStore, onCommit: (rows: readonly Row[]) => void): Store {
  return {
    feeds: store.feeds,
    reader: store.reader,
    commit(rows) {
      onCommit(rows);
      return store.commit(rows);
    },
    own: (feedId, owned) => store.own(feedId, owned),
    drop: (feedId) => store.drop(feedId),
    sweep: (feedId, seq) => store.sweep(feedId, seq),
    recover: () => store.recover(),
    close: () => store.close(),
  };
}

/** Results come to the process only while it is not held. */
function ofProcess(evaluator: Evaluator, clock: SimulatedClock): Evaluator {
  return {
    check: (expressions) => evaluator.check(expressions),
    evaluate: async (jobs) => {
      const results = await evaluator.evaluate(jobs);
      await new Promise<void>((resolve) => clock.whenAwake(resolve));
      return results;
    },
  };
}

/** What a scheduler cannot explain is a broken promise. */
function logOf(peer_id: string, { world, broken }: PeerWorld): Log {
  const log = tracing(world, peer_id);
  return {
    ...log,
    error: (fields, message) => {
      log.error(fields, message);
      if (message.startsWith('a commit failed')) return; // the disks of some peers do fail
      broken(`defect: ${peer_id}: ${message}: ${(fields as { err?: Error }).err?.stack}`);
    },
  };
}

function contextOf(scheduler: Scheduler, store: MemoryStore, clock: SimulatedClock): MeshContext {
  return {
    scheduler: scheduler.api,
    reader: store.reader,
    clock,
    self: scheduler.self,
    feeds: scheduler.api,
    caller: EVERYBODY,
    whyWaiting: async (uids) => scheduler.api.whyWaiting(uids),
    // Simulated clients ask neither for connections by name nor for all peers at once.
    peers: {} as PeerDirectory,
    signal: NEVER_ABORTED,
    everywhere: async () => ({ outputs: [], missing: [] }),
  };
}
