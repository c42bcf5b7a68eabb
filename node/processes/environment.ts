/**
 * What the processes that run a user's work find in their environment: what programs need to run at all, what the
 * peer's `pass_env` names, and their mark. Everything else of this peer's environment may be a secret of somebody.
 */
import { randomBytes } from 'node:crypto';
import { statSync } from 'node:fs';
import type { Log } from '../../scheduler/ports.ts';
import { environmentOf, readProcess } from './process-table.ts';
import { findProcesses, killAll, MARK_VARIABLE } from './process-tree.ts';

/** Variables that every program may count on: where things are, and how to write for people. */
const ORDINARY = ['PATH', 'HOME', 'LANG', 'LC_*', 'TZ', 'TMPDIR'];
/** Without these Windows starts no program. */
const ORDINARY_ON_WINDOWS = ['SYSTEMROOT', 'SYSTEMDRIVE', 'COMSPEC', 'PATHEXT', 'TEMP', 'TMP', 'USERPROFILE'];
/** Settings of flowmesh: only by their whole name, never by a pattern. */
const OWN_PREFIX = 'FLOWMESH_';

/**
 * @param name of a variable
 * @param patterns names, or beginnings of names followed by `*`
 */
export function isNamed(name: string, patterns: readonly string[]): boolean {
  return patterns.some((pattern) => {
    if (!pattern.endsWith('*')) return name === pattern;
    return name.startsWith(pattern.slice(0, -1)) && !name.startsWith(OWN_PREFIX);
  });
}

/** The variables of `env` that the processes of a user's work get. @param passEnv the peer's `pass_env` */
export function passedEnvironment(env: NodeJS.ProcessEnv, passEnv: readonly string[]): Record<string, string> {
  const patterns = [...ORDINARY, ...(process.platform === 'win32' ? ORDINARY_ON_WINDOWS : []), ...passEnv];
  const passed: Record<string, string> = {};
  for (const [name, value] of Object.entries(env)) {
    if (value !== undefined && isNamed(name, patterns)) passed[name] = value;
  }
  return passed;
}

/** A new process's variables; its mark is among them, under MARK_VARIABLE, unless it starts nothing (null). */
export interface StartEnvironment {
  variables: Record<string, string>;
  mark: string | null;
}

/**
 * The environment of one run of a peer's executors. A mark says which data folder, which process and which run
 * started something:
 *
 *   64769-1311.4242-90210.9f86d081884c.7
 *   device and inode of the folder, pid and start of the process, the run, the number of the start
 *
 * Whoever holds the folder now knows by it what the last one who did has left running.
 */
export class WorkEnvironment {
  readonly #passEnv: readonly string[];
  readonly #folder: string;
  readonly #run: string;
  #starts = 0;

  /** @param dataDir the peer's own folder; it exists */
  constructor(dataDir: string, passEnv: readonly string[]) {
    const { dev, ino } = statSync(dataDir);
    this.#passEnv = passEnv;
    this.#folder = `${dev}-${ino}.`;
    const peer = `${process.pid}-${readProcess(process.pid)?.started ?? 0}`;
    this.#run = `${this.#folder}${peer}.${randomBytes(6).toString('hex')}.`;
  }

  create(): StartEnvironment & { mark: string } {
    const mark = `${this.#run}${++this.#starts}`;
    return { variables: { ...passedEnvironment(process.env, this.#passEnv), [MARK_VARIABLE]: mark }, mark };
  }

  /** Ends what a former run on this data folder has left: a peer that was killed, a mesh loop that crashed. */
  async endLeftBehind(log: Log): Promise<void> {
    const ended = new Set<number>();
    const stay = await killAll(async () => {
      const found = await findProcesses((pid) => this.#isLeftBehind(pid));
      for (const pid of found) ended.add(pid);
      return found;
    });
    if (ended.size === 0) return;
    log.warn({ pids: [...ended] }, 'ended processes that an earlier run of this peer had left behind');
    if (stay.length > 0) log.warn({ pids: stay }, 'some of them do not end; what they do may happen twice');
  }

  #isLeftBehind(pid: number): boolean {
    const environment = environmentOf(pid);
    const start = environment.indexOf(`${MARK_VARIABLE}=${this.#folder}`);
    if (start === -1) return false;
    const mark = environment.slice(start + MARK_VARIABLE.length + 1, environment.indexOf('\0', start));
    return !mark.startsWith(this.#run) && !isHeldByAnother(mark);
  }
}

/** The process that made the mark still runs, and is not this one: a folder whose number was given out again. */
function isHeldByAnother(mark: string): boolean {
  const [pid, started] = (mark.split('.')[1] ?? '').split('-').map(Number);
  return pid !== process.pid && readProcess(pid ?? 0)?.started === started;
}
