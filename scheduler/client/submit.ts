/**
 * Submits of workflows and tasks: checked completely before anything is written, then written in one turn.
 *
 * 1. A refused submit changes nothing.
 * 2. An id is taken once: only one submit of an id runs here at a time, and the id is reserved in the mesh
 *    (`lookup/id-claims.ts`).
 * 3. A submit with the same id and content as a record is answered with that record; other content is a conflict. A
 *    workflow that was refused for too few copies never began: the same submit is a new try, and replaces it.
 */
import type { JsonValue } from '../../dag/errors.ts';
import { carriedBytes, isLarge } from '../../dag/json.ts';
import type { TaskReceipt, TaskSubmission, WorkflowReceipt, WorkflowSubmission } from '../api.ts';
import {
  InvalidStateError,
  MayNotSubmitError,
  QueueFullError,
  TooFewCopiesError,
  UnknownDependencyError,
} from '../errors.ts';
import type { Dependencies } from '../feed/dependencies.ts';
import type { FeedTable } from '../feed/feed-table.ts';
import type { OwnedFeed } from '../feed/owned-feed.ts';
import { contentHash, isoTime, makeId, makeUid } from '../ids.ts';
import type { Lifecycle } from '../lifecycle.ts';
import { ACTIVE_TASKS_MAX, JOURNAL_BACKLOG_MAX } from '../limits.ts';
import type { IdClaims } from '../lookup/id-claims.ts';
import type { LocalRecords } from '../lookup/local-records.ts';
import type { Locator } from '../lookup/locator.ts';
import type { PeerTable } from '../membership/peer-table.ts';
import type { Alias } from '../messages.ts';
import type { MainFeed } from '../ownership/main-feed.ts';
import type { Clock, Evaluator, Random, Reader } from '../ports.ts';
import { isTerminal, type TaskRecord, type WorkflowRecord } from '../records.ts';
import { type MembershipOf, mayDo } from '../roles.ts';
import { durabilityNow } from '../storage/durability.ts';
import type { Turn } from '../storage/journal.ts';
import { runUids } from '../storage/record-tree.ts';
import { newTask, retriedTask } from '../task/new-task.ts';
import { checkRetries, checkTask, checkWorkflow } from '../workflow/check-submission.ts';
import type { LiveRun } from '../workflow/live-run.ts';
import { requiresWithIds, withPeerIds } from '../workflow/required-peers.ts';

interface SubmitParts {
  self: string;
  membershipOf: MembershipOf;
  clock: Clock;
  random: Random;
  evaluator: Evaluator;
  reader: Reader;
  feeds: FeedTable;
  main: MainFeed;
  peers: PeerTable;
  locator: Locator;
  idClaims: IdClaims;
  dependencies: Dependencies;
  records: LocalRecords;
  lifecycle: Lifecycle;
  /** On how many disks a record is wanted when its submit does not say. */
  copies: number;
}

export class Submit {
  readonly #parts: SubmitParts;

  constructor(parts: SubmitParts) {
    this.#parts = parts;
  }

