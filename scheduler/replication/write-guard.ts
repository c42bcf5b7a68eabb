/**
 * P9: what another peer may write to this disk. A uid belongs to the feed that had it first; records that a peer keeps
 * for itself (LOCAL_FEED) are never taken from others.
 */
import { FlowmeshError } from '../../dag/errors.ts';
import type { Reader } from '../ports.ts';
import type { FlowRecord, Line, RecordKind, Row } from '../records.ts';
import { compareLines, currentLine } from '../storage/feed-lines.ts';
import { strangerAmong } from '../storage/record-tree.ts';
import {
  definitionUid,
  feedUid,
  isCachedIn,
  isCacheUid,
  isFeedUid,
  isLocalUid,
  isRootUid,
  isSupersededUid,
  logUid,
  stepTaskUid,
  stepUid,
  supersededUid,
  workflowOfDefinition,
} from '../uids.ts';

const KINDS_OF_A_PEER: ReadonlySet<RecordKind> = new Set(['worker', 'queue', 'peer', 'copy', 'intent']);
const KINDS_OF_A_FEED: ReadonlySet<RecordKind> = new Set([...KINDS_OF_A_PEER, 'feed', 'cache']);

/**
 * @param records of a feed, as another peer brings them
 * @throws FlowmeshError INVALID_MESSAGE when one of them is not of this feed: none may be kept
 */
export async function mustBeOfFeed(reader: Reader, feedId: string, records: readonly FlowRecord[]): Promise<void> {
  for (const record of records) if (!isOf(feedId, record)) throw notOf(`feed ${feedId}`, record);
  const feeds = await reader.feedsOf(records.map(({ uid }) => uid));
  const taken = feeds.findIndex((feed) => feed !== null && feed !== feedId);
  if (taken >= 0) throw notOf(`feed ${feedId}`, records[taken]!);
}

function isOf(feedId: string, record: FlowRecord): boolean {
  const { kind, uid } = record;
  if (KINDS_OF_A_PEER.has(kind) || isLocalUid(uid) || (kind === 'feed' && record.feed_id !== feedId)) return false;
  if (kind === 'feed' || isFeedUid(uid)) return uid === feedUid(feedId);
  if (isCacheUid(uid)) return isCachedIn(feedId, uid);
  return isKeyOf(record);
}

/** Whether a record is under the uid that follows from what it says: `uids.ts` has the grammar. */
function isKeyOf(record: FlowRecord): boolean {
  const { uid } = record;
  switch (record.kind) {
    case 'workflow':
      return isRootUid(uid);
    case 'task':
      if (record.workflow_uid === null) return isRootUid(uid);
      return uid === stepTaskUid(record.workflow_uid, record.step_id ?? '', record.index ?? 0);
    case 'step':
      return uid === stepUid(record.workflow_uid, record.step_id);
    case 'definition':
      return uid === definitionUid(workflowOfDefinition(uid)) && isRootUid(workflowOfDefinition(uid));
    case 'log':
      return uid === logUid(record.task_uid);
    case 'superseded':
      return isSupersededUid(uid) && uid === supersededUid(record.line, record.record.uid);
    case 'cache':
      return false; // it has a uid of the cache
    default:
      return true; // a tombstone may lie in the place of any of these
  }
}

/** Where the rows of a message have to lie in their feed. */
interface Place {
  /** The first commit that they may be of. */
  from: number;
  /** The last one. */
  to: number;
  /** The feed's last line as the sender has it: what it wrote in that line begins behind its `base_seq`. */
  line: Line;
}

/**
 * @param rows that another peer brings, in the order in which they came
 * @throws FlowmeshError INVALID_MESSAGE when they do not follow each other, or lie outside of what they are said to be
 */
export function mustLieIn({ from, to, line }: Place, rows: readonly Row[]): void {
  let last = from;
  for (const { seq, epoch, record } of rows) {
    if (seq < last || seq > to) throw notThere(`commit ${seq} is not from ${last} to ${to}`);
    if (epoch > line.epoch || (seq > line.base_seq && epoch !== line.epoch)) {
      throw notThere(`epoch ${epoch} at commit ${seq} is not of its line, which has epoch ${line.epoch}`);
    }
    if (record.kind === 'feed' && compareLines(currentLine(record), line) > 0) {
      throw notThere('the record of the feed has a later line than its sender says');
    }
    last = seq;
  }
}

function notThere(why: string): FlowmeshError {
  return new FlowmeshError('INVALID_MESSAGE', `a row is out of place in its feed: ${why}`);
}

/**
 * @param records that another peer brings as those of one root
 * @throws FlowmeshError INVALID_MESSAGE when one of them is not of this root
 */
export function mustBeOfRoot(rootUid: string, records: readonly FlowRecord[]): void {
  const stranger = records.find(({ kind }) => KINDS_OF_A_FEED.has(kind)) ?? strangerAmong(rootUid, records);
  if (stranger !== undefined) throw notOf(`root ${rootUid}`, stranger);
}

function notOf(what: string, { kind, uid }: FlowRecord): FlowmeshError {
  return new FlowmeshError('INVALID_MESSAGE', `${what} cannot have the ${kind} record ${uid}`);
}
