/**
 * One submit that two peers have accepted: its first owner went down before it answered, and the client sent the same
 * again elsewhere. The owner that takes its feed up gives way to the record that was accepted later, whose answer the
 * client has. It keeps its record under another id, to be seen, and who asks for the id finds the one that is done.
 */
import { feedHintOf } from './ids.ts';
import type { Located } from './messages.ts';
import type { TaskRecord, WorkflowRecord } from './records.ts';
import type { Remembered } from './recovery.ts';

type Root = TaskRecord | WorkflowRecord;

export interface Duplicate {
  uid: string;
  /** The peer that has the later one. */
  peer_id: string;
}

/** @param locate per alias the owner of a record with that id at another peer */
export async function duplicatesOf(
  { tasks, workflows }: Remembered,
  locate: (items: { kind: 'task' | 'workflow'; id: string }[]) => Promise<(Located | null)[]>,
): Promise<Duplicate[]> {
  const roots: Root[] = [];
  for (const { record } of tasks) if (record.workflow_uid === null) roots.push(record);
  for (const { record } of workflows) if (record.parent_task_uid === null) roots.push(record);
  // An id that was made here is nobody else's.
  const chosen = roots.filter((root) => feedHintOf(idOf(root)) === null);
  if (chosen.length === 0) return [];
  const found = await locate(chosen.map((root) => ({ kind: root.kind, id: idOf(root) })));
  return chosen.flatMap(({ uid, content_hash }, position) => {
    const other = found[position];
    if (other == null || other.copy_of !== undefined || other.content_hash !== content_hash) return [];
    return other.uid !== undefined && other.uid > uid ? [{ uid, peer_id: other.peer_id }] : []; // uids begin with the time
  });
}

/** Gives the records that give way an id of their own. */
export function setAside({ tasks, workflows }: Remembered, duplicates: readonly Duplicate[]): void {
  const uids = new Set(duplicates.map(({ uid }) => uid));
  for (const entry of tasks) {
    const { uid, task_id } = entry.record;
    if (uids.has(uid)) entry.record = { ...entry.record, task_id: `${task_id}~${uid}` };
  }
  for (const entry of workflows) {
    const { uid, workflow_id } = entry.record;
    if (uids.has(uid)) entry.record = { ...entry.record, workflow_id: `${workflow_id}~${uid}` };
  }
}

function idOf(root: Root): string {
  return root.kind === 'task' ? root.task_id : root.workflow_id;
}
