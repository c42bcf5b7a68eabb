import { expect, it } from 'vitest';
import { deleteOwners } from './owner-deleted.ts';

const TIMES = 6;
const SEED = Date.now() % 1_000_000;

it(`${TIMES} workflows finish although the peer that accepted each is killed and its folder deleted`, async ({
  annotate,
}) => {
  const report = await deleteOwners({ times: TIMES, seed: SEED });
  await annotate(JSON.stringify(report));
  expect(report).toMatchObject({ broken: [], single_copies: 0 });
});
