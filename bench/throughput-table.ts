/** The rows of `throughput` and the tables that show them. */
import Table from 'cli-table3';
import { median, medianOf, type Percentiles } from './percentiles.ts';
import type { Cost } from './throughput-costs.ts';
import { type Amounts, CHAIN_STEPS, FAN_OUT_STEPS, type WorkRow } from './throughput-work.ts';

const UNITS: Record<WorkRow, 'ms' | 'per s'> = {
  tasks_rate: 'per s',
  answer: 'ms',
  task: 'ms',
  chain_step: 'ms',
  fan_out: 'ms',
  diamonds_rate: 'per s',
};

export interface Options extends Amounts {
  /** Of each worker. */
  slots: number;
  rounds: number;
}

/** One number of copies in one round. */
export interface RoundFigures {
  mesh: Record<WorkRow, Percentiles>;
  floor: Record<WorkRow, Percentiles>;
}

export interface MeasuredRow {
  id: WorkRow;
  title: string;
  unit: string;
  /** Medians over the rounds, and what each round gave. */
  cells: { copies: number; median: Percentiles; floor: Percentiles; rounds: Percentiles[] }[];
  /** Of p50, round by round, the last number of copies to the first. Null where only one was measured. */
  ratio: number | null;
}

export function measuredRows(options: Options, rounds: Map<number, RoundFigures[]>): MeasuredRow[] {
  return Object.entries(titles(options)).map(([row, title]) => {
    const id = row as WorkRow;
    const cells = [...rounds].map(([copies, each]) => ({
      copies,
      median: medianOf(each.map(({ mesh }) => mesh[id])),
      floor: medianOf(each.map(({ floor }) => floor[id])),
      rounds: each.map(({ mesh }) => mesh[id]),
    }));
    const [first, ...more] = cells;
    const last = more.at(-1);
    const ratio = last === undefined ? null : median(last.rounds.map(({ p50 }, at) => p50 / first!.rounds[at]!.p50));
    return { id, title, unit: UNITS[id], cells, ratio };
  });
}

function titles({ tasks, in_flight, diamonds }: Options): Record<WorkRow, string> {
  return {
    tasks_rate: `${tasks} tasks, one call each, ${in_flight} calls in flight`,
    answer: 'one task at a time: submit to answer',
    task: 'one task at a time: submit to result kept',
    chain_step: `chain of ${CHAIN_STEPS} steps, per step`,
    fan_out: `fan-out 1 → ${FAN_OUT_STEPS} → 1, the workflow`,
    diamonds_rate: `${diamonds} diamonds at once, workflows`,
  };
}

export function renderRows(rows: readonly MeasuredRow[]): string {
  const copies = rows[0]!.cells.map((cell) => cell.copies);
  const ratio = copies.length > 1 ? [`${copies.at(-1)} to ${copies[0]}\np50`] : [];
  const table = tableOf([
    'p50 / p95',
    ...copies.map((each) => `copies ${each}`),
    ...ratio,
    ...copies.map((each) => `floor, copies ${each}`),
  ]);
  for (const row of rows) {
    table.push([
      `${row.title} (${row.unit})`,
      ...row.cells.map((cell) => right(shownFigures(cell.median))),
      ...(row.ratio === null ? [] : [right(`${row.ratio.toFixed(2)} ×`)]),
      ...row.cells.map((cell) => right(shownFigures(cell.floor))),
    ]);
  }
  return table.toString();
}

/** @param costs by number of copies */
export function renderCosts(costs: Map<number, Cost[]>): string {
  const table = tableOf(['what a task costs, many in flight', ...[...costs.keys()].map((each) => `copies ${each}`)]);
  const known = new Map([...costs.values()].flat().map((cost) => [cost.title, cost.unit]));
  for (const [title, unit] of known) {
    const values = [...costs.values()].map((each) => each.find((cost) => cost.title === title)?.value ?? 0);
    table.push([`${title} (${unit})`, ...values.map((value) => right(shownNumber(value)))]);
  }
  return table.toString();
}

function tableOf(head: string[]): Table.Table {
  return new Table({ head, style: { head: [], border: [], compact: true } });
}

function right(content: string): { content: string; hAlign: 'right' } {
  return { content, hAlign: 'right' };
}

function shownFigures({ p50, p95 }: Percentiles): string {
  return p95 === null ? shownNumber(p50) : `${shownNumber(p50)} / ${shownNumber(p95)}`;
}

function shownNumber(value: number): string {
  if (value >= 100) return value.toFixed(0);
  return value.toFixed(value >= 10 ? 1 : 2);
}
