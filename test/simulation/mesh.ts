/**
 * A simulated mesh: the real scheduler and dag code of several peers, on simulated time, network, disks and actions.
 * The ledger is what the actions themselves saw; the invariants are checked against it and against the disks.
 */
import { FlowmeshError, type JsonValue } from '../../dag/errors.ts';
import type { Evaluator, ExecutionIO, ExecutionRequest, Executors, Log } from '../../scheduler/ports.ts';
import { isTerminal, type Row, type TaskRecord, type WorkflowRecord } from '../../scheduler/records.ts';
import { Scheduler } from '../../scheduler/scheduler.ts';
import { MemoryEvaluator } from './memory-evaluator.ts';
import { MemoryStore } from './memory-store.ts';
import { type NetworkFaults, SimulatedNetwork, Switchboard } from './simulated-network.ts';
import { SeededRandom, SimulatedClock, tracing, World } from './world.ts';

export class BrokenPromise extends Error {}

/** One start of an action. */
export interface LedgerEntry {
  uid: string;
  attempt: number;
  peer: string;
  at: number;
}

/** What an action of a test does, on the peer that runs it. */
export type SimulatedAction = (request: ExecutionRequest, io: ExecutionIO, peer: string) => Promise<JsonValue>;

export interface SimulatedMeshOptions {
  faults?: NetworkFaults;
  trace?: boolean;
  /** Actions of every peer, beside `echo`, `fn:work` and `fn:flaky`. */
  actions?: Record<string, SimulatedAction>;
  /** Evaluates expressions for every peer; by default at once. */
  evaluator?: Evaluator;
}

export interface SimulatedPeer {
  peer_id: string;
  scheduler: Scheduler;
  network: SimulatedNetwork;
  store: MemoryStore;
  clock: SimulatedClock;
  alive: boolean;
}

export class SimulatedMesh {
  readonly world: World;
  readonly board: Switchboard;
  readonly peers = new Map<string, SimulatedPeer>();
  readonly ledger: LedgerEntry[] = [];
  /** Uids that were handed to an action of a task marked at_most_once. */
  readonly startedOnce = new Map<string, number>();
  readonly #rates = new Map<string, number>();
  readonly #failing = new Set<string>();
  readonly #slots = new Map<string, { slots: number; labels: string[] }>();

  readonly #actions: Record<string, SimulatedAction>;
  readonly #evaluator: Evaluator | undefined;

  constructor(seed: number, options: SimulatedMeshOptions = {}) {
    this.#actions = options.actions ?? {};
    this.#evaluator = options.evaluator;
    this.world = new World(seed, { trace: options.trace ?? false });
    this.board = new Switchboard(this.world, options.faults);
  }

