import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { TimerQueue } from '../../../scheduler/task/timer-queue.ts';
import { SimulatedClock, World } from '../../simulation/world.ts';

const RUN_MS = 1_000_000;

function open() {
  const world = new World(1);
  const clock = new SimulatedClock(world, 1);
  const told: { key: string; at: number }[] = [];
  const timers: TimerQueue = new TimerQueue(clock, (key) => told.push({ key, at: clock.wall() }));
  const start = clock.wall();
  return { world, clock, timers, told, in: (ms: number) => start + ms, start };
}

describe('the timer queue', () => {
  test('tells of each key once, in order, never before its time', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(60_000), { maxLength: 20 }), async (delays) => {
        const { world, timers, told, start } = open();
        for (const [index, delay] of delays.entries()) timers.set(`k${index}`, start + delay);
        await world.run(world.now + RUN_MS);
        const expected = delays.map((delay, index) => ({ key: `k${index}`, delay })).sort((a, b) => a.delay - b.delay);
        expect(told.map(({ key }) => key).sort()).toEqual(expected.map(({ key }) => key).sort());
        expect(told.map(({ at }) => at - start)).toEqual(told.map(({ at }) => at - start).sort((a, b) => a - b));
        for (const { key, at } of told) {
          const wanted = delays[Number(key.slice(1))]!;
          expect(at - start).toBeGreaterThanOrEqual(wanted);
          expect(at - start).toBeLessThanOrEqual(wanted + 1);
        }
      }),
      { numRuns: 30 },
    );
  });

  test('setting a key again replaces its time, also with an earlier one', async () => {
    const { world, timers, told, in: at, start } = open();
    timers.set('later', at(100));
    timers.set('later', at(5_000));
    timers.set('sooner', at(5_000));
    timers.set('sooner', at(100));
    await world.run(RUN_MS);
    expect(told.map(({ key, at }) => [key, at - start])).toEqual([
      ['sooner', 100],
      ['later', 5_000],
    ]);
  });

  test('what is deleted or cleared does not come', async () => {
    const { world, timers, told, in: at } = open();
    timers.set('a', at(100));
    timers.set('b', at(200));
    timers.set('c', at(300));
    timers.delete('a');
    await world.run(world.now + 250);
    timers.clear();
    await world.run(RUN_MS);
    expect(told.map(({ key }) => key)).toEqual(['b']);
  });

  test('a key may be set again while it is told', async () => {
    const { world, clock } = open();
    const told: number[] = [];
    const timers: TimerQueue = new TimerQueue(clock, (key) => {
      told.push(clock.wall());
      if (told.length < 3) timers.set(key, clock.wall() + 1_000);
    });
    timers.set('again', clock.wall());
    await world.run(RUN_MS);
    expect(told).toHaveLength(3);
  });

  test('a time in the past comes at once', async () => {
    const { world, timers, told, in: at } = open();
    timers.set('a', at(-60_000));
    await world.run(world.now + 1);
    expect(told).toHaveLength(1);
  });

  test('a crowd that is due together does not come in one event', async () => {
    const { world, timers, told, in: at } = open();
    const crowd = 5_000;
    for (let index = 0; index < crowd; index++) timers.set(`k${index}`, at(100));
    let most = 0;
    while (told.length < crowd) {
      const before = told.length;
      const steps = world.steps;
      await world.run(RUN_MS, () => world.steps > steps);
      most = Math.max(most, told.length - before);
    }
    expect(most).toBeLessThanOrEqual(1_000);
    expect(told).toHaveLength(crowd);
  });

  test('a wall clock that jumps ahead is noticed within seconds', async () => {
    const { world, clock } = open();
    let ahead = 0;
    const jumping = {
      now: () => clock.now(),
      wall: () => clock.wall() + ahead,
      after: (ms: number, work: () => void) => clock.after(ms, work),
      defer: (work: () => void) => clock.defer(work),
    };
    const told: number[] = [];
    const timers = new TimerQueue(jumping, () => told.push(world.now));
    timers.set('a', clock.wall() + 3_600_000);
    await world.run(world.now + 1_000);
    ahead = 3_600_000;
    await world.run(world.now + 11_000);
    expect(told).toHaveLength(1);
  });
});
