import { expect, test } from 'vitest';
import { fuzzMesh } from './mesh.ts';

const CASES = 60;
const SEEDS = 0x7fffffff;

test('three peers that get such inputs at once stay up, connected, and run a workflow beside it', async () => {
  const seed = Math.floor(performance.timeOrigin) % SEEDS;
  const { sent, refused } = await fuzzMesh(CASES, seed);
  expect(sent).toBe(CASES);
  expect(refused).toBeGreaterThan(0);
});
