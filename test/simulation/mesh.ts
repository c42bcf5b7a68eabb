/**
 * A simulated mesh: the real scheduler, tools and dag code of several peers, on simulated time, network, disks and
 * actions. Whatever reaches a process goes through its clock, which can hold the process for a while.
 */
import { FlowmeshError, type JsonObject } from '../../dag/errors.ts';
import { operationNamed } from '../../node/runtimes/mesh-calls.ts';
import type { CrashedLease, Evaluator } from '../../scheduler/ports.ts';
import { isTerminal, type Row, type TaskRecord, type WorkflowRecord } from '../../scheduler/records.ts';
import { callTool } from '../../tools/call/route.ts';
import { MemoryEvaluator } from './memory-evaluator.ts';
import type { MemoryStore, StoreOperation } from './memory-store.ts';
import { type LedgerEntry, type SimulatedAction, SimulatedActions, type SimulatedPolicy } from './simulated-actions.ts';
import { SimulatedDisk } from './simulated-disk.ts';
import type { SimulatedNetwork } from './simulated-network.ts';
import { type LyingMember, type Machine, newPeer, type SimulatedPeer } from './simulated-peer.ts';
import { type NetworkFaults, Switchboard } from './switchboard.ts';
import { World } from './world.ts';

export type { SimulatedPeer } from './simulated-peer.ts';

/** Who looks at everything that happens, to judge it. */
export interface MeshWatch {
  /** A process hands rows to its store. */
  committing(peer: string, rows: readonly Row[]): void;
  /** An operation is on a disk. */
  synced(peer: string, operation: StoreOperation): void;
}

export interface SimulatedMeshOptions {
  faults?: NetworkFaults;
  trace?: boolean;
  /** Actions of every peer, beside `echo`, `fn:work` and `fn:flaky`. */
  actions?: Record<string, SimulatedAction>;
  /** What peers say that they allow of actions, by their ids. */
  allows?: Record<string, string[]>;
  /** What the policies of peers say of callers. */
  refuses?: SimulatedPolicy;
  /** Evaluates expressions for every peer; by default at once. */
  evaluator?: Evaluator;
  /** Between which the rates of the peers' clocks are. Default 0.95 to 1.05. */
  clockRates?: [number, number];
  watch?: MeshWatch;
  /** Peers run tools for each other, as `node/` has it. Default false: a test of the scheduler alone. */
  servesTools?: boolean;
  /** The mesh is a secured one: what peers make is signed. Default false. */
  signs?: boolean;
  /** Peers that every process is told will never come back. */
  gone?: string[];
}

const REDIAL_MS = 500;
const NOTICED_AFTER_MS: [number, number] = [200, 3_000];
const START_LIMIT_MS = 60_000;

export class SimulatedMesh {
  readonly world: World;
  readonly board: Switchboard<SimulatedNetwork>;
  /** Those that run, and those that are down and come back. */
  readonly peers = new Map<string, SimulatedPeer>();
  /** Members that lie, by name. They are not among `peers`: what they have and say counts for nothing. */
  readonly liars = new Map<string, LyingMember>();
  readonly failures: string[] = [];
  /** By peer: what its next process hears that the mesh loop before was at when it crashed. */
  readonly crashed = new Map<string, CrashedLease[]>();
  readonly #machines = new Map<string, Machine>();
  readonly actions: SimulatedActions;
  readonly #evaluator: Evaluator;
  readonly #clockRates: [number, number];
  readonly #watch: MeshWatch | undefined;
  readonly #servesTools: boolean;
  readonly #signs: boolean;
  readonly #gone: string[];
  readonly #stopLiars: (() => void)[] = [];

  constructor(seed: number, options: SimulatedMeshOptions = {}) {
    this.world = new World(seed, { trace: options.trace ?? false });
    this.board = new Switchboard<SimulatedNetwork>(this.world, options.faults);
    const { actions = {}, allows, refuses } = options;
    this.actions = new SimulatedActions(this.world, actions, (message) => this.broken(message), allows, refuses);
    this.#evaluator = options.evaluator ?? new MemoryEvaluator();
    this.#clockRates = options.clockRates ?? [0.95, 1.05];
    this.#watch = options.watch;
    this.#servesTools = options.servesTools ?? false;
    this.#signs = options.signs ?? false;
    this.#gone = [...(options.gone ?? [])];
  }

  get ledger(): readonly LedgerEntry[] {
    return this.actions.ledger;
  }

