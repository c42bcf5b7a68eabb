/**
 * One program that was started for a task, with everything that it starts in turn: its output as it comes, and its
 * end, which is that of all of them.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { OUTPUT_BYTES_MAX } from '../../dag/limits.ts';
import type { Confinement } from '../processes/confinement.ts';
import { coveredDescriptors } from '../processes/descriptors.ts';
import { LEFTOVER_GRACE_MS, PRINTED_BYTES_PER_INTERVAL } from '../processes/limits.ts';
import { readPaced } from '../processes/paced-reading.ts';
import { ProcessTree } from '../processes/process-tree.ts';
import { KeptEnd } from './kept-output.ts';
import { PRINTED_LINES_PER_INTERVAL, STDERR_KEPT_BYTES } from './limits.ts';
import { LineSplitter } from './lines.ts';

export interface Command {
  file: string;
  /** `words[0]` is what the program is told it was called. */
  words: string[];
  cwd: string;
  variables: Record<string, string>;
  /** The one among `variables` that says which start this is. */
  mark: string;
  stdin: string | undefined;
  /** Null: no limits but those of every command. */
  confinement: Confinement | null;
}

export interface CommandEnd {
  code: number | null;
  signal: NodeJS.Signals | null;
}

export class CommandProcess {
  readonly #child: ChildProcess;
  readonly #tree: ProcessTree | undefined;
  readonly #confinement: Confinement | null;
  readonly #failed = Promise.withResolvers<never>();
  readonly #lines: LineSplitter[] = [];
  /** End the pace at which each stream is read. */
  readonly #readers: (() => void)[] = [];
  readonly #stdout: Buffer[] = [];
  #stdoutBytes = 0;
  #ending: Promise<number[]> | undefined;
  readonly stderr = new KeptEnd(STDERR_KEPT_BYTES);

  /**
   * @param log gets each line
   * @throws what the system says of a program that it cannot start; `end` rejects with the rest of such errors
   */
  constructor(command: Command, log: (stream: 'stdout' | 'stderr', line: string) => void) {
    const { stdin, confinement } = command;
    this.#confinement = confinement;
    const words = command.words.slice(1);
    const [file, args] = confinement?.command(command.file, words) ?? [command.file, words];
    this.#child = spawn(file, args, {
      // A shell that sets limits has a name of its own.
      argv0: file === command.file ? command.words[0]! : file,
      cwd: command.cwd,
      env: command.variables,
      // A group and a session of its own.
      detached: true,
      windowsHide: true,
      stdio: [stdin === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe', ...coveredDescriptors()],
    });
    this.#child.once('error', this.#failed.reject);
    this.#failed.promise.catch(() => {
      // `ended` gives it to whoever waits for the end.
    });
    if (this.#child.pid !== undefined) {
      this.#tree = new ProcessTree(this.#child.pid, command.mark);
      confinement?.watch(this.#tree, () => this.end(0));
    }
    if (stdin !== undefined) feed(this.#child.stdin!, stdin);
    this.#collect(this.#child.stdout!, (line) => log('stdout', line), this.#takeStdout);
    this.#collect(this.#child.stderr!, (line) => log('stderr', line), this.#takeStderr);
  }

  /** What came on stdout, and whether that was more than OUTPUT_BYTES_MAX, which ends the program. */
  get stdout(): { text: string; tooLarge: boolean } {
    return { text: Buffer.concat(this.#stdout).toString('utf8'), tooLarge: this.#stdoutBytes > OUTPUT_BYTES_MAX };
  }

  /** Ends all of it, as `ProcessTree.end`. The first call decides. */
  end(graceMs: number): void {
    this.#ending ??= this.#tree?.end(graceMs);
  }

  /**
   * Resolves when the program and all that it started have ended.
   *
   * @returns how, and the pids that do not end
   * @throws what the system says of a program that it could not start
   */
  async ended(): Promise<CommandEnd & { staying: number[] }> {
    const leftovers: NodeJS.Timeout[] = [];
    let end: CommandEnd = { code: null, signal: null };
    this.#child.once('exit', (code, signal) => {
      end = { code, signal };
      for (const readOn of this.#readers) readOn();
      // Children that hold the pipes open keep the task from ending: they may finish, but not stay.
      leftovers.push(
        setTimeout(() => this.end(0), LEFTOVER_GRACE_MS),
        // After a stop of this peer, timers come before what waits to be read.
        setTimeout(() => setImmediate(() => this.#closePipes()), 2 * LEFTOVER_GRACE_MS),
      );
    });
    const closed = new Promise<void>((resolve) => this.#child.once('close', () => resolve()));
    await Promise.race([closed, this.#failed.promise]);
    for (const timer of leftovers) clearTimeout(timer);
    this.end(0);
    const staying = (await this.#ending) ?? [];
    await this.#confinement?.close(end.code === 0 ? null : { ...end, stderr: this.stderr.take().text });
    for (const each of this.#lines) each.end();
    return { ...end, staying };
  }

  readonly #takeStdout = (chunk: Buffer): boolean => {
    const wasTooLarge = this.#stdoutBytes > OUTPUT_BYTES_MAX;
    this.#stdoutBytes += chunk.length;
    if (this.#stdoutBytes > OUTPUT_BYTES_MAX) {
      if (!wasTooLarge) this.end(0);
      return false;
    }
    this.#stdout.push(chunk);
    return true;
  };

  readonly #takeStderr = (chunk: Buffer): boolean => {
    this.stderr.push(chunk);
    return true;
  };

  #collect(stream: Readable, log: (line: string) => void, take: (chunk: Buffer) => boolean): void {
    const lines = new LineSplitter(log);
    this.#lines.push(lines);
    const read = (chunk: Buffer) => {
      this.#confinement?.wrote(chunk.length);
      const count = take(chunk) ? lines.push(chunk) : 0;
      return Math.max(chunk.length / PRINTED_BYTES_PER_INTERVAL, count / PRINTED_LINES_PER_INTERVAL);
    };
    this.#readers.push(readPaced(stream, read));
  }

  /** Whoever still holds them is not to be found. */
  #closePipes(): void {
    this.#child.stdout!.destroy();
    this.#child.stderr!.destroy();
  }
}

function feed(stdin: Writable, text: string): void {
  stdin.on('error', () => {
    // The program has ended, or closed its stdin, before it had read all: that is its own choice.
  });
  stdin.end(text);
}
