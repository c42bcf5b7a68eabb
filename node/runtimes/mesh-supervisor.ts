/**
 * The mesh side on a thread of its own, kept running.
 *
 * 1. A call is posted at most once, to one thread. Calls that were posted to a thread that ended fail as
 *    MESH_RESTARTED, since nobody knows what became of them; calls that were not posted yet wait for the next thread.
 * 2. A thread that ends unasked is started again on the same folder and ports, at most MESH_RESTARTS_MAX times in
 *    MESH_RESTART_WINDOW_MS; then every call fails as MESH_DOWN and `failed` resolves.
 * 3. A first start that fails is not tried again: its error is the answer.
 * 4. What a thread worked on when it crashed is on the disk before the next one begins (`crash-file.ts`).
 */
import { Worker } from 'node:worker_threads';
import { type ErrorShape, errorShape, type JsonObject, RemoteError } from '../../dag/errors.ts';
import { StoppedError } from '../../scheduler/errors.ts';
import type { Log } from '../../scheduler/ports.ts';
import type { Config } from '../config/settings.ts';
import type { KnownKey } from '../membership/api-key.ts';
import type { MeshRequest } from '../membership/requests.ts';
import { siblingModule } from '../sibling-module.ts';
import { BatchPort } from './batch-port.ts';
import { noteCrash } from './crash-file.ts';
import { orAborted } from './deadline.ts';
import { MeshDownError, MeshRestartedError, MeshStartTimeoutError, UnclonableError } from './errors.ts';
import {
  LARGE_INPUT_CHARS,
  MESH_RESTART_DELAY_MAX_MS,
  MESH_RESTART_DELAY_MS,
  MESH_RESTART_WINDOW_MS,
  MESH_RESTARTS_MAX,
  MESH_START_DEADLINE_MS,
  MESH_STOP_DEADLINE_MS,
  STATE_DEADLINE_MS,
  THREAD_EXIT_GRACE_MS,
} from './limits.ts';
import type { CallOptions, Drained, MeshInfo, MeshLink, MeshState } from './mesh-link.ts';
import type { Carried, FromMesh, MeshThreadData, ToMesh } from './port-messages.ts';
import { WorkedOnLeases } from './worked-on.ts';

/** Named in the line of a crash. */
const TASKS_LOGGED_MAX = 8;
const MESH_THREAD = siblingModule('mesh-thread', import.meta.url);

/** What waits for an answer of the thread. */
interface Waiting {
  tool: string;
  resolve(value: JsonObject | MeshState): void;
  reject(error: Error): void;
}

/** One thread, from its start to its end. */
interface Thread {
  worker: Worker;
  port: BatchPort<ToMesh, FromMesh>;
  info: MeshInfo;
  waiting: Map<number, Waiting>;
  ended: Promise<void>;
}

export interface SupervisorOptions {
  config: Config;
  log: Log;
  /** The module that the thread runs. Default: mesh-thread. */
  entry?: URL | undefined;
  /** Told the keys of callers, before `start` resolves and whenever they change. */
  onKeys?: ((keys: KnownKey[]) => void) | undefined;
}

export class MeshSupervisor implements MeshLink {
  readonly failed: Promise<Error>;
  restarts = 0;

  readonly #options: SupervisorOptions;
  readonly #fail: (error: Error) => void;
  /** The running thread, or the one being started. Rejects when there will be none any more. */
  #up!: Promise<Thread>;
  #thread: Thread | undefined;
  /** The one that is being started, or runs. */
  #worker: Worker | undefined;
  #asked: Promise<MeshState> | undefined;
  #lastInfo!: MeshInfo;
  #nextId = 1;
  #recentCrashesMs: number[] = [];
  #lastCrash: unknown;
  #stopping = false;
  readonly #cancelDelay = new AbortController();

  private constructor(options: SupervisorOptions) {
    this.#options = options;
    const failed = Promise.withResolvers<Error>();
    this.failed = failed.promise;
    this.#fail = failed.resolve;
  }

  /** Resolves when the mesh side is up. @throws what kept it from starting */
  static async start(options: SupervisorOptions): Promise<MeshSupervisor> {
    const supervisor = new MeshSupervisor(options);
    supervisor.#up = supervisor.#startThread(options.config);
    await supervisor.#up;
    return supervisor;
  }

  get info(): MeshInfo {
    return this.#lastInfo;
  }

