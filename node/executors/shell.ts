/**
 * `shell`: runs one command, given as a list of words and never read by a shell.
 *
 *   inputs: { command: [wc, -w, README.md], cwd?, env?, stdin?, parse?: text | json | lines, big_numbers? }
 *   output: { exit_code: 0, stdout, stderr, stderr_dropped_bytes? }
 *
 * 1. The task ends with everything that the command started (`process-tree.ts`): what is left of it is killed, after
 *    an abort and after a normal end.
 * 2. Abort sends SIGTERM to all of it, then SIGKILL after CANCEL_GRACE_MS; with `force` SIGKILL at once.
 * 3. stdout and stderr go line by line to the log, and are read no faster than the limits per interval allow. More than OUTPUT_BYTES_MAX on stdout ends the command. Of stderr
 *    the last STDERR_KEPT_BYTES are kept, however much it is; `stderr_dropped_bytes` says how much came before them.
 * 4. An exit code other than 0, or a signal, is `EXIT_CODE` (retryable) with the end of stderr.
 * 5. It inherits nothing that is open in this peer, and of its environment what `environment.ts` says.
 *
 * 6. Limits of the caller's policy end it as `LIMIT_EXCEEDED` (`confinement.ts`).
 *
 * The command finds the task's idempotency key in FLOWMESH_TASK_UID (the same at every attempt) and the attempt in
 * FLOWMESH_ATTEMPT.
 */
import { resolve } from 'node:path';
import { InvalidInputsError, parseInputs, type ShellInputs } from '../../dag/action-inputs.ts';
import { FlowmeshError, type JsonValue } from '../../dag/errors.ts';
import { jsonBytes, OUTPUT_BYTES_MAX } from '../../dag/limits.ts';
import { CANCEL_GRACE_MS } from '../../scheduler/limits.ts';
import type { ExecutionIO, ExecutionRequest } from '../../scheduler/ports.ts';
import type { Confinement, Limited } from '../processes/confinement.ts';
import type { WorkEnvironment } from '../processes/environment.ts';
import { MARK_VARIABLE } from '../processes/process-tree.ts';
import { type CommandEnd, CommandProcess } from './command-process.ts';
import { ActionAbortedError, InvalidOutputError, LimitExceededError, OutputTooLargeError } from './errors.ts';
import { parseJsonOutput } from './json-output.ts';
import type { KeptEnd } from './kept-output.ts';
import { SHOWN_CHARS_MAX, STDERR_KEPT_BYTES, STDERR_TAIL_CHARS_MAX, STDERR_TAIL_LINES } from './limits.ts';
import { CommandNotFoundError, resolveCommand, type ShellPolicy } from './shell-command.ts';

/** What the output holds beside stdout and stderr, as JSON. */
const OUTPUT_FRAME_BYTES = 256;

