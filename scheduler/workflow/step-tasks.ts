/**
 * From a ready step to its tasks: evaluates `when` and `foreach`, makes the inputs of each item and creates the tasks.
 * A step never has more than EXPAND_CHUNK_ITEMS open tasks: further ones are created as earlier ones end (P7).
 */
import { type ErrorShape, errorShape, FlowmeshError, type JsonObject, type JsonValue } from '../../dag/errors.ts';
import { decidesPerItem, fillTemplate, holds, itemsOf, type StepTemplates, templatesOf } from '../../dag/expression.ts';
import { faultText, limitErrorOf, walkJson } from '../../dag/json.ts';
import { EXPAND_CHUNK_ITEMS, INPUT_BYTES_MAX, JSON_ELEMENT_BYTES, jsonBytes, LimitError } from '../../dag/limits.ts';
import type { RunEvent } from '../../dag/run.ts';
import type { Step } from '../../dag/schema.ts';
import { contentHash, isoTime } from '../ids.ts';
import { ACTIVE_TASKS_MAX, ITEMS_BYTES_MAX } from '../limits.ts';
import type { Clock, Log, Reader } from '../ports.ts';
import { type CacheRecord, EMPTY_TASK_STATE, type TaskRecord } from '../records.ts';
import { bytesWithin } from '../sizes.ts';
import type { FeedWriter, Turn } from '../storage/journal.ts';
import { wishes } from '../task/new-task.ts';
import type { Tasks } from '../task/tasks.ts';
import { cacheUid, stepTaskUid } from '../uids.ts';
import type { Expressions, Values } from './expressions.ts';
import type { LiveRun } from './live-run.ts';
import { isRunning, stepRecord } from './live-run.ts';

export interface StepTaskHooks {
  /** Applies an event to the run, and goes on with what follows from it. */
  apply(turn: Turn, live: LiveRun, event: RunEvent): void;
  /** False once the run has ended, or was dropped from memory. */
  isOpen(live: LiveRun): boolean;
}

export class StepTasks {
  readonly #clock: Clock;
  readonly #tasks: Tasks;
  readonly #reader: Reader;
  readonly #expressions: Expressions;
  readonly #log: Log;
  readonly #feedId: string;
  readonly #writer: FeedWriter;
  readonly #hooks: StepTaskHooks;

  constructor(
    components: {
      clock: Clock;
      tasks: Tasks;
      reader: Reader;
      expressions: Expressions;
      log: Log;
      feedId: string;
      writer: FeedWriter;
    },
    hooks: StepTaskHooks,
  ) {
    this.#clock = components.clock;
    this.#tasks = components.tasks;
    this.#reader = components.reader;
    this.#expressions = components.expressions;
    this.#log = components.log;
    this.#feedId = components.feedId;
    this.#writer = components.writer;
    this.#hooks = hooks;
  }