  broken(message: string): void {
    this.world.note(`BROKEN ${message}`);
    this.failures.push(message);
  }

  /** Starts a peer on its disk, new or kept, and dials the others. A test may hand in a store of its own. */
  async start(
    peer_id: string,
    options: { slots?: number; labels?: string[]; store?: MemoryStore } = {},
  ): Promise<SimulatedPeer> {
    const machine = this.#machine(peer_id, options.slots ?? 4, options.labels ?? []);
    const starting = this.#open(peer_id, machine, options.store);
    // A restart happens within an event, where time must not be moved.
    return options.store === undefined ? await this.#finish(starting) : await starting;
  }

  /** The process starts again, on what the disk has or on `store`. */
  async restart(peer_id: string, store?: MemoryStore): Promise<void> {
    const machine = this.#machines.get(peer_id);
    const isBack = store === undefined && this.peers.get(peer_id)?.alive === true;
    if (machine === undefined || isBack) return; // it is gone for good, or back already
    this.world.note(`restart ${peer_id}`);
    try {
      await this.#open(peer_id, machine, store);
    } catch (error) {
      // Its disk failed while it started: the process ends, and whoever watches it starts it again.
      this.world.note(`${peer_id} could not start: ${error}`);
      this.kill(peer_id);
      this.world.at(REDIAL_MS, () => void this.restart(peer_id));
    }
  }

  /** A peer that joins a mesh at work: as `start`, within an event. */
  async join(peer_id: string, options: { slots: number; labels: readonly string[] }): Promise<void> {
    this.#machine(peer_id, options.slots, options.labels);
    await this.restart(peer_id);
  }

  /** A liar joins, and begins to lie. Its disk and its actions are looked at by nobody. */
  async joinLiar(liar: LyingMember, slots: number): Promise<void> {
    const { world, board, actions } = this;
    const { name } = liar;
    this.liars.set(name, liar);
    board.memberships.set(name, liar.membership);
    const disk = new SimulatedDisk(world, { onSynced: () => {}, onStuck: () => {} });
    const machine = { disk, rate: 1, slots, labels: [] };
    const { scheduler, network, clock } = await newPeer(name, machine, {
      ...{ world, board, actions, evaluator: this.#evaluator, servesTools: this.#servesTools, signs: this.#signs },
      ...{ gone: [], crashed: [], liar, onCommit: () => {}, broken: () => {} },
    });
    await this.#finish(scheduler.start());
    const redial = () => {
      for (const { peer_id, alive } of this.peers.values()) if (alive) network.connect(peer_id).catch(() => {});
      clock.after(REDIAL_MS, redial);
    };
    redial();
    liar.begin();
    this.#stopLiars.push(() => clock.kill());
  }

  /** The liars are found out: they are put out of the mesh, and nobody waits for them any more. */
  revokeLiars(): void {
    for (const [name, liar] of this.liars) {
      this.world.note(`revoke ${name}`);
      liar.end();
      liar.network.kill();
      this.board.memberships.set(name, null);
      this.board.networks.delete(name);
    }
    for (const stop of this.#stopLiars) stop();
  }

  #machine(peer_id: string, slots: number, labels: readonly string[]): Machine {
    const known = this.#machines.get(peer_id);
    const rate = known?.rate ?? this.world.random.between(...this.#clockRates);
    const disk = known?.disk ?? this.#newDisk(peer_id);
    const machine = { disk, rate, slots, labels };
    this.#machines.set(peer_id, machine);
    return machine;
  }

  #newDisk(peer_id: string): SimulatedDisk {
    return new SimulatedDisk(this.world, {
      onSynced: (operation) => this.#watch?.synced(peer_id, operation),
      onStuck: () => this.#startAnewLater(this.peers.get(peer_id)!),
    });
  }

  /** Whoever watches the process sees that it cannot go on. */
  #startAnewLater(peer: SimulatedPeer): void {
    this.world.at(this.world.random.between(...NOTICED_AFTER_MS), () => {
      if (this.peers.get(peer.peer_id) !== peer || !peer.alive) return;
      this.kill(peer.peer_id);
      void this.restart(peer.peer_id);
    });
  }

