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
  const text = readProc(`${pid}/stat`);
  // The name, in parentheses, may hold anything.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const [state, , group, session] = fields;
  if (state === undefined || state === '' || state === 'Z' || state === 'X') return null;
  return { pid, group: Number(group), session: Number(session), started: Number(fields[19]) };
}

/** The variables a process was started with, `NAME=value` each ended by NUL; empty when it is another user's. */
export function environmentOf(pid: number): string {
  return readProc(`${pid}/environ`);
}

/** The pid that was given out last: new processes have higher ones until the numbers begin anew. */
export function lastPid(): number {
  return Number(readProc('loadavg').trim().split(' ').at(-1));
}

function readProc(path: string): string {
  try {
    return readFileSync(`/proc/${path}`, 'latin1');
  } catch {
    // It has ended, or is another user's: nothing of it can be seen.
    return '';
  }
}
