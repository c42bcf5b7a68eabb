/** The simulation can fail: with a promise taken out of the source it finds one that is broken, and says which. */
import { expect, test } from 'vitest';
import { MUTATIONS } from './mutations.ts';
import { runSeeds } from './run-seeds.ts';

const SEEDS_MAX = 1_000;
const LIMIT_MS = 240_000;
/** What the oracle says, not an exception somewhere. */
const BROKEN_PROMISE = /^(P\d+|liveness|result): /;

test.each(MUTATIONS.map((mutation) => [mutation.name, mutation.promise, mutation] as const))(
  'without "%s" (%s) a promise is broken',
  async (name, _promise, { favoured = [] }) => {
    const failures: string[] = [];
    await runSeeds({ from: 1, count: SEEDS_MAX, stopAtFailure: true, mutation: name, favoured }, (result) => {
      failures.push(...result.failures.slice(0, 1));
    });
    expect(failures).not.toEqual([]);
    for (const failure of failures) expect(failure).toMatch(BROKEN_PROMISE);
  },
  LIMIT_MS,
);
