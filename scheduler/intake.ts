/**
 * What clients ask to be accepted: checked completely before anything is written, then written in one turn.
 *
 * 1. A refused submit changes nothing.
 * 2. An id is taken once: one submit of an id is under way at a time here, and it is reserved in the mesh (section 6).
 * 3. The same content under the same id is the same record; other content is a conflict.
 */
import type { JsonValue } from '../dag/errors.ts';
import { checkReferences, compileTemplate, type Template, templatesOf } from '../dag/expression.ts';
import { WorkflowGraph } from '../dag/graph.ts';
import { checkBytes, INPUT_BYTES_MAX } from '../dag/limits.ts';
import { InvalidWorkflowError, type Workflow } from '../dag/schema.ts';
import { checkAction } from './actions.ts';
import type { Durability, TaskReceipt, TaskSubmission, WorkflowReceipt, WorkflowSubmission } from './api.ts';
import type { Dependencies } from './dependencies.ts';
import {
  ConflictError,
  ElsewhereError,
  InvalidStateError,
  QueueFullError,
  TooFewCopiesError,
  UnknownDependencyError,
} from './errors.ts';
import { contentHash, isoTime, makeId, makeUid } from './ids.ts';
import type { Turn } from './journal.ts';
import { ACTIVE_TASKS_MAX, COPIES_KEPT } from './limits.ts';
import type { LiveTask } from './live-task.ts';
import type { LocalRecord, Locator } from './locator.ts';
import type { Alias } from './messages.ts';
import { newTask, retriedTask } from './new-task.ts';
import type { Clock, Evaluator, Log, Random, Reader } from './ports.ts';
import { isTerminal, type TaskRecord } from './records.ts';
import type { Runs } from './runs.ts';
import type { Tasks } from './tasks.ts';

/** Tasks cleared in one commit: between two of them others get their turn (P7). */
const CLEAR_PAGE = 500;

interface IntakeParts {
  clock: Clock;
  random: Random;
  evaluator: Evaluator;
  reader: Reader;
  tasks: Tasks;
  runs: Runs;
  locator: Locator;
  dependencies: Dependencies;
  log: Log;
  lookUp(alias: Alias): Promise<LocalRecord | undefined>;
  /** @throws why nothing can be accepted now */
  mustBeReady(): void;
  commit<T>(work: (turn: Turn) => T): Promise<T>;
  /** Slots of all workers known now, for estimates. */
  slots(): number;
}

export class Intake {
  private readonly parts: IntakeParts;
  private readonly submitting = new Map<string, Promise<unknown>>();

  constructor(parts: IntakeParts) {
    this.parts = parts;
  }

  async submitWorkflow({ workflow, copies, require_copies }: WorkflowSubmission): Promise<WorkflowReceipt> {
    const { parts } = this;
    parts.mustBeReady();
    const graph = await this.check(workflow);
    const durability = durabilityOf(copies, require_copies);
    const content_hash = contentHash({ ...workflow, workflow_id: null } as unknown as JsonValue);
    const workflow_id = workflow.workflow_id ?? makeId('wf', parts.runs.feedId, parts.random);
    const alias: Alias = { kind: 'workflow', id: workflow_id };
    return await this.oneAtATime(alias, async () => {
      const known = workflow.workflow_id === undefined ? undefined : await this.known(alias, content_hash);
      if (known !== undefined) {
        const record = parts.runs.live.get(known.uid)?.record ?? (await parts.reader.get('workflow', known.uid))!;
        return { record, duplicate: true, durability, estimated_start_time: record.started_at ?? this.estimate(null) };
      }
      parts.runs.checkRoom();
      const waits = await this.dependenciesOf('workflow', workflow.dependencies);
      const record = await parts.commit((turn) => {
        parts.runs.checkRoom(); // others were accepted meanwhile
        const live = parts.runs.create(
          turn,
          { ...workflow, workflow_id },
          {
            graph,
            content_hash,
            copies: COPIES_KEPT,
            parent: null,
            blockers: waits.map(({ alias }) => alias.id),
            depth: 0,
          },
        );
        this.waitFor(turn, waits, live.record.uid);
        return live.record;
      });
      return { record, duplicate: false, durability, estimated_start_time: record.started_at ?? this.estimate(null) };
    });
  }

