/**
 * What a peer remembers. Every record is one row of a feed, keyed by `uid`; the user's id is an alias of it.
 * These schemas are the records on disk and on the wire: there is no other shape.
 *
 *   definition  the submitted DAG, written once (`<workflow uid>:definition`)
 *   workflow    the state of the run, small, rewritten as it moves
 *   step        one started, skipped or failed step (`<workflow uid>/<step_id>`); a pending step has no row
 *   task        one unit of work; of a step: `<workflow uid>/<step_id>/<index>`, which is its idempotency key
 *   log         the kept lines of a task (`<task uid>/log`)
 *   cache       the output of a step marked `cache`, by action and inputs
 *   tombstone   what is left of a record that was cleared, under its uid, so that copies forget it too
 *   superseded  a record of a history that lost to another one after a partition (P5)
 *   feed        who owns the feed, since when, and who follows it
 *
 * In the feed of this peer alone (LOCAL_FEED), which nobody follows:
 *
 *   worker      a registered pool of slots
 *   queue       whether the queue is paused
 *   peer        which of its feeds takes new work
 *   copy        from which commit on a copy of a feed is that of one moment
 *   intent      a client's call for a record whose feed has no owner now
 */
import { z } from 'zod';
import { anyJson, jsonObject } from '../dag/json.ts';
import { requiresSchema, retrySchema, type Step, stepSchema, type Workflow, workflowSchema } from '../dag/schema.ts';
import { callerIdSchema, callerSchema } from './caller.ts';
import { FEED_LINES_MAX, FOLLOWERS_MAX, FORMER_FOLLOWERS_MAX } from './limits.ts';
import { workflowOfDefinition } from './uids.ts';

const time = z.string(); // ISO 8601, UTC: for people and for what must survive a restart (P8)

/**
 * What a client may write, as a record has it: every default is in place, and a later version may have more fields.
 * Absent defaults would be missed when the record is read, as rows are not parsed again.
 */
function inRecord<S extends z.ZodObject>(schema: S): z.ZodType<z.output<S>, z.output<S>> {
  const fields = Object.entries(schema.shape).map(([name, field]) => {
    return [name, field instanceof z.ZodDefault ? field.unwrap() : field];
  });
  return z.looseObject(Object.fromEntries(fields)) as unknown as z.ZodType<z.output<S>, z.output<S>>;
}

const requiresInRecord = inRecord(requiresSchema);
const retryInRecord = inRecord(retrySchema);
const stepInRecord = inRecord(
  stepSchema.extend({ requires: requiresInRecord, retry: retryInRecord }),
) as unknown as z.ZodType<Step, Step>;
const workflowInRecord = inRecord(
  workflowSchema.extend({ steps: z.array(stepInRecord).min(1) }),
) as unknown as z.ZodType<Workflow, Workflow>;

export const errorSchema = z.object({
  code: z.string(),
  message: z.string(),
  retryable: z.boolean(),
  details: jsonObject.optional(),
});

export const WORKFLOW_STATUSES = [
  'submitted',
  'running',
  'input_required',
  'completed',
  'failed',
  'cancelled',
] as const;
export const TASK_STATUSES = ['queued', 'running', 'input_required', 'completed', 'failed', 'cancelled'] as const;
export const workflowStatusSchema = z.enum(WORKFLOW_STATUSES);
export const taskStatusSchema = z.enum(TASK_STATUSES);

/** Who has made what a record says, and its signature; absent where nothing is signed (`signatures.ts`). */
const signedSchema = z.object({ by: z.string(), signature: z.string() });
export type Signed = z.infer<typeof signedSchema>;

/** As `signedSchema`, of one result in a frame of results: its lease, its place, and the hashes up to what is signed. */
const resultSignatureSchema = signedSchema.extend({
  epoch: z.number().int(),
  attempt: z.number().int(),
  place: z.number().int().nonnegative(),
  path: z.array(z.string()).max(16),
});
export type ResultSignature = z.infer<typeof resultSignatureSchema>;

/** How a worker was chosen, kept with the task: `task_status` answers "why there" and "why still queued". */
export const placementSchema = z.object({
  considered: z.number().int(),
  chosen: z.object({ peer_id: z.string(), worker_id: z.string() }).nullable(),
  reason: z.string(),
  /** How the chosen peer became known: its beat on an open stream, the DHT, or its claim of a gossiped offer. */
  found_by: z.enum(['local', 'connected', 'dht', 'offer']).nullable(),
});
export type Placement = z.infer<typeof placementSchema>;

export const definitionRecordSchema = z.object({
  kind: z.literal('definition'),
  uid: z.string(),
  workflow: workflowInRecord,
  signed: signedSchema.optional(),
});

