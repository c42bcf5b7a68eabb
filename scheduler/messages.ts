/**
 * What peers say to each other on `/flowmesh/peer/1.0.0`. Every message is checked here at the edge, then trusted.
 * The sender is the connection's PeerId, so no message names its own sender (P9).
 */
import { z } from 'zod';
import { boundedError, type ErrorShape, FlowmeshError } from '../dag/errors.ts';
import { anyJson, jsonObject, walkJson } from '../dag/json.ts';
import { JSON_DEPTH_MAX } from '../dag/limits.ts';
import { requiresSchema } from '../dag/schema.ts';
import { callerSchema } from './caller.ts';
import {
  FOLLOWERS_MAX,
  LEASE_TOKENS_MAX,
  LOCATE_ASKED_MAX,
  LOCATE_ITEMS_MAX,
  LOG_LINE_CHARS_MAX,
  ROW_BYTES_MAX,
  ROW_LEVELS_MAX,
} from './limits.ts';
import {
  errorSchema,
  type FlowRecord,
  feedRecordSchema,
  lineSchema,
  logLineSchema,
  placementSchema,
  type Row,
  recordSchema,
} from './records.ts';
import { isRowSize, nestsBeyond } from './sizes.ts';

/** An id in a message. The longest are uids, which contain the ids of what they belong to. */
const ID_CHARS_ON_WIRE_MAX = 512;
const id = z.string().max(ID_CHARS_ON_WIRE_MAX);
const count = z.number().int().nonnegative();
/** What a peer reports of a task becomes part of the task's record: texts are cut here, as they are at a worker. */
const reportedError = errorSchema.transform((error) => boundedError(error as ErrorShape) as typeof error);
const reportedLine = logLineSchema.transform((line) => ({ ...line, line: line.line.slice(0, LOG_LINE_CHARS_MAX) }));

/** The token of a lease: `(feed_id, epoch, attempt)` of the task `uid`. */
export const leaseTokenSchema = z.object({ uid: id, feed_id: id, epoch: count, attempt: count });
export type LeaseToken = z.infer<typeof leaseTokenSchema>;

/**
 * A list of tokens as in `leaseTokenSchema`, checked by one plain loop: for the longest list, the check of zod itself
 * would hold up the mesh loop for a tenth of a second.
 */
export const leaseTokensSchema = z.custom<LeaseToken[]>(
  (value) => Array.isArray(value) && value.length <= LEASE_TOKENS_MAX && value.every(isLeaseToken),
  `must be a list of at most ${LEASE_TOKENS_MAX} lease tokens`,
);

function isLeaseToken(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  const { uid, feed_id, epoch, attempt } = value as Record<keyof LeaseToken, unknown>;
  return isId(uid) && isId(feed_id) && isCount(epoch) && isCount(attempt);
}

function isId(value: unknown): boolean {
  return typeof value === 'string' && value.length <= ID_CHARS_ON_WIRE_MAX;
}

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

export const workerStateSchema = z.object({
  worker_id: id,
  actions: z.array(id).max(1_024),
  labels: z.array(id).max(256),
  /** What its peer allows of the actions: `shell:wc` or `shell:*`, …; absent when the peer does not say. */
  allows: z.array(id).max(1_024).optional(),
  /** Those of its actions that the policy of its peer does not let the peer run that is told this. */
  denied: z.array(id).max(1_024).optional(),
  cpu_cores: z.number().nullable(),
  memory_gb: z.number().nullable(),
  slots: count,
  running: count,
  completed: count,
  failed: count,
  status: z.enum(['active', 'draining', 'offline']),
  registered_at: z.string(),
  metadata: jsonObject,
});
export type WorkerState = z.infer<typeof workerStateSchema>;

/** Waiting tasks that need the same of a worker. */
export const offerClassSchema = z.object({
  action: id,
  requires: requiresSchema,
  /** What a worker's peer has to allow of the action. */
  needs: z.array(id).max(64).optional(),
  count: count,
  max_priority: z.number(),
});
export type OfferClass = z.infer<typeof offerClassSchema>;

