/**
 * The history of a feed as its lines: who owned it, and from which `seq` on. When two peers both went on during a
 * partition, their lines fork; the order of P2 decides whose history stays.
 */
import { FEED_LINES_MAX, FORMER_FOLLOWERS_MAX } from '../limits.ts';
import type { FeedRecord, Line } from '../records.ts';
import { feedUid } from '../uids.ts';

/** The first line of a feed that `owner` makes. */
export function newFeed(feedId: string, owner: string, nonce = ''): FeedRecord {
  return {
    kind: 'feed',
    uid: feedUid(feedId),
    feed_id: feedId,
    lines: [{ epoch: 1, base_seq: 0, owner, nonce }],
    passed_on: false,
    followers: [],
    former: [],
    version: 1,
    pruned_to_seq: 0,
  };
}

/** The line that may be written now. */
export function currentLine({ lines }: FeedRecord): Line {
  return lines.at(-1)!;
}

/** P2: positive when `a` wins against `b`, negative when it loses, 0 when both are the same line. */
export function compareLines(a: Line, b: Line): number {
  return a.epoch - b.epoch || a.base_seq - b.base_seq || compare(a.owner, b.owner) || compare(a.nonce, b.nonce);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/**
 * A new line of the feed: `owner` goes on after `baseSeq`. If the owner was a follower, it no longer is.
 * @param nonce different for each line that a peer opens
 * @param above the epoch of a line in another history, over which the new line is to win (P2)
 */
export function openLine(feed: FeedRecord, owner: string, baseSeq: number, nonce: string, above = 0): FeedRecord {
  const [first, ...later] = feed.lines;
  const last = currentLine(feed).epoch;
  // Every epoch gets a line: a gap would mean that lines were forgotten.
  const opened = Math.min(Math.max(above - last, 0) + 1, FEED_LINES_MAX - 1);
  const epoch = Math.max(last, above) + 1 - opened;
  const warrant = feed.followers.find(({ peer_id }) => peer_id === owner)?.warrant;
  const lines = Array.from({ length: opened }, (_, at): Line => {
    const line = { epoch: epoch + at + 1, base_seq: baseSeq, owner, nonce };
    return at === 0 && warrant !== undefined ? { ...line, warrant } : line;
  });
  return {
    ...feed,
    lines: [first!, ...[...later, ...lines].slice(-(FEED_LINES_MAX - 1))],
    passed_on: feed.passed_on || owner !== first!.owner,
    followers: feed.followers.filter(({ peer_id }) => peer_id !== owner),
    version: feed.version + 1,
  };
}

/**
 * The last `seq` that both histories share; Infinity while both are still in the same line, 0 when no line is common.
 *
 * As in Raft's log matching (Ongaro and Ousterhout 2014), a line that both have stands for everything before it.
 */
export function forkSeq(mine: readonly Line[], theirs: readonly Line[]): number {
  for (let at = mine.length - 1; at >= 0; at--) {
    const common = theirs.findIndex((line) => compareLines(line, mine[at]!) === 0);
    if (common < 0) continue;
    return Math.min(endOf(mine, at), endOf(theirs, common));
  }
  return 0;
}

/** The last `seq` of a line. If lines after it were forgotten, the first of those may have begun where it did. */
function endOf(lines: readonly Line[], at: number): number {
  const next = lines[at + 1];
  if (next === undefined) return Number.POSITIVE_INFINITY;
  return next.epoch === lines[at]!.epoch + 1 ? next.base_seq : lines[at]!.base_seq;
}

/** The feed with these followers from now on; those that left are `former`. */
export function withFollowers(feed: FeedRecord, followers: FeedRecord['followers']): FeedRecord {
  const left = feed.followers.map(({ peer_id }) => peer_id);
  const now = new Set(followers.map(({ peer_id }) => peer_id));
  const former = [...new Set([...feed.former, ...left])].filter((peer) => !now.has(peer));
  return { ...feed, followers, former: former.slice(-FORMER_FOLLOWERS_MAX), version: feed.version + 1 };
}

/** The peers that take the feed over when its owner is gone. */
export function heirsOf({ followers }: FeedRecord): string[] {
  return followers.filter(({ synced }) => synced).map(({ peer_id }) => peer_id);
}

/** P9: only these peers may have taken the feed over. */
export function members({ followers, former, lines }: FeedRecord): Set<string> {
  return new Set([...followers.map(({ peer_id }) => peer_id), ...former, ...lines.map(({ owner }) => owner)]);
}

/**
 * P9: whether a member of the replica set opened the lines that only `theirs` has, if there are any. One member among
 * their owners is enough: the set may have changed since the two histories parted.
 */
export function isHeir(mine: FeedRecord, theirs: FeedRecord): boolean {
  const unknown = theirs.lines.filter((line) => !mine.lines.some((known) => compareLines(known, line) === 0));
  const known = members(mine);
  return unknown.length === 0 || unknown.some(({ owner }) => known.has(owner));
}
