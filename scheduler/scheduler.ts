/**
 * One peer's scheduler: owner of its feed, worker for any owner, and a member of the mesh. It decides; the world is in
 * its ports. The parts:
 *
 *   feeds         which feeds this peer owns; takeover and return
 *   owned-feed    one of them: its journal (P1), tasks and workflows, who runs what, its copies elsewhere
 *   followed      feeds of other peers that this one follows
 *   reconcile     what becomes of two histories after a partition (P5)
 *   worker        the leases that run here, of any owner
 *   directory     what is known of the other peers
 *   locator       where a record is
 *   beats         what peers tell each other every second
 */
import { FlowmeshError, type JsonObject, type JsonValue } from '../dag/errors.ts';
import type {
  Durability,
  MainFeedState,
  PeerView,
  Place,
  SchedulerApi,
  TaskReceipt,
  TaskSubmission,
  WorkerRegistration,
  WorkerView,
  WorkflowReceipt,
  WorkflowSubmission,
} from './api.ts';
import { capabilityNames } from './capabilities.ts';
import { Change, type PriorityChange } from './client/change.ts';
import { ClearQueue } from './client/clear-queue.ts';
import { DeferredCalls } from './client/deferred-calls.ts';
import { QueueState } from './client/queue-state.ts';
import { Submit } from './client/submit.ts';
import { WorkerRegistry } from './client/worker-registry.ts';
import type { Probe } from './crash-points.ts';
import { NotReadyError, StoppedError } from './errors.ts';
import { Dependencies } from './feed/dependencies.ts';
import { OwnedFeed } from './feed/owned-feed.ts';
import { Retention } from './feed/retention.ts';
import { isoTime } from './ids.ts';
import { receive } from './inbound.ts';
import {
  BEAT_INTERVAL_MS,
  COPIES_DEFAULT,
  HISTORY_DAYS_DEFAULT,
  HISTORY_ROOTS_DEFAULT,
  LEAVE_WAIT_MS,
  OFFER_CLASSES_MAX,
  OFFER_INTERVAL_MS,
  TAKEOVER_MS,
} from './limits.ts';
import { IdClaims } from './lookup/id-claims.ts';
import { Locator, type LocatorListener } from './lookup/locator.ts';
import { RemoteCalls } from './lookup/remote-calls.ts';
import { Beats } from './membership/heartbeat.ts';
import { Directory } from './membership/peer-table.ts';
import type { Alias, PeerState } from './messages.ts';
import { Feeds } from './ownership/ownership.ts';
import { ForeignRecords, localWorker } from './ownership/stored-records.ts';
import { AntiEntropy } from './partition/anti-entropy.ts';
import { IdConflicts } from './partition/id-conflicts.ts';
import { Reconciliation } from './partition/reconcile.ts';
import type {
  Clock,
  Crashes,
  Evaluator,
  Executors,
  LeaseWatch,
  Log,
  Network,
  NetworkEvents,
  Random,
  Store,
} from './ports.ts';
import { LOCAL_FEED, type QueueRecord, type TaskRecord, type WorkerRecord, type WorkflowRecord } from './records.ts';
import { FollowedFeeds } from './replication/follower.ts';
import { type LocalRecord, localRecord } from './storage/aliases.ts';
import { durabilityNow } from './storage/durability.ts';
import { Journal, type Turn } from './storage/journal.ts';
import { StoreRecovery } from './storage/store-recovery.ts';
import { watchedStore } from './storage/watched-store.ts';
import type { Why } from './waiting.ts';
import { WorkerPool } from './worker/worker-pool.ts';

