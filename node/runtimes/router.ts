/**
 * Sends each tool call to the loop its definition names.
 *
 *   const router = createRouter({ link, reader, clock, config, log });
 *   await router.call('task_submit', { task_type: 'echo' }, { deadline_ms: 5_000 });
 *
 * 1. A call is executed once: an error of one loop is the answer, never a reason to run the call on the other.
 * 2. Reads are answered here from committed records; what cannot be, and every other tool, crosses once to the mesh.
 * 3. At most CALLS_IN_FLIGHT_MAX calls are carried; one that its caller gave up counts until it has really ended.
 */
import { type EventLoopUtilization, performance } from 'node:perf_hooks';
import { errorShape, type JsonObject, type JsonValue } from '../../dag/errors.ts';
import { EVERYBODY } from '../../scheduler/caller.ts';
import { StoppedError } from '../../scheduler/errors.ts';
import type { Clock, Log, Reader } from '../../scheduler/ports.ts';
import type { Why } from '../../scheduler/waiting.ts';
import { callDeadlineMs, parseInput } from '../../tools/call/envelope.ts';
import { readLocally } from '../../tools/call/route.ts';
import { NotPermittedError, permitsTool } from '../../tools/permissions.ts';
import { answerOperation } from '../../tools/task/answer.ts';
import { waitingOperation } from '../../tools/task/waiting.ts';
import type { TrailEntry } from '../audit/line.ts';
import { nameOf, type Trail } from '../audit/trail.ts';
import { ANYONE, type Principal } from '../auth/principal.ts';
import type { Config } from '../config/settings.ts';
import { packageVersion } from '../package-file.ts';
import type { Throttle } from '../throttle/throttle.ts';
import { CallLatencies } from './call-figures.ts';
import { type BoundedSignal, boundedSignal, orAborted } from './deadline.ts';
import { CallStoppedError, TooBusyError } from './errors.ts';
import {
  CALL_DEADLINE_DEFAULT_MS,
  CALL_DEADLINE_MAX_MS,
  CALLS_GRACE_MS,
  CALLS_IN_FLIGHT_MAX,
  WHY_WAITING_DEADLINE_MS,
} from './limits.ts';
import { MainFeedReader } from './main-feed.ts';
import { operationNamed } from './mesh-calls.ts';
import type { CallFigures, MeshLink, MeshState } from './mesh-link.ts';

export interface RouterCallOptions {
  /** The caller went away. */
  signal?: AbortSignal;
  /**
   * From now, at most CALL_DEADLINE_MAX_MS. Default: CALL_DEADLINE_DEFAULT_MS, or longer for a call that is to wait longer
   * (`waitMs` of its tool).
   */
  deadline_ms?: number;
  /** Who calls. Default: anyone, who may do everything. */
  principal?: Principal;
}

export interface RouterStatus {
  ready: boolean;
  /** Why it is not ready, in sentences. */
  reasons: string[];
  peer_id: string;
  name: string;
  mesh: string;
  version: string;
  /** Null when the mesh loop cannot be asked. */
  connected_peers: number | null;
  addresses: string[];
  runtime: Config['runtime'];
  in_flight: number;
  mesh_restarts: number;
  /** Share of the time that a loop was busy, 0–1, since its start. With the inline runtime both are one loop. */
  loops: { serve: { utilization: number }; mesh: { utilization: number; running_calls: number } | null };
  /** Calls by the loop that answered: `serve` and `mesh` those of this peer's clients, `inbound` those of other peers. */
  tools: {
    serve: Record<string, CallFigures>;
    mesh: Record<string, CallFigures>;
    inbound: Record<string, CallFigures>;
  };
}

export interface ToolRouter {
  /**
   * @param input unchecked
   * @returns the tool's output with `success: true`
   * @throws the tool's error, or UNKNOWN_TOOL, FORBIDDEN, RATE_LIMITED, TOO_BUSY, DEADLINE_EXCEEDED, CANCELLED, MESH_RESTARTED, MESH_DOWN,
   *   PEER_STOPPED
   */
  call(tool: string, input: unknown, options?: RouterCallOptions): Promise<JsonObject>;
  /** A person's answer to a task that waits for one, at whichever peer it is. */
  answerTask(
    task_id: string,
    answer: { approve: boolean; data: JsonValue },
    principal?: Principal,
  ): Promise<JsonObject>;
  status(): Promise<RouterStatus>;
}

