/**
 * The simulation can fail: with a promise taken out of the source it finds one that is broken, and says which. Without
 * the mutation the same seed breaks none, so that it is the mutation that was found.
 */
import { expect, test } from 'vitest';
import { MUTATIONS } from './mutations.ts';
import { runSeeds } from './run-seeds.ts';
import { type SimulationResult, simulate } from './simulate.ts';

/** From where its mutation says: each is found within a few. */
const SEEDS_MAX = 60;
const LIMIT_MS = 60_000;
/** What the oracle says, not an exception somewhere. */
const BROKEN_PROMISE = /^(P\d+|liveness|result): /;

test.each(MUTATIONS.map((mutation) => [mutation.name, mutation.promise, mutation] as const))(
  'without "%s" (%s) a promise is broken',
  async (name, _promise, { favoured = [], from = 1 }) => {
    const found: SimulationResult[] = [];
    await runSeeds({ from, count: SEEDS_MAX, stopAtFailure: true, mutation: name, favoured }, (result) => {
      if (result.failures.length > 0) found.push(result);
    });
    expect(found).not.toEqual([]);
    for (const { seed, failures } of found) {
      expect(failures[0]).toMatch(BROKEN_PROMISE);
      expect((await simulate(seed, { favoured })).failures).toEqual([]);
    }
  },
  LIMIT_MS,
);
