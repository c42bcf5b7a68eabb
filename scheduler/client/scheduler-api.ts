/** The scheduler as the tools see it: each call goes to the part that answers it. `api.ts` has the promises. */
import type { JsonObject, JsonValue } from '../../dag/errors.ts';
import type {
  Durability,
  PeerView,
  Place,
  SchedulerApi,
  TaskReceipt,
  TaskSubmission,
  WorkerRegistration,
  WorkerView,
  WorkflowReceipt,
  WorkflowSubmission,
} from '../api.ts';
import type { Caller } from '../caller.ts';
import type { FeedTable } from '../feed/feed-table.ts';
import type { Lifecycle } from '../lifecycle.ts';
import type { Locator } from '../lookup/locator.ts';
import type { RemoteCalls } from '../lookup/remote-calls.ts';
import type { PeerTable } from '../membership/peer-table.ts';
import type { Alias } from '../messages.ts';
import type { MainFeed } from '../ownership/main-feed.ts';
import type { Ownership } from '../ownership/ownership.ts';
import type { StoredRecords } from '../ownership/stored-records.ts';
import type { Clock } from '../ports.ts';
import type { QueueRecord, TaskRecord, WorkerRecord, WorkflowRecord } from '../records.ts';
import type { FollowedFeeds } from '../replication/follower.ts';
import { durabilityNow } from '../storage/durability.ts';
import type { Why } from '../waiting.ts';
import type { WorkerPool } from '../worker/worker-pool.ts';
import type { Change, PriorityChange } from './change.ts';
import type { ClearQueue } from './clear-queue.ts';
import type { DeferredCalls } from './deferred-calls.ts';
import type { QueueState } from './queue-state.ts';
import type { Submit } from './submit.ts';
import type { WorkerRegistry } from './worker-registry.ts';

interface ClientParts {
  self: string;
  clock: Clock;
  peers: PeerTable;
  pool: WorkerPool;
  feeds: FeedTable;
  main: MainFeed;
  followed: FollowedFeeds;
  records: StoredRecords;
  locator: Locator;
  remoteCalls: RemoteCalls;
  ownership: Ownership;
  submit: Submit;
  queueClearing: ClearQueue;
  change: Change;
  queueState: QueueState;
  registry: WorkerRegistry;
  deferredCalls: DeferredCalls;
  lifecycle: Lifecycle;
  /** Brings this peer's own entry in the peer table up to date. */
  selfState: { refresh(): void };
  options: { name: string; copies: number };
}

export class Client implements SchedulerApi {
  readonly #parts: ClientParts;

  constructor(parts: ClientParts) {
    this.#parts = parts;
  }

  get self(): string {
    return this.#parts.self;
  }

  get name(): string {
    return this.#parts.options.name;
  }

  /** The feed of new work; its first characters are part of the ids made here. */
  get feed_id(): string {
    return this.#parts.main.id;
  }

  // --- submits and changes -------------------------------------------------------------------------------------------

  submitWorkflow(submission: WorkflowSubmission): Promise<WorkflowReceipt> {
    return this.#parts.submit.submitWorkflow(submission);
  }

  submitTask(submission: TaskSubmission): Promise<TaskReceipt> {
    return this.#parts.submit.submitTask(submission);
  }

  retryTask(
    uid: string,
    config: { max_retries: number | undefined; timeout_ms: number | undefined },
  ): Promise<{ record: TaskRecord; queue_position: number | null }> {
    return this.#parts.submit.retryTask(uid, config);
  }

  cancelWorkflow(
    uid: string,
    options: { reason: string | undefined; force: boolean },
  ): Promise<{ record: WorkflowRecord; cancelled_steps: string[] }> {
    return this.#parts.change.cancelWorkflow(uid, options);
  }

  cancelTask(
    uid: string,
    options: { reason: string | undefined; force: boolean },
  ): Promise<{ record: TaskRecord; cleanup_required: boolean }> {
    return this.#parts.change.cancelTask(uid, options);
  }

  answerTask(uid: string, answer: { approve: boolean; data: JsonValue }): Promise<TaskRecord> {
    return this.#parts.change.answerTask(uid, answer);
  }

