/**
 * Who waits where the processors are all busy: the thread that serves clients, rather than the one that carries
 * leases, beats and the calls of other peers. With busy serve loops on two cores p95 of a read at another peer, from
 * mesh loop to mesh loop, was measured at a seventh of what it is with equal priorities.
 */
import { setPriority } from 'node:os';
import type { Log } from '../../scheduler/ports.ts';

/** What `setPriority` takes for it. */
const CALLING_THREAD = 0;
/** A third of the weight of a normal thread in Linux's scheduler. */
const SERVE_NICENESS = 5;

/**
 * Lowers the priority of the calling thread, for good. To be called by a process whose mesh runs on a thread of its
 * own, when that is up: threads and processes that are started from here later inherit it, those of the mesh do not.
 *
 * Does nothing where threads have no priority of their own (everywhere but on Linux) and where it is forbidden.
 */
export function yieldToMesh(log: Log): void {
  if (process.platform !== 'linux') return;
  try {
    setPriority(CALLING_THREAD, SERVE_NICENESS);
  } catch (error) {
    // Everything works without.
    log.debug({ err: error }, 'the serve loop keeps its priority');
  }
}
