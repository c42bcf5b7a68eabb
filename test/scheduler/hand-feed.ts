/** A feed that a peer by hand owns: it brings commits and answers pulls as the test wants. */
import type { JsonObject, JsonValue } from '../../dag/errors.ts';
import { rowMessages } from '../../scheduler/messages.ts';
import type { FeedRecord, FlowRecord, Row } from '../../scheduler/records.ts';
import { currentLine, newFeed, openLine } from '../../scheduler/storage/feed-lines.ts';
import type { HandPeer } from './hand-peer.ts';
import { taskRecord } from './records.ts';

const BY_SEQ = (a: Row, b: Row) => a.seq - b.seq || (a.uid < b.uid ? -1 : 1);

export class HandFeed {
  readonly peer: HandPeer;
  feed: FeedRecord;
  head = 0;
  readonly rows = new Map<string, Row>();
  /** Of one answer to a pull. */
  pageRows = Number.POSITIVE_INFINITY;
  /** What was pulled, in order. */
  readonly pulls: { seq: number; uid: string }[] = [];

  constructor(peer: HandPeer, feedId: string, followers: readonly string[]) {
    this.peer = peer;
    const set = followers.map((peer_id) => ({ peer_id, synced: true }));
    this.feed = { ...newFeed(feedId, peer.network.self), followers: set };
    peer.answers.set('pull', (params) => this.#answerPull(params['after'] as { seq: number; uid: string }));
    this.commit(this.feed);
  }

  /** The next commit, which nobody has been told of yet. */
  commit(...records: FlowRecord[]): Row[] {
    this.head++;
    const { feed_id } = this.feed;
    const { epoch } = currentLine((records.find(({ kind }) => kind === 'feed') as FeedRecord) ?? this.feed);
    const rows = records.map((record): Row => ({ uid: record.uid, feed_id, epoch, seq: this.head, record }));
    for (const row of rows) {
      this.rows.set(row.uid, row);
      if (row.record.kind === 'feed') this.feed = row.record;
    }
    return rows;
  }

  /** The same history up to `baseSeq`, in a line of another peer that goes on there. */
  goneOnBy(peer: HandPeer, baseSeq: number): HandFeed {
    const other = new HandFeed(peer, this.feed.feed_id, []);
    other.rows.clear();
    for (const row of this.rows.values()) if (row.seq <= baseSeq) other.rows.set(row.uid, row);
    other.head = baseSeq;
    other.commit(openLine(this.feed, peer.network.self, baseSeq, ''));
    return other;
  }

  /** Brings rows to a follower; without any it is told how far the feed is. */
  push(to: string, rows: readonly Row[], over: JsonObject = {}): Promise<JsonValue> {
    return this.peer.network.request(to, 'push', this.message(rows, over), 60_000);
  }

  message(rows: readonly Row[], over: JsonObject = {}): JsonObject {
    const { feed_id } = this.feed;
    const head_seq = rows[0]?.seq ?? this.head;
    const prev_seq = rows.length === 0 ? head_seq : head_seq - 1;
    const line = currentLine(this.feed);
    return { feed_id, line, prev_seq, head_seq, rows: rowMessages(rows), ...over } as unknown as JsonObject;
  }

  #answerPull(after: { seq: number; uid: string }): JsonValue {
    this.pulls.push(after);
    const all = [...this.rows.values()].sort(BY_SEQ);
    const rest = all.filter(({ seq, uid }) => seq > after.seq || (seq === after.seq && uid > after.uid));
    const page = rest.slice(0, this.pageRows);
    const whole = rest[page.length] === undefined || rest[page.length]!.seq !== page.at(-1)?.seq;
    const rows = rowMessages(page);
    return { feed: this.feed, rows, whole, head_seq: this.head, complete: true } as unknown as JsonValue;
  }
}

/** A record to fill a commit with. */
export function filling(uid: string): FlowRecord {
  return taskRecord(uid, { status: 'completed', output: uid });
}
