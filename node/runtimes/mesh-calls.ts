/**
 * Tool calls on the mesh loop: those of this peer's own clients, which come through the router, and those of other
 * peers, which come over the network on behalf of theirs. Both run the same definitions.
 */
import { setImmediate as turn } from 'node:timers/promises';
import type { JsonObject } from '../../dag/errors.ts';
import { isLarge } from '../../dag/json.ts';
import type { SchedulerApi, ToolCall } from '../../scheduler/api.ts';
import type { Caller } from '../../scheduler/caller.ts';
import type { Clock, Log, Reader } from '../../scheduler/ports.ts';
import { callDeadlineMs, type ParsedInput, parseInput } from '../../tools/call/envelope.ts';
import { keepOperation, mayBeKept } from '../../tools/call/keep.ts';
import { callParsed, callTool } from '../../tools/call/route.ts';
import type { MeshContext, Tool } from '../../tools/definition.ts';
import type { PeerDirectory } from '../../tools/peers.ts';
import { tools } from '../../tools/registry.ts';
import { answerOperation } from '../../tools/task/answer.ts';
import { waitingOperation } from '../../tools/task/waiting.ts';
import { CallLatencies } from './call-figures.ts';
import { type BoundedSignal, boundedSignal, orAborted } from './deadline.ts';
import { NoClientsError, TooBusyError, UnknownToolError } from './errors.ts';
import { createEverywhere } from './everywhere.ts';
import { INBOUND_CALLS_MAX } from './limits.ts';
import type { CallFigures, CallOptions } from './mesh-link.ts';

export interface MeshCallComponents {
  scheduler: SchedulerApi;
  peers: PeerDirectory;
  reader: Reader;
  clock: Clock;
  log: Log;
}

export class MeshCalls {
  readonly #components: MeshCallComponents;
  readonly #inboundLatencies = new CallLatencies();
  #inboundRunning = 0;
  #ownRunning = 0;

  constructor(components: MeshCallComponents) {
    this.#components = components;
  }

  /** Calls of this peer's clients that run now. */
  get running(): number {
    return this.#ownRunning;
  }

  /** Calls of other peers, since the start. */
  inboundFigures(): Record<string, CallFigures> {
    return this.#inboundLatencies.figures();
  }

  /** @throws UNKNOWN_TOOL, DEADLINE_EXCEEDED, CANCELLED, or the tool's own error */
  async run(tool: string, input: unknown, { signal, deadlineMs, checked, caller }: CallOptions): Promise<JsonObject> {
    const definition = operationNamed(tool);
    const bound = boundedSignal(tool, deadlineMs, signal);
    this.#ownRunning += 1;
    try {
      // Not raced against the signal: the call counts until its handler is done, or the bound on calls means nothing.
      const context = this.#context(bound.signal, caller);
      if (checked) return await callParsed(definition, input as ParsedInput, context, 0);
      return await callTool(definition, input, context, 0);
    } finally {
      this.#ownRunning -= 1;
      bound.done();
    }
  }

  /**
   * Runs a call of another peer, for at most `callDeadlineMs`.
   *
   * @throws as `run`, and TOO_BUSY
   */
  async runInbound({ tool, input, hops, caller, vouched, kept_only }: ToolCall): Promise<JsonObject> {
    const definition = operationNamed(tool);
    if (kept_only === true && !mayBeKept(definition)) throw new NoClientsError(tool);
    if (this.#inboundRunning >= INBOUND_CALLS_MAX) throw new TooBusyError('INBOUND_CALLS_MAX', this.#inboundRunning);
    const started = performance.now();
    let bound: BoundedSignal | undefined;
    let ok = false;
    try {
      // To be decoded was one turn, to be checked is the next, and what the tool does with it comes after.
      const large = isLarge(input);
      if (large) await turn();
      const parsed = parseInput(definition, input);
      if (large) await turn();
      bound = boundedSignal(tool, callDeadlineMs(definition, parsed), undefined);
      const work = callParsed(definition, parsed, { ...this.#context(bound.signal, caller), vouched }, hops);
      this.#inboundRunning += 1;
      const ended = () => {
        this.#inboundRunning -= 1;
      };
      work.then(ended, ended);
      const output = await orAborted(bound.signal, work);
      ok = true;
      // It has been read, and is to be packed.
      if (isLarge(output)) await turn();
      return output;
    } finally {
      bound?.done();
      this.#inboundLatencies.record(tool, started, ok);
    }
  }

  #context(signal: AbortSignal, caller: Caller): MeshContext {
    const { scheduler, peers, reader, clock, log } = this.#components;
    const everywhere = createEverywhere(scheduler, caller, signal, log);
    const whyWaiting: MeshContext['whyWaiting'] = async (uids) => scheduler.whyWaiting(uids);
    const { self } = scheduler;
    return { scheduler, peers, reader, clock, self, feeds: scheduler, caller, whyWaiting, signal, everywhere };
  }
}

/** What peers do for each other and for people beside the tools. */
const OPERATIONS = new Map(
  [answerOperation, keepOperation, waitingOperation].map((operation) => [operation.name, operation]),
);

/** One of the 26 tools, or one of the operations beside them. */
export function operationNamed(name: string): Tool {
  const tool = tools.get(name) ?? OPERATIONS.get(name);
  if (tool === undefined) throw new UnknownToolError(name);
  return tool;
}