export interface SchedulerComponents {
  clock: Clock;
  random: Random;
  network: Network;
  store: Store;
  executors: Executors;
  evaluator: Evaluator;
  log: Log;
  /** Told at named points around every durable step; tests stop the process there. */
  probe?: Probe | undefined;
  /** Told which leases are worked on here. */
  watch?: LeaseWatch | undefined;
  /** What this peer was at when it crashed before. */
  crashes?: Crashes | undefined;
  /** Told how the feed of new work is, whenever that changed: for readers on other loops. */
  onMainFeed?: ((state: MainFeedState) => void) | undefined;
}

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
  /** Peers that will never come back: what waits for their word goes on without it. Default none. */
  gone?: readonly string[] | undefined;
  takeover_ms?: number | undefined;
  beat_interval_ms?: number | undefined;
  offer_interval_ms?: number | undefined;
  /** Dial peers that others name, while connected to fewer than `target_connections` (32). Default true. */
  auto_connect?: boolean | undefined;
  target_connections?: number | undefined;
}

/** Runs a tool for another peer; set by whoever puts tools and scheduler together. */
export type CallHandler = (tool: string, input: JsonObject, hops: number, from: string) => Promise<JsonObject>;

const TARGET_CONNECTIONS = 32;
const UNWATCHED: LeaseWatch = { began: () => {}, ending: () => {}, over: () => {} };
const NO_CRASHES: Crashes = { untold: [], told: () => {} };

export class Scheduler implements SchedulerApi, NetworkEvents {
  readonly self: string;
  readonly clock: Clock;
  readonly network: Network;
  readonly log: Log;
  readonly watch: LeaseWatch;
  readonly options: Required<Omit<SchedulerOptions, 'worker'>> & Pick<SchedulerOptions, 'worker'>;
  readonly directory: Directory;
  readonly pool: WorkerPool;
  readonly feeds: Feeds;
  readonly followed: FollowedFeeds;
  readonly reconciliation: Reconciliation;
  readonly locator: Locator;
  readonly idClaims: IdClaims;
  private readonly remoteCalls: RemoteCalls;
  readonly dependencies: Dependencies;
  private readonly idConflicts: IdConflicts;
  private readonly antiEntropy: AntiEntropy;
  readonly beats: Beats;
  private readonly foreign: ForeignRecords;
  private readonly deferredCalls: DeferredCalls;
  private readonly onMainFeed: ((state: MainFeedState) => void) | undefined;
  private readonly store: Store;
  private readonly submit: Submit;
  private readonly queueClearing: ClearQueue;
  private readonly change: Change;
  private readonly registry: WorkerRegistry;
  private readonly queueState: QueueState;
  private readonly recovery: StoreRecovery;
  /** Of LOCAL_FEED. */
  private local: Journal;
  private callHandler: CallHandler | null = null;
  /** Nothing is given out any more. */
  private stopping = false;
  private stopped = false;
  /** False while the store is being read: nothing that depends on what is owned may be answered. */
  ready = false;

