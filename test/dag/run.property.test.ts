/** The run as a fold: whatever the order in which independent things happen, it comes to the same. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { ErrorShape } from '../../dag/errors.ts';
import { WorkflowGraph } from '../../dag/graph.ts';
import { EXPAND_CHUNK_ITEMS } from '../../dag/limits.ts';
import { Run, type RunChange, type RunEvent, type StepView } from '../../dag/run.ts';
import { parseWorkflow, type Step, type Workflow } from '../../dag/schema.ts';

type TaskStatus = 'completed' | 'failed' | 'cancelled';

/** What will happen to a step once it is ready. */
interface Plan {
  depends_on: number[];
  on_failure: Step['on_failure'];
  conditional: boolean;
  max_parallel: number | undefined;
  decision: 'start' | 'skip' | 'fail';
  /** Null: one task. */
  foreach: boolean;
  tasks: TaskStatus[];
  /** Indexes that `when` leaves out. */
  leaves: number[];
}

const taskStatus = fc.oneof(
  { weight: 6, arbitrary: fc.constant<TaskStatus>('completed') },
  { weight: 2, arbitrary: fc.constant<TaskStatus>('failed') },
  { weight: 1, arbitrary: fc.constant<TaskStatus>('cancelled') },
);

function plans(on_failure: fc.Arbitrary<Step['on_failure']>): fc.Arbitrary<Plan[]> {
  const plan = fc.record<Plan>({
    depends_on: fc.array(fc.nat(9), { maxLength: 3 }),
    on_failure,
    conditional: fc.boolean(),
    max_parallel: fc.option(fc.integer({ min: 1, max: 3 }), { nil: undefined }),
    decision: fc.oneof(
      { weight: 8, arbitrary: fc.constant('start' as const) },
      { weight: 1, arbitrary: fc.constant('skip' as const) },
      { weight: 1, arbitrary: fc.constant('fail' as const) },
    ),
    foreach: fc.boolean(),
    tasks: fc.array(taskStatus, { minLength: 0, maxLength: 4 }),
    leaves: fc.oneof(fc.constant<number[]>([]), fc.uniqueArray(fc.nat(3), { maxLength: 4 })),
  });
  return fc.array(plan, { minLength: 1, maxLength: 10 });
}

const survivable = plans(fc.constantFrom('skip', 'continue'));
const any = plans(fc.constantFrom('fail', 'skip', 'continue'));
/** Which of the possible things happens next, again and again. */
const schedule = fc.infiniteStream(fc.nat(1_000));

function workflowOf(list: Plan[]): { workflow: Workflow; graph: WorkflowGraph } {
  const steps = list.map((plan, index) => ({
    step_id: `s${index}`,
    action: 'echo',
    depends_on: plan.depends_on.filter((other) => other < index).map((other) => `s${other}`),
    on_failure: plan.on_failure,
    ...(plan.conditional && { when: '${ x }' }),
    ...(plan.foreach && { foreach: '${ x }' }),
    ...(plan.max_parallel !== undefined && { max_parallel: plan.max_parallel }),
  }));
  const workflow = parseWorkflow({ name: 'w', steps });
  return { workflow, graph: new WorkflowGraph(workflow.steps) };
}

function errorOf(step_id: string, index: number): ErrorShape {
  return { code: 'BROKEN', message: `${step_id} ${index}`, retryable: false };
}

interface Happened {
  run: Run;
  log: RunEvent[];
  changes: RunChange[];
}

/** Plays a run as a scheduler would, in the order that `picks` gives, and checks what must always hold. */
function play(list: Plan[], picks: Iterator<number>, stopAt = Number.POSITIVE_INFINITY): Happened {
  const { workflow, graph } = workflowOf(list);
  const run = new Run(workflow, graph);
  const log: RunEvent[] = [];
  const changes: RunChange[] = [];
  const ready: string[] = [];
  const tasks: { step_id: string; index: number }[] = [];
  const issued = new Set<string>();
  let stopped = false;

  const take = (change: RunChange): void => {
    changes.push(change);
    for (const id of change.ready) {
      const ended = graph.dependencies(id).map((other) => run.step(other).status);
      expect(ended.every((status) => ['completed', 'failed', 'skipped'].includes(status))).toBe(true);
    }
    ready.push(...change.ready);
    if (change.stopping) {
      expect(stopped).toBe(false);
      stopped = true;
      ready.length = 0;
    }
  };
  const apply = (event: RunEvent): void => {
    log.push(event);
    take(run.apply(event));
  };
  const issueAll = (step_id: string): void => {
    const plan = list[Number(step_id.slice(1))]!;
    for (const index of run.nextIndexes(step_id)) {
      expect(stopped).toBe(false);
      expect(issued.has(`${step_id}:${index}`)).toBe(false);
      issued.add(`${step_id}:${index}`);
      tasks.push({ step_id, index });
    }
    const open = tasks.filter((task) => task.step_id === step_id).length;
    expect(open).toBeLessThanOrEqual(plan.foreach ? (plan.max_parallel ?? EXPAND_CHUNK_ITEMS) : 1);
  };

  take(run.start());
  while (ready.length + tasks.length > 0) {
    expect(run.status).toBe('running');
    if (log.length >= stopAt && !stopped) {
      apply({ type: 'stop', status: 'cancelled', error: null });
      continue;
    }
    const pick = picks.next().value as number;
    const at = pick % (ready.length + tasks.length);
    if (at < ready.length) {
      const [step_id] = ready.splice(at, 1);
      decide(list, step_id!, apply);
      issueAll(step_id!);
    } else {
      const [task] = tasks.splice(at - ready.length, 1);
      const { step_id, index } = task!;
      const planned = statusOf(list, step_id, index);
      // What a stopping run cancels may complete all the same.
      const status = stopped && pick % 2 === 0 ? 'cancelled' : planned;
      const output = status === 'completed' ? `${step_id}:${index}` : null;
      apply({
        type: 'task_ended',
        step_id,
        index,
        status,
        output,
        error: status === 'failed' ? errorOf(step_id, index) : null,
      });
      issueAll(step_id);
    }
  }
  return { run, log, changes };
}

