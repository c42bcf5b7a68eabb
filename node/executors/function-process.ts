/**
 * The process that runs `fn:` handlers: loads the user's modules, says which handlers they have, then runs one at a
 * time. `argv`: the peer's pid, then the module files. What a handler prints becomes the log of its task.
 */
import { existsSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import type { ErrorShape, JsonObject } from '../../dag/errors.ts';
import { OUTPUT_BYTES_MAX } from '../../dag/limits.ts';
import { LOG_LINES_MAX } from '../../scheduler/limits.ts';
import type { LogLine } from '../../scheduler/records.ts';
import { encodeJson, NotJsonError } from '../expressions/json-result.ts';
import { ActionAbortedError, InvalidOutputError, OutputTooLargeError } from './errors.ts';
import type { FromFunctionProcess, ToFunctionProcess } from './function-messages.ts';
import type { FunctionContext, FunctionHandler } from './functions.ts';
import { ERROR_CHARS_MAX, REPORT_INTERVAL_MS, REPORTS_PER_INTERVAL_MAX } from './limits.ts';
import { LineSplitter } from './lines.ts';
import { watchParent } from './parent-watch.ts';

const STACK_LINES_MAX = 10;

/**
 * Logs and progress. They leave at once, so that the last words of a handler that spins are heard; a flood is sent
 * together now and then, of too many lines the last ones.
 */
class Reports {
  #lines: { stream: LogLine['stream']; line: string }[] = [];
  #progress: { percent: number; message: string | undefined } | null = null;
  #intervalStart = 0;
  #sentInInterval = 0;
  #timer: NodeJS.Timeout | undefined;
  readonly #printed = (['stdout', 'stderr'] as const).map((stream) => captureStream(stream, this));

  line(stream: LogLine['stream'], line: string): void {
    this.#lines.push({ stream, line });
    if (this.#lines.length > 2 * LOG_LINES_MAX) this.#lines.splice(0, LOG_LINES_MAX);
    this.#due();
  }

  progress(percent: number, message: string | undefined): void {
    this.#progress = { percent, message };
    this.#due();
  }

  /** The run ended: everything goes out, a line without its newline too. */
  end(): void {
    for (const each of this.#printed) each.end();
    this.#send();
  }

  #due(): void {
    const now = performance.now();
    if (now - this.#intervalStart >= REPORT_INTERVAL_MS) {
      this.#intervalStart = now;
      this.#sentInInterval = 0;
    }
    if (this.#sentInInterval < REPORTS_PER_INTERVAL_MAX) this.#send();
    else this.#timer ??= setTimeout(() => this.#send(), this.#intervalStart + REPORT_INTERVAL_MS - now).unref();
  }

  #send(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#lines.length === 0 && this.#progress === null) return;
    send({ type: 'report', lines: this.#lines.slice(-LOG_LINES_MAX), progress: this.#progress });
    this.#lines = [];
    this.#progress = null;
    this.#sentInInterval += 1;
  }
}

/** On the same channel as the result, what was printed comes before it. */
function captureStream(stream: 'stdout' | 'stderr', reports: Reports): LineSplitter {
  const splitter = new LineSplitter((line) => reports.line(stream, line));
  process[stream].write = ((chunk: Uint8Array | string, encoding?: unknown, callback?: unknown): boolean => {
    const done = typeof encoding === 'function' ? encoding : callback;
    splitter.push(typeof chunk === 'string' ? Buffer.from(chunk) : Buffer.from(chunk));
    if (typeof done === 'function') process.nextTick(done);
    return true;
  }) as typeof process.stdout.write;
  return splitter;
}

const reports = new Reports();
const handlers = new Map<string, { handler: FunctionHandler; file: string }>();
let current: AbortController | null = null;

watchParent(Number(process.argv[2]));
process.on('message', (message: ToFunctionProcess) => {
  if (message.type === 'run') void run(message);
  else current?.abort(message.reason);
});
const loaded = load(process.argv.slice(3));

/** Resolves to whether handlers can be called. */
async function load(files: string[]): Promise<boolean> {
  try {
    for (const file of files) await loadModule(file);
    send({ type: 'ready', names: [...handlers.keys()] });
    return true;
  } catch (error) {
    reports.end();
    send({ type: 'broken', message: error instanceof Error ? error.message : String(error) });
    return false;
  }
}

async function loadModule(file: string): Promise<void> {
  let module: Record<string, unknown>;
  try {
    module = await import(pathToFileURL(file).href);
  } catch (error) {
    if (!existsSync(file)) throw new Error(`${file}: there is no such file`, { cause: error });
    throw new Error(`${file}: ${error instanceof Error ? `${error.name}: ${error.message}` : String(error)}`, {
      cause: error,
    });
  }
  const names = Object.keys(module).filter((name) => name !== 'default' && isHandler(module[name]));
  if (names.length === 0) throw new Error(`${file}: exports no function by name (a default export has none)`);
  for (const name of names) {
    const other = handlers.get(name);
    if (other !== undefined) throw new Error(`${file}: exports "${name}", which ${other.file} exports too`);
    handlers.set(name, { handler: module[name] as FunctionHandler, file });
  }
}

/** A class is a function that cannot be called. */
function isHandler(value: unknown): boolean {
  return typeof value === 'function' && !/^class\b/.test(Function.prototype.toString.call(value));
}

async function run({ name, inputs, uid, attempt }: ToFunctionProcess & { type: 'run' }): Promise<void> {
  const controller = new AbortController();
  current = controller;
  const context: FunctionContext = {
    uid,
    attempt,
    signal: controller.signal,
    progress: (percent, message) =>
      reports.progress(
        Math.min(100, Math.max(0, Number(percent) || 0)),
        message === undefined ? undefined : `${message}`,
      ),
    log: (line) => {
      for (const each of String(line).split('\n')) reports.line('log', each);
    },
  };
  // A run may be asked for while the modules still load; when they cannot, the peer has been told and ends this.
  if (!(await loaded)) return;
  let end: FromFunctionProcess;
  try {
    if (controller.signal.aborted) throw new ActionAbortedError(`fn:${name}`);
    end = { type: 'completed', json: encodeJson(await call(name, inputs, context), OUTPUT_BYTES_MAX) };
  } catch (error) {
    end = { type: 'failed', error: shapeOf(name, error) };
  }
  current = null;
  reports.end();
  send(end);
}

async function call(name: string, inputs: JsonObject, context: FunctionContext): Promise<unknown> {
  return await handlers.get(name)!.handler(inputs, context);
}

function shapeOf(name: string, error: unknown): ErrorShape {
  if (error instanceof ActionAbortedError) return error.toShape();
  if (error instanceof NotJsonError) {
    return error.tooLarge
      ? new OutputTooLargeError(`the output of fn:${name}`).toShape()
      : new InvalidOutputError(`the output of fn:${name} is not JSON: ${error.message}`).toShape();
  }
  const thrown = error as { message?: unknown; name?: unknown; code?: unknown; retryable?: unknown; stack?: unknown };
  const isObject = typeof error === 'object' && error !== null;
  const details: JsonObject = {};
  if (isObject && typeof thrown.name === 'string') details['error_name'] = thrown.name;
  if (isObject && typeof thrown.code === 'string') details['error_code'] = thrown.code;
  if (isObject && typeof thrown.stack === 'string') {
    details['stack'] = thrown.stack.split('\n').slice(0, STACK_LINES_MAX).join('\n').slice(0, ERROR_CHARS_MAX);
  }
  const message = isObject && thrown.message !== undefined ? thrown.message : error;
  return {
    code: 'FUNCTION_FAILED',
    message: `fn:${name} failed: ${String(message).slice(0, ERROR_CHARS_MAX)}`,
    retryable: isObject && typeof thrown.retryable === 'boolean' ? thrown.retryable : true,
    details,
  };
}

function send(message: FromFunctionProcess): void {
  // Without a channel the peer is gone, and this process ends.
  if (process.connected) process.send!(message);
}