  constructor(components: SchedulerComponents, options: SchedulerOptions) {
    const { clock, random, network, store, executors, evaluator, log, probe = () => {} } = components;
    const { watch = UNWATCHED, crashes = NO_CRASHES } = components;
    this.clock = clock;
    this.network = network;
    this.store = store;
    this.log = log;
    this.self = network.self;
    this.watch = watch;
    this.onMainFeed = components.onMainFeed;
    this.options = {
      ...options,
      copies: options.copies ?? COPIES_DEFAULT,
      history_days: options.history_days ?? HISTORY_DAYS_DEFAULT,
      history_max: options.history_max ?? HISTORY_ROOTS_DEFAULT,
      gone: options.gone ?? [],
      takeover_ms: options.takeover_ms ?? TAKEOVER_MS,
      beat_interval_ms: options.beat_interval_ms ?? BEAT_INTERVAL_MS,
      offer_interval_ms: options.offer_interval_ms ?? OFFER_INTERVAL_MS,
      auto_connect: options.auto_connect ?? true,
      target_connections: options.target_connections ?? TARGET_CONNECTIONS,
    };
    const onFailure = (error: unknown) => void this.recovery.start(error);
    const newLocal = () => {
      const seq = store.feeds.get(LOCAL_FEED)?.seq ?? 0;
      return new Journal({ store, clock, log, probe }, { feed_id: LOCAL_FEED, epoch: 1, seq }, { onFailure });
    };
    this.local = newLocal();
    const { reader } = store;
    const watched = watchedStore(store, onFailure);
    const lookUp = (alias: Alias) => this.lookUp(alias);
    const commit = <T>(work: (turn: Turn) => T) => this.commit(work);
    const mustBeReady = () => this.mustBeReady();
    const dispatchSoon = () => this.dispatchSoon();
    this.directory = new Directory(this.self);
    const { directory } = this;
    this.pool = new WorkerPool({
      ...{ clock, executors, network, log, probe, watch, crashes, name: options.name },
      onSlotFree: () => this.slotFree(),
    });
    const lookUpCopy = (alias: Alias) => this.foreign.copyOf(alias);
    const onRival: IdConflicts['onRival'] = (uid, rival) => this.idConflicts.onRival(uid, rival);
    const onDoubt: IdConflicts['doubted'] = (alias) => this.idConflicts.doubted(alias);
    const isBeingMade = (uid: string) => this.feeds.isBeingMade(uid);
    const listener: LocatorListener = {
      onHeard: (...heard) => this.idClaims.onHeard(...heard),
      holdOn: (alias) => this.idClaims.holdOn(alias),
    };
    this.locator = new Locator({
      ...{ network, directory, clock, log, listener, lookUp, lookUpCopy, isBeingMade },
      options: this.options,
    });
    const { locator } = this;
    this.remoteCalls = new RemoteCalls({ network, clock, locator, options: this.options });
    this.idClaims = new IdClaims({
      ...{ network, directory, clock, log, locator, lookUp, lookUpCopy, onRival, onDoubt },
      wantOwner: (feedId) => this.followed.want(feedId),
      options: this.options,
    });
    const isLive = ({ kind, id }: Alias) => kind !== 'worker' && this.feeds.byAlias(kind, id) !== undefined;
    this.dependencies = new Dependencies({ clock, locator: this.locator, log, isLive }, (kind, dependent, id, status) =>
      this.unblock(kind, dependent, id, status),
    );
    const onAdopted: IdConflicts['adopted'] = (root, rival) => this.idConflicts.adopted(root, rival);
    this.reconciliation = new Reconciliation({ clock, network, reader, log, lookUp, onAdopted });
    this.followed = new FollowedFeeds(
      { clock, network, store: watched, probe },
      {
        owned: (feedId) => this.feeds.owned.get(feedId)?.feed,
        onClaim: (peer, feedId) => this.feeds.look(peer, feedId),
        isClaimed: (feedId, peer) => directory.isClaimed(feedId, peer),
        remember: (work) => this.local.turn(work),
      },
    );
    const owning = { clock, random, network, store, evaluator, log, probe, directory };
    this.feeds = new Feeds({
      ...{ clock, random, network, log, probe, directory, lookUp },
      store: watched,
      pool: this.pool,
      followed: this.followed,
      local: () => this.local,
      conflictsAmong: (remembered) => this.idConflicts.ofTakenUp(remembered),
      onTakenUp: () => this.idConflicts.takenUp(),
      reconcile: (mine, theirs, fork) => this.reconciliation.send(mine, theirs, fork),
      doubt: () => this.dependencies.doubt(),
      reach: (peer) => this.beats.meet(peer, []),
      options: this.options,
      makeOwned: (feed) =>
        new OwnedFeed({ ...owning, pool: this.pool, dependencies: this.dependencies }, feed, this.options, {
          isPaused: () => this.queueState.paused || !this.ready || this.stopping,
          onStarved: () => this.beats.offerSoon(),
          beforeFlush: () => this.beforeFlush(),
          onReleased: () => this.tellMainFeed(),
          onFailure,
          onStale: (peer, feedId) => this.feeds.look(peer, feedId),
        }),
    });
    this.foreign = new ForeignRecords({ self: this.self, reader, feeds: this.feeds, followed: this.followed });
    this.deferredCalls = new DeferredCalls({
      ...{ clock, reader, log, commit },
      lookUp: (alias) => this.foreign.heirOf(alias),
      hasOwner: (feedId) =>
        this.feeds.owned.has(feedId) || directory.ownerOfFeed((each) => each === feedId) !== undefined,
      run: (tool, input) => this.runCall(tool, input, 1, this.self),
    });
    const retention = new Retention({
      ...{ clock, store, log },
      followed: this.followed,
      owned: () => this.feeds.owned.values(),
      local: () => this.local,
      options: this.options,
    });
    this.idConflicts = new IdConflicts({
      ...{ clock, reader, log, lookUp },
      self: this.self,
      feeds: this.feeds,
      locator,
    });
    this.antiEntropy = new AntiEntropy({
      ...{ clock, directory, log },
      idConflicts: this.idConflicts,
      isReady: () => this.ready,
      options: this.options,
    });
    this.beats = new Beats({
      ...{ clock, network, directory, reader, log },
      antiEntropy: this.antiEntropy,
      pool: this.pool,
      describe: () => this.describe(),
      isReady: () => this.ready,
      owned: () => this.feeds.owned.values(),
      onClaims: (peer, claims) => this.feeds.onClaims(peer, claims),
      onTick: () => {
        this.feeds.tick();
        this.deferredCalls.tick();
        this.tellMainFeed();
        retention.tick();
      },
      onWatch: () => this.feeds.watch(),
      onWake: () => this.feeds.wake(),
      options: this.options,
    });
    this.submit = new Submit({
      ...{ clock, random, evaluator, reader, lookUp, mustBeReady },
      feeds: this.feeds,
      locator,
      idClaims: this.idClaims,
      dependencies: this.dependencies,
      copies: this.options.copies,
      namedPeers: (text) => directory.named(text),
      slots: () => directory.workers().reduce((sum, { slots }) => sum + slots, 0),
    });
    this.queueClearing = new ClearQueue({ clock, reader, feeds: this.feeds, mustBeReady });
    this.change = new Change({ reader, feeds: this.feeds, mustBeReady });
    this.registry = new WorkerRegistry({
      ...{ clock, reader, commit },
      pool: this.pool,
      locator: this.locator,
      onChange: () => this.capabilitiesChanged(),
    });
    this.queueState = new QueueState({
      ...{ clock, reader, commit, dispatchSoon },
      reorder: () => [...this.feeds.owned.values()].map(({ tasks }) => tasks.reorder()).includes(true),
    });
    this.recovery = new StoreRecovery({
      clock,
      log,
      isReady: () => this.ready,
      isStopped: () => this.stopped,
      forget: (error) => this.forget(error),
      takeUp: async () => {
        await store.recover();
        this.local = newLocal();
        await this.queueState.load(); // a pause that was refused is in memory and not on the disk
        // A store that is open again is not yet one with room: a row has to be written before work is given out.
        await this.local.turn((turn) => turn.put(this.queueState.record));
        await this.takeUp();
      },
    });
  }

