import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify, stripVTControlCharacters } from 'node:util';
import { expect, it } from 'vitest';
import {
  CELLS,
  FLOOR_ROW,
  type MeasuredRow,
  measuredRows,
  Rounds,
  renderTable,
  rowSpecs,
} from '../../bench/latency-table.ts';
import { medianOf, percentilesOf } from '../../bench/percentiles.ts';

const PROGRAM = resolve(import.meta.dirname, '../../bench/p2p-latency.ts');
const SIZE_BYTES = 64;
const IN_FLIGHT = 32;

it('the bench measures every row under every condition and says the same in table and JSON', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'flowmesh-bench-test-'));
  try {
    const file = join(folder, 'figures.json');
    const few = ['--iterations', '2', '--rounds', '1', '--idle-ms', '0', '--size', String(SIZE_BYTES)];
    const { stdout } = await promisify(execFile)(process.execPath, [PROGRAM, ...few, '--json', file], {
      env: { ...process.env, TMPDIR: folder },
    });
    const { rows, options } = JSON.parse(await readFile(file, 'utf8')) as { rows: MeasuredRow[]; options: object };
    expect(options).toEqual({ iterations: 2, rounds: 1, size: SIZE_BYTES, idle_ms: 0 });
    const specs = rowSpecs(SIZE_BYTES, IN_FLIGHT);
    expect(rows.map(({ id }) => id)).toEqual(specs.map(({ id }) => id));
    for (const [index, { id, cells }] of rows.entries()) {
      const { conditions } = specs[index]!;
      const expected = CELLS.filter(({ condition }) => conditions.includes(condition));
      expect(cells.map(({ runtime, condition }) => ({ runtime, condition }))).toEqual(expected);
      for (const cell of cells) {
        expect(cell.rounds, id).toHaveLength(1);
        expect(cell.median).toEqual(cell.rounds[0]);
        expect(cell.median.p50, id).toBeGreaterThan(0);
        // Two calls have no tail: a figure there would be invented.
        expect(cell.median, id).toMatchObject({ p95: null, p99: null });
      }
    }
    expect(stripVTControlCharacters(stdout)).toContain(renderTable(rows));
    expect(await readdir(folder)).toEqual(['figures.json']);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

it.each([
  ['--iterations', '0'],
  ['--rounds', '1.5'],
  ['--size', 'big'],
])('%s %s is refused before anything starts', async (...args) => {
  await expect(promisify(execFile)(process.execPath, [PROGRAM, ...args])).rejects.toMatchObject({
    code: 2,
    stderr: expect.stringContaining(args.join(' ')),
  });
});

it('percentiles are of the nearest rank, and medians of rounds are figure by figure', () => {
  const hundred = Array.from({ length: 100 }, (_, index) => 100 - index);
  expect(percentilesOf(hundred)).toEqual({ p50: 50, p95: 95, p99: 99 });
  expect(percentilesOf([3, 1])).toEqual({ p50: 1, p95: null, p99: null });
  const rounds = [
    { p50: 1, p95: 9, p99: null },
    { p50: 3, p95: 5, p99: 30 },
    { p50: 2, p95: 7, p99: 40 },
  ];
  expect(medianOf(rounds)).toEqual({ p50: 2, p95: 7, p99: null });
});

it('an aim is met or missed by the figures of the dedicated runtime alone, the floor taken round by round', () => {
  const rounds = new Rounds();
  const add = (row: string, dedicated: number[], inline: number[], busy: [number, number]) => {
    for (const [round, value] of dedicated.entries()) {
      const flat = (each: number) => ({ p50: each, p95: each, p99: each });
      rounds.add(row, { runtime: 'dedicated', condition: 'idle' }, flat(value));
      rounds.add(row, { runtime: 'inline', condition: 'idle' }, flat(inline[round]!));
      rounds.add(row, { runtime: 'dedicated', condition: 'busy' }, flat(busy[0]));
      rounds.add(row, { runtime: 'inline', condition: 'busy' }, flat(busy[1]));
    }
  };
  add(FLOOR_ROW, [1, 2, 10], [1, 1, 1], [1, 1]);
  add('request', [5, 10, 70], [900, 900, 900], [1, 10]);
  add('read_tool_mesh', [0.7, 0.7, 0.5], [0.1, 0.1, 0.1], [3, 10]);
  add('read_tool_serve', [0.5, 0.5, 0.7], [9, 9, 9], [9, 10]);
  const wanted = ['request', 'read_tool_mesh', 'read_tool_serve'];
  const specs = rowSpecs(SIZE_BYTES, IN_FLIGHT).filter(({ id }) => wanted.includes(id));
  const rows = measuredRows(specs, rounds);
  expect(rows.map(({ id, aim }) => [id, aim?.reached, aim?.met])).toEqual([
    ['request', 5, true],
    ['read_tool_mesh', 0.7, false],
    ['read_tool_serve', 0.5, true],
  ]);
  expect(rows.map(({ busy_gain }) => busy_gain?.toFixed(2))).toEqual(['0.90', '0.70', '0.10']);
  expect(rows.map(({ busy_aim }) => busy_aim?.met)).toEqual([true, false, undefined]);
  expect(renderTable(rows)).toContain('cannot gain');
});
