/**
 * The Executors port: the actions of this peer.
 *
 *   const executors = await createExecutors(config, log);
 *   executors.actions();  // ['echo', 'http', 'shell', 'fn:resize']
 *   await executors.run({ uid, attempt: 1, action: 'echo', payload: { a: 1 } }, io);  // { a: 1 }
 *
 * Each run settles with JSON or with a FlowmeshError, whose `retryable` (see `errors.ts`) decides whether the step is tried again. `sleep`, `approve` and `workflow` are states of a record and not here.
 */
import { setImmediate as turn } from 'node:timers/promises';
import { FlowmeshError, type JsonObject, type JsonValue, thrownText } from '../../dag/errors.ts';
import { isLarge } from '../../dag/json.ts';
import type { ExecutionIO, ExecutionRequest, Executors, Log } from '../../scheduler/ports.ts';
import type { Caller } from '../../scheduler/roles.ts';
import { type Limited, LimitKeeper, type LimitName } from '../processes/confinement.ts';
import { WorkEnvironment } from '../processes/environment.ts';
import { needsOf } from './allowances.ts';
import { ActionAbortedError, ActionNotAllowedError, ExecutorsClosedError, UnknownActionError } from './errors.ts';
import type { ExecutorConfig } from './executor-config.ts';
import { Functions } from './functions.ts';
import type { HttpAction } from './http.ts';
import { type Grant, Policy } from './policy.ts';

export type ClosableExecutors = Executors & {
  /** Ends what runs, at once, and waits until it is gone. */
  close(): Promise<void>;
};

type Action = (request: ExecutionRequest, io: ExecutionIO, grant: Grant) => Promise<JsonValue>;

const SELF: Caller = { peer_id: 'self', own: true, roles: new Set() };

/**
 * Resolves when what a former run on the same data folder had left running is gone, and the functions are loaded.
 *
 * @throws FunctionsInvalidError (`FUNCTIONS_INVALID`) when a module of `functions` cannot be used
 */
export async function createExecutors(config: ExecutorConfig, log: Log): Promise<ClosableExecutors> {
  const environment = new WorkEnvironment(config.data_dir, config.pass_env);
  await environment.endLeftBehind(log);
  const functions = await Functions.load(config.functions, environment, log);
  const policy = new Policy(config);
  const keeper = await openKeeper(policy, log);
  return new LocalExecutors({ config, functions, environment, policy, keeper });
}

/** Also says what keeps the limits. */
async function openKeeper({ limits }: Policy, log: Log): Promise<LimitKeeper> {
  const set = new Set(limits.flatMap((each) => Object.keys(each) as LimitName[]));
  const keeper = await LimitKeeper.open({ mayUseCgroups: set.size > 0 });
  if (set.size === 0) return keeper;
  const kept = Object.fromEntries([...set].map((name) => [name, keeper.kept[name]]));
  log.info(kept, 'limits per attempt of the policy, and what keeps them');
  const lost = [...set].filter((name) => keeper.kept[name] === 'nobody');
  if (lost.length > 0) log.warn({ limits: lost }, 'nothing keeps these limits on this system: it is not Linux');
  return keeper;
}

interface ExecutorParts {
  config: ExecutorConfig;
  functions: Functions;
  environment: WorkEnvironment;
  policy: Policy;
  keeper: LimitKeeper;
}

class LocalExecutors implements ClosableExecutors {
  readonly #actions = new Map<string, Action>();
  readonly #offered: string[];
  readonly #policy: Policy;
  readonly #functions: Functions;
  readonly #keeper: LimitKeeper;
  /** With its connections: what one caller may reach is not reached over those of another one. */
  readonly #http = new Map<Grant, Promise<HttpAction>>();
  readonly #running = new Map<AbortController, Promise<JsonValue>>();
  #closed = false;

