/**
 * One peer's scheduler: owner of its feed, worker for any owner, and a member of the mesh. It decides; the world is in
 * its ports. The parts:
 *
 *   journal       turns, group commit, effects after the fsync (P1)
 *   tasks, runs   the records of this owner and how they move
 *   dispatcher    who runs what
 *   worker        the leases that run here, of any owner
 *   directory     what is known of the other peers
 *   locator       where a record is
 *   beats         what peers tell each other every second
 */
import { FlowmeshError, type JsonObject, type JsonValue } from '../dag/errors.ts';
import type {
  PeerView,
  SchedulerApi,
  TaskReceipt,
  TaskSubmission,
  WorkerRegistration,
  WorkerView,
  WorkflowReceipt,
  WorkflowSubmission,
} from './api.ts';
import { Beats } from './beats.ts';
import { Changes, type PriorityChange } from './changes.ts';
import { Dependencies } from './dependencies.ts';
import { Directory } from './directory.ts';
import { Dispatcher } from './dispatcher.ts';
import { NotReadyError, StoppedError } from './errors.ts';
import { isoTime } from './ids.ts';
import { Intake } from './intake.ts';
import { Journal, type Turn } from './journal.ts';
import { BEAT_INTERVAL_MS, LEAVE_WAIT_MS, OFFER_CLASSES_MAX, OFFER_INTERVAL_MS, TAKEOVER_MS } from './limits.ts';
import { type LocalRecord, Locator, localWorker } from './locator.ts';
import type { Alias, Located, PeerState } from './messages.ts';
import { capabilityNames } from './placement.ts';
import type { Clock, Evaluator, Executors, Log, Network, NetworkEvents, Random, Store } from './ports.ts';
import { QueueState } from './queue-state.ts';
import { receive } from './receive.ts';
import type { QueueRecord, TaskRecord, WorkerRecord, WorkflowRecord } from './records.ts';
import { readActive, restore } from './recovery.ts';
import { Runs } from './runs.ts';
import { StoreRecovery } from './store-recovery.ts';
import { Tasks } from './tasks.ts';
import { WorkerPool } from './worker.ts';
import { WorkerRegistry } from './worker-registry.ts';

export interface SchedulerComponents {
  clock: Clock;
  random: Random;
  network: Network;
  store: Store;
  executors: Executors;
  evaluator: Evaluator;
  log: Log;
}

export interface SchedulerOptions {
  /** The peer's name for people. */
  name: string;
  version: string;
  /** The pool that every peer has. `worker_id` is `worker-<end of the peer id>` by default. */
  worker: { worker_id?: string | undefined; slots: number; labels: string[]; cpu_cores: number; memory_gb: number };
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

export class Scheduler implements SchedulerApi, NetworkEvents {
  readonly self: string;
  readonly clock: Clock;
  readonly network: Network;
  readonly log: Log;
  readonly options: Required<Omit<SchedulerOptions, 'worker'>> & Pick<SchedulerOptions, 'worker'>;
  readonly directory: Directory;
  readonly tasks: Tasks;
  readonly runs: Runs;
  readonly pool: WorkerPool;
  readonly dispatcher: Dispatcher;
  readonly locator: Locator;
  readonly dependencies: Dependencies;
  readonly beats: Beats;
  private readonly store: Store;
  private readonly journal: Journal;
  private readonly intake: Intake;
  private readonly changes: Changes;
  private readonly registry: WorkerRegistry;
  private readonly queueState: QueueState;
  private readonly recovery: StoreRecovery;
  private callHandler: CallHandler | null = null;
  private dispatchWanted = false;
  /** Nothing is given out any more. */
  private stopping = false;
  private stopped = false;
  /** False while the store is being read: nothing that depends on what is owned may be answered. */
  ready = false;

