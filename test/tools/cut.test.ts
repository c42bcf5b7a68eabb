import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { JsonValue } from '../../dag/errors.ts';
import { bytesUpTo, cutJson } from '../../tools/cut.ts';

const bytesOf = (value: JsonValue) => Buffer.byteLength(JSON.stringify(value));
/** With texts and lists of the kinds that make answers large. */
const json = fc.letrec<{ value: JsonValue }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 5 },
    fc.string({ unit: 'grapheme', maxLength: 300 }),
    fc.string({ unit: 'binary', maxLength: 300 }),
    fc.constantFrom<JsonValue[]>(null, true, 1e300, -0.1, 'x'.repeat(2_000), '\n'.repeat(500)),
    fc.array(tie('value'), { maxLength: 40 }),
    fc.dictionary(
      fc.string({ maxLength: 20 }).filter((key) => key !== '__proto__'),
      tie('value'),
      { maxKeys: 30 },
    ),
  ) as fc.Arbitrary<JsonValue>,
})).value;

/** Whether `part` is `whole` with texts, lists and objects cut short. */
function isPartOf(part: JsonValue, whole: JsonValue): boolean {
  if (part === null || part === whole) return true;
  if (typeof part === 'string') return typeof whole === 'string' && whole.startsWith(part.replace(/…$/, ''));
  if (typeof part !== 'object' || typeof whole !== 'object' || whole === null) return false;
  if (Array.isArray(part) !== Array.isArray(whole)) return false;
  const of = whole as Record<string, JsonValue>;
  return Object.entries(part).every(([key, each]) => key in of && isPartOf(each, of[key]!));
}

describe('a cut value', () => {
  it('fits, is of the same shape, and says when it is not the whole', () => {
    fc.assert(
      fc.property(json, fc.integer({ min: 16, max: 3_000 }), (value, bytesMax) => {
        const { value: part, cuts } = cutJson(value, bytesMax);
        expect(bytesOf(part)).toBeLessThanOrEqual(bytesMax);
        if (bytesOf(value) <= bytesMax) expect(part).toBe(value);
        else expect(isPartOf(part, value)).toBe(true);
        expect(cuts.length > 0).toBe(bytesOf(value) > bytesMax);
      }),
      { numRuns: 500 },
    );
  });

  it('keeps what is small beside what is large, and names the places', () => {
    const output = {
      exit_code: 0,
      stdout: 'line\n'.repeat(50_000),
      stderr: '',
      lines: Array.from({ length: 500 }, (_, n) => n),
    };
    const { value, cuts } = cutJson(output, 4_000, 'result');
    expect(value).toMatchObject({ exit_code: 0, stderr: '', lines: output.lines });
    expect(cuts).toEqual([{ at: 'result.stdout', shown: expect.any(Number), total: 250_000 }]);
    expect(cutJson(output.lines, 100).cuts).toEqual([{ at: '', shown: expect.any(Number), total: 500 }]);
  });

  it('costs what is kept of it, however deep and large it is', () => {
    let deep: JsonValue = 'x'.repeat(4_000_000);
    for (let level = 0; level < 100; level++) deep = { deep, beside: [1, 2, 3] };
    const started = performance.now();
    const { value, cuts } = cutJson(deep, 60_000);
    expect(bytesOf(value)).toBeLessThanOrEqual(60_000);
    expect(cuts.length).toBeGreaterThan(0);
    // Milliseconds; measured in seconds it would be walked once a level.
    expect(performance.now() - started).toBeLessThan(5_000);
  });
});

it('bytes are counted as JSON has them, and no further than asked', () => {
  fc.assert(
    fc.property(json, fc.integer({ min: 0, max: 3_000 }), (value, max) => {
      const counted = bytesUpTo(value, max);
      if (bytesOf(value) <= max) expect(counted).toBe(bytesOf(value));
      else expect(counted).toBeGreaterThan(max);
    }),
    { numRuns: 500 },
  );
});
