/**
 * Owners that are lost for good: a peer is killed and its folder deleted as soon as it has answered a submit, and the
 * workflow has to finish all the same. Meanwhile another peer starts where it was. Owners count as gone after half a
 * second, so that the times are more about what follows.
 *
 *   npm run chaos:owner-deleted -- --times 200      # exits 1 when one did not
 */
import { rm } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { type Percentiles, percentilesOf } from '../../bench/percentiles.ts';
import { fixedPorts } from '../harness/ports.ts';
import { startProcesses } from '../harness/processes.ts';
import { SeededRandom } from '../simulation/world.ts';
import { RoamingClient } from './client.ts';
import { faultOf, makeJobs, submitOf } from './load.ts';
import { RECORDED_FUNCTIONS, RunLedger } from './run-ledger.ts';
import { awaitOutcome, toldNothing } from './told.ts';

const PEERS = 4;
const TAKEOVER_MS = 1_000;
const FINISHED_WITHIN_MS = 20_000;

export interface OwnerDeletedReport {
  seed: number;
  times: number;
  takeover_ms: number;
  /** From the kill to the answer that the workflow has ended. */
  finished_ms: Percentiles | null;
  /** Submits whose answer said that there is no second copy. */
  single_copies: number;
  /** A sentence for each workflow that did not finish, or with a wrong result. */
  broken: string[];
}

export async function deleteOwners(options: {
  times: number;
  seed: number;
  note?: (line: string) => void;
}): Promise<OwnerDeletedReport> {
  const { times, seed, note = () => {} } = options;
  const random = new SeededRandom(seed);
  // Without peer ids: a peer that starts with an empty folder has a new one, at its old address.
  const addresses = (await fixedPorts(PEERS)).map((port) => `/ip4/127.0.0.1/tcp/${port}`);
  const joins = addresses.flatMap((address) => ['--join', address]);
  await using mesh = await startProcesses(PEERS, {
    args: (index) => [
      ...['--listen', addresses[index]!, ...joins, '--takeover-ms', String(TAKEOVER_MS)],
      ...['--functions', RECORDED_FUNCTIONS, '--slots', '2'],
    ],
  });
  const ledger = new RunLedger(mesh.home);
  const finished: number[] = [];
  const broken: string[] = [];
  let single_copies = 0;
  for (const job of makeJobs({ workflows: times, tasks: 0 }, random, ledger.path)) {
    const owner = random.pick(mesh.peers);
    const { durability } = await owner.call(...submitOf(job));
    const killedAt = Date.now();
    await owner.kill('SIGKILL');
    await rm(owner.data_dir, { recursive: true });
    if (Number((durability as { copies: number }).copies) < 2) single_copies++;

    const others = mesh.peers.filter((peer) => peer !== owner);
    await using client = new RoamingClient(others, random);
    const told = toldNothing(job);
    const deadline = performance.now() + FINISHED_WITHIN_MS;
    await Promise.all([awaitOutcome(client, told, deadline), owner.start()]);
    const fault = told.failure ?? faultOf(job, told.outcome!);
    if (fault === undefined) finished.push(told.answered_at! - killedAt);
    else broken.push(`${job.id}, accepted by peer ${owner.index}, ${fault}`);
    await mesh.allConnected();
    note(`${job.id}: ${fault ?? `finished ${Math.round(finished.at(-1)!)} ms after its owner was gone`}`);
  }
  const finished_ms = finished.length > 0 ? percentilesOf(finished) : null;
  return { seed, times, takeover_ms: TAKEOVER_MS, finished_ms, single_copies, broken };
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      times: { type: 'string', default: '200' },
      seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    },
  });
  const report = await deleteOwners({
    times: Number(values.times),
    seed: Number(values.seed),
    note: (line) => console.log(line),
  });
  console.log(JSON.stringify(report, null, 2));
  process.exitCode = report.broken.length === 0 ? 0 : 1;
}

if (import.meta.main) await main();