export const workflowRecordSchema = z.object({
  kind: z.literal('workflow'),
  uid: z.string(),
  workflow_id: z.string(),
  name: z.string(),
  status: workflowStatusSchema,
  priority: z.number(),
  tags: z.array(z.string()),
  metadata: jsonObject,
  dependencies: z.array(z.string()),
  content_hash: z.string(),
  /** The task of another workflow that this one is nested in. */
  parent_task_uid: z.string().nullable(),
  /** Whose it is (`Caller.id`); absent where nobody was asked. */
  submitted_by: callerIdSchema.optional(),
  copies: z.number().int(),
  /** True while it may not begin, because its copies are not there yet and its client has no answer. */
  awaits_copies: z.boolean(),
  steps_total: z.number().int(),
  steps_ended: z.number().int(),
  progress: z.number(),
  current_step: z.string().nullable(),
  result: anyJson,
  error: errorSchema.nullable(),
  created_at: time,
  started_at: time.nullable(),
  ended_at: time.nullable(),
  execution_time_ms: z.number().nullable(),
});

export const stepRecordSchema = z.object({
  kind: z.literal('step'),
  uid: z.string(),
  workflow_uid: z.string(),
  step_id: z.string(),
  status: z.enum(['running', 'completed', 'failed', 'skipped', 'cancelled']),
  /** The resolved items of a `foreach` step; null for a step that is one task. */
  items: z.array(anyJson).nullable(),
  /** Indexes of items that `when` left out; absent when there are none. */
  left_out: z.array(z.number().int()).optional(),
  reason: z.string().nullable(),
  error: errorSchema.nullable(),
  started_at: time.nullable(),
  ended_at: time.nullable(),
});

export const taskRecordSchema = z.object({
  kind: z.literal('task'),
  uid: z.string(),
  task_id: z.string(),
  task_type: z.string(),
  payload: jsonObject,
  workflow_uid: z.string().nullable(),
  workflow_id: z.string().nullable(),
  step_id: z.string().nullable(),
  index: z.number().int().nullable(),
  priority: z.number(),
  tags: z.array(z.string()),
  metadata: jsonObject,
  requires: requiresInRecord,
  /** Labels that its worker should have, but need not; absent for none. */
  prefer: z.array(z.string()).optional(),
  /** How long the task waits while no worker can run it; absent: for ever. */
  wait_timeout_ms: z.number().optional(),
  retry: retryInRecord,
  timeout_ms: z.number().nullable(),
  depends_on: z.array(z.string()),
  /** As of a workflow; that of a step's workflow. */
  submitted_by: callerIdSchema.optional(),
  at_most_once: z.boolean(),
  /** The content address of action and inputs, for a step marked `cache`. */
  cache_key: z.string().nullable(),
  content_hash: z.string(),
  copies: z.number().int(),
  status: taskStatusSchema,
  progress: z.number(),
  progress_message: z.string().nullable(),
  /** Leases given so far, also those that a worker refused as busy. The lease token is `(feed_id, epoch, attempt)`. */
  attempt: z.number().int(),
  /** The epoch in which the current lease was given; null without one. */
  lease_epoch: z.number().int().nullable(),
  /** Attempts that ended in a failure of the action itself; retries are counted on these. */
  failures: z.number().int(),
  worker_id: z.string().nullable(),
  peer_id: z.string().nullable(),
  placement: placementSchema.nullable(),
  /** Not before: a delay, a backoff or the end of a `sleep`. */
  due_at: time.nullable(),
  deadline_at: time.nullable(),
  output: anyJson,
  error: errorSchema.nullable(),
  /** The last ATTEMPT_HISTORY_MAX failed attempts, newest last. */
  attempts: z.array(
    z.object({ attempt: z.number().int(), peer_id: z.string().nullable(), ended_at: time, error: errorSchema }),
  ),
  /**
   * The last ATTEMPT_HISTORY_MAX leases that ended here without a word of their worker, newest last; absent in old
   * rows. A success of one of them still counts (P3), from the peer that had it (P9).
   */
  unanswered: z.array(z.object({ attempt: z.number().int(), epoch: z.number().int(), peer_id: z.string() })).optional(),
  dead_letter: z.boolean(),
  /** The crashes of mesh loops that worked on an attempt of it, at most POISON_CRASHES. */
  crashes: z.array(z.string()).optional(),
  retry_of: z.string().nullable(),
  retry_count: z.number().int(),
  created_at: time,
  queued_at: time,
  started_at: time.nullable(),
  ended_at: time.nullable(),
  wait_ms: z.number().nullable(),
  execution_time_ms: z.number().nullable(),
  /** Only of a task that a client submitted: what is to be done, signed by the owner that accepted it. */
  signed: signedSchema.optional(),
  /** How it has ended, signed by its worker, or by the owner that ended it. */
  signed_result: resultSignatureSchema.optional(),
});