export interface RouterComponents {
  link: MeshLink;
  /** Reads committed rows on this loop. */
  reader: Reader;
  clock: Clock;
  config: Pick<Config, 'name' | 'mesh' | 'runtime' | 'copies'>;
  log: Log;
  /** Told of every call. Default: nobody is. */
  trail?: Trail | undefined;
  /** How much callers may ask, where they are asked who they are. Default: as much as they like. */
  throttle?: Throttle | undefined;
}

export class LoopRouter implements ToolRouter {
  readonly #components: RouterComponents;
  readonly #inFlightMax: number;
  readonly #onServe = new CallLatencies();
  readonly #onMesh = new CallLatencies();
  readonly #since: EventLoopUtilization = performance.eventLoopUtilization();
  #mainFeed: MainFeedReader | undefined;
  #inFlight = 0;
  /** Calls whose caller still waits, by tool. */
  readonly #awaited = new Map<BoundedSignal, string>();
  #closed = false;
  /** The peer takes no more tasks: it is not ready for work, and answers all the same. */
  draining = false;
  #onNoneAwaited: (() => void) | null = null;

  /** @param options.calls_in_flight_max default CALLS_IN_FLIGHT_MAX */
  constructor(components: RouterComponents, options: { calls_in_flight_max?: number } = {}) {
    this.#components = components;
    this.#inFlightMax = options.calls_in_flight_max ?? CALLS_IN_FLIGHT_MAX;
  }

  async call(tool: string, input: unknown, options: RouterCallOptions = {}): Promise<JsonObject> {
    const { trail } = this.#components;
    if (trail === undefined) return await this.#call(tool, input, options);
    let output: JsonObject | undefined;
    let outcome = 'ok';
    try {
      output = await this.#call(tool, input, options);
      return output;
    } catch (error) {
      outcome = errorShape(error).code;
      throw error;
    } finally {
      const on = recordOf(tool, input, output);
      trail.record({ event: 'call', ...nameOf(options.principal ?? ANYONE), tool, on, outcome });
    }
  }

