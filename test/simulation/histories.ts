/**
 * The histories of the feeds on the disks of a simulated mesh: whether each line has one writer and one content (P2),
 * whether what has ended stays as it ended (P4, P5), and which disks count as copies.
 */
import { isDeepStrictEqual } from 'node:util';
import type { JsonObject, JsonValue } from '../../dag/errors.ts';
import { COPIES_DEFAULT } from '../../scheduler/limits.ts';
import {
  type FeedRecord,
  type FlowRecord,
  isTerminal,
  type Line,
  LOCAL_FEED,
  type Row,
  type TaskRecord,
  type WorkflowRecord,
} from '../../scheduler/records.ts';
import { gaveUp } from '../../scheduler/storage/aliases.ts';
import { compareLines, currentLine } from '../../scheduler/storage/feed-lines.ts';
import { feedUid } from '../../scheduler/uids.ts';
import { Awakenings } from './awakenings.ts';
import { entry } from './entry.ts';
import { LieLedger } from './lie-ledger.ts';
import type { StoreOperation } from './memory-store.ts';
import type { SimulatedMesh } from './mesh.ts';
import type { SimulatedPeer } from './simulated-peer.ts';
import { Takeovers } from './takeovers.ts';

/** What clients have an id of. */
export type Root = TaskRecord | WorkflowRecord;

/** What a client sees of how a record ended. */
export interface End {
  status: string;
  /** Of its error. */
  code: string | null;
  result: JsonValue;
}

export function endOf(record: Root): End {
  const { status, error } = record;
  return { status, code: error?.code ?? null, result: record.kind === 'task' ? record.output : record.result };
}

/** As a tool answers it. */
export function endIn({ status, error = null, result = null }: JsonObject): End {
  return { status: String(status), code: (error as { code: string } | null)?.code ?? null, result };
}

export function isRoot(record: FlowRecord): record is Root {
  return record.kind === 'task' || record.kind === 'workflow';
}

/** What a line has of a record after one of its commits. */
interface Written {
  line: Line;
  text: string;
}

export class Histories {
  readonly #broken: (message: string) => void;
  readonly #awakenings: Awakenings;
  readonly #areAnswersPrompt: boolean;
  readonly #lies: LieLedger;
  #takeovers: Takeovers | null = null;
  #mesh: SimulatedMesh | null = null;
  /** By feed, epoch, seq and uid. */
  readonly #written = new Map<string, Written[]>();
  /** By line and uid: the record as it ended there. */
  readonly #ends = new Map<string, Root>();
  /** By uid: disks that have had it while they counted. */
  readonly #kept = new Map<string, Set<string>>();

  /** @param areAnswersPrompt every peer that is connected answers at once */
  constructor(broken: (message: string) => void, areAnswersPrompt = false, lies = new LieLedger(broken)) {
    this.#lies = lies;
    this.#broken = broken;
    this.#areAnswersPrompt = areAnswersPrompt;
    this.#awakenings = new Awakenings(broken);
  }

