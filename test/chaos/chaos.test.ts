/** A short run of `npm run chaos`: every promise holds while peers are killed, stopped and cut off. */
import { expect, it } from 'vitest';
import { disturbancesIn, runChaos } from './chaos.ts';
import { FAULTS } from './disturbances.ts';
import { renderReport } from './table.ts';

const SEED = Date.now() % 1_000_000;
const EVERY_MS = 4_000;
/** Each fault has its turn. */
const DURATION_MS = 25_000;

it('nothing is lost, committed twice or wrong while peers are killed, stopped and cut off', async ({ annotate }) => {
  const report = await runChaos({
    peers: 4,
    workflows: 100,
    tasks: 100,
    everyMs: EVERY_MS,
    durationMs: DURATION_MS,
    seed: SEED,
    faults: FAULTS,
  });
  await annotate(`seed ${SEED}\n${renderReport(report)}`);
  expect(report.broken).toEqual([]);
  expect(report.accepted).toBe(200);
  const faults = report.disturbances.map(({ fault }) => fault);
  expect(faults).toHaveLength(disturbancesIn(DURATION_MS, EVERY_MS));
  expect(new Set(faults)).toEqual(new Set(FAULTS));
});
