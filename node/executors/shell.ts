/**
 * `shell`: runs one command, given as a list of words and never read by a shell.
 *
 *   inputs: { command: [wc, -w, README.md], cwd?, env?, stdin?, parse?: text | json | lines, big_numbers? }
 *   output: { exit_code: 0, stdout, stderr }
 *
 * 1. The command runs in a process group of its own, and the task ends with the group: whatever of it is left is
 *    killed, after an abort and after a normal end.
 * 2. Abort sends SIGTERM to the group, then SIGKILL after CANCEL_GRACE_MS; with `force` SIGKILL at once.
 * 3. stdout and stderr go line by line to the log, and together hold at most OUTPUT_BYTES_MAX.
 * 4. An exit code other than 0, or a signal, is `EXIT_CODE` (retryable) with the end of stderr.
 *
 * The command finds the task's idempotency key in FLOWMESH_TASK_UID (the same at every attempt) and the attempt in
 * FLOWMESH_ATTEMPT.
 */
import { resolve } from 'node:path';
import { execa } from 'execa';
import { z } from 'zod';
import { FlowmeshError, type JsonValue } from '../../dag/errors.ts';
import { anyJson } from '../../dag/json.ts';
import { OUTPUT_BYTES_MAX } from '../../dag/limits.ts';
import { CANCEL_GRACE_MS } from '../../scheduler/limits.ts';
import type { ExecutionIO, ExecutionRequest } from '../../scheduler/ports.ts';
import { inheritedEnvironment } from './environment.ts';
import { ActionAbortedError, InvalidOutputError, InvalidPayloadError, OutputTooLargeError } from './errors.ts';
import { bigNumbersField, parseJsonOutput } from './json-output.ts';
import {
  ARGUMENTS_MAX,
  LEFTOVER_GRACE_MS,
  SHOWN_CHARS_MAX,
  STDERR_TAIL_CHARS_MAX,
  STDERR_TAIL_LINES,
} from './limits.ts';
import { LineSplitter } from './lines.ts';
import { namedValues, parsePayload } from './payload.ts';
import { endGroup, signalGroup } from './process-group.ts';
import { CommandNotFoundError, resolveCommand } from './shell-command.ts';

/** Expressions keep types, so numbers and booleans are words too. */
const word = z
  .union([z.string(), z.number(), z.boolean()], 'must be a string, a number or true or false')
  .transform(String)
  .refine((text) => !text.includes('\0'), 'must not have a NUL character');

export const shellPayloadSchema = z.strictObject({
  command: z
    .array(word, 'must be a list of words such as ["wc", "-l"]; write ["sh", "-c", "…"] for a line of shell')
    .min(1, 'must name a command')
    .max(ARGUMENTS_MAX, `must have at most ${ARGUMENTS_MAX} words`)
    .refine((words) => words[0] !== '', 'must begin with the name of a command'),
  cwd: z.string().min(1).optional(),
  env: namedValues(word, (name) => (/^[^=\0]+$/.test(name) ? null : 'is not the name of a variable')).default({}),
  /** A string as it is; any other value as JSON. */
  stdin: anyJson.optional(),
  parse: z.enum(['text', 'json', 'lines']).default('text'),
  big_numbers: bigNumbersField,
});
type ShellPayload = z.output<typeof shellPayloadSchema>;

/** The command ended with another code than 0, or by a signal. */
class ExitCodeError extends FlowmeshError {
  constructor(command: string[], code: number | null, signal: string | null, stderr: string) {
    const how = signal === null ? `ended with exit code ${code}` : `was ended by ${signal}`;
    const tail = tailOf(stderr);
    super('EXIT_CODE', `"${command.join(' ').slice(0, SHOWN_CHARS_MAX)}" ${how}${tail === '' ? '' : `: ${tail}`}`, {
      retryable: true,
      details: { exit_code: code, signal, stderr: tail },
    });
  }
}

/** The machine could not start a process at this moment. */
class SpawnFailedError extends FlowmeshError {
  constructor(command: string, reason: string, cause: unknown) {
    super('SPAWN_FAILED', `"${command}" could not be started: ${reason}`, { retryable: true, cause });
  }
}

/**
 * @param allow the peer's `shell.allow`
 * @throws InvalidPayloadError, ActionNotAllowedError, CommandNotFoundError, ActionAbortedError, OutputTooLargeError,
 *   InvalidOutputError, ExitCodeError (`EXIT_CODE`), SpawnFailedError (`SPAWN_FAILED`)
 */
export async function runShell(request: ExecutionRequest, io: ExecutionIO, allow: string[]): Promise<JsonValue> {
  const payload = parsePayload(shellPayloadSchema, request);
  const file = await resolveCommand(payload.command[0]!, payload.env, allow);
  if (io.signal.aborted) throw new ActionAbortedError('shell');
  const { code, signal, stdout, stderr } = await runProcess(file, payload, request, io);
  if (code !== 0) throw new ExitCodeError(payload.command, code, signal, stderr);
  return { exit_code: code, stdout: parseOutput(stdout, payload), stderr: withoutFinalNewline(stderr) };
}

interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

async function runProcess(
  file: string,
  payload: ShellPayload,
  request: ExecutionRequest,
  io: ExecutionIO,
): Promise<Ended> {
  const { stdin } = payload;
  const child = execa(file, payload.command.slice(1), {
    argv0: payload.command[0]!,
    cwd: resolve(payload.cwd ?? '.'),
    env: {
      ...inheritedEnvironment(),
      ...payload.env,
      FLOWMESH_TASK_UID: request.uid,
      FLOWMESH_ATTEMPT: String(request.attempt),
    },
    extendEnv: false,
    ...(stdin === undefined
      ? { stdin: 'ignore' as const }
      : { input: typeof stdin === 'string' ? stdin : JSON.stringify(stdin) }),
    stdout: 'pipe',
    stderr: 'pipe',
    buffer: false,
    reject: false,
    killDescendants: true,
    // The group is ended here, because it may outlive the process that execa waits for.
    forceKillAfterDelay: false,
  });
  const { pid } = child;
  let ending: Promise<void> | undefined;
  let tooLarge = false;
  const end = (graceMs: number) => {
    if (pid !== undefined) ending ??= endGroup(pid, graceMs);
  };
  const onAbort = () => end((io.signal.reason as { force?: boolean } | undefined)?.force ? 0 : CANCEL_GRACE_MS);
  io.signal.addEventListener('abort', onAbort, { once: true });

  let bytes = 0;
  const collect = (stream: 'stdout' | 'stderr') => {
    const chunks: Buffer[] = [];
    const lines = new LineSplitter((line) => io.log(stream, line));
    child[stream].on('data', (chunk: Buffer) => {
      if (tooLarge) return;
      bytes += chunk.length;
      if (bytes > OUTPUT_BYTES_MAX) {
        tooLarge = true;
        end(0);
        return;
      }
      chunks.push(chunk);
      lines.push(chunk);
    });
    return () => {
      lines.end();
      return Buffer.concat(chunks).toString('utf8');
    };
  };
  const takeStdout = collect('stdout');
  const takeStderr = collect('stderr');

  const leftovers: NodeJS.Timeout[] = [];
  let exit: { code: number | null; signal: NodeJS.Signals | null } | undefined;
  child.nodeChildProcess.once('exit', (code, signal) => {
    exit = { code, signal };
    // Children that hold the pipes open keep the task from ending: they may finish, but not stay.
    leftovers.push(
      setTimeout(() => end(0), LEFTOVER_GRACE_MS),
      // Whoever still holds them has left the group.
      setTimeout(() => {
        child.stdout.destroy();
        child.stderr.destroy();
      }, 2 * LEFTOVER_GRACE_MS),
    );
  });

  const result = await child;
  for (const timer of leftovers) clearTimeout(timer);
  io.signal.removeEventListener('abort', onAbort);
  if (pid !== undefined && ending === undefined) signalGroup(pid, 'SIGKILL');
  await ending;
  const stdout = takeStdout();
  const stderr = takeStderr();
  if (io.signal.aborted) throw new ActionAbortedError('shell');
  if (tooLarge) throw new OutputTooLargeError(`the output of "${payload.command[0]}"`);
  if (exit === undefined) throw startError(payload, result);
  return { ...exit, stdout, stderr };
}

/** Why no process came to be. */
function startError(payload: ShellPayload, result: { code?: string; shortMessage?: string; cause?: unknown }): Error {
  const command = payload.command[0]!;
  if (result.code === 'ENOENT' && payload.cwd === undefined) return new CommandNotFoundError(command, result.cause);
  if (result.code === 'ENOENT' || result.code === 'ENOTDIR' || result.code === 'EACCES') {
    const [path, what] = payload.cwd === undefined ? ['command', command] : ['cwd', `${command} in ${payload.cwd}`];
    return new InvalidPayloadError('shell', [{ path, message: `cannot be used to start ${what} (${result.code})` }]);
  }
  if (result.code === 'E2BIG') {
    return new InvalidPayloadError('shell', [{ path: 'command', message: 'is too long for this machine; use stdin' }]);
  }
  return new SpawnFailedError(command, result.shortMessage ?? String(result.code), result.cause);
}

function parseOutput(stdout: string, payload: ShellPayload): JsonValue {
  const text = withoutFinalNewline(stdout);
  if (payload.parse === 'text') return text;
  if (payload.parse === 'lines') return text === '' ? [] : text.split(/\r?\n/);
  try {
    return parseJsonOutput(text, `stdout of "${payload.command[0]}"`, payload.big_numbers);
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause;
    const why = cause.message;
    throw new InvalidOutputError(`parse is json, but "${payload.command[0]}" did not write JSON to stdout: ${why}`, {
      cause,
    });
  }
}

function withoutFinalNewline(text: string): string {
  return text.replace(/\r?\n$/, '');
}

function tailOf(stderr: string): string {
  const lines = stderr.trimEnd().slice(-STDERR_TAIL_CHARS_MAX).split('\n');
  return lines.slice(-STDERR_TAIL_LINES).join('\n');
}
