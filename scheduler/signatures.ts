/**
 * What is signed, by whom, and where that is checked: so that a peer cannot forge what it copies (P9).
 *
 *   record                          what is signed of it                     by                      field
 *   definition                      the whole workflow                       the owner that took it  `signed`
 *   task that a client submitted    what is to be done (`TASK_FIELDS`)       the owner that took it  `signed`
 *   task that has completed, or     status, output and error, for the lease  its worker, or the      `signed_result`
 *   failed as its worker reported   token that the signature names           owner that ended it
 *   lease (not kept in a record)    its token, its worker and its payload    the owner that gives it `grant` of a result
 *   feed                            all of it                                the owner of its line   `signed`
 *   caller (not kept)               who it is, the tool and its input        the peer that asked      `caller` of a call
 *   synced follower of a feed       that it may take the feed over           the owner of the line   `warrant`
 *
 * 1. Everything else is as trustworthy as the peer that it came from: how far steps are, failures and cancels that an
 *    owner decided, logs, tombstones. So a member of a replica set that lies can lose what only it has, and say that it
 *    has failed; it cannot give it another content or another result than it got.
 * 2. A peer is believed about the lines of a feed that it owns or owned. Rows that it brings of other owners' lines are
 *    checked (`follower.ts`, pulls), and so are roots that are handed over (`reconcile.ts`). A commit that an owner
 *    pushes is not checked: the connection proves who it is.
 * 3. A worker signs a frame of results at once: a signature costs as much as ten results. The owner checks the frame, as
 *    a wrong signature that it kept would make liars of its followers. What is kept with each result is its place in
 *    the frame, and the hashes that lead from it to the one that was signed (Merkle 1987).
 * 4. A frame of leases is signed in the same way. A worker that brings its result to the next owner of the feed shows it:
 *    that owner may have no row which says who had the lease (`isUsable` in `task/transitions.ts`).
 * 5. Who takes a feed over shows the warrant of the owner before it, in its line. So everybody can tell from a feed's
 *    record alone whether its lines follow each other lawfully, back to the peer that made the feed: the id of a feed is
 *    a hash of that peer and a nonce. (Beyond FEED_LINES_MAX, lines are forgotten, and the first of the others is
 *    believed.)
 * 6. In an open mesh nothing is signed or checked. A feed from before its mesh was secured says up to which commit its
 *    records may be unsigned (`unsigned_to_seq`); it is set when its owner first opens a line in the secured mesh, which
 *    signs its open tasks, too. Lines that began until then need no warrant, if the id of the feed is not such a hash. A
 *    feed record without a signature is believed of its owner, and else only of the line
 *    that is known here already.
 */
import { createHash } from 'node:crypto';
import type { JsonValue } from '../dag/errors.ts';
import type { ToolCall } from './api.ts';
import { contentHash, feedIdOf } from './ids.ts';
import { FEED_LINES_MAX } from './limits.ts';
import type { AttemptResult, Grant, Lease, LeaseToken, VouchedCaller } from './messages.ts';
import type { Signer } from './ports.ts';
import type { FeedRecord, FlowRecord, Line, ResultSignature, Signed, TaskRecord } from './records.ts';

const VERSION = 'flowmesh/1';

/** What a client said that is to be done, of a task's record. */
const TASK_FIELDS = ['task_type', 'payload', 'requires', 'timeout_ms', 'retry', 'at_most_once', 'retry_of'] as const;

/** How an attempt ended, as its worker reports it and as the task's record has it. */
type ResultContent = Pick<TaskRecord, 'status' | 'output' | 'error'>;

/** Who may have signed the records of a feed, and which of them need no signature. */
export interface Signatories {
  feed_id: string;
  owners: ReadonlySet<string>;
  /** False when owners were forgotten: then any peer may have been one. */
  knowsAll: boolean;
  /** Rows up to this commit may be unsigned; records that come without their commit may be, if it is not 0. */
  unsignedTo: number;
}

