/**
 * Two histories of one root become one, in one turn of the owner of the line that stays (P5). Nothing is read or sent
 * here: both sides were read before.
 *
 * 1. A root that is unknown there is taken over as it is.
 * 2. One that has ended beats one that has not, as a whole; what really ended beats what was cancelled because another
 *    record with its id does the same (SUPERSEDED).
 * 3. Of two that have ended, that of the line that stays does; the other one is kept as `superseded`.
 * 4. Of two that have not, the one of the line that stays goes on, and uses the successes of the other where the inputs
 *    are the same: nothing that was done has to be done again. Cancels and answers given there hold here, too.
 * 5. A root that gave up its id on one side and ended on the other has the id, and other records with it are looked for.
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

/** What one side has of a root. */
export type Records = ReadonlyMap<string, FlowRecord>;

/** What both sides have of a root. */
export interface Sides {
  rootUid: string;
  /** The line that lost, in which `theirs` were written. */
  line: Line;
  theirs: Records;
  /** As they were read in the line that stays. */
  mine: Records;
  /** The root as it is now in the line that stays; undefined when it is unknown there. */
  root: FlowRecord | undefined;
  /** `theirs`, ready to be restored, when the root is unknown here. */
  remembered: Remembered | null;
  /** ISO time. */
  now: string;
}

/**
 * Writes what becomes of a root of which another peer has another history.
 *
 * @returns the root, if it has its id here from now on and may not be the only one; else null
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
    // What waits for this id may have to wait for another record from now on.
    if (isDisputed) feed.dependencies.doubt();
    return isDisputed && !isSetAside(other) ? other : null;
  }
  keepSuperseded(turn, sides);
  if (!isDisputed || (isSetAside(root) && isOpen(other))) return null;
  const named = withOwnId(root);
  if (named !== root) turn.put(named);
  return named;
}

/** It was accepted on the other side, after the fork. */
function adoptUnknown(turn: Turn, feed: OwnedFeed, { theirs, remembered }: Sides): void {
  for (const record of theirs.values()) turn.put(record);
  if (remembered !== null) restore(turn, remembered, feed);
  for (const record of theirs.values()) feed.ended(record);
}

/** It was cleared on the other side, after it had ended. */
function clear(turn: Turn, { mine, root, now }: Sides): void {
  if (root !== undefined && isOpen(root)) return;
  for (const { uid } of mine.values()) turn.put({ kind: 'tombstone', uid, cleared_at: now });
}

/** P5: one that has ended beats one that has not. */
function adoptEnded(turn: Turn, feed: OwnedFeed, sides: Sides): void {
  const { theirs, mine, rootUid, now } = sides;
  const run = feed.runs.live.get(rootUid);
  const task = feed.tasks.live.get(rootUid);
  // Rows of this moment may not be on the disk yet.
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

/** P2 decides between two that have ended. */
function keepSuperseded(turn: Turn, sides: Sides): void {
  for (const record of sides.theirs.values()) supersede(turn, record, sides.mine.get(record.uid), sides);
}

/** Neither has ended: the one of the line that stays goes on, with what the other one has achieved. */
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
  // It is being cancelled there, and its last steps have not ended.
  if (other?.kind === 'workflow' && other.error !== null && !isGivenUp) {
    feed.runs.cancel(turn, feed.runs.live.get(rootUid), other.error);
  }
}

/**
 * Keeps a record that lost, when it says of something that has ended how it did.
 * @param line in which it was written
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

/** Whether something of a root is among these uids. */
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
