/** One step of a run: its status and the tally of its tasks. `Run` changes it; a step knows nothing of the others. */
import { type ErrorShape, FlowmeshError, type JsonValue } from './errors.ts';
import { EXPAND_CHUNK_ITEMS } from './limits.ts';
import type { Step } from './schema.ts';

export type StepStatus =
  | 'pending'
  | 'ready'
  | 'running'
  | 'input_required'
  | 'completed'
  | 'failed'
  | 'skipped'
  | 'cancelled';

export type StepEnd = Extract<StepStatus, 'completed' | 'failed' | 'skipped' | 'cancelled'>;

/** A step as it stands. */
export interface StepView {
  status: StepStatus;
  /** The items of a started `foreach` step; null for a step that is one task or has not started. */
  items: JsonValue[] | null;
  /** Indexes of items that `when` left out. */
  left_out: readonly number[];
  /** How many tasks were made, ended (with the items left out), and ended without completing. */
  issued: number;
  ended: number;
  failed: number;
  /** Null unless completed; an array by index for a `foreach` step. */
  output: JsonValue;
  error: ErrorShape | null;
  /** Why the step was skipped or cancelled without running to its end. */
  reason: string | null;
}

const NOT_ISSUED = 0;
const ISSUED = 1;
const WAITING = 2;
const ENDED = 3;

const NO_RANK = Number.POSITIVE_INFINITY;

const CANCELLED: ErrorShape = { code: 'CANCELLED', message: 'the task was cancelled', retryable: false };
const FAILED: ErrorShape = { code: 'TASK_FAILED', message: 'the task failed', retryable: false };

export class StepRun {
  readonly definition: Step;
  /** Place in the graph's order: it decides which error counts, in whatever order they come. */
  readonly position: number;
  status: StepStatus = 'pending';
  /** Tasks of this step: 1, or the number of items; 0 before it started. */
  size = 0;
  started = false;
  /** Indexes of the items for which `when` did not hold: they count as ended and have no task. */
  leftOut: readonly number[] = [];
  /** True once the step itself has ended; false for a step that was cancelled only because the run stopped. */
  decided = false;
  outstanding = 0;
  ended = 0;
  failed = 0;
  output: JsonValue = null;
  error: ErrorShape | null = null;
  #openDependencies: number;
  #satisfied = false;
  #items: JsonValue[] | null = null;
  #tasks: Uint8Array = new Uint8Array(0);
  #outputs: JsonValue[] = [];
  #nextIndex = 0;
  #waiting = 0;
  #issued = 0;
  #errorRank = NO_RANK;
  #reason: string | null = null;

  constructor(definition: Step, position: number, dependencies: number) {
    this.definition = definition;
    this.position = position;
    this.#openDependencies = dependencies;
  }

  get terminal(): boolean {
    return !(this.status === 'pending' || this.status === 'ready' || this.running);
  }

  get running(): boolean {
    return this.status === 'running' || this.status === 'input_required';
  }

  /** True while an event can still decide how the step ends, even after the stop of the run has cancelled it. */
  get open(): boolean {
    return !this.decided;
  }

  /** True when a dependency was not skipped, or when the step has a `when` to decide. */
  get wanted(): boolean {
    return this.#satisfied || this.definition.when !== undefined;
  }

  /** The share of its tasks that have ended, 0 to 1. */
  get share(): number {
    return this.size === 0 ? 0 : this.ended / this.size;
  }

  /** Returns true when that was the last dependency. */
  resolveDependency(satisfies: boolean): boolean {
    this.#openDependencies -= 1;
    this.#satisfied ||= satisfies;
    return this.#openDependencies === 0;
  }

  start(items: JsonValue[] | null, leftOut: readonly number[]): void {
    this.started = true;
    this.#items = items;
    this.size = items === null ? 1 : items.length;
    this.#tasks = new Uint8Array(this.size);
    this.#outputs = new Array<JsonValue>(this.size).fill(null);
    this.leftOut = leftOut;
    for (const index of leftOut) this.#tasks[index] = ENDED;
    this.ended = leftOut.length;
  }

  /** For a step whose tasks have all ended: one completed, or none failed. */
  get succeeded(): boolean {
    return this.failed === 0 || this.ended > this.failed + this.leftOut.length;
  }