/** The owners in the lines of a feed, and another one that wrote in a line which was given up. */
export function signatoriesOf({ feed_id, lines, unsigned_to_seq = 0 }: FeedRecord, other?: string): Signatories {
  const owners = new Set(lines.map(({ owner }) => owner));
  if (other !== undefined) owners.add(other);
  const [first, second] = lines;
  const knowsAll = second === undefined || lines.length < FEED_LINES_MAX || second.epoch === first!.epoch + 1;
  return { feed_id, owners, knowsAll, unsignedTo: unsigned_to_seq };
}

export class Signatures {
  readonly #signer: Signer;
  readonly #self: string;
  /** False in an open mesh: nothing is signed or checked. */
  readonly isOn: boolean;

  constructor({ signer, self }: { signer: Signer; self: string }) {
    this.#signer = signer;
    this.#self = self;
    this.isOn = signer.sign(VERSION) !== null;
  }

  // --- signing -------------------------------------------------------------------------------------------------------

  #signed(text: string): Signed | undefined {
    const signature = this.isOn ? this.#signer.sign(text) : null;
    return signature === null ? undefined : { by: this.#self, signature };
  }

  /** A definition, or a task that a client submitted, which this peer has just accepted. */
  accepted<R extends Extract<FlowRecord, { kind: 'definition' | 'task' }>>(feedId: string, record: R): R {
    const { signed: _old, ...rest } = record;
    const signed = this.isOn ? this.#signed(workText(feedId, record)) : undefined;
    return (signed === undefined ? rest : { ...rest, signed }) as R;
  }

  /** A feed's record that this peer writes as its owner. */
  feed(record: FeedRecord): FeedRecord {
    const { signed: _old, ...rest } = record;
    const followers = record.followers.map(({ peer_id, synced }) => {
      const warrant =
        synced && this.isOn ? this.#signer.sign(warrantText(record, record.lines.at(-1)!, peer_id)) : null;
      return warrant === null ? { peer_id, synced } : { peer_id, synced, warrant };
    });
    const made = { ...rest, followers };
    const signed = this.isOn ? this.#signed(feedText(made)) : undefined;
    return signed === undefined ? made : { ...made, signed };
  }

  /** The record of a feed whose next line this peer opens, with what it has of before the mesh was secured. */
  opening(record: FeedRecord, before: FeedRecord, head: number): FeedRecord {
    return this.isOn && before.signed === undefined && head > 0 ? { ...record, unsigned_to_seq: head } : record;
  }

  /** The end of a task that this peer decides as its owner. */
  ended(feed: { feed_id: string; epoch: number }, record: TaskRecord): ResultSignature | undefined {
    if (!this.isOn) return undefined;
    const { uid, attempt } = record;
    const token = { uid, feed_id: feed.feed_id, epoch: feed.epoch, attempt };
    const signed = this.#signed(frameText(leafOf(token, record)));
    return signed === undefined ? undefined : { ...signed, epoch: token.epoch, attempt, place: 0, path: [] };
  }

  /** The signature of a frame of results of this worker; nothing in an open mesh. */
  frame(results: readonly AttemptResult[]): { signature?: string } {
    if (!this.isOn) return {};
    return this.#signatureOf(results.map((result) => leafOf(result, result)));
  }