  /** Everything that can be wrong with a workflow of the right shape. */
  private async check(workflow: Workflow): Promise<WorkflowGraph> {
    const graph = new WorkflowGraph(workflow.steps);
    checkReferences(workflow, graph);
    const places = new Map<string, string>();
    const note = (template: Template | undefined) => {
      for (const [text, place] of template?.places ?? []) if (!places.has(text)) places.set(text, place);
    };
    for (const [position, step] of workflow.steps.entries()) {
      checkAction(step.action, `steps[${position}].action`);
      const { when, foreach, inputs } = templatesOf(step, ['steps', position]);
      for (const template of [when, foreach, inputs]) note(template);
    }
    if (workflow.output !== undefined) note(compileTemplate(workflow.output, ['output']));
    await this.checkExpressions(places);
    return graph;
  }

  private async checkExpressions(places: Map<string, string>): Promise<void> {
    // Plain paths need no parser.
    const texts = [...places.keys()].filter(
      (text) => !/^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$/.test(text),
    );
    if (texts.length === 0) return;
    const answers = await this.parts.evaluator.check(texts);
    const problems = answers.flatMap((answer, position) => {
      if (answer === null) return [];
      const text = texts[position]!;
      const message = `the expression \${ ${text} } cannot be read at character ${answer.position}: ${answer.message}`;
      return [{ path: places.get(text)!, message }];
    });
    if (problems.length > 0) throw new InvalidWorkflowError(problems, 'INVALID_EXPRESSION');
  }

  async submitTask(submission: TaskSubmission): Promise<TaskReceipt> {
    const { parts } = this;
    parts.mustBeReady();
    checkAction(submission.task_type, 'task_type');
    checkBytes(submission.payload, 'INPUT_BYTES_MAX', INPUT_BYTES_MAX, 'The payload');
    const { task_id: given, ...content } = submission;
    const content_hash = contentHash(JSON.parse(JSON.stringify(content)) as JsonValue);
    const task_id = given ?? makeId('task', parts.tasks.leases.feed.feed_id, parts.random);
    const alias: Alias = { kind: 'task', id: task_id };
    const durability = durabilityOf(undefined, false);
    return await this.oneAtATime(alias, async () => {
      const known = given === undefined ? undefined : await this.known(alias, content_hash);
      if (known !== undefined) {
        const record = parts.tasks.live.get(known.uid)?.record ?? (await parts.reader.get('task', known.uid))!;
        return { ...this.receipt(record), duplicate: true, durability };
      }
      this.checkRoom();
      const waits = await this.dependenciesOf('task', submission.depends_on);
      const record = newTask(
        submission,
        task_id,
        content_hash,
        makeUid(parts.random, parts.clock.wall()),
        parts.clock.wall(),
      );
      return await this.createTask(record, waits).then((receipt) => ({ ...receipt, duplicate: false, durability }));
    });
  }

  private checkRoom(): void {
    const held = this.parts.tasks.live.size;
    if (held >= ACTIVE_TASKS_MAX) throw new QueueFullError('the queue is full', 'ACTIVE_TASKS_MAX', held);
  }

  private async createTask(record: TaskRecord, waits: Wait[]) {
    const { parts } = this;
    const bytes = checkBytesOf(record.payload);
    await parts.commit((turn) => {
      this.checkRoom(); // others were accepted meanwhile
      parts.tasks.create(
        turn,
        record,
        bytes,
        waits.map(({ alias }) => alias.id),
      );
      this.waitFor(turn, waits, record.uid);
    });
    return this.receipt(parts.tasks.live.get(record.uid)?.record ?? (await parts.reader.get('task', record.uid))!);
  }