  constructor({ config, functions, environment, policy, keeper }: ExecutorParts) {
    this.#functions = functions;
    this.#policy = policy;
    this.#keeper = keeper;
    this.#actions.set('echo', echo);
    // Their libraries are read at the first use: undici alone is 10 MB, and most peers never need it.
    this.#actions.set('http', async (request, io, grant) => {
      const http = this.#http.get(grant) ?? import('./http.ts').then(({ HttpAction }) => new HttpAction(grant.http));
      this.#http.set(grant, http);
      return (await http).run(request, io);
    });
    this.#actions.set('shell', async (request, io, grant) => {
      const { runShell } = await import('./shell.ts');
      return runShell(request, io, grant.shell, environment, this.#limited(grant));
    });
    for (const name of functions.names) {
      this.#actions.set(`fn:${name}`, (request, io, grant) => functions.run(name, request, io, this.#limited(grant)));
    }
    // Without an allowed command `shell` is known, so that its error says what would allow it, but not offered.
    this.#offered = [...this.#actions.keys()].filter((action) => action !== 'shell' || config.shell.allow.length > 0);
  }

  actions(): string[] {
    return [...this.#offered];
  }

  allows(caller: Caller | null): readonly string[] {
    return caller === null ? this.#policy.allowsSomebody() : this.#policy.grantFor(caller).allows;
  }

  needs(action: string, payload: JsonObject): string[] {
    return needsOf(action, payload);
  }

  refuses(caller: Caller, action: string, payload?: JsonObject): string | null {
    return this.#policy.refuses(caller, action, payload);
  }

  async run(request: ExecutionRequest, io: ExecutionIO): Promise<JsonValue> {
    const action = this.#actions.get(request.action);
    if (action === undefined) throw new UnknownActionError(request.action, this.#offered);
    const { caller = SELF } = request;
    const forbidden = this.#policy.refuses(caller, request.action, request.payload);
    if (forbidden !== null) throw new ActionNotAllowedError(forbidden);
    if (this.#closed) throw new ExecutorsClosedError();
    if (io.signal.aborted) throw new ActionAbortedError(request.action);
    const abort = new AbortController();
    const onAbort = () => abort.abort(io.signal.reason);
    io.signal.addEventListener('abort', onAbort, { once: true });
    const run = this.#settle((io) => action(request, io, this.#policy.grantFor(caller)), request, {
      signal: abort.signal,
      progress: (percent, message) => io.progress(percent, message),
      log: (stream, line) => io.log(stream, line),
    });
    this.#running.set(abort, run);
    try {
      return await run;
    } finally {
      this.#running.delete(abort);
      io.signal.removeEventListener('abort', onAbort);
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    const runs = [...this.#running.values()];
    for (const abort of this.#running.keys()) abort.abort({ force: true });
    // Their callers hear how they ended.
    await Promise.allSettled(runs);
    const connections = [...this.#http.values()].map(async (http) => await (await http).close());
    await Promise.all([this.#functions.close(), ...connections]);
    this.#keeper.close();
  }

  #limited({ limits, limitsPlace }: Grant): Limited {
    return { keeper: this.#keeper, limits, place: limitsPlace };
  }

  async #settle(
    action: (io: ExecutionIO) => Promise<JsonValue>,
    request: ExecutionRequest,
    io: ExecutionIO,
  ): Promise<JsonValue> {
    try {
      return await action(io);
    } catch (error) {
      if (error instanceof ActionAbortedError && this.#closed) throw new ExecutorsClosedError();
      if (error instanceof FlowmeshError) throw error;
      throw new FlowmeshError('ACTION_FAILED', `${request.action} failed: ${thrownText(error)}`, {
        retryable: true,
        cause: error,
      });
    }
  }
}

/** Gives its inputs back, as a copy. On this loop: what is large is copied in a turn of its own. */
async function echo({ payload }: ExecutionRequest): Promise<JsonValue> {
  const large = isLarge(payload);
  if (large) await turn();
  const copy = JSON.parse(JSON.stringify(payload)) as JsonValue;
  if (large) await turn();
  return copy;
}
