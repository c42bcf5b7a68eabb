import { describe, expect, test } from 'vitest';
import { simulate } from './simulate.ts';

const SEEDS = 100;

describe('a simulated mesh with crashes, losses and delays', () => {
  test(`keeps its promises for ${SEEDS} seeds`, async () => {
    const broken: string[] = [];
    let crashes = 0;
    for (let seed = 1; seed <= SEEDS; seed++) {
      const result = await simulate(seed);
      crashes += result.crashes;
      if (result.failures.length > 0) broken.push(`npm run simulate -- --seed ${seed}    # ${result.failures[0]}`);
    }
    expect(broken).toEqual([]);
    expect(crashes).toBeGreaterThan(SEEDS / 2);
  });

  test('takes the same path for the same seed, and another one for another', async () => {
    const [first, again, other] = [await simulate(7), await simulate(7), await simulate(8)];
    expect(again.digest).toBe(first.digest);
    expect(other.digest).not.toBe(first.digest);
  });
});