  /** The feed of new work; its first characters are part of the ids made here. */
  get feed_id(): string {
    return this.feeds.main_feed;
  }

  /** Takes up what the store holds, and begins to work. */
  async start(): Promise<void> {
    const { worker } = this.options;
    this.pool.define({
      kind: 'worker',
      uid: '',
      worker_id: worker.worker_id ?? `worker-${this.self.slice(-8)}`,
      capabilities: ['*', ...worker.labels],
      max_concurrent_tasks: worker.slots,
      resource_limits: { cpu_cores: worker.cpu_cores, memory_gb: worker.memory_gb },
      metadata: {},
      status: 'active',
      registered_at: isoTime(this.clock.wall()),
    });
    await this.registry.load();
    this.directory.turn(this.self, true, this.clock.now());
    await this.takeUp();
    this.capabilitiesChanged();
    this.beats.start();
  }

  /**
   * Gets ready to stop: takes no more leases, and lets what runs here end by itself, for at most `waitMs`. Everybody who
   * is connected hears of it at once. What this peer owns goes on at others. `stop` hands the rest back.
   */
  async drain(waitMs: number): Promise<{ ended: number; left: number }> {
    const finished = this.pool.finish(waitMs);
    this.capabilitiesChanged();
    for (const { peer_id } of this.directory.connected()) this.beats.beat(peer_id);
    return await finished;
  }

