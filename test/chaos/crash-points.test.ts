/**
 * A peer is killed at one named point around the durable steps after the other, in one mesh that goes on working, and
 * comes back: every promise holds.
 */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { CRASH_AT_VARIABLE } from '../../node/runtimes/crash-at.ts';
import { CRASH_POINTS, type CrashPoint } from '../../scheduler/crash-points.ts';
import { inParallel } from '../harness/in-parallel.ts';
import { HANG_MS } from '../harness/patience.ts';
import { type PeerProcess, type ProcessMesh, startProcesses } from '../harness/processes.ts';
import { SeededRandom } from '../simulation/world.ts';
import { RoamingClient } from './client.ts';
import { makeJobs } from './load.ts';
import { RECORDED_FUNCTIONS, RunLedger } from './run-ledger.ts';
import { askEverywhere, awaitOutcome, findSuperseded, submit, type Told, toldNothing } from './told.ts';
import { judge } from './verdict.ts';

const PEERS = 3;
const TAKEOVER_MS = 1_500;
const SEED = Date.now() % 1_000_000;
/** Jobs at once while a peer is to end at a point, again and again until it has. */
const BATCH = { workflows: 3, tasks: 6 };
const BATCHES_PER_POINT_MAX = 20;
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
let batches = 0;
const random = new SeededRandom(SEED);
const all: Told[] = [];
const submits: Promise<unknown>[] = [];
/** By `performance.now()`. Peers go down again and again: only when they no longer do is a submit that goes on lost. */
let submitsEndAt = Number.POSITIVE_INFINITY;

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

/** Who may reach the point. */
function armedFor(point: CrashPoint): PeerProcess[] {
  const [first, ...others] = mesh.peers;
  // Of two peers that may follow the feed of the first, one does.
  if (/^(copy|ack|takeover):/.test(point)) return others;
  // A peer that starts alone may find that its feed has gone to another one meanwhile.
  if (point === 'start:after') return mesh.peers;
  return [first!];
}

/** Starts a peer that is to end at the point: at once, or when it gets there. */
async function arm(peer: PeerProcess, point: CrashPoint): Promise<void> {
  try {
    await peer.start({ [CRASH_AT_VARIABLE]: `${point}:${TIMES[point] ?? 1}` });
  } catch (error) {
    expect((error as Error).message).toContain('it ended with SIGKILL');
  }
}

/** Submits one more batch of jobs; resolves when all are accepted, which may take until a peer is back. */
function submitBatch(): Promise<unknown> {
  const batch = makeJobs({ ...BATCH, first: batches++ * BATCH.tasks }, random, ledger.path).map(toldNothing);
  all.push(...batch);
  const accepted = inParallel(batch, batch.length, (told) => submit(client, told, () => submitsEndAt));
  submits.push(accepted);
  return accepted;
}

/** The first peer is gone, with work of its own, while the others wait for it. */
async function provokeTakeover(isWanted: () => boolean): Promise<void> {
  await mesh.allConnected();
  if (isWanted()) await submitBatch();
  if (isWanted()) await mesh.peers[0]!.kill('SIGKILL');
}

it.for(CRASH_POINTS)('a peer ends at %s', async (point, { annotate }) => {
  const armed = armedFor(point);
  // Those that are armed for the point before would end there later.
  await Promise.all(armed.map((peer) => peer.kill('SIGKILL')));
  const down = mesh.peers.filter((peer) => !peer.isRunning);
  await Promise.all(down.map((peer) => (armed.includes(peer) ? arm(peer, point) : peer.start())));
  let isWaiting = true;
  const ended = Promise.race(armed.map((peer) => peer.ended)).then(() => {
    isWaiting = false;
  });
  if (point.startsWith('takeover:')) {
    // Once the point was reached, its provocation may not go on beside the next ones.
    const provoked = provokeTakeover(() => isWaiting);
    provoked.catch(() => {}); // One that has ended already, at a takeover of its start, is what was wanted.
    await Promise.race([ended, provoked]);
  }
  for (let count = 0; count < BATCHES_PER_POINT_MAX && isWaiting; count++) {
    await Promise.race([ended, submitBatch()]);
  }
  await ended;
  const [first] = armed.filter((peer) => !peer.isRunning);
  await annotate(`seed ${SEED}: peer ${first!.index} ended at ${point}`);
  expect(first!.exitCode).toBeNull(); // It was killed.
});

it('nothing of all that is lost', async ({ annotate, onTestFailed }) => {
  onTestFailed(() => console.error(mesh.peers.map((peer) => peer.report).join('\n')));
  await Promise.all(mesh.peers.map((peer) => peer.kill('SIGKILL')));
  await Promise.all(mesh.peers.map((peer) => peer.start()));
  const deadline = performance.now() + HANG_MS;
  submitsEndAt = deadline;
  await Promise.all(submits);
  await inParallel(all, all.length, (told) => awaitOutcome(client, told, deadline));
  await askEverywhere(mesh.peers, client, all, deadline);
  const runs = await ledger.byKey();
  await findSuperseded(client, all, runs);
  const { broken, accepted, run_twice, superseded } = judge(all, runs);
  await annotate(`seed ${SEED}: ${accepted} jobs accepted, ${run_twice} steps ran again, ${superseded} superseded`);
  expect({ broken, accepted }).toEqual({ broken: [], accepted: all.length });
});
