/**
 * Two histories of one root become one, in one turn of the owner of the line that stays (P5). `mine` is the history in
 * that line, `theirs` the one in the line that lost. Both were read before: nothing is read or sent here.
 *
 * 1. A root that only `theirs` has is taken over as it is.
 * 2. If the root has ended on one side only, that side wins as a whole. An end as SUPERSEDED (cancelled because another
 *    record with the same id does the work) counts for less than any other end.
 * 3. If it has ended on both sides, `mine` stays, and the end in `theirs` is kept as `superseded`.
 * 4. If it has ended on neither side, `mine` goes on and uses the successes of `theirs` where the inputs are the same,
 *    so that no work is done twice. Cancels and rejections in `theirs` hold here, too.
 * 5. A root that yielded its id on one side and ended on the other has its id again, and other records with that id are
 *    looked for.
 */
import type { JsonValue } from '../../dag/errors.ts';
import type { OwnedFeed } from '../feed/owned-feed.ts';
import { type Remembered, restore } from '../feed/restore.ts';
import {
  type FlowRecord,
  isTerminal,
  type Line,
  type SupersededRecord,
  type TaskRecord,
  type WorkflowRecord,
} from '../records.ts';
import { gaveUp, isSetAside, type Root, withOwnId } from '../storage/aliases.ts';
import { currentLine } from '../storage/feed-lines.ts';
import type { Turn } from '../storage/journal.ts';
import { containerUid, supersededUid } from '../uids.ts';

/** What one side has of a root, by uid. */
export type Records = ReadonlyMap<string, FlowRecord>;

/** What both sides have of one root. */
export interface Sides {
  rootUid: string;
  /** The line that lost, in which `theirs` were written. */
  line: Line;
  theirs: Records;
  /** As they were read from the line that stays; the disk may be behind memory. */
  mine: Records;
  /** The root as it is now in the line that stays; undefined when it is unknown there. */
  root: FlowRecord | undefined;
  /** The open records among `theirs`, ready to be restored; null when rows of the root are here. */
  remembered: Remembered | null;
  /** ISO time. */
  now: string;
}

/**
 * Puts what becomes of a root of which another peer has another history.
 *
 * @returns the root if it takes its id here now, so that another record with that id has to be looked for; else null
 */
export function mergeRoot(turn: Turn, feed: OwnedFeed, sides: Sides): Root | null {
  const { theirs, rootUid, root } = sides;
  const other = theirs.get(rootUid);
  for (const record of theirs.values()) if (record.kind === 'superseded') turn.put(record);
  if (root === undefined) {
    adoptUnknown(turn, feed, sides);
    return isRoot(other) && !isSetAside(other) ? other : null;
  }
  if (other?.kind === 'tombstone') {
    clear(turn, sides);
    return null;
  }
  if (!isRoot(other) || !isRoot(root)) {
    keepSuperseded(turn, sides);
    return null;
  }
  const isDisputed = isSetAside(root) !== isSetAside(other);
  if (isOpen(root) && (isOpen(other) || gaveUp(other))) {
    useResults(turn, feed, sides);
    return isDisputed && !isSetAside(root) ? root : null;
  }
  if (isOpen(root) || (gaveUp(root) && !isOpen(other) && !gaveUp(other))) {
    adoptEnded(turn, feed, sides);
    // Records that wait for this id may have to wait for another record from now on.
    if (isDisputed) feed.dependencies.doubt();
    return isDisputed && !isSetAside(other) ? other : null;
  }
  keepSuperseded(turn, sides);
  if (!isDisputed || (isSetAside(root) && isOpen(other))) return null;
  const named = withOwnId(root);
  if (named !== root) turn.put(named);
  return named;
}

/** The root was accepted on the other side, after the fork. */
function adoptUnknown(turn: Turn, feed: OwnedFeed, { theirs, remembered }: Sides): void {
  for (const record of theirs.values()) turn.put(record);
  if (remembered !== null) restore(turn, remembered, feed);
  for (const record of theirs.values()) feed.ended(record);
}

/** The root was cleared on the other side, after it had ended. One that is open here stays. */
function clear(turn: Turn, { mine, root, now }: Sides): void {
  if (root !== undefined && isOpen(root)) return;
  for (const { uid } of mine.values()) turn.put({ kind: 'tombstone', uid, cleared_at: now });
}

