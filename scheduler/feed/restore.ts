/**
 * How the open records of a feed get into memory: when a peer starts, after a commit that failed, when a feed is taken
 * over, and when a root comes with a hand-over. The folds and queues are built from rows alone, by the same code that
 * builds them from messages.
 */
import { carriedBytes } from '../../dag/json.ts';
import type { Workflow } from '../../dag/schema.ts';
import type { LocalRecords } from '../lookup/local-records.ts';
import type { Alias } from '../messages.ts';
import type { Reader } from '../ports.ts';
import {
  type FlowRecord,
  isTerminal,
  type LogRecord,
  type StepRecord,
  type TaskRecord,
  type WorkflowRecord,
} from '../records.ts';
import { withBoundedErrors } from '../sizes.ts';
import type { LocalRecord } from '../storage/aliases.ts';
import type { Turn } from '../storage/journal.ts';
import type { Tasks } from '../task/tasks.ts';
import { definitionUid, logUid } from '../uids.ts';
import type { NestedRuns } from '../workflow/nested-runs.ts';
import type { Runs } from '../workflow/runs.ts';
import type { Dependencies } from './dependencies.ts';

/** The open records of a feed, or of one root. */
export interface Remembered {
  tasks: { record: TaskRecord; log: LogRecord | null; blockers: Blocker[] }[];
  workflows: {
    record: WorkflowRecord;
    workflow: Workflow;
    steps: StepRecord[];
    tasks: TaskRecord[];
    blockers: Blocker[];
  }[];
}

/** A record that another one waits for; `local` is what this peer knows of it. */
interface Blocker {
  alias: Alias;
  local: LocalRecord | undefined;
}

type Local = Pick<LocalRecords, 'find'>;

/** Reads all tasks and workflows of a feed that have not ended. */
export async function readActive(reader: Reader, feedId: string, local: Local): Promise<Remembered> {
  const remembered: Remembered = { tasks: [], workflows: [] };
  for (const record of await reader.active('task', feedId)) {
    // A task that was never started has no log.
    const log = record.attempt === 0 ? null : ((await reader.get('log', logUid(record.uid))) ?? null);
    remembered.tasks.push({ record, log, blockers: await blockersOf('task', record, local) });
  }
  for (const record of await reader.active('workflow', feedId)) {
    const definition = await reader.get('definition', definitionUid(record.uid));
    if (definition === undefined)
      throw new Error(`the definition of workflow ${record.workflow_id} is missing in the store`);
    const steps = await reader.children('step', record.uid);
    const tasks = await reader.children('task', record.uid);
    const blockers = await blockersOf('workflow', record, local);
    remembered.workflows.push({ record, workflow: definition.workflow, steps, tasks, blockers });
  }
  return remembered;
}

/** As `readActive`, but from the records of one root that another peer sent. */
export async function rememberedOf(records: readonly FlowRecord[], local: Local): Promise<Remembered> {
  const remembered: Remembered = { tasks: [], workflows: [] };
  const all = <K extends FlowRecord['kind']>(kind: K) =>
    records.filter((record): record is Extract<FlowRecord, { kind: K }> => record.kind === kind);
  for (const record of all('task')) {
    if (isTerminal(record.status)) continue;
    const log = all('log').find(({ task_uid }) => task_uid === record.uid) ?? null;
    remembered.tasks.push({ record, log, blockers: await blockersOf('task', record, local) });
  }
  for (const record of all('workflow')) {
    const definition = all('definition').find(({ uid }) => uid === definitionUid(record.uid));
    if (isTerminal(record.status) || definition === undefined) continue;
    const steps = all('step').filter(({ workflow_uid }) => workflow_uid === record.uid);
    const tasks = all('task').filter(({ workflow_uid }) => workflow_uid === record.uid);
    const blockers = await blockersOf('workflow', record, local);
    remembered.workflows.push({ record, workflow: definition.workflow, steps, tasks, blockers });
  }
  return remembered;
}

/** What a record waits for. A record that was started has waited already. */
async function blockersOf(kind: Alias['kind'], record: TaskRecord | WorkflowRecord, local: Local): Promise<Blocker[]> {
  const waits =
    record.kind === 'task'
      ? record.attempt === 0 && record.depends_on
      : record.started_at === null && record.dependencies;
  return await Promise.all(
    (waits || []).map(async (id) => ({ alias: { kind, id }, local: await local.find({ kind, id }) })),
  );
}

/** Loads what was read into memory and goes on with it. Errors are cut to a size that can be written again. */
export function restore(
  turn: Turn,
  remembered: Remembered,
  { tasks, runs, nested, dependencies }: { tasks: Tasks; runs: Runs; nested: NestedRuns; dependencies: Dependencies },
): void {
  const failed: { kind: Alias['kind']; uid: string; id: string; status: string }[] = [];
  const waitsFor = (uid: string, blockers: readonly Blocker[]): string[] => {
    const open: string[] = [];
    for (const { alias, local } of blockers) {
      if (local?.status === 'completed') continue;
      open.push(alias.id);
      if (local !== undefined && isTerminal(local.status))
        failed.push({ kind: alias.kind, uid, id: alias.id, status: local.status });
      else dependencies.add(alias, uid);
    }
    return open;
  };
  for (const { record, log, blockers } of remembered.tasks) {
    tasks.restore(withBoundedErrors(record), carriedBytes(record.payload), waitsFor(record.uid, blockers), log);
  }
  for (const { record, workflow, steps, tasks: ofWorkflow, blockers } of remembered.workflows) {
    // The error of a task that has ended may become that of its step.
    const [bounded, ofSteps, ofTasks] = [
      withBoundedErrors(record),
      steps.map(withBoundedErrors),
      ofWorkflow.map(withBoundedErrors),
    ];
    runs.restore(turn, bounded, workflow, ofSteps, ofTasks, waitsFor(record.uid, blockers));
  }
  tasks.resume(turn);
  nested.restoreDepths();
  for (const { kind, uid, id, status } of failed) {
    if (kind === 'task') tasks.unblock(turn, uid, id, status);
    else runs.unblock(turn, uid, id, status);
  }
}
