import { describe, expect, it } from 'vitest';
import type { ErrorShape, JsonValue } from '../../dag/errors.ts';
import { WorkflowGraph } from '../../dag/graph.ts';
import { EXPAND_CHUNK_ITEMS, STEPS_MAX, TASK_INSTANCES_MAX } from '../../dag/limits.ts';
import { Run, type RunChange } from '../../dag/run.ts';
import { parseWorkflow, type Step } from '../../dag/schema.ts';

type Fields = Partial<Omit<Step, 'step_id' | 'action' | 'retry' | 'requires'>>;

/** `{ b: { depends_on: ['a'] } }` as a run that has started. */
function runOf(steps: Record<string, Fields>): Run {
  const list = Object.entries(steps).map(([step_id, fields]) => ({ step_id, action: 'echo', ...fields }));
  const workflow = parseWorkflow({ name: 'w', input: { n: 1 }, steps: list });
  return new Run(workflow, new WorkflowGraph(workflow.steps));
}

const error: ErrorShape = { code: 'BROKEN', message: 'it broke', retryable: false };

function begin(run: Run, step_id: string, items: JsonValue[] | null = null): RunChange {
  return run.apply({ type: 'step_started', step_id, items });
}

function end(run: Run, step_id: string, output: JsonValue = null, index = 0): RunChange {
  return run.apply({ type: 'task_ended', step_id, index, status: 'completed', output, error: null });
}

function fail(run: Run, step_id: string, index = 0, status: 'failed' | 'cancelled' = 'failed'): RunChange {
  return run.apply({
    type: 'task_ended',
    step_id,
    index,
    status,
    output: null,
    error: status === 'failed' ? error : null,
  });
}

/** Starts a step and issues what it may issue. */
function issue(run: Run, step_id: string, items: JsonValue[] | null = null): number[] {
  begin(run, step_id, items);
  return run.nextIndexes(step_id);
}

function statuses(run: Run): Record<string, string> {
  return Object.fromEntries([...run.steps()].map(([id, step]) => [id, step.status]));
}

