/**
 * Promises taken out of the source, one at a time: with each of them the simulation has to find a broken promise, or it
 * could not tell whether the promise is kept. `mutations.test.ts` runs them all.
 */
import type { FaultKind } from './fault-plan.ts';

export interface Mutation {
  /** What is taken out. */
  name: string;
  /** From the top folder. */
  file: string;
  /** Is in the file exactly once. */
  find: string;
  replace: string;
  /** What it keeps (design, section 3). */
  promise: string;
  /** Faults without which it is hardly missed. */
  favoured?: readonly FaultKind[];
}

export const MUTATIONS: readonly Mutation[] = [
  {
    name: 'fsync before effects',
    file: 'scheduler/journal.ts',
    find: 'this.store.commit(rows).then(',
    replace: 'this.store.commit(rows).catch(() => {});\n    Promise.resolve().then(',
    promise: 'P1',
    favoured: ['crash'],
  },
  {
    name: 'lease token check',
    file: 'scheduler/tasks.ts',
    find: 'const current = lease !== null && lease.attempt === result.attempt && lease.peer_id === peer;',
    replace: 'const current = lease !== null;',
    promise: 'P3',
    favoured: ['hold', 'cut'],
  },
  {
    name: 'late failure refused',
    file: 'scheduler/tasks.ts',
    find: "if (!current && (result.status !== 'completed' || !mayHaveRun(task.record, result.attempt))) return;",
    replace: 'if (!current && !mayHaveRun(task.record, result.attempt)) return;',
    promise: 'P3',
    favoured: ['hold', 'cut'],
  },
  {
    name: 'worker keeps its result until acknowledged',
    file: 'scheduler/kept-results.ts',
    find: 'for (const [, kept] of entries) kept.sending = null;',
    replace: 'for (const [key] of entries) this.delete(key);',
    promise: 'P3',
    favoured: ['loss'],
  },
  {
    name: 'at_most_once guard',
    file: 'scheduler/tasks.ts',
    find: 'if (task.record.at_most_once || task.lost_attempts > LOST_ATTEMPTS_MAX) {',
    replace: 'if (task.lost_attempts > LOST_ATTEMPTS_MAX) {',
    promise: 'P4',
    favoured: ['crash'],
  },
];

export function mutationNamed(name: string): Mutation {
  const mutation = MUTATIONS.find((each) => each.name === name);
  if (mutation !== undefined) return mutation;
  throw new Error(`there is no mutation "${name}": ${MUTATIONS.map((each) => each.name).join(', ')}`);
}
