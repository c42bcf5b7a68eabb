/** Five peers and a thousand tasks submitted anywhere: each runs once, and every peer tells the same of it. */
import { expect, it } from 'vitest';
import type { JsonObject } from '../../dag/errors.ts';
import { eventually } from '../harness/eventually.ts';
import { inParallel } from '../harness/in-parallel.ts';
import { type InProcessMesh, type InProcessPeer, startMeshInProcess } from '../harness/in-process.ts';
import { LEDGER_FUNCTIONS, Ledger } from '../harness/ledger.ts';
import { SeededRandom } from '../simulation/world.ts';

const PEERS = 5;
const TASKS = 1_000;
/** Calls under way at once. */
const CALLS_AT_ONCE = 100;
const SEED = Date.now() % 1_000_000;

interface Submit {
  n: number;
  at: InProcessPeer;
  input: JsonObject;
}

async function allEnd(mesh: InProcessMesh, count: number): Promise<void> {
  await eventually(
    `${count} tasks have ended`,
    async () => {
      const stats = await Promise.all(mesh.peers.map((peer) => peer.call('queue_stats', { scope: 'local' })));
      const sum = (field: string) => stats.reduce((total, each) => total + Number(each[field]), 0);
      expect(sum('failed_count') + sum('dead_letter_count') + sum('cancelled_count')).toBe(0);
      return sum('completed_count') === count;
    },
    { intervalMs: 50 },
  );
}

/** The numbers of the starts in the ledger, sorted. */
async function ranOf(ledger: Ledger): Promise<number[]> {
  return (await ledger.starts()).map(({ n }) => n).sort((a, b) => a - b);
}

/** What a peer tells of a task, without what may differ between two questions. */
async function tell(peer: InProcessPeer, task_id: string): Promise<JsonObject> {
  const [status, result] = await Promise.all([
    peer.call('task_status', { task_id }),
    peer.call('task_result', { task_id }),
  ]);
  return { ...status, ...result };
}

it(`${TASKS} tasks submitted at ${PEERS} random peers run once each, and every peer gives the same answer`, async ({
  annotate,
}) => {
  await annotate(`seed ${SEED}`);
  const random = new SeededRandom(SEED);
  await using mesh = await startMeshInProcess(PEERS, {
    config: { functions: [LEDGER_FUNCTIONS], worker: { slots: 2 } },
  });
  const ledger = new Ledger(mesh.root);
  const submits = Array.from({ length: TASKS }, (_, n): Submit => {
    const named = n % 2 === 0 && { task_id: `task-of-a-user-${n}` };
    const input = { ...named, task_type: 'fn:enter', payload: { ledger: ledger.path, n }, priority: random.below(5) };
    return { n, at: random.pick(mesh.peers), input };
  });

  const started = performance.now();
  const ids = await inParallel(submits, CALLS_AT_ONCE, async ({ at, input }) =>
    String((await at.call('task_submit', input))['task_id']),
  );
  const accepted = performance.now();
  await allEnd(mesh, TASKS);
  const ended = performance.now();
  expect(new Set(ids).size).toBe(TASKS);
  expect(await ranOf(ledger)).toEqual(submits.map(({ n }) => n));

  const answers = await inParallel(ids, CALLS_AT_ONCE, (id) => Promise.all(mesh.peers.map((peer) => tell(peer, id))));
  const told = performance.now();
  for (const [n, [first, ...others]] of answers.entries()) {
    expect(first).toMatchObject({ status: 'completed', output: { n }, owner_peer_id: submits[n]!.at.peer_id });
    for (const other of others) expect(other).toEqual(first);
  }
  const ran = mesh.peers.map(({ peer_id }) => answers.filter(([answer]) => answer!['peer_id'] === peer_id).length);
  expect(Math.min(...ran)).toBeGreaterThan(0);
  await annotate(
    `${TASKS} tasks accepted in ${ms(accepted - started)}, all ended after ${ms(ended - started)}, ${2 * PEERS * TASKS} questions answered in ${ms(told - ended)}; ran per peer: ${ran.join(', ')}`,
  );
});

it('an id submitted at two peers at the same time is one task that runs once', async () => {
  await using mesh = await startMeshInProcess(3, { config: { functions: [LEDGER_FUNCTIONS], worker: { slots: 2 } } });
  const ledger = new Ledger(mesh.root);
  const ids = Array.from({ length: 60 }, (_, n) => n);
  const receipts = await inParallel(ids, CALLS_AT_ONCE, (n) => {
    const input = { task_id: `twice-${n}`, task_type: 'fn:enter', payload: { ledger: ledger.path, n } };
    return Promise.all([0, 1].map((shift) => mesh.peers[(n + shift) % 3]!.call('task_submit', input)));
  });
  await allEnd(mesh, ids.length);
  expect(await ranOf(ledger)).toEqual(ids);
  for (const [one, two] of receipts) {
    expect(one!['owner_peer_id']).toBe(two!['owner_peer_id']);
    expect([one!['duplicate'], two!['duplicate']].filter((duplicate) => duplicate === true)).toHaveLength(1);
  }
});

function ms(duration: number): string {
  return `${Math.round(duration)} ms`;
}