describe('a run', () => {
  it('goes through a diamond', () => {
    const run = runOf({ a: {}, b: { depends_on: ['a'] }, c: { depends_on: ['a'] }, d: { depends_on: ['b', 'c'] } });
    expect(run.start()).toEqual({ ready: ['a'], ended: [], stopping: false, settled: null });
    expect(run.start().ready).toEqual([]);
    expect(issue(run, 'a')).toEqual([0]);
    expect(run.nextIndexes('a')).toEqual([]);
    expect(run.current_step).toBe('a');
    expect(end(run, 'a', 1)).toMatchObject({ ready: ['b', 'c'], ended: ['a'] });
    issue(run, 'b');
    issue(run, 'c');
    expect(run.started()).toEqual(['b', 'c']);
    expect(end(run, 'c', 3).ready).toEqual([]);
    expect(run.progress).toBe(50);
    expect(run.counts).toEqual({ total: 4, ended: 2 });
    expect(end(run, 'b', 2).ready).toEqual(['d']);
    expect(run.scope(['b', 'c'])).toMatchObject({
      input: { n: 1 },
      steps: { b: { output: 2, status: 'completed' }, c: { output: 3, status: 'completed' } },
      workflow: { name: 'w' },
    });
    issue(run, 'd');
    expect(end(run, 'd', { sum: 5 })).toEqual({ ready: [], ended: ['d'], stopping: false, settled: 'completed' });
    expect(run).toMatchObject({ status: 'completed', progress: 100, error: null, current_step: null, instances: 4 });
    expect(run.result()).toEqual({ d: { sum: 5 } });
  });

  it('does not hear an event twice', () => {
    const run = runOf({ a: {}, b: { depends_on: ['a'] } });
    run.start();
    issue(run, 'a');
    expect(begin(run, 'a').ready).toEqual([]);
    end(run, 'a', 'first');
    expect(end(run, 'a', 'second')).toEqual({ ready: [], ended: [], stopping: false, settled: null });
    expect(fail(run, 'a').ended).toEqual([]);
    expect(run.apply({ type: 'step_skipped', step_id: 'a', reason: 'late' }).ended).toEqual([]);
    expect(run.apply({ type: 'step_failed', step_id: 'a', error }).ended).toEqual([]);
    expect(run.step('a')).toMatchObject({ status: 'completed', output: 'first', error: null, ended: 1, failed: 0 });
  });

  it('refuses what cannot have happened', () => {
    const run = runOf({ a: {}, b: { depends_on: ['a'] } });
    run.start();
    expect(() => begin(run, 'b')).toThrow(expect.objectContaining({ code: 'EVENT_OUT_OF_ORDER' }));
    expect(() => end(run, 'a')).toThrow(expect.objectContaining({ code: 'EVENT_OUT_OF_ORDER' }));
    expect(() => run.markIssued('a', 0)).toThrow(expect.objectContaining({ code: 'EVENT_OUT_OF_ORDER' }));
    expect(() => run.step('x')).toThrow(expect.objectContaining({ code: 'UNKNOWN_STEP' }));
    issue(run, 'a');
    expect(() => end(run, 'a', null, 1)).toThrow(expect.objectContaining({ code: 'UNKNOWN_TASK' }));
  });

  it('says that it waits for a person', () => {
    const run = runOf({ a: {}, ask: {} });
    run.start();
    issue(run, 'a');
    issue(run, 'ask');
    run.apply({ type: 'task_waiting', step_id: 'ask', index: 0, waiting: true });
    run.apply({ type: 'task_waiting', step_id: 'ask', index: 0, waiting: true });
    expect(run).toMatchObject({ status: 'input_required', current_step: 'ask' });
    expect(run.step('ask').status).toBe('input_required');
    run.apply({ type: 'task_waiting', step_id: 'ask', index: 0, waiting: false });
    expect(run).toMatchObject({ status: 'running', current_step: 'a' });
    run.apply({ type: 'task_waiting', step_id: 'ask', index: 0, waiting: true });
    end(run, 'ask', { approved: true });
    expect(run.status).toBe('running');
    expect(end(run, 'a').settled).toBe('completed');
  });
});

describe('a dependent', () => {
  const joined = { a: {}, b: {}, c: { depends_on: ['a', 'b'] }, d: { depends_on: ['c'] } };
  const skip = (run: Run, step_id: string) => run.apply({ type: 'step_skipped', step_id, reason: 'no' });

  it('runs when one of its dependencies completed', () => {
    const run = runOf(joined);
    run.start();
    skip(run, 'a');
    issue(run, 'b');
    expect(end(run, 'b').ready).toEqual(['c']);
  });

  it('is skipped when all were skipped, and so on down the graph', () => {
    const run = runOf(joined);
    run.start();
    skip(run, 'a');
    expect(skip(run, 'b')).toEqual({ ready: [], ended: ['b', 'c', 'd'], stopping: false, settled: 'completed' });
    expect(run.step('d')).toMatchObject({ status: 'skipped', reason: 'every step it depends on was skipped' });
    expect(run.result()).toEqual({ d: null });
  });

  it('decides for itself when it has a condition', () => {
    const run = runOf({ a: {}, c: { depends_on: ['a'], when: '${ true }' } });
    run.start();
    expect(skip(run, 'a').ready).toEqual(['c']);
  });
});

