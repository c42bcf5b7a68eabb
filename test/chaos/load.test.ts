import { expect, test } from 'vitest';
import { outcomeOf } from './load.ts';

test('an outcome is the same as it was told, and as it is shown once it is superseded', () => {
  const end = { value: 1, run: 'a' };
  const told = outcomeOf({ status: 'completed', result: end, error: null });
  expect(outcomeOf({ status: 'completed', output: end, error: null })).toBe(told);
  expect(outcomeOf({ status: 'completed', output: { ...end, run: 'b' }, error: null })).not.toBe(told);
  expect(outcomeOf({ status: 'running', result: null })).toBeUndefined();
});
