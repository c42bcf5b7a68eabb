/**
 * One peer's scheduler: owner of its feeds, worker for any owner, and a member of the mesh. It decides; the world is in
 * its ports. This file starts and stops it, and begins anew when the store failed; `assemble.ts` makes its parts,
 * README.md says what each folder is for.
 */
import type { SchedulerApi } from './api.ts';
import { type AssembledFrom, assemble, type Parts, type ResolvedOptions } from './assemble.ts';
import { Client } from './client/scheduler-api.ts';
import type { CallHandler } from './client/served-calls.ts';
import { StoppedError } from './errors.ts';
import { isoTime } from './ids.ts';
import { Inbound } from './inbound.ts';
import {
  BEAT_INTERVAL_MS,
  COPIES_DEFAULT,
  HISTORY_DAYS_DEFAULT,
  HISTORY_ROOTS_DEFAULT,
  LEAVE_WAIT_MS,
  OFFER_INTERVAL_MS,
  TAKEOVER_MS,
} from './limits.ts';
import type { PeerState } from './messages.ts';
import type { Clock, Crashes, LeaseWatch, Log, NetworkEvents, Store } from './ports.ts';
import { mayDo } from './roles.ts';
import { StoreRecovery } from './storage/store-recovery.ts';

/** Who need not be there: nobody is told then. */
type Listening = 'probe' | 'watch' | 'crashes' | 'onMainFeed';

export type SchedulerComponents = Omit<AssembledFrom, Listening> & { [K in Listening]?: AssembledFrom[K] | undefined };

export interface SchedulerOptions {
  /** The peer's name for people. */
  name: string;
  version: string;
  /** The pool that every peer has. `worker_id` is `worker-<end of the peer id>` by default. */
  worker: { worker_id?: string | undefined; slots: number; labels: string[]; cpu_cores: number; memory_gb: number };
  /** Disks that keep a record, this peer's among them, when its submit does not say. Default COPIES_DEFAULT. */
  copies?: number | undefined;
  /** Days after its end for which a workflow or task is kept. Default HISTORY_DAYS_DEFAULT. */
  history_days?: number | undefined;
  /** Ended workflows and tasks of clients kept in one feed. Default HISTORY_ROOTS_DEFAULT. */
  history_max?: number | undefined;
  /** Peers that will never come back: nothing waits for their answers. Default none. */
  gone?: readonly string[] | undefined;
  /** Turns that callers get in the queue for each one of others (`task/queue.ts`). Default 1 each. */
  caller_weights?: Readonly<Record<string, number>> | undefined;
  takeover_ms?: number | undefined;
  beat_interval_ms?: number | undefined;
  offer_interval_ms?: number | undefined;
  /** Dial peers that others name, while connected to fewer than `target_connections` (32). Default true. */
  auto_connect?: boolean | undefined;
  target_connections?: number | undefined;
}

const TARGET_CONNECTIONS = 32;
const UNWATCHED: LeaseWatch = { began: () => {}, ending: () => {}, over: () => {} };
const NO_CRASHES: Crashes = { untold: [], told: () => {} };

export class Scheduler {
  readonly self: string;
  /** What the tools call. */
  readonly api: SchedulerApi;
  /** What other peers say, and that they come and go. */
  readonly inbound: NetworkEvents;
  readonly parts: Parts;
  readonly #clock: Clock;
  readonly #store: Store;
  readonly #worker: SchedulerOptions['worker'];
  readonly #recovery: StoreRecovery;
  readonly #log: Log;

