/**
 * Control groups of Linux, version 2, where this process may make them:
 *
 * 1. below its own one, when nobody else is in that (a systemd unit, best with `Delegate=yes`). A group that gives limits
 *    to those below it may hold no processes itself, so this process moves into one of its own there;
 * 2. else at the top, which only root may.
 *
 * The kernel ends what goes over the memory of its group, refuses more processes, and kills a whole group at once,
 * whatever is in it and wherever it has gone.
 */
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { KILL_WAIT_MS, TREE_POLL_INTERVAL_MS } from './limits.ts';
import { startOf } from './process-table.ts';

const CONTROLLERS = ['memory', 'pids'];
const ENABLE = CONTROLLERS.map((name) => `+${name}`).join(' ');
/** Where this process goes. */
const PEER = 'flowmesh-peer';
/** `flowmesh-attempts-<pid>-<its start>-<number>`: the groups of the attempts of one peer. */
const HOME = /^flowmesh-attempts-(\d+)-(\d+)-\d+$/;
const MICROSECONDS = 1_000_000;

let homes = 0;

/** Where groups can be made. */
interface Base {
  folder: string;
  /** This process has to leave it. */
  leave: boolean;
}

export class CgroupHome {
  readonly #folder: string;
  #groups = 0;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  /** Whether `open` has somewhere to try. */
  static isPossible(): boolean {
    return basesHere().some(({ folder }) => isUsable(folder));
  }

  /** Null where this process may make no groups with limits. */
  static async open(): Promise<CgroupHome | null> {
    for (const base of basesHere()) {
      if (!isUsable(base.folder)) continue;
      const folder = open(base);
      if (folder === null) continue;
      await removeLeftBehind(base.folder);
      return new CgroupHome(folder);
    }
    return null;
  }

