/**
 * `fn:<name>`: the named exports of the user's modules (`--functions handlers.ts`), as actions.
 *
 *   // handlers.ts, TypeScript or JavaScript
 *   export async function resize(inputs, { uid, attempt, progress, log, signal }) {
 *     progress(50, 'half of it');
 *     return { width: inputs.width / 2 };
 *   }
 *
 * 1. Handlers run in child processes (`isolated-process.ts` says why not in threads), one at a time in each, so a
 *    handler that spins, crashes, exits or fills its memory fails its own task and no other.
 * 2. The processes are kept for the next run: modules are loaded once in each, and their state is not shared. A process
 *    in which something went wrong beside its run is replaced. One that ended before it called the handler has run
 *    nothing: another one does (P4).
 * 3. Abort reaches the handler as `signal`; when it has not ended after CANCEL_GRACE_MS (with `force`: at once), its
 *    process is killed with everything it started.
 * 4. A run with limits of the caller's policy has a process of its own, which is there for it alone.
 * 5. An exception is `FUNCTION_FAILED`, retryable unless it has `retryable: false`.
 *
 * Not a sandbox: a handler is code that the peer's operator chose, with the rights of the peer.
 */
import { availableParallelism } from 'node:os';
import { type ErrorShape, FlowmeshError, type JsonValue, RemoteError } from '../../dag/errors.ts';
import { CANCEL_GRACE_MS } from '../../scheduler/limits.ts';
import type { ExecutionIO, ExecutionRequest, Log } from '../../scheduler/ports.ts';
import { type Confinement, hasLimits, type Limited, type LimitName } from '../processes/confinement.ts';
import type { WorkEnvironment } from '../processes/environment.ts';
import { IsolatedProcess, type ProcessEnd } from '../processes/isolated-process.ts';
import { siblingModule } from '../sibling-module.ts';
import { ActionAbortedError, ExecutorsClosedError, LimitExceededError } from './errors.ts';
import { type FromFunctionProcess, readFromFunctionProcess } from './function-messages.ts';
import { parseJsonOutput } from './json-output.ts';
import {
  FUNCTION_BEGIN_MS,
  FUNCTION_MEMORY_MB,
  FUNCTION_PROCESSES_MAX,
  FUNCTION_STARTS_MAX,
  FUNCTIONS_LOAD_MS,
} from './limits.ts';

/** The user's modules cannot be used; the message names the file and why. The peer does not start. */
export class FunctionsInvalidError extends FlowmeshError {
  /** @param retryable they have loaded before: another process, or another peer, may load them */
  constructor(message: string, retryable = false) {
    super('FUNCTIONS_INVALID', `${message}; mend the module or leave it out of --functions (setting functions)`, {
      retryable,
    });
  }
}

/** The process ended under the handler: `process.exit`, an exception nobody caught, a crash. */
class FunctionExitedError extends FlowmeshError {
  constructor(name: string, end: ProcessEnd) {
    const last = end.stderr.trim();
    const what = end.outOfMemory
      ? `needs more than ${FUNCTION_MEMORY_MB} MB of memory`
      : `ended its process (${end.how})`;
    super(
      end.outOfMemory ? 'FUNCTION_OUT_OF_MEMORY' : 'FUNCTION_EXITED',
      `fn:${name} ${what}${end.outOfMemory || last === '' ? '' : `: ${last}`}`,
      { retryable: true, details: { stderr: last } },
    );
  }
}

interface Run {
  /** Counts in its process: what that says of an earlier run is of nobody. */
  number: number;
  name: string;
  io: ExecutionIO;
  /** The handler has been called, as far as it is known. */
  begun: boolean;
  resolve(output: JsonValue): void;
  reject(error: Error): void;
}

/** The process ended, or was kept busy by something else, before it called the handler. */
class NotBegunError extends FunctionExitedError {}

/** A process with the modules loaded, and what it runs now. */
class FunctionProcess {
  readonly #process: IsolatedProcess;
  readonly #limited: Limited | null;
  readonly #confinement: Confinement | null;
  readonly #loaded = Promise.withResolvers<string[]>();
  readonly #gone = Promise.withResolvers<void>();
  readonly #log: Log;
  #run: Run | null = null;
  #runs = 0;
  #isUsable = true;

