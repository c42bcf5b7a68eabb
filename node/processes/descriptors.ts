/**
 * Open files that a child would inherit. Node lets nobody inherit what it opens itself; what the program that started
 * this peer left open stays, and a step could read and write it.
 */
import { openSync, readdirSync, readFileSync } from 'node:fs';
import { devNull } from 'node:os';
import { DESCRIPTORS_COVERED_MAX } from './limits.ts';

const CLOSE_ON_EXEC = 0o2000000;
/** The descriptor after stderr. */
const FIRST = 3;

let covered: ('ignore' | number)[] | undefined;

/**
 * The `stdio` entries after stderr of every child: each inherited descriptor is the null device there, since nothing
 * runs between fork and exec that could close it. Empty where /proc shows no descriptors (not Linux).
 */
export function coveredDescriptors(): readonly ('ignore' | number)[] {
  covered ??= cover(inheritable());
  return covered;
}

function cover(descriptors: number[]): ('ignore' | number)[] {
  if (descriptors.length === 0) return [];
  const entries: ('ignore' | number)[] = Array(Math.max(...descriptors) - FIRST + 1).fill('ignore');
  const nothing = openSync(devNull, 'r+');
  for (const descriptor of descriptors) entries[descriptor - FIRST] = nothing;
  return entries;
}

function inheritable(): number[] {
  let names: string[];
  try {
    names = readdirSync('/proc/self/fd');
  } catch {
    // Not Linux.
    return [];
  }
  const open = names.map(Number).filter((each) => each >= FIRST && each < FIRST + DESCRIPTORS_COVERED_MAX);
  return open.filter((each) => !isClosedOnExec(each));
}

function isClosedOnExec(descriptor: number): boolean {
  try {
    const flags = /^flags:\s+(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${descriptor}`, 'latin1'))?.[1];
    return flags === undefined || (Number.parseInt(flags, 8) & CLOSE_ON_EXEC) !== 0;
  } catch {
    // The descriptor that listed the others.
    return true;
  }
}
