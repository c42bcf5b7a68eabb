/**
 * Where a call runs. A tool that is about one record runs at the peer that owns the record, whichever peer was
 * asked; every other tool runs where it was asked. A call is run once: an error is the answer and never a reason to
 * run it again elsewhere.
 */
import type { JsonObject } from '../dag/errors.ts';
import type { SchedulerApi } from '../scheduler/api.ts';
import { ElsewhereError, HopsExceededError } from '../scheduler/errors.ts';
import { CALL_HOPS_MAX } from '../scheduler/limits.ts';
import type { Alias, Located } from '../scheduler/messages.ts';
import type { MeshContext, ReadContext, ReadTool, Tool } from './definition.ts';
import { RecordNotFoundError } from './errors.ts';
import { type Failure, failure, type ParsedInput, parseInput, type Success, success } from './run.ts';

/**
 * Answers from this peer's committed records alone: the whole call when it is read on the serve loop.
 *
 * @param input as `parseInput` gave it
 * @returns undefined when the call has to cross to the mesh loop: a tool that runs there, an input that needs other
 *   peers or live state, or a record that is not here
 */
export async function readLocally(tool: Tool, input: ParsedInput, context: ReadContext): Promise<Success | undefined> {
  if (tool.runtime === 'mesh' || tool.merge?.when(input)) return undefined;
  const output = await tool.handler(input, context);
  return output === undefined ? undefined : success(output);
}

/**
 * Runs a call on the mesh loop, here or at the owner of the record it is about.
 *
 * @param rawInput not checked yet
 * @param hops how often the call was handed on before it came here; handing on sends `hops + 1`
 * @returns the output with `success: true`
 * @throws INVALID_INPUT, NOT_FOUND (nobody reachable knows the record), HOPS_EXCEEDED, or the tool's own error, also
 *   when it ran at another peer
 */
export async function callTool(tool: Tool, rawInput: unknown, context: MeshContext, hops: number): Promise<JsonObject> {
  const input = parseInput(tool, rawInput);
  if (tool.runtime === 'serve') {
    if (tool.merge?.when(input)) return success(await tool.merge.handler(input, context));
    // Reading first saves asking where the record is for all that are here.
    const output = await tool.handler(input, context);
    if (output !== undefined) return success(output);
  }
  const forward = ({ peer_id, addresses }: Located): Promise<JsonObject> => {
    if (hops >= CALL_HOPS_MAX) throw new HopsExceededError(tool.name);
    return context.scheduler.call(peer_id, addresses, tool.name, (rawInput ?? {}) as JsonObject, hops + 1);
  };
  const alias = tool.about?.(input);
  const elsewhere = alias === undefined ? undefined : await ownerOf(alias, context);
  if (elsewhere !== undefined) return forward(elsewhere);
  if (tool.runtime === 'mesh') {
    try {
      return success(await tool.handler(input, context));
    } catch (error) {
      // The id of a submit is another peer's already: that one says whether it is the same submit. Nothing ran here.
      if (error instanceof ElsewhereError) return await forward(error.at);
      throw error;
    }
  }
  return success(await readAgain(tool, input, alias, context));
}

/** `callTool` for callers that show a failure instead of throwing it: never rejects. */
export async function runTool(
  tool: Tool,
  rawInput: unknown,
  context: MeshContext,
  hops = 0,
): Promise<JsonObject | Failure> {
  try {
    return await callTool(tool, rawInput, context, hops);
  } catch (error) {
    return failure(error);
  }
}

/** The uid of a record that the router found to be of this peer, for the scheduler's methods. */
export async function uidHere(scheduler: SchedulerApi, alias: Alias): Promise<string> {
  const found = await scheduler.resolve(alias);
  if (!found?.here) throw new RecordNotFoundError(alias);
  return found.uid;
}

/** Undefined: this peer. */
async function ownerOf(alias: Alias, context: MeshContext): Promise<Located | undefined> {
  const found = await context.scheduler.resolve(alias);
  if (found === undefined) throw new RecordNotFoundError(alias);
  if (found.here) return undefined;
  // Stale knowledge that names this peer for what it does not have would send the call round in a circle.
  if (found.at.peer_id === context.self) throw new RecordNotFoundError(alias);
  return found.at;
}

/** The record was committed between the first look and now, or it is accepted but not yet durable (P1). */
async function readAgain(
  tool: ReadTool,
  input: ParsedInput,
  alias: Alias | undefined,
  context: ReadContext,
): Promise<object> {
  const output = await tool.handler(input, context);
  if (output !== undefined) return output;
  throw alias === undefined ? new Error(`${tool.name} answered nothing`) : new RecordNotFoundError(alias);
}
