/**
 * Limits of what one attempt may use: a child process with everything that it starts.
 *
 *   const keeper = await LimitKeeper.open();
 *   const confinement = keeper.confine({ memory_mb: 512, wall_s: 60 });
 *   const child = spawn(...confinement.command(file, args));
 *   confinement.watch(tree, () => tree.end(0));
 *   await confinement.close(failed);       // when the tree has ended
 *   confinement.exceeded;                  // 'memory_mb', or null
 *
 * | limit       | with a cgroup                          | without one, on Linux                                      |
 * | ----------- | -------------------------------------- | ---------------------------------------------------------- |
 * | `memory_mb` | memory.max, of all together            | the sum is looked at; RLIMIT_DATA of each, with room       |
 * | `cpu_s`     | cpu.stat is looked at; RLIMIT_CPU      | the sum is looked at; RLIMIT_CPU of each process           |
 * | `processes` | pids.max                               | looked at: RLIMIT_NPROC counts what else the user runs     |
 * | `output_mb` | counted as it is read, on every system | the same                                                   |
 * | `wall_s`    | a timer, on every system               | the same                                                   |
 *
 * What goes over a limit is ended, all of it.
 */
import { type AttemptCgroup, CgroupHome } from './cgroups.ts';
import { LIMIT_LOOK_INTERVAL_MS, UNUSED_DATA_MB } from './limits.ts';
import type { ProcessTree } from './process-tree.ts';

export interface AttemptLimits {
  memory_mb?: number | undefined;
  cpu_s?: number | undefined;
  processes?: number | undefined;
  output_mb?: number | undefined;
  wall_s?: number | undefined;
}
export type LimitName = keyof AttemptLimits;

/** `peer`: this process looks, and ends what goes over it. */
export type KeptBy = 'cgroup' | 'rlimit' | 'peer' | 'nobody';
export type LimitsKept = Record<LimitName, KeptBy>;

const BYTES_PER_MB = 1024 * 1024;
const KB_PER_MB = 1024;
/** How a shell says that a program was ended by SIGXCPU. */
const CODE_OF_SIGXCPU = 152;
const OUT_OF_MEMORY = /out of memory|memory exhausted|cannot allocate memory|MemoryError|bad_alloc|ENOMEM/i;

/**
 * Limits are set by the process itself, before it becomes the program: nothing that it starts escapes them.
 * Arguments: the file that takes pids into the cgroup, RLIMIT_DATA in KB, RLIMIT_CPU in seconds, soft and hard; each may
 * be empty. Then the program.
 */
const SHELL = '/bin/sh';
const SCRIPT = [
  '[ -z "$1" ] || echo 0 >"$1" || exit 125',
  '[ -z "$2" ] || ulimit -d "$2" || exit 125',
  '[ -z "$3" ] || { ulimit -S -t "$3" && ulimit -H -t "$4"; } || exit 125',
  'shift 4',
  'exec "$@"',
].join('\n');

/** Whether there is any. */
export function hasLimits(limits: AttemptLimits): boolean {
  return Object.values(limits).some((value) => value !== undefined);
}

/** What keeps limits on this machine, as far as it can be seen without a change to it. */
export function limitsKeptHere(): LimitsKept {
  return keptWith(CgroupHome.isPossible());
}

function keptWith(cgroup: boolean): LimitsKept {
  const always = { output_mb: 'peer', wall_s: 'peer' } as const;
  if (cgroup) return { memory_mb: 'cgroup', cpu_s: 'cgroup', processes: 'cgroup', ...always };
  if (process.platform === 'linux') return { memory_mb: 'rlimit', cpu_s: 'rlimit', processes: 'peer', ...always };
  return { memory_mb: 'nobody', cpu_s: 'nobody', processes: 'nobody', ...always };
}

/** Gives attempts their limits, in the best way that this machine has. */
export class LimitKeeper {
  readonly #home: CgroupHome | null;
  readonly kept: LimitsKept;

  private constructor(home: CgroupHome | null) {
    this.#home = home;
    this.kept = keptWith(home !== null);
  }

  /** @param mayUseCgroups false where nothing needs them; true may move this process into a cgroup below its own */
  static async open({ mayUseCgroups = true } = {}): Promise<LimitKeeper> {
    return new LimitKeeper(mayUseCgroups ? await CgroupHome.open() : null);
  }