/** P5: the root has ended on the other side only: that history replaces this one. */
function adoptEnded(turn: Turn, feed: OwnedFeed, sides: Sides): void {
  const { theirs, mine, rootUid, now } = sides;
  const run = feed.runs.live.get(rootUid);
  const task = feed.tasks.live.get(rootUid);
  // The newest rows may not be on the disk, and so not in `mine`: memory says which rows there can be.
  const dropped = run === undefined ? feed.nested.drop(turn, rootUid) : feed.runs.drop(turn, run);
  const rows = new Set([...mine.keys(), ...dropped]);
  if (task !== undefined) feed.tasks.drop(turn, task);
  for (const record of mine.values()) {
    supersede(turn, record, theirs.get(record.uid), { ...sides, line: currentLine(feed.feed) });
  }
  for (const uid of rows) if (!theirs.has(uid)) turn.put({ kind: 'tombstone', uid, cleared_at: now });
  for (const record of theirs.values()) turn.put(record);
  feed.ended(theirs.get(rootUid)!);
}

/** The root has ended on both sides, and P2 has decided: ends in `theirs` that differ are kept as `superseded`. */
function keepSuperseded(turn: Turn, sides: Sides): void {
  for (const record of sides.theirs.values()) supersede(turn, record, sides.mine.get(record.uid), sides);
}

/** The root has ended on neither side: `mine` goes on, with the results of `theirs`. */
function useResults(turn: Turn, feed: OwnedFeed, sides: Sides): void {
  const { theirs, mine, rootUid } = sides;
  const other = rootIn(theirs, rootUid);
  const isGivenUp = other !== undefined && gaveUp(other);
  for (const record of theirs.values()) {
    if (record.kind !== 'task') continue;
    if (record.status === 'completed' && feed.tasks.acceptResult(turn, record)) continue;
    const task = feed.tasks.live.get(record.uid);
    if (record.error?.code === 'REJECTED' && task?.record.status === 'input_required') {
      feed.tasks.fail(turn, task, record.error, false);
    } else if (!isGivenUp || record.uid === rootUid) {
      supersede(turn, record, mine.get(record.uid), sides);
    }
  }
  // The run was being cancelled on the other side: the cancel holds here, too.
  if (other?.kind === 'workflow' && other.error !== null && !isGivenUp) {
    feed.runs.cancel(turn, feed.runs.live.get(rootUid), other.error);
  }
}

/**
 * Keeps a task or workflow that lost, if it has ended, and in another way than the one that stays.
 * @param line the line in which `lost` was written
 */
function supersede(
  turn: Turn,
  lost: FlowRecord,
  kept: FlowRecord | undefined,
  { line, rootUid, now }: Pick<Sides, 'line' | 'rootUid' | 'now'>,
): void {
  if (!isRoot(lost) || !isTerminal(lost.status)) return;
  if (kept !== undefined && sameEnd(lost, kept)) return;
  const superseded: SupersededRecord = {
    kind: 'superseded',
    uid: supersededUid(line, lost.uid),
    root_uid: rootUid,
    line,
    superseded_at: now,
    record: lost,
  };
  turn.put(superseded);
}

/** Whether any of these uids is one of the records, or belongs to one. */
export function isTouched(records: Records, uids: ReadonlySet<string>): boolean {
  for (const uid of uids) if (records.has(uid) || records.has(containerUid(uid))) return true;
  return false;
}

export function rootIn(records: Records, rootUid: string): Root | undefined {
  const root = records.get(rootUid);
  return isRoot(root) ? root : undefined;
}

function isRoot(record: FlowRecord | undefined): record is Root {
  return record?.kind === 'task' || record?.kind === 'workflow';
}

export function isOpen(record: FlowRecord): boolean {
  return (record.kind === 'workflow' || record.kind === 'task') && !isTerminal(record.status);
}

/** Whether a client is told the same of both: the status, the error's code and the result. */
function sameEnd(lost: TaskRecord | WorkflowRecord, kept: FlowRecord): boolean {
  if (kept.kind !== 'task' && kept.kind !== 'workflow') return false;
  const endOf = (record: TaskRecord | WorkflowRecord): JsonValue => [
    record.status,
    record.error?.code ?? null,
    record.kind === 'task' ? record.output : record.result,
  ];
  return kept.kind === lost.kind && JSON.stringify(endOf(lost)) === JSON.stringify(endOf(kept));
}
