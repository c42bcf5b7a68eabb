/**
 * The mesh side as the router sees it, on the same loop or across a port. A call is executed once: its promise
 * settles when the mesh side is done with it, also when the caller went away before.
 */
import type { JsonObject } from '../../dag/errors.ts';
import type { Caller } from '../../scheduler/caller.ts';
import type { MeshRequest } from '../membership/requests.ts';

/** What is fixed once the mesh side is up. */
export interface MeshInfo {
  peer_id: string;
  /** Dialable, at the start. */
  addresses: string[];
  /** The SQLite file, for read-only connections on other loops. */
  store_path: string;
  /** How its feed of new work is (`main-feed.ts`), for readers on other loops. */
  main_feed: SharedArrayBuffer;
}

/** How the mesh side is, now. */
export interface MeshState {
  connected_peers: number;
  addresses: string[];
  /** Calls that came through the router and run now. */
  running_calls: number;
  /** Calls of other peers that ran here, by tool. */
  inbound: Record<string, CallFigures>;
  /** Share of the time that the loop was busy, 0–1, since its start. */
  utilization: number;
}

/** Counted since the start of the loop that counts. */
export interface CallFigures {
  count: number;
  errors: number;
  mean_ms: number;
  p50_ms: number;
  p95_ms: number;
  p99_ms: number;
  max_ms: number;
}

export interface CallOptions {
  /** Aborted when the caller went away or its deadline passed. */
  signal: AbortSignal;
  /** From now. The mesh side keeps it too, so that a busy caller cannot prolong it. */
  deadlineMs: number;
  /** The input is as `parseInput` gave it: what is large was gone through on the caller's loop. */
  checked?: boolean;
  caller: Caller;
}

/** What became of the tasks that ran at a peer that drains. */
export interface Drained {
  ended: number;
  left: number;
}

export interface MeshLink {
  readonly info: MeshInfo;
  /** How often the loop was started again after a crash. */
  readonly restarts: number;
  /** Runs a tool, or the answer to a task that waits for a person (`tools/task/answer.ts`). */
  call(tool: string, input: unknown, options: CallOptions): Promise<JsonObject>;
  /** Rejects when the loop does not answer within STATE_DEADLINE_MS. */
  state(): Promise<MeshState>;
  /** Takes no more tasks, and waits until those that run have ended, at most `waitMs`. */
  drain(waitMs: number): Promise<Drained>;
  /** What an admin asks of the mesh (`node/membership/requests.ts`). */
  meshRequest(request: MeshRequest, input: unknown): Promise<JsonObject>;
  stop(): Promise<void>;
  /** Resolves with the reason when the mesh side is gone for good without having been asked to stop. */
  readonly failed: Promise<Error>;
}
