/**
 * P9: what another peer may write to this disk. A uid belongs to the feed that had it first; what a peer remembers of
 * itself is in no feed that others see.
 */
import { FlowmeshError } from '../dag/errors.ts';
import { feedUid } from './lineage.ts';
import type { Reader } from './ports.ts';
import type { FlowRecord, RecordKind } from './records.ts';

const KINDS_OF_A_PEER: ReadonlySet<RecordKind> = new Set(['worker', 'queue', 'peer', 'copy', 'intent']);

/**
 * @param records of a feed, as another peer brings them
 * @throws FlowmeshError INVALID_MESSAGE: one of them is not of this feed, and none is to be kept
 */
export async function mustBelong(reader: Reader, feedId: string, records: readonly FlowRecord[]): Promise<void> {
  for (const { kind, uid } of records) {
    const isMisplaced = KINDS_OF_A_PEER.has(kind) || (kind === 'feed' && uid !== feedUid(feedId));
    if (isMisplaced) throw notOf(feedId, `a record of kind ${kind}`);
  }
  const feeds = await reader.feedsOf(records.map(({ uid }) => uid));
  const taken = feeds.findIndex((feed) => feed !== null && feed !== feedId);
  if (taken >= 0) throw notOf(feedId, `record ${records[taken]!.uid} of feed ${feeds[taken]}`);
}

function notOf(feedId: string, what: string): FlowmeshError {
  return new FlowmeshError('INVALID_MESSAGE', `feed ${feedId} cannot have ${what}`);
}
