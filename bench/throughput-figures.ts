/**
 * What the threads of a measured peer have done since they began, to be subtracted: figures after minus figures before
 * are those of what ran between.
 */
import type { EventLoopUtilization } from 'node:perf_hooks';

export interface ThreadFigures {
  busy_ms: number;
  idle_ms: number;
  /** Of the processor, in user and kernel. */
  cpu_us: number;
}

/** What the mesh loop asked of its store and of its network. */
export interface MeshFigures {
  mesh: ThreadFigures;
  store: ThreadFigures;
  commits: number;
  rows: number;
  /** From the call of each commit to its fsync, added up. */
  commit_ms: number;
  /** Requests and notifications that were sent, by method. */
  sent: Record<string, number>;
}

export interface PeerFigures extends MeshFigures {
  serve: ThreadFigures;
}

const US_PER_MS = 1_000;

export function threadFigures(loop: EventLoopUtilization, cpu: { user: number; system: number }): ThreadFigures {
  return { busy_ms: loop.active, idle_ms: loop.idle, cpu_us: cpu.user + cpu.system };
}

/** The thread that calls. */
export function ownThreadFigures(): ThreadFigures {
  return threadFigures(performance.eventLoopUtilization(), process.threadCpuUsage());
}

/** What happened in a stretch of time, or in several added up. */
export interface Work {
  utilization: number;
  cpu_ms: number;
}

export function workBetween(before: ThreadFigures, after: ThreadFigures): Work {
  const busyMs = after.busy_ms - before.busy_ms;
  return {
    utilization: busyMs / (busyMs + after.idle_ms - before.idle_ms),
    cpu_ms: (after.cpu_us - before.cpu_us) / US_PER_MS,
  };
}