  constructor(components: SchedulerComponents, options: SchedulerOptions) {
    const { clock, random, network, store, executors, evaluator, log } = components;
    this.clock = clock;
    this.network = network;
    this.store = store;
    this.log = log;
    this.self = network.self;
    this.options = {
      ...options,
      takeover_ms: options.takeover_ms ?? TAKEOVER_MS,
      beat_interval_ms: options.beat_interval_ms ?? BEAT_INTERVAL_MS,
      offer_interval_ms: options.offer_interval_ms ?? OFFER_INTERVAL_MS,
      auto_connect: options.auto_connect ?? true,
      target_connections: options.target_connections ?? TARGET_CONNECTIONS,
    };
    this.journal = new Journal(
      { store, clock, log },
      { beforeFlush: () => this.dispatchIfWanted(), onFailure: (error) => void this.recovery.start(error) },
    );
    const turn = (work: (turn: Turn) => void) => this.turn(work);
    const dispatchSoon = () => this.dispatchSoon();
    this.directory = new Directory(this.self);
    this.tasks = new Tasks(
      { clock, random, network, directory: this.directory, log },
      {
        turn,
        dispatchSoon,
        onEnded: (turn, record) => this.taskEnded(turn, record),
        onWaiting: (turn, record) => this.runs.onTaskWaiting(turn, record),
        onNestedTimeout: (turn, record) => this.runs.onNestedTimeout(turn, record),
      },
    );
    this.runs = new Runs(
      { clock, random, evaluator, tasks: this.tasks, reader: store.reader, log },
      { turn, onEnded: (turn, record) => this.workflowEnded(turn, record) },
    );
    this.pool = new WorkerPool(
      { clock, executors, network, log },
      { name: options.name, onSlotFree: () => this.slotFree() },
    );
    this.locator = new Locator({ network, directory: this.directory, clock, log }, (alias) => this.lookUp(alias));
    this.dependencies = new Dependencies({ clock, locator: this.locator, log }, (kind, dependent, id, status) =>
      this.turn((turn) => {
        if (kind === 'task') this.tasks.unblock(turn, dependent, id, status);
        else this.runs.unblock(turn, dependent, id, status);
      }),
    );
    this.dispatcher = new Dispatcher(
      { clock, random, network, directory: this.directory, tasks: this.tasks, runs: this.runs, pool: this.pool, log },
      { turn, dispatchSoon, isPaused: () => this.queueState.paused, onStarved: () => this.beats.offerSoon() },
      this.options.beat_interval_ms,
    );
    this.beats = new Beats({
      clock,
      network,
      directory: this.directory,
      tasks: this.tasks,
      pool: this.pool,
      log,
      describe: () => this.describe(),
      isReady: () => this.ready,
      turn,
      dispatchSoon,
      options: this.options,
    });
    this.intake = new Intake({
      clock,
      random,
      evaluator,
      reader: store.reader,
      tasks: this.tasks,
      runs: this.runs,
      locator: this.locator,
      dependencies: this.dependencies,
      log,
      lookUp: (alias) => this.lookUp(alias),
      mustBeReady: () => this.mustBeReady(),
      commit: (work) => this.commit(work),
      slots: () => this.directory.workers().reduce((sum, { slots }) => sum + slots, 0),
    });
    this.changes = new Changes({
      reader: store.reader,
      tasks: this.tasks,
      runs: this.runs,
      mustBeReady: () => this.mustBeReady(),
      commit: (work) => this.commit(work),
    });
    this.registry = new WorkerRegistry({
      clock,
      pool: this.pool,
      locator: this.locator,
      reader: store.reader,
      feedId: () => this.feed_id,
      commit: (work) => this.commit(work),
      onChange: () => this.capabilitiesChanged(),
    });
    this.queueState = new QueueState({
      clock,
      reader: store.reader,
      feedId: this.feed_id,
      commit: (work) => this.commit(work),
      reorder: () => this.tasks.reorder(),
      dispatchSoon,
    });
    this.recovery = new StoreRecovery({
      clock,
      log,
      isReady: () => this.ready,
      isStopped: () => this.stopped,
      forget: () => this.forget(),
      refuse: (error) => this.journal.refuse(error),
      takeUp: () => this.takeUpAgain(),
    });
  }

  get feed_id(): string {
    return this.store.feed.feed_id;
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
    await this.registry.takeUp();
    this.directory.entry(this.self, this.clock.now()).connected = true;
    await this.takeUp((turn) => this.tasks.loseLeasesOf(turn, this.self));
    this.capabilitiesChanged();
    this.beats.start();
  }