/** A peer about itself: in `hello`, `beat` and `describe`. */
export const peerStateSchema = z.object({
  name: z.string().max(256),
  version: z.string().max(64),
  /** The feeds that it owns, each with its current line. */
  feeds: z
    .array(
      lineSchema.omit({ owner: true }).extend({
        feed_id: id,
        /** Peers that may own the feed next, as in `lease`. */
        heirs: z.array(id).max(FOLLOWERS_MAX).optional(),
      }),
    )
    .max(1_024),
  workers: z.array(workerStateSchema).max(64),
  queued: count,
  running: count,
  paused: z.boolean(),
  waiting: z.array(offerClassSchema).max(32),
  addresses: z.array(z.string().max(512)).max(32),
});
export type PeerState = z.infer<typeof peerStateSchema>;

/** A beat: the sender's state, and which leases of the receiver it holds (running, or ended and not acknowledged). */
export const beatSchema = z.object({
  state: peerStateSchema,
  holding: leaseTokensSchema,
  /** Other peers the sender is connected to: how a small mesh becomes a full one. */
  knows: z.array(z.object({ peer_id: id, addresses: z.array(z.string().max(512)).max(16) })).max(64),
});
export type Beat = z.infer<typeof beatSchema>;

/** A worker gives leases back: not started (`busy`, `unable`), or begun and ended early (`handed_back`). */
export const refuseRequestSchema = z.object({
  items: z
    .array(
      leaseTokenSchema.extend({ reason: z.enum(['busy', 'unable', 'handed_back']), message: z.string().max(1_024) }),
    )
    .max(1_024),
});

export const leaseSchema = leaseTokenSchema.extend({
  worker_id: id,
  action: id,
  payload: jsonObject,
  requires: requiresSchema,
  timeout_ms: z.number().nullable(),
});
export type Lease = z.infer<typeof leaseSchema>;

/** Answered with the leases that the worker does not take, as in `refuse`. */
export const leaseRequestSchema = z.object({
  leases: z.array(leaseSchema).max(256),
  /** Peers that may own the feed of the leases next: one of them gets the results when their owner is gone. */
  heirs: z.array(id).max(64),
  /** Of the owner, over all of them (`signatures.ts`); absent in an open mesh. */
  signature: z.string().max(256).optional(),
});

/** A lease's place in its frame, and the hashes up to what its owner signed. */
export const grantSchema = z.object({
  signature: z.string().max(256),
  place: count,
  path: z.array(z.string().max(64)).max(16),
});
export type Grant = z.infer<typeof grantSchema>;

export const progressSchema = z.object({
  items: z.array(
    leaseTokenSchema.extend({
      percent: z.number().min(0).max(100).nullable(),
      message: z.string().max(1_024).nullable(),
      lines: z.array(reportedLine).max(1_000),
    }),
  ),
});

export const attemptResultSchema = leaseTokenSchema.extend({
  status: z.enum(['completed', 'failed', 'cancelled']),
  output: anyJson,
  error: reportedError.nullable(),
  execution_time_ms: z.number(),
  lines: z.array(reportedLine).max(1_000),
  dropped_lines: count,
  /** The mesh loop of a peer crashed while it worked on the lease; this names the crash. */
  crash: id.optional(),
  /** Only for an owner that did not grant the lease itself: who did, and the hash of what it ran with. */
  granted_by: id.optional(),
  payload_hash: z.string().max(128).optional(),
  /** The signature of that owner; absent in an open mesh. */
  grant: grantSchema.optional(),
});
export type AttemptResult = z.infer<typeof attemptResultSchema>;
/** Answered after the owner's commit; the worker forgets the result then, and not before (P3). */
export const resultRequestSchema = z.object({
  results: z.array(attemptResultSchema).max(1_024),
  /** Of the worker, over all of them (`signatures.ts`); absent in an open mesh. */
  signature: z.string().max(256).optional(),
});

export const cancelRequestSchema = z.object({
  items: z.array(leaseTokenSchema.extend({ force: z.boolean(), reason: z.string().max(1_024) })).max(1_024),
});

