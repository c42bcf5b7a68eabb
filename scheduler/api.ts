/**
 * What the tools ask of the scheduler of this peer. Every writing method resolves when what it wrote is durable (P1). A
 * `uid` names a record that this peer owns; `resolve` finds it, or the peer that owns the record.
 */
import type { JsonObject, JsonValue } from '../dag/errors.ts';
import type { Requires, Retry, Workflow } from '../dag/schema.ts';
import type { Caller } from './caller.ts';
import type { Alias, PeerState, RemotePlace, VouchedCaller, WorkerState } from './messages.ts';
import type { QueueRecord, TaskRecord, WorkerRecord, WorkflowRecord } from './records.ts';
import type { Why } from './waiting.ts';

/** How many disks keep a record, of how many wanted. */
export interface Durability {
  copies: number;
  wanted: number;
}

export interface TaskSubmission {
  task_id: string | undefined;
  task_type: string;
  payload: JsonObject;
  priority: number;
  tags: string[];
  timeout_ms: number | undefined;
  retry: Retry;
  delay_ms: number | undefined;
  /** ISO 8601: not started after this. */
  deadline: string | undefined;
  requires: Requires;
  prefer?: string[] | undefined;
  /** How long the task waits while no worker can run it. */
  wait_timeout_ms?: number | undefined;
  depends_on: string[];
  at_most_once: boolean;
  metadata: JsonObject;
  /** Whose it is to be; undefined: nobody's. */
  submitted_by?: string | undefined;
}

export interface WorkflowSubmission {
  workflow: Workflow;
  copies: number | undefined;
  require_copies: boolean;
  /** As of a task. */
  submitted_by?: string | undefined;
}

/** Something that was accepted, but is probably not what was meant. */
export interface Warning {
  /** The place, written as in code: `steps[2].inputs.text`. */
  at: string;
  message: string;
}

export interface WorkflowReceipt {
  record: WorkflowRecord;
  /** The same workflow had been submitted before: `record` is that one. */
  duplicate: boolean;
  durability: Durability;
  estimated_start_time: string;
  warnings: Warning[];
}

export interface TaskReceipt {
  record: TaskRecord;
  duplicate: boolean;
  durability: Durability;
  queue_position: number | null;
  estimated_start_time: string;
  warnings: Warning[];
}

export interface WorkerRegistration {
  worker_id: string;
  capabilities: string[];
  max_concurrent_tasks: number;
  resource_limits: { cpu_cores: number | null; memory_gb: number | null };
  metadata: JsonObject;
}

/** A worker of the mesh as this peer knows it now. */
export interface WorkerView extends WorkerState {
  peer_id: string;
  /** Uids of the tasks this peer leased to it, or that it runs when it is here. */
  tasks: string[];
}

export interface PeerView {
  peer_id: string;
  state: PeerState | null;
  connected: boolean;
  rtt_ms: number | null;
  /** Moving average of how far a round trip is from `rtt_ms`. */
  jitter_ms: number | null;
  leases_kept: number;
  leases_lost: number;
  requests_served: number;
}

/** A call of a tool on behalf of a caller. */
export interface ToolCall {
  tool: string;
  input: JsonObject;
  caller: Caller;
  /** What the peer said that has asked who the caller is; absent where that was this one. */
  vouched?: VouchedCaller | undefined;
  /** The asking peer has no clients (it may not submit): it may only bring what it kept for the next owner of a feed. */
  kept_only?: boolean | undefined;
  /** How many peers have handed it on, the asking one included. */
  hops: number;
}

/** Where a record is. */
export type Place =
  | { here: true; uid: string }
  /** At its owner, or where a copy is (`copy_of`) while the owner cannot be reached; the copy may be here. */
  | { here: false; at: RemotePlace };

/** What is known of feeds besides their rows. */
export interface FeedsNow {
  /** P1: whether the rows of a commit may be shown. */
  isReleased(feed_id: string, seq: number): boolean;
  /** On how many disks a commit of a feed is now; null for feeds that this peer does not write. */
  durabilityOf(feed_id: string, seq: number, wanted: number): Durability | null;
  /** For how long this peer has not heard the owner of a feed, in ms; null for feeds that this peer writes. */
  staleMs(feed_id: string): number | null;
}

