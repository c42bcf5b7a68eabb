/**
 * Nested workflows: a task with the action `workflow` stands for a run. The two end together: a run that ends gives its
 * task a result or a failure, and a task that ends first (cancelled, or out of time) cancels its run.
 */
import { parseInputs } from '../../dag/action-inputs.ts';
import { errorShape } from '../../dag/errors.ts';
import { NESTING_LEVELS_MAX } from '../../dag/limits.ts';
import { ConflictError } from '../errors.ts';
import { makeId } from '../ids.ts';
import type { Random } from '../ports.ts';
import type { TaskRecord, WorkflowRecord } from '../records.ts';
import type { Turn } from '../storage/journal.ts';
import type { LiveTask } from '../task/live-task.ts';
import type { Tasks } from '../task/tasks.ts';
import { timeoutError } from '../task/transitions.ts';
import { checkDepth, checkParts } from './check-submission.ts';
import type { LiveRun } from './live-run.ts';
import { nestedWorkflow } from './nested-workflow.ts';
import { type KnownPeers, withPeerIds } from './required-peers.ts';
import type { Runs } from './runs.ts';

export interface NestedRunParts {
  random: Random;
  tasks: Tasks;
  runs: Runs;
  peers: KnownPeers;
  feedId: string;
}

export class NestedRuns {
  readonly #parts: NestedRunParts;
  /** The uid of the run that a task stands for, by the uid of the task. */
  readonly #runOf = new Map<string, string>();

  constructor(parts: NestedRunParts) {
    this.#parts = parts;
  }

  /** Called when the runs and tasks of the feed have left memory. */
  clear(): void {
    this.#runOf.clear();
  }

  /**
   * Begins the workflow that a task stands for; its payload is `{ workflow, input? }`. A payload that is no valid
   * workflow fails the task.
   */
  start(turn: Turn, task: LiveTask): void {
    const { random, tasks, runs, peers, feedId } = this.#parts;
    const { workflow_uid, payload, copies } = task.record;
    const parent = workflow_uid === null ? undefined : runs.live.get(workflow_uid);
    const depth = (parent?.depth ?? 0) + 1;
    try {
      checkDepth(depth);
      runs.checkRoom();
      const nested = nestedWorkflow(parseInputs('workflow', payload));
      const workflow_id = nested.workflow_id ?? makeId('wf', feedId, random);
      if (runs.live.byId(workflow_id) !== undefined) throw new ConflictError('workflow', workflow_id, 'and runs');
      const workflow = withPeerIds({ ...nested, workflow_id }, peers);
      // An invalid workflow throws here and fails the task, before any row is written.
      const graph = checkParts(workflow, depth);
      tasks.begin(turn, task, 'running', null);
      runs.create(turn, workflow, {
        graph,
        content_hash: '',
        copies,
        awaits_copies: false,
        parent: task.record,
        blockers: [],
        depth,
      });
    } catch (error) {
      tasks.fail(turn, task, errorShape(error), true);
    }
  }

  onRunKept({ uid, parent_task_uid }: WorkflowRecord): void {
    if (parent_task_uid !== null) this.#runOf.set(parent_task_uid, uid);
  }

  /** A run has ended: if it is nested, its task ends too, or is tried again. */
  onRunEnded(turn: Turn, record: WorkflowRecord): void {
    const { parent_task_uid, workflow_id, status, result, error } = record;
    if (parent_task_uid === null) return;
    const { tasks } = this.#parts;
    this.#runOf.delete(parent_task_uid);
    const task = tasks.live.get(parent_task_uid);
    if (task === undefined) return;
    if (status === 'completed') {
      tasks.finish(turn, task, { status: 'completed', output: result });
      return;
    }
    const message = `the nested workflow ${workflow_id} is ${status}: ${error?.message ?? 'no reason was given'}`;
    const code = error?.code === 'TIMEOUT' ? 'TIMEOUT' : 'NESTED_FAILED';
    // A new run of the workflow may succeed exactly where a new attempt of the failed step could have.
    tasks.attemptFailed(turn, task, { code, message, retryable: error?.retryable ?? true });
  }

  /** A task has ended: nobody needs the result of its workflow any more, so the run is cancelled. */
  onTaskEnded(turn: Turn, { uid, workflow_uid, error }: TaskRecord): void {
    const { runs } = this.#parts;
    const nested = this.#liveRunOf(uid);
    if (nested === undefined) return;
    const parent = workflow_uid === null ? undefined : runs.live.get(workflow_uid);
    runs.cancel(turn, nested, error, parent?.forceStop);
  }

  /** A task has taken too long: its run is cancelled, and the end of the run ends the task. */
  onTaskTimeout(turn: Turn, record: TaskRecord): void {
    this.#parts.runs.cancel(turn, this.#liveRunOf(record.uid), timeoutError(record));
  }

  /**
   * A run has left memory without an end: the runs nested in it leave memory too.
   * @param taskUids the tasks of the run that have not ended
   * @returns the uids of all rows that the nested runs may have
   */
  onRunDropped(turn: Turn, { parent_task_uid }: WorkflowRecord, taskUids: Iterable<string>): string[] {
    if (parent_task_uid !== null) this.#runOf.delete(parent_task_uid);
    return [...taskUids].flatMap((uid) => this.drop(turn, uid));
  }

  /**
   * Takes the run of a task, if there is one, out of memory without an end.
   * @returns the uids of all rows that the run may have
   */
  drop(turn: Turn, taskUid: string): string[] {
    const nested = this.#liveRunOf(taskUid);
    return nested === undefined ? [] : this.#parts.runs.drop(turn, nested);
  }

  /** Sets how deep each run is nested, once all runs of the feed are restored: a run may come before its parent. */
  restoreDepths(): void {
    const { runs, tasks } = this.#parts;
    for (const live of runs.live.values()) {
      let depth = 0;
      let parent = live.record.parent_task_uid;
      while (parent !== null && depth < NESTING_LEVELS_MAX) {
        depth++;
        const workflowUid = tasks.live.get(parent)?.record.workflow_uid ?? null;
        parent = workflowUid === null ? null : (runs.live.get(workflowUid)?.record.parent_task_uid ?? null);
      }
      live.depth = depth;
    }
  }

  #liveRunOf(taskUid: string): LiveRun | undefined {
    return this.#parts.runs.live.get(this.#runOf.get(taskUid) ?? '');
  }
}
