import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CycleError, WorkflowGraph } from '../../dag/graph.ts';
import { STEPS_MAX } from '../../dag/limits.ts';

type Edges = Record<string, string[]>;

function graphOf(edges: Edges): WorkflowGraph {
  return new WorkflowGraph(Object.entries(edges).map(([step_id, depends_on]) => ({ step_id, depends_on })));
}

const diamond: Edges = { d: ['b', 'c'], a: [], b: ['a'], c: ['a'] };

describe('WorkflowGraph', () => {
  it('answers for a diamond', () => {
    const graph = graphOf(diamond);
    expect(graph.order).toEqual(['a', 'b', 'c', 'd']);
    expect(graph.dependencies('d')).toEqual(['b', 'c']);
    expect(graph.dependents('a')).toEqual(['b', 'c']);
    expect(graph.roots()).toEqual(['a']);
    expect(graph.sinks()).toEqual(['d']);
    expect(graph.dependsOn('d', 'a')).toBe(true);
    expect(graph.dependsOn('a', 'd')).toBe(false);
    expect(graph.dependsOn('b', 'c')).toBe(false);
    expect(graph.dependsOn('a', 'a')).toBe(false);
  });

  it('counts a dependency that is named twice once', () => {
    expect(graphOf({ a: [], b: ['a', 'a'] }).dependencies('b')).toEqual(['a']);
  });

  it('takes ids that JavaScript objects have a meaning for', () => {
    const graph = graphOf({ constructor: [], toString: ['constructor'], '1': ['toString'], hasOwnProperty: [] });
    expect(graph.order).toEqual(['constructor', 'hasOwnProperty', 'toString', '1']);
    expect(graph.dependsOn('1', 'constructor')).toBe(true);
  });

  it('finds the critical path by duration', () => {
    const durations: Record<string, number> = { a: 10, b: 5, c: 30, d: 1 };
    expect(graphOf(diamond).criticalPath((id) => durations[id]!)).toEqual({ steps: ['a', 'c', 'd'], duration_ms: 41 });
  });

  it('reaches from a root to a sink also when nothing takes time', () => {
    expect(graphOf({ a: [], b: ['a'], c: ['b'] }).criticalPath(() => 0)).toEqual({
      steps: ['a', 'b', 'c'],
      duration_ms: 0,
    });
  });

  it('names a cycle step by step', () => {
    const build = () => graphOf({ start: [], a: ['start', 'c'], b: ['a'], c: ['b'], after: ['c'] });
    expect(build).toThrow(CycleError);
    try {
      build();
    } catch (error) {
      const { cycle, code, message } = error as CycleError;
      expect(code).toBe('CYCLE');
      expect(cycle).toEqual(['a', 'c', 'b', 'a']);
      expect(message).toContain('a -> c -> b -> a');
    }
    expect(() => graphOf({ self: ['self'] })).toThrow('self -> self');
  });

  it('names repeated and unknown steps with their places', () => {
    const steps = [
      { step_id: 'fetch', depends_on: [] },
      { step_id: 'parse', depends_on: ['fetsh'] },
      { step_id: 'fetch', depends_on: ['elsewhere'] },
    ];
    expect(() => new WorkflowGraph(steps)).toThrow(
      expect.objectContaining({
        code: 'INVALID_WORKFLOW',
        problems: [
          { path: 'steps[2].step_id', message: '"fetch" is already the id of steps[0]; every step needs its own' },
          { path: 'steps[1].depends_on[0]', message: 'there is no step "fetsh" (did you mean "fetch"?)' },
          { path: 'steps[2].depends_on[0]', message: 'there is no step "elsewhere"' },
        ],
      }),
    );
  });

  it('carries a chain of as many steps as the limit allows', () => {
    const steps = Array.from({ length: STEPS_MAX }, (_, index) => ({
      step_id: `s${index}`,
      depends_on: index === 0 ? [] : [`s${index - 1}`],
    }));
    const graph = new WorkflowGraph(steps.toReversed());
    expect(graph.order).toEqual(steps.map((step) => step.step_id));
    expect(graph.criticalPath(() => 2)).toMatchObject({ duration_ms: 2 * STEPS_MAX });
    expect(graph.dependsOn(`s${STEPS_MAX - 1}`, 's0')).toBe(true);
    const [first, ...rest] = steps;
    const ring = [{ ...first!, depends_on: [`s${STEPS_MAX - 1}`] }, ...rest];
    expect(() => new WorkflowGraph(ring)).toThrow(CycleError);
  });
});

