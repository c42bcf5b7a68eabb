/**
 * A child process for code whose cost or correctness is not ours: expressions and `fn:` handlers.
 *
 * Why not a thread: a thread can be ended and has a heap limit, but one large allocation inside it (measured:
 * JSON of an array of ten million numbers in a heap of 128 MB) aborts the whole process, this peer with it. A child
 * process takes nothing along.
 *
 * What it starts ends with it (`process-tree.ts`), and it ends itself when the peer is gone (`parent-watch.ts`), also
 * while its code spins. Messages keep the structured clone types.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { coveredDescriptors } from './descriptors.ts';
import type { StartEnvironment } from './environment.ts';
import { CHILD_STDERR_CHARS_MAX, LEFTOVER_GRACE_MS } from './limits.ts';
import { ProcessTree } from './process-tree.ts';

export interface IsolatedProcessOptions {
  /** The module it runs; `process.argv` gives it this peer's pid, then `args`. */
  entry: URL;
  args?: string[];
  /** JavaScript heap. */
  memoryMb: number;
  environment: StartEnvironment;
  onMessage(message: unknown): void;
  /** Once, whatever the reason; no message follows. */
  onEnd(end: ProcessEnd): void;
}

export interface ProcessEnd {
  /** For people: "exit code 1", "SIGKILL", or why it never started. */
  how: string;
  outOfMemory: boolean;
  /** The last things it wrote to stdout and stderr, bounded. */
  stdout: string;
  stderr: string;
}

export class IsolatedProcess {
  readonly #child: ChildProcess;
  readonly #tree: ProcessTree | undefined;
  readonly #onEnd: (end: ProcessEnd) => void;
  #stdout = '';
  #stderr = '';
  #ended = false;
  #drain: NodeJS.Timeout | undefined;

  constructor(options: IsolatedProcessOptions) {
    this.#onEnd = options.onEnd;
    this.#child = fork(options.entry, [String(process.pid), ...(options.args ?? [])], {
      detached: true,
      serialization: 'advanced',
      execArgv: [`--max-old-space-size=${options.memoryMb}`],
      env: options.environment.variables,
      stdio: ['ignore', 'pipe', 'pipe', ...coveredDescriptors(), 'ipc'],
    });
    if (this.pid !== undefined) this.#tree = new ProcessTree(this.pid, options.environment.mark);
    this.#child.stdout!.on('data', (chunk: Buffer) => {
      this.#stdout = (this.#stdout + chunk.toString()).slice(-CHILD_STDERR_CHARS_MAX);
    });
    this.#child.stderr!.on('data', (chunk: Buffer) => {
      this.#stderr = (this.#stderr + chunk.toString()).slice(-CHILD_STDERR_CHARS_MAX);
    });
    this.#child.on('message', (message) => {
      if (!this.#ended) options.onMessage(message);
    });
    this.#child.once('error', (error) => this.#end(error.message, null));
    this.#child.once('exit', (code, signal) => {
      const how = signal ?? `exit code ${code}`;
      this.#child.once('close', () => this.#end(how, signal));
      // What it started may hold its pipes open.
      void this.#tree?.end(0);
      this.#drain = setTimeout(() => this.#end(how, signal), LEFTOVER_GRACE_MS);
    });
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  send(message: object): void {
    this.#child.send(message, () => {
      // A message that could not be sent means that the process ends, and `onEnd` says so.
    });
  }

  /** SIGKILL to it and to what it started. */
  kill(): void {
    if (!this.#ended) void this.#tree?.end(0);
  }

  /** Whether it keeps this process from ending: only while it works. */
  holdOpen(hold: boolean): void {
    const each = [this.#child, this.#child.channel, this.#child.stdout, this.#child.stderr] as ({
      ref?(): void;
      unref?(): void;
    } | null)[];
    for (const handle of each) hold ? handle?.ref?.() : handle?.unref?.();
  }

  #end(how: string, signal: NodeJS.Signals | null): void {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#drain);
    this.#child.stdout?.destroy();
    this.#child.stderr?.destroy();
    // V8 aborts when it cannot allocate, and says so on stderr; some allocations only trap.
    const crashed = signal === 'SIGABRT' || signal === 'SIGTRAP' || signal === 'SIGILL';
    const outOfMemory =
      crashed && /out of memory|allocation failed|invalid (table|array|string) size/i.test(this.#stderr);
    this.#onEnd({ how, outOfMemory, stdout: this.#stdout, stderr: this.#stderr });
  }
}

/** The module beside `importer` of the same kind: `.ts` in a checkout, `.js` in the built package. */
export function siblingModule(name: string, importer: string): URL {
  return new URL(`./${name}${importer.endsWith('.ts') ? '.ts' : '.js'}`, importer);
}