/** A worker with free slots asks an owner, whose beat or offer showed waiting tasks, for work. */
export const claimRequestSchema = z.object({
  found_by: placementSchema.shape.found_by.unwrap().extract(['connected', 'offer']),
  state: peerStateSchema,
});

export const offerSchema = z.object({
  owner: id,
  addresses: z.array(z.string().max(512)).max(32),
  classes: z.array(offerClassSchema).max(32),
});

const aliasSchema = z.object({ kind: z.enum(['workflow', 'task', 'worker']), id });
export type Alias = z.infer<typeof aliasSchema>;

/** `release`: the asker's submit was refused; its reservation of the id with this content is over. */
export const reserveRequestSchema = z.object({
  items: z
    .array(aliasSchema.extend({ content_hash: z.string().max(128), release: z.literal(true).optional() }))
    .max(1_024),
});
/** Per item the peer that holds the reservation now: the asker itself when it got it. */
export const reserveAnswerSchema = z.object({ holders: z.array(z.object({ peer_id: id, content_hash: z.string() })) });

/** The record that a peer has with an id. */
const heldSchema = z.object({
  peer_id: id,
  uid: id,
  status: z.string(),
  content_hash: z.string(),
  /** The record was not accepted, and never began. */
  refused: z.literal(true).optional(),
});
/** An id that is asked for. `held`: the asker's own record with it, if any: one of two records yields the id (P5). */
const questionSchema = aliasSchema.extend({ held: heldSchema.optional() });
export type Question = z.infer<typeof questionSchema>;
export type Held = z.infer<typeof heldSchema>;

/** `asked`: peers that were asked already on the way here, and are not asked again. */
export const locateRequestSchema = z.object({
  items: z.array(questionSchema).max(LOCATE_ITEMS_MAX),
  hops: count,
  asked: z.array(id).max(LOCATE_ASKED_MAX),
});
/** Per item the owner as far as the asked peer knows, else a peer that has a copy, or null. */
export const locateAnswerSchema = z.object({
  found: z.array(
    z
      .object({
        peer_id: id,
        addresses: z.array(z.string()).max(32),
        /** The uid of the record at that peer. */
        uid: id.optional(),
        status: z.string(),
        content_hash: z.string(),
        refused: z.literal(true).optional(),
        /** Only of a peer that has a copy: the owner as far as it knows. */
        copy_of: id.optional(),
      })
      .nullable(),
  ),
});
export type Located = NonNullable<z.infer<typeof locateAnswerSchema>['found'][number]>;
/** Where a record is, for this peer itself. `status` and `content_hash` are null when only its peer is known. */
export type RemotePlace = Omit<Located, 'status' | 'content_hash'> & {
  status: string | null;
  content_hash: string | null;
};

/** A row travels as its record's JSON, which is made once for every disk and every follower. */
const rowMessageSchema = z.object({ epoch: count, seq: count, text: z.string() });
export type RowMessage = z.infer<typeof rowMessageSchema>;
export function rowMessages(rows: readonly Row[]): RowMessage[] {
  return rows.map(({ epoch, seq, record, text }) => ({ epoch, seq, text: text ?? JSON.stringify(record) }));
}

/**
 * Rows are checked once, here, and kept as they came, with fields that only a later version knows: the peer that takes
 * their feed over reads them as it reads its own.
 * @throws FlowmeshError INVALID_MESSAGE for a row that does not hold a record, or is too large or deep for one
 */
export function rowsOf(feed_id: string, messages: readonly RowMessage[]): Row[] {
  return messages.map(({ epoch, seq, text }) => {
    const record = readRecord(text);
    return { uid: record.uid, feed_id, epoch, seq, record, text };
  });
}

function readRecord(text: string): FlowRecord {
  if (!isRowSize(text)) throw notARow(`is larger than ROW_BYTES_MAX (${ROW_BYTES_MAX})`);
  let record: unknown;
  try {
    record = JSON.parse(text);
  } catch {
    throw notARow('is not JSON');
  }
  return checkedRecord(record, (problem) => {
    throw notARow(problem);
  });
}