  /** Null when there is no limit. The time runs from now on. */
  confine(limits: AttemptLimits): Confinement | null {
    if (!hasLimits(limits)) return null;
    const { memory_mb, cpu_s, processes } = limits;
    const isGrouped = memory_mb !== undefined || cpu_s !== undefined || processes !== undefined;
    const bytes = memory_mb === undefined ? undefined : memory_mb * BYTES_PER_MB;
    const group = isGrouped ? (this.#home?.create({ memory_bytes: bytes, processes }) ?? null) : null;
    return new Confinement(limits, group, this.kept);
  }

  close(): void {
    this.#home?.close();
  }
}

/** The limits of a caller, and where they are in the settings. */
export interface Limited {
  keeper: LimitKeeper;
  limits: AttemptLimits;
  place: string;
}

/** How the first process of an attempt ended. */
interface AttemptEnd {
  code: number | null;
  signal: string | null;
  stderr: string;
}

/** The limits of one attempt, and which of them it went over. */
export class Confinement {
  readonly limits: AttemptLimits;
  readonly kept: LimitsKept;
  readonly #group: AttemptCgroup | null;
  readonly #wall: NodeJS.Timeout | undefined;
  #look: NodeJS.Timeout | undefined;
  #written = 0;
  #end: (() => void) | undefined;
  #closing: Promise<void> | undefined;
  /** The first one. */
  exceeded: LimitName | null = null;

  constructor(limits: AttemptLimits, group: AttemptCgroup | null, kept: LimitsKept) {
    this.limits = limits;
    this.kept = kept;
    this.#group = group;
    if (limits.wall_s !== undefined) this.#wall = setTimeout(() => this.#over('wall_s'), limits.wall_s * 1_000);
  }

  /** What to start in place of a program. */
  command(file: string, args: readonly string[]): [file: string, args: string[]] {
    const { memory_mb, cpu_s } = this.limits;
    if (process.platform !== 'linux') return [file, [...args]];
    const data =
      this.#group !== null || memory_mb === undefined ? '' : String((memory_mb + UNUSED_DATA_MB) * KB_PER_MB);
    const cpu = cpu_s === undefined ? undefined : Math.ceil(cpu_s);
    const cpuLimits = cpu === undefined ? ['', ''] : [String(cpu), String(cpu + 1)];
    return [SHELL, ['-c', SCRIPT, SHELL, this.#group?.entry ?? '', data, ...cpuLimits, file, ...args]];
  }

  /** @param end ends all of it; called once, when a limit is exceeded */
  watch(tree: ProcessTree, end: () => void): void {
    this.#end = end;
    if (this.exceeded !== null) end();
    const { memory_mb, cpu_s, processes } = this.limits;
    if (memory_mb === undefined && cpu_s === undefined && processes === undefined) return;
    if (this.kept.memory_mb === 'nobody') return;
    const look = async () => {
      if (this.#closing !== undefined || this.exceeded !== null) return;
      const over = this.#group === null ? await this.#overOf(tree) : this.#group.over(cpu_s);
      if (over !== null) this.#over(over);
      else if (this.#closing === undefined) this.#look = setTimeout(look, LIMIT_LOOK_INTERVAL_MS);
    };
    this.#look = setTimeout(look, LIMIT_LOOK_INTERVAL_MS);
  }

  async #overOf(tree: ProcessTree): Promise<LimitName | null> {
    const { memory_mb = Infinity, cpu_s = Infinity, processes = Infinity } = this.limits;
    const used = await tree.usage();
    if (used.processes > processes) return 'processes';
    if (used.memory_bytes > memory_mb * BYTES_PER_MB) return 'memory_mb';
    return used.cpu_s > cpu_s ? 'cpu_s' : null;
  }

  /** The attempt has written something to this peer. */
  wrote(bytes: number): void {
    this.#written += bytes;
    const { output_mb } = this.limits;
    if (output_mb !== undefined && this.#written > output_mb * BYTES_PER_MB) this.#over('output_mb');
  }

  #over(limit: LimitName): void {
    if (this.exceeded !== null || this.#closing !== undefined) return;
    this.exceeded = limit;
    this.#end?.();
  }

  /**
   * The processes have ended, but for those that only the cgroup knows, which are ended now.
   *
   * @param end how the attempt has ended; null: well
   */
  async close(end: AttemptEnd | null): Promise<void> {
    this.#closing ??= this.#close(end);
    await this.#closing;
  }

  async #close(end: AttemptEnd | null): Promise<void> {
    clearTimeout(this.#wall);
    clearTimeout(this.#look);
    if (end !== null) this.exceeded ??= this.#endedBy(end);
    await this.#group?.close();
  }

  /** The limit that the system itself has enforced. */
  #endedBy({ code, signal, stderr }: AttemptEnd): LimitName | null {
    const { memory_mb, cpu_s } = this.limits;
    const over = this.#group?.over(cpu_s) ?? null;
    if (over !== null) return over;
    if (cpu_s !== undefined && (signal === 'SIGXCPU' || code === CODE_OF_SIGXCPU)) return 'cpu_s';
    // It was refused more memory, and only it knows: it says so.
    const mayBeRefused = memory_mb !== undefined && this.kept.memory_mb === 'rlimit';
    return mayBeRefused && OUT_OF_MEMORY.test(stderr) ? 'memory_mb' : null;
  }
}
