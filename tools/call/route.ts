/**
 * Where a call runs. A tool that is about one record runs at the peer that owns the record, whichever peer was asked;
 * every other tool runs at the peer that was asked. While the owner cannot be reached, a read is answered from a copy,
 * with how old it may be, and a change waits for the next owner. A change runs once: an error is its answer and no
 * reason to run it again, unless the error says that nothing was done.
 */
import type { JsonObject } from '../../dag/errors.ts';
import type { Place, SchedulerApi } from '../../scheduler/api.ts';
import { mayChange, maySee } from '../../scheduler/caller.ts';
import { ElsewhereError, HopsExceededError, OwnerUnreachableError } from '../../scheduler/errors.ts';
import { CALL_HOPS_MAX, PLACES_TRIED_MAX } from '../../scheduler/limits.ts';
import type { Alias, RemotePlace } from '../../scheduler/messages.ts';
import type { MeshContext, MeshTool, ReadContext, ReadTool, Tool } from '../definition.ts';
import { NotYoursError, RecordNotFoundError } from '../errors.ts';
import {
  callDeadlineMs,
  type Failure,
  failure,
  type ParsedInput,
  parseInput,
  type Success,
  success,
} from './envelope.ts';
import { atRecord, cannotAnswer, didNotRun, KEEP_OPERATION, untilOwned } from './failover.ts';
import { mayBeShown, mergeReleased, readFrom, readReleased } from './read.ts';

/**
 * Answers a call from this peer's committed records alone, on the serve loop.
 *
 * @param input as `parseInput` gave it
 * @returns undefined when the call has to cross to the mesh loop: the tool runs there, the input needs other peers or
 *   live state, the record is not here, or its rows must not be shown yet (P1)
 */
export async function readLocally(tool: Tool, input: ParsedInput, context: ReadContext): Promise<Success | undefined> {
  if (tool.runtime === 'mesh' || tool.merge?.when(input)) return undefined;
  const found = await readFrom(tool, input, context);
  return found === undefined || !mayBeShown(found, context) ? undefined : success(found.output);
}

/**
 * Runs a call on the mesh loop, here or at the owner of the record it is about.
 *
 * @param rawInput not checked yet
 * @param hops how often the call was handed on before; the next peer gets `hops + 1`
 * @returns the output with `success: true`
 * @throws INVALID_INPUT, NOT_FOUND (nobody reachable knows the record), OWNER_UNREACHABLE, HOPS_EXCEEDED, or the tool's
 *   own error, also when it ran at another peer
 */
export async function callTool(tool: Tool, rawInput: unknown, context: MeshContext, hops: number): Promise<JsonObject> {
  return await callParsed(tool, parseInput(tool, rawInput), context, hops);
}

/** `callTool` after `parseInput`, which ran on another event loop because it takes long for large inputs. */
export async function callParsed(
  tool: Tool,
  input: ParsedInput,
  context: MeshContext,
  hops: number,
): Promise<JsonObject> {
  const handOn: HandOn = ({ peer_id, addresses }, operation, its, deadlineMs) => {
    if (hops >= CALL_HOPS_MAX) throw new HopsExceededError(operation);
    const { caller, vouched } = context;
    const call = { tool: operation, input: its, hops: hops + 1, caller, ...(its === input && { vouched }) };
    return context.scheduler.call({ peer_id, addresses }, call, deadlineMs);
  };
  const call: Call = {
    ...{ input, context },
    places: hops < CALL_HOPS_MAX ? PLACES_TRIED_MAX : 1,
    forward: (at) => handOn(at, tool.name, input as JsonObject, callDeadlineMs(tool, input)),
  };
  if (tool.runtime === 'serve') return await read(tool, call);
  const attempt = () => runOnce(tool, call);
  // Only the peer that the client asked waits for an owner: the peers it asks in turn say at once that they are none.
  if (hops > 0) return await attempt();
  try {
    return await untilOwned(context, attempt);
  } catch (error) {
    const kept = didNotRun(error) ? await keepForNextOwner(tool, call, handOn) : undefined;
    if (kept === undefined) throw error;
    return kept;
  }
}

type HandOn = (at: RemotePlace, operation: string, input: JsonObject, deadlineMs?: number) => Promise<JsonObject>;

interface Call {
  input: ParsedInput;
  context: MeshContext;
  /** How many peers may be tried, one after the other. */
  places: number;
  forward(at: RemotePlace): Promise<JsonObject>;
}

