/**
 * How long things take between two peers, each a process of its own on this machine, with the mesh on an event loop
 * of its own and with all on one (`--runtime inline`), idle and with every serve loop kept busy:
 *
 *   npm run bench:p2p-latency -- --iterations 200 --size 200 --json latency.json
 *
 * In each round every system is measured under every condition, in another order each time; the table shows medians
 * over the rounds. A round ends with peers started as a user starts them: their time to `/ready` and idle memory.
 *
 * Options: --iterations N (calls of one kind in a round, default 200), --size BYTES (of requests and payloads,
 * default 200), --rounds N (default 5), --idle-ms MS (before memory is read, default 3000), --json FILE.
 */
import { rmSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { measureColdStart } from './cold-start.ts';
import { CELLS, type Cell, FLOOR_ROW, measuredRows, Rounds, renderTable, rowSpecs } from './latency-table.ts';
import { measureMcpHttp } from './mcp-http.ts';
import { PeerPair } from './peer-pair.ts';
import { percentilesOf } from './percentiles.ts';
import type { Probe } from './probes.ts';
import { TcpFloor } from './tcp-floor.ts';

const IN_FLIGHT = 32;
/** Calls in flight take a fraction of the time each: as many more of them. */
const MCP_WARM_UP_CALLS = 64;
const RUNTIMES = ['dedicated', 'inline'] as const;

interface Options {
  iterations: number;
  size: number;
  rounds: number;
  idle_ms: number;
  json: string | undefined;
}

const PROBES: { row: string; kind: Probe['kind']; loop: Probe['loop'] }[] = [
  { row: 'request', kind: 'request', loop: 'mesh' },
  { row: 'read_tool_mesh', kind: 'read_tool', loop: 'mesh' },
  { row: 'write_tool_mesh', kind: 'write_tool', loop: 'mesh' },
  { row: 'step_mesh', kind: 'step', loop: 'mesh' },
  { row: 'read_tool_serve', kind: 'read_tool', loop: 'serve' },
  { row: 'write_tool_serve', kind: 'write_tool', loop: 'serve' },
  { row: 'step_serve', kind: 'step', loop: 'serve' },
];

/** Measures one system under one condition. */
async function measureCell(
  cell: Cell,
  pair: PeerPair,
  floor: TcpFloor,
  { iterations, size }: Options,
  rounds: Rounds,
): Promise<void> {
  const busy = cell.condition === 'busy';
  if (busy) await pair.startLoad();
  rounds.add(FLOOR_ROW, cell, percentilesOf(await floor.measure(iterations)));
  const common = { iterations, size_bytes: size, peer_id: pair.to.peer_id, task_id: pair.otherTask };
  for (const { row, kind, loop } of PROBES) {
    rounds.add(row, cell, percentilesOf(await pair.from.probe({ ...common, kind, loop })));
    // What was submitted only to be accepted would otherwise lie in the queue of all that follows.
    if (kind === 'write_tool') await pair.to.call('queue_clear', { confirm: true, status_filter: 'queued' });
  }
  const http = await measureMcpHttp({
    url: pair.from.url,
    tool: 'task_status',
    input: { task_id: pair.ownTask },
    iterations,
    in_flight: IN_FLIGHT,
    warm_up: MCP_WARM_UP_CALLS,
  });
  rounds.add('mcp_initialize', cell, percentilesOf(http.initialize));
  rounds.add('mcp_sequential', cell, percentilesOf(http.sequential.samples));
  rounds.add('mcp_in_flight', cell, percentilesOf(http.in_flight.samples));
  rounds.add('mcp_rate', cell, percentilesOf([http.in_flight.calls_per_second]));
  if (busy) {
    const loads = await pair.stopLoad();
    const mean = loads.reduce((sum, { utilization }) => sum + utilization, 0) / loads.length;
    rounds.add('serve_busy', cell, percentilesOf([mean * 100]));
  }
}

async function measureStarts(root: string, { idle_ms }: Options, rounds: Rounds, turn: number): Promise<void> {
  for (const runtime of rotated(RUNTIMES, turn)) {
    const cell = { runtime, condition: 'idle' } as const;
    const { ready_ms, rss_mb, initialize_ms } = await measureColdStart({ runtime, root, idle_ms, compiled: true });
    rounds.add('start', cell, percentilesOf([ready_ms]));
    rounds.add('memory', cell, percentilesOf([rss_mb]));
    rounds.add('mcp_first_initialize', cell, percentilesOf([initialize_ms]));
    const uncompiled = await measureColdStart({ runtime, root, idle_ms: 0, compiled: false });
    rounds.add('start_uncompiled', cell, percentilesOf([uncompiled.ready_ms]));
  }
}

async function measure(options: Options, root: string): Promise<Rounds> {
  using floor = await TcpFloor.start(options.size);
  await using dedicated = await PeerPair.start('dedicated', root);
  await using inline = await PeerPair.start('inline', root);
  const pairs = { dedicated, inline };
  // What runs for the first time is compiled first; a peer that was started long ago has that behind it.
  const idle = CELLS.filter(({ condition }) => condition === 'idle');
  for (const cell of idle) await measureCell(cell, pairs[cell.runtime], floor, options, new Rounds());
  const rounds = new Rounds();
  for (let round = 0; round < options.rounds; round++) {
    for (const cell of rotated(CELLS, round)) {
      progress(`round ${round + 1} of ${options.rounds}: ${cell.runtime}, ${cell.condition}`);
      await measureCell(cell, pairs[cell.runtime], floor, options, rounds);
    }
    progress(`round ${round + 1} of ${options.rounds}: starting peers`);
    await measureStarts(root, options, rounds, round);
  }
  return rounds;
}

function rotated<T>(items: readonly T[], by: number): T[] {
  const at = by % items.length;
  return [...items.slice(at), ...items.slice(0, at)];
}

function progress(text: string): void {
  process.stderr.write(`${text}\n`);
}

function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      iterations: { type: 'string', default: '200' },
      size: { type: 'string', default: '200' },
      rounds: { type: 'string', default: '5' },
      'idle-ms': { type: 'string', default: '3000' },
      json: { type: 'string' },
    },
  });
  return {
    iterations: wholeNumber('iterations', values.iterations, 1),
    size: wholeNumber('size', values.size, 1),
    rounds: wholeNumber('rounds', values.rounds, 1),
    idle_ms: wholeNumber('idle-ms', values['idle-ms'], 0),
    json: values.json,
  };
}

function wholeNumber(name: string, text: string, least: number): number {
  if (/^\d+$/.test(text) && Number(text) >= least) return Number(text);
  process.stderr.write(`--${name} ${text}: must be a whole number, at least ${least}\n`);
  process.exit(2);
}

const options = readOptions();
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
  const rows = measuredRows(rowSpecs(options.size, IN_FLIGHT), await measure(options, root));
  const { iterations, size, rounds } = options;
  const machine = `Node ${process.version}, ${cpus().length} × ${cpus()[0]?.model ?? 'unknown processor'}`;
  process.stdout.write(`${renderTable(rows)}\n`);
  process.stdout.write(
    `Medians of ${rounds} rounds of ${iterations} calls each, one after the other where nothing else is said; ${machine}.\n`,
  );
  if (options.json !== undefined) {
    const report = { started_at, machine, options: { iterations, size, rounds, idle_ms: options.idle_ms }, rows };
    await writeFile(options.json, `${JSON.stringify(report, null, 2)}\n`);
  }
} finally {
  await rm(root, { recursive: true, force: true });
}