describe('a failure', () => {
  const shape = (on_failure: Step['on_failure']) => ({
    a: { on_failure },
    b: { depends_on: ['a'] },
    other: {},
    later: { depends_on: ['other'] },
  });

  it('stops the run: nothing new, and it settles when nothing runs', () => {
    const run = runOf(shape('fail'));
    run.start();
    issue(run, 'a');
    issue(run, 'other');
    expect(fail(run, 'a')).toEqual({ ready: [], ended: ['a', 'b', 'later'], stopping: true, settled: null });
    expect(statuses(run)).toEqual({ a: 'failed', b: 'cancelled', other: 'running', later: 'cancelled' });
    expect(fail(run, 'other', 0, 'cancelled')).toMatchObject({ ended: ['other'], stopping: false, settled: 'failed' });
    expect(run.error).toMatchObject({ code: 'BROKEN', message: 'Step "a": it broke', details: { step_id: 'a' } });
    expect(run).toMatchObject({ status: 'failed', counts: { total: 4, ended: 4 }, progress: 25 });
  });

  it('lets what still completes complete', () => {
    const run = runOf(shape('fail'));
    run.start();
    issue(run, 'a');
    issue(run, 'other');
    fail(run, 'a');
    expect(end(run, 'other', 1)).toMatchObject({ ready: [], ended: ['other'], settled: 'failed' });
    expect(run.step('other')).toMatchObject({ status: 'completed', output: 1 });
  });

  it('skips the step and, with it, those that only wait for it', () => {
    const run = runOf(shape('skip'));
    run.start();
    issue(run, 'a');
    expect(fail(run, 'a')).toMatchObject({ ready: [], ended: ['a', 'b'], stopping: false });
    expect(run.step('a')).toMatchObject({ status: 'skipped', error, reason: 'it broke', output: null });
  });

  it('is passed over with continue', () => {
    const run = runOf(shape('continue'));
    run.start();
    issue(run, 'a');
    expect(fail(run, 'a')).toMatchObject({ ready: ['b'], ended: ['a'] });
    expect(run.step('a')).toMatchObject({ status: 'failed', error, output: null });
    expect(run.scope('all')['steps']).toEqual({ a: { output: null, status: 'failed', error } });
    issue(run, 'b');
    issue(run, 'other');
    end(run, 'b');
    end(run, 'other');
    issue(run, 'later');
    expect(end(run, 'later').settled).toBe('completed');
    expect(run.error).toBeNull();
  });

  it('of an expression counts like one of a task', () => {
    const run = runOf(shape('fail'));
    run.start();
    const change = run.apply({ type: 'step_failed', step_id: 'a', error });
    expect(change).toMatchObject({ ended: ['a', 'other', 'b', 'later'], stopping: true, settled: 'failed' });
  });

  it('of two steps gives one error, whichever came first', () => {
    for (const order of [
      ['a', 'b'],
      ['b', 'a'],
    ]) {
      const run = runOf({ a: {}, b: {} });
      run.start();
      issue(run, 'a');
      issue(run, 'b');
      for (const id of order) fail(run, id);
      expect(run.error?.details).toEqual({ step_id: 'a' });
      expect(statuses(run)).toEqual({ a: 'failed', b: 'failed' });
    }
  });
});