/** The state of the feed for new work, for readers on other event loops. */
export interface MainFeedState {
  /** Empty while no feed can be written. */
  feed_id: string;
  /** P1: its last commit whose rows may be shown. */
  released: number;
  /** The last commit that each of its followers that are there has on its disk. */
  copied: readonly number[];
  /** No other peer could keep a copy. */
  alone: boolean;
}

export interface SchedulerApi extends FeedsNow {
  readonly self: string;
  /** This peer's name for people. */
  readonly name: string;
  readonly feed_id: string;

  submitWorkflow(submission: WorkflowSubmission): Promise<WorkflowReceipt>;
  /** Resolves when the cancel is durable; running actions are still being ended. @throws INVALID_STATE after its end */
  cancelWorkflow(
    uid: string,
    options: { reason: string | undefined; force: boolean },
  ): Promise<{ record: WorkflowRecord; cancelled_steps: string[] }>;

  submitTask(submission: TaskSubmission): Promise<TaskReceipt>;
  cancelTask(
    uid: string,
    options: { reason: string | undefined; force: boolean },
  ): Promise<{ record: TaskRecord; cleanup_required: boolean }>;
  setPriority(
    uid: string,
    change: { new_priority: number } | { boost: number } | { demote: number },
    options: { requeue: boolean },
  ): Promise<{ old_priority: number; new_priority: number; new_queue_position: number | null }>;
  retryTask(
    uid: string,
    config: { max_retries: number | undefined; timeout_ms: number | undefined },
  ): Promise<{ record: TaskRecord; queue_position: number | null }>;
  /** Ends a task that waits for a person. Its output is `{ approved, data }`; a rejected one fails with REJECTED. */
  answerTask(uid: string, answer: { approve: boolean; data: JsonValue }): Promise<TaskRecord>;

  pauseQueue(reason: string | undefined): Promise<QueueRecord>;
  /** With `reorder_by_priority` (the default) waiting tasks are sorted by their current priorities. */
  resumeQueue(options?: { reorder_by_priority?: boolean }): Promise<{ queue: QueueRecord; reordered: boolean }>;
  clearQueue(
    filter: 'queued' | 'failed' | 'cancelled' | 'dead_letter' | undefined,
  ): Promise<{ cleared_count: number; remaining_count: number }>;
  queue(): QueueRecord;

  registerWorker(registration: WorkerRegistration): Promise<WorkerRecord>;
  /** Graceful: takes nothing new and waits up to `timeout_ms` for what runs; then hands the rest back. */
  unregisterWorker(
    worker_id: string,
    options: { graceful: boolean; timeout_ms: number },
  ): Promise<{ completed_tasks: number; abandoned_tasks: number }>;
  /** Workers here and at connected peers. */
  workers(): WorkerView[];

  /** Why tasks that are queued here wait, by uid; other tasks are left out. */
  whyWaiting(uids: readonly string[]): Record<string, Why>;

  /** The last known state of connected peers, and of remembered ones that were connected. */
  peers(): PeerView[];
  /**
   * Hands back the leases that a peer holds from here and that this peer holds from it, and gives and takes no new ones
   * until the two are connected anew. Resolves when what ran here has ended.
   */
  releasePeer(peer_id: string): Promise<{ handed_back: number }>;

  /** Resolves when the rows of a commit may be shown (P1). */
  whenReleased(feed_id: string, seq: number): Promise<void>;
  /**
   * Where a record is; undefined when no reachable peer knows it.
   *
   * @param except peers that were asked already and could not answer
   * @throws OWNER_UNREACHABLE when it is known to exist, and neither its owner nor a copy can be reached
   */
  resolve(alias: Alias, except?: readonly string[]): Promise<Place | undefined>;
  /** A call waits for the next owner of a record that has a copy here: its feed is taken over without more patience. */
  wantOwner(alias: Alias): Promise<void>;
  /**
   * Keeps a call for the next owner of a record. Resolves when the call is durable.
   *
   * @returns the status of the record as this peer knows it
   * @throws INVALID_STATE when the record has ended, OWNER_UNREACHABLE when this peer cannot be its next owner
   */
  deferCall(alias: Alias, tool: string, input: JsonObject, caller: Caller): Promise<{ status: string }>;
  /** Runs a tool at another peer; rejects with that tool's own error. */
  call(at: { peer_id: string; addresses: string[] }, call: ToolCall, deadline_ms?: number): Promise<JsonObject>;
}