  /** Hands back what runs, writes what waits, and stops. What was accepted is on disk already. */
  async stop(): Promise<void> {
    if (this.stopping) return;
    this.stopping = true;
    this.beats.stop();
    this.feeds.stop();
    const left = this.pool.leave(LEAVE_WAIT_MS);
    // The others hear first that nothing is taken here: what is handed back next must not come again.
    for (const { peer_id } of this.directory.connected()) this.beats.beat(peer_id);
    await left;
    const journals = [this.local, ...[...this.feeds.owned.values()].map(({ journal }) => journal)];
    // A store that fails now has refused its callers.
    await Promise.all(journals.map((journal) => journal.turn(() => undefined).catch(() => undefined)));
    this.stopped = true;
    // Whoever names a lease now must not hear that its task has ended.
    this.forget(new StoppedError());
  }

  /** Sets who runs tools for other peers. */
  serveCalls(handler: CallHandler): void {
    this.callHandler = handler;
  }

  async runCall(tool: string, input: JsonObject, hops: number, from: string): Promise<JsonObject> {
    if (this.callHandler === null) {
      throw new FlowmeshError('NOT_READY', 'this peer does not serve tools yet; try again', { retryable: true });
    }
    return await this.callHandler(tool, input, hops, from);
  }

  // --- turns ---------------------------------------------------------------------------------------------------------

  /**
   * A change of what this peer remembers of itself, given when it is durable.
   * @throws NotReadyError while the store is being read, or why it failed
   */
  private async commit<T>(work: (turn: Turn) => T): Promise<T> {
    this.mustBeReady();
    return await this.local.turn(work);
  }

  dispatchSoon(): void {
    for (const feed of this.feeds.owned.values()) feed.dispatchSoon();
  }

  /** Once per event-loop turn that had turns: dispatching is part of their commits. */
  private beforeFlush(): void {
    this.beats.noticeSleep();
    if (!this.ready || this.stopping) return;
    this.refreshSelf();
    this.feeds.dispatch();
  }

  private refreshSelf(): void {
    const entry = this.directory.entry(this.self, this.clock.now());
    const known = entry.state;
    entry.held_at_beat.clear();
    for (const { worker_id } of this.pool.states()) {
      entry.held_at_beat.set(worker_id, this.pool.runningFor(this.self, worker_id));
    }
    const { queued, running } = this.feeds.counts;
    entry.state = {
      ...(known ?? {
        name: this.options.name,
        version: this.options.version,
        feeds: [],
        waiting: [],
        addresses: [],
      }),
      workers: this.pool.states(),
      queued: 0,
      running,
      paused: queued > 0 && this.queueState.paused,
    };
  }

  // --- recovery ------------------------------------------------------------------------------------------------------

  private async takeUp(): Promise<void> {
    await this.queueState.load();
    await this.deferredCalls.load();
    await this.feeds.start();
    if (this.stopped) throw new StoppedError();
    // What failed again meanwhile is being recovered from anew.
    if (this.local.refused !== null) throw this.local.refused;
    this.ready = true;
    for (const { peer_id, state } of this.directory.connected()) this.feeds.onClaims(peer_id, state?.feeds ?? []);
    this.dispatchSoon();
  }

  /** @throws why the store failed, NOT_READY while it is being read */
  private mustBeReady(): void {
    if (this.ready) return;
    throw this.local.refused ?? new NotReadyError();
  }

  /** What is in memory may be ahead of the disk. Every turn is refused with `error` until it was read anew. */
  private forget(error: unknown): void {
    this.ready = false;
    this.local.refuse(error);
    this.feeds.forget(error);
    this.dependencies.clear();
  }

  // --- what happens --------------------------------------------------------------------------------------------------

  /** What a record waits for has ended. */
  private unblock(kind: Alias['kind'], dependent: string, id: string, status: string): void {
    for (const feed of this.feeds.owned.values()) {
      if (!feed.tasks.live.has(dependent) && !feed.runs.live.has(dependent)) continue;
      feed.turn((turn) => {
        if (kind === 'task') feed.tasks.unblock(turn, dependent, id, status);
        else feed.runs.unblock(turn, dependent, id, status);
      });
    }
  }