describe('foreach', () => {
  it('gives an array by index, whatever the order', () => {
    const run = runOf({ a: { foreach: [] } });
    run.start();
    expect(issue(run, 'a', ['x', 'y', 'z'])).toEqual([0, 1, 2]);
    end(run, 'a', 'Z', 2);
    expect(run.progress).toBe(33.3);
    end(run, 'a', 'X', 0);
    expect(run.step('a')).toMatchObject({ items: ['x', 'y', 'z'], issued: 3, ended: 2, failed: 0 });
    expect(end(run, 'a', 'Y', 1).settled).toBe('completed');
    expect(run.result()).toEqual({ a: ['X', 'Y', 'Z'] });
    expect(run.instances).toBe(3);
  });

  it('over nothing completes at once', () => {
    const run = runOf({ a: { foreach: [] }, b: { depends_on: ['a'] } });
    run.start();
    expect(begin(run, 'a', [])).toMatchObject({ ready: ['b'], ended: ['a'] });
    expect(run.step('a').output).toEqual([]);
  });

  it('leaves out what `when` did not hold for: no task, no failure, and null in the output', () => {
    const run = runOf({ a: { foreach: [], max_parallel: 2 }, b: { depends_on: ['a'] } });
    run.start();
    run.apply({ type: 'step_started', step_id: 'a', items: ['w', 'x', 'y', 'z'], left_out: [0, 2] });
    expect(run.nextIndexes('a')).toEqual([1, 3]);
    expect(run.step('a')).toMatchObject({ left_out: [0, 2], issued: 2, ended: 2, failed: 0 });
    expect(run.progress).toBe(25);
    end(run, 'a', 'X', 1);
    expect(end(run, 'a', 'Z', 3)).toMatchObject({ ready: ['b'], ended: ['a'] });
    expect(run.step('a').output).toEqual([null, 'X', null, 'Z']);
  });

  it('with every item left out completes at once', () => {
    const run = runOf({ a: { foreach: [] }, b: { depends_on: ['a'] } });
    run.start();
    const change = run.apply({ type: 'step_started', step_id: 'a', items: [1, 2], left_out: [0, 1] });
    expect(change).toMatchObject({ ready: ['b'], ended: ['a'] });
    expect(run.step('a')).toMatchObject({ status: 'completed', output: [null, null], issued: 0 });
  });

  it('fails when all that were not left out failed', () => {
    const run = runOf({ a: { foreach: [], on_failure: 'continue' } });
    run.start();
    run.apply({ type: 'step_started', step_id: 'a', items: [1, 2, 3], left_out: [0] });
    run.nextIndexes('a');
    fail(run, 'a', 2);
    fail(run, 'a', 1);
    expect(run.step('a').status).toBe('failed');
    expect(run.scope(['a'])['steps']).toEqual({
      a: { status: 'failed', output: null, error: { ...error, details: { index: 1 } } },
    });
  });

  it('keeps to max_parallel', () => {
    const run = runOf({ a: { foreach: [], max_parallel: 2 } });
    run.start();
    expect(issue(run, 'a', [1, 2, 3, 4])).toEqual([0, 1]);
    end(run, 'a', null, 1);
    expect(run.nextIndexes('a')).toEqual([2]);
    end(run, 'a', null, 0);
    end(run, 'a', null, 2);
    expect(run.nextIndexes('a')).toEqual([3]);
  });

  it('is expanded in bounded chunks', () => {
    const run = runOf({ a: { foreach: [], max_parallel: TASK_INSTANCES_MAX } });
    run.start();
    expect(issue(run, 'a', new Array(1_000).fill(0))).toHaveLength(EXPAND_CHUNK_ITEMS);
  });

  it('fails at once under fail, and settles when its other items ended', () => {
    const run = runOf({ a: { foreach: [] } });
    run.start();
    issue(run, 'a', [1, 2, 3]);
    expect(fail(run, 'a', 1)).toMatchObject({ ended: ['a'], stopping: true, settled: null });
    expect(run.nextIndexes('a')).toEqual([]);
    fail(run, 'a', 0, 'cancelled');
    expect(end(run, 'a', 'late', 2).settled).toBe('failed');
    expect(run.step('a')).toMatchObject({ status: 'failed', output: null, error });
  });

  it.each(['skip', 'continue'] as const)('leaves a null under %s, and completes when one item did', (on_failure) => {
    const run = runOf({ a: { foreach: [], on_failure } });
    run.start();
    issue(run, 'a', [1, 2, 3]);
    fail(run, 'a', 0);
    end(run, 'a', 'two', 1);
    expect(fail(run, 'a', 2, 'cancelled').settled).toBe('completed');
    expect(run.step('a')).toMatchObject({ status: 'completed', output: [null, 'two', null], failed: 2, error });
  });

  it.each([
    ['skip', 'skipped'],
    ['continue', 'failed'],
  ] as const)('under %s ends as %s when all items failed', (on_failure, status) => {
    const run = runOf({ a: { foreach: [], on_failure } });
    run.start();
    issue(run, 'a', [1, 2]);
    fail(run, 'a', 1);
    expect(fail(run, 'a', 0).settled).toBe('completed');
    expect(run.step('a')).toMatchObject({ status, output: null, error });
  });

  it('is refused when it would make too many tasks', () => {
    const run = runOf({ a: {}, b: { foreach: [] } });
    run.start();
    begin(run, 'a');
    run.checkItems('b', TASK_INSTANCES_MAX - 1);
    expect(() => run.checkItems('b', TASK_INSTANCES_MAX)).toThrow(
      expect.objectContaining({
        code: 'LIMIT_EXCEEDED',
        details: { limit: 'TASK_INSTANCES_MAX', value: TASK_INSTANCES_MAX + 1, maximum: TASK_INSTANCES_MAX },
      }),
    );
  });
});

