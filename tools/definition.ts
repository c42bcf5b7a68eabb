/**
 * One tool, defined once. From a definition come the MCP tool, the CLI command, the call between peers and the
 * reference page; nothing about a tool is written anywhere else.
 */
import type { z } from 'zod';
import type { JsonObject } from '../dag/errors.ts';
import type { Durability, FeedsNow, SchedulerApi } from '../scheduler/api.ts';
import type { Alias } from '../scheduler/messages.ts';
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
  /** Why tasks that are queued at this peer wait, by uid, as the scheduler knows it now; without those it does not know. */
  whyWaiting(uids: string[]): Promise<Record<string, Why>>;
}

/** What the handler of a read gets: the record may be of this peer, or a copy. */
export interface Reading {
  reader: Reader;
  clock: Clock;
  self: string;
  /** The peer that owns what is read. */
  owner: string;
  /** The owner is another peer, which cannot be reached. */
  isCopy: boolean;
  whyWaiting: ReadContext['whyWaiting'];
  /** The record that has this id. */
  record<K extends 'workflow' | 'task'>(kind: K, id: string): Promise<Extract<FlowRecord, { kind: K }> | undefined>;
  /** On how many disks is now what was read until now, of how many `wanted`; null for a copy. */
  durability(wanted: number): Durability | null;
}

/** What the other tools need: they run on the mesh loop. */
export interface MeshContext extends ReadContext {
  scheduler: SchedulerApi;
  peers: PeerDirectory;
  /** Aborted when the caller went away or its deadline passed. */
  signal: AbortSignal;
  /** Runs a tool on every connected peer; a peer that does not answer is left out and named in `missing`. */
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
  /** What a call waits for by itself, in milliseconds: `callWaitMs` says how far its deadlines allow for that. */
  waitMs?: (input: z.output<I>) => number;
  /**
   * How the CLI shows it: positional arguments, the columns of the list in the output, and what it asks for where nothing
   * is typed (`whole`): defaults keep an answer small for a model that reads it, a person sees all of it.
   */
  cli?: { positional?: string[]; list?: { field: string; columns: string[] }; whole?: JsonObject };
}

/** Answered on the serve loop when `about` names a record of this peer (or there is none), else on the mesh loop. */
export interface ReadTool<I extends z.ZodObject = z.ZodObject, O extends z.ZodObject = z.ZodObject>
  extends ToolBase<I, O> {
  runtime: 'serve';
  /** Resolves undefined when the record is not here; the router then asks the mesh. */
  handler(input: z.output<I>, reading: Reading): Promise<z.input<O> | undefined>;
  /** True when this input needs other peers (`scope: mesh`); then `everywhere` merges. */
  merge?: { when(input: z.output<I>): boolean; handler(input: z.output<I>, context: MeshContext): Promise<z.input<O>> };
}

export interface MeshTool<I extends z.ZodObject = z.ZodObject, O extends z.ZodObject = z.ZodObject>
  extends ToolBase<I, O> {
  runtime: 'mesh';
  /**
   * What is answered when nobody can write the record now, and the call is kept for whoever can next. Without it such a
   * call is refused.
   */
  whenKept?: (input: z.output<I>, record: { status: string }) => z.input<O>;
  handler(input: z.output<I>, context: MeshContext): Promise<z.input<O>>;
}

export type Tool = ReadTool | MeshTool;

/** Keeps the inferred types of a definition while it is written, and forgets them in the registry. */
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
