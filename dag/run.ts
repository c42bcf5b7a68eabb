/**
 * A run of a workflow as a fold of events: what happened goes in, what may happen next comes out. There is no I/O,
 * no clock and no randomness here; applying the same events to a new `Run` restores it.
 *
 *   const run = new Run(workflow, new WorkflowGraph(workflow.steps));
 *   run.start().ready;                                                  // ['a']
 *   run.apply({ type: 'step_started', step_id: 'a', items: null });
 *   run.nextIndexes('a');                                               // [0]: make this task
 *   run.apply({ type: 'task_ended', step_id: 'a', index: 0, status: 'completed', output: 1, error: null }).ready;
 *
 * 1. A step whose dependencies have all ended is ready when one of them completed (or failed with
 *    `on_failure: continue`), or when it has a `when` of its own to decide; otherwise, all of them having been
 *    skipped, it is skipped too.
 * 2. A failed task fails its step: `fail` stops the run, `skip` ends the step as skipped with its error kept,
 *    `continue` ends it as failed with output null while its dependents run. Items of `foreach` that fail under
 *    `skip` or `continue` leave null in the output; the step completes when at least one item did. Items that `when`
 *    left out leave null, too, and are no failure: a step with nothing but those completes.
 * 3. A stopped run makes nothing new. It settles when every issued task has ended: each needs its `task_ended`, or
 *    `task_withdrawn` if it was announced and never made.
 * 4. Independent events may come in any order. Repeated events, and events for a step that has ended, change nothing.
 * 5. `apply` costs O(dependents of the steps it ends), except once for the event that stops the run.
 */
import { type ErrorShape, FlowmeshError, type JsonObject, type JsonValue } from './errors.ts';
import type { WorkflowGraph } from './graph.ts';
import { LimitError, STEPS_MAX, TASK_INSTANCES_MAX } from './limits.ts';
import type { Workflow } from './schema.ts';
import { type StepEnd, StepRun, type StepStatus, type StepView } from './step-run.ts';

export type { StepStatus, StepView };

export type RunEvent =
  /**
   * `when` held and `foreach` was evaluated; `items` is null for a step that is one task. `left_out`: indexes of the
   * items for which `when` did not hold.
   */
  | { type: 'step_started'; step_id: string; items: JsonValue[] | null; left_out?: readonly number[] }
  /** `when` did not hold, for the whole step. */
  | { type: 'step_skipped'; step_id: string; reason: string }
  /** The step's own expressions failed. */
  | { type: 'step_failed'; step_id: string; error: ErrorShape }
  /** An `approve` task began or ceased to wait for a person. */
  | { type: 'task_waiting'; step_id: string; index: number; waiting: boolean }
  | {
      type: 'task_ended';
      step_id: string;
      index: number;
      status: 'completed' | 'failed' | 'cancelled';
      output: JsonValue;
      error: ErrorShape | null;
    }
  /** An announced task (`nextIndexes`) of a run that has stopped since: it was never made. */
  | { type: 'task_withdrawn'; step_id: string; index: number }
  /** From outside: cancelled by a client, or the output expression failed. When restoring, this comes first. */
  | { type: 'stop'; status: 'failed' | 'cancelled'; error: ErrorShape | null };

export type Settled = 'completed' | 'failed' | 'cancelled';

/** What one event changed. */
export interface RunChange {
  /** Steps whose `when`, `foreach` and inputs are to be evaluated now. */
  ready: string[];
  /**
   * Steps that this event made terminal, directly or through other steps. A step is named again when a task that ends
   * late in a stopping run changes how the step ended.
   */
  ended: string[];
  /** Running tasks are to be cancelled now; true once. */
  stopping: boolean;
  /** The run's final status, in the change that settled it. */
  settled: Settled | null;
}

export class Run {
  readonly #workflow: Workflow;
  readonly #graph: WorkflowGraph;
  readonly #steps = new Map<string, StepRun>();
  readonly #running = new Set<string>();
  #startedRun = false;
  #endedSteps = 0;
  #cancelledSteps = 0;
  /** The sum of the ended shares (0 to 1) of running `foreach` steps. */
  #partial = 0;
  #outstanding = 0;
  #waiting = 0;
  #instances = 0;
  #stopRequest: { status: 'failed' | 'cancelled'; error: ErrorShape | null } | null = null;
  #stopped = false;
  /** The step first in graph order that failed (or was cancelled) under `on_failure: fail`. */
  #fatal: StepRun | null = null;
  #settled: Settled | null = null;