describe('stopping from outside', () => {
  it('cancels what waits at once and what runs when it ended', () => {
    const run = runOf({ a: {}, b: { depends_on: ['a'] }, c: {} });
    run.start();
    issue(run, 'a');
    const stop = { type: 'stop', status: 'cancelled', error: null } as const;
    expect(run.apply(stop)).toEqual({ ready: [], ended: ['c', 'b'], stopping: true, settled: null });
    expect(run.apply(stop)).toEqual({ ready: [], ended: [], stopping: false, settled: null });
    expect(fail(run, 'a', 0, 'cancelled').settled).toBe('cancelled');
    expect(statuses(run)).toEqual({ a: 'cancelled', b: 'cancelled', c: 'cancelled' });
    expect(run).toMatchObject({ status: 'cancelled', error: null, progress: 0 });
  });

  it('settles at once when nothing runs', () => {
    const run = runOf({ a: {} });
    run.start();
    expect(run.apply({ type: 'stop', status: 'cancelled', error }).settled).toBe('cancelled');
    expect(run.error).toEqual(error);
  });

  it('is what the run came to, also when a killed task reports a failure', () => {
    const run = runOf({ a: {} });
    run.start();
    issue(run, 'a');
    run.apply({ type: 'stop', status: 'cancelled', error: null });
    expect(fail(run, 'a').settled).toBe('cancelled');
  });

  it('still counts after the last step: the output expression may fail', () => {
    const run = runOf({ a: {} });
    run.start();
    issue(run, 'a');
    expect(end(run, 'a').settled).toBe('completed');
    expect(run.apply({ type: 'stop', status: 'failed', error }).settled).toBe('failed');
    expect(run).toMatchObject({ status: 'failed', error });
    expect(run.apply({ type: 'stop', status: 'cancelled', error: null }).settled).toBeNull();
  });

  it('leaves a started foreach step cancelled when its running items ended', () => {
    const run = runOf({ a: { foreach: [], max_parallel: 1 } });
    run.start();
    issue(run, 'a', [1, 2]);
    run.apply({ type: 'stop', status: 'cancelled', error: null });
    expect(run.nextIndexes('a')).toEqual([]);
    expect(end(run, 'a', 1, 0)).toMatchObject({ ended: ['a'], settled: 'cancelled' });
    expect(run.step('a').status).toBe('cancelled');
  });

  it('takes back tasks that were announced and never made: the stop ended their step', () => {
    const run = runOf({ a: { foreach: [], on_failure: 'continue' }, b: {} });
    run.start();
    issue(run, 'a', [1, 2, 3]);
    expect(run.apply({ type: 'task_withdrawn', step_id: 'a', index: 2 })).toMatchObject({ ended: [] }); // it runs
    issue(run, 'b');
    fail(run, 'b');
    run.apply({ type: 'task_withdrawn', step_id: 'a', index: 2 });
    fail(run, 'a', 0);
    const last = { type: 'task_withdrawn', step_id: 'a', index: 1 } as const;
    expect(run.apply(last)).toMatchObject({ ended: ['a'], settled: 'failed' });
    expect(run.apply(last)).toMatchObject({ ended: [], settled: null });
    expect(run.step('a')).toMatchObject({ status: 'cancelled', reason: 'the run stopped', issued: 1, ended: 1, error });
  });

  it('by cancelling a task: the run is cancelled, unless a step failed too', () => {
    const run = runOf({ a: {}, b: {} });
    run.start();
    issue(run, 'a');
    issue(run, 'b');
    expect(fail(run, 'b', 0, 'cancelled')).toMatchObject({ stopping: true, settled: null });
    expect(fail(run, 'a', 0, 'cancelled').settled).toBe('cancelled');
    const other = runOf({ a: { foreach: [] } });
    other.start();
    issue(other, 'a', [1, 2]);
    fail(other, 'a', 0, 'cancelled');
    expect(other.step('a').status).toBe('cancelled');
    expect(fail(other, 'a', 1)).toMatchObject({ ended: ['a'], settled: 'failed' });
    expect(other.step('a')).toMatchObject({ status: 'failed', error });
  });
});

