/** A short run of `npm run chaos`: every promise holds while peers are killed, stopped and cut off. */
import { expect, it } from 'vitest';
import { runChaos } from './chaos.ts';
import { FAULTS } from './disturbances.ts';
import { renderReport } from './table.ts';

const SEED = Date.now() % 1_000_000;
const TIMEOUT_MS = 180_000;

it(
  'nothing is lost, committed twice or wrong while peers are killed, stopped and cut off',
  async ({ annotate }) => {
    const report = await runChaos({
      peers: 4,
      workflows: 100,
      tasks: 100,
      everyMs: 4_000,
      durationMs: 25_000,
      seed: SEED,
      faults: FAULTS,
    });
    await annotate(`seed ${SEED}\n${renderReport(report)}`);
    expect(report.broken).toEqual([]);
    expect(report.accepted).toBe(200);
    expect(report.disturbances.length).toBeGreaterThanOrEqual(4);
  },
  TIMEOUT_MS,
);