  /** Evaluates `when` of a ready step, then `foreach`, which may rely on what `when` has made sure of. */
  prepare(turn: Turn, live: LiveRun, stepId: string): void {
    const templates = templatesOf(live.steps.get(stepId)!);
    const when = decidesPerItem(templates) ? undefined : templates.when;
    this.#evaluateReady(turn, live, stepId, when?.expressions ?? [], [{}], (later, [values]) => {
      if (when === undefined || holds(fillTemplate(when, values!))) {
        this.#makeItems(later, live, stepId, templates);
        return;
      }
      const reason = 'its condition `when` did not hold';
      this.#hooks.apply(later, live, { type: 'step_skipped', step_id: stepId, reason });
    });
  }

  #makeItems(turn: Turn, live: LiveRun, stepId: string, templates: StepTemplates): void {
    const { foreach } = templates;
    this.#evaluateReady(turn, live, stepId, foreach?.expressions ?? [], [{}], (later, [values]) => {
      const items = foreach === undefined ? null : itemsOf(fillTemplate(foreach, values!));
      const error = itemsError(live, stepId, items);
      if (error !== null) {
        this.#hooks.apply(later, live, { type: 'step_failed', step_id: stepId, error });
        return;
      }
      if (items === null || !decidesPerItem(templates)) this.#startStep(later, live, stepId, items, []);
      else this.#chooseItems(later, live, stepId, items, []);
    });
  }

  /** Decides `when` of each item, one chunk in a turn. No item begins before all are decided. */
  #chooseItems(turn: Turn, live: LiveRun, stepId: string, items: JsonValue[], leftOut: number[], from = 0): void {
    const when = templatesOf(live.steps.get(stepId)!).when!;
    const chunk = items.slice(from, from + EXPAND_CHUNK_ITEMS);
    const scopes = chunk.map((item, offset): JsonObject => ({ item, index: from + offset }));
    this.#evaluateReady(turn, live, stepId, when.expressions, scopes, (later, results) => {
      for (const [offset, values] of results.entries()) {
        if (!holds(fillTemplate(when, values))) leftOut.push(from + offset);
      }
      const next = from + chunk.length;
      if (next >= items.length) {
        this.#startStep(later, live, stepId, items, leftOut);
        return;
      }
      this.#clock.defer(() =>
        this.#writer.turn((then) => {
          if (this.#isReady(live, stepId)) this.#chooseItems(then, live, stepId, items, leftOut, next);
        }),
      );
    });
  }

  /**
   * Values for a step that is about to begin. An expression that fails, fails the step. `then` is not called for a step
   * that is no longer ready by the time its values are there.
   */
  #evaluateReady(
    turn: Turn,
    live: LiveRun,
    stepId: string,
    expressions: string[],
    scopes: JsonObject[],
    then: (turn: Turn, results: Values[]) => void,
  ): void {
    this.#expressions.evaluate(turn, live, expressions, scopes, (later, results) => {
      if (!this.#isReady(live, stepId)) return;
      const failed = results.findIndex((result) => result instanceof FlowmeshError);
      if (failed === -1) {
        then(later, results as Values[]);
        return;
      }
      const shape = (results[failed] as FlowmeshError).toShape();
      const { index } = scopes[failed]!;
      const error = index === undefined ? shape : { ...shape, details: { ...shape.details, index } };
      this.#hooks.apply(later, live, { type: 'step_failed', step_id: stepId, error });
    });
  }

  #isReady(live: LiveRun, stepId: string): boolean {
    return this.#hooks.isOpen(live) && live.run.step(stepId).status === 'ready';
  }

  #startStep(turn: Turn, live: LiveRun, stepId: string, items: JsonValue[] | null, left_out: readonly number[]): void {
    live.started_at.set(stepId, this.#now());
    this.#hooks.apply(turn, live, { type: 'step_started', step_id: stepId, items, left_out });
    if (isRunning(live.run.step(stepId).status)) {
      turn.put(stepRecord(live, stepId, this.#now()));
      this.issue(turn, live, stepId);
    }
  }

  /** Creates the tasks of a running step whose turn has come. */
  issue(turn: Turn, live: LiveRun, stepId: string): void {
    const indexes = live.run.nextIndexes(stepId);
    if (indexes.length === 0) return;
    const step = live.steps.get(stepId)!;
    const items = live.run.step(stepId).items;
    const { inputs } = templatesOf(step);
    const scopes = indexes.map((index): JsonObject => (items === null ? {} : { item: items[index] ?? null, index }));
    this.#expressions.evaluate(turn, live, inputs.expressions, scopes, (later, results) => {
      let ended = 0;
      for (const [position, index] of indexes.entries()) {
        if (!this.#hooks.isOpen(live)) return;
        const values = results[position]!;
        const item = items === null ? null : index;
        const made = this.#makeTask(later, live, step, item, values, (filled) => fillTemplate(inputs, filled));
        if (!made) ended++;
      }
      // Items that ended without a task: no end of a task will call this again for the next items.
      if (ended > 0) this.#issueLater(live, stepId);
    });
  }

  #issueLater(live: LiveRun, stepId: string): void {
    this.#clock.defer(() =>
      this.#writer.turn((turn) => {
        if (this.#hooks.isOpen(live)) this.issue(turn, live, stepId);
      }),
    );
  }

  /** @returns false when the item has ended without a task */
  #makeTask(
    turn: Turn,
    live: LiveRun,
    step: Step,
    item: number | null,
    values: Values | FlowmeshError,
    fill: (values: Values) => JsonValue,
  ): boolean {
    const index = item ?? 0;
    const { step_id } = step;
    const fail = (error: ErrorShape) =>
      this.#hooks.apply(turn, live, { type: 'task_ended', step_id, index, status: 'failed', output: null, error });
    // The run stopped while the inputs were evaluated.
    if (!mayBegin(live, step_id)) {
      this.#hooks.apply(turn, live, { type: 'task_withdrawn', step_id, index });
      return false;
    }
    if (values instanceof FlowmeshError) {
      fail(values.toShape());
      return false;
    }
    const payload = fill(values) as JsonObject;
    const what = `inputs of step "${step_id}"${item === null ? '' : `, item ${item}`}`;
    const { error, bytes } = checkInputs(payload, what);
    if (error !== null) {
      fail(error);
      return false;
    }
    if (this.#tasks.live.size >= ACTIVE_TASKS_MAX) {
      const message = `this peer holds ACTIVE_TASKS_MAX (${ACTIVE_TASKS_MAX}) tasks; run the workflow again later`;
      fail({ code: 'QUEUE_FULL', message, retryable: true });
      return false;
    }
    const record = this.#taskRecord(live, step, item, payload);
    if (record.cache_key === null) {
      live.tasks.add(record.uid);
      this.#tasks.create(turn, record, bytes);
      return true;
    }
    this.#reader.get('cache', cacheUid(this.#feedId, record.cache_key)).then(
      (hit) => this.#writer.turn((later) => this.#createCached(later, live, record, bytes, hit)),
      (error: unknown) => {
        this.#log.warn({ error }, 'the cache could not be read; the task runs');
        this.#writer.turn((later) => this.#createCached(later, live, record, bytes, undefined));
      },
    );
    return true;
  }

  #createCached(turn: Turn, live: LiveRun, record: TaskRecord, bytes: number, hit: CacheRecord | undefined): void {
    if (!this.#hooks.isOpen(live)) return;
    const step_id = record.step_id!;
    const index = record.index ?? 0;
    if (!mayBegin(live, step_id)) {
      this.#hooks.apply(turn, live, { type: 'task_withdrawn', step_id, index });
      return;
    }
    live.tasks.add(record.uid);
    const task = this.#tasks.create(turn, record, bytes);
    // `create` ends a task at once that may have run before and must not run twice (P4). That end stands (P5).
    if (hit === undefined || this.#tasks.live.get(record.uid) !== task) return;
    const placement = { considered: 0, chosen: null, reason: `cached: the output of ${hit.task_uid}`, found_by: null };
    live.from_cache.add(record.uid);
    this.#tasks.finish(turn, task, { status: 'completed', output: hit.output, placement });
  }

  #taskRecord(live: LiveRun, step: Step, item: number | null, payload: JsonObject): TaskRecord {
    const { record } = live;
    const now = this.#now();
    return {
      kind: 'task',
      uid: stepTaskUid(record.uid, step.step_id, item ?? 0),
      task_id: `${record.workflow_id}:${step.step_id}${item === null ? '' : `:${item}`}`,
      task_type: step.action,
      payload,
      workflow_uid: record.uid,
      workflow_id: record.workflow_id,
      step_id: step.step_id,
      index: item,
      priority: step.priority ?? record.priority,
      tags: record.tags,
      metadata: {},
      requires: step.requires,
      ...wishes(step),
      retry: step.retry,
      timeout_ms: step.timeout_ms ?? null,
      depends_on: [],
      ...(record.submitted_by !== undefined && { submitted_by: record.submitted_by }),
      at_most_once: step.at_most_once,
      cache_key: step.cache ? cacheKeyOf(step.action, payload, record.submitted_by) : null,
      content_hash: '',
      copies: record.copies,
      ...EMPTY_TASK_STATE,
      created_at: now,
      queued_at: now,
    };
  }

  #now(): string {
    return isoTime(this.#clock.wall());
  }
}

