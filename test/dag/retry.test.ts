import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { JsonValue } from '../../dag/errors.ts';
import { askedDelayMs, retryDelayMs } from '../../dag/retry.ts';
import { retrySchema } from '../../dag/schema.ts';

const plain = retrySchema.parse({
  max_retries: 9,
  initial_delay_ms: 100,
  backoff_factor: 3,
  max_delay_ms: 2_000,
  jitter: false,
});

describe('retryDelayMs', () => {
  it('grows by the factor up to the cap', () => {
    expect([1, 2, 3, 4, 5].map((failures) => retryDelayMs(plain, failures, 0.5))).toEqual([100, 300, 900, 2000, 2000]);
  });

  it('spreads over the whole delay with jitter', () => {
    const jittered = { ...plain, jitter: true };
    expect(retryDelayMs(jittered, 2, 0)).toBe(0);
    expect(retryDelayMs(jittered, 2, 0.5)).toBe(150);
  });

  it('is at least what was asked for, and never more than the cap', () => {
    expect([0, 500, 5_000].map((asked) => retryDelayMs(plain, 2, 0.5, asked))).toEqual([300, 500, 2_000]);
    expect(retryDelayMs({ ...plain, jitter: true }, 2, 0, 500)).toBe(500);
  });

  it('is asked for by the details of an error', () => {
    const asked = (retry_after_ms: JsonValue) =>
      askedDelayMs({ code: 'HTTP_STATUS', message: '', retryable: true, details: { retry_after_ms } });
    expect([3_000, -1, Number.NaN, Number.POSITIVE_INFINITY, '7', null].map(asked)).toEqual([3_000, 0, 0, 0, 0, 0]);
    expect(askedDelayMs({ code: 'EXIT_CODE', message: '', retryable: true })).toBe(0);
  });

  it('is a whole number between 0 and the cap, whatever the settings', () => {
    const settings = fc.record({
      max_retries: fc.nat(100),
      initial_delay_ms: fc.nat(1_000_000),
      backoff_factor: fc.double({ min: 1, max: 100, noNaN: true }),
      max_delay_ms: fc.nat(1_000_000),
      jitter: fc.boolean(),
    });
    const random = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
    fc.assert(
      fc.property(settings, fc.nat(1_000), random, (retry, failures, chance) => {
        const delay = retryDelayMs(retrySchema.parse(retry), failures, chance);
        expect(Number.isSafeInteger(delay)).toBe(true);
        expect(delay).toBeGreaterThanOrEqual(0);
        expect(delay).toBeLessThanOrEqual(retry.max_delay_ms);
      }),
    );
  });
});