  /** Hands back what runs, writes what waits, and stops. What was accepted is on disk already. */
  async stop(): Promise<void> {
    if (this.stopping) return;
    this.stopping = true;
    this.beats.stop();
    const left = this.pool.leave(LEAVE_WAIT_MS);
    // The others hear first that nothing is taken here: what is handed back next must not come again.
    for (const { peer_id } of this.directory.connected()) this.beats.beat(peer_id);
    await left;
    await this.journal.turn(() => undefined).catch(() => undefined); // a store that fails now has refused its callers
    this.stopped = true;
    this.journal.refuse(new StoppedError());
    // Whoever names a lease now must not hear that its task has ended.
    this.forget();
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

  /** A turn whose outcome nobody waits for. */
  turn(work: (turn: Turn) => void): void {
    this.journal.turn(work).catch((error: unknown) => {
      // Refused because the store failed or the peer stops: the same happens again from the rows after recovery.
      if (error === this.journal.refused) this.log.debug({ err: error }, 'a turn was refused');
      else this.log.error({ err: error }, 'a turn failed');
    });
  }

  /**
   * A turn whose value is given when it is durable.
   * @throws NotReadyError while the store is being read, or why it failed
   */
  async commit<T>(work: (turn: Turn) => T): Promise<T> {
    this.mustBeReady();
    return await this.journal.turn(work);
  }

  dispatchSoon(): void {
    this.dispatchWanted = true;
    this.journal.schedule();
  }

  private dispatchIfWanted(): void {
    if (!this.dispatchWanted || !this.ready || this.stopping) return;
    this.dispatchWanted = false;
    this.refreshSelf();
    this.dispatcher.dispatch(this.journal);
  }

  private refreshSelf(): void {
    const entry = this.directory.entry(this.self, this.clock.now());
    const known = entry.state;
    entry.held_at_beat.clear();
    for (const { worker_id } of this.pool.states()) {
      entry.held_at_beat.set(worker_id, this.pool.runningFor(this.self, worker_id));
    }
    const { queued, running } = this.tasks.counts;
    entry.state = {
      ...(known ?? {
        name: this.options.name,
        version: this.options.version,
        feed_ids: [],
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

  /** @param then in the same turn, when everything is in memory again */
  private async takeUp(then: (turn: Turn) => void = () => {}): Promise<void> {
    await this.queueState.takeUp();
    const { feed_id, epoch } = this.store.feed;
    this.tasks.leases.feed = { feed_id, epoch };
    this.runs.feedId = feed_id;
    const remembered = await readActive(this.store.reader, (alias) => this.lookUp(alias));
    if (this.stopped) throw new StoppedError();
    this.journal.resume();
    this.ready = true;
    await this.commit((turn) => {
      restore(turn, remembered, { tasks: this.tasks, runs: this.runs, dependencies: this.dependencies });
      then(turn);
    });
    this.dispatchSoon();
  }

  private async takeUpAgain(): Promise<void> {
    await this.store.recover();
    // A store that is open again is not yet one with room: a row has to be written before work is given out.
    await this.takeUp((turn) => turn.put(this.queueState.record));
  }

  /** @throws why the store failed, NOT_READY while it is being read */
  private mustBeReady(): void {
    if (this.ready) return;
    throw this.journal.refused ?? new NotReadyError();
  }

  /** What is in memory may be ahead of the disk. */
  private forget(): void {
    this.ready = false;
    this.tasks.clear();
    this.runs.clear();
    this.dependencies.clear();
  }

  // --- what ended ----------------------------------------------------------------------------------------------------

  private taskEnded(turn: Turn, record: TaskRecord): void {
    this.runs.onTaskEnded(turn, record);
    this.dependencies.forget('task', record.depends_on, record.uid);
    if (record.workflow_uid === null) this.dependencies.ended({ kind: 'task', id: record.task_id }, record.status);
  }

  private workflowEnded(_turn: Turn, record: WorkflowRecord): void {
    this.dependencies.forget('workflow', record.dependencies, record.uid);
    this.dependencies.ended({ kind: 'workflow', id: record.workflow_id }, record.status);
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
    const entry = this.directory.entry(peer, this.clock.now());
    entry.connected = true;
    entry.leaving = false;
    entry.heard_at = this.clock.now();
    this.beats.beat(peer);
    this.pool.sendResults();
    this.dispatchSoon();
  }

  onDisconnected(peer: string): void {
    const entry = this.directory.find(peer);
    if (entry === undefined) return;
    entry.connected = false;
    entry.found_by = 'connected';
    // Its leases return when it has been silent for `takeover_ms`: it may come back and bring their results.
  }

  describe(): PeerState {
    return {
      name: this.options.name,
      version: this.options.version,
      feed_ids: [this.feed_id],
      workers: this.pool.states(),
      ...this.tasks.counts,
      paused: this.queueState.paused,
      waiting: this.queueState.paused ? [] : this.tasks.queue.waiting(OFFER_CLASSES_MAX),
      addresses: this.network.addresses(),
    };
  }

  // --- where things are ----------------------------------------------------------------------------------------------

  async lookUp(alias: Alias): Promise<LocalRecord | undefined> {
    const { kind, id } = alias;
    if (kind === 'worker') return localWorker(this.pool, id) ?? (await this.storedWorker(id));
    const live = kind === 'task' ? this.tasks.byAlias(id)?.record : this.runs.byAlias(id)?.record;
    const record = live ?? (await this.store.reader.byAlias(kind, id));
    return record === undefined
      ? undefined
      : { uid: record.uid, status: record.status, content_hash: record.content_hash };
  }

  private async storedWorker(id: string): Promise<LocalRecord | undefined> {
    const record = await this.store.reader.byAlias('worker', id);
    return record === undefined ? undefined : { uid: record.worker_id, status: record.status, content_hash: '' };
  }

  resolve(alias: Alias): Promise<{ here: true; uid: string } | { here: false; at: Located } | undefined> {
    return this.locator.resolve(alias);
  }

  call(peer: string, addresses: string[], tool: string, input: JsonObject, hops: number): Promise<JsonObject> {
    return this.locator.call(peer, addresses, tool, input, hops);
  }

  workers(): WorkerView[] {
    this.refreshSelf();
    return this.directory
      .workers()
      .map((view) => (view.peer_id === this.self ? { ...view, tasks: this.pool.tasksOf(view.worker_id) } : view));
  }

  peers(): PeerView[] {
    return this.directory.peers().filter(({ peer_id }) => peer_id !== this.self);
  }

  async releasePeer(peer: string): Promise<{ handed_back: number }> {
    this.directory.entry(peer, this.clock.now()).leaving = true;
    const [handedBack, returned] = await Promise.all([
      this.pool.handBack(peer),
      this.commit((turn) => this.tasks.takeBack(turn, peer)),
    ]);
    return { handed_back: handedBack + returned };
  }

  // --- submits and changes -------------------------------------------------------------------------------------------

  submitWorkflow(submission: WorkflowSubmission): Promise<WorkflowReceipt> {
    return this.intake.submitWorkflow(submission);
  }

  submitTask(submission: TaskSubmission): Promise<TaskReceipt> {
    return this.intake.submitTask(submission);
  }

  retryTask(
    uid: string,
    config: { max_retries: number | undefined; timeout_ms: number | undefined },
  ): Promise<{ record: TaskRecord; queue_position: number | null }> {
    return this.intake.retryTask(uid, config);
  }

  cancelWorkflow(
    uid: string,
    options: { reason: string | undefined; force: boolean },
  ): Promise<{ record: WorkflowRecord; cancelled_steps: string[] }> {
    return this.changes.cancelWorkflow(uid, options);
  }

  cancelTask(
    uid: string,
    options: { reason: string | undefined; force: boolean },
  ): Promise<{ record: TaskRecord; cleanup_required: boolean }> {
    return this.changes.cancelTask(uid, options);
  }

  answerTask(uid: string, answer: { approve: boolean; data: JsonValue }): Promise<TaskRecord> {
    return this.changes.answerTask(uid, answer);
  }

  setPriority(
    uid: string,
    change: PriorityChange,
    options: { requeue: boolean },
  ): Promise<{ old_priority: number; new_priority: number; new_queue_position: number | null }> {
    return this.changes.setPriority(uid, change, options);
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
    return this.intake.clearQueue(filter);
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
