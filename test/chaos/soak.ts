/**
 * Does memory grow? Three peers under a steady load, looked at every few seconds:
 *
 *   npm run soak -- --minutes 20        # exits 1 when memory grows by more than USED_GROWTH_MAX_MB_PER_HOUR
 *
 * What counts is what JavaScript still uses after a garbage collection, by peer, as a straight line through the second
 * half of the run; the first one fills caches and lets the compiler settle. RSS is shown beside it: it has what
 * SQLite and libp2p's native parts use, too, but also what allocators keep for later. Options: --rate 4 (diamonds
 * a second, and as many tasks), --json FILE.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { temporaryFolder } from '../e2e/temporary-folder.ts';
import { startProcesses } from '../harness/processes.ts';
import { SeededRandom } from '../simulation/world.ts';
import { RoamingClient } from './client.ts';
import { type MemoryOfPeer, memoryOf } from './heap-probe.ts';
import { faultOf, type Job, makeJobs } from './load.ts';
import { RECORDED_FUNCTIONS } from './run-ledger.ts';
import { awaitOutcome, submit, toldNothing } from './told.ts';

const PEERS = 3;
const SAMPLE_INTERVAL_MS = 10_000;
const ENDED_WITHIN_MS = 30_000;
const HEAP_PROBE = join(import.meta.dirname, 'heap-probe.ts');
const USED_GROWTH_MAX_MB_PER_HOUR = 15;
const MB = 2 ** 20;
const SECOND_MS = 1_000;
const HOUR_MS = 3_600 * SECOND_MS;

interface Sample extends MemoryOfPeer {
  /** Since the first one. */
  at_ms: number;
}

export interface SoakReport {
  jobs: number;
  /** Jobs that did not end in time or gave a wrong result. */
  broken: string[];
  peers: {
    /** Megabytes per hour in the second half, of all threads together, by thread, and of the process. */
    growth: { used: number; by_thread: Record<string, number>; rss: number };
    /** Megabytes at the end. */
    used: number;
    rss: number;
    samples: Sample[];
  }[];
}

export async function soak(options: {
  durationMs: number;
  /** Diamonds a second, and as many tasks. */
  rate: number;
  /** More arguments of the peers. */
  args?: string[];
  note?: (line: string) => void;
}): Promise<SoakReport> {
  const { durationMs, rate, args = [], note = () => {} } = options;
  await using sockets = await temporaryFolder();
  await using mesh = await startProcesses(PEERS, {
    args: ['--functions', RECORDED_FUNCTIONS, '--slots', '4', ...args],
    env: { HEAP_SOCKETS: sockets.path, NODE_OPTIONS: `--expose-gc --import=${HEAP_PROBE}` },
  });
  await using client = new RoamingClient(mesh.peers, new SeededRandom(1));
  const start = performance.now();
  const load = keepBusy(client, { rate, durationMs });
  const samples = mesh.peers.map((): Sample[] => []);
  while (performance.now() - start < durationMs) {
    await delay(SAMPLE_INTERVAL_MS);
    const at_ms = performance.now() - start;
    await Promise.all(
      mesh.peers.map(async ({ pid, index }) => samples[index]!.push({ at_ms, ...(await memoryOf(sockets.path, pid)) })),
    );
    note(`${Math.round(at_ms / 1_000)} s: ${samples.map((of) => shownSample(of.at(-1)!)).join(', ')}`);
  }
  const { jobs, broken } = await load;
  return { jobs, broken, peers: samples.map(growthOf) };
}

