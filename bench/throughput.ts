/**
 * How much work a mesh does, and what a second copy costs: an owner in this process, as a program that embeds flowmesh
 * has it, and two workers in processes of their own. Every commit is fsynced.
 *
 *   npm run bench:throughput -- --rounds 5 --json throughput.json
 *
 * Every action is `echo`, which costs a worker nothing, and the owner has no slots: each task goes to another process
 * and back. A task or workflow has ended when its result is kept on as many disks as `copies` asks for. In each round
 * every number of copies is measured, in another order each time, with its floor: the same rows and messages through
 * bare SQLite and TCP. The tables show medians over the rounds.
 *
 * Options: --tasks N (default 5000), --in-flight N (submits without an answer, default 256), --slots N (of each worker,
 * default 64), --rounds N (default 5), --quick (a little of everything, once), --json FILE.
 */
import { rmSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type Cost, costsOf, medianCosts } from './throughput-costs.ts';
import { ThroughputFloor } from './throughput-floor.ts';
import { COPIES, ThroughputMesh } from './throughput-mesh.ts';
import { measuredRows, type Options, type RoundFigures, renderCosts, renderRows } from './throughput-table.ts';
import { measureFloor, measureOthers, measureTasksRate, summaryOf } from './throughput-work.ts';

const FULL = { single_tasks: 200, chains: 20, fan_outs: 20, diamonds: 100 };
const QUICK = { tasks: 100, in_flight: 16, rounds: 1, single_tasks: 5, chains: 1, fan_outs: 1, diamonds: 5 };
const CALLS_IN_FLIGHT_MOST = 1_000;
const SLOTS_MOST = 1_024;
/** A round that takes this long stands still. */
const ROUND_DEADLINE_MS = 300_000;

interface Figures {
  rounds: Map<number, RoundFigures[]>;
  costs: Map<number, Cost[][]>;
  /** Answers that told of fewer copies than were asked for. */
  short_answers: number;
}

type Round = { figures: RoundFigures; costs: Cost[] };

function measureRound(mesh: ThroughputMesh, floor: ThroughputFloor, options: Options): Promise<Round> {
  const round = Promise.withResolvers<Round>();
  const late = new Error(`a round with copies ${mesh.copies} did not end within ${ROUND_DEADLINE_MS} ms`);
  const timer = setTimeout(() => round.reject(late), ROUND_DEADLINE_MS);
  measureAll(mesh, floor, options).then(round.resolve, round.reject);
  return round.promise.finally(() => clearTimeout(timer));
}

async function measureAll(mesh: ThroughputMesh, floor: ThroughputFloor, options: Options): Promise<Round> {
  const before = await mesh.figures();
  const tasks_rate = [await measureTasksRate(mesh, options)];
  const costs = costsOf(before, await mesh.figures(), options.tasks);
  const others = await measureOthers(mesh, options);
  const bare = await measureFloor(floor, mesh.copies, options);
  return { figures: { mesh: summaryOf({ tasks_rate, ...others }), floor: summaryOf(bare) }, costs };
}

async function measure(options: Options, root: string): Promise<Figures> {
  using floor = await ThroughputFloor.start(root);
  await using meshes = new AsyncDisposableStack();
  const measured: ThroughputMesh[] = [];
  for (const copies of COPIES) {
    measured.push(meshes.use(await ThroughputMesh.start({ copies, slots: options.slots, secured: false }, root)));
  }
  progress('warming up');
  // What runs for the first time is compiled first; a peer that was started long ago has that behind it.
  for (const mesh of measured) await measureRound(mesh, floor, options);
  for (const mesh of measured) mesh.short_answers = 0;
  const rounds = new Map(COPIES.map((copies) => [copies, [] as RoundFigures[]]));
  const costs = new Map(COPIES.map((copies) => [copies, [] as Cost[][]]));
  for (let round = 0; round < options.rounds; round++) {
    for (const mesh of round % 2 === 0 ? measured : measured.toReversed()) {
      progress(`round ${round + 1} of ${options.rounds}: copies ${mesh.copies}`);
      const found = await measureRound(mesh, floor, options);
      rounds.get(mesh.copies)!.push(found.figures);
      costs.get(mesh.copies)!.push(found.costs);
    }
  }
  return { rounds, costs, short_answers: measured.reduce((sum, { short_answers }) => sum + short_answers, 0) };
}

function progress(text: string): void {
  process.stderr.write(`${text}\n`);
}

function readOptions(): { options: Options; json: string | undefined } {
  const { values } = parseArgs({
    options: {
      tasks: { type: 'string', default: '5000' },
      'in-flight': { type: 'string', default: '256' },
      slots: { type: 'string', default: '64' },
      rounds: { type: 'string', default: '5' },
      quick: { type: 'boolean', default: false },
      json: { type: 'string' },
    },
  });
  const options: Options = {
    tasks: wholeNumber('tasks', values.tasks),
    in_flight: wholeNumber('in-flight', values['in-flight'], CALLS_IN_FLIGHT_MOST),
    slots: wholeNumber('slots', values.slots, SLOTS_MOST),
    rounds: wholeNumber('rounds', values.rounds),
    ...FULL,
  };
  return { options: values.quick ? { ...options, ...QUICK } : options, json: values.json };
}

function wholeNumber(name: string, text: string, most = Number.MAX_SAFE_INTEGER): number {
  if (/^\d+$/.test(text) && Number(text) >= 1 && Number(text) <= most) return Number(text);
  process.stderr.write(`--${name} ${text}: must be a whole number, at least 1 and at most ${most}\n`);
  process.exit(2);
}

const { options, json } = readOptions();
const root = await mkdtemp(join(tmpdir(), 'flowmesh-bench-'));
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    // The processes end with the channel to this one.
    rmSync(root, { recursive: true, force: true });
    process.exit(1);
  });
}
try {
  const started_at = new Date().toISOString();
  const figures = await measure(options, root);
  const rows = measuredRows(options, figures.rounds);
  const costs = new Map([...figures.costs].map(([copies, rounds]) => [copies, medianCosts(rounds)]));
  const machine = `Node ${process.version}, ${cpus().length} × ${cpus()[0]?.model ?? 'unknown processor'}`;
  process.stdout.write(`${renderRows(rows)}\n${renderCosts(costs)}\n`);
  process.stdout.write(`Medians of ${options.rounds} rounds; two workers of ${options.slots} slots; ${machine}.\n`);
  if (figures.short_answers > 0) {
    process.stdout.write(`${figures.short_answers} answers told of fewer copies than were asked for.\n`);
  }
  if (json !== undefined) {
    const { short_answers } = figures;
    const report = { started_at, machine, options, rows, costs: Object.fromEntries(costs), short_answers };
    await writeFile(json, `${JSON.stringify(report, null, 2)}\n`);
  }
} finally {
  await rm(root, { recursive: true, force: true });
}
// libp2p lets go of its sockets slowly; nobody waits for what is left.
process.exit();