/** Any graph, with edges in both directions of the list. */
const anyEdges = fc
  .integer({ min: 1, max: 12 })
  .chain((count) =>
    fc.array(fc.tuple(fc.nat(count - 1), fc.nat(count - 1)), { maxLength: 20 }).map((pairs) => ({ count, pairs })),
  );

function reachable(steps: { step_id: string; depends_on: string[] }[], from: string): Set<string> {
  const seen = new Set<string>();
  const walk = (id: string): void => {
    for (const next of steps.find((step) => step.step_id === id)!.depends_on) {
      if (seen.has(next)) continue;
      seen.add(next);
      walk(next);
    }
  };
  walk(from);
  return seen;
}

describe('any graph', () => {
  it('is sorted, or its cycle is named', () => {
    fc.assert(
      fc.property(anyEdges, ({ count, pairs }) => {
        const steps = Array.from({ length: count }, (_, index) => ({
          step_id: `s${index}`,
          depends_on: [] as string[],
        }));
        for (const [from, to] of pairs) steps[from]!.depends_on.push(`s${to}`);
        const cyclic = steps.some(({ step_id }) => reachable(steps, step_id).has(step_id));
        if (cyclic) {
          let cycle: string[] = [];
          try {
            new WorkflowGraph(steps);
          } catch (error) {
            cycle = (error as CycleError).cycle;
          }
          expect(cycle.length).toBeGreaterThan(1);
          expect(cycle[0]).toBe(cycle.at(-1));
          expect(new Set(cycle).size).toBe(cycle.length - 1);
          for (const [index, id] of cycle.slice(0, -1).entries()) {
            expect(steps.find((step) => step.step_id === id)!.depends_on).toContain(cycle[index + 1]);
          }
          return;
        }
        const graph = new WorkflowGraph(steps);
        const position = new Map(graph.order.map((id, index) => [id, index]));
        expect(position.size).toBe(count);
        for (const { step_id, depends_on } of steps) {
          for (const dependency of depends_on) expect(position.get(dependency)).toBeLessThan(position.get(step_id)!);
          const ancestors = reachable(steps, step_id);
          for (const other of steps) {
            expect(graph.dependsOn(step_id, other.step_id)).toBe(ancestors.has(other.step_id));
          }
        }
      }),
    );
  });

  it('has a critical path as long as its longest path', () => {
    const weighted = fc.tuple(anyEdges, fc.array(fc.nat(9), { minLength: 12, maxLength: 12 }));
    fc.assert(
      fc.property(weighted, ([{ count, pairs }, weights]) => {
        const steps = Array.from({ length: count }, (_, index) => ({
          step_id: `s${index}`,
          depends_on: [] as string[],
        }));
        for (const [a, b] of pairs) if (a !== b) steps[Math.max(a, b)]!.depends_on.push(`s${Math.min(a, b)}`);
        const weight = (id: string): number => weights[Number(id.slice(1))]!;
        const longest = (id: string): number =>
          weight(id) + Math.max(0, ...steps.find((step) => step.step_id === id)!.depends_on.map(longest));
        const path = new WorkflowGraph(steps).criticalPath(weight);
        expect(path.duration_ms).toBe(Math.max(...steps.map((step) => longest(step.step_id))));
        expect(path.steps.reduce((sum, id) => sum + weight(id), 0)).toBe(path.duration_ms);
      }),
    );
  });
});
