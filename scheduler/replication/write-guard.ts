/**
 * P9: what another peer may write to this disk. A uid belongs to the feed that had it first; records that a peer keeps
 * for itself (LOCAL_FEED) are never taken from others.
 */
import { FlowmeshError } from '../../dag/errors.ts';
import type { Reader } from '../ports.ts';
import type { FlowRecord, RecordKind } from '../records.ts';
import { strangerAmong } from '../storage/record-tree.ts';
import { feedUid, isCachedIn, isCacheUid, isFeedUid } from '../uids.ts';

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
  if (KINDS_OF_A_PEER.has(kind) || (kind === 'feed' && record.feed_id !== feedId)) return false;
  if (kind === 'feed' || isFeedUid(uid)) return uid === feedUid(feedId);
  if (isCacheUid(uid)) return isCachedIn(feedId, uid);
  return true;
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