function decide(list: Plan[], step_id: string, apply: (event: RunEvent) => void): void {
  const plan = list[Number(step_id.slice(1))]!;
  if (plan.decision === 'skip') apply({ type: 'step_skipped', step_id, reason: 'no' });
  else if (plan.decision === 'fail') apply({ type: 'step_failed', step_id, error: errorOf(step_id, -1) });
  else if (!plan.foreach) apply({ type: 'step_started', step_id, items: null });
  else {
    const left_out = plan.leaves.filter((index) => index < plan.tasks.length).sort();
    apply({ type: 'step_started', step_id, items: plan.tasks.map((_, index) => index), left_out });
  }
}

function statusOf(list: Plan[], step_id: string, index: number): TaskStatus {
  return list[Number(step_id.slice(1))]!.tasks[index] ?? 'completed';
}

function views(run: Run): [string, StepView][] {
  return [...run.steps()];
}

function stateOf(run: Run): object {
  const { status, error, progress, counts, instances } = run;
  return { status, error, progress, counts, instances, steps: views(run), result: run.result() };
}

describe('a run', () => {
  it('comes to the same in any order when nothing stops it', () => {
    fc.assert(
      fc.property(survivable, schedule, schedule, (list, one, other) => {
        const first = play(list, one);
        expect(first.run.status).toBe('completed');
        expect(first.run.progress).toBe(100);
        expect(stateOf(play(list, other).run)).toEqual(stateOf(first.run));
      }),
      { numRuns: 300 },
    );
  });

  it('always settles, once, and names every step once as ended', () => {
    fc.assert(
      fc.property(any, schedule, fc.option(fc.nat(12), { nil: undefined }), (list, picks, stopAt) => {
        const { run, changes } = play(list, picks, stopAt);
        expect(changes.filter((change) => change.settled !== null)).toHaveLength(1);
        expect(changes.at(-1)!.settled).toBe(run.status);
        expect(run.counts).toEqual({ total: list.length, ended: list.length });
        expect(run.started()).toEqual([]);
        const ready = changes.flatMap((change) => change.ready);
        expect(new Set(ready).size).toBe(ready.length);
        const ended = new Set(changes.flatMap((change) => change.ended));
        expect(ended.size).toBe(list.length);
      }),
      { numRuns: 500 },
    );
  });

  it('fails or is cancelled in every order when a step can stop it', () => {
    fc.assert(
      fc.property(any, schedule, schedule, (list, one, other) => {
        const settled = [play(list, one).run.status, play(list, other).run.status];
        expect(settled.filter((status) => status === 'completed').length % 2).toBe(0);
      }),
      { numRuns: 300 },
    );
  });

  it('is restored by its events in topological order, each heard once or twice', () => {
    const repeats = fc.infiniteStream(fc.boolean());
    fc.assert(
      fc.property(any, schedule, fc.option(fc.nat(12), { nil: undefined }), repeats, (list, picks, stopAt, twice) => {
        const { run, log } = play(list, picks, stopAt);
        const { workflow, graph } = workflowOf(list);
        const restored = new Run(workflow, graph);
        restored.start();
        for (const event of topological(log, graph)) {
          restored.apply(event);
          if (twice.next().value) restored.apply(event);
        }
        expect(restored.status).toBe(run.status);
        expect(restored.error).toEqual(run.error);
        expect(restored.counts.ended).toBe(list.length);
        const told = new Set(log.map((event) => (event.type === 'stop' ? '' : event.step_id)));
        const known = (from: Run) => views(from).filter(([id]) => told.has(id));
        expect(known(restored)).toEqual(known(run));
      }),
      { numRuns: 500 },
    );
  });

  it('goes on after being restored in the middle', () => {
    fc.assert(
      fc.property(any, schedule, fc.nat(30), (list, picks, length) => {
        const { log } = play(list, picks);
        const { workflow, graph } = workflowOf(list);
        const live = new Run(workflow, graph);
        live.start();
        const part = log.slice(0, length);
        for (const event of part) live.apply(event);
        const restored = new Run(workflow, graph);
        restored.start();
        for (const event of topological(part, graph)) restored.apply(event);
        expect(restored.status).toBe(live.status);
        expect(restored.started().sort()).toEqual(live.started().sort());
        // Without a stop nothing is left open to interpretation.
        const stopped = views(live).some(
          ([, view]) => view.status === 'cancelled' || view.reason === 'the run stopped',
        );
        if (!stopped && live.status === 'running') expect(stateOf(restored)).toEqual(stateOf(live));
      }),
      { numRuns: 500 },
    );
  });
});

/** Events by step in the graph's order, a step's tasks by index; what came from outside first. */
function topological(log: RunEvent[], graph: WorkflowGraph): RunEvent[] {
  const position = new Map(graph.order.map((id, index) => [id, index]));
  const rank = (event: RunEvent): [number, number] => {
    if (event.type === 'stop') return [-1, 0];
    return [position.get(event.step_id)!, event.type === 'task_ended' ? event.index : -1];
  };
  return log.toSorted((a, b) => rank(a)[0] - rank(b)[0] || rank(a)[1] - rank(b)[1] || 0);
}
