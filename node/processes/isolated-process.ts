/**
 * A child process for code whose cost or correctness is not ours: expressions and `fn:` handlers.
 *
 * Why not a thread: a thread can be ended and has a heap limit, but one large allocation inside it (measured:
 * JSON of an array of ten million numbers in a heap of 128 MB) aborts the whole process, this peer with it. A child
 * process takes nothing along.
 *
 * What it starts ends with it (`process-tree.ts`), and it ends itself when the peer is gone (`parent-watch.ts`), also
 * while its code spins. Messages (`child-messages.ts`) keep the structured clone types.
 *
 * Whatever comes from it harms nobody else: what is no message, and what throws while it is handled here, ends the
 * process, and `onEnd` says why. What it writes is read no faster than the limits per interval allow.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { thrownText } from '../../dag/errors.ts';
import { encodeMessage, FROM_PEER_FD, MessageReader, TO_PEER_FD } from './child-messages.ts';
import type { Confinement } from './confinement.ts';
import { coveredDescriptors } from './descriptors.ts';
import type { StartEnvironment } from './environment.ts';
import {
  CHILD_BYTES_PER_INTERVAL,
  CHILD_MESSAGE_BYTES_MAX,
  CHILD_MESSAGES_PER_INTERVAL,
  CHILD_STDERR_CHARS_MAX,
  LEFTOVER_GRACE_MS,
  PRINTED_BYTES_PER_INTERVAL,
} from './limits.ts';
import { readPaced } from './paced-reading.ts';
import { ProcessTree } from './process-tree.ts';

/** The last two are FROM_PEER_FD and TO_PEER_FD. */
const STDIO = ['ignore', 'pipe', 'pipe', 'pipe', 'pipe'] as const;
const PIPES = 2;

export interface IsolatedProcessOptions {
  /** The module it runs; `process.argv` gives it this peer's pid, then `args`. */
  entry: URL;
  args?: string[];
  /** JavaScript heap. */
  memoryMb: number;
  environment: StartEnvironment;
  /** Its limits besides `memoryMb`, which are over when it has ended. */
  confinement?: Confinement | null;
  /** Anything at all: it is to be checked. What this throws ends the process. */
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
  readonly #child: ChildProcess | null;
  readonly #tree: ProcessTree | undefined;
  readonly #options: IsolatedProcessOptions;
  readonly #printed = { stdout: '', stderr: '' };
  #ended = false;
  /** Why this peer has ended it, where nobody asked for it. */
  #fault: string | null = null;
  #drain: NodeJS.Timeout | undefined;

  constructor(options: IsolatedProcessOptions) {
    this.#options = options;
    this.#child = this.#start();
    if (this.pid !== undefined) {
      this.#tree = new ProcessTree(this.pid, options.environment.mark);
      options.confinement?.watch(this.#tree, () => this.kill());
    }
    if (this.#child !== null) this.#listen(this.#child);
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  send(message: object): void {
    this.#guard('what it was sent', () => this.#pipe<Writable>(FROM_PEER_FD)?.write(encodeMessage(message)));
  }

  /** SIGKILL to it and to what it started. */
  kill(): void {
    if (!this.#ended) void this.#tree?.end(0);
  }

  /** Whether it keeps this process from ending: only while it works. */
  holdOpen(hold: boolean): void {
    const each = [this.#child, ...(this.#child?.stdio ?? [])] as ({ ref?(): void; unref?(): void } | null)[];
    for (const handle of each) hold ? handle?.ref?.() : handle?.unref?.();
  }

  /** Null when the system starts no process now: `onEnd` follows. */
  #start(): ChildProcess | null {
    const { entry, args = [], memoryMb, environment, confinement } = this.#options;
    const words = [`--max-old-space-size=${memoryMb}`, fileURLToPath(entry), String(process.pid), ...args];
    const [file, all] = confinement?.command(process.execPath, words) ?? [process.execPath, words];
    try {
      return spawn(file, all, {
        ...{ detached: true, env: environment.variables },
        stdio: [...STDIO, ...coveredDescriptors().slice(PIPES)],
      });
    } catch (error) {
      setImmediate(() => this.#end(thrownText(error), null));
      return null;
    }
  }

  #listen(child: ChildProcess): void {
    child.once('error', (error) => this.#end(error.message, null));
    const { confinement } = this.#options;
    child.once('exit', (code, signal) => {
      const how = signal ?? `exit code ${code}`;
      // What it started may hold its pipes open, and has ended before this counts as ended.
      const gone = this.#tree?.end(0) ?? Promise.resolve();
      const end = () =>
        void gone
          .then(() => confinement?.close({ code, signal, stderr: this.#printed.stderr }))
          .then(() => this.#end(how, signal));
      child.once('close', end);
      // After a stop of this peer, timers come before what waits to be read.
      this.#drain = setTimeout(() => setImmediate(end), LEFTOVER_GRACE_MS);
    });
    for (const name of ['stdout', 'stderr'] as const) {
      readPaced(child[name], (chunk) => {
        confinement?.wrote(chunk.length);
        this.#printed[name] = (this.#printed[name] + chunk.toString()).slice(-CHILD_STDERR_CHARS_MAX);
        return chunk.length / PRINTED_BYTES_PER_INTERVAL;
      });
    }
    // Its end is heard of in other ways.
    this.#pipe(FROM_PEER_FD)?.on('error', () => {});
    let messages = 0;
    const reader = new MessageReader(CHILD_MESSAGE_BYTES_MAX, (message) => {
      messages += 1;
      if (!this.#ended) this.#options.onMessage(message);
    });
    const channel = this.#pipe<Readable>(TO_PEER_FD);
    readPaced(channel, (chunk) => {
      messages = 0;
      confinement?.wrote(chunk.length);
      if (this.#fault === null && !this.#ended) this.#guard('what it sent', () => reader.push(chunk));
      return Math.max(messages / CHILD_MESSAGES_PER_INTERVAL, chunk.length / CHILD_BYTES_PER_INTERVAL);
    });
    // One that can say nothing any more, and lives on, is of no use.
    channel?.on('end', () => this.kill());
  }

  /** What fails is the end of this process, and of nothing else. */
  #guard(what: string, work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#fault = `${what} cannot be used: ${thrownText(error)}`;
      this.kill();
    }
  }

  /** Undefined where the system could not make it: the process has not started then. */
  #pipe<T extends Readable | Writable>(descriptor: number): T | undefined {
    return (this.#child?.stdio?.[descriptor] ?? undefined) as T | undefined;
  }

  #end(how: string, signal: NodeJS.Signals | null): void {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#drain);
    void this.#options.confinement?.close(null);
    for (const pipe of this.#child?.stdio ?? []) pipe?.destroy();
    const { stdout, stderr } = this.#printed;
    // V8 aborts when it cannot allocate, and says so on stderr; some allocations only trap.
    const crashed = signal === 'SIGABRT' || signal === 'SIGTRAP' || signal === 'SIGILL';
    const outOfMemory = crashed && /out of memory|allocation failed|invalid (table|array|string) size/i.test(stderr);
    this.#options.onEnd({ how: this.#fault ?? how, outOfMemory, stdout, stderr });
  }
}
