/**
 * Runs inside a child process, beside the code that may never yield: a thread (`parent-watch-thread.ts`) that ends the
 * process when the peer that started it is gone, and, when it is given deadlines to watch, when one job runs too long.
 */
import { writeFileSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { siblingModule } from '../sibling-module.ts';

/** Set by the code that runs jobs, read by the watching thread. */
export class JobMark {
  /** `[serial, index]`: the serial is another one for every job, 0 when there is none. */
  readonly shared: Int32Array<SharedArrayBuffer>;
  #serial = 0;

  constructor() {
    this.shared = new Int32Array(new SharedArrayBuffer(2 * Int32Array.BYTES_PER_ELEMENT));
  }

  /** @param index the job's place in its batch */
  begin(index: number): void {
    const wasIdle = this.shared[0] === 0;
    this.#serial = (this.#serial % 0x7fff_fffe) + 1;
    this.shared[1] = index;
    Atomics.store(this.shared, 0, this.#serial);
    if (wasIdle) Atomics.notify(this.shared, 0);
  }

  idle(): void {
    Atomics.store(this.shared, 0, 0);
  }
}

/** What the thread is started with. */
export interface WatchData {
  parentPid: number;
  mark: Int32Array<SharedArrayBuffer>;
  /** Running time of one job, on the clock and on the processors; Infinity: no limit. */
  timeoutMs: number;
}

/**
 * @param parentPid the peer that started this process
 * @param deadline a job that runs longer than `timeoutMs` is ended, a quarter of that later at the latest. Time in which
 *   this process did not run, on a busy machine or one that slept, is not the job's
 */
export function watchParent(parentPid: number, deadline?: { mark: JobMark; timeoutMs: number }): void {
  offerToKernel();
  const data: WatchData = {
    parentPid,
    mark: (deadline?.mark ?? new JobMark()).shared,
    timeoutMs: deadline?.timeoutMs ?? Number.POSITIVE_INFINITY,
  };
  const watcher = new Worker(siblingModule('parent-watch-thread', import.meta.url), { workerData: data });
  watcher.unref();
}

/** Where memory runs out for the whole machine, Linux ends this process and what it starts, before the peer. */
function offerToKernel(): void {
  try {
    writeFileSync('/proc/self/oom_score_adj', '1000');
  } catch {
    // Not Linux, or not allowed here: the kernel chooses by size, as ever.
  }
}

/** How long this process has had processors, all of its threads together. */
export function workedMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1_000;
}
