/** What the checks of messages take, where a loop stands in for a schema. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { LEASE_TOKENS_MAX } from '../../scheduler/limits.ts';
import { beatSchema, leaseTokenSchema, leaseTokensSchema } from '../../scheduler/messages.ts';

const token = { uid: 'u', feed_id: 'f', epoch: 1, attempt: 0 };

describe('many lease tokens', () => {
  it('are checked as each of them would be', () => {
    const field = fc.oneof(
      fc.string(),
      fc.string({ minLength: 510, maxLength: 514 }),
      fc.nat(),
      fc.constantFrom(-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53, null, undefined, true, [], {}),
    );
    const almost = fc
      .record({ uid: field, feed_id: field, epoch: field, attempt: field, more: field }, { requiredKeys: [] })
      .map((some) => ({ ...token, ...some }));
    const each = z.array(leaseTokenSchema);
    fc.assert(
      fc.property(fc.array(fc.oneof(almost, fc.constant(token), fc.anything()), { maxLength: 3 }), (tokens) => {
        expect(leaseTokensSchema.safeParse(tokens).success).toBe(each.safeParse(tokens).success);
      }),
      { numRuns: 2_000 },
    );
  });

  it('are a list, and no longer than a beat may name', () => {
    for (const value of [undefined, null, {}, 'u', 1]) expect(leaseTokensSchema.safeParse(value).success).toBe(false);
    expect(leaseTokensSchema.safeParse(Array(LEASE_TOKENS_MAX).fill(token)).success).toBe(true);
    expect(leaseTokensSchema.safeParse(Array(LEASE_TOKENS_MAX + 1).fill(token)).success).toBe(false);
    expect(beatSchema.shape.holding.safeParse([{ uid: 'u' }]).success).toBe(false);
  });
});
