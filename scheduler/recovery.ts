/**
 * Taking up what the store holds: at the start of a peer, and after a commit that failed. The folds and queues are
 * built from rows alone, by the same code that built them from messages.
 */
import { jsonBytes } from '../dag/limits.ts';
import type { Workflow } from '../dag/schema.ts';
import type { Dependencies } from './dependencies.ts';
import type { Turn } from './journal.ts';
import type { LocalRecord } from './locator.ts';
import type { Alias } from './messages.ts';
import type { Reader } from './ports.ts';
import { isTerminal, type LogRecord, type StepRecord, type TaskRecord, type WorkflowRecord } from './records.ts';
import type { Runs } from './runs.ts';
import type { Tasks } from './tasks.ts';

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

interface Blocker {
  alias: Alias;
  local: LocalRecord | undefined;
}

/** Reads everything that is not terminal. */
export async function readActive(
  reader: Reader,
  lookUp: (alias: Alias) => Promise<LocalRecord | undefined>,
): Promise<Remembered> {
  const blockersOf = (kind: Alias['kind'], ids: readonly string[]): Promise<Blocker[]> =>
    Promise.all(ids.map(async (id) => ({ alias: { kind, id }, local: await lookUp({ kind, id }) })));
  const remembered: Remembered = { tasks: [], workflows: [] };
  for (const record of await reader.active('task')) {
    // A task that was never started has no log.
    const log = record.attempt === 0 ? null : ((await reader.get('log', `${record.uid}/log`)) ?? null);
    // One that was started has waited for them already.
    const waits = record.attempt === 0 ? record.depends_on : [];
    remembered.tasks.push({ record, log, blockers: await blockersOf('task', waits) });
  }
  for (const record of await reader.active('workflow')) {
    const definition = await reader.get('definition', `${record.uid}:definition`);
    if (definition === undefined)
      throw new Error(`the definition of workflow ${record.workflow_id} is missing in the store`);
    const steps = await reader.children('step', record.uid);
    const tasks = await reader.children('task', record.uid);
    const waits = record.started_at === null ? record.dependencies : [];
    const blockers = await blockersOf('workflow', waits);
    remembered.workflows.push({ record, workflow: definition.workflow, steps, tasks, blockers });
  }
  return remembered;
}

/** Puts what was read into memory, and goes on with it. */
export function restore(
  turn: Turn,
  remembered: Remembered,
  { tasks, runs, dependencies }: { tasks: Tasks; runs: Runs; dependencies: Dependencies },
): void {
  const failed: { kind: Alias['kind']; uid: string; id: string; status: string }[] = [];
  const waitsFor = (uid: string, blockers: readonly Blocker[]): string[] => {
    const open: string[] = [];
    for (const { alias, local } of blockers) {
      if (local?.status === 'completed') continue;
      open.push(alias.id);
      if (local !== undefined && isTerminal(local.status))
        failed.push({ kind: alias.kind, uid, id: alias.id, status: local.status });
      else dependencies.add(alias, uid, local === undefined);
    }
    return open;
  };
  for (const { record, log, blockers } of remembered.tasks) {
    tasks.restore(record, jsonBytes(record.payload), waitsFor(record.uid, blockers), log);
  }
  for (const { record, workflow, steps, tasks: ofWorkflow, blockers } of remembered.workflows) {
    runs.restore(turn, record, workflow, steps, ofWorkflow, waitsFor(record.uid, blockers));
  }
  tasks.resume(turn);
  runs.restoreDepths();
  for (const { kind, uid, id, status } of failed) {
    if (kind === 'task') tasks.unblock(turn, uid, id, status);
    else runs.unblock(turn, uid, id, status);
  }
}