export const logLineSchema = z.object({
  at: time,
  attempt: z.number().int(),
  stream: z.enum(['stdout', 'stderr', 'log']),
  line: z.string(),
});
export const logRecordSchema = z.object({
  kind: z.literal('log'),
  uid: z.string(),
  task_uid: z.string(),
  lines: z.array(logLineSchema),
  dropped_lines: z.number().int(),
});

export const workerRecordSchema = z.object({
  kind: z.literal('worker'),
  uid: z.string(),
  worker_id: z.string(),
  capabilities: z.array(z.string()),
  max_concurrent_tasks: z.number().int(),
  resource_limits: z.object({ cpu_cores: z.number().nullable(), memory_gb: z.number().nullable() }),
  metadata: jsonObject,
  status: z.enum(['active', 'draining', 'offline']),
  registered_at: time,
});

export const queueRecordSchema = z.object({
  kind: z.literal('queue'),
  uid: z.string(),
  paused: z.boolean(),
  reason: z.string().nullable(),
  paused_at: time.nullable(),
});

export const cacheRecordSchema = z.object({
  kind: z.literal('cache'),
  uid: z.string(),
  task_uid: z.string(),
  output: anyJson,
});

export const tombstoneRecordSchema = z.object({
  kind: z.literal('tombstone'),
  uid: z.string(),
  cleared_at: time,
});

/** A stretch of a feed's history: its owner, and the last `seq` of the one before. P2 orders lines by all fields. */
export const lineSchema = z.object({
  epoch: z.number().int().nonnegative(),
  base_seq: z.number().int().nonnegative(),
  owner: z.string(),
  /** Random: an owner with an older disk may open two lines after the same commit. The id of the feed is made of it in the first line. */
  nonce: z.string(),
  /** The owner of the line before has signed that this one's may take over; absent where it is the same, or unsigned. */
  warrant: z.string().optional(),
});
export type Line = z.infer<typeof lineSchema>;

function areInOrder(lines: readonly Line[]): boolean {
  return lines.every(({ epoch, base_seq }, at) => {
    const before = lines[at - 1];
    return before === undefined || (before.epoch < epoch && before.base_seq <= base_seq);
  });
}

/** `feed/<feed_id>`: the replica set, versioned, itself a row of the feed it describes. */
export const feedRecordSchema = z.object({
  kind: z.literal('feed'),
  uid: z.string(),
  feed_id: z.string(),
  /** Oldest first: the first one ever and the last ones, at most FEED_LINES_MAX. The last one has the owner. */
  lines: z.array(lineSchema).min(1).max(FEED_LINES_MAX).refine(areInOrder, 'lines must follow each other'),
  /**
   * True when the feed has had an owner other than its first, or an owner that went on without hearing from all of its
   * followers that they have just what it has: no `at_most_once` task is started in the feed any more (P4).
   */
  passed_on: z.boolean(),
  /** `synced`: was brought to the head; only then may it take the feed over, and only then does its copy count. */
  followers: z
    .array(
      z.object({
        peer_id: z.string(),
        synced: z.boolean(),
        /** Only of a synced one: the owner has signed that it may take over (`signatures.ts`). */
        warrant: z.string().optional(),
      }),
    )
    .max(FOLLOWERS_MAX),
  /** The last FORMER_FOLLOWERS_MAX former followers: one that was cut off may not know that it is none any more. */
  former: z.array(z.string()).max(FORMER_FOLLOWERS_MAX),
  version: z.number().int(),
  /** Tombstones up to this commit are forgotten: a copy that is behind it is made anew. */
  pruned_to_seq: z.number().int(),
  /** Records up to this commit may have no signature: they are from before the mesh was secured. Absent: none. */
  unsigned_to_seq: z.number().int().optional(),
  /** By the owner of the last line. */
  signed: signedSchema.optional(),
});

export const peerRecordSchema = z.object({
  kind: z.literal('peer'),
  uid: z.literal('peer'),
  main_feed: z.string(),
});

/** `copy/<feed_id>`: pages of a pull are of different moments; the copy is of one once its head is at `whole_from`. */
export const copyRecordSchema = z.object({
  kind: z.literal('copy'),
  uid: z.string(),
  feed_id: z.string(),
  whole_from: z.number().int(),
  /** The history that the pages are of. */
  lines: z.array(lineSchema),
});

