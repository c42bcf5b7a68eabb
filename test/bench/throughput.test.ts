import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { promisify, stripVTControlCharacters } from 'node:util';
import { expect, it } from 'vitest';
import { type Cost, costsOf, medianCosts } from '../../bench/throughput-costs.ts';
import type { PeerFigures } from '../../bench/throughput-figures.ts';
import { ThroughputFloor } from '../../bench/throughput-floor.ts';
import { COPIES } from '../../bench/throughput-mesh.ts';
import {
  type MeasuredRow,
  measuredRows,
  type RoundFigures,
  renderCosts,
  renderRows,
} from '../../bench/throughput-table.ts';
import { summaryOf, type WorkRow } from '../../bench/throughput-work.ts';

const PROGRAM = resolve(import.meta.dirname, '../../bench/throughput.ts');
const ROWS: WorkRow[] = ['tasks_rate', 'answer', 'task', 'chain_step', 'fan_out', 'diamonds_rate'];
const OPTIONS = {
  tasks: 100,
  in_flight: 16,
  single_tasks: 5,
  chains: 1,
  fan_outs: 1,
  diamonds: 5,
  slots: 64,
  rounds: 1,
};

interface Report {
  options: object;
  rows: MeasuredRow[];
  costs: Record<string, Cost[]>;
  short_answers: number;
}

async function inFolder(run: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'flowmesh-bench-test-'));
  try {
    await run(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

it('the bench measures every row for every number of copies and says the same in tables and JSON', () =>
  inFolder(async (folder) => {
    const file = join(folder, 'figures.json');
    const { stdout } = await promisify(execFile)(process.execPath, [PROGRAM, '--quick', '--json', file], {
      env: { ...process.env, TMPDIR: folder },
    });
    const { rows, costs, options, short_answers }: Report = JSON.parse(await readFile(file, 'utf8'));
    expect(options).toEqual(OPTIONS);
    expect(rows.map(({ id }) => id)).toEqual(ROWS);
    for (const { id, cells } of rows) {
      expect(cells.map(({ copies }) => copies)).toEqual(COPIES);
      for (const cell of cells) {
        expect(cell.rounds, id).toHaveLength(1);
        expect(cell.median.p50, id).toBeGreaterThan(0);
        expect(cell.floor.p50, id).toBeGreaterThan(0);
      }
    }
    // What is reported for two copies was kept twice.
    expect(short_answers).toBe(0);
    for (const copies of COPIES) {
      const value = (title: string) => costs[copies]?.find((cost) => cost.title === title)?.value;
      // No task runs in the owner's process: each travels in a lease, and none without a commit.
      expect(value('owner, sent lease')).toBeGreaterThan(0);
      expect(value('workers, sent result')).toBeGreaterThan(0);
      expect(value('owner, commits')).toBeGreaterThan(0);
    }
    const shown = stripVTControlCharacters(stdout);
    expect(shown).toContain(renderRows(rows));
    expect(shown).toContain(renderCosts(new Map(COPIES.map((copies) => [copies, costs[copies]!]))));
    expect(await readdir(folder)).toEqual(['figures.json']);
  }));

it.each([
  ['--tasks', '0'],
  ['--rounds', '1.5'],
  ['--in-flight', '1001'],
])('%s %s is refused before anything starts', async (...args) => {
  await expect(promisify(execFile)(process.execPath, [PROGRAM, ...args])).rejects.toMatchObject({
    code: 2,
    stderr: expect.stringContaining(args.join(' ')),
  });
});

it('a ratio is taken round by round, then the median', () => {
  const round = (p50: number): RoundFigures => {
    const rows = summaryOf(Object.fromEntries(ROWS.map((row) => [row, [p50]])) as Record<WorkRow, number[]>);
    return { mesh: rows, floor: rows };
  };
  const rounds = new Map([
    [1, [round(1), round(10), round(100)]],
    [2, [round(3), round(20), round(100)]],
  ]);
  const [row] = measuredRows(OPTIONS, rounds);
  expect(row).toMatchObject({ ratio: 2, cells: [{ median: { p50: 10 } }, { median: { p50: 20 } }] });
  expect(measuredRows(OPTIONS, new Map([[1, [round(1)]]]))[0]!.ratio).toBeNull();
});

it('costs are of what happened between two looks, per task', () => {
  const loop = (busy_ms: number, idle_ms: number, cpu_us: number) => ({ busy_ms, idle_ms, cpu_us });
  const still = loop(0, 1, 0);
  const figures = (mesh: PeerFigures['mesh'], commits: number, lease: number): PeerFigures => ({
    serve: still,
    mesh,
    store: still,
    commits,
    rows: 4 * commits,
    commit_ms: 3 * commits,
    sent: { lease },
  });
  const before = figures(loop(100, 100, 50_000), 10, 5);
  const after = { ...figures(loop(130, 110, 70_000), 12, 9), serve: loop(1, 1, 0), store: loop(0, 2, 0) };
  const costs = costsOf([before], [after], 1_000);
  expect(Object.fromEntries(costs.map(({ title, value }) => [title, value]))).toMatchObject({
    'owner, mesh loop, busy': 75,
    'owner, mesh loop, processor': 20,
    'owner, commits': 2,
    'owner, rows of a commit': 4,
    'owner, a commit until it is fsynced': 3,
    'owner, sent lease': 4,
  });
  const [lease] = medianCosts([costs, costs, []]).filter(({ title }) => title === 'owner, sent lease');
  expect(lease?.value).toBe(4);
  expect(medianCosts([costs, [], []]).find(({ title }) => title === 'owner, sent lease')?.value).toBe(0);
});

it.each([
  { copies: 1, kept: { client: 8, keeper: 0 } },
  { copies: 2, kept: { client: 8, keeper: 8 } },
])('the floor of $copies copies keeps every row that often', ({ copies, kept }) =>
  inFolder(async (folder) => {
    using floor = await ThroughputFloor.start(folder);
    const samples = await floor.measure({ commits: [1, 3], copies, times: 2 });
    expect(samples).toHaveLength(2);
    expect(Math.min(...samples)).toBeGreaterThan(0);
    const rowsOf = (name: string) => {
      using database = new DatabaseSync(join(folder, `floor-${name}.db`), { readOnly: true });
      return database.prepare('SELECT count(*) AS n FROM rows').get()?.['n'];
    };
    expect({ client: rowsOf('client'), keeper: rowsOf('keeper') }).toEqual(kept);
  }),
);