  watch(mesh: SimulatedMesh): void {
    this.#mesh = mesh;
    if (this.#areAnswersPrompt) this.#takeovers = new Takeovers(mesh, this.#broken);
    this.#awakenings.watch(mesh);
  }

  /** The disk of a peer is as it was before. */
  restored(peer: string): void {
    this.#takeovers?.restored(peer);
  }

  held(peer: string, forMs: number): void {
    this.#awakenings.held(peer, forMs);
  }

  // --- what processes write ------------------------------------------------------------------------------------------

  /** P2: what is new in a line comes from its owner; the others take what it has written. */
  committing(peer: string, rows: readonly Row[]): void {
    const feedId = rows[0]?.feed_id;
    if (feedId === undefined || feedId === LOCAL_FEED || this.#lies.isShared(feedId)) return;
    const before = this.feedOn(peer, feedId);
    const feed = feedIn(rows) ?? before;
    const line = feed === undefined ? null : currentLine(feed);
    for (const row of rows) {
      const { uid, epoch, seq } = row;
      const known = entry(this.#written, `${feedId} ${epoch} ${seq} ${uid}`, () => []);
      const text = textOf(row);
      if (line?.owner === peer && line.epoch === epoch) {
        const earlier = known.find((written) => compareLines(written.line, line) === 0);
        if (earlier === undefined) {
          known.push({ line, text });
          if (row.record.kind === 'feed' && before !== undefined && currentLine(before).owner !== peer) {
            this.#takeovers?.takes(peer, before, row.record);
          }
          this.#endsOnce(line, row, rows);
          this.#hasLost(peer, row, rows);
          this.#awakenings.writes(peer, feedId);
        } else if (!sameText(earlier.text, text)) {
          this.#broken(`P2: ${peer} writes ${uid} anew, commit ${seq} of feed ${feedId}`);
        }
      } else if (!known.some((written) => sameText(written.text, text))) {
        this.#broken(`P2: ${peer} writes ${uid} in epoch ${epoch} of feed ${feedId}, which ${line?.owner} owns`);
      }
    }
  }

  /** P4, P5: a record has one end in a line; what another history puts in its place keeps it as superseded. */
  #endsOnce(line: Line, { feed_id, record }: Row, commit: readonly Row[]): void {
    if (!isRoot(record)) return;
    const key = `${feed_id} ${line.epoch} ${line.base_seq} ${line.owner} ${line.nonce} ${record.uid}`;
    const end = this.#ends.get(key);
    if (isTerminal(record.status)) this.#ends.set(key, record);
    if (end === undefined || isDeepStrictEqual(endOf(end), endOf(record))) return;
    const isReplaced = (other: FlowRecord) => keepsEnd(other, end.uid, endOf(end)) || endsWith(other, record);
    if (commit.some((row) => isReplaced(row.record))) return;
    const [was, became] = [endOf(end), endOf(record)].map((each) => JSON.stringify(each));
    this.#broken(`P5: ${record.kind} ${record.uid} was ${was} and became ${became}`);
  }

  /** P5: what has ended gives way to what has ended too, never to what goes on. */
  #hasLost(peer: string, { record }: Row, commit: readonly Row[]): void {
    if (record.kind !== 'superseded' || record.root_uid !== record.record.uid) return;
    // It ended because another one had its id, and may have it again.
    if (isRoot(record.record) && gaveUp(record.record)) return;
    const row = commit.findLast(({ uid }) => uid === record.root_uid);
    const root = (row ?? this.#mesh!.peers.get(peer)!.disk.rows.get(record.root_uid))?.record;
    if (root === undefined || !isRoot(root) || isTerminal(root.status)) return;
    this.#broken(`P5: ${root.kind} ${root.uid} had ended elsewhere, and gives way to one that is ${root.status}`);
  }

  // --- what is on the disks ------------------------------------------------------------------------------------------

  synced(peer: string, operation: StoreOperation): void {
    this.#takeovers?.synced(peer, operation);
    if (operation.type !== 'commit') return;
    const { rows } = operation;
    const feedId = rows[0]?.feed_id;
    const feed = feedId === undefined ? undefined : this.feedOn(peer, feedId);
    if (feedId === undefined || feed === undefined) return;
    const isPromised = !this.#lies.isShared(feedId);
    // A new line, or a new follower: what was there before is looked at with other eyes.
    const concerned = feedIn(rows) === undefined ? rows : this.#rowsOf(peer, feedId);
    for (const row of concerned) {
      if (isPromised) this.#isOfLine(peer, row, feed);
      if (isRoot(row.record) && isMember(feed, peer)) entry(this.#kept, row.uid, () => new Set()).add(peer);
    }
  }

  /** P2: a disk has nothing of a line beyond the commit after which the next one begins. */
  #isOfLine(peer: string, row: Row, { lines }: FeedRecord): void {
    const { feed_id, epoch, seq, uid } = row;
    const at = lines.findIndex((line) => line.epoch === epoch);
    const line = lines[at];
    if (line === undefined) return; // of a line that was forgotten, or that comes with the next page
    const next = lines[at + 1];
    const written = this.#written.get(`${feed_id} ${epoch} ${seq} ${uid}`) ?? [];
    const ofLine = written.filter((one) => compareLines(one.line, line) === 0);
    const isOfLine =
      ofLine.length > 0 && (written.length === 1 || ofLine.some(({ text }) => sameText(text, textOf(row))));
    if (isOfLine && seq > line.base_seq && (next === undefined || seq <= next.base_seq)) return;
    this.#broken(
      `P2: ${peer} has ${uid} of commit ${seq}, epoch ${epoch} of feed ${feed_id}, which is not of its lines`,
    );
  }

  /** On how many disks that count a record has been. */
  copiesOf(uid: string): number {
    return this.#kept.get(uid)?.size ?? 0;
  }

  /** The last epoch, on any disk, of the feed that has a record. */
  epochOf(uid: string): number {
    let last = 0;
    for (const [peer, { disk }] of this.#mesh!.peers) {
      const row = disk.rows.get(uid);
      const feed = row === undefined ? undefined : this.feedOn(peer, row.feed_id);
      if (feed !== undefined) last = Math.max(last, currentLine(feed).epoch);
    }
    return last;
  }

  /** Whether a disk's copy of a feed is one that counts: its peer owns the feed, or may take it over. */
  counts(peer: string, feedId: string): boolean {
    const feed = this.feedOn(peer, feedId);
    return feed !== undefined && isMember(feed, peer);
  }

  /** Whether a disk that counts says that a record ended so in a history that was given up. */
  hasSuperseded(uid: string, end: End, except?: string): boolean {
    for (const [peer, { disk }] of this.#mesh!.peers) {
      if (peer === except) continue;
      for (const { record, feed_id } of disk.rows.values()) {
        if (keepsEnd(record, uid, end) && this.counts(peer, feed_id)) return true;
      }
    }
    return false;
  }

  /** The record of a feed on a disk. */
  feedOn(peer: string, feedId: string): FeedRecord | undefined {
    const record = this.#mesh!.peers.get(peer)?.disk.rows.get(feedUid(feedId))?.record;
    return record?.kind === 'feed' ? record : undefined;
  }

  #rowsOf(peer: string, feedId: string): Row[] {
    const { rows } = this.#mesh!.peers.get(peer)!.disk;
    return [...rows.values()].filter(({ feed_id }) => feed_id === feedId);
  }

