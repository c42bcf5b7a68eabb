/**
 * What the tools ask of the scheduler of this peer. Every writing method resolves when what it says is durable (P1).
 * `uid`s are of records this peer owns; `resolve` finds them, or the peer that does.
 */
import type { JsonObject, JsonValue } from '../dag/errors.ts';
import type { Requires, Retry, Workflow } from '../dag/schema.ts';
import type { Alias, Located, PeerState, WorkerState } from './messages.ts';
import type { QueueRecord, TaskRecord, WorkerRecord, WorkflowRecord } from './records.ts';

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
  depends_on: string[];
  at_most_once: boolean;
  metadata: JsonObject;
}

export interface WorkflowSubmission {
  workflow: Workflow;
  copies: number | undefined;
  require_copies: boolean;
}

export interface WorkflowReceipt {
  record: WorkflowRecord;
  /** The same workflow had been submitted before: `record` is that one. */
  duplicate: boolean;
  durability: Durability;
  estimated_start_time: string;
}

export interface TaskReceipt {
  record: TaskRecord;
  duplicate: boolean;
  durability: Durability;
  queue_position: number | null;
  estimated_start_time: string;
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
  /** Mean absolute difference of consecutive round trips. */
  jitter_ms: number | null;
  leases_kept: number;
  leases_lost: number;
  requests_served: number;
}

export interface SchedulerApi {
  readonly self: string;
  readonly feed_id: string;

  submitWorkflow(submission: WorkflowSubmission): Promise<WorkflowReceipt>;
  /** Throws INVALID_STATE when it ended already. Resolves when the cancel is durable; running actions are being ended. */
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
  /** With `reorder_by_priority` (the default) what waits is sorted by the priorities of now. */
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

  /** Live state of the connected peers and of those that were. */
  peers(): PeerView[];
  /**
   * Hands back the leases that a peer holds from here and that this peer holds from it, and gives and takes no new ones
   * until the two are connected anew. Resolves when what ran here has ended.
   */
  releasePeer(peer_id: string): Promise<{ handed_back: number }>;

  /** Where a record lives: its uid when this peer owns it, the peer that does, or undefined. */
  resolve(alias: Alias): Promise<{ here: true; uid: string } | { here: false; at: Located } | undefined>;
  /** Runs a tool at another peer; rejects with that tool's own error. */
  call(peer_id: string, addresses: string[], tool: string, input: JsonObject, hops: number): Promise<JsonObject>;
}
