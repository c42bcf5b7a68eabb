/** A task that has not ended, in the memory of its owner. */
import type { ErrorShape } from '../../dag/errors.ts';
import type { LeaseToken } from '../messages.ts';
import type { LogRecord, TaskRecord } from '../records.ts';

/** A grant to a worker. Its token is `(feed_id, epoch, attempt)` of the task. */
export interface GivenLease {
  attempt: number;
  epoch: number;
  peer_id: string;
  worker_id: string;
  /** Monotonic: when it was sent, or last named by a beat of the worker's peer. Null until it is sent. */
  confirmed_at: number | null;
  /** Monotonic: by when the worker should have ended it and said so. Null without a timeout, and until it is sent. */
  overdue_at: number | null;
  /** Read from the store: given by this peer's last process, or by the owner before. */
  restored: boolean;
}

/** Whether the token that a peer names is this lease (P3). */
export function isNamedBy(
  lease: GivenLease | null,
  feedId: string,
  peer: string,
  { feed_id, attempt, epoch }: LeaseToken,
): boolean {
  if (lease === null || feed_id !== feedId) return false;
  return lease.peer_id === peer && lease.attempt === attempt && lease.epoch === epoch;
}

export interface LiveTask {
  record: TaskRecord;
  payload_bytes: number;
  lease: GivenLease | null;
  /** What the policy of a worker's peer has to allow. */
  readonly needs: readonly string[];
  /** Peers that have refused the task by their policy, sorted (`PeerTable.markOf`). */
  barred: readonly string[];
  /** The error of the last of these refusals. */
  refusal: ErrorShape | null;
  /** Which peer was not able to run it, and why, in a sentence for people; null while there is none. */
  turned_down: string | null;
  /** Monotonic: since when the task is in the queue. */
  ready_at: number;
  /** True once the task's first row is on disk: only then may a lease go out before its own row (P1). */
  durable: boolean;
  /** Ids of tasks that must complete first. */
  blockers: Set<string>;
  lost_attempts: number;
  log: LogRecord | null;
}

export function liveTask(
  record: TaskRecord,
  payloadBytes: number,
  blockers: Iterable<string>,
  kept: { durable: boolean; log: LogRecord | null; needs: readonly string[] },
): LiveTask {
  return {
    record,
    payload_bytes: payloadBytes,
    lease: null,
    blockers: new Set(blockers),
    lost_attempts: 0,
    barred: NOBODY,
    refusal: null,
    turned_down: null,
    ready_at: 0,
    ...kept,
  };
}

const NOBODY: readonly string[] = [];
