/**
 * A root is what a client submitted: a workflow, or a task outside any workflow. To it belong the records of its steps
 * and tasks, their logs, and all of the workflows nested in it. Only this file walks these records.
 */
import type { Reader } from '../ports.ts';
import type { FlowRecord, TaskRecord } from '../records.ts';
import { cacheUid, containerUid, definitionUid, isSupersededUid, logUid, stepOfTask, stepUid } from '../uids.ts';

/** The uid of the root that a record belongs to; null for a record that belongs to the feed (`feed`, `cache`). */
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
 * All records of a root as of one moment: commits go on meanwhile, and a workflow from before a commit with tasks from
 * after it never existed like that. Empty when there is no such root.
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

/** The records that belong to a workflow, without its own. */
async function partsOf(reader: Reader, uid: string): Promise<FlowRecord[]> {
  const definition = await reader.get('definition', definitionUid(uid));
  const steps = await reader.children('step', uid);
  const tasks = await withParts(reader, await reader.children('task', uid));
  return [...(definition === undefined ? [] : [definition]), ...steps, ...tasks];
}

/** Tasks, their logs, and the workflows nested in them, each before the records that belong to it. */
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

/** The uids of a run's own rows, without those of its tasks. */
export function runUids(uid: string, stepIds: readonly string[]): string[] {
  return [uid, definitionUid(uid), ...stepIds.map((stepId) => stepUid(uid, stepId))];
}

/** The uids of a task's own rows, without those of a workflow nested in it. */
export function taskUids(uid: string): string[] {
  return [uid, logUid(uid)];
}

/**
 * The uids of all rows below a root, without its own (`ownUids`). Nested rows come before the row they are nested in,
 * so that a removal that was cut short can find the rest again.
 *
 * @param feedId the feed of the root
 * @param uid of the root, or of a nested workflow
 * @param pageRows at most this many uids are read at a time; a list has about as many
 */
export async function* partUids(
  reader: Reader,
  feedId: string,
  uid: string,
  pageRows: number,
): AsyncGenerator<string[]> {
  const definition = await reader.get('definition', definitionUid(uid));
  const steps = definition?.workflow.steps ?? [];
  const withMore = new Set(steps.filter(({ action, cache }) => action === 'workflow' || cache).map((s) => s.step_id));
  for (let after = ''; ; ) {
    const page = await reader.parts(uid, after, pageRows);
    const last = page.at(-1);
    if (last === undefined) return;
    for (const part of page) {
      const step = stepOfTask(uid, part);
      if (step !== null && withMore.has(step)) yield* uidsBesides(reader, feedId, part, pageRows);
    }
    yield page;
    after = last;
  }
}

/** The uids of a task's rows in other places: its output in the cache, and the workflows nested in it. */
async function* uidsBesides(
  reader: Reader,
  feedId: string,
  taskUid: string,
  pageRows: number,
): AsyncGenerator<string[]> {
  const task = await reader.get('task', taskUid);
  if (task !== undefined && task.cache_key !== null) {
    const cached = cacheUid(feedId, task.cache_key);
    if ((await reader.get('cache', cached))?.task_uid === taskUid) yield [cached];
  }
  for (const { uid } of await reader.children('workflow', taskUid)) {
    yield* partUids(reader, feedId, uid, pageRows);
    yield [definitionUid(uid), uid];
  }
}

/** The uids of the rows of a root that are removed last; that of the root itself comes at the end. */
export async function ownUids(
  reader: Reader,
  { kind, uid }: { kind: 'workflow' | 'task'; uid: string },
): Promise<string[]> {
  const superseded = (await reader.children('superseded', uid)).map((record) => record.uid);
  return kind === 'workflow' ? [...superseded, definitionUid(uid), uid] : [...superseded, uid];
}

/** @returns the first record that does not belong to the root. A nested workflow has to come before its own records. */
export function strangerAmong(rootUid: string, records: readonly FlowRecord[]): FlowRecord | undefined {
  const workflows = new Set([rootUid]);
  const isPart = (uid: string) => workflows.has(containerUid(uid));
  return records.find((record) => {
    if (record.kind === 'superseded') return record.root_uid !== rootUid || !isSupersededUid(record.uid);
    if (record.kind === 'workflow' && record.parent_task_uid !== null && isPart(record.parent_task_uid)) {
      workflows.add(record.uid);
    }
    return !isPart(record.uid);
  });
}
