/** A peer is killed at each named point around the durable steps, and comes back: every promise holds. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { CRASH_AT_VARIABLE } from '../../node/runtimes/crash-at.ts';
import { CRASH_POINTS, type CrashPoint } from '../../scheduler/crash-points.ts';
import { inParallel } from '../harness/in-parallel.ts';
import { type PeerProcess, type ProcessMesh, startProcesses } from '../harness/processes.ts';
import { SeededRandom } from '../simulation/world.ts';
import { RoamingClient } from './client.ts';
import { makeJobs } from './load.ts';
import { RECORDED_FUNCTIONS, RunLedger } from './run-ledger.ts';
import { askEverywhere, awaitOutcome, submit, toldNothing } from './told.ts';
import { judge } from './verdict.ts';

const PEERS = 3;
const TAKEOVER_MS = 1_500;
const SEED = Date.now() % 1_000_000;
const PER_POINT = { workflows: 6, tasks: 12 };
const ENDED_WITHIN_MS = 30_000;
const TIMEOUT_MS = 120_000;
/** Points that are reached at a quiet start, too: under load they come about this often. */
const TIMES: Partial<Record<CrashPoint, number>> = {
  'commit:before': 8,
  'commit:after': 8,
  'release:before': 8,
  'release:after': 8,
};

let mesh: ProcessMesh;
let client: RoamingClient;
let ledger: RunLedger;
const random = new SeededRandom(SEED);

beforeAll(async () => {
  const args = ['--functions', RECORDED_FUNCTIONS, '--slots', '2', '--takeover-ms', String(TAKEOVER_MS)];
  mesh = await startProcesses(PEERS, { args });
  client = new RoamingClient(mesh.peers, random);
  ledger = new RunLedger(mesh.home);
});

afterAll(async () => {
  await client[Symbol.asyncDispose]();
  await mesh.close();
});

/** Who may reach the point: of two peers that may follow the feed of the first, one does. */
function armedFor(point: CrashPoint): PeerProcess[] {
  const [first, ...others] = mesh.peers;
  return /^(copy|ack|takeover):/.test(point) ? others : [first!];
}

/** Starts a peer that is to end at the point: at once, or when it gets there. */
async function arm(peer: PeerProcess, point: CrashPoint): Promise<void> {
  await peer.kill('SIGKILL');
  try {
    await peer.start({ [CRASH_AT_VARIABLE]: `${point}:${TIMES[point] ?? 1}` });
  } catch (error) {
    expect((error as Error).message).toContain('it ended with SIGKILL');
  }
}

it.for(CRASH_POINTS.map((point, place) => ({ point, place })))(
  'a peer ends at $point, and nothing is lost',
  { timeout: TIMEOUT_MS },
  async ({ point, place }, { annotate }) => {
    const armed = armedFor(point);
    await Promise.all(armed.map((peer) => arm(peer, point)));
    const first = place * PER_POINT.tasks;
    const all = makeJobs({ ...PER_POINT, first }, random, ledger.path).map(toldNothing);
    const deadline = performance.now() + ENDED_WITHIN_MS;
    const submitted = inParallel(all, all.length, (told) => submit(client, told, deadline));
    if (point.startsWith('takeover:')) {
      await submitted;
      await mesh.peers[0]!.kill('SIGKILL');
    }
    await Promise.race(armed.map(({ ended }) => ended));
    const ended = armed.filter((peer) => !peer.isRunning);
    // Another one that is armed would end at the point later.
    await Promise.all(armed.map((peer) => peer.kill('SIGKILL')));
    await Promise.all(mesh.peers.filter((peer) => !peer.isRunning).map((peer) => peer.start()));
    await submitted;
    await inParallel(all, all.length, (told) => awaitOutcome(client, told, deadline));
    await askEverywhere(mesh.peers, client, all, deadline);

    await annotate(`seed ${SEED}: ended at ${point}: ${ended.map(({ index }) => `peer ${index}`).join(', ')}`);
    const { broken, accepted } = judge(all, await ledger.byKey());
    expect({ broken, accepted }).toEqual({ broken: [], accepted: all.length });
  },
);