function notARow(problem: string): FlowmeshError {
  return new FlowmeshError('INVALID_MESSAGE', `a row does not hold a record of this version: it ${problem}`);
}

/** The record itself, not what the schema makes of it: that would lack the fields of later versions. */
function checkedRecord<E>(record: unknown, refuse: (problem: string) => E): FlowRecord | E {
  if (nestsBeyond(record, ROW_LEVELS_MAX)) return refuse(`nests deeper than ROW_LEVELS_MAX (${ROW_LEVELS_MAX})`);
  const parsed = recordSchema.safeParse(record);
  if (parsed.success) return record as FlowRecord;
  const [issue] = parsed.error.issues;
  return refuse(`has a fault at ${issue?.path.join('.') || 'its top'}: ${issue?.message}`);
}

/** A commit of a feed for a follower, in a line of the sender. Without rows: the follower is to catch up by itself. */
export const pushRequestSchema = z.object({
  feed_id: id,
  line: lineSchema,
  prev_seq: count,
  head_seq: count,
  rows: z.array(rowMessageSchema),
});
export type Push = z.infer<typeof pushRequestSchema>;
/** How far the follower's disk has come in that line. */
export const pushAnswerSchema = z.object({ seq: count });

/** Asks what changed in a feed after a place in it. */
export const pullRequestSchema = z.object({ feed_id: id, after: z.object({ seq: count, uid: id }) });
/** `feed` is null when the asked peer has nothing of it. */
export const pullAnswerSchema = z.object({
  feed: feedRecordSchema.nullable(),
  rows: z.array(rowMessageSchema),
  /** The rows end where a commit ends. */
  whole: z.boolean(),
  /** How far the asked peer's disk has come. */
  head_seq: count,
  /** False while the asked peer's copy is still being made, and so not that of one moment. */
  complete: z.boolean(),
});
export type PullAnswer = z.infer<typeof pullAnswerSchema>;

/** The sender owns a feed now. Answered with the leases of that feed that run here or ended unacknowledged. */
export const takeoverRequestSchema = z.object({ feed_id: id, line: lineSchema });
export const takeoverAnswerSchema = z.object({ holding: leaseTokensSchema });

/** A record as a message carries it: as text when it has very many values. */
export function carriedRecord(record: FlowRecord): FlowRecord | string {
  return walkJson(record, WIDE).fault === undefined ? record : JSON.stringify(record);
}

/** Records beyond this go as text. Deeper ones are from a version that had no limit. */
const WIDE = { elements: 50_000, depth: JSON_DEPTH_MAX };

function carried(value: unknown, context: z.RefinementCtx): FlowRecord {
  const refuse = (message: string) => {
    context.addIssue({ code: 'custom', message });
    return z.NEVER;
  };
  let record = value;
  try {
    if (typeof value === 'string') record = JSON.parse(value);
  } catch {
    return refuse('is not JSON');
  }
  return checkedRecord(record, refuse);
}

/** What a peer wrote in a line that lost, beyond the fork: all records of one root, in parts. */
export const handoverRequestSchema = z.object({
  feed_id: id,
  line: lineSchema,
  root_uid: id,
  /** Parts of one root come in order, from 0; the last one is answered when all are merged and durable. */
  part: z.number().int().min(0),
  last: z.boolean(),
  /** A record whose values alone would fill a frame comes as its JSON text. */
  records: z.array(z.unknown().transform(carried)),
});

/** A caller, as the peer says that has asked who it is. Signed, as the call may be handed on by others. */
const vouchedCallerSchema = callerSchema.extend({ by: id, signature: z.string().max(128).optional() });
export type VouchedCaller = z.infer<typeof vouchedCallerSchema>;

/** A tool on behalf of a caller. The answering peer runs it as if the caller were connected to it. */
export const callRequestSchema = z.object({
  tool: z.string().max(64),
  input: jsonObject,
  hops: count,
  /** Absent: everybody. */
  caller: vouchedCallerSchema.optional(),
});
export const callAnswerSchema = z.union([z.object({ output: jsonObject }), z.object({ error: reportedError })]);
