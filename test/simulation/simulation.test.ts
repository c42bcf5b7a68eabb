import { expect, test } from 'vitest';
import { runSeeds } from './run-seeds.ts';
import { simulate } from './simulate.ts';

/** More of them run beside the tests before a change lands. */
const SEEDS = 25;
/** Any will do; these are not those of the mutations. */
const FROM = 200_000;
const LIMIT_MS = 300_000;

test(
  `a simulated mesh keeps its promises for ${SEEDS} seeds, with every kind of fault`,
  async () => {
    const broken: string[] = [];
    const struck = new Set<string>();
    await runSeeds({ from: FROM, count: SEEDS, stopAtFailure: false, mutation: undefined, favoured: [] }, (result) => {
      for (const kind of Object.keys(result.faults)) struck.add(kind);
      if (result.failures.length > 0)
        broken.push(`npm run simulate -- --seed ${result.seed}    # ${result.failures[0]}`);
    });
    expect(broken).toEqual([]);
    for (const kind of [
      'crash',
      'hold',
      'cut',
      'mute',
      'full disk',
      'failed fsync',
      'lost disk',
      'old disk',
      'leave',
    ]) {
      expect(struck).toContain(kind);
    }
  },
  LIMIT_MS,
);

test('takes the same path for the same seed, and another one for another', async () => {
  const [first, again, other] = [await simulate(7), await simulate(7), await simulate(8)];
  expect(again.digest).toBe(first.digest);
  expect(other.digest).not.toBe(first.digest);
});
