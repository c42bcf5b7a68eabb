/**
 * The end of everything that one started process has started in turn. What belongs to it is found in three ways:
 *
 *   its process group   what it started and did not send elsewhere (every POSIX system)
 *   its session         what went to a group of its own: `timeout`, `set -m` (Linux)
 *   its mark            what went to a session of its own: `setsid`, a daemon; it inherits the environment, and in
 *                       that MARK_VARIABLE with a value that no other start has (Linux)
 *
 * What does both, leave the session and drop its environment, is not found; neither is what it asks another program to
 * start (`systemd-run`, `at`, a container). Elsewhere than on Linux only the group is.
 */
import { setTimeout as delay, setImmediate as turn } from 'node:timers/promises';
import {
  KILL_WAIT_MS,
  PROCESSES_PER_TURN,
  TREE_POLL_INTERVAL_MS,
  TREE_POLL_INTERVAL_MS_MAX,
  YOUNG_TREE_MS,
} from './limits.ts';
import { allPids, environmentOf, lastPid, readProcess, startOf, usageOf } from './process-table.ts';

/** The variable that carries the mark. */
export const MARK_VARIABLE = 'FLOWMESH_STARTED_BY';

export class ProcessTree {
  readonly #leader: number;
  readonly #mark: string | null;
  readonly #since = performance.now();
  /** When the leader was started: whoever is older is not one of its own. */
  readonly #started: number;

  /**
   * @param leader a process that was started a moment ago as the leader of a group and a session
   * @param mark the value of its MARK_VARIABLE; null when it has none
   */
  constructor(leader: number, mark: string | null) {
    this.#leader = leader;
    this.#mark = mark;
    this.#started = startOf(leader);
  }

  /**
   * SIGTERM to all of it, and SIGKILL to what is still there after `graceMs`; with 0 SIGKILL at once, over and over
   * until nothing new is found.
   *
   * @returns the pids that have not ended KILL_WAIT_MS after their SIGKILL
   */
  async end(graceMs: number): Promise<number[]> {
    if (graceMs > 0 && (await this.#terminate())) {
      const end = performance.now() + graceMs;
      // No event tells of the end of a grandchild.
      for (let wait = TREE_POLL_INTERVAL_MS; performance.now() < end; ) {
        await delay(wait);
        if (signalGroup(this.#leader, 0)) continue;
        if ((await this.#members()).length === 0) return [];
        // Asking the group costs nothing; reading all processes does.
        wait = Math.min(2 * wait, TREE_POLL_INTERVAL_MS_MAX, Math.max(end - performance.now(), 1));
      }
    }
    signalGroup(this.#leader, 'SIGKILL');
    return await killAll(() => this.#members());
  }

  /** What all of it uses now, together. Processes are counted with their threads. */
  async usage(): Promise<{ cpu_s: number; memory_bytes: number; processes: number }> {
    const used = { cpu_s: 0, memory_bytes: 0, processes: 0 };
    for (const pid of await this.#members()) {
      const { cpu_s, memory_bytes, threads } = usageOf(pid);
      used.cpu_s += cpu_s;
      used.memory_bytes += memory_bytes;
      used.processes += threads;
    }
    return used;
  }

  /** SIGTERM, once to each: to many programs a second one means "at once". @returns whether there was anybody */
  async #terminate(): Promise<boolean> {
    const group = signalGroup(this.#leader, 'SIGTERM');
    const outside = await this.#members({ outsideGroup: true });
    for (const pid of outside) signalProcess(pid, 'SIGTERM');
    return group || outside.length > 0;
  }

  #members({ outsideGroup = false } = {}): Promise<number[]> {
    return findProcesses(
      (pid) => {
        const entry = readProcess(pid);
        if (entry === null || entry.started < this.#started) return false;
        if (entry.group === this.#leader) return !outsideGroup;
        return entry.session === this.#leader || this.#carriesMark(pid);
      },
      () => this.#mayBeYounger(),
    );
  }

  #carriesMark(pid: number): boolean {
    return this.#mark !== null && environmentOf(pid).includes(`${MARK_VARIABLE}=${this.#mark}\0`);
  }

  /** Reading of every process of a machine what it is takes longer than many a command. @returns a test of its pid */
  #mayBeYounger(): (pid: number) => boolean {
    if (performance.now() - this.#since > YOUNG_TREE_MS) return () => true;
    const leader = this.#leader;
    const last = lastPid();
    if (last >= leader) return (pid) => pid >= leader && pid <= last;
    return (pid) => pid >= leader || pid <= last;
  }
}

/**
 * SIGKILL until `find` finds nobody, twice where it had found somebody: one that started another may end unseen.
 *
 * @returns the pids that are still there after KILL_WAIT_MS
 */
export async function killAll(find: () => Promise<number[]>): Promise<number[]> {
  const end = performance.now() + KILL_WAIT_MS;
  let killed = new Set<number>();
  for (;;) {
    const found = await find();
    if (performance.now() > end || (found.length === 0 && killed.size === 0)) return found;
    for (const pid of found) signalProcess(pid, 'SIGKILL');
    // One that is seen for the first time may have started another: that is looked for at once.
    if (found.length > 0 && found.every((pid) => killed.has(pid))) await delay(TREE_POLL_INTERVAL_MS);
    killed = new Set(found);
  }
}

/**
 * Pids that `matches` accepts, looked at a few per turn of the loop.
 *
 * @param worthIt makes a test that spares the look at most of them; asked after the pids were listed
 */
export async function findProcesses(
  matches: (pid: number) => boolean,
  worthIt: () => (pid: number) => boolean = () => () => true,
): Promise<number[]> {
  const pids = allPids();
  const isMeant = worthIt();
  const found: number[] = [];
  let looked = 0;
  for (const pid of pids) {
    if (pid === process.pid || !isMeant(pid)) continue;
    if (++looked % PROCESSES_PER_TURN === 0) await turn();
    if (matches(pid)) found.push(pid);
  }
  return found;
}

/**
 * @param leader pid of the group's leader; it may have ended, its number stays taken while the group has members
 * @param signal 0 only asks
 * @returns whether the group has a member
 */
function signalGroup(leader: number, signal: NodeJS.Signals | 0): boolean {
  return signalProcess(-leader, signal);
}

function signalProcess(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, signal);
  } catch (error) {
    // ESRCH: nobody is left. EPERM: someone is, who changed the user.
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