  async #open(peer_id: string, machine: Machine, ownStore: MemoryStore | undefined): Promise<SimulatedPeer> {
    if (ownStore !== undefined) machine.disk.adopt(ownStore);
    const peer = await newPeer(peer_id, machine, {
      world: this.world,
      board: this.board,
      actions: this.actions,
      evaluator: this.#evaluator,
      servesTools: this.#servesTools,
      signs: this.#signs,
      gone: [...this.#gone],
      crashed: this.crashed.get(peer_id) ?? [],
      onCommit: (name, rows) => this.#watch?.committing(name, rows),
      broken: (message) => this.broken(message),
    });
    this.crashed.delete(peer_id);
    this.peers.set(peer_id, peer);
    await peer.scheduler.start();
    this.#redial(peer);
    return peer;
  }

  /** Peers dial each other again and again, as the real ones do. */
  #redial(peer: SimulatedPeer): void {
    if (!peer.alive) return;
    for (const other of this.peers.values()) {
      if (other.peer_id !== peer.peer_id && other.alive) peer.network.connect(other.peer_id).catch(() => {});
    }
    peer.clock.after(REDIAL_MS, () => this.#redial(peer));
  }

  /** The process is gone, with what was not fsynced: some of what was on its way may have reached the disk. */
  kill(peer_id: string): MemoryStore {
    const peer = this.peers.get(peer_id)!;
    this.world.note(`kill ${peer_id}`);
    peer.alive = false;
    peer.clock.kill();
    peer.network.kill();
    const gone = new FlowmeshError('CONNECTION_LOST', `the process of ${peer_id} is gone`, { retryable: true });
    for (const reject of peer.calls) reject(gone);
    return peer.disk.crash(this.world.random.chance(0.5));
  }

  /** The peer is no part of the mesh any more: nobody starts it again. */
  forget(peer_id: string): void {
    if (this.peers.get(peer_id)!.alive) this.kill(peer_id);
    this.peers.delete(peer_id);
    this.board.networks.delete(peer_id);
    this.#machines.delete(peer_id);
  }

  labelsOf(peer_id: string): readonly string[] {
    return this.#machines.get(peer_id)!.labels;
  }

  /** The next write of a peer fails. */
  failNextSync(peer_id: string): void {
    this.peers.get(peer_id)!.disk.failNext('full');
  }

  /**
   * A tool call of a client of this peer.
   *
   * @throws CONNECTION_LOST when the process ends meanwhile: what was asked may have happened. Else the tool's own error
   */
  call(peer_id: string, tool: string, input: JsonObject): Promise<JsonObject> {
    const peer = this.peers.get(peer_id);
    if (peer?.alive !== true) {
      const refused = new FlowmeshError('CONNECTION_REFUSED', `nobody listens at ${peer_id}`, { retryable: true });
      return Promise.reject(refused);
    }
    const { promise, resolve, reject } = Promise.withResolvers<JsonObject>();
    peer.calls.add(reject);
    peer.clock.whenAwake(() => {
      callTool(operationNamed(tool), input, peer.context, 0).then(resolve, reject);
    });
    return promise.finally(() => peer.calls.delete(reject));
  }

  async #finish<T>(promise: Promise<T>): Promise<T> {
    let done = false;
    const settled = promise.finally(() => {
      done = true;
    });
    settled.catch(() => {});
    await this.world.run(this.world.now + START_LIMIT_MS, () => done);
    return await settled;
  }

  /** Waits until all given records are terminal at their owners. */
  async settle(uids: { owner: string; kind: 'task' | 'workflow'; uid: string }[], limitMs: number): Promise<boolean> {
    let open = uids;
    const check = async () => {
      const still: typeof uids = [];
      for (const entry of open) {
        const record = await this.owned(entry.kind, entry.uid);
        if (record === undefined || !isTerminal(record.status)) still.push(entry);
      }
      open = still;
    };
    const end = this.world.now + limitMs;
    while (open.length > 0 && this.world.now < end) {
      await this.world.run(Math.min(this.world.now + 250, end));
      await check();
    }
    return open.length === 0;
  }

  /** A record at the peer that owns it now. */
  async owned(kind: 'task' | 'workflow', uid: string): Promise<TaskRecord | WorkflowRecord | undefined> {
    for (const { store, scheduler, alive } of this.peers.values()) {
      const row = alive ? await store.reader.row(uid) : undefined;
      if (row === undefined || !scheduler.parts.feeds.has(row.feed_id) || row.record.kind !== kind) continue;
      return row.record as TaskRecord | WorkflowRecord;
    }
    return undefined;
  }

  async task(owner: string, uid: string): Promise<TaskRecord | undefined> {
    return await this.peers.get(owner)!.store.reader.get('task', uid);
  }
}