  private slotFree(): void {
    this.directory.find(this.self)?.busy.clear();
    this.dispatchSoon();
    this.beats.claimSoon();
  }

  private capabilitiesChanged(): void {
    this.refreshSelf();
    this.network.provide(capabilityNames(this.pool.states()));
    this.dispatchSoon();
  }

  // --- network -------------------------------------------------------------------------------------------------------

  onMessage(peer: string, method: string, params: unknown): Promise<JsonValue | undefined> {
    return receive(this, peer, method, params);
  }

  onOffer(_from: string, offer: unknown): void {
    this.beats.onOffer(offer);
  }

  onConnected(peer: string, _how: 'inbound' | 'outbound'): void {
    const entry = this.directory.turn(peer, true, this.clock.now());
    entry.leaving = false;
    entry.heard_at = this.clock.now();
    this.antiEntropy.met(peer);
    this.beats.beat(peer);
    this.pool.sendResults();
    this.feeds.onConnected(peer);
    this.dispatchSoon();
  }

  onDisconnected(peer: string): void {
    if (this.directory.find(peer) === undefined) return;
    const entry = this.directory.turn(peer, false, this.clock.now());
    this.antiEntropy.parted(peer);
    entry.found_by = 'connected';
    this.reconciliation.forget(peer);
    this.feeds.onDisconnected(peer);
    // Its leases return when it is gone (`goneFor`): it may come back and bring their results.
  }

  get name(): string {
    return this.options.name;
  }

  describe(): PeerState {
    return {
      name: this.options.name,
      version: this.options.version,
      feeds: this.ready ? this.feeds.claims() : [],
      workers: this.pool.states(),
      ...this.feeds.counts,
      paused: this.queueState.paused,
      waiting: this.queueState.paused ? [] : this.feeds.waiting(OFFER_CLASSES_MAX),
      addresses: this.network.addresses(),
    };
  }

  // --- where things are ----------------------------------------------------------------------------------------------

  async lookUp(alias: Alias): Promise<LocalRecord | undefined> {
    const { kind, id } = alias;
    if (kind === 'worker') return localWorker(this.pool, id) ?? (await this.storedWorker(id));
    const record = this.feeds.byAlias(kind, id) ?? (await this.store.reader.byAlias(kind, id));
    return record && localRecord(record);
  }

  private async storedWorker(id: string): Promise<LocalRecord | undefined> {
    const record = await this.store.reader.byAlias('worker', id);
    return record === undefined ? undefined : { uid: record.worker_id, status: record.status, content_hash: '' };
  }

  resolve(alias: Alias, except?: readonly string[]): Promise<Place | undefined> {
    return this.locator.resolve(alias, except);
  }

  async wantOwner(alias: Alias): Promise<void> {
    const copy = await this.foreign.copyOf(alias);
    if (copy !== undefined) this.followed.want(copy.feed_id);
  }

  deferCall(alias: Alias, tool: string, input: JsonObject): Promise<{ status: string }> {
    this.mustBeReady();
    return this.deferredCalls.keep(alias, tool, input);
  }

  // --- how feeds are -------------------------------------------------------------------------------------------------

  isReleased(feedId: string, seq: number): boolean {
    const feed = this.feeds.owned.get(feedId);
    return feed === undefined || seq <= feed.journal.released;
  }

  async whenReleased(feedId: string, seq: number): Promise<void> {
    await this.feeds.owned.get(feedId)?.journal.whenReleased(seq);
  }

  durabilityOf(feedId: string, seq: number, wanted: number): Durability | null {
    const feed = this.feeds.owned.get(feedId);
    if (feed === undefined) return null;
    const mesh = { byDefault: this.options.copies, alone: this.feeds.isAlone() };
    return durabilityNow(feed.replicas.copiesNow(seq), wanted, mesh);
  }

  staleMs(feedId: string): number | null {
    return this.foreign.staleMs(feedId);
  }