  async call(
    tool: string,
    input: unknown,
    { signal, deadlineMs, checked = false, caller }: CallOptions,
  ): Promise<JsonObject> {
    if (this.#stopping) throw new StoppedError();
    const since = performance.now();
    const thread = await orAborted(signal, this.#up);
    const id = this.#nextId++;
    const answer = this.#expect<JsonObject>(thread, id, tool);
    // What was spent waiting for the thread is gone from the call's time.
    const deadline_ms = Math.max(1, deadlineMs - (performance.now() - since));
    thread.port.post({ kind: 'call', id, tool, input: carried(input), deadline_ms, checked, caller });
    const onAbort = () => thread.port.post({ kind: 'abort', id, error: errorShape(signal.reason) });
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      return await answer;
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  state(): Promise<MeshState> {
    // One question at a time: a loop that hangs must not collect those of everyone who probes it (P7).
    this.#asked ??= this.#askState().finally(() => {
      this.#asked = undefined;
    });
    return orAborted(AbortSignal.timeout(STATE_DEADLINE_MS), this.#asked);
  }

  async #askState(): Promise<MeshState> {
    const thread = await this.#up;
    const id = this.#nextId++;
    const answer = this.#expect<MeshState>(thread, id, 'state');
    thread.port.post({ kind: 'state', id });
    return answer;
  }

  async drain(waitMs: number): Promise<Drained> {
    const thread = await this.#up;
    const id = this.#nextId++;
    const answer = this.#expect<JsonObject>(thread, id, 'drain');
    thread.port.post({ kind: 'drain', id, wait_ms: waitMs });
    return (await answer) as unknown as Drained;
  }

  async meshRequest(request: MeshRequest, input: unknown): Promise<JsonObject> {
    const thread = await this.#up;
    const id = this.#nextId++;
    const answer = this.#expect<JsonObject>(thread, id, request);
    thread.port.post({ kind: 'mesh_request', id, request, input });
    return await answer;
  }

  /** @throws CLOSE_FAILED when the mesh side did not close cleanly; its thread is ended all the same */
  async stop(): Promise<void> {
    if (this.#stopping) return;
    this.#stopping = true;
    this.#cancelDelay.abort();
    const thread = this.#thread;
    if (thread === undefined) {
      // It is only starting: nothing to hand over, and a start can be cut off anywhere as a crash can.
      await this.#worker?.terminate();
      return;
    }
    const stopped = this.#expect<JsonObject>(thread, STOP_ID, 'stop');
    thread.port.post({ kind: 'stop' });
    const tooLate = setTimeout(() => void thread.worker.terminate(), MESH_STOP_DEADLINE_MS);
    try {
      await stopped;
    } finally {
      clearTimeout(tooLate);
      const lingering = setTimeout(() => void thread.worker.terminate(), THREAD_EXIT_GRACE_MS);
      await thread.ended;
      clearTimeout(lingering);
    }
  }

  /** Ends the thread at once, as a crash would. For tests. */
  async crash(): Promise<void> {
    await this.#thread?.worker.terminate();
  }

  #expect<T extends JsonObject | MeshState>(thread: Thread, id: number, tool: string): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    thread.waiting.set(id, { tool, resolve: resolve as Waiting['resolve'], reject });
    return promise;
  }

  #startThread(config: Config): Promise<Thread> {
    const { entry = MESH_THREAD } = this.#options;
    const workerData: MeshThreadData = { config };
    // stdout of the thread is captured: what a library prints must not get between the lines of MCP (P10).
    const worker = new Worker(entry, { workerData, name: 'flowmesh mesh', stdout: true });
    this.#worker = worker;
    worker.stdout.pipe(process.stderr, { end: false });

    const started = Promise.withResolvers<Thread>();
    const ended = Promise.withResolvers<void>();
    const waiting = new Map<number, Waiting>();
    const workedOn = new WorkedOnLeases();
    let crash: unknown;

    const port = new BatchPort<ToMesh, FromMesh>(worker, {
      onMessage: (message) => {
        if (message.kind === 'started') {
          clearTimeout(tooLate);
          this.#thread = { worker, port, info: message.info, waiting, ended: ended.promise };
          this.#lastInfo = message.info;
          started.resolve(this.#thread);
        } else if (message.kind === 'start_failed') crash = new RemoteError(message.error);
        else if (message.kind === 'began' || message.kind === 'ending') workedOn[message.kind](message.leases);
        else if (message.kind === 'over') workedOn.over(message.leases);
        else if (message.kind === 'keys') this.#options.onKeys?.(message.keys);
        else settle(waiting, message);
      },
      onUnclonable: (message, error) => {
        if ('id' in message)
          settle(waiting, { kind: 'error', id: message.id, error: errorShape(new UnclonableError(error)) });
      },
    });
    const tooLate = setTimeout(() => {
      crash = new MeshStartTimeoutError(MESH_START_DEADLINE_MS);
      void worker.terminate();
    }, MESH_START_DEADLINE_MS);
    worker.on('error', (error) => {
      crash = error;
    });
    worker.on('exit', (code) => {
      clearTimeout(tooLate);
      ended.resolve();
      crash ??= new Error(`its thread ended with code ${code}`);
      started.reject(crash);
      const wasUp = this.#thread?.worker === worker;
      if (wasUp) this.#thread = undefined;
      for (const each of waiting.values()) each.reject(new MeshRestartedError(each.tool));
      waiting.clear();
      if (!this.#stopping && !(crash instanceof RemoteError)) this.#crashed(crash, workedOn);
      // The end of a thread that never was up is the business of whoever started it.
      if (wasUp && !this.#stopping) {
        this.#up = this.#restart();
        this.#up.catch(() => {}); // Every call that waits for it gets the error; with none there is nobody to tell.
      }
    });
    return started.promise;
  }

  #crashed(cause: unknown, workedOn: WorkedOnLeases): void {
    const { log, config } = this.#options;
    this.#lastCrash = cause;
    const blamed = workedOn.blamed(this.#recentCrashes().length + 1);
    const tasks = blamed.slice(0, TASKS_LOGGED_MAX).map(({ uid }) => uid);
    log.error({ err: cause, tasks, tasks_total: blamed.length }, 'the mesh loop crashed');
    noteCrash(config.data_dir, blamed, log);
  }

  #recentCrashes(): number[] {
    const now = performance.now();
    this.#recentCrashesMs = this.#recentCrashesMs.filter((at) => now - at < MESH_RESTART_WINDOW_MS);
    return this.#recentCrashesMs;
  }

  async #restart(): Promise<Thread> {
    for (;;) {
      const crashes = this.#recentCrashes().push(performance.now());
      if (crashes > MESH_RESTARTS_MAX) throw this.#giveUp(crashes - 1);
      if (crashes > 1)
        await this.#delay(Math.min(MESH_RESTART_DELAY_MS * 2 ** (crashes - 2), MESH_RESTART_DELAY_MAX_MS));
      if (this.#stopping) throw new StoppedError();
      try {
        this.restarts += 1;
        const thread = await this.#startThread(onSamePorts(this.#options.config, this.#lastInfo.addresses));
        this.#options.log.info({ restarts: this.restarts }, 'the mesh loop is up again');
        return thread;
      } catch (error) {
        this.#options.log.error({ err: error }, 'the mesh loop could not be started again');
        this.#lastCrash = error;
      }
    }
  }

  #giveUp(restarts: number): MeshDownError {
    const down = new MeshDownError(restarts, this.#lastCrash);
    this.#fail(down);
    return down;
  }

  #delay(delayMs: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, delayMs);
    this.#cancelDelay.signal.addEventListener('abort', () => resolve(), { once: true });
    return promise.finally(() => clearTimeout(timer));
  }
}