describe('restoring', () => {
  it('finds a step running that is replayed after the failure that stopped the run', () => {
    const run = runOf({ a: {}, b: {}, c: { depends_on: ['b'] } });
    run.start();
    expect(fail(issued(run, 'a'), 'a').settled).toBe('failed');
    begin(run, 'b');
    run.markIssued('b', 0);
    expect(run.status).toBe('running');
    expect(run.step('b').status).toBe('running');
    expect(end(run, 'b', 1)).toMatchObject({ ready: [], settled: 'failed' });
    expect(statuses(run)).toEqual({ a: 'failed', b: 'completed', c: 'cancelled' });
  });

  it('does not issue again what exists', () => {
    const run = runOf({ a: { foreach: [] } });
    run.start();
    begin(run, 'a', [1, 2, 3]);
    run.markIssued('a', 1);
    run.markIssued('a', 1);
    end(run, 'a', 'x', 0);
    expect(run.nextIndexes('a')).toEqual([2]);
  });
});

function issued(run: Run, step_id: string): Run {
  issue(run, step_id);
  return run;
}

describe('size', () => {
  it('runs a chain of as many steps as the limit allows, and skips one', () => {
    const chain = Object.fromEntries(
      Array.from({ length: STEPS_MAX }, (_, i) => [
        `s${i}`,
        i === 0 ? { when: '${ x }' } : { depends_on: [`s${i - 1}`] },
      ]),
    );
    const run = runOf(chain);
    let change = run.start();
    for (let steps = 0; change.settled === null; steps += 1) {
      expect(steps).toBeLessThan(STEPS_MAX);
      const [id] = change.ready;
      issue(run, id!);
      change = end(run, id!, steps);
    }
    expect(run.result()).toEqual({ [`s${STEPS_MAX - 1}`]: STEPS_MAX - 1 });
    const skipped = runOf(chain);
    skipped.start();
    const all = skipped.apply({ type: 'step_skipped', step_id: 's0', reason: 'no' });
    expect(all.ended).toHaveLength(STEPS_MAX);
    expect(all.settled).toBe('completed');
  });

  it('runs as many tasks as the limit allows', () => {
    const run = runOf({ a: { foreach: [] } });
    run.start();
    run.checkItems('a', TASK_INSTANCES_MAX);
    const waiting = issue(run, 'a', new Array(TASK_INSTANCES_MAX).fill(null));
    let change: RunChange | undefined;
    for (const index of waiting) {
      change = end(run, 'a', index, index);
      waiting.push(...run.nextIndexes('a'));
    }
    expect(change?.settled).toBe('completed');
    const output = run.result()['a'] as JsonValue[];
    expect(output).toHaveLength(TASK_INSTANCES_MAX);
    expect(output.every((value, index) => value === index)).toBe(true);
  });
});