export const intentRecordSchema = z.object({
  kind: z.literal('intent'),
  uid: z.string(),
  target: z.object({ kind: z.enum(['workflow', 'task']), uid: z.string(), id: z.string() }),
  feed_id: z.string(),
  tool: z.string(),
  input: jsonObject,
  /** Absent: everybody. */
  caller: callerSchema.optional(),
  created_at: time,
});

const plainRecordSchema = z.discriminatedUnion('kind', [
  definitionRecordSchema,
  workflowRecordSchema,
  stepRecordSchema,
  taskRecordSchema,
  logRecordSchema,
  workerRecordSchema,
  queueRecordSchema,
  cacheRecordSchema,
  tombstoneRecordSchema,
  feedRecordSchema,
  peerRecordSchema,
  copyRecordSchema,
  intentRecordSchema,
]);

/** `superseded/<epoch>/<owner>/<nonce>/<uid>`: what another history said of the record `uid`. */
export const supersededRecordSchema = z.object({
  kind: z.literal('superseded'),
  uid: z.string(),
  /** The workflow, or task outside any workflow, that the record belongs to. */
  root_uid: z.string(),
  line: lineSchema,
  superseded_at: time,
  record: plainRecordSchema,
});

export const recordSchema = z.discriminatedUnion('kind', [...plainRecordSchema.options, supersededRecordSchema]);

export type WorkflowRecord = z.infer<typeof workflowRecordSchema>;
export type StepRecord = z.infer<typeof stepRecordSchema>;
export type TaskRecord = z.infer<typeof taskRecordSchema>;
export type LogRecord = z.infer<typeof logRecordSchema>;
export type LogLine = z.infer<typeof logLineSchema>;
export type WorkerRecord = z.infer<typeof workerRecordSchema>;
export type QueueRecord = z.infer<typeof queueRecordSchema>;
export type CacheRecord = z.infer<typeof cacheRecordSchema>;
export type FeedRecord = z.infer<typeof feedRecordSchema>;
export type IntentRecord = z.infer<typeof intentRecordSchema>;
export type SupersededRecord = z.infer<typeof supersededRecordSchema>;
export type FlowRecord = z.infer<typeof recordSchema>;
export type RecordKind = FlowRecord['kind'];

/** One record in its feed: `seq` is that of the commit that wrote it last, shared by all rows of the commit. */
export interface Row {
  uid: string;
  feed_id: string;
  epoch: number;
  seq: number;
  record: FlowRecord;
  /** The record as JSON, if it was made already: what a store writes and a follower is sent. */
  text?: string;
}

/** The feed of what a peer keeps for itself. It has no copies. */
export const LOCAL_FEED = 'local';

/** The columns a store indexes a record by. */
export interface RecordIndex {
  /** The user's id. */
  alias: string | null;
  /** The workflow of a step, definition or task; the task of a log. */
  parent: string | null;
  status: string | null;
  priority: number | null;
  created_at: string | null;
}

export function indexOf(record: FlowRecord): RecordIndex {
  const none: RecordIndex = { alias: null, parent: null, status: null, priority: null, created_at: null };
  switch (record.kind) {
    case 'workflow':
      return {
        alias: record.workflow_id,
        parent: record.parent_task_uid,
        status: record.status,
        priority: record.priority,
        created_at: record.created_at,
      };
    case 'task':
      return {
        alias: record.task_id,
        parent: record.workflow_uid,
        status: record.status,
        priority: record.priority,
        created_at: record.created_at,
      };
    case 'worker':
      return { ...none, alias: record.worker_id, status: record.status, created_at: record.registered_at };
    case 'step':
      return { ...none, parent: record.workflow_uid, status: record.status };
    case 'definition':
      return { ...none, parent: workflowOfDefinition(record.uid) };
    case 'log':
      return { ...none, parent: record.task_uid };
    case 'superseded':
      return { ...none, parent: record.root_uid };
    case 'intent':
      return { ...none, parent: record.feed_id };
    default:
      return none;
  }
}

const TERMINAL = new Set<string>(['completed', 'failed', 'cancelled']);

/** P5: a record with such a status never changes it again. */
export function isTerminal(status: string): boolean {
  return TERMINAL.has(status);
}

/** A task's state before anything happened to it. */
export const EMPTY_TASK_STATE = {
  status: 'queued' as const,
  progress: 0,
  progress_message: null,
  attempt: 0,
  lease_epoch: null,
  failures: 0,
  worker_id: null,
  peer_id: null,
  placement: null,
  due_at: null,
  deadline_at: null,
  output: null,
  error: null,
  attempts: [],
  dead_letter: false,
  crashes: [],
  unanswered: [],
  retry_of: null,
  retry_count: 0,
  started_at: null,
  ended_at: null,
  wait_ms: null,
  execution_time_ms: null,
};