type Answer = Extract<FromMesh, { kind: 'output' | 'error' | 'state' | 'stopped' }>;

/** The answer to `stop` carries no id; ids of calls begin at 1. */
const STOP_ID = 0;

function settle(waiting: Map<number, Waiting>, message: Answer): void {
  const id = message.kind === 'stopped' ? STOP_ID : message.id;
  const each = waiting.get(id);
  waiting.delete(id);
  if (message.kind === 'output') each?.resolve(carriedValue(message.output));
  else if (message.kind === 'state') each?.resolve(message.state);
  else if (message.kind === 'error') each?.reject(new RemoteError(message.error));
  else settleStop(each, message.error);
}

function carriedValue(output: Carried<JsonObject>): JsonObject {
  return 'text' in output ? (JSON.parse(output.text) as JsonObject) : output.value;
}

function settleStop(each: Waiting | undefined, error: ErrorShape | null): void {
  if (error === null) each?.resolve({});
  else each?.reject(new RemoteError(error));
}

/** Addresses with a free port (`tcp/0`) get the port of the last run, so that other peers find this one again. */
function onSamePorts(config: Config, addresses: string[]): Config {
  const port = addresses.map((address) => /\/tcp\/(\d+)/.exec(address)?.[1]).find((found) => found !== undefined);
  if (port === undefined) return config;
  return { ...config, listen: config.listen.map((address) => address.replace(/\/tcp\/0(?=\/|$)/, `/tcp/${port}`)) };
}

function carried(value: unknown): { value: unknown } | { text: string } {
  const text = JSON.stringify(value) ?? '';
  return text.length > LARGE_INPUT_CHARS ? { text } : { value };
}