  // --- what must hold at the end -------------------------------------------------------------------------------------

  /** The peers that own a feed now: after all has healed, one. */
  owners(feedId: string): SimulatedPeer[] {
    return [...this.#mesh!.peers.values()].filter(({ alive, scheduler }) => alive && scheduler.parts.feeds.has(feedId));
  }

  /** Each feed has one owner and as many copies as it wants, and they are the same. */
  judge(): void {
    const { peers } = this.#mesh!;
    const feeds = new Set(
      [...peers.values()].flatMap(({ scheduler }) => scheduler.parts.feeds.all().map(({ feed_id }) => feed_id)),
    );
    for (const feedId of feeds) {
      if (this.#lies.isShared(feedId)) continue;
      const [owner, ...others] = this.owners(feedId);
      if (others.length > 0) {
        this.#broken(`P2: feed ${feedId} is owned by ${[owner!, ...others].map(({ peer_id }) => peer_id)}`);
        continue;
      }
      const { followers } = owner!.scheduler.parts.feeds.get(feedId)!.feed;
      const wanted = Math.min(COPIES_DEFAULT, peers.size);
      const copies = 1 + followers.filter(({ synced, peer_id }) => synced && peers.get(peer_id)?.alive).length;
      if (copies < wanted) this.#broken(`P1: feed ${feedId} of ${owner!.peer_id} is on ${copies} disks, not ${wanted}`);
      this.#areEnded(owner!);
      for (const { peer_id, synced } of followers) {
        if (synced && peers.has(peer_id)) this.#areSame(feedId, owner!.peer_id, peer_id);
      }
    }
  }

  /** What belongs to a workflow that has ended has ended with it. */
  #areEnded({ disk, peer_id, scheduler }: SimulatedPeer): void {
    for (const { record, feed_id } of disk.rows.values()) {
      if (!scheduler.parts.feeds.has(feed_id) || this.#lies.isShared(feed_id)) continue;
      if (record.kind !== 'task' || record.workflow_uid === null || isTerminal(record.status)) continue;
      const workflow = disk.rows.get(record.workflow_uid)?.record;
      if (workflow !== undefined && isRoot(workflow) && !isTerminal(workflow.status)) continue;
      this.#broken(`P5: task ${record.uid} at ${peer_id} is ${record.status}, and its workflow has ended`);
    }
  }

  #areSame(feedId: string, owner: string, follower: string): void {
    const copied = new Map(this.#rowsOf(follower, feedId).map((row) => [row.uid, row]));
    for (const row of this.#rowsOf(owner, feedId)) {
      const copy = copied.get(row.uid);
      copied.delete(row.uid);
      if (copy?.seq === row.seq && sameText(textOf(copy), textOf(row))) continue;
      this.#broken(
        `P1: ${follower} has ${row.uid} as of commit ${copy?.seq}, ${owner} as of ${row.seq}: feed ${feedId}`,
      );
      return;
    }
    for (const uid of copied.keys()) this.#broken(`P1: ${follower} has ${uid} of feed ${feedId}, ${owner} has not`);
  }
}

function feedIn(rows: readonly Row[]): FeedRecord | undefined {
  const record = rows.findLast((row) => row.record.kind === 'feed')?.record;
  return record?.kind === 'feed' ? record : undefined;
}

function isMember(feed: FeedRecord, peer: string): boolean {
  return currentLine(feed).owner === peer || feed.followers.some(({ peer_id, synced }) => peer_id === peer && synced);
}

function keepsEnd(record: FlowRecord, uid: string, end: End): boolean {
  if (record.kind !== 'superseded' || record.record.uid !== uid || !isRoot(record.record)) return false;
  return isDeepStrictEqual(endOf(record.record), end);
}

/** The workflow of a task, which ends in the same commit: it is taken as a whole from another history. */
function endsWith(workflow: FlowRecord, task: Root): boolean {
  if (workflow.kind !== 'workflow' || task.kind !== 'task') return false;
  return workflow.uid === task.workflow_uid && isTerminal(workflow.status);
}

function textOf({ text, record }: Row): string {
  return text ?? JSON.stringify(record);
}

/** The same JSON, in whatever order its fields are. */
function sameText(a: string, b: string): boolean {
  return a === b || isDeepStrictEqual(JSON.parse(a), JSON.parse(b));
}