  /** @param limited of the one run that it is for; null: it is kept for others */
  constructor(files: string[], environment: WorkEnvironment, log: Log, limited: Limited | null) {
    this.#log = log;
    this.#limited = limited;
    this.#confinement = limited?.keeper.confine(limited.limits) ?? null;
    this.#process = new IsolatedProcess({
      entry: siblingModule('function-process', import.meta.url),
      args: files,
      memoryMb: Math.min(FUNCTION_MEMORY_MB, limited?.limits.memory_mb ?? FUNCTION_MEMORY_MB),
      environment: environment.create(),
      confinement: this.#confinement,
      onMessage: (message) => this.#onMessage(readFromFunctionProcess(message)),
      onEnd: (end) => this.#onEnd(end),
    });
  }

  /** For another run. False from the kill on: the last answer of a run may come after it. */
  get isUsable(): boolean {
    return this.#isUsable;
  }

  /** The names of the handlers. @throws FunctionsInvalidError */
  async load(): Promise<string[]> {
    const timer = setTimeout(() => {
      this.#loaded.reject(new FunctionsInvalidError(`the modules did not load within ${FUNCTIONS_LOAD_MS} ms`));
      this.#kill();
    }, FUNCTIONS_LOAD_MS);
    try {
      return await this.#loaded.promise;
    } finally {
      clearTimeout(timer);
    }
  }

  /** @throws NotBegunError when another process is to run it */
  async run(name: string, request: ExecutionRequest, io: ExecutionIO): Promise<JsonValue> {
    const { promise, resolve, reject } = Promise.withResolvers<JsonValue>();
    const run: Run = { number: ++this.#runs, name, io, begun: false, resolve, reject };
    this.#run = run;
    this.#process.holdOpen(true);
    let grace: NodeJS.Timeout | undefined;
    const onAbort = () => {
      const force = (io.signal.reason as { force?: boolean } | undefined)?.force === true;
      if (force) this.#kill();
      else {
        this.#process.send({ type: 'abort', reason: { force } });
        grace = setTimeout(() => this.#kill(), CANCEL_GRACE_MS);
      }
    };
    io.signal.addEventListener('abort', onAbort, { once: true });
    const { uid, attempt, payload } = request;
    this.#process.send({ type: 'run', run: run.number, name, inputs: payload, uid, attempt });
    const stopWaiting = this.#expectBegin(run);
    try {
      return await promise;
    } finally {
      clearTimeout(grace);
      stopWaiting();
      io.signal.removeEventListener('abort', onAbort);
      this.#run = null;
      if (this.isUsable) this.#process.holdOpen(false);
    }
  }

  /** What an earlier run left behind may keep the process busy. @returns what ends the waiting */
  #expectBegin(run: Run): () => void {
    let timer: NodeJS.Timeout | undefined;
    let isOver = false;
    const giveUp = () => {
      if (!isOver && !run.begun) this.#kill();
    };
    const wait = () => {
      // After a stop of this peer, timers come before the answers that wait to be read.
      if (!isOver) timer = setTimeout(() => setImmediate(giveUp), FUNCTION_BEGIN_MS);
    };
    // Modules that do not load are told of in another way.
    this.#loaded.promise.then(wait, () => {});
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }

  close(): Promise<void> {
    // An idle one would not keep this process for as long as its end takes.
    this.#process.holdOpen(true);
    this.#kill();
    return this.#gone.promise;
  }

  #kill(): void {
    this.#isUsable = false;
    this.#process.kill();
  }

  #onMessage(message: FromFunctionProcess): void {
    const run = 'run' in message && message.run === this.#run?.number ? this.#run : null;
    switch (message.type) {
      case 'ready':
        this.#loaded.resolve(message.names);
        break;
      case 'broken':
        this.#loaded.reject(new FunctionsInvalidError(message.message));
        this.#run?.reject(new FunctionsInvalidError(message.message, true));
        this.#kill();
        break;
      case 'begun':
        if (run !== null) run.begun = true;
        break;
      case 'report':
        if (run !== null) tell(run.io, message);
        else for (const line of message.lines) this.#log.info(line, 'a module of --functions printed');
        break;
      case 'completed':
        if (run !== null) complete(run, message.json);
        break;
      case 'failed':
        run?.reject(new RemoteError(message.error as ErrorShape));
        break;
      case 'stray':
        this.#isUsable = false;
        this.#log.warn({ task: message.uid, error: message.message }, STRAY);
        break;
    }
  }

  /** The limit of its own that ended it. V8 is told of that of its memory, too, and ends by itself. */
  #limitOf({ outOfMemory }: ProcessEnd): LimitName | null {
    const { memory_mb = Number.POSITIVE_INFINITY } = this.#confinement?.limits ?? {};
    const isHeap = outOfMemory && memory_mb <= FUNCTION_MEMORY_MB;
    return this.#confinement?.exceeded ?? (isHeap ? 'memory_mb' : null);
  }

  #onEnd(end: ProcessEnd): void {
    this.#isUsable = false;
    this.#loaded.reject(new FunctionsInvalidError(`the modules ended their process (${end.how}) ${end.stderr.trim()}`));
    const run = this.#run;
    const limit = this.#limitOf(end);
    if (run === null) this.#log.debug({ how: end.how }, 'an idle process for functions ended');
    else if (limit !== null) {
      run.reject(new LimitExceededError(`fn:${run.name}`, limit, this.#confinement!, this.#limited!.place));
    } else run.reject(run.begun ? new FunctionExitedError(run.name, end) : new NotBegunError(run.name, end));
    this.#gone.resolve();
  }
}