  /** What a scheduler cannot explain is a broken promise. */
  #log(peer_id: string): Log {
    const log = tracing(this.world, peer_id);
    return {
      ...log,
      error: (fields, message) => {
        log.error(fields, message);
        if (message.startsWith('a commit failed')) return; // the disks of some peers do fail
        this.broken(`${peer_id}: ${message}: ${(fields as { err?: Error }).err?.stack}`);
      },
    };
  }

  /** Starts a peer on its disk, new or kept, and dials the others. */
  async start(
    peer_id: string,
    options: { slots?: number; labels?: string[]; store?: MemoryStore } = {},
  ): Promise<SimulatedPeer> {
    const { world } = this;
    const rate = this.#rates.get(peer_id) ?? world.random.between(0.95, 1.05);
    this.#rates.set(peer_id, rate);
    const clock = new SimulatedClock(world, rate);
    const network = new SimulatedNetwork(peer_id, this.board);
    const store =
      options.store ??
      new MemoryStore({ sync: (operation) => this.#sync(peer_id, operation.type === 'commit' ? operation.rows : []) });
    const scheduler = new Scheduler(
      {
        clock,
        random: new SeededRandom(world.random.below(2 ** 31)),
        network,
        store,
        executors: this.#executors(peer_id),
        evaluator: this.#evaluator ?? new MemoryEvaluator(),
        log: this.#log(peer_id),
      },
      {
        name: peer_id,
        version: '0.0.0',
        worker: { slots: options.slots ?? 4, labels: options.labels ?? [], cpu_cores: 8, memory_gb: 8 },
      },
    );
    network.attach(scheduler, () => scheduler.describe());
    const peer: SimulatedPeer = { peer_id, scheduler, network, store, clock, alive: true };
    this.peers.set(peer_id, peer);
    this.#slots.set(peer_id, { slots: options.slots ?? 4, labels: options.labels ?? [] });
    const started = scheduler.start();
    // A restart happens within an event, where time must not be moved.
    if (options.store === undefined) await this.#finish(started);
    else await started;
    this.#redial(peer);
    return peer;
  }

  /** The process starts again on what the disk has. */
  async restart(peer_id: string, store: MemoryStore): Promise<void> {
    this.world.note(`restart ${peer_id}`);
    try {
      await this.start(peer_id, { ...this.#slots.get(peer_id)!, store });
    } catch (error) {
      // Its disk failed while it started: the process ends, and whoever watches it starts it again.
      this.world.note(`${peer_id} could not start: ${error}`);
      const disk = this.kill(peer_id);
      this.world.at(500, () => void this.restart(peer_id, disk));
    }
  }

  /** Peers dial each other again and again, as the real ones do. */
  #redial(peer: SimulatedPeer): void {
    if (!peer.alive) return;
    for (const other of this.peers.values()) {
      if (other.peer_id !== peer.peer_id && other.alive) peer.network.connect(other.peer_id).catch(() => {});
    }
    this.world.at(500, () => this.#redial(peer));
  }

  /** The process is gone, with what was not fsynced: some of the commits on their way may have reached the disk. */
  kill(peer_id: string): MemoryStore {
    const peer = this.peers.get(peer_id)!;
    this.world.note(`kill ${peer_id}`);
    peer.alive = false;
    peer.clock.kill();
    peer.network.kill();
    return peer.store.crash(this.world.random.below(2));
  }

  async #finish<T>(promise: Promise<T>): Promise<T> {
    let done = false;
    const settled = promise.finally(() => {
      done = true;
    });
    settled.catch(() => {});
    await this.world.run(this.world.now + 60_000, () => done);
    return await settled;
  }

  /** P5 on disk: a terminal record keeps its status. */
  async #sync(peer_id: string, rows: Row[]): Promise<void> {
    await new Promise<void>((resolve) => this.world.at(this.world.random.between(0.1, 4), resolve));
    if (this.#failing.delete(peer_id)) {
      this.world.note(`the disk of ${peer_id} fails`);
      throw new FlowmeshError('DISK_FULL', 'the simulated disk is full', { retryable: true });
    }
    const reader = this.peers.get(peer_id)?.store.reader;
    for (const { record } of rows) {
      if (record.kind !== 'task' && record.kind !== 'workflow') continue;
      const before = await reader?.get(record.kind, record.uid);
      if (before !== undefined && isTerminal(before.status) && before.status !== record.status) {
        throw this.broken(`P5: ${record.kind} ${record.uid} was ${before.status} and becomes ${record.status}`);
      }
    }
  }

  /** The next commit of a peer fails. */
  failNextSync(peer_id: string): void {
    this.#failing.add(peer_id);
  }

  readonly failures: BrokenPromise[] = [];

  broken(message: string): BrokenPromise {
    const failure = new BrokenPromise(message);
    this.failures.push(failure);
    return failure;
  }

  #executors(peer_id: string): Executors {
    return {
      actions: () => ['echo', 'fn:work', 'fn:flaky', ...Object.keys(this.#actions)],
      run: (request, io) => this.#execute(peer_id, request, io),
    };
  }

  /** `echo` answers at once; `fn:work` takes `ms`; `fn:flaky` fails its first `failures` attempts. */
  async #execute(peer_id: string, request: ExecutionRequest, io: ExecutionIO): Promise<JsonValue> {
    const { world } = this;
    world.note(`run ${request.uid} attempt ${request.attempt} at ${peer_id}`);
    this.ledger.push({ uid: request.uid, attempt: request.attempt, peer: peer_id, at: world.now });
    if (request.payload['once'] === true) {
      const starts = (this.startedOnce.get(request.uid) ?? 0) + 1;
      this.startedOnce.set(request.uid, starts);
      if (starts > 1) this.broken(`P4: ${request.uid} is at_most_once and was started ${starts} times`);
    }
    const own = this.#actions[request.action];
    if (own !== undefined) return await own(request, io, peer_id);
    const ms = Number(request.payload['ms'] ?? 0);
    await new Promise<void>((resolve, reject) => {
      const cancel = world.at(ms, resolve);
      io.signal.addEventListener('abort', () => {
        cancel();
        reject(new FlowmeshError('ABORTED', 'ended before its time', { retryable: true }));
      });
    });
    const failures = Number(request.payload['failures'] ?? 0);
    const earlier = this.ledger.filter(({ uid }) => uid === request.uid).length;
    if (earlier <= failures) throw new FlowmeshError('FLAKY', 'fails at first', { retryable: true });
    return request.payload;
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
      if (row === undefined || !scheduler.feeds.owned.has(row.feed_id) || row.record.kind !== kind) continue;
      return row.record as TaskRecord | WorkflowRecord;
    }
    return undefined;
  }

  async task(owner: string, uid: string): Promise<TaskRecord | undefined> {
    return await this.peers.get(owner)!.store.reader.get('task', uid);
  }
}