  /**
   * Resolves when the workflow is on this disk and on as many others as could be reached soon (see `durability` in the
   * receipt); with `require_copies`, only when it is on as many as it requires.
   *
   * @throws what `checkWorkflow` and `IdClaims.known` throw, UnknownDependencyError, AmbiguousPeerNameError,
   *   UnknownPeerError, QueueFullError, TooFewCopiesError
   */
  async submitWorkflow({
    workflow,
    copies,
    require_copies,
    submitted_by,
  }: WorkflowSubmission): Promise<WorkflowReceipt> {
    const parts = this.#parts;
    parts.lifecycle.mustBeReady();
    const { graph, warnings } = await checkWorkflow(workflow, parts);
    const wanted = copies ?? parts.copies;
    const content_hash = await this.#hashOf({
      ...workflow,
      workflow_id: null,
      ...(submitted_by !== undefined && { submitted_by }),
    } as unknown as JsonValue);
    const feed = await parts.main.whenThere();
    const { runs } = feed;
    const workflow_id = workflow.workflow_id ?? makeId('wf', feed.feed_id, parts.random);
    const alias: Alias = { kind: 'workflow', id: workflow_id };
    return await parts.idClaims.hold(alias, async () => {
      await this.#mustMaySubmit(workflow.workflow_id === undefined ? null : alias);
      const known = workflow.workflow_id === undefined ? undefined : await parts.idClaims.known(alias, content_hash);
      if (known !== undefined && !known.refused) {
        const earlier = await this.#workflowOf(known.uid);
        const durability = durabilityNow(await this.#copiesOf(earlier.uid), earlier.copies, this.#mesh);
        const estimated_start_time = this.#estimateOf(feed, earlier);
        return { record: earlier, duplicate: true, durability, estimated_start_time, warnings };
      }
      this.#checkBacklog(feed);
      runs.checkRoom();
      const waits = await this.#dependenciesOf('workflow', workflow.dependencies);
      const resolved = withPeerIds(workflow, parts.peers);
      if (known !== undefined) {
        parts.idClaims.making(alias);
        parts.idClaims.replaces(alias, known);
        await this.#forgetRefused(known.uid);
      }
      const { value: live, copies: kept } = await feed.journal.durably((turn) => {
        runs.checkRoom(); // others were accepted meanwhile
        parts.idClaims.making(alias);
        const live = runs.create(
          turn,
          { ...resolved, workflow_id },
          {
            graph,
            content_hash,
            copies: wanted,
            awaits_copies: require_copies && wanted > 1,
            parent: null,
            submitted_by,
            blockers: waits.map(({ alias }) => alias.id),
            depth: 0,
          },
        );
        this.#waitFor(turn, feed, waits, live.record.uid);
        return live;
      });
      if (live.record.awaits_copies) await this.#confirm(feed, live, kept);
      const durability = { copies: kept, wanted: copies ?? this.#wantedByDefault() };
      const record = { ...live.record, workflow_id }; // it may have yielded its id to another record already
      return { record, duplicate: false, durability, estimated_start_time: this.#estimateOf(feed, record), warnings };
    });
  }

  /**
   * A new record needs the role `submit`. One that is here already is told of, whatever the roles.
   * @param chosen the id, if the client chose it
   */
  async #mustMaySubmit(chosen: Alias | null): Promise<void> {
    const { self, membershipOf, records } = this.#parts;
    if (mayDo(membershipOf(self), ['submit'])) return;
    if (chosen !== null && (await records.find(chosen)) !== undefined) return;
    throw new MayNotSubmitError(self);
  }

  /** Large content gets an event-loop turn of its own, and the caller another one: other work runs in between (P7). */
  async #hashOf(content: JsonValue): Promise<string> {
    const { clock } = this.#parts;
    const turn = () => new Promise<void>((resolve) => clock.defer(resolve));
    const large = isLarge(content);
    if (large) await turn();
    const hash = contentHash(content);
    if (large) await turn();
    return hash;
  }

  async #workflowOf(uid: string): Promise<WorkflowRecord> {
    const feed = await this.#parts.feeds.of(uid);
    return feed?.runs.live.get(uid)?.record ?? (await this.#parts.reader.get('workflow', uid))!;
  }

  /** Removes a refused workflow: nothing of it ran, its client was told so, and its id is free for a new try. */
  async #forgetRefused(uid: string): Promise<void> {
    const { reader, feeds, clock } = this.#parts;
    const stepIds = (await reader.children('step', uid)).map(({ step_id }) => step_id);
    const cleared_at = isoTime(clock.wall());
    await feeds.mustOwn(await feeds.of(uid)).journal.turn((turn) => {
      for (const gone of runUids(uid, stepIds)) {
        turn.put({ kind: 'tombstone', uid: gone, cleared_at });
      }
    });
  }

  /** P1: a mesh of one peer can keep one copy only, so that is all a submit wants there by default. */
  get #mesh(): { byDefault: number; alone: boolean } {
    return { byDefault: this.#parts.copies, alone: this.#parts.peers.isAlone() };
  }

  #wantedByDefault(): number {
    return durabilityNow(1, this.#parts.copies, this.#mesh).wanted;
  }

  /** Lets a workflow that requires copies begin, or cancels it. @throws TooFewCopiesError when it has too few */
  async #confirm(feed: OwnedFeed, live: LiveRun, copies: number): Promise<void> {
    const enough = copies >= live.record.copies;
    const error = new TooFewCopiesError(copies, live.record.copies);
    await feed.journal.turn((turn) => {
      if (feed.runs.live.get(live.record.uid) !== live) return; // a client cancelled it meanwhile
      if (enough) feed.runs.confirm(turn, live);
      else feed.runs.cancel(turn, live, error.toShape());
    });
    if (!enough) throw error;
  }

  #estimateOf({ tasks }: OwnedFeed, { started_at }: { started_at: string | null }): string {
    return started_at ?? tasks.estimateStart(null, this.#parts.peers.slots);
  }

  /**
   * As `submitWorkflow`, for a task that belongs to no workflow. It cannot require copies.
   *
   * @throws what `checkTask` and `IdClaims.known` throw, UnknownDependencyError, AmbiguousPeerNameError,
   *   UnknownPeerError, QueueFullError
   */
  async submitTask(submission: TaskSubmission): Promise<TaskReceipt> {
    const parts = this.#parts;
    parts.lifecycle.mustBeReady();
    const warnings = await checkTask(submission, parts);
    const { task_id: given, submitted_by, ...rest } = submission;
    const content = submitted_by === undefined ? rest : { ...rest, submitted_by };
    const content_hash = await this.#hashOf(content as unknown as JsonValue);
    const feed = await parts.main.whenThere();
    const task_id = given ?? makeId('task', feed.feed_id, parts.random);
    const alias: Alias = { kind: 'task', id: task_id };
    return await parts.idClaims.hold(alias, async () => {
      await this.#mustMaySubmit(given === undefined ? null : alias);
      const known = given === undefined ? undefined : await parts.idClaims.known(alias, content_hash);
      if (known !== undefined) {
        const at = (await parts.feeds.of(known.uid)) ?? feed;
        const record = at.tasks.live.get(known.uid)?.record ?? (await parts.reader.get('task', known.uid))!;
        const durability = durabilityNow(await this.#copiesOf(known.uid), record.copies, this.#mesh);
        return { ...this.#receipt(at, record), duplicate: true, durability, warnings };
      }
      this.#checkRoom(feed);
      const waits = await this.#dependenciesOf('task', submission.depends_on);
      const wall = parts.clock.wall();
      const uid = makeUid(parts.random, wall);
      const requires = requiresWithIds(submission.requires, parts.peers, 'requires');
      const record = newTask({ ...submission, requires, copies: parts.copies }, task_id, content_hash, uid, wall);
      const { receipt, copies } = await this.#createTask(feed, record, waits);
      return { ...receipt, duplicate: false, durability: { copies, wanted: this.#wantedByDefault() }, warnings };
    });
  }

  /** P1: on how many disks a record is that was accepted before, once its rows here may be shown. */
  async #copiesOf(uid: string): Promise<number> {
    const { feeds, reader } = this.#parts;
    const feed = await feeds.of(uid);
    if (feed === undefined) return 1;
    await feed.journal.turn(() => undefined);
    const row = await reader.row(uid);
    return feed.replicas.copiesOf(row?.seq ?? feed.journal.head);
  }

  /** P7: when the disk or a follower cannot keep up, submits are refused. */
  #checkBacklog({ journal: { backlog } }: OwnedFeed): void {
    if (backlog < JOURNAL_BACKLOG_MAX) return;
    throw new QueueFullError('too much waits for the disk or for copies', 'JOURNAL_BACKLOG_MAX', backlog);
  }

  #checkRoom(feed: OwnedFeed): void {
    this.#checkBacklog(feed);
    const held = feed.tasks.live.size;
    if (held >= ACTIVE_TASKS_MAX) throw new QueueFullError('the queue is full', 'ACTIVE_TASKS_MAX', held);
  }

  async #createTask(feed: OwnedFeed, record: TaskRecord, waits: Wait[]) {
    const { tasks } = feed;
    const bytes = carriedBytes(record.payload);
    const { copies } = await feed.journal.durably((turn) => {
      this.#checkRoom(feed); // others were accepted meanwhile
      this.#parts.idClaims.making({ kind: 'task', id: record.task_id });
      tasks.create(
        turn,
        record,
        bytes,
        waits.map(({ alias }) => alias.id),
      );
      this.#waitFor(turn, feed, waits, record.uid);
    });
    const now = tasks.live.get(record.uid)?.record ?? (await this.#parts.reader.get('task', record.uid))!;
    // The record may have yielded its id to another one already.
    return { receipt: this.#receipt(feed, { ...now, task_id: record.task_id }), copies };
  }

  #receipt({ tasks }: OwnedFeed, record: TaskRecord) {
    const queue_position = tasks.queue.position(record.uid);
    const estimate = () => tasks.estimateStart(queue_position, this.#parts.peers.slots);
    return { record, queue_position, estimated_start_time: record.started_at ?? record.due_at ?? estimate() };
  }

  /**
   * Submits a failed or cancelled task once more, as a new task.
   *
   * @param uid of the task, which may be a retry itself
   * @throws InvalidStateError for a task that neither failed nor was cancelled, ReadOnlyError, QueueFullError,
   *   FlowmeshError INVALID_INPUT for retries of an `at_most_once` task
   */
  async retryTask(
    uid: string,
    config: { max_retries: number | undefined; timeout_ms: number | undefined },
  ): Promise<{ record: TaskRecord; queue_position: number | null }> {
    const parts = this.#parts;
    parts.lifecycle.mustBeReady();
    const task = await parts.reader.get('task', uid);
    if (task === undefined || !isTerminal(task.status) || task.status === 'completed') {
      throw new InvalidStateError(
        `task ${task?.task_id ?? uid} is ${task?.status ?? 'still being written'}; only a failed or cancelled one can be retried`,
        { status: task?.status ?? null },
      );
    }
    checkRetries(task.at_most_once, { max_retries: config.max_retries ?? 0 }, 'retry_config.max_retries');
    const root = task.retry_of === null ? task : ((await parts.reader.byAlias('task', task.retry_of)) ?? task);
    return await parts.idClaims.hold({ kind: 'task', id: `${root.task_id} retry` }, async () => {
      await this.#mustMaySubmit(null);
      const feed = await parts.main.whenThere();
      this.#checkRoom(feed);
      const latest = (await parts.reader.get('task', root.uid)) ?? root;
      const retry_count = latest.retry_count + 1;
      const now = isoTime(parts.clock.wall());
      const record = retriedTask(task, root, retry_count, config, makeUid(parts.random, parts.clock.wall()), now);
      const old = parts.feeds.mustOwn(await parts.feeds.of(root.uid));
      // The first task only counts its retries; its status stays (P5). The count is written no later than the new task,
      // so that after a crash in between no two retries have the same number.
      if (old !== feed) await old.journal.turn((turn) => turn.put({ ...latest, retry_count }));
      await feed.journal.turn((turn) => {
        this.#checkRoom(feed);
        if (old === feed) turn.put({ ...latest, retry_count });
        feed.tasks.create(turn, record, carriedBytes(record.payload));
      });
      const current = this.#receipt(feed, feed.tasks.live.get(record.uid)?.record ?? record);
      return { record: current.record, queue_position: current.queue_position };
    });
  }

  async #dependenciesOf(kind: Alias['kind'], ids: readonly string[]): Promise<Wait[]> {
    const waits: Wait[] = [];
    for (const id of new Set(ids)) {
      const alias = { kind, id };
      const local = await this.#parts.records.find(alias);
      if (local?.status === 'completed') continue;
      if (local !== undefined) {
        waits.push({ alias, status: local.status });
        continue;
      }
      const [status] = await this.#parts.locator.statusesOf([alias]);
      if (status == null) throw new UnknownDependencyError(kind, id);
      if (status !== 'completed') waits.push({ alias, status });
    }
    return waits;
  }

  #waitFor(turn: Turn, { tasks, runs }: OwnedFeed, waits: readonly Wait[], uid: string): void {
    const { dependencies } = this.#parts;
    for (const { alias, status } of waits) {
      if (!tasks.live.has(uid) && !runs.live.has(uid)) return; // a dependency that failed has ended it
      if (!isTerminal(status)) {
        dependencies.add(alias, uid);
        continue;
      }
      if (alias.kind === 'task') tasks.unblock(turn, uid, alias.id, status);
      else runs.unblock(turn, uid, alias.id, status);
    }
  }
}

interface Wait {
  alias: Alias;
  status: string;
}
