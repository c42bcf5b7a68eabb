import { expect, test } from 'vitest';
import { createClock } from '../../node/clock.ts';
import { createRandom } from '../../node/random.ts';
import { clockCompliance } from '../compliance/clock.ts';
import { randomCompliance } from '../compliance/random.ts';
import { SeededRandom, SimulatedClock, World } from './world.ts';

clockCompliance('the real clock', () => ({
  clock: createClock(),
  until: async (promise) => {
    await promise;
  },
}));

clockCompliance('the simulated clock', () => {
  const world = new World(1);
  return {
    clock: new SimulatedClock(world, 1.05),
    until: async (promise) => {
      let settled = false;
      void promise.then(() => {
        settled = true;
      });
      await world.run(world.now + 1_000, () => settled);
    },
  };
});

randomCompliance('the real random source', createRandom);
randomCompliance('the seeded random source', () => new SeededRandom(1));

test('the same seed gives the same numbers', () => {
  const [one, same, other] = [new SeededRandom(5), new SeededRandom(5), new SeededRandom(6)];
  expect(one.id(40)).toBe(same.id(40));
  expect(one.id(40)).not.toBe(other.id(40));
});
