/**
 * The process that runs `fn:` handlers: loads the user's modules, says which handlers they have, then runs one at a
 * time. `argv`: the peer's pid, then the module files. What a handler prints becomes the log of its task.
 *
 * A handler may go on after its end: a timer, a promise that nobody waits for. What it does then is told apart from
 * the run that is under way by the context it was started in, and is never counted against that one: an error that
 * nobody caught ends its own run, or, when that is over, only has this process replaced after the run under way.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { cutText, ERROR_MESSAGE_CHARS_MAX, type ErrorShape } from '../../dag/errors.ts';
import { OUTPUT_BYTES_MAX } from '../../dag/limits.ts';
import { encodeJson, NotJsonError } from '../processes/json-result.ts';
import { listenToPeer, sendToPeer } from '../processes/parent-channel.ts';
import { watchParent } from '../processes/parent-watch.ts';
import { ActionAbortedError, InvalidOutputError, OutputTooLargeError } from './errors.ts';
import { type Handlers, loadHandlers } from './function-handlers.ts';
import type { FromFunctionProcess, ToFunctionProcess } from './function-messages.ts';
import { Reports } from './function-reports.ts';
import type { FunctionContext } from './handler.ts';
import { describeThrown } from './thrown.ts';

interface Run {
  request: ToFunctionProcess & { type: 'run' };
  abort: AbortController;
  reports: Reports;
}

const endProcess = process.exit.bind(process);
/** The run that code belongs to; undefined for the modules themselves. */
const origin = new AsyncLocalStorage<Run>();
const outside = new Reports(null, send);
let current: Run | null = null;
let isLoaded = false;
/** A stray error came while another run was under way: its end is the end of this process. */
let isRetired = false;

watchParent(Number(process.argv[2]));
capturePrinted('stdout');
capturePrinted('stderr');
process.exit = exitOf;
process.on('uncaughtException', onUncaught);
process.on('unhandledRejection', onUncaught);
const loaded = load(process.argv.slice(3));
listenToPeer((message) => onMessage(message as ToFunctionProcess));

function onMessage(message: ToFunctionProcess): void {
  if (message.type === 'abort') current?.abort.abort(message.reason);
  else void run(message);
}

/** Null when they cannot be used: the peer has been told. */
async function load(files: string[]): Promise<Handlers | null> {
  try {
    const handlers = await loadHandlers(files);
    isLoaded = true;
    send({ type: 'ready', names: [...handlers.keys()] });
    return handlers;
  } catch (error) {
    broken(describeThrown(error).message);
    return null;
  }
}

function broken(message: string): void {
  outside.end();
  send({ type: 'broken', message: cutText(message) });
}

async function run(request: ToFunctionProcess & { type: 'run' }): Promise<void> {
  if (isRetired) return;
  const { name, inputs } = request;
  const mine: Run = { request, abort: new AbortController(), reports: new Reports(request.run, send) };
  current = mine;
  // A run may be asked for while the modules still load.
  const handlers = await loaded;
  if (handlers === null) return;
  send({ type: 'begun', run: request.run });
  try {
    if (mine.abort.signal.aborted) throw new ActionAbortedError(`fn:${name}`);
    const output = await origin.run(mine, async () => await handlers.get(name)!(inputs, contextOf(mine)));
    end(mine, { type: 'completed', run: request.run, json: encodeJson(output, OUTPUT_BYTES_MAX) });
  } catch (error) {
    end(mine, { type: 'failed', run: request.run, error: shapeOf(name, error) });
  }
}

function contextOf(run: Run): FunctionContext {
  return {
    uid: run.request.uid,
    attempt: run.request.attempt,
    signal: run.abort.signal,
    progress: (percent, message) => {
      if (isCurrent(run)) run.reports.progress(percent, message);
    },
    log: (line) => (isCurrent(run) ? run.reports : outside).log(line),
  };
}

function isCurrent(run: Run | undefined): boolean {
  return run !== undefined && run === current;
}

function end(run: Run, message: FromFunctionProcess): void {
  if (!isCurrent(run)) return;
  current = null;
  run.reports.end();
  send(message);
  if (isRetired) endProcess(1);
}

function shapeOf(name: string, error: unknown): ErrorShape {
  if (isA(error, ActionAbortedError)) return error.toShape();
  if (isA(error, NotJsonError)) {
    return error.tooLarge
      ? new OutputTooLargeError(`the output of fn:${name}`).toShape()
      : new InvalidOutputError(`the output of fn:${name} is not JSON: ${error.message}`).toShape();
  }
  const { message, ...rest } = describeThrown(error);
  return { code: 'FUNCTION_FAILED', message: `fn:${name} failed: ${message}`, ...rest };
}

function isA<T>(value: unknown, type: new (...args: never[]) => T): value is T {
  try {
    return value instanceof type;
  } catch {
    // A proxy whose own code does not let it be asked.
    return false;
  }
}

/** Whose error it is says the context it was thrown in. */
function onUncaught(error: unknown): void {
  const from = origin.getStore();
  const { message, ...rest } = describeThrown(error);
  if (!isLoaded) {
    broken(`they threw while they were loaded: ${message}`);
    endProcess(1);
  }
  if (from !== undefined && isCurrent(from)) {
    const { run, name } = from.request;
    const words = `fn:${name} ended its process by an error that nobody caught: ${message}`;
    isRetired = true;
    end(from, { type: 'failed', run, error: { code: 'FUNCTION_EXITED', message: words, ...rest } });
    return;
  }
  // The first one says enough, where they come one after the other.
  if (isRetired) return;
  isRetired = true;
  send({ type: 'stray', uid: from?.request.uid ?? null, message: cutText(message, ERROR_MESSAGE_CHARS_MAX) });
  if (current === null) endProcess(1);
}

/** A run may end the process that it runs in; one that is over may not end it under another. */
function exitOf(code?: number | string | null): never {
  const from = origin.getStore();
  if (isLoaded && current !== null && !isCurrent(from)) {
    throw new Error(`process.exit(${code ?? ''}) was called under a run that is not its own`);
  }
  current?.reports.end();
  return endProcess(code);
}

/** On the same channel as the result, what was printed comes before it. */
function capturePrinted(stream: 'stdout' | 'stderr'): void {
  process[stream].write = ((chunk: Uint8Array | string, encoding?: unknown, callback?: unknown): boolean => {
    const done = typeof encoding === 'function' ? encoding : callback;
    const from = origin.getStore();
    (from !== undefined && isCurrent(from) ? from.reports : outside).print(stream, chunk);
    if (typeof done === 'function') process.nextTick(done);
    return true;
  }) as typeof process.stdout.write;
}

function send(message: FromFunctionProcess): void {
  sendToPeer(message);
}