  constructor(components: SchedulerComponents, options: SchedulerOptions) {
    const { clock, network, store, log } = components;
    const { probe = () => {}, watch = UNWATCHED, crashes = NO_CRASHES, onMainFeed } = components;
    const resolved = resolve(options);
    this.self = network.self;
    this.#clock = clock;
    this.#store = store;
    this.#log = log;
    this.#worker = options.worker;
    this.parts = assemble({ ...components, probe, watch, crashes, onMainFeed }, resolved);
    this.api = new Client({ ...this.parts, options: resolved });
    this.inbound = new Inbound(this.parts);
    const { lifecycle, signals } = this.parts;
    this.#recovery = new StoreRecovery({
      ...{ clock, log, lifecycle },
      forget: (error) => this.#forget(error),
      reload: () => this.#reload(),
    });
    signals.failed.listen((error) => void this.#recovery.start(error));
    signals.beforeFlush.listen(() => this.#beforeFlush());
  }

  // --- start and stop ------------------------------------------------------------------------------------------------

  /** Loads what the store holds, and begins to work. */
  async start(): Promise<void> {
    const { pool, registry, peers, heartbeat, offers, onWorkersChanged } = this.parts;
    const worker = this.#worker;
    pool.define({
      kind: 'worker',
      uid: '',
      worker_id: worker.worker_id ?? `worker-${this.self.slice(-8)}`,
      capabilities: ['*', ...worker.labels],
      max_concurrent_tasks: worker.slots,
      resource_limits: { cpu_cores: worker.cpu_cores, memory_gb: worker.memory_gb },
      metadata: {},
      status: 'active',
      registered_at: isoTime(this.#clock.wall()),
    });
    await registry.load();
    peers.turn(this.self, true, this.#clock.now());
    await this.#load();
    onWorkersChanged();
    offers.start();
    heartbeat.start();
    this.#sayWhatIsWithheld();
  }

  #sayWhatIsWithheld(): void {
    const { selfState, self, membershipOf } = this.parts;
    const capabilities = selfState.withheld();
    if (capabilities.length === 0) return;
    const offers = membershipOf(self)?.offers ?? null;
    const why = mayDo(membershipOf(self), ['work'])
      ? 'its `offers` do not name them'
      : 'it has not the role "work", so this peer runs nothing';
    this.#log.warn({ capabilities, offers }, `this peer's certificate does not let it offer some capabilities: ${why}`);
  }

  /**
   * Gets ready to stop: takes no more leases, and lets what runs here end by itself, for at most `waitMs`. Connected
   * peers hear of it at once. Tasks that this peer owns go on at other peers. `stop` hands the rest back.
   * @returns how many attempts have ended, and how many have not
   */
  async drain(waitMs: number): Promise<{ ended: number; left: number }> {
    const { pool, onWorkersChanged } = this.parts;
    const finished = pool.finish(waitMs);
    onWorkersChanged();
    this.#tellEverybody();
    return await finished;
  }

  /** Hands back what runs, writes what waits, and stops. What was accepted is on disk already. */
  async stop(): Promise<void> {
    const { lifecycle, heartbeat, offers, main, pool, local, feeds } = this.parts;
    if (lifecycle.stopping) return;
    lifecycle.stopping = true;
    heartbeat.stop();
    offers.stop();
    main.tell();
    const left = pool.leave(LEAVE_WAIT_MS);
    // The others hear first that nothing is taken here: what is handed back next must not come again.
    this.#tellEverybody();
    await left;
    const journals = [local.journal, ...feeds.all().map(({ journal }) => journal)];
    // If the store fails now, it has refused its callers already.
    await Promise.all(journals.map((journal) => journal.turn(() => undefined).catch(() => undefined)));
    lifecycle.stopped = true;
    // A peer that names a lease from now on must not hear that its task has ended.
    this.#forget(new StoppedError());
  }

  #tellEverybody(): void {
    const { peers, heartbeat } = this.parts;
    for (const { peer_id } of peers.connected()) heartbeat.beat(peer_id);
  }

  /** Sets the handler that runs tools for other peers. */
  serveCalls(handler: CallHandler): void {
    this.parts.served.serve(handler);
  }

  /** What this peer says of itself to another one. */
  describe(reader: string): PeerState {
    return this.parts.selfState.describe(reader);
  }

  // --- memory and disk -----------------------------------------------------------------------------------------------

  async #load(): Promise<void> {
    const { queueState, deferredCalls, ownership, lifecycle, peers, feeds } = this.parts;
    await queueState.load();
    await deferredCalls.load();
    await ownership.load();
    if (lifecycle.stopped) throw new StoppedError();
    // The store failed again meanwhile: the recovery tries once more.
    if (lifecycle.failure !== null) throw lifecycle.failure;
    lifecycle.ready = true;
    for (const { peer_id, state } of peers.connected()) ownership.onLines(peer_id, state);
    feeds.dispatchSoon();
  }

  /** Opens the store again after a failure, and reads it. */
  async #reload(): Promise<void> {
    const { local, lifecycle, queueState } = this.parts;
    await this.#store.recover();
    local.reopen();
    lifecycle.failure = null;
    await queueState.load(); // a pause that was refused is in memory and not on the disk
    // A store that is open again may still be full: a row has to be written before work is given out.
    await local.turn((turn) => turn.put(queueState.record));
    await this.#load();
  }

  /** Memory may be ahead of the disk: every turn is refused with `error` until the store was read anew. */
  #forget(error: unknown): void {
    const { lifecycle, local, ownership, dependencies } = this.parts;
    lifecycle.fail(error);
    local.journal.refuse(error);
    ownership.forget(error);
    dependencies.clear();
  }

  /** Once per event-loop turn that had turns: dispatching is part of their commits. */
  #beforeFlush(): void {
    const { heartbeat, lifecycle, selfState, feeds } = this.parts;
    heartbeat.noticeSleep();
    if (!lifecycle.ready || lifecycle.stopping) return;
    selfState.refresh();
    feeds.dispatch();
  }
}

function resolve(options: SchedulerOptions): ResolvedOptions {
  return {
    name: options.name,
    version: options.version,
    copies: options.copies ?? COPIES_DEFAULT,
    history_days: options.history_days ?? HISTORY_DAYS_DEFAULT,
    history_max: options.history_max ?? HISTORY_ROOTS_DEFAULT,
    gone: options.gone ?? [],
    caller_weights: new Map(Object.entries(options.caller_weights ?? {})),
    takeover_ms: options.takeover_ms ?? TAKEOVER_MS,
    beat_interval_ms: options.beat_interval_ms ?? BEAT_INTERVAL_MS,
    offer_interval_ms: options.offer_interval_ms ?? OFFER_INTERVAL_MS,
    auto_connect: options.auto_connect ?? true,
    target_connections: options.target_connections ?? TARGET_CONNECTIONS,
  };
}
