import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Ranking } from '../../../scheduler/task/ranking.ts';
import { SeededRandom } from '../../simulation/world.ts';

const numbers = (a: number, b: number) => a - b;

test('ranks as a sorted array does', () => {
  fc.assert(
    fc.property(fc.array(fc.record({ add: fc.boolean(), value: fc.nat(200) }), { maxLength: 400 }), (steps) => {
      const ranking = new Ranking<number>(numbers);
      const model = new Set<number>();
      for (const { add, value } of steps) {
        if (add && !model.has(value)) ranking.add(value);
        if (!add) ranking.delete(value);
        if (add) model.add(value);
        else model.delete(value);
      }
      for (let value = -1; value <= 201; value++) {
        expect(ranking.rank(value)).toBe([...model].filter((other) => other < value).length);
      }
    }),
  );
});

test('also over many blocks, filled in any order and emptied again', () => {
  const random = new SeededRandom(3);
  const ranking = new Ranking<number>(numbers);
  const count = 20_000;
  const values = Array.from({ length: count }, (_, value) => ({ value, by: random.next() }))
    .sort((a, b) => a.by - b.by)
    .map(({ value }) => value);
  for (const value of values) ranking.add(value);
  for (let value = 0; value < count; value += 97) expect(ranking.rank(value)).toBe(value);
  for (const value of values) if (value % 10 !== 0) ranking.delete(value);
  for (let value = 0; value < count; value += 10) expect(ranking.rank(value)).toBe(value / 10);
  for (const value of values) ranking.delete(value);
  expect(ranking.rank(count)).toBe(0);
});
