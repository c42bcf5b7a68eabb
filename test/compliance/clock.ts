/** What every Clock keeps to. `until` lets the clock's time pass until a promise settles. */
import { describe, expect, test } from 'vitest';
import type { Clock } from '../../scheduler/ports.ts';

export interface ClockWorld {
  clock: Clock;
  until(promise: Promise<unknown>): Promise<void>;
}

export function clockCompliance(name: string, open: () => ClockWorld): void {
  describe(`${name} is a Clock`, () => {
    const passed = ({ clock, until }: ClockWorld, ms: number) =>
      until(new Promise<void>((resolve) => clock.after(ms, resolve)));

    test('now never goes back, and a callback never runs before its time', async () => {
      const world = open();
      for (const delay of [0, 1, 2.5, 7]) {
        const start = world.clock.now();
        await passed(world, delay);
        // A timer may be one tick of the machine's own counting early.
        expect(world.clock.now() - start).toBeGreaterThanOrEqual(delay - 1);
      }
    });

    test('callbacks run once, the earlier due first, whatever the order they were asked for in', async () => {
      const world = open();
      const order: string[] = [];
      world.clock.after(20, () => order.push('late'));
      world.clock.after(2, () => order.push('early'));
      await passed(world, 40);
      expect(order).toEqual(['early', 'late']);
    });

    test('a cancelled callback does not run, and cancelling again or afterwards is harmless', async () => {
      const world = open();
      const order: string[] = [];
      const cancel = world.clock.after(1, () => order.push('cancelled'));
      const done = world.clock.after(2, () => order.push('done'));
      cancel();
      cancel();
      await passed(world, 10);
      done();
      expect(order).toEqual(['done']);
    });

    test('what is deferred runs after the reactions of promises that are settled already, in order', async () => {
      const world = open();
      const order: string[] = [];
      const deferred = new Promise<void>((resolve) => {
        world.clock.defer(() => order.push('first'));
        world.clock.defer(() => {
          order.push('second');
          resolve();
        });
      });
      void Promise.resolve()
        .then(() => order.push('reaction'))
        .then(() => order.push('reaction to it'));
      await world.until(deferred);
      expect(order).toEqual(['reaction', 'reaction to it', 'first', 'second']);
    });

    test('wall is whole milliseconds since 1970, and moves with now', async () => {
      const world = open();
      const [wall, now] = [world.clock.wall(), world.clock.now()];
      expect(Number.isInteger(wall)).toBe(true);
      expect(wall).toBeGreaterThan(Date.UTC(2020));
      await passed(world, 30);
      const difference = world.clock.wall() - wall - (world.clock.now() - now);
      // A simulated clock may run some percent fast or slow against the wall.
      expect(Math.abs(difference)).toBeLessThan(10);
    });
  });
}
