/** What a look-up asks about the records at this peer. */
import type { Alias } from '../messages.ts';
import type { CopiedRecord, LocalRecord } from '../storage/aliases.ts';

export interface LocalRecords {
  /** The record that this peer answers for under an id. */
  find(alias: Alias): Promise<LocalRecord | undefined>;
  /** A record of another peer, if a whole copy of it is here. */
  copyOf(alias: Alias): Promise<CopiedRecord | undefined>;
  /** A record whose feed this peer may be the next one to own. */
  heirOf(alias: Alias): Promise<CopiedRecord | undefined>;
  /** P9: whether a peer may own a feed, as far as the copy here names its members; true without a copy. */
  mayOwn(feedId: string, peer: string): boolean;
  /** Whether this peer is just accepting a record, which may never come to its disk (P1). */
  isBeingMade(uid: string): boolean;
}