  /** A group for one attempt; undefined: no limit. */
  create(limits: { memory_bytes: number | undefined; processes: number | undefined }): AttemptCgroup {
    const folder = join(this.#folder, String(++this.#groups));
    mkdirSync(folder);
    const group = new AttemptCgroup(folder);
    if (limits.memory_bytes !== undefined) {
      writeFileSync(join(folder, 'memory.max'), String(Math.floor(limits.memory_bytes)));
      writeFileSync(join(folder, 'memory.oom.group'), '1');
      // Not where the kernel knows no swap.
      if (existsSync(join(folder, 'memory.swap.max'))) writeFileSync(join(folder, 'memory.swap.max'), '0');
    }
    if (limits.processes !== undefined) writeFileSync(join(folder, 'pids.max'), String(limits.processes));
    return group;
  }

  /** All attempts have ended. */
  close(): void {
    tryTo(() => rmdirSync(this.#folder));
  }
}

/** The group of one attempt. */
export class AttemptCgroup {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** The file that takes the pid of a process into the group; 0 is the one that writes. */
  get entry(): string {
    return join(this.#folder, 'cgroup.procs');
  }

  /** Which limit was exceeded, as far as the kernel has noted it. */
  over(cpu_s = Number.POSITIVE_INFINITY): 'memory_mb' | 'processes' | 'cpu_s' | null {
    if (this.#figure('memory.events', 'oom_kill') > 0) return 'memory_mb';
    if (this.#figure('pids.events', 'max') > 0) return 'processes';
    return this.#figure('cpu.stat', 'usage_usec') / MICROSECONDS > cpu_s ? 'cpu_s' : null;
  }

  #figure(file: string, name: string): number {
    const text = readText(join(this.#folder, file));
    return Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(text)?.[1] ?? 0);
  }

  /** Ends whoever is still in it, and removes it. */
  async close(): Promise<void> {
    await remove(this.#folder);
  }
}

/** Best first. */
function basesHere(): Base[] {
  const own = ownGroup();
  if (own === null) return [];
  const { top, folder } = own;
  const bases: Base[] = [{ folder: top, leave: false }];
  if (basename(folder) === PEER) bases.unshift({ folder: dirname(folder), leave: false });
  else if (folder !== top && isAloneIn(folder)) bases.unshift({ folder, leave: true });
  return bases;
}

/** The group of this process, and the topmost that it sees, as folders; null where there is no cgroup v2. */
function ownGroup(): { top: string; folder: string } | null {
  const path = /^0::(\/.*)$/m.exec(readText('/proc/self/cgroup'))?.[1];
  if (path === undefined) return null;
  for (const line of readText('/proc/self/mountinfo').split('\n')) {
    const [mount = '', system = ''] = line.split(' - ');
    if (!system.startsWith('cgroup2 ')) continue;
    const [, , , root = '', top = ''] = mount.split(' ');
    const inside = root === '/' ? path : path.startsWith(root) ? path.slice(root.length) : null;
    if (inside !== null && !inside.includes('..')) return { top, folder: join(top, inside) };
  }
  return null;
}

/** Also beside the process that has only handed over to this one: it is the parent, and runs the same file. */
function isAloneIn(folder: string): boolean {
  const isOurs = (pid: number) => {
    if (pid === process.pid) return true;
    const words = readText(`/proc/${pid}/cmdline`).split('\0');
    return pid === process.ppid && process.argv[1] !== undefined && words.includes(process.argv[1]);
  };
  return pidsIn(folder).every(isOurs);
}

function isUsable(folder: string): boolean {
  const has = readText(join(folder, 'cgroup.controllers')).trim().split(' ');
  if (!CONTROLLERS.every((name) => has.includes(name))) return false;
  return tryTo(() => {
    accessSync(folder, constants.W_OK);
    accessSync(join(folder, 'cgroup.subtree_control'), constants.W_OK);
  });
}

/** @returns the folder for the groups of attempts; null, and nothing is changed, where it cannot be */
function open({ folder, leave }: Base): string | null {
  const home = join(folder, `flowmesh-attempts-${process.pid}-${startOf(process.pid)}-${++homes}`);
  const peer = join(folder, PEER);
  const probe = join(home, 'probe');
  const made = tryTo(() => {
    if (leave) {
      mkdirSync(peer, { recursive: true });
      for (const pid of pidsIn(folder)) writeFileSync(join(peer, 'cgroup.procs'), String(pid));
    }
    enable(folder);
    mkdirSync(home);
    enable(home);
    mkdirSync(probe);
    for (const file of ['memory.max', 'pids.max']) accessSync(join(probe, file), constants.W_OK);
  });
  tryTo(() => rmdirSync(probe));
  if (made) return home;
  tryTo(() => rmdirSync(home));
  if (leave) {
    for (const pid of pidsIn(peer)) tryTo(() => writeFileSync(join(folder, 'cgroup.procs'), String(pid)));
    tryTo(() => rmdirSync(peer));
  }
  return null;
}

function enable(folder: string): void {
  const file = join(folder, 'cgroup.subtree_control');
  const enabled = readText(file).trim().split(' ');
  if (!CONTROLLERS.every((name) => enabled.includes(name))) writeFileSync(file, ENABLE);
}

/** What peers have left that were killed. */
async function removeLeftBehind(base: string): Promise<void> {
  for (const name of foldersIn(base)) {
    const [, pid, started] = HOME.exec(name) ?? [];
    if (pid !== undefined && startOf(Number(pid)) !== Number(started)) await remove(join(base, name));
  }
}

/** Ends all processes in a group and in those below it, and removes them. */
async function remove(folder: string): Promise<void> {
  const end = performance.now() + KILL_WAIT_MS;
  for (;;) {
    killAllIn(folder);
    if (!isPopulated(folder)) tryTo(() => removeEmpty(folder));
    if (!existsSync(folder) || performance.now() > end) return;
    await delay(TREE_POLL_INTERVAL_MS);
  }
}

function killAllIn(folder: string): void {
  const kill = join(folder, 'cgroup.kill');
  if (existsSync(kill) && tryTo(() => writeFileSync(kill, '1'))) return;
  // Before Linux 5.14.
  for (const below of foldersIn(folder)) killAllIn(join(folder, below));
  for (const pid of pidsIn(folder)) tryTo(() => process.kill(pid, 'SIGKILL'));
}

function isPopulated(folder: string): boolean {
  return /^populated 1$/m.test(readText(join(folder, 'cgroup.events')));
}

function removeEmpty(folder: string): void {
  for (const below of foldersIn(folder)) removeEmpty(join(folder, below));
  rmdirSync(folder);
}

function foldersIn(folder: string): string[] {
  try {
    return readdirSync(folder, { withFileTypes: true }).flatMap((each) => (each.isDirectory() ? [each.name] : []));
  } catch {
    // Somebody has removed it.
    return [];
  }
}

function pidsIn(folder: string): number[] {
  return readText(join(folder, 'cgroup.procs')).split('\n').filter(Boolean).map(Number);
}

/** Empty for what is not there, or not for this user. */
function readText(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}

/** @returns whether the system let it */
function tryTo(work: () => void): boolean {
  try {
    work();
    return true;
  } catch {
    return false;
  }
}