  private tellMainFeed(): void {
    if (this.onMainFeed === undefined) return;
    const { main } = this.feeds;
    this.onMainFeed({
      feed_id: main?.feed_id ?? '',
      released: main?.journal.released ?? 0,
      copied: main?.replicas.copied ?? [],
      alone: this.feeds.isAlone(),
    });
  }

  call(...call: Parameters<SchedulerApi['call']>): Promise<JsonObject> {
    return this.remoteCalls.call(...call);
  }

  workers(): WorkerView[] {
    this.refreshSelf();
    return this.directory
      .workers()
      .map((view) => (view.peer_id === this.self ? { ...view, tasks: this.pool.tasksOf(view.worker_id) } : view));
  }

  whyWaiting(uids: readonly string[]): Record<string, Why> {
    const found: Record<string, Why> = {};
    for (const uid of uids) {
      for (const feed of this.feeds.owned.values()) {
        const why = feed.whyWaiting(uid, this.queueState.record);
        if (why !== null) found[uid] = why;
      }
    }
    return found;
  }

  peers(): PeerView[] {
    return this.directory.peers().filter(({ peer_id }) => peer_id !== this.self);
  }

  async releasePeer(peer: string): Promise<{ handed_back: number }> {
    this.directory.entry(peer, this.clock.now()).leaving = true;
    const handedBack = this.pool.handBack(peer);
    let returned = 0;
    for (const { journal, attempts } of [...this.feeds.owned.values()]) {
      returned += await journal.turn((turn) => attempts.takeBack(turn, peer));
    }
    return { handed_back: (await handedBack) + returned };
  }

  // --- submits and changes -------------------------------------------------------------------------------------------

  submitWorkflow(submission: WorkflowSubmission): Promise<WorkflowReceipt> {
    return this.submit.submitWorkflow(submission);
  }

  submitTask(submission: TaskSubmission): Promise<TaskReceipt> {
    return this.submit.submitTask(submission);
  }

  retryTask(
    uid: string,
    config: { max_retries: number | undefined; timeout_ms: number | undefined },
  ): Promise<{ record: TaskRecord; queue_position: number | null }> {
    return this.submit.retryTask(uid, config);
  }

  cancelWorkflow(
    uid: string,
    options: { reason: string | undefined; force: boolean },
  ): Promise<{ record: WorkflowRecord; cancelled_steps: string[] }> {
    return this.change.cancelWorkflow(uid, options);
  }

  cancelTask(
    uid: string,
    options: { reason: string | undefined; force: boolean },
  ): Promise<{ record: TaskRecord; cleanup_required: boolean }> {
    return this.change.cancelTask(uid, options);
  }

  answerTask(uid: string, answer: { approve: boolean; data: JsonValue }): Promise<TaskRecord> {
    return this.change.answerTask(uid, answer);
  }

  setPriority(
    uid: string,
    change: PriorityChange,
    options: { requeue: boolean },
  ): Promise<{ old_priority: number; new_priority: number; new_queue_position: number | null }> {
    return this.change.setPriority(uid, change, options);
  }

  queue(): QueueRecord {
    return this.queueState.record;
  }

  pauseQueue(reason: string | undefined): Promise<QueueRecord> {
    return this.queueState.pause(reason);
  }

  resumeQueue(options: { reorder_by_priority?: boolean } = {}): Promise<{ queue: QueueRecord; reordered: boolean }> {
    return this.queueState.resume(options);
  }

  clearQueue(
    filter: 'queued' | 'failed' | 'cancelled' | 'dead_letter' | undefined,
  ): Promise<{ cleared_count: number; remaining_count: number }> {
    return this.queueClearing.clear(filter);
  }

  registerWorker(registration: WorkerRegistration): Promise<WorkerRecord> {
    return this.registry.register(registration);
  }

  unregisterWorker(
    worker_id: string,
    options: { graceful: boolean; timeout_ms: number },
  ): Promise<{ completed_tasks: number; abandoned_tasks: number }> {
    return this.registry.unregister(worker_id, options);
  }
}