async function read(tool: ReadTool, { input, context, places, forward }: Call): Promise<JsonObject> {
  if (tool.merge?.when(input)) return success(await mergeReleased(tool.merge, input, context));
  const alias = tool.about?.(input);
  // Reading first: for a record that is here, nobody has to be asked where it is.
  const first = await readReleased(tool, input, context);
  if (first !== undefined) return success(first);
  if (alias === undefined) throw new Error(`${tool.name} answered nothing`);
  const readAt = async (place: Place): Promise<JsonObject> => {
    if (!place.here && place.at.peer_id !== context.self) return await forward(place.at);
    // A copy is here; or the record was committed since the first look, or is accepted and not durable yet (P1).
    const output = await readReleased(tool, input, context, place.here ? undefined : place.at.copy_of);
    if (output === undefined) throw new RecordNotFoundError(alias);
    return success(output);
  };
  return await atRecord(alias, context, readAt, cannotAnswer, places);
}

async function runOnce(tool: MeshTool, { input, context, places, forward }: Call): Promise<JsonObject> {
  const alias = tool.about?.(input);
  if (alias !== undefined) {
    const runAt = async (place: Place): Promise<JsonObject> => {
      if (place.here) {
        mustBeChangeable(alias, context, await recordHere(alias, place.uid, context));
        return success(await tool.handler(input, context));
      }
      if (place.at.peer_id !== context.self) return await forward(place.at);
      // Old knowledge names this peer for a record that it does not have. Going on would send the call in circles.
      if (place.at.copy_of === undefined) throw new RecordNotFoundError(alias);
      // Nobody takes a feed over for a caller for whom the record does not exist.
      mustBeChangeable(alias, context, await copyHere(alias, context));
      await context.scheduler.wantOwner(alias);
      throw new OwnerUnreachableError(alias, place.at.copy_of);
    };
    return await atRecord(alias, context, runAt, didNotRun, places);
  }
  try {
    return success(await tool.handler(input, context));
  } catch (error) {
    // Another peer has the id of this submit already: it decides whether the submit is the same. Nothing ran here.
    if (error instanceof ElsewhereError) return await forward(error.at);
    throw error;
  }
}

/**
 * Nobody can write the record now: a peer that may own it next keeps the call.
 * @returns the answer for the client; undefined when the tool cannot be kept, or no such peer is known
 */
async function keepForNextOwner(
  tool: MeshTool,
  { input, context }: Call,
  handOn: HandOn,
): Promise<JsonObject | undefined> {
  const alias = tool.about?.(input);
  if (tool.whenKept === undefined || alias === undefined) return undefined;
  // If no peer knows where the record is, none can keep the call: the client gets the error that led here.
  const place = await context.scheduler.resolve(alias).catch(() => undefined);
  if (place === undefined) return undefined;
  const kept =
    place.here || place.at.peer_id === context.self
      ? await context.scheduler.deferCall(alias, tool.name, input as JsonObject, context.caller)
      : await handOn(place.at, KEEP_OPERATION, { tool: tool.name, input: input as JsonObject });
  return success(tool.whenKept(input, { status: String(kept.status) }));
}

type Owned = Parameters<typeof maySee>[1];

/**
 * The very record that the call is about: others with its id may be on this disk, too. Its caller knows the id of a record
 * only once it is committed.
 */
async function recordHere({ kind }: Alias, uid: string, { caller, reader }: MeshContext): Promise<Owned | undefined> {
  return caller.others === 'write' || kind === 'worker' ? {} : await reader.get(kind, uid);
}

async function copyHere({ kind, id }: Alias, { caller, reader }: MeshContext): Promise<Owned | undefined> {
  return caller.others === 'write' || kind === 'worker' ? {} : ((await reader.copyByAlias(kind, id))?.record as Owned);
}

/** @throws RecordNotFoundError for a record that does not exist for the caller; NotYoursError */
function mustBeChangeable(alias: Alias, { caller }: MeshContext, record: Owned | undefined): void {
  if (alias.kind === 'worker') return; // a matter of permissions alone
  if (record === undefined || !maySee(caller, record)) throw new RecordNotFoundError(alias);
  if (!mayChange(caller, record)) throw new NotYoursError(alias);
}

/** `callTool` for callers that show a failure instead of throwing it. Never rejects. */
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

/** The uid of a record of this peer, which the scheduler's methods take. @throws RecordNotFoundError */
export async function uidHere(scheduler: SchedulerApi, alias: Alias): Promise<string> {
  const found = await scheduler.resolve(alias);
  if (!found?.here) throw new RecordNotFoundError(alias);
  return found.uid;
}