/** The command ended with another code than 0, or by a signal. */
class ExitCodeError extends FlowmeshError {
  constructor(command: string[], { code, signal }: CommandEnd, stderr: string) {
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
 * @throws InvalidInputsError, ActionNotAllowedError, CommandNotFoundError, ActionAbortedError, OutputTooLargeError,
 *   InvalidOutputError, ExitCodeError (`EXIT_CODE`), SpawnFailedError (`SPAWN_FAILED`), LimitExceededError
 */
export async function runShell(
  request: ExecutionRequest,
  io: ExecutionIO,
  policy: ShellPolicy,
  environment: WorkEnvironment,
  limited: Limited | null = null,
): Promise<JsonValue> {
  const payload = parseInputs('shell', request.payload);
  const file = await resolveCommand(payload.command[0]!, payload.env, policy);
  if (io.signal.aborted) throw new ActionAbortedError('shell');
  const confinement = limited?.keeper.confine(limited.limits) ?? null;
  const { running, end } = await runToEnd(file, payload, { request, io, environment, confinement });
  if (io.signal.aborted) throw new ActionAbortedError('shell');
  if (confinement?.exceeded) {
    throw new LimitExceededError(`"${payload.command[0]}"`, confinement.exceeded, confinement, limited!.place);
  }
  const { stdout, stderr } = running;
  if (stdout.tooLarge) throw new OutputTooLargeError(`stdout of "${payload.command[0]}"`);
  if (end.code !== 0) throw new ExitCodeError(payload.command, end, stderr.take().text);
  const parsed = parseOutput(stdout.text, payload);
  const { text, droppedBytes } = fittingEnd(stderr, parsed);
  return {
    exit_code: 0,
    stdout: parsed,
    stderr: withoutFinalNewline(text),
    ...(droppedBytes > 0 && { stderr_dropped_bytes: droppedBytes }),
  };
}

/** Beside a large stdout stderr gives way: the output is that of the program, not what it said about it. */
function fittingEnd(stderr: KeptEnd, stdout: JsonValue): { text: string; droppedBytes: number } {
  const room = OUTPUT_BYTES_MAX - OUTPUT_FRAME_BYTES - jsonBytes(stdout);
  for (let bytes = STDERR_KEPT_BYTES; bytes >= 1; bytes /= 2) {
    const end = stderr.take(Math.floor(bytes));
    if (jsonBytes(end.text) <= room) return end;
  }
  return stderr.take(0);
}

interface Start {
  request: ExecutionRequest;
  io: ExecutionIO;
  environment: WorkEnvironment;
  confinement: Confinement | null;
}

/** Runs the command to its end, or to that of `io.signal`. */
async function runToEnd(
  file: string,
  payload: ShellInputs,
  { request, io, environment, confinement }: Start,
): Promise<{ running: CommandProcess; end: CommandEnd }> {
  const { variables, mark } = environment.create();
  const { stdin } = payload;
  let onAbort = () => {};
  try {
    const running = new CommandProcess(
      {
        file,
        words: payload.command,
        cwd: resolve(payload.cwd ?? '.'),
        variables: {
          ...variables,
          ...payload.env,
          [MARK_VARIABLE]: mark,
          FLOWMESH_TASK_UID: request.uid,
          FLOWMESH_ATTEMPT: String(request.attempt),
        },
        mark,
        confinement,
        stdin: typeof stdin === 'string' || stdin === undefined ? stdin : JSON.stringify(stdin),
      },
      (stream, line) => io.log(stream, line),
    );
    onAbort = () => running.end(isForced(io.signal) ? 0 : CANCEL_GRACE_MS);
    io.signal.addEventListener('abort', onAbort, { once: true });
    const { staying, ...end } = await running.ended();
    if (staying.length > 0) io.log('log', `these processes of the command do not end: ${staying.join(', ')}`);
    return { running, end };
  } catch (error) {
    throw startError(payload, error as NodeJS.ErrnoException);
  } finally {
    io.signal.removeEventListener('abort', onAbort);
    await confinement?.close(null);
  }
}

function isForced(signal: AbortSignal): boolean {
  return (signal.reason as { force?: boolean } | undefined)?.force === true;
}

/** Why no process came to be. */
function startError(payload: ShellInputs, cause: NodeJS.ErrnoException): Error {
  const command = payload.command[0]!;
  const { code } = cause;
  if (code === 'ENOENT' && payload.cwd === undefined) return new CommandNotFoundError(command, cause);
  if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'EACCES') {
    const [path, what] = payload.cwd === undefined ? ['command', command] : ['cwd', `${command} in ${payload.cwd}`];
    return new InvalidInputsError('shell', [{ path, message: `cannot be used to start ${what} (${code})` }]);
  }
  if (code === 'E2BIG') {
    return new InvalidInputsError('shell', [{ path: 'command', message: 'is too long for this machine; use stdin' }]);
  }
  return new SpawnFailedError(command, cause.message, cause);
}

function parseOutput(stdout: string, payload: ShellInputs): JsonValue {
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
