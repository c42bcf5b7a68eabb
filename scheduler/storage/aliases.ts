/**
 * The id of a workflow or task, what a peer says of a record when somebody asks for its id, and what becomes of two
 * records with the same one: which of them gives way (P5), and under which id it can be seen from then on. Pure.
 */
import { TOO_FEW_COPIES } from '../errors.ts';
import { feedHintOf } from '../ids.ts';
import type { Alias, Held } from '../messages.ts';
import { isTerminal, type TaskRecord, type WorkflowRecord } from '../records.ts';

/** A record of this peer. */
export interface LocalRecord {
  uid: string;
  status: string;
  content_hash: string;
  /** It was not accepted, for too few copies, and never began: its id is free for another try, here or elsewhere. */
  refused?: true | undefined;
}

/** A record of another peer, of which a whole copy is here. */
export interface CopiedRecord extends LocalRecord {
  feed_id: string;
  owner: string;
}

export function localRecord(record: TaskRecord | WorkflowRecord): LocalRecord {
  const { uid, status, content_hash } = record;
  return { uid, status, content_hash, ...(wasRefused(record) && { refused: true }) };
}

function wasRefused({ kind, status, started_at, error }: TaskRecord | WorkflowRecord): boolean {
  return kind === 'workflow' && status === 'cancelled' && started_at === null && error?.code === TOO_FEW_COPIES;
}

export type Root = TaskRecord | WorkflowRecord;

export interface Duplicate {
  /** As it was when it was decided that it gives way. */
  root: Root;
  /** The peer that has the one that keeps the id. */
  peer_id: string;
  /** It has the same content. */
  same: boolean;
}

/** Those whose id a client chose. */
export function chosenOf(roots: readonly Root[]): Root[] {
  return roots.filter((root) => !isPart(root) && isChosen(idOf(root)));
}

/** An id that was made by a peer is nobody else's, nor is that of a record that was set aside. */
export function isChosen(id: string): boolean {
  return !id.includes('~') && feedHintOf(id) === null;
}

/**
 * P5: one that has ended stays, but for one that was refused, which its client tried again elsewhere; else the one that was
 * accepted later, whose answer the client has.
 */
export function yieldsId(mine: Root, rival: LocalRecord): boolean {
  if (rival.uid === mine.uid || isSetAside(mine)) return false; // the same one, in another history of its feed
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

/** It ended because another record with its id does the same: it has no end of its own. */
export function gaveUp({ error }: Root): boolean {
  return error?.code === 'SUPERSEDED';
}

/** Under which id a record can be seen that has given way. */
export function setAside<R extends Root>(root: R): R {
  const id = `${idOf(root)}~${root.uid}`;
  return root.kind === 'task' ? { ...root, task_id: id } : { ...root, workflow_id: id };
}

/** Under the id with which it was accepted. */
export function withOwnId<R extends Root>(root: R): R {
  if (!isSetAside(root)) return root;
  const id = idOf(root).slice(0, -`~${root.uid}`.length);
  return root.kind === 'task' ? { ...root, task_id: id } : { ...root, workflow_id: id };
}

export function isPart(root: Root): boolean {
  return (root.kind === 'task' ? root.workflow_uid : root.parent_task_uid) !== null;
}