/** Submits diamonds and tasks, and waits for each. */
async function keepBusy(client: RoamingClient, { rate, durationMs }: { rate: number; durationMs: number }) {
  const random = new SeededRandom(2);
  const end = performance.now() + durationMs;
  const broken: string[] = [];
  const follow = async (job: Job): Promise<void> => {
    await delay(random.below(SECOND_MS));
    const told = toldNothing(job);
    const deadline = performance.now() + ENDED_WITHIN_MS;
    if (await submit(client, told, () => deadline)) await awaitOutcome(client, told, deadline);
    const fault = told.failure ?? faultOf(job, told.outcome!);
    if (fault !== undefined) broken.push(`${job.id} ${fault}`);
  };
  const underWay = new Set<Promise<void>>();
  let first = 0;
  for (; performance.now() < end; first += rate) {
    // Nobody reads what the handlers write down.
    for (const job of makeJobs({ workflows: rate, tasks: rate, first }, random, '/dev/null')) {
      const followed = follow(job).finally(() => underWay.delete(followed));
      underWay.add(followed);
    }
    await delay(SECOND_MS);
  }
  await Promise.all(underWay);
  return { jobs: 2 * first, broken };
}

function growthOf(samples: Sample[]): SoakReport['peers'][number] {
  const half = samples.slice(Math.floor(samples.length / 2));
  const last = half.at(-1)!;
  const perHour = (of: (sample: Sample) => number) =>
    (slopeOf(half.map((sample) => [sample.at_ms, of(sample)])) * HOUR_MS) / MB;
  const threads = Object.keys(last.used_bytes).map((name): [string, number] => [
    name,
    perHour(({ used_bytes }) => used_bytes[name] ?? 0),
  ]);
  return {
    growth: {
      used: perHour(usedBytes),
      by_thread: Object.fromEntries(threads),
      rss: perHour(({ rss_bytes }) => rss_bytes),
    },
    used: usedBytes(last) / MB,
    rss: last.rss_bytes / MB,
    samples,
  };
}

/** Of the straight line with the least squares. */
function slopeOf(points: readonly (readonly [x: number, y: number])[]): number {
  const mean = (of: 0 | 1) => points.reduce((sum, point) => sum + point[of], 0) / points.length;
  const [x0, y0] = [mean(0), mean(1)];
  const products = points.reduce((sum, [x, y]) => sum + (x - x0) * (y - y0), 0);
  return products / points.reduce((sum, [x]) => sum + (x - x0) ** 2, 0);
}

function usedBytes({ used_bytes }: Sample): number {
  return Object.values(used_bytes).reduce((sum, bytes) => sum + bytes, 0);
}

function shownSample(sample: Sample): string {
  return `${(usedBytes(sample) / MB).toFixed(1)} MB used, RSS ${(sample.rss_bytes / MB).toFixed(0)} MB`;
}

function renderSoak({ jobs, broken, peers }: SoakReport): string {
  const table = new Table({
    head: ['', 'used', 'RSS', 'used, growth', 'by thread', 'RSS, growth'],
    style: { head: [] },
  });
  const perHour = (megabytes: number) => `${megabytes >= 0 ? '+' : '−'}${Math.abs(megabytes).toFixed(1)} MB/h`;
  for (const [index, { growth, used, rss }] of peers.entries()) {
    const threads = Object.entries(growth.by_thread).map(([name, value]) => `${name} ${perHour(value)}`);
    table.push([
      `peer ${index}`,
      `${used.toFixed(1)} MB`,
      `${rss.toFixed(0)} MB`,
      perHour(growth.used),
      threads.join('\n'),
      perHour(growth.rss),
    ]);
  }
  return [table.toString(), `${jobs} jobs, ${broken.length} without their right result`, ...broken].join('\n');
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      minutes: { type: 'string', default: '20' },
      rate: { type: 'string', default: '4' },
      json: { type: 'string' },
    },
  });
  const report = await soak({
    durationMs: Number(values.minutes) * 60 * SECOND_MS,
    rate: Number(values.rate),
    note: (line) => console.log(line),
  });
  if (values.json !== undefined) await writeFile(values.json, `${JSON.stringify(report, null, 2)}\n`);
  console.log(renderSoak(report));
  const grows = report.peers.some(({ growth }) => growth.used > USED_GROWTH_MAX_MB_PER_HOUR);
  if (grows) console.log(`Memory grows by more than ${USED_GROWTH_MAX_MB_PER_HOUR} MB/h.`);
  process.exitCode = grows || report.broken.length > 0 ? 1 : 0;
}

if (import.meta.main) await main();
