import fc from 'fast-check';
import { describe, test } from 'vitest';
import { EDGES } from './edges.ts';

const CASES = 2_000;

describe(`of ${CASES} inputs that nobody wrote with care, each is taken or refused with a code, a place and advice`, () => {
  test.each(EDGES)('$name', async ({ property }) => {
    await fc.assert(property, { numRuns: Math.ceil(CASES / EDGES.length) });
  });
});
