/**
 * A root is what a client submitted: a workflow, or a task that no workflow has. Its records are those of its steps and
 * tasks, their logs, and of the workflows that are nested in it.
 */
import type { Reader } from '../ports.ts';
import type { FlowRecord, TaskRecord } from '../records.ts';
import { containerUid, definitionUid, logUid } from '../uids.ts';

/** The root that a record belongs to; null for one that belongs to none. */
export async function rootOf(reader: Reader, record: FlowRecord): Promise<string | null> {
  if (record.kind === 'superseded') return record.root_uid;
  if (record.kind === 'feed' || record.kind === 'cache') return null;
  let uid = containerUid(record.uid);
  for (;;) {
    const workflow = await reader.get('workflow', uid);
    if (workflow === undefined || workflow.parent_task_uid === null) return uid;
    uid = containerUid(workflow.parent_task_uid);
  }
}

/**
 * All records of a root, as of one moment: commits may go on, and a workflow from before one with tasks from after it is
 * one that never was. Empty when there is none.
 */
export function recordsOf(reader: Reader, rootUid: string): Promise<FlowRecord[]> {
  return reader.atOnce((still) => readAll(still, rootUid));
}

async function readAll(reader: Reader, rootUid: string): Promise<FlowRecord[]> {
  const root = (await reader.row(rootUid))?.record;
  if (root === undefined) return [];
  if (root.kind === 'task') return await withParts(reader, [root]);
  if (root.kind === 'workflow') return [root, ...(await partsOf(reader, rootUid))];
  return [root];
}

/** What belongs to a workflow. */
async function partsOf(reader: Reader, uid: string): Promise<FlowRecord[]> {
  const definition = await reader.get('definition', definitionUid(uid));
  const steps = await reader.children('step', uid);
  const tasks = await withParts(reader, await reader.children('task', uid));
  return [...(definition === undefined ? [] : [definition]), ...steps, ...tasks];
}

/** Tasks, their logs, and the workflows that some of them are, each before what belongs to it. */
async function withParts(reader: Reader, tasks: readonly TaskRecord[]): Promise<FlowRecord[]> {
  const records: FlowRecord[] = [...tasks, ...(await logsOf(reader, tasks))];
  for (const { uid, task_type } of tasks) {
    if (task_type !== 'workflow') continue;
    for (const nested of await reader.children('workflow', uid)) {
      records.push(nested, ...(await partsOf(reader, nested.uid)));
    }
  }
  return records;
}

async function logsOf(reader: Reader, tasks: readonly { uid: string; attempt: number }[]): Promise<FlowRecord[]> {
  const logs: FlowRecord[] = [];
  for (const { uid, attempt } of tasks) {
    const log = attempt === 0 ? undefined : await reader.get('log', logUid(uid));
    if (log !== undefined) logs.push(log);
  }
  return logs;
}