  /** The step's error, with the index of the item that it comes from. */
  get explainedError(): ErrorShape | null {
    if (this.error === null || this.#items === null || this.#errorRank === NO_RANK) return this.error;
    const index = this.#errorRank % this.size;
    return { ...this.error, details: { ...this.error.details, index } };
  }

  run(): void {
    this.#reason = null;
    this.status = this.#waiting > 0 ? 'input_required' : 'running';
  }

  close(status: StepEnd, output: JsonValue, reason: string | null, decided: boolean): void {
    this.status = status;
    this.decided = decided;
    this.output = output;
    this.#reason = reason;
    // A completed step has the outputs in `output`; of any other, nothing reads them again.
    if (decided) this.#outputs = [];
  }

  /** True when no task failed by itself: those that did not complete were cancelled. */
  get onlyCancelled(): boolean {
    return this.#errorRank !== NO_RANK && this.#errorRank >= this.size;
  }

  /** The output of a completed step. */
  collect(): JsonValue {
    return this.#items === null ? (this.#outputs[0] ?? null) : this.#outputs;
  }

  nextIndexes(): number[] {
    const atOnce = Math.min(this.definition.max_parallel ?? EXPAND_CHUNK_ITEMS, EXPAND_CHUNK_ITEMS);
    const indexes: number[] = [];
    while (this.outstanding < atOnce && this.#nextIndex < this.size) {
      if (this.markIssued(this.#nextIndex)) indexes.push(this.#nextIndex);
      this.#nextIndex += 1;
    }
    return indexes;
  }

  /** Returns false when it was issued already. */
  markIssued(index: number): boolean {
    if (this.#task(index) !== NOT_ISSUED) return false;
    this.#tasks[index] = ISSUED;
    this.#issued += 1;
    this.outstanding += 1;
    return true;
  }

  /** Takes back that a task exists. Returns false when it was not issued, waits for a person or has ended. */
  withdraw(index: number): boolean {
    if (this.#task(index) !== ISSUED) return false;
    this.#tasks[index] = NOT_ISSUED;
    this.#issued -= 1;
    this.outstanding -= 1;
    return true;
  }

  /** Returns by how much the number of waiting tasks grew: 1, 0 or -1. */
  setWaiting(index: number, waiting: boolean): number {
    const task = this.#task(index);
    if (waiting ? task !== ISSUED : task !== WAITING) return 0;
    this.#tasks[index] = waiting ? WAITING : ISSUED;
    return this.#countWaiting(waiting ? 1 : -1);
  }

  /** Returns null when the task had ended before; else whether it waited for a person until now. */
  endTask(
    index: number,
    status: 'completed' | 'failed' | 'cancelled',
    output: JsonValue,
    error: ErrorShape | null,
  ): { waited: boolean } | null {
    const task = this.#task(index);
    if (task === ENDED) return null;
    this.#tasks[index] = ENDED;
    this.outstanding -= 1;
    if (task === WAITING) this.#countWaiting(-1);
    this.ended += 1;
    if (status !== 'completed') this.#recordFailure(index, status, error);
    else if (this.running) this.#outputs[index] = output;
    return { waited: task === WAITING };
  }

  view(): StepView {
    return {
      status: this.status,
      items: this.#items,
      left_out: this.leftOut,
      issued: this.#issued,
      ended: this.ended,
      failed: this.failed,
      output: this.output,
      error: this.error,
      reason: this.#reason,
    };
  }

  /**
   * The error of a failed task counts before that of a cancelled one, then the error of the lowest index: the order of
   * events must not matter. So a step that has failed because of its tasks still listens to the remaining ones.
   */
  #recordFailure(index: number, status: 'failed' | 'cancelled', error: ErrorShape | null): void {
    this.failed += 1;
    const rank = index + (status === 'cancelled' ? this.size : 0);
    const listens = this.running || (this.definition.on_failure === 'fail' && this.#errorRank !== NO_RANK);
    if (!listens || rank >= this.#errorRank) return;
    this.#errorRank = rank;
    this.error = error ?? (status === 'cancelled' ? CANCELLED : FAILED);
  }

  #countWaiting(change: 1 | -1): 1 | -1 {
    this.#waiting += change;
    if (this.running) this.status = this.#waiting > 0 ? 'input_required' : 'running';
    return change;
  }

  #task(index: number): number {
    const task = this.#tasks[index];
    if (task !== undefined) return task;
    const message = `Step "${this.definition.step_id}" has ${this.size} tasks, none with index ${index}.`;
    throw new FlowmeshError('UNKNOWN_TASK', message);
  }
}
