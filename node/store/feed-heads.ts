/** How far each feed of a store has come: what every change does to the heads, and when a change is refused. */
import { FlowmeshError } from '../../dag/errors.ts';
import type { FeedHead } from '../../scheduler/ports.ts';
import { LOCAL_FEED, type Row } from '../../scheduler/records.ts';

/** By `feed_id`. A head is replaced, never changed, so a copy of the map is a copy of the heads. */
export type FeedHeads = Map<string, Readonly<FeedHead>>;

/** A change of a store as far as it concerns a head; `epoch` and `seq` of a commit are those of its highest row. */
export type HeadChange =
  | { type: 'commit'; feed_id: string; epoch: number; seq: number }
  | { type: 'own'; feed_id: string; owned: boolean }
  | { type: 'drop'; feed_id: string }
  | { type: 'sweep'; feed_id: string; seq: number };

/** The caller asked for something that would make a feed's history wrong; nothing is kept of it. */
class WrongChangeError extends FlowmeshError {
  constructor(problem: string) {
    super('STORE_FAILED', `The store refuses a change that no correct peer makes: ${problem}. Please report this.`, {
      retryable: false,
    });
  }
}

/**
 * Where the rows of a commit put its feed's head.
 *
 * @param rows at least one
 * @throws WrongChangeError when they are of several feeds or behind the head
 */
export function commitChange(heads: FeedHeads, rows: readonly Row[]): HeadChange {
  const [first] = rows;
  if (first === undefined) throw new WrongChangeError('a commit without rows has no feed');
  const { feed_id } = first;
  const least = heads.get(feed_id)?.seq ?? 0;
  let { epoch, seq } = first;
  for (const row of rows) {
    if (row.feed_id !== feed_id) throw new WrongChangeError(`one commit with rows of ${feed_id} and ${row.feed_id}`);
    if (row.seq < least) {
      throw new WrongChangeError(
        `${row.uid} with seq ${row.seq} for feed ${feed_id}, which is at seq ${least} already`,
      );
    }
    if (row.seq > seq || (row.seq === seq && row.epoch > epoch)) ({ epoch, seq } = row);
  }
  return { type: 'commit', feed_id, epoch, seq };
}

/** @throws WrongChangeError for LOCAL_FEED, which is always owned */
export function ownChange(feed_id: string, owned: boolean): Extract<HeadChange, { type: 'own' }> {
  if (feed_id === LOCAL_FEED && !owned) throw new WrongChangeError('giving away what a peer remembers of itself');
  return { type: 'own', feed_id, owned };
}

export function changeHead(heads: FeedHeads, change: HeadChange): void {
  const { feed_id } = change;
  const head = heads.get(feed_id);
  switch (change.type) {
    case 'commit':
      heads.set(feed_id, { epoch: change.epoch, seq: change.seq, owned: head?.owned ?? feed_id === LOCAL_FEED });
      return;
    case 'own':
      if (head !== undefined) heads.set(feed_id, { ...head, owned: change.owned });
      else if (change.owned) heads.set(feed_id, { epoch: 0, seq: 0, owned: true });
      return;
    case 'drop':
      heads.delete(feed_id);
      return;
    case 'sweep':
      return;
  }
}
