/**
 * The Executors port in memory, for the simulation: `echo`, and behaviours given as functions. Time passes only on
 * the clock that is handed in.
 *
 *   const executors = new MemoryExecutors({
 *     clock,
 *     behaviours: { work: async (request, { after }) => { await after(50); return request.payload; } },
 *   });
 */
import { FlowmeshError, type JsonObject, type JsonValue } from '../../dag/errors.ts';
import { ActionAbortedError, UnknownActionError } from '../../node/executors/errors.ts';
import { CANCEL_GRACE_MS } from '../../scheduler/limits.ts';
import type { Clock, ExecutionIO, ExecutionRequest, Executors } from '../../scheduler/ports.ts';

export interface BehaviourIO extends ExecutionIO {
  /** Resolves after `delayMs` of the clock; rejects when the run is aborted. */
  after(delayMs: number): Promise<void>;
}

/** What an action does. Throw a FlowmeshError to fail; `retryable` decides about another attempt. */
export type Behaviour = (request: ExecutionRequest, io: BehaviourIO) => JsonValue | Promise<JsonValue>;

export interface MemoryExecutorsOptions {
  clock: Clock;
  /** By action; `echo` is always there. */
  behaviours?: Record<string, Behaviour>;
  /** Default: nothing is said to be allowed. */
  allows?: string[];
  /** What the policy says; default: nothing against it. */
  refuses?: Executors['refuses'];
}

export class MemoryExecutors implements Executors {
  readonly #clock: Clock;
  readonly #behaviours: Map<string, Behaviour>;
  readonly #allowed: string[];
  readonly refuses: Executors['refuses'];

  constructor({ clock, behaviours = {}, allows = [], refuses = () => null }: MemoryExecutorsOptions) {
    this.#clock = clock;
    this.#allowed = allows;
    this.refuses = refuses;
    this.#behaviours = new Map<string, Behaviour>([
      ['echo', (request) => request.payload],
      ...Object.entries(behaviours),
    ]);
  }

  actions(): string[] {
    return [...this.#behaviours.keys()];
  }

  allows(): string[] {
    return this.#allowed;
  }

  /** What the payload says in `needs`. */
  needs(_action: string, payload: JsonObject): string[] {
    const { needs } = payload;
    return Array.isArray(needs) ? needs.map(String) : [];
  }

  async run(request: ExecutionRequest, io: ExecutionIO): Promise<JsonValue> {
    const behaviour = this.#behaviours.get(request.action);
    if (behaviour === undefined) throw new UnknownActionError(request.action, this.actions());
    if (io.signal.aborted) throw new ActionAbortedError(request.action);
    const killed = this.#killed(request.action, io.signal);
    try {
      const own = structuredClone(request);
      const output = await Promise.race([this.#perform(behaviour, own, io), killed.promise]);
      if (io.signal.aborted) throw new ActionAbortedError(request.action);
      return structuredClone(output);
    } catch (error) {
      if (io.signal.aborted) throw new ActionAbortedError(request.action);
      if (error instanceof FlowmeshError) throw error;
      throw new FlowmeshError('ACTION_FAILED', error instanceof Error ? error.message : String(error), {
        retryable: true,
        cause: error,
      });
    } finally {
      killed.release();
    }
  }

  async #perform(behaviour: Behaviour, request: ExecutionRequest, io: ExecutionIO): Promise<JsonValue> {
    return await behaviour(request, {
      signal: io.signal,
      progress: (percent, message) => io.progress(percent, message),
      log: (stream, line) => io.log(stream, line),
      after: (delayMs) => this.#after(delayMs, request.action, io.signal),
    });
  }

  /** Rejects when an aborted run has used up its grace time, or at once when it has none. */
  #killed(action: string, signal: AbortSignal): { promise: Promise<never>; release(): void } {
    const { promise, reject } = Promise.withResolvers<never>();
    promise.catch(() => {
      // Nobody waits any more when the behaviour has ended first.
    });
    let cancelGrace = () => {};
    const kill = () => reject(new ActionAbortedError(action));
    const onAbort = () => {
      if ((signal.reason as { force?: boolean }).force) kill();
      else cancelGrace = this.#clock.after(CANCEL_GRACE_MS, kill);
    };
    signal.addEventListener('abort', onAbort, { once: true });
    const release = () => {
      cancelGrace();
      signal.removeEventListener('abort', onAbort);
    };
    return { promise, release };
  }

  #after(delayMs: number, action: string, signal: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const cancel = this.#clock.after(delayMs, resolve);
    const onAbort = () => {
      cancel();
      reject(new ActionAbortedError(action));
    };
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    return promise.finally(() => signal.removeEventListener('abort', onAbort));
  }
}
