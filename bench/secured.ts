/**
 * What it costs to be secured: an open mesh and a secured one, measured in turn in one run, with the work of
 * `throughput.ts` at two copies; and the single operations that are new.
 *
 *   npm run bench:secured -- --rounds 5
 *
 * Options: --tasks N (a round, default 3000), --rounds N (default 5), --json FILE.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { isSignedBy, newSigningKey } from '../node/membership/keys.ts';
import { median } from './percentiles.ts';
import { nowNs } from './probes.ts';
import { ThroughputMesh } from './throughput-mesh.ts';
import { measureOthers, measureTasksRate } from './throughput-work.ts';

const COPIES = 2;
const SLOTS = 64;
const AMOUNTS = { in_flight: 256, single_tasks: 100, chains: 5, fan_outs: 5, diamonds: 50 };
const SIGNED_BYTES = 300;
const OPERATIONS = 2_000;
const NS_PER_US = 1_000;
/** A larger figure is better. */
const RATES = new Set(['tasks_rate', 'diamonds_rate']);

const { values } = parseArgs({
  options: {
    tasks: { type: 'string', default: '3000' },
    rounds: { type: 'string', default: '5' },
    json: { type: 'string' },
  },
});
const tasks = Number(values.tasks);
const rounds = Number(values.rounds);

type Figures = Record<string, number>;

async function measureRound(mesh: ThroughputMesh): Promise<Figures> {
  const tasks_rate = await measureTasksRate(mesh, { ...AMOUNTS, tasks });
  const others = Object.entries(await measureOthers(mesh, { ...AMOUNTS, tasks }));
  return { tasks_rate, ...Object.fromEntries(others.map(([name, samples]) => [name, median(samples)])) };
}

/** Microseconds of one operation. */
function each(operation: () => unknown): number {
  const started = nowNs();
  for (let count = 0; count < OPERATIONS; count++) operation();
  return Number(nowNs() - started) / OPERATIONS / NS_PER_US;
}

const root = await mkdtemp(join(tmpdir(), 'flowmesh-bench-'));
try {
  const open = await ThroughputMesh.start({ copies: COPIES, slots: SLOTS, secured: false }, root);
  const secured = await ThroughputMesh.start({ copies: COPIES, slots: SLOTS, secured: true }, root);
  // What runs for the first time is compiled first.
  for (const mesh of [open, secured]) await measureRound(mesh);
  const found: { open: Figures; secured: Figures }[] = [];
  for (let round = 0; round < rounds; round++) {
    const order = round % 2 === 0 ? [open, secured] : [secured, open];
    const figures = new Map<ThroughputMesh, Figures>();
    for (const mesh of order) figures.set(mesh, await measureRound(mesh));
    found.push({ open: figures.get(open)!, secured: figures.get(secured)! });
  }
  const table = new Table({ head: ['median', 'open', 'secured', 'secured to open'], style: { head: [], border: [] } });
  const rows = Object.keys(found[0]!.open).map((name) => {
    const of = (which: 'open' | 'secured'): number => median(found.map((round) => round[which][name]!));
    const ratio = median(found.map((round) => round.secured[name]! / round.open[name]!));
    table.push([
      `${name} (${RATES.has(name) ? 'per s' : 'ms'})`,
      of('open').toFixed(2),
      of('secured').toFixed(2),
      `${ratio.toFixed(2)} ×`,
    ]);
    return { name, open: of('open'), secured: of('secured'), ratio };
  });
  const key = newSigningKey();
  const bytes = Buffer.alloc(SIGNED_BYTES, 1);
  const signature = key.sign(bytes);
  const sign_us = each(() => key.sign(bytes));
  const verify_us = each(() => isSignedBy(key.publicKey, bytes, signature));
  process.stdout.write(
    `${table.toString()}\nsign ${sign_us.toFixed(0)} µs, verify ${verify_us.toFixed(0)} µs; medians of ${rounds} rounds, round by round.\n`,
  );
  if (values.json !== undefined)
    await writeFile(values.json, `${JSON.stringify({ rows, sign_us, verify_us }, null, 2)}\n`);
  await Promise.all([open[Symbol.asyncDispose](), secured[Symbol.asyncDispose]()]);
} finally {
  await rm(root, { recursive: true, force: true });
}
// libp2p lets go of its sockets slowly; nobody waits for what is left.
process.exit();
