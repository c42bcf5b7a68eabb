/**
 * The steps of a workflow as a graph: checked once, then asked for neighbours, order and the critical path. It is made
 * of plain lists and loops, as a graph library takes most of a second for as many edges as a workflow may have, and
 * its recursion overflows the stack on a chain of 10,000 steps.
 */
import { didYouMean } from './nearest.ts';
import { PROBLEMS_MAX, type Problem } from './problems.ts';
import { quoted } from './quoted.ts';
import { InvalidWorkflowError, type Step } from './schema.ts';

/** The dependencies form a cycle. `details.cycle` lists its steps, with the first one repeated at the end. */
export class CycleError extends InvalidWorkflowError {
  readonly cycle: string[];

  constructor(cycle: string[]) {
    const message = `the steps wait for each other: ${cycle.join(' -> ')} (each depends on the next); remove one of these depends_on entries`;
    super([{ path: 'steps', message }], 'CYCLE', { cycle });
    this.cycle = cycle;
  }
}

/** Built once per workflow in O(steps + dependencies); every question is then answered without a scan. */
export class WorkflowGraph {
  /** Topological: dependencies first; among independent steps the order of the file. */
  readonly order: string[];
  readonly #incoming = new Map<string, string[]>();
  readonly #outgoing = new Map<string, string[]>();
  #ancestors: { position: Map<string, number>; bits: Uint32Array[] } | undefined;

  /**
   * @throws InvalidWorkflowError for a repeated `step_id` or an unknown step in `depends_on`
   * @throws CycleError
   */
  constructor(steps: readonly Pick<Step, 'step_id' | 'depends_on'>[]) {
    this.#connect(steps);
    this.order = this.#sort(steps.map((step) => step.step_id));
  }

  #connect(steps: readonly Pick<Step, 'step_id' | 'depends_on'>[]): void {
    const problems: Problem[] = [];
    const first = new Map<string, number>();
    for (const [index, { step_id }] of steps.entries()) {
      const earlier = first.get(step_id);
      if (earlier === undefined) {
        first.set(step_id, index);
        this.#incoming.set(step_id, []);
        this.#outgoing.set(step_id, []);
        continue;
      }
      const message = `"${step_id}" is already the id of steps[${earlier}]; every step needs its own`;
      problems.push({ path: `steps[${index}].step_id`, message });
    }
    const known = [...first.keys()];
    for (const [index, step] of steps.entries()) {
      // More problems say no more than the first ones, and the hint of each compares its name with every step.
      if (problems.length > PROBLEMS_MAX) break;
      for (const [at, dependency] of step.depends_on.entries()) {
        if (first.has(dependency) || problems.length > PROBLEMS_MAX) continue;
        const message = `there is no step ${quoted(dependency)}${didYouMean(dependency, known)}`;
        problems.push({ path: `steps[${index}].depends_on[${at}]`, message });
      }
      for (const dependency of new Set(step.depends_on)) {
        if (!first.has(dependency)) continue;
        this.#incoming.get(step.step_id)!.push(dependency);
        this.#outgoing.get(dependency)!.push(step.step_id);
      }
    }
    if (problems.length > 0) throw new InvalidWorkflowError(problems.slice(0, PROBLEMS_MAX));
  }

  /** The steps that `id` waits for. */
  dependencies(id: string): string[] {
    return this.#incoming.get(id) ?? [];
  }

  /** The steps that wait for `id`. */
  dependents(id: string): string[] {
    return this.#outgoing.get(id) ?? [];
  }

  has(id: string): boolean {
    return this.#incoming.has(id);
  }

  /** Steps that wait for nothing, in topological order. */
  roots(): string[] {
    return this.order.filter((id) => this.dependencies(id).length === 0);
  }

  /** Steps that nothing waits for, in topological order: their outputs are the result. */
  sinks(): string[] {
    return this.order.filter((id) => this.dependents(id).length === 0);
  }

  /** True when `id` waits for `other`, directly or through other steps. */
  dependsOn(id: string, other: string): boolean {
    if (this.dependencies(id).includes(other)) return true;
    this.#ancestors ??= this.#ancestorBits();
    const row = this.#ancestors.position.get(id);
    const column = this.#ancestors.position.get(other);
    if (row === undefined || column === undefined) return false;
    return ((this.#ancestors.bits[row]![column >>> 5]! >>> (column & 31)) & 1) === 1;
  }

  /**
   * The chain of steps that decides how long the whole takes.
   *
   * @param durationMs measured or estimated milliseconds of a step, not negative
   */
  criticalPath(durationMs: (id: string) => number): { steps: string[]; duration_ms: number } {
    const finish = new Map<string, number>();
    const before = new Map<string, string>();
    let last: string | undefined;
    for (const id of this.order) {
      let start = 0;
      for (const dependency of this.dependencies(id)) {
        const end = finish.get(dependency)!;
        // On a tie any dependency is better than none, so that the path begins at a root.
        if (!before.has(id) || end > start) {
          start = Math.max(start, end);
          before.set(id, dependency);
        }
      }
      finish.set(id, start + durationMs(id));
      // ">=" prefers the later step on a tie: a path through steps of no duration still reaches a sink.
      if (last === undefined || finish.get(id)! >= finish.get(last)!) last = id;
    }
    const steps: string[] = [];
    for (let id = last; id !== undefined; id = before.get(id)) steps.push(id);
    return { steps: steps.reverse(), duration_ms: last === undefined ? 0 : finish.get(last)! };
  }

  /** Kahn, A. B.: Topological sorting of large networks, CACM 5(11), 1962. */
  #sort(ids: string[]): string[] {
    const open = new Map<string, number>();
    const order: string[] = [];
    for (const id of ids) {
      const count = this.dependencies(id).length;
      open.set(id, count);
      if (count === 0) order.push(id);
    }
    for (let next = 0; next < order.length; next += 1) {
      for (const dependent of this.dependents(order[next]!)) {
        const left = open.get(dependent)! - 1;
        open.set(dependent, left);
        if (left === 0) order.push(dependent);
      }
    }
    if (order.length < ids.length) throw new CycleError(this.#cycleAmong(open));
    return order;
  }

  /** Every step that could not be sorted waits for another such step: following them must lead back to one. */
  #cycleAmong(open: Map<string, number>): string[] {
    const stuck = (id: string): boolean => open.get(id)! > 0;
    const seen = new Map<string, number>();
    const walk: string[] = [];
    let id = [...open.keys()].find(stuck)!;
    while (!seen.has(id)) {
      seen.set(id, walk.length);
      walk.push(id);
      id = this.dependencies(id).find(stuck)!;
    }
    return [...walk.slice(seen.get(id)), id];
  }

  /** A row of bits per step: one pass in topological order, 32 steps at a time. */
  #ancestorBits(): { position: Map<string, number>; bits: Uint32Array[] } {
    const position = new Map(this.order.map((id, index) => [id, index]));
    const bits: Uint32Array[] = [];
    for (const [index, id] of this.order.entries()) {
      // Ancestors come earlier in the order, so a row is only as long as its own index.
      const row = new Uint32Array((index >>> 5) + 1);
      for (const dependency of this.dependencies(id)) {
        const at = position.get(dependency)!;
        const from = bits[at]!;
        for (let word = 0; word < from.length; word += 1) row[word]! |= from[word]!;
        row[at >>> 5]! |= 1 << (at & 31);
      }
      bits.push(row);
    }
    return { position, bits };
  }
}