  constructor(workflow: Workflow, graph: WorkflowGraph) {
    this.#workflow = workflow;
    this.#graph = graph;
    const definitions = new Map(workflow.steps.map((step) => [step.step_id, step]));
    for (const [position, id] of graph.order.entries()) {
      this.#steps.set(id, new StepRun(definitions.get(id)!, position, graph.dependencies(id).length));
    }
  }

  /** Makes the roots ready. Called again it changes nothing. */
  start(): RunChange {
    const change = emptyChange();
    if (this.#startedRun) return change;
    this.#startedRun = true;
    for (const id of this.#graph.roots()) this.#makeReady(this.#steps.get(id)!, change);
    return change;
  }

  /**
   * @throws FlowmeshError UNKNOWN_STEP for a step that is not in the workflow, EVENT_OUT_OF_ORDER for an event of a
   *   step whose dependencies have not ended
   */
  apply(event: RunEvent): RunChange {
    const change = emptyChange();
    if (event.type === 'stop') this.#requestStop(event, change);
    else this.#applyToStep(event, change);
    this.#settle(change);
    return change;
  }

  /**
   * The indexes of a started step that may become tasks now, within `max_parallel` and EXPAND_CHUNK_ITEMS, and marks
   * them as issued. Empty for a step that does not run and in a run that stops.
   */
  nextIndexes(step_id: string): number[] {
    const step = this.#step(step_id);
    if (this.#stopped || !step.running) return [];
    const indexes = step.nextIndexes();
    this.#outstanding += indexes.length;
    return indexes;
  }

  /** Records that a task exists already: for restoring, before or after the task's other events. */
  markIssued(step_id: string, index: number): void {
    const step = this.#step(step_id);
    if (!this.#hasTasks(step, 'a task') || !step.markIssued(index)) return;
    this.#outstanding += 1;
    // A step that was cancelled because the run stopped turns out to be running still.
    if (step.status === 'cancelled' && !step.decided) this.#reopen(step);
  }

  step(step_id: string): StepView {
    return this.#step(step_id).view();
  }

  /** All steps in topological order. */
  *steps(): Iterable<[string, StepView]> {
    for (const [id, step] of this.#steps) yield [id, step.view()];
  }

  /** True once nothing new may begin: announced tasks that were not made yet are to be withdrawn. */
  get stopped(): boolean {
    return this.#stopped;
  }

  /** Steps that run now, oldest first. */
  started(): string[] {
    return [...this.#running];
  }

  /**
   * What expressions see: the input, and output, status and error of the named steps (for `all`: of every ended step).
   * The caller adds `item` and `index`.
   */
  scope(step_ids: readonly string[] | 'all'): JsonObject {
    const steps: JsonObject = {};
    const chosen = step_ids === 'all' ? this.#steps.keys() : step_ids;
    for (const id of chosen) {
      const step = this.#steps.get(id);
      if (step === undefined || (step_ids === 'all' && !step.terminal)) continue;
      steps[id] = { output: step.output, status: step.status, error: step.explainedError as JsonObject | null };
    }
    const { workflow_id, name } = this.#workflow;
    return { input: this.#workflow.input, steps, workflow: { workflow_id: workflow_id ?? null, name } };
  }

  /** The outputs of the steps that nothing depends on, by step id. */
  result(): JsonObject {
    return Object.fromEntries(this.#graph.sinks().map((id) => [id, this.#step(id).output]));
  }

  /** 0 to 100: the share of steps that ended, `foreach` steps by their items. Cancelled steps do not count as done. */
  get progress(): number {
    const done = this.#endedSteps - this.#cancelledSteps;
    if (done === this.#steps.size) return 100;
    const share = ((done + this.#partial) / this.#steps.size) * 100;
    return Math.min(100, Math.max(0, Math.round(share * 10) / 10));
  }

  get counts(): { total: number; ended: number } {
    return { total: this.#steps.size, ended: this.#endedSteps };
  }

  /** Task instances of all started steps. */
  get instances(): number {
    return this.#instances;
  }

  /** @throws LimitError when that many items would take the run over TASK_INSTANCES_MAX. */
  checkItems(step_id: string, items: number): void {
    const total = this.#instances + items;
    if (total <= TASK_INSTANCES_MAX) return;
    throw new LimitError(
      'TASK_INSTANCES_MAX',
      total,
      TASK_INSTANCES_MAX,
      `foreach of step "${step_id}" has ${items} items, which makes too many tasks in this run`,
      'Put several items into one task, or split the workflow.',
    );
  }

  get status(): 'running' | 'input_required' | Settled {
    return this.#settled ?? (this.#waiting > 0 && !this.#stopped ? 'input_required' : 'running');
  }

  /** Why the run failed or was cancelled: what `stop` said, or the failed step's error with its `step_id`. */
  get error(): ErrorShape | null {
    if (this.#stopRequest !== null) return this.#stopRequest.error;
    const error = this.#fatal?.error;
    if (this.#fatal === null || !error) return null;
    const { step_id } = this.#fatal.definition;
    return { ...error, message: `Step "${step_id}": ${error.message}`, details: { ...error.details, step_id } };
  }

  /** A running step, preferably one that waits for a person; null when none runs. */
  get current_step(): string | null {
    let first: string | null = null;
    for (const id of this.#running) {
      first ??= id;
      if (this.#waiting === 0 || this.#steps.get(id)!.status === 'input_required') return id;
    }
    return first;
  }

  #step(step_id: string): StepRun {
    const step = this.#steps.get(step_id);
    if (step !== undefined) return step;
    throw new FlowmeshError('UNKNOWN_STEP', `The workflow "${this.#workflow.name}" has no step "${step_id}".`);
  }

  #applyToStep(event: Exclude<RunEvent, { type: 'stop' }>, change: RunChange): void {
    const step = this.#step(event.step_id);
    if (step.status === 'pending') throw outOfOrder(event.type, step, 'its dependencies have not ended');
    switch (event.type) {
      case 'step_started':
        this.#startStep(step, event, change);
        break;
      case 'step_skipped':
        if (step.open && !step.started) this.#end(step, 'skipped', change, { reason: event.reason });
        break;
      case 'step_failed':
        if (step.open) this.#fail(step, event.error, change);
        break;
      case 'task_waiting':
        if (this.#hasTasks(step, event.type)) this.#waiting += step.setWaiting(event.index, event.waiting);
        break;
      case 'task_ended':
        this.#endTask(step, event, change);
        break;
      case 'task_withdrawn':
        if (this.#hasTasks(step, event.type)) this.#withdrawTask(step, event.index, change);
        break;
    }
  }

  #startStep(step: StepRun, event: Extract<RunEvent, { type: 'step_started' }>, change: RunChange): void {
    if (!step.open || step.started) return;
    step.start(event.items, event.left_out ?? []);
    this.#instances += step.size;
    const isOver = step.ended === step.size;
    // In a run that stops, the step stays cancelled unless it turns out that tasks of it exist (`markIssued`).
    if (step.status === 'cancelled' && !isOver) return;
    this.#reopen(step);
    if (isOver) this.#end(step, 'completed', change, { output: step.collect() });
  }

  /** Counts a step as running that was ready, or that the stop of the run had cancelled. */
  #reopen(step: StepRun): void {
    if (step.status === 'cancelled') {
      this.#endedSteps -= 1;
      this.#cancelledSteps -= 1;
      this.#settled = null;
    }
    step.run();
    this.#running.add(step.definition.step_id);
    this.#partial += step.share;
  }

  #endTask(step: StepRun, event: Extract<RunEvent, { type: 'task_ended' }>, change: RunChange): void {
    if (!this.#hasTasks(step, event.type)) return;
    this.markIssued(event.step_id, event.index);
    const shareBefore = step.share;
    const errorBefore = step.error;
    const ended = step.endTask(event.index, event.status, event.output, event.error);
    if (ended === null) return;
    this.#outstanding -= 1;
    if (ended.waited) this.#waiting -= 1;
    if (!step.running) {
      // The error of a task that ended later can take precedence over that of the task that ended the step.
      if (step.error !== errorBefore) this.#closeFatal(step, change);
      return;
    }
    this.#partial += step.share - shareBefore;
    const { on_failure } = step.definition;
    if (event.status !== 'completed' && on_failure === 'fail') {
      this.#fail(step, step.error!, change);
    } else if (step.ended === step.size) {
      if (step.succeeded) this.#end(step, 'completed', change, { output: step.collect() });
      else this.#fail(step, step.error!, change);
    } else if (this.#stopped && step.outstanding === 0) {
      this.#close(step, 'cancelled', change, STOPPED);
    }
  }

  #withdrawTask(step: StepRun, index: number, change: RunChange): void {
    if (!this.#stopped || !step.withdraw(index)) return;
    this.#outstanding -= 1;
    if (step.running && step.outstanding === 0) this.#close(step, 'cancelled', change, STOPPED);
  }

  /** False for a step that ended without having started. */
  #hasTasks(step: StepRun, what: string): boolean {
    if (!step.started && !step.terminal) throw outOfOrder(what, step, 'it has not started');
    return step.started;
  }

  /** Ends a step as its `on_failure` says. */
  #fail(step: StepRun, error: ErrorShape, change: RunChange): void {
    step.error = error;
    const { on_failure } = step.definition;
    if (on_failure === 'skip') {
      this.#end(step, 'skipped', change, { reason: error.message });
    } else if (on_failure === 'continue') {
      this.#end(step, 'failed', change, {});
    } else {
      // Nothing is carried to the dependents: stopping the run cancels them with the rest.
      this.#closeFatal(step, change);
      this.#stop(change);
    }
  }

  #closeFatal(step: StepRun, change: RunChange): void {
    this.#close(step, step.onlyCancelled ? 'cancelled' : 'failed', change, {});
    if (this.#fatal === null || fatalRank(step) < fatalRank(this.#fatal)) this.#fatal = step;
  }

  #requestStop(event: Extract<RunEvent, { type: 'stop' }>, change: RunChange): void {
    if (this.#stopRequest !== null) return;
    // The output expression may fail after the last step: that still changes how the run ended.
    if (this.#settled !== null && this.#settled !== 'completed') return;
    this.#stopRequest = { status: event.status, error: event.error };
    this.#stop(change);
  }

  #stop(change: RunChange): void {
    if (this.#stopped) return;
    this.#stopped = true;
    change.stopping = true;
    for (const step of this.#steps.values()) {
      if (step.terminal || step.outstanding > 0) continue;
      this.#close(step, 'cancelled', change, STOPPED);
    }
  }

  /** Makes a step terminal and carries the news to its dependents, as a loop: a chain may be 10,000 steps long. */
  #end(step: StepRun, status: StepEnd, change: RunChange, outcome: Outcome): void {
    this.#close(step, status, change, outcome);
    const queue = [step];
    for (let next = 0; next < queue.length; next += 1) {
      const from = queue[next]!;
      for (const id of this.#graph.dependents(from.definition.step_id)) {
        const dependent = this.#steps.get(id)!;
        const resolved = dependent.resolveDependency(from.status !== 'skipped');
        if (!resolved || dependent.status !== 'pending') continue;
        if (dependent.wanted) {
          this.#makeReady(dependent, change);
        } else {
          this.#close(dependent, 'skipped', change, { reason: 'every step it depends on was skipped' });
          queue.push(dependent);
        }
      }
    }
  }

  #close(step: StepRun, status: StepEnd, change: RunChange, outcome: Outcome): void {
    if (this.#running.delete(step.definition.step_id)) this.#partial -= step.share;
    if (step.status === 'cancelled') this.#cancelledSteps -= 1;
    if (!step.terminal) this.#endedSteps += 1;
    if (status === 'cancelled') this.#cancelledSteps += 1;
    step.close(status, outcome.output ?? null, outcome.reason ?? null, outcome !== STOPPED);
    change.ended.push(step.definition.step_id);
  }

  #makeReady(step: StepRun, change: RunChange): void {
    if (step.status !== 'pending') return;
    step.status = 'ready';
    change.ready.push(step.definition.step_id);
  }

  #settle(change: RunChange): void {
    if (this.#endedSteps < this.#steps.size || this.#outstanding > 0) return;
    const status = this.#outcome();
    if (status !== this.#settled) change.settled = status;
    this.#settled = status;
  }

  /** A stop from outside counts first, then a failure, then a task that somebody cancelled. */
  #outcome(): Settled {
    if (this.#stopRequest !== null) return this.#stopRequest.status;
    if (this.#fatal === null) return 'completed';
    return this.#fatal.status === 'cancelled' ? 'cancelled' : 'failed';
  }
}

interface Outcome {
  output?: JsonValue;
  reason?: string;
}

/** The outcome of a step that only the stop of the run ended: a late event may show that it ended otherwise. */
const STOPPED: Outcome = { reason: 'the run stopped' };

function emptyChange(): RunChange {
  return { ready: [], ended: [], stopping: false, settled: null };
}

/** Failures before cancellations, then the order of the graph. */
function fatalRank(step: StepRun): number {
  return step.position + (step.status === 'cancelled' ? STEPS_MAX : 0);
}

function outOfOrder(what: string, step: StepRun, why: string): FlowmeshError {
  return new FlowmeshError('EVENT_OUT_OF_ORDER', `${what} for step "${step.definition.step_id}": ${why}.`);
}