/** The code of a handler can write to the peer too: what it says is JSON like that of any program. */
function complete(
  run: { name: string; resolve(output: JsonValue): void; reject(error: Error): void },
  json: string,
): void {
  try {
    run.resolve(parseJsonOutput(json, `the output of fn:${run.name}`));
  } catch (error) {
    // No JSON at all did not come from the code that speaks for handlers: the process is ended for it.
    if (!(error instanceof FlowmeshError)) throw error;
    run.reject(error);
  }
}

const STRAY =
  'an error that nobody caught came from code of a handler that is over, or from its module; no task fails by it, and the process is replaced';

function tell(io: ExecutionIO, { lines, progress }: FromFunctionProcess & { type: 'report' }): void {
  for (const { stream, line } of lines) io.log(stream, line);
  if (progress !== null) io.progress(progress.percent, progress.message);
}

/** The `fn:` actions with their processes. */
export class Functions {
  readonly #files: string[];
  readonly #environment: WorkEnvironment;
  readonly #log: Log;
  readonly #all = new Set<FunctionProcess>();
  readonly #idle: FunctionProcess[] = [];
  /** Runs that wait for a process, oldest first. */
  readonly #waiting: (() => void)[] = [];
  #closed = false;
  /** Names of the handlers, without `fn:`. */
  names: string[] = [];

  private constructor(files: string[], environment: WorkEnvironment, log: Log) {
    this.#files = files;
    this.#environment = environment;
    this.#log = log;
  }

  /**
   * Loads the modules once, so that what is broken is known at start.
   *
   * @throws FunctionsInvalidError naming the file
   */
  static async load(files: string[], environment: WorkEnvironment, log: Log): Promise<Functions> {
    const functions = new Functions(files, environment, log);
    if (files.length === 0) return functions;
    try {
      const first = functions.#start();
      functions.names = await first.load();
      functions.#release(first);
      return functions;
    } catch (error) {
      await functions.close();
      throw error;
    }
  }

  /** @throws ActionAbortedError, ExecutorsClosedError, RemoteError (`FUNCTION_FAILED`, …), FunctionExitedError */
  async run(
    name: string,
    request: ExecutionRequest,
    io: ExecutionIO,
    limited: Limited | null = null,
  ): Promise<JsonValue> {
    const own = limited !== null && hasLimits(limited.limits) ? limited : null;
    for (let starts = 1; ; starts += 1) {
      const process = await this.#acquire(io.signal, own);
      try {
        if (io.signal.aborted) throw new ActionAbortedError(request.action);
        const output = await process.run(name, request, io);
        if (io.signal.aborted) throw new ActionAbortedError(request.action);
        return output;
      } catch (error) {
        if (io.signal.aborted) throw new ActionAbortedError(request.action);
        if (this.#closed) throw new ExecutorsClosedError();
        if (!(error instanceof NotBegunError) || starts === FUNCTION_STARTS_MAX) throw error;
      } finally {
        if (own === null) this.#release(process);
        else await this.#remove(process);
      }
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#wake();
    await Promise.all([...this.#all].map((each) => each.close()));
  }

  /** @param own the limits of a process for this run alone; null: any that is idle will do */
  async #acquire(signal: AbortSignal, own: Limited | null): Promise<FunctionProcess> {
    for (;;) {
      if (this.#closed) throw new ExecutorsClosedError();
      if (signal.aborted) throw new ActionAbortedError('fn');
      const isFull = this.#all.size >= FUNCTION_PROCESSES_MAX;
      const idle = own === null || isFull ? this.#idle.pop() : undefined;
      if (own === null && idle?.isUsable) return idle;
      if (idle !== undefined) void this.#remove(idle);
      else if (!isFull) return this.#start(own);
      else await this.#turn(signal);
    }
  }

  /** Resolves when a process may be free, or the run is aborted. */
  async #turn(signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.push(resolve);
    const onAbort = () => resolve();
    signal.addEventListener('abort', onAbort, { once: true });
    await promise;
    signal.removeEventListener('abort', onAbort);
    const place = this.#waiting.indexOf(resolve);
    if (place !== -1) this.#waiting.splice(place, 1);
  }

  #start(own: Limited | null = null): FunctionProcess {
    const started = new FunctionProcess(this.#files, this.#environment, this.#log, own);
    // A module that loads no more is the error of the run that needed this process: its own message says so.
    started.load().catch((error: Error) => this.#log.warn({ error: error.message }, 'a process for functions failed'));
    this.#all.add(started);
    return started;
  }

  #release(process: FunctionProcess): void {
    const isNeeded = this.#idle.length < availableParallelism() || this.#waiting.length > 0;
    if (!process.isUsable || !isNeeded) {
      void this.#remove(process);
      return;
    }
    this.#idle.push(process);
    this.#waiting.shift()?.();
  }

  /** Resolves when nothing of it is left. */
  async #remove(process: FunctionProcess): Promise<void> {
    this.#all.delete(process);
    this.#waiting.shift()?.();
    await process.close();
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}
