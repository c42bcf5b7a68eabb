/** What every Random keeps to. */
import { describe, expect, test } from 'vitest';
import type { Random } from '../../scheduler/ports.ts';

export function randomCompliance(name: string, open: () => Random): void {
  describe(`${name} is a Random`, () => {
    test('numbers fill [0, 1) evenly', () => {
      const random = open();
      const buckets = new Array<number>(16).fill(0);
      for (let round = 0; round < 16_000; round++) {
        const value = random.next();
        expect(value >= 0 && value < 1).toBe(true);
        buckets[Math.floor(value * 16)]! += 1;
      }
      // 1,000 expected; six standard deviations are 184.
      for (const count of buckets) expect(Math.abs(count - 1_000)).toBeLessThan(184);
    });

    test('ids have the wanted length, every digit of base32hex, and do not repeat', () => {
      const random = open();
      const ids = Array.from({ length: 1_000 }, () => random.id(20));
      expect(new Set(ids).size).toBe(1_000);
      expect(ids.every((id) => /^[0-9a-v]{20}$/.test(id))).toBe(true);
      expect(new Set(ids.join('')).size).toBe(32);
    });
  });
}
