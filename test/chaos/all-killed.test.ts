/** Both peers that have the copies are killed at the same moment, in the middle of work, and come back. */
import { expect, it } from 'vitest';
import { eventually } from '../harness/eventually.ts';
import { inParallel } from '../harness/in-parallel.ts';
import { HANG_MS } from '../harness/patience.ts';
import { startProcesses } from '../harness/processes.ts';
import { SeededRandom } from '../simulation/world.ts';
import { RoamingClient } from './client.ts';
import { makeJobs } from './load.ts';
import { RECORDED_FUNCTIONS, RunLedger } from './run-ledger.ts';
import { askEverywhere, awaitOutcome, findSuperseded, submit, toldNothing } from './told.ts';
import { judge } from './verdict.ts';

const SEED = Date.now() % 1_000_000;
const SUBMITS_AT_ONCE = 16;
/** Steps and tasks that have started when the peers are killed: some of the jobs have ended, some wait, some run. */
const STARTED_BEFORE = 60;

it('nothing is lost when both peers are killed at the same moment in the middle of work', async ({ annotate }) => {
  const random = new SeededRandom(SEED);
  await using mesh = await startProcesses(2, { args: ['--functions', RECORDED_FUNCTIONS, '--slots', '2'] });
  await using client = new RoamingClient(mesh.peers, random);
  const ledger = new RunLedger(mesh.home);
  const all = makeJobs({ workflows: 40, tasks: 40 }, random, ledger.path).map(toldNothing);
  const deadline = performance.now() + HANG_MS;
  await inParallel(all, SUBMITS_AT_ONCE, (told) => submit(client, told, () => deadline));
  await eventually('the work is in full swing', async () => (await ledger.byKey()).size >= STARTED_BEFORE);
  await Promise.all(mesh.peers.map((peer) => peer.kill('SIGKILL')));
  const started = (await ledger.byKey()).size;
  await Promise.all(mesh.peers.map((peer) => peer.start()));

  await inParallel(all, all.length, (told) => awaitOutcome(client, told, deadline));
  await askEverywhere(mesh.peers, client, all, deadline);
  const runs = await ledger.byKey();
  await findSuperseded(client, all, runs);
  const verdict = judge(all, runs);
  const steps = all.flatMap(({ job }) => job.keys).length;
  await annotate(`seed ${SEED}: killed after ${started} of ${steps} steps had started; ${verdict.run_twice} ran again`);
  expect(started).toBeLessThan(steps);
  expect(verdict).toMatchObject({ broken: [], accepted: all.length });
});