  async #call(tool: string, input: unknown, options: RouterCallOptions): Promise<JsonObject> {
    const definition = operationNamed(tool);
    const { caller, permissions } = options.principal ?? ANYONE;
    if (!permitsTool(permissions, definition)) throw new NotPermittedError(tool, definition.permission);
    if (this.#closed) throw new StoppedError();
    if (this.#inFlight >= this.#inFlightMax) throw new TooBusyError('CALLS_IN_FLIGHT_MAX', this.#inFlight);
    const started = performance.now();
    const release = this.#occupy();
    let bound: BoundedSignal | undefined;
    let latencies = definition.runtime === 'serve' ? this.#onServe : this.#onMesh;
    let ok = false;
    let ended: (() => void) | undefined;
    try {
      if (caller.id !== null) ended = await this.#components.throttle?.call(caller.id, tool);
      // Also for the mesh loop, which takes it as checked: what is large is gone through here.
      const parsed = parseInput(definition, input);
      const standard = Math.max(CALL_DEADLINE_DEFAULT_MS, callDeadlineMs(definition, parsed));
      const deadlineMs = Math.min(options.deadline_ms ?? standard, CALL_DEADLINE_MAX_MS);
      bound = boundedSignal(tool, deadlineMs, options.signal);
      const { signal } = bound;
      this.#awaited.set(bound, tool);
      signal.throwIfAborted();
      if (definition.runtime === 'serve') {
        const { reader, clock, link } = this.#components;
        const whyWaiting = (uids: string[]) => this.#whyWaiting(uids, signal);
        const context = { reader, clock, self: link.info.peer_id, feeds: this.#feeds(), caller, whyWaiting };
        const read = await orAborted(signal, readLocally(definition, parsed, context));
        if (read !== undefined) {
          ok = true;
          return read;
        }
        latencies = this.#onMesh;
      }
      const work = this.#components.link.call(tool, parsed, { signal, deadlineMs, checked: true, caller });
      release.after(work);
      const output = await orAborted(signal, work);
      ok = true;
      return output;
    } finally {
      if (bound !== undefined) this.#settled(bound);
      release.now();
      ended?.();
      latencies.record(tool, started, ok);
    }
  }

  #settled(bound: BoundedSignal): void {
    bound.done();
    this.#awaited.delete(bound);
    if (this.#awaited.size === 0) this.#onNoneAwaited?.();
  }

  answerTask(task_id: string, answer: { approve: boolean; data: JsonValue }, principal = ANYONE): Promise<JsonObject> {
    return this.call(answerOperation.name, { task_id, ...answer }, { principal });
  }

  async status(): Promise<RouterStatus> {
    const { link, config, log } = this.#components;
    const state: MeshState | undefined = await link.state().catch((error) => {
      log.warn({ err: error }, 'the mesh loop does not say how it is');
      return undefined;
    });
    const reasons: string[] = [];
    if (this.#closed) reasons.push('the peer is stopping');
    else if (this.draining)
      reasons.push('the peer is draining: it takes no more tasks and stops when those that run have ended');
    else if (state === undefined) reasons.push('the mesh loop does not answer');
    return {
      ready: reasons.length === 0,
      reasons,
      peer_id: link.info.peer_id,
      name: config.name,
      mesh: config.mesh,
      version: packageVersion(),
      connected_peers: state?.connected_peers ?? null,
      addresses: state?.addresses ?? link.info.addresses,
      runtime: config.runtime,
      in_flight: this.#inFlight,
      mesh_restarts: link.restarts,
      loops: {
        serve: { utilization: performance.eventLoopUtilization(this.#since).utilization },
        mesh: state === undefined ? null : { utilization: state.utilization, running_calls: state.running_calls },
      },
      tools: { serve: this.#onServe.figures(), mesh: this.#onMesh.figures(), inbound: state?.inbound ?? {} },
    };
  }

  /**
   * From now on calls fail as PEER_STOPPED; those that run do so too when they have not ended within CALLS_GRACE_MS.
   * Resolves when nobody waits for an answer any more.
   */
  async close(): Promise<void> {
    this.#closed = true;
    if (this.#awaited.size === 0) return;
    const none = Promise.withResolvers<void>();
    this.#onNoneAwaited = none.resolve;
    const tooLate = setTimeout(() => {
      for (const [bound, tool] of this.#awaited) bound.abort(new CallStoppedError(tool));
    }, CALLS_GRACE_MS);
    await none.promise;
    clearTimeout(tooLate);
  }

  /** A mesh loop that is too busy to say it does not hold up the rest of the answer. */
  async #whyWaiting(uids: string[], signal: AbortSignal): Promise<Record<string, Why>> {
    const { link, log } = this.#components;
    // A loop that hangs must not collect the questions of everyone who asks how things are (P7).
    if (this.#inFlight >= this.#inFlightMax) return {};
    const bound = AbortSignal.any([signal, AbortSignal.timeout(WHY_WAITING_DEADLINE_MS)]);
    const limits = { signal: bound, deadlineMs: WHY_WAITING_DEADLINE_MS, caller: EVERYBODY };
    const asked = link.call(waitingOperation.name, { uids }, limits);
    this.#occupy().after(asked);
    try {
      const { why } = await orAborted(bound, asked);
      return why as unknown as Record<string, Why>;
    } catch (error) {
      // The rows say it too, as it was some seconds ago.
      log.debug({ err: error }, 'the mesh loop does not say why tasks wait');
      return {};
    }
  }

  #feeds(): MainFeedReader {
    const { link, config } = this.#components;
    const { main_feed } = link.info;
    // A mesh loop that was started again has memory of its own.
    if (this.#mainFeed?.memory !== main_feed) this.#mainFeed = new MainFeedReader(main_feed, config.copies);
    return this.#mainFeed;
  }

  /** Takes a place in flight, freed once: now, or when `work` has settled if there is some. */
  #occupy(): { now(): void; after(work: Promise<unknown>): void } {
    this.#inFlight += 1;
    let waitsForWork = false;
    const free = () => {
      this.#inFlight -= 1;
    };
    return {
      now() {
        if (!waitsForWork) free();
      },
      after(work) {
        waitsForWork = true;
        work.then(free, free);
      },
    };
  }
}

/** The record that a call is about, by its own word: what is wrong with its input is found out elsewhere. */
function recordOf(tool: string, input: unknown, output: JsonObject | undefined): TrailEntry['on'] {
  if (typeof input !== 'object' || input === null) return undefined;
  let about: { kind: string; id: unknown } | undefined;
  try {
    about = operationNamed(tool).about?.(input as never);
  } catch {
    return undefined; // There is no such tool: that is the outcome.
  }
  if (about === undefined) {
    const kind = /^(workflow|task)_submit$/.exec(tool)?.[1];
    if (kind === undefined) return undefined;
    const field = `${kind}_id`;
    about = { kind, id: output?.[field] ?? (input as JsonObject)[field] };
  }
  return typeof about.id === 'string' ? { kind: about.kind, id: about.id } : undefined;
}
