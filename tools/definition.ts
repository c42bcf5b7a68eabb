/**
 * A tool is defined once. The MCP tool, the CLI command, the call between peers and the reference page are all made
 * from its definition; nothing about a tool is written anywhere else.
 */
import type { z } from 'zod';
import type { JsonObject } from '../dag/errors.ts';
import type { Durability, FeedsNow, SchedulerApi } from '../scheduler/api.ts';
import type { Caller } from '../scheduler/caller.ts';
import type { Alias, VouchedCaller } from '../scheduler/messages.ts';
import type { Clock, Reader } from '../scheduler/ports.ts';
import type { FlowRecord } from '../scheduler/records.ts';
import type { Why } from '../scheduler/waiting.ts';
import type { PeerDirectory } from './peers.ts';

/** What a tool that only reads this peer's committed records needs: it runs on the serve loop (`runtime: 'serve'`). */
export interface ReadContext {
  reader: Reader;
  clock: Clock;
  self: string;
  feeds: FeedsNow;
  caller: Caller;
  /** By uid, why tasks that are queued at this peer wait now; tasks that the scheduler does not know are left out. */
  whyWaiting(uids: string[]): Promise<Record<string, Why>>;
}

/** What the handler of a read gets: it reads a record of this peer, or a copy. */
export interface Reading {
  reader: Reader;
  clock: Clock;
  self: string;
  /** Who asks: lists are of the records that exist for them. */
  caller: Caller;
  /** Id of the peer that owns the records that are read. */
  owner: string;
  /** The owner is another peer, which cannot be reached. */
  isCopy: boolean;
  whyWaiting: ReadContext['whyWaiting'];
  /** The record with this id; undefined when it is not here, or does not exist for the caller. */
  record<K extends 'workflow' | 'task'>(kind: K, id: string): Promise<Extract<FlowRecord, { kind: K }> | undefined>;
  /** On how many disks the record that was read is now, of how many `wanted`; null for a copy. */
  durability(wanted: number): Durability | null;
}

/** What all other tools need: they run on the mesh loop. */
export interface MeshContext extends ReadContext {
  scheduler: SchedulerApi;
  peers: PeerDirectory;
  /** What the peer said that has asked who the caller is; absent where that was this one. */
  vouched?: VouchedCaller | undefined;
  /** Aborted when the caller goes away or its deadline passes. */
  signal: AbortSignal;
  /** Runs a tool on every connected peer; `missing` names the peers that did not answer. */
  everywhere(
    tool: string,
    input: JsonObject,
  ): Promise<{ outputs: { peer_id: string; output: JsonObject }[]; missing: string[] }>;
}

interface ToolBase<I extends z.ZodObject, O extends z.ZodObject> {
  /** `noun_verb`; the CLI command is `flowmesh noun verb`. */
  name: string;
  title: string;
  description: string;
  input: I;
  /** Without `success: true`, which every output has. */
  output: O;
  annotations: { readOnlyHint: boolean; destructiveHint: boolean; idempotentHint: boolean; openWorldHint: boolean };
  permission: `${'workflow' | 'task' | 'queue' | 'worker' | 'peer'}:${'read' | 'write' | 'admin'}`;
  /** The record that a call is about: the call runs at the peer that owns it. */
  about?: (input: z.output<I>) => Alias;
  /** How long the input makes a call wait, in ms. `callWaitMs` bounds by how much that extends its deadlines. */
  waitMs?: (input: z.output<I>) => number;
  /**
   * For the CLI: positional arguments, the columns of the list in the output, and the inputs it sends when none are
   * typed (`whole`). The tool's own defaults keep answers small for models; a person sees all of an answer.
   */
  cli?: { positional?: string[]; list?: { field: string; columns: string[] }; whole?: JsonObject };
}

/** Answered on the serve loop when `about` names a record of this peer (or there is none), else on the mesh loop. */
export interface ReadTool<I extends z.ZodObject = z.ZodObject, O extends z.ZodObject = z.ZodObject>
  extends ToolBase<I, O> {
  runtime: 'serve';
  /** Resolves undefined when the record is not here; the router then asks the mesh. */
  handler(input: z.output<I>, reading: Reading): Promise<z.input<O> | undefined>;
  /** For inputs that need other peers (`scope: mesh`) or live state: where `when` is true, this `handler` answers. */
  merge?: { when(input: z.output<I>): boolean; handler(input: z.output<I>, context: MeshContext): Promise<z.input<O>> };
}

export interface MeshTool<I extends z.ZodObject = z.ZodObject, O extends z.ZodObject = z.ZodObject>
  extends ToolBase<I, O> {
  runtime: 'mesh';
  /**
   * The answer when nobody can write the record now, and the call is kept for the next owner. A tool without this
   * refuses such a call.
   */
  whenKept?: (input: z.output<I>, record: { status: string }) => z.input<O>;
  handler(input: z.output<I>, context: MeshContext): Promise<z.input<O>>;
}

export type Tool = ReadTool | MeshTool;

/** Checks a definition against its own input and output types; a `Tool` in the registry no longer has them. */
export function defineReadTool<I extends z.ZodObject, O extends z.ZodObject>(
  tool: Omit<ReadTool<I, O>, 'runtime'>,
): Tool {
  return { ...tool, runtime: 'serve' } as unknown as Tool;
}

export function defineMeshTool<I extends z.ZodObject, O extends z.ZodObject>(
  tool: Omit<MeshTool<I, O>, 'runtime'>,
): Tool {
  return { ...tool, runtime: 'mesh' } as unknown as Tool;
}
