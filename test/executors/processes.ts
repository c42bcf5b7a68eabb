/** Processes as the machine sees them. */
import { readdir, readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { HANG_MS } from '../harness/patience.ts';

const POLL_INTERVAL_MS = 10;

/** A zombie has ended; only its parent has not asked yet. */
export async function isRunning(pid: number): Promise<boolean> {
  try {
    const status = await readFile(`/proc/${pid}/stat`, 'utf8');
    return !/\) Z /.test(status);
  } catch {
    return false;
  }
}

/** No event tells of the end of another one's child. @returns how long it took, in ms */
export async function waitUntilGone(pids: number[], withinMs = HANG_MS): Promise<number> {
  const start = performance.now();
  for (;;) {
    const running = await Promise.all(pids.map(isRunning));
    if (!running.includes(true)) return performance.now() - start;
    if (performance.now() - start > withinMs) throw new Error(`still running after ${withinMs} ms: ${pids.join(', ')}`);
    await delay(POLL_INTERVAL_MS);
  }
}

/** The running children of a process. */
export async function childPids(parent: number): Promise<number[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  const found: number[] = [];
  for (const pid of pids) {
    try {
      const [, state, ppid] = /\) (\S) (\d+)/.exec(await readFile(`/proc/${pid}/stat`, 'utf8'))!;
      if (Number(ppid) === parent && state !== 'Z') found.push(pid);
    } catch {
      // It ended while this looked.
    }
  }
  return found;
}

/** How long a process has had processors, to a hundredth of a second. */
export async function workedMs(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/stat`, 'utf8');
  const [user, system] = status
    .slice(status.lastIndexOf(')') + 2)
    .split(' ')
    .slice(11, 13);
  return (Number(user) + Number(system)) * 10;
}