  private receipt(record: TaskRecord) {
    const queue_position = this.parts.tasks.queue.position(record.uid);
    const estimated_start_time = record.started_at ?? record.due_at ?? this.estimate(queue_position);
    return { record, queue_position, estimated_start_time };
  }

  private estimate(position: number | null): string {
    return this.parts.tasks.estimateStart(position, this.parts.slots());
  }

  async retryTask(
    uid: string,
    config: { max_retries: number | undefined; timeout_ms: number | undefined },
  ): Promise<{ record: TaskRecord; queue_position: number | null }> {
    const { parts } = this;
    parts.mustBeReady();
    const task = await parts.reader.get('task', uid);
    if (task === undefined || !isTerminal(task.status) || task.status === 'completed') {
      throw new InvalidStateError(
        `task ${task?.task_id ?? uid} is ${task?.status ?? 'still being written'}; only a failed or cancelled one can be retried`,
        { status: task?.status ?? null },
      );
    }
    const root = task.retry_of === null ? task : ((await parts.reader.byAlias('task', task.retry_of)) ?? task);
    return await this.oneAtATime({ kind: 'task', id: `${root.task_id} retry` }, async () => {
      this.checkRoom();
      const latest = (await parts.reader.get('task', root.uid)) ?? root;
      const retry_count = latest.retry_count + 1;
      const now = isoTime(parts.clock.wall());
      const record = retriedTask(task, root, retry_count, config, makeUid(parts.random, parts.clock.wall()), now);
      await parts.commit((turn) => {
        this.checkRoom();
        turn.put({ ...latest, retry_count }); // the status of the ended task stays as it is (P5)
        parts.tasks.create(turn, record, checkBytesOf(record.payload));
      });
      const { record: current, queue_position } = this.receipt(parts.tasks.live.get(record.uid)?.record ?? record);
      return { record: current, queue_position };
    });
  }

  /** Queued tasks are cancelled; ended ones, unless they belong to a workflow, are forgotten. */
  async clearQueue(
    filter: 'queued' | 'failed' | 'cancelled' | 'dead_letter' | undefined,
  ): Promise<{ cleared_count: number; remaining_count: number }> {
    const { tasks } = this.parts;
    this.parts.mustBeReady();
    let cleared = 0;
    // What has ended goes first: the queued ones that this call cancels stay to be seen.
    for (const status of ['failed', 'cancelled', 'dead_letter'] as const) {
      if (filter === undefined || filter === status) cleared += await this.forgetEnded(status);
    }
    if (filter === undefined || filter === 'queued') {
      const queued = [...tasks.live.values()].filter(({ record }) => record.status === 'queued');
      for (let from = 0; from < queued.length; from += CLEAR_PAGE) {
        cleared += await this.cancelQueued(queued.slice(from, from + CLEAR_PAGE));
      }
    }
    return { cleared_count: cleared, remaining_count: tasks.counts.queued };
  }

  /** Those of them that have not started or ended meanwhile. */
  private async cancelQueued(page: readonly LiveTask[]): Promise<number> {
    const { tasks, commit } = this.parts;
    return await commit((turn) => {
      let count = 0;
      for (const task of page) {
        if (tasks.live.get(task.record.uid) !== task || task.record.status !== 'queued') continue;
        tasks.cancel(turn, task, 'the queue was cleared', false);
        count++;
      }
      return count;
    });
  }

  private async forgetEnded(status: 'failed' | 'cancelled' | 'dead_letter'): Promise<number> {
    const { reader, commit, clock } = this.parts;
    const query = status === 'cancelled' ? { status } : { status: 'failed', dead_letter: status === 'dead_letter' };
    let count = 0;
    for (let offset = 0; ; ) {
      const { records } = await reader.list({ kind: 'task', ...query, limit: CLEAR_PAGE, offset });
      if (records.length === 0) return count;
      const own = records.filter(({ workflow_uid }) => workflow_uid === null);
      offset += records.length - own.length; // those of workflows stay and are passed over
      const cleared_at = isoTime(clock.wall());
      await commit((turn) => {
        for (const { uid } of own) {
          turn.put({ kind: 'tombstone', uid, cleared_at });
          turn.put({ kind: 'tombstone', uid: `${uid}/log`, cleared_at });
        }
      });
      count += own.length;
    }
  }

