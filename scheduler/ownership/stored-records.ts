/** The records on this peer's disk: its own, and copies, which only the owner of their feed may change. */
import type { FeedTable } from '../feed/feed-table.ts';
import type { LocalRecords } from '../lookup/local-records.ts';
import type { Alias } from '../messages.ts';
import type { Reader } from '../ports.ts';
import type { FeedRecord, Row } from '../records.ts';
import type { FollowedFeeds } from '../replication/follower.ts';
import { type CopiedRecord, type LocalRecord, localRecord } from '../storage/aliases.ts';
import { currentLine, members } from '../storage/feed-lines.ts';
import type { WorkerPool } from '../worker/worker-pool.ts';

interface StoredRecordsParts {
  self: string;
  reader: Reader;
  feeds: FeedTable;
  followed: FollowedFeeds;
  pool: WorkerPool;
}

export class StoredRecords implements LocalRecords {
  readonly #parts: StoredRecordsParts;

  constructor(parts: StoredRecordsParts) {
    this.#parts = parts;
  }

  async find(alias: Alias): Promise<LocalRecord | undefined> {
    const { feeds, reader } = this.#parts;
    const { kind, id } = alias;
    if (kind === 'worker') return this.#worker(id);
    const record = feeds.byAlias(alias) ?? (await reader.byAlias(kind, id));
    return record && localRecord(record);
  }

  async #worker(id: string): Promise<LocalRecord | undefined> {
    const { pool, reader } = this.#parts;
    const state = pool.states(null).find(({ worker_id }) => worker_id === id) ?? (await reader.byAlias('worker', id));
    return state && { uid: id, status: state.status, content_hash: '' };
  }

  mayOwn(feedId: string, peer: string): boolean {
    const feed = this.#wholeCopy(feedId);
    return feed === null || members(feed).has(peer);
  }

  isBeingMade(uid: string): boolean {
    return this.#parts.feeds.isBeingMade(uid);
  }

  async copyOf({ kind, id }: Alias): Promise<CopiedRecord | undefined> {
    if (kind === 'worker') return undefined;
    return this.#asCopied(await this.#parts.reader.copyByAlias(kind, id));
  }

  async heirOf({ kind, id }: Alias): Promise<CopiedRecord | undefined> {
    if (kind === 'worker') return undefined;
    const { reader, followed, self } = this.#parts;
    const own = await reader.byAlias(kind, id);
    const copied = this.#asCopied(own === undefined ? await reader.copyByAlias(kind, id) : await reader.row(own.uid));
    if (copied === undefined || copied.owner === self) return copied;
    const { followers } = followed.find(copied.feed_id)!.feed!;
    return followers.some(({ peer_id, synced }) => peer_id === self && synced) ? copied : undefined;
  }

  #asCopied(row: Row | undefined): CopiedRecord | undefined {
    if (row === undefined || (row.record.kind !== 'task' && row.record.kind !== 'workflow')) return undefined;
    const owner = this.ownerOfCopy(row.feed_id);
    if (owner === null) return undefined;
    return { ...localRecord(row.record), feed_id: row.feed_id, owner, submitted_by: row.record.submitted_by };
  }

  /** The owner of a feed as the copy here names it; null when no whole copy is here. */
  ownerOfCopy(feedId: string): string | null {
    const feed = this.#wholeCopy(feedId);
    return feed === null ? null : currentLine(feed).owner;
  }

  #wholeCopy(feedId: string): FeedRecord | null {
    const { followed } = this.#parts;
    const copy = followed.find(feedId);
    return copy !== undefined && followed.isComplete(copy) ? copy.feed : null;
  }
}
