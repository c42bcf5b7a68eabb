/**
 * The simulation can fail: with a promise taken out of the source it finds one that is broken, and says which. Without
 * the mutation the same seed breaks none, so that it is the mutation that was found.
 */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { HELD_BY_TESTS, MUTATIONS, type Mutation } from './mutations.ts';
import { runSeeds } from './run-seeds.ts';
import { type SimulationResult, simulate } from './simulate.ts';

const SEEDS_MAX = 1_000;
const LIMIT_MS = 600_000;
/** What the oracle says, not an exception somewhere. */
const BROKEN_PROMISE = /^(P\d+|liveness|result): /;

/** The first seed that breaks a promise, and none without the mutation. */
async function findOne({ name, favoured = [], from = 1 }: Mutation): Promise<SimulationResult | undefined> {
  for (let next = from; next <= SEEDS_MAX; ) {
    const results: SimulationResult[] = [];
    const count = SEEDS_MAX + 1 - next;
    await runSeeds({ from: next, count, stopAtFailure: true, mutation: name, favoured }, (result) => {
      results.push(result);
    });
    results.sort((a, b) => a.seed - b.seed);
    for (const result of results.filter(({ failures }) => BROKEN_PROMISE.test(failures[0] ?? ''))) {
      const unchanged = await simulate(result.seed, { favoured });
      if (unchanged.failures.length === 0) return result;
    }
    next = results.at(-1)!.seed + 1;
  }
  return undefined;
}

test.for(MUTATIONS.map((mutation) => [mutation.name, mutation.promise, mutation] as const))(
  'without "%s" (%s) a promise is broken',
  { timeout: LIMIT_MS },
  async ([, , mutation], { annotate }) => {
    const found = await findOne(mutation);
    expect(found?.failures[0]).toMatch(BROKEN_PROMISE);
    await annotate(`seed ${found!.seed}; ${found!.failures[0]}`);
  },
);

test.for(HELD_BY_TESTS.map((held) => [held.name, held.promise, held.test, held] as const))(
  'without "%s" (%s) a test of %s fails',
  async ([, , , held]) => {
    const script = new URL('./run-mutated-test.ts', import.meta.url).pathname;
    const { stdout } = await promisify(execFile)(process.execPath, [script, held.name]);
    const { failed } = JSON.parse(stdout.trim().split('\n').at(-1)!) as { failed: number };
    expect(failed).toBeGreaterThan(0);
  },
);
