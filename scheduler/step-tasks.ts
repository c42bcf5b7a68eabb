/**
 * From a ready step to its tasks: `when` and `foreach` are evaluated, the inputs of each item are made, and the tasks
 * are created, in bounded chunks (EXPAND_CHUNK_ITEMS), the rest as the first ones end (P7).
 */
import { type ErrorShape, errorShape, FlowmeshError, type JsonObject, type JsonValue } from '../dag/errors.ts';
import { fillTemplate, holds, templatesOf } from '../dag/expression.ts';
import { faultText, limitErrorOf, walkJson } from '../dag/json.ts';
import { INPUT_BYTES_MAX, JSON_ELEMENT_BYTES, jsonBytes, LimitError } from '../dag/limits.ts';
import type { RunEvent } from '../dag/run.ts';
import type { Step } from '../dag/schema.ts';
import type { Expressions, Values } from './expressions.ts';
import { contentHash, isoTime } from './ids.ts';
import type { Turn } from './journal.ts';
import { ACTIVE_TASKS_MAX, ITEMS_BYTES_MAX } from './limits.ts';
import type { LiveRun } from './live-run.ts';
import { isRunning, stepRecord } from './live-run.ts';
import { wishes } from './new-task.ts';
import type { Clock, Log, Reader } from './ports.ts';
import { type CacheRecord, EMPTY_TASK_STATE, type TaskRecord } from './records.ts';
import { bytesWithin } from './sizes.ts';
import type { Tasks } from './tasks.ts';

export interface StepTaskHooks {
  turn(work: (turn: Turn) => void): void;
  /** Something happened to a step. */
  apply(turn: Turn, live: LiveRun, event: RunEvent): void;
  /** False once the run has ended, or was dropped from memory. */
  isOpen(live: LiveRun): boolean;
}

export class StepTasks {
  private readonly clock: Clock;
  private readonly tasks: Tasks;
  private readonly reader: Reader;
  private readonly expressions: Expressions;
  private readonly log: Log;
  private readonly feedId: string;
  private readonly hooks: StepTaskHooks;

  constructor(
    components: {
      clock: Clock;
      tasks: Tasks;
      reader: Reader;
      expressions: Expressions;
      log: Log;
      feedId: string;
    },
    hooks: StepTaskHooks,
  ) {
    this.clock = components.clock;
    this.tasks = components.tasks;
    this.reader = components.reader;
    this.expressions = components.expressions;
    this.log = components.log;
    this.feedId = components.feedId;
    this.hooks = hooks;
  }

  /** Evaluates `when` and `foreach` of a ready step, and starts or skips it. */
  prepare(turn: Turn, live: LiveRun, stepId: string): void {
    const step = live.steps.get(stepId)!;
    const { when, foreach } = templatesOf(step);
    const expressions = [...(when?.expressions ?? []), ...(foreach?.expressions ?? [])];
    this.expressions.evaluate(turn, live, expressions, [{}], (later, results) => {
      if (!this.hooks.isOpen(live) || live.run.step(stepId).status !== 'ready') return;
      const [result] = results;
      if (result instanceof FlowmeshError) {
        this.hooks.apply(later, live, { type: 'step_failed', step_id: stepId, error: result.toShape() });
        return;
      }
      if (when !== undefined && !holds(fillTemplate(when, result!))) {
        this.hooks.apply(later, live, {
          type: 'step_skipped',
          step_id: stepId,
          reason: 'its condition `when` did not hold',
        });
        return;
      }
      const items = foreach === undefined ? null : fillTemplate(foreach, result!);
      this.startStep(later, live, stepId, items);
    });
  }

  private startStep(turn: Turn, live: LiveRun, stepId: string, items: JsonValue): void {
    if (bytesWithin(items, ITEMS_BYTES_MAX) === null) {
      const message = `the items of step "${stepId}" are larger as JSON than ITEMS_BYTES_MAX (${ITEMS_BYTES_MAX} bytes), or nest too deep; make a list of references to the data`;
      const details = { limit: 'ITEMS_BYTES_MAX', maximum: ITEMS_BYTES_MAX };
      const error = new FlowmeshError('LIMIT_EXCEEDED', message, { details }).toShape();
      this.hooks.apply(turn, live, { type: 'step_failed', step_id: stepId, error });
      return;
    }
    if (items !== null && !Array.isArray(items)) {
      const error = new FlowmeshError(
        'FOREACH_NOT_A_LIST',
        `foreach of step "${stepId}" gave ${describe(items)}, not a list`,
      );
      this.hooks.apply(turn, live, { type: 'step_failed', step_id: stepId, error: error.toShape() });
      return;
    }
    const step = live.steps.get(stepId)!;
    const list = step.foreach === undefined ? null : ((items ?? []) as JsonValue[]);
    try {
      live.run.checkItems(stepId, list?.length ?? 1);
    } catch (error) {
      this.hooks.apply(turn, live, { type: 'step_failed', step_id: stepId, error: errorShape(error) });
      return;
    }
    live.started_at.set(stepId, this.now());
    this.hooks.apply(turn, live, { type: 'step_started', step_id: stepId, items: list });
    if (isRunning(live.run.step(stepId).status)) {
      turn.put(stepRecord(live, stepId, this.now()));
      this.issue(turn, live, stepId);
    }
  }

