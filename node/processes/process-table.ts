/**
 * The processes of this machine as Linux shows them under /proc. On other systems, where nothing like it can be read
 * without code of one's own for each, the table is empty.
 */
import { readdirSync, readFileSync } from 'node:fs';

export interface ProcessEntry {
  pid: number;
  /** Process group and session. */
  group: number;
  session: number;
  /** Clock ticks after the start of the machine; with the pid it names one process for ever. */
  started: number;
}

/** Pids that exist now, in no order. */
export function allPids(): number[] {
  try {
    return readdirSync('/proc').map(Number).filter(Number.isInteger);
  } catch {
    // No /proc: not Linux, or hidden from this user.
    return [];
  }
}

/** Null when there is no such process, or it has ended and only its parent has not asked yet. */
export function readProcess(pid: number): ProcessEntry | null {
  const [state, , group, session, ...rest] = statOf(pid);
  if (state === undefined || state === 'Z' || state === 'X') return null;
  return { pid, group: Number(group), session: Number(session), started: Number(rest[STARTED]) };
}

/** When a process was started, also one that has ended and whose parent has not asked yet; 0 when there is none. */
export function startOf(pid: number): number {
  return Number(statOf(pid)[4 + STARTED] ?? 0);
}

/** What a process uses. */
export interface ProcessUsage {
  /** Of its own and of the children that have ended. */
  cpu_s: number;
  /** Memory of its own, which it shares with nobody. */
  memory_bytes: number;
  threads: number;
}

/** Zeros for a process that has ended. */
export function usageOf(pid: number): ProcessUsage {
  const stat = statOf(pid);
  const [, resident = 0, shared = 0] = readProc(`${pid}/statm`).split(' ').map(Number);
  const ticks = stat.slice(USER_TIME, USER_TIME + 4).reduce((sum, each) => sum + Number(each), 0);
  return {
    cpu_s: ticks / TICKS_PER_SECOND,
    memory_bytes: Math.max(resident - shared, 0) * PAGE_BYTES,
    threads: Number(stat[THREADS] ?? 0),
  };
}

/** The variables a process was started with, `NAME=value` each ended by NUL; empty when it is another user's. */
export function environmentOf(pid: number): string {
  return readProc(`${pid}/environ`);
}

/** The pid that was given out last: they go up, and begin anew after the highest. */
export function lastPid(): number {
  return Number(readProc('loadavg').trim().split(' ').at(-1));
}

/** The place of the start among the fields after the session (proc_pid_stat(5)). */
const STARTED = 15;
/** Places among the fields from the state on: the first of four times, in ticks, and the number of threads. */
const USER_TIME = 11;
const THREADS = 17;
/** What /proc counts in, whatever the kernel does. */
const TICKS_PER_SECOND = 100;
const PAGE_BYTES = 4_096;

/** From the state on; empty when there is no such process. */
function statOf(pid: number): string[] {
  const text = readProc(`${pid}/stat`);
  // The name before it, in parentheses, may hold anything.
  return text === '' ? [] : text.slice(text.lastIndexOf(')') + 2).split(' ');
}

function readProc(path: string): string {
  try {
    return readFileSync(`/proc/${path}`, 'latin1');
  } catch {
    // It has ended, or is another user's: nothing of it can be seen.
    return '';
  }
}
