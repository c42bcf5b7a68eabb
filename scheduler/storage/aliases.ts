/**
 * The ids of workflows and tasks: what a peer says of a record when another one asks for its id, and what happens to
 * two records with one id: which of them yields it (P5), and under which id that one is found from then on. Pure.
 */
import { TOO_FEW_COPIES } from '../errors.ts';
import { feedHintOf } from '../ids.ts';
import type { Alias, Held } from '../messages.ts';
import { isTerminal, type TaskRecord, type WorkflowRecord } from '../records.ts';

/** What a look-up needs to know of a record of this peer. */
export interface LocalRecord {
  uid: string;
  status: string;
  content_hash: string;
  /** True for a record that was not accepted, for too few copies, and never began: its id is free for another try. */
  refused?: true | undefined;
}

/** A record of another peer that is in a whole copy here. */
export interface CopiedRecord extends LocalRecord {
  feed_id: string;
  owner: string;
  /** Whose it is (`Caller.id`). */
  submitted_by?: string | undefined;
}

export function localRecord(record: TaskRecord | WorkflowRecord): LocalRecord {
  const { uid, status, content_hash } = record;
  return { uid, status, content_hash, ...(wasRefused(record) && { refused: true }) };
}

function wasRefused({ kind, status, started_at, error }: TaskRecord | WorkflowRecord): boolean {
  return kind === 'workflow' && status === 'cancelled' && started_at === null && error?.code === TOO_FEW_COPIES;
}

export type Root = TaskRecord | WorkflowRecord;

/** A record of this peer that yields its id to a record of another peer. */
export interface Duplicate {
  /** The record as it was when that was decided. */
  root: Root;
  /** The peer that has the other record, which keeps the id. */
  peer_id: string;
  /** Whether both records have the same content. */
  same: boolean;
}

/** The records whose id a client chose. */
export function chosenOf(roots: readonly Root[]): Root[] {
  return roots.filter((root) => !isPart(root) && isChosen(idOf(root)));
}

/** Whether a client chose the id: one that a peer made, or that a record set aside got, has no other record. */
export function isChosen(id: string): boolean {
  return !id.includes('~') && feedHintOf(id) === null;
}

/**
 * P5: whether `mine` yields the id. A refused record yields it to one that was not refused, as its client has tried
 * again elsewhere. A record that has ended keeps it; else the one accepted later, whose answer the client has.
 */
export function yieldsId(mine: Root, rival: LocalRecord): boolean {
  if (rival.uid === mine.uid || isSetAside(mine)) return false; // the same record, in another history of its feed
  const [refused, otherRefused] = [localRecord(mine).refused === true, rival.refused === true];
  if (refused !== otherRefused) return refused;
  const [ended, otherEnded] = [isTerminal(mine.status), isTerminal(rival.status)];
  return ended === otherEnded ? rival.uid > mine.uid : otherEnded; // uids begin with the time
}

export function duplicateOf(root: Root, { peer_id, content_hash }: Held): Duplicate {
  return { root, peer_id, same: content_hash === root.content_hash };
}

export function idOf(root: Root): string {
  return root.kind === 'task' ? root.task_id : root.workflow_id;
}

export function aliasOf(root: Root): Alias {
  return { kind: root.kind, id: idOf(root) };
}

/** One string for an alias, as the key of a map. */
export function aliasKey({ kind, id }: Alias): string {
  return `${kind}/${id}`;
}

export function isSetAside(root: Root): boolean {
  return idOf(root).endsWith(`~${root.uid}`);
}

/** Whether a record ended because another one with its id does the same work: it has no end of its own. */
export function gaveUp({ error }: Root): boolean {
  return error?.code === 'SUPERSEDED';
}

/** A record that yields its id, under the id by which it is found from then on. */
export function setAside<R extends Root>(root: R): R {
  const id = `${idOf(root)}~${root.uid}`;
  return root.kind === 'task' ? { ...root, task_id: id } : { ...root, workflow_id: id };
}

/** A record under the id with which it was accepted. */
export function withOwnId<R extends Root>(root: R): R {
  if (!isSetAside(root)) return root;
  const id = idOf(root).slice(0, -`~${root.uid}`.length);
  return root.kind === 'task' ? { ...root, task_id: id } : { ...root, workflow_id: id };
}

/** Whether a record belongs to a workflow: a task of a step, or a nested workflow. */
export function isPart(root: Root): boolean {
  return (root.kind === 'task' ? root.workflow_uid : root.parent_task_uid) !== null;
}