  setPriority(
    uid: string,
    change: PriorityChange,
    options: { requeue: boolean },
  ): Promise<{ old_priority: number; new_priority: number; new_queue_position: number | null }> {
    return this.#parts.change.setPriority(uid, change, options);
  }

  queue(): QueueRecord {
    return this.#parts.queueState.record;
  }

  pauseQueue(reason: string | undefined): Promise<QueueRecord> {
    return this.#parts.queueState.pause(reason);
  }

  resumeQueue(options: { reorder_by_priority?: boolean } = {}): Promise<{ queue: QueueRecord; reordered: boolean }> {
    return this.#parts.queueState.resume(options);
  }

  clearQueue(
    filter: 'queued' | 'failed' | 'cancelled' | 'dead_letter' | undefined,
  ): Promise<{ cleared_count: number; remaining_count: number }> {
    return this.#parts.queueClearing.clear(filter);
  }

  registerWorker(registration: WorkerRegistration): Promise<WorkerRecord> {
    return this.#parts.registry.register(registration);
  }

  unregisterWorker(
    worker_id: string,
    options: { graceful: boolean; timeout_ms: number },
  ): Promise<{ completed_tasks: number; abandoned_tasks: number }> {
    return this.#parts.registry.unregister(worker_id, options);
  }

  // --- where records are ---------------------------------------------------------------------------------------------

  resolve(alias: Alias, except?: readonly string[]): Promise<Place | undefined> {
    return this.#parts.locator.resolve(alias, except);
  }

  async wantOwner(alias: Alias): Promise<void> {
    const copy = await this.#parts.records.copyOf(alias);
    if (copy !== undefined) this.#parts.followed.want(copy.feed_id);
  }

  deferCall(alias: Alias, tool: string, input: JsonObject, caller: Caller): Promise<{ status: string }> {
    this.#parts.lifecycle.mustBeReady();
    return this.#parts.deferredCalls.keep(alias, tool, input, caller);
  }

  call(...call: Parameters<SchedulerApi['call']>): Promise<JsonObject> {
    return this.#parts.remoteCalls.call(...call);
  }

  // --- how feeds are -------------------------------------------------------------------------------------------------

  isReleased(feedId: string, seq: number): boolean {
    const feed = this.#parts.feeds.get(feedId);
    return feed === undefined || seq <= feed.journal.released;
  }

  async whenReleased(feedId: string, seq: number): Promise<void> {
    await this.#parts.feeds.get(feedId)?.journal.whenReleased(seq);
  }

  durabilityOf(feedId: string, seq: number, wanted: number): Durability | null {
    const { feeds, peers, options } = this.#parts;
    const feed = feeds.get(feedId);
    if (feed === undefined) return null;
    const mesh = { byDefault: options.copies, alone: peers.isAlone() };
    return durabilityNow(feed.replicas.copiesNow(seq), wanted, mesh);
  }

  staleMs(feedId: string): number | null {
    return this.#parts.ownership.staleMs(feedId);
  }

  // --- who is there --------------------------------------------------------------------------------------------------

  workers(): WorkerView[] {
    const { selfState, peers, pool, self } = this.#parts;
    selfState.refresh();
    return peers
      .workers()
      .map((view) => (view.peer_id === self ? { ...view, tasks: pool.tasksOf(view.worker_id) } : view));
  }

  peers(): PeerView[] {
    const { peers, self } = this.#parts;
    return peers.peers().filter(({ peer_id }) => peer_id !== self);
  }

  async releasePeer(peer: string): Promise<{ handed_back: number }> {
    const { peers, clock, pool, feeds } = this.#parts;
    peers.entry(peer, clock.now()).leaving = true;
    const handedBack = pool.handBack(peer);
    let returned = 0;
    for (const { journal, attempts } of feeds.all()) {
      returned += await journal.turn((turn) => attempts.takeBack(turn, peer));
    }
    return { handed_back: (await handedBack) + returned };
  }

  whyWaiting(uids: readonly string[]): Record<string, Why> {
    const { feeds, queueState } = this.#parts;
    const found: Record<string, Why> = {};
    for (const uid of uids) {
      for (const feed of feeds.all()) {
        const why = feed.whyWaiting(uid, queueState.record);
        if (why !== null) found[uid] = why;
      }
    }
    return found;
  }
}