/** What one caller's step gave is not what another one's gives. */
function cacheKeyOf(action: string, payload: JsonObject, caller: string | undefined): string {
  return contentHash(caller === undefined ? [action, payload] : [action, payload, caller]);
}

/**
 * Checks the inputs as a whole: each value may be small enough while all together are not.
 * @returns the size that they count for in a message, in bytes; 0 with an error
 */
function checkInputs(payload: JsonObject, what: string): { error: ErrorShape | null; bytes: number } {
  const { fault, elements } = walkJson(payload, { chars: { limit: 'INPUT_BYTES_MAX', maximum: INPUT_BYTES_MAX } });
  if (fault?.kind === 'limit') return { error: limitErrorOf(fault, what).toShape(), bytes: 0 };
  if (fault !== undefined) {
    return { error: new FlowmeshError('INVALID_INPUT', `${what}: ${faultText(fault)}`).toShape(), bytes: 0 };
  }
  const bytes = jsonBytes(payload);
  if (bytes <= INPUT_BYTES_MAX) return { error: null, bytes: Math.max(bytes, JSON_ELEMENT_BYTES * elements) };
  const advice = 'Pass a reference to the data instead.';
  const error = new LimitError('INPUT_BYTES_MAX', bytes, INPUT_BYTES_MAX, `${what} are too large, in bytes`, advice);
  return { error: error.toShape(), bytes: 0 };
}

/** Why the items of a step are too many or too large; null when they are not. */
function itemsError(live: LiveRun, stepId: string, items: JsonValue[] | null): ErrorShape | null {
  if (bytesWithin(items, ITEMS_BYTES_MAX) === null) {
    const message = `the items of step "${stepId}" are larger as JSON than ITEMS_BYTES_MAX (${ITEMS_BYTES_MAX} bytes), or nest too deep; make a list of references to the data`;
    const details = { limit: 'ITEMS_BYTES_MAX', maximum: ITEMS_BYTES_MAX };
    return new FlowmeshError('LIMIT_EXCEEDED', message, { details }).toShape();
  }
  try {
    live.run.checkItems(stepId, items?.length ?? 1);
    return null;
  } catch (error) {
    return errorShape(error);
  }
}

function mayBegin({ run }: LiveRun, stepId: string): boolean {
  return !run.stopped && isRunning(run.step(stepId).status);
}
