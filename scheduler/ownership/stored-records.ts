/** Records that are on this peer's disk and that it may not change now: copies, and its own while it asks whose they are. */
import type { Alias } from '../messages.ts';
import type { Reader } from '../ports.ts';
import type { FeedRecord, Row } from '../records.ts';
import type { FollowedFeeds } from '../replication/follower.ts';
import { type CopiedRecord, type LocalRecord, localRecord } from '../storage/aliases.ts';
import { currentLine } from '../storage/feed-lines.ts';
import type { WorkerPool } from '../worker/worker-pool.ts';
import type { Feeds } from './ownership.ts';

export class ForeignRecords {
  private readonly parts: { self: string; reader: Reader; feeds: Feeds; followed: FollowedFeeds };

  constructor(parts: { self: string; reader: Reader; feeds: Feeds; followed: FollowedFeeds }) {
    this.parts = parts;
  }

  /** A record of another peer, if a whole copy of it is here. */
  async copyOf({ kind, id }: Alias): Promise<CopiedRecord | undefined> {
    if (kind === 'worker') return undefined;
    return this.asCopied(await this.parts.reader.copyByAlias(kind, id));
  }

  /** A record whose feed this peer may be the next one to own. */
  async heirOf({ kind, id }: Alias): Promise<CopiedRecord | undefined> {
    if (kind === 'worker') return undefined;
    const { reader, followed, self } = this.parts;
    const own = await reader.byAlias(kind, id);
    const copied = this.asCopied(own === undefined ? await reader.copyByAlias(kind, id) : await reader.row(own.uid));
    if (copied === undefined || copied.owner === self) return copied;
    const { followers } = followed.find(copied.feed_id)!.feed!;
    return followers.some(({ peer_id, synced }) => peer_id === self && synced) ? copied : undefined;
  }

  private asCopied(row: Row | undefined): CopiedRecord | undefined {
    if (row === undefined || (row.record.kind !== 'task' && row.record.kind !== 'workflow')) return undefined;
    const feed = this.wholeCopy(row.feed_id);
    if (feed === null) return undefined;
    return { ...localRecord(row.record), feed_id: row.feed_id, owner: currentLine(feed).owner };
  }

  /** How long the owner of a feed has been silent here, in ms; null for feeds that this peer writes itself. */
  staleMs(feedId: string): number | null {
    const feed = this.wholeCopy(feedId);
    return feed === null ? null : this.parts.feeds.takeover.silenceOf(currentLine(feed).owner);
  }

  private wholeCopy(feedId: string): FeedRecord | null {
    const copy = this.parts.followed.find(feedId);
    return copy !== undefined && this.parts.followed.isComplete(copy) ? copy.feed : null;
  }
}

export function localWorker(pool: WorkerPool, id: string): LocalRecord | undefined {
  const state = pool.states().find(({ worker_id }) => worker_id === id);
  return state === undefined ? undefined : { uid: id, status: state.status, content_hash: '' };
}