  /** Makes the tasks of a running step that may exist now. */
  issue(turn: Turn, live: LiveRun, stepId: string): void {
    const indexes = live.run.nextIndexes(stepId);
    if (indexes.length === 0) return;
    const step = live.steps.get(stepId)!;
    const items = live.run.step(stepId).items;
    const { inputs } = templatesOf(step);
    const scopes = indexes.map((index): JsonObject => (items === null ? {} : { item: items[index] ?? null, index }));
    this.expressions.evaluate(turn, live, inputs.expressions, scopes, (later, results) => {
      let ended = 0;
      for (const [position, index] of indexes.entries()) {
        if (!this.hooks.isOpen(live)) return;
        const values = results[position]!;
        const item = items === null ? null : index;
        const made = this.makeTask(later, live, step, item, values, (filled) => fillTemplate(inputs, filled));
        if (!made) ended++;
      }
      // No task will end in their place and make room for the next items.
      if (ended > 0) this.issueLater(live, stepId);
    });
  }

  private issueLater(live: LiveRun, stepId: string): void {
    this.clock.defer(() =>
      this.hooks.turn((turn) => {
        if (this.hooks.isOpen(live)) this.issue(turn, live, stepId);
      }),
    );
  }

  /** @returns false when the item has ended without one */
  private makeTask(
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
      this.hooks.apply(turn, live, { type: 'task_ended', step_id, index, status: 'failed', output: null, error });
    // The run stopped while the inputs were evaluated.
    if (!mayBegin(live, step_id)) {
      this.hooks.apply(turn, live, { type: 'task_withdrawn', step_id, index });
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
    if (this.tasks.live.size >= ACTIVE_TASKS_MAX) {
      const message = `this peer holds ACTIVE_TASKS_MAX (${ACTIVE_TASKS_MAX}) tasks; run the workflow again later`;
      fail({ code: 'QUEUE_FULL', message, retryable: true });
      return false;
    }
    const record = this.taskRecord(live, step, item, payload);
    if (record.cache_key === null) {
      live.tasks.add(record.uid);
      this.tasks.create(turn, record, bytes);
      return true;
    }
    this.reader.get('cache', `cache/${this.feedId}/${record.cache_key}`).then(
      (hit) => this.hooks.turn((later) => this.createCached(later, live, record, bytes, hit)),
      (error: unknown) => {
        this.log.warn({ error }, 'the cache could not be read; the task runs');
        this.hooks.turn((later) => this.createCached(later, live, record, bytes, undefined));
      },
    );
    return true;
  }

  private createCached(
    turn: Turn,
    live: LiveRun,
    record: TaskRecord,
    bytes: number,
    hit: CacheRecord | undefined,
  ): void {
    if (!this.hooks.isOpen(live)) return;
    const step_id = record.step_id!;
    const index = record.index ?? 0;
    if (!mayBegin(live, step_id)) {
      this.hooks.apply(turn, live, { type: 'task_withdrawn', step_id, index });
      return;
    }
    live.tasks.add(record.uid);
    const task = this.tasks.create(turn, record, bytes);
    if (hit === undefined) return;
    const placement = { considered: 0, chosen: null, reason: `cached: the output of ${hit.task_uid}`, found_by: null };
    this.tasks.finish(turn, task, { status: 'completed', output: hit.output, placement });
  }

  private taskRecord(live: LiveRun, step: Step, item: number | null, payload: JsonObject): TaskRecord {
    const { record } = live;
    const now = this.now();
    return {
      kind: 'task',
      uid: `${record.uid}/${step.step_id}/${item ?? 0}`,
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
      at_most_once: step.at_most_once,
      cache_key: step.cache ? contentHash([step.action, payload]) : null,
      content_hash: '',
      copies: record.copies,
      ...EMPTY_TASK_STATE,
      created_at: now,
      queued_at: now,
    };
  }

  private now(): string {
    return isoTime(this.clock.wall());
  }
}

/** Values that were fine by themselves may be too much together. @returns also what they count in a message */
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

function mayBegin({ run }: LiveRun, stepId: string): boolean {
  return !run.stopped && isRunning(run.step(stepId).status);
}

function describe(value: JsonValue): string {
  const text = JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}
