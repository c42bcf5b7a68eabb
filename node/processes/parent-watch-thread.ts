/**
 * Entry of the thread that watches over a child process (`parent-watch.ts`). Where a job runs too long it writes the
 * job's index to stdout, for the peer to know which one it was, and ends the process.
 */
import { writeSync } from 'node:fs';
import { workerData } from 'node:worker_threads';
import { PARENT_POLL_INTERVAL_MS } from './limits.ts';
import { type WatchData, workedMs } from './parent-watch.ts';

/** `process.stdout` of a thread is a stream to the main thread, which does not run now. */
const STDOUT_FD = 1;
/** How often a running job is looked at until it is late. */
const LOOKS_PER_JOB = 8;

watch(workerData as WatchData);

function watch({ parentPid, mark, timeoutMs }: WatchData): never {
  const lookMs = Math.min(timeoutMs / LOOKS_PER_JOB, PARENT_POLL_INTERVAL_MS);
  let seen = { serial: 0, since: 0, worked: 0 };
  for (;;) {
    const serial = Atomics.load(mark, 0);
    if (serial !== seen.serial) seen = { serial, since: performance.now(), worked: workedMs() };
    Atomics.wait(mark, 0, serial, serial === 0 ? PARENT_POLL_INTERVAL_MS : lookMs);
    if (process.ppid !== parentPid) endProcess();
    const limit = timeoutMs + lookMs;
    const isLate = performance.now() - seen.since > limit && workedMs() - seen.worked > limit;
    if (serial !== 0 && isLate && Atomics.load(mark, 0) === serial) {
      writeSync(STDOUT_FD, String(mark[1]));
      endProcess();
    }
  }
}

/** The whole group: this process leads it. */
function endProcess(): never {
  process.kill(-process.pid, 'SIGKILL');
  throw new Error('the process outlived SIGKILL');
}