  /** Runs submits of one id after each other. */
  private async oneAtATime<T>(alias: Alias, work: () => Promise<T>): Promise<T> {
    const key = `${alias.kind}/${alias.id}`;
    const before = this.submitting.get(key) ?? Promise.resolve();
    const mine = before.then(work, work);
    this.submitting.set(key, mine);
    try {
      return await mine;
    } finally {
      if (this.submitting.get(key) === mine) this.submitting.delete(key);
    }
  }

  /**
   * The record that has this id already, when its content is the same.
   * @throws ConflictError when it is not, ElsewhereError when another peer has it
   */
  private async known(alias: Alias, contentHash: string): Promise<LocalRecord | undefined> {
    const local = await this.parts.lookUp(alias);
    if (local !== undefined) {
      if (local.content_hash !== contentHash) throw new ConflictError(alias.kind, alias.id, 'on this peer');
      return local;
    }
    const elsewhere = await this.parts.locator.reserve(alias, contentHash);
    if (elsewhere === undefined) return undefined;
    if (elsewhere.content_hash !== '' && elsewhere.content_hash !== contentHash) {
      throw new ConflictError(alias.kind, alias.id, `on peer ${elsewhere.peer_id}`);
    }
    throw new ElsewhereError(alias, elsewhere);
  }

  private async dependenciesOf(kind: Alias['kind'], ids: readonly string[]): Promise<Wait[]> {
    const waits: Wait[] = [];
    for (const id of new Set(ids)) {
      const alias = { kind, id };
      const local = await this.parts.lookUp(alias);
      if (local?.status === 'completed') continue;
      if (local !== undefined) {
        waits.push({ alias, remote: false, status: local.status });
        continue;
      }
      const [found] = await this.parts.locator.locate([alias], 1);
      if (!found) throw new UnknownDependencyError(kind, id);
      if (found.status !== 'completed') waits.push({ alias, remote: true, status: found.status });
    }
    return waits;
  }

  private waitFor(turn: Turn, waits: readonly Wait[], uid: string): void {
    const { dependencies, tasks, runs } = this.parts;
    for (const { alias, remote, status } of waits) {
      if (!tasks.live.has(uid) && !runs.live.has(uid)) return; // one of them failed it
      if (!isTerminal(status)) {
        dependencies.add(alias, uid, remote);
        // It may have ended since it was looked up; when this turn is on the disk, so is that.
        if (!remote) turn.after(() => void this.endedMeanwhile(alias));
        continue;
      }
      if (alias.kind === 'task') tasks.unblock(turn, uid, alias.id, status);
      else runs.unblock(turn, uid, alias.id, status);
    }
  }

  private async endedMeanwhile(alias: Alias): Promise<void> {
    const { lookUp, dependencies, log } = this.parts;
    try {
      const local = await lookUp(alias);
      if (local !== undefined && isTerminal(local.status)) dependencies.ended(alias, local.status);
    } catch (error) {
      // A store that cannot be read is opened again, and what waits is then looked up anew.
      log.warn({ alias, err: error }, 'a dependency could not be looked up');
    }
  }
}

interface Wait {
  alias: Alias;
  remote: boolean;
  status: string;
}

function checkBytesOf(payload: TaskRecord['payload']): number {
  return Buffer.byteLength(JSON.stringify(payload));
}

function durabilityOf(copies: number | undefined, required: boolean): Durability {
  const wanted = copies ?? COPIES_KEPT;
  if (required && wanted > COPIES_KEPT) throw new TooFewCopiesError(COPIES_KEPT, wanted);
  return { copies: COPIES_KEPT, wanted };
}