  #signatureOf(leaves: readonly string[]): { signature?: string } {
    const signed = this.#signed(frameText(rootOf(treeOver(leaves))));
    return signed === undefined ? {} : { signature: signed.signature };
  }

  /** The signature of a frame of leases that this owner gives to a worker; nothing in an open mesh. */
  leases(worker: string, leases: readonly Lease[]): { signature?: string } {
    return this.isOn
      ? this.#signatureOf(leases.map((lease) => grantOf(worker, lease, contentHash(lease.payload))))
      : {};
  }

  /** For each lease of a frame that came to this worker: what shows that it was given. Made when it is asked for. */
  grantsOf(leases: readonly Lease[], signature: string | undefined): (at: number) => Grant | undefined {
    if (!this.isOn || signature === undefined) return () => undefined;
    // Only hashes are kept for as long as one of the leases runs.
    const leaves = leases.map((lease) => grantOf(this.#self, lease, contentHash(lease.payload)));
    let tree: readonly string[][] | undefined;
    return (place) => {
      tree ??= treeOver(leaves);
      return { signature, place, path: pathOf(tree, place) };
    };
  }

  /** Whether the owner that a result names has given the lease to this worker. */
  isGranted(worker: string, { granted_by, grant, payload_hash = '', ...token }: AttemptResult): boolean {
    if (!this.isOn || granted_by === worker) return true;
    if (granted_by === undefined || grant === undefined) return false;
    const root = rootFrom(grantOf(worker, token, payload_hash), grant.place, grant.path);
    return this.#signer.verify(granted_by, frameText(root), grant.signature);
  }

  /** A caller that this peer has asked who it is, for peers that the call is handed on to. */
  vouched(call: ToolCall): VouchedCaller {
    const signature = this.isOn ? this.#signer.sign(callerText(call, this.#self)) : null;
    return { ...call.caller, by: this.#self, ...(signature !== null && { signature }) };
  }

  /** Whether the peer that a caller names has vouched for it in this call, which `from` brings. */
  isVouched(from: string, call: ToolCall, { by, signature }: VouchedCaller): boolean {
    return !this.isOn || by === from || this.#signer.verify(by, callerText(call, by), signature);
  }

  // --- checking ------------------------------------------------------------------------------------------------------

  /**
   * What is kept with each result of a frame that a worker brought: nothing when it has no signature.
   * @returns null when the signature is not of this worker and these results
   */
  ofFrame(
    worker: string,
    results: readonly AttemptResult[],
    signature: string | undefined,
  ): (ResultSignature | undefined)[] | null {
    if (!this.isOn || signature === undefined) return results.map(() => undefined);
    const tree = treeOver(results.map((result) => leafOf(result, result)));
    const isOwn = worker === this.#self; // no other peer could have brought it
    if (!isOwn && !this.#signer.verify(worker, frameText(rootOf(tree)), signature)) return null;
    return results.map(({ epoch, attempt }, place) => {
      return { by: worker, signature, epoch, attempt, place, path: pathOf(tree, place) };
    });
  }

  /** Whether each owner of a feed was named by the one before it, and the first one has made the feed. */
  isLawful(feed: FeedRecord): boolean {
    if (!this.isOn) return true;
    const { feed_id, lines, unsigned_to_seq = 0 } = feed;
    const [first] = lines;
    const isBound = feedIdOf(first!.owner, first!.nonce) === feed_id;
    if (!isBound && unsigned_to_seq === 0) return feed.signed === undefined; // nobody has written it since
    return lines.every((line, at) => {
      const before = lines[at - 1];
      if (before === undefined || before.owner === line.owner) return true;
      if (!isBound && line.base_seq <= unsigned_to_seq) return true;
      if (at === 1 && lines.length === FEED_LINES_MAX && line.epoch > before.epoch + 1) return true; // some are forgotten
      return this.#signer.verify(before.owner, warrantText(feed, before, line.owner), line.warrant);
    });
  }

  /** Whether a feed's record is as the owner of its line has written it. */
  isOfOwner(record: FeedRecord): boolean {
    if (!this.isOn) return true;
    const { owner } = record.lines.at(-1)!;
    const { signed } = record;
    return signed?.by === owner && this.#signer.verify(owner, feedText(record), signed.signature);
  }

  /**
   * Whether a record says something that the one who should have signed it did not sign.
   * @param seq its commit; undefined when it comes without
   */
  isForged(of: Signatories, record: FlowRecord, seq?: number): boolean {
    if (!this.isOn) return false;
    const mayBeUnsigned = seq === undefined ? of.unsignedTo > 0 : seq <= of.unsignedTo;
    switch (record.kind) {
      case 'definition':
        return !this.#isAccepted(of, record, mayBeUnsigned);
      case 'task':
        if (record.workflow_uid === null && !this.#isAccepted(of, record, mayBeUnsigned)) return true;
        return !this.#isResult(of, record, mayBeUnsigned);
      case 'superseded':
        return this.isForged({ ...of, owners: new Set([...of.owners, record.line.owner]) }, record.record, seq);
      default:
        return false;
    }
  }

  #isAccepted(
    of: Signatories,
    record: Extract<FlowRecord, { kind: 'definition' | 'task' }>,
    mayBeUnsigned: boolean,
  ): boolean {
    const { signed } = record;
    if (signed === undefined) return mayBeUnsigned;
    if (!isSignatory(of, signed.by)) return false;
    return this.#signer.verify(signed.by, workText(of.feed_id, record), signed.signature);
  }

  #isResult(of: Signatories, record: TaskRecord, mayBeUnsigned: boolean): boolean {
    const { signed_result: signed, uid, status, peer_id } = record;
    if (signed === undefined) return status !== 'completed' || mayBeUnsigned;
    if (signed.by !== peer_id && !isSignatory(of, signed.by)) return false;
    const token = { uid, feed_id: of.feed_id, epoch: signed.epoch, attempt: signed.attempt };
    const root = rootFrom(leafOf(token, record), signed.place, signed.path);
    return this.#signer.verify(signed.by, frameText(root), signed.signature);
  }
}

function isSignatory({ owners, knowsAll }: Signatories, peer: string): boolean {
  return !knowsAll || owners.has(peer);
}

// --- the texts -------------------------------------------------------------------------------------------------------

/** As JSON, so that no part can be taken for another one. */
function textOf(...parts: (string | number)[]): string {
  return JSON.stringify([VERSION, ...parts]);
}

function workText(feedId: string, record: Extract<FlowRecord, { kind: 'definition' | 'task' }>): string {
  const content = record.kind === 'definition' ? record.workflow : taskContentOf(record);
  return textOf(record.kind, record.uid, feedId, contentHash(content as unknown as JsonValue));
}

function taskContentOf(task: TaskRecord) {
  const content: unknown[] = TASK_FIELDS.map((field) => task[field]);
  return task.submitted_by === undefined ? content : [...content, task.submitted_by];
}

function callerText(call: ToolCall, by: string): string {
  const { tool, input, caller } = call;
  return textOf('caller', by, caller.id ?? '', caller.others, tool, contentHash(input));
}

function feedText({ signed: _signature, ...record }: FeedRecord): string {
  return textOf('feed', record.uid, record.feed_id, contentHash(record as unknown as JsonValue));
}

function warrantText({ feed_id }: FeedRecord, { epoch, base_seq, nonce }: Line, heir: string): string {
  return textOf('warrant', feed_id, epoch, base_seq, nonce, heir);
}

function frameText(root: string): string {
  return textOf('results', root);
}

// --- the tree over what is in a frame ----------------------------------------------------------------------------

function leafOf({ uid, feed_id, epoch, attempt }: LeaseToken, { status, output, error }: ResultContent): string {
  const said = error === null ? null : [error.code, error.message, error.retryable, error.details ?? null];
  const content = contentHash([status, output, said] as JsonValue);
  return hashOf(textOf('result', uid, feed_id, epoch, attempt, content));
}

function grantOf(worker: string, { uid, feed_id, epoch, attempt }: LeaseToken, payloadHash: string): string {
  return hashOf(textOf('lease', worker, uid, feed_id, epoch, attempt, payloadHash));
}

function parentOf(left: string, right: string): string {
  return hashOf(textOf('both', left, right));
}

function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('base64url');
}

/** The hashes one level further up; the last one of an odd number goes up as it is. */
function above(level: readonly string[]): string[] {
  const next: string[] = [];
  for (let at = 0; at < level.length; at += 2) {
    const right = level[at + 1];
    next.push(right === undefined ? level[at]! : parentOf(level[at]!, right));
  }
  return next;
}

/** All levels, from the leaves to the root. */
function treeOver(leaves: readonly string[]): string[][] {
  const tree = [[...leaves]];
  while (tree.at(-1)!.length > 1) tree.push(above(tree.at(-1)!));
  return tree;
}

function rootOf(tree: readonly string[][]): string {
  return tree.at(-1)![0] ?? '';
}

/** The other half of each pair on the way up; empty where there is none. */
function pathOf(tree: readonly string[][], place: number): string[] {
  return tree.slice(0, -1).map((level, height) => level[(place >> height) ^ 1] ?? '');
}

function rootFrom(leaf: string, place: number, path: readonly string[]): string {
  let hash = leaf;
  for (let level = 0; level < path.length; level++) {
    const other = path[level]!;
    if (other !== '') hash = ((place >> level) & 1) === 0 ? parentOf(hash, other) : parentOf(other, hash);
  }
  return hash;
}
