/** The rows of `p2p-latency`, what each is to reach, and the one table that shows them all. */
import Table from 'cli-table3';
import type { Runtime } from './peer-pair.ts';
import { median, medianOf, type Percentiles } from './percentiles.ts';

export type Condition = 'idle' | 'busy';
/** One system under one condition. */
export interface Cell {
  runtime: Runtime;
  condition: Condition;
}

export const CELLS: readonly Cell[] = [
  { runtime: 'dedicated', condition: 'idle' },
  { runtime: 'inline', condition: 'idle' },
  { runtime: 'dedicated', condition: 'busy' },
  { runtime: 'inline', condition: 'busy' },
];

/** For the dedicated runtime, idle. */
type Aim = { at_most: number; of: 'value' | 'floor' } | { at_least: number; of: 'value' };

export interface RowSpec {
  id: string;
  title: string;
  unit: 'ms' | 'calls/s' | 'MB' | '%';
  conditions: readonly Condition[];
  aim?: Aim;
  /** Where the measured call starts: one from a busy serve loop cannot gain from a mesh loop of its own. */
  starts_on?: 'mesh' | 'serve';
}

const BOTH = ['idle', 'busy'] as const;
const IDLE = ['idle'] as const;
/** How far p95 with the dedicated mesh loop is to be below that of inline when the serve loops are busy. */
const BUSY_GAIN_AIM = 0.8;
const READ_TOOL_AIM_MS = 0.6;
const STEP_AIM_MS = 1.5;
const INITIALIZE_AIM_MS = 100;

export const FLOOR_ROW = 'tcp_floor';

export function rowSpecs(sizeBytes: number, inFlight: number): RowSpec[] {
  const from = (loop: string) => `from the ${loop} loop`;
  const step = 'no-op step on another peer, submit to result on disk';
  const read = 'task_status on another peer';
  const write = 'task_submit on another peer';
  const mcp = 'MCP over HTTP, task_status';
  return [
    { id: FLOOR_ROW, title: `raw TCP round trip, ${sizeBytes} B: the floor`, unit: 'ms', conditions: BOTH },
    {
      id: 'request',
      title: `request on the peer stream, ${sizeBytes} B`,
      unit: 'ms',
      conditions: BOTH,
      starts_on: 'mesh',
      aim: { at_most: 6, of: 'floor' },
    },
    ...(['mesh', 'serve'] as const).flatMap((loop): RowSpec[] => {
      const common = { unit: 'ms', conditions: BOTH, starts_on: loop } as const;
      return [
        {
          ...common,
          id: `read_tool_${loop}`,
          title: `${read}, ${from(loop)}`,
          aim: { at_most: READ_TOOL_AIM_MS, of: 'value' },
        },
        { ...common, id: `write_tool_${loop}`, title: `${write}, ${from(loop)}` },
        {
          ...common,
          id: `step_${loop}`,
          title: `${step}, ${from(loop)}`,
          aim: { at_most: STEP_AIM_MS, of: 'value' },
        },
      ];
    }),
    {
      id: 'mcp_sequential',
      title: `${mcp}, one after the other`,
      unit: 'ms',
      conditions: BOTH,
      starts_on: 'serve',
      aim: { at_most: 1, of: 'value' },
    },
    { id: 'mcp_in_flight', title: `${mcp}, ${inFlight} in flight`, unit: 'ms', conditions: BOTH, starts_on: 'serve' },
    {
      id: 'mcp_rate',
      title: `${mcp}, ${inFlight} in flight`,
      unit: 'calls/s',
      conditions: BOTH,
      aim: { at_least: 1_500, of: 'value' },
    },
    {
      id: 'mcp_initialize',
      title: 'MCP over HTTP, initialize',
      unit: 'ms',
      conditions: BOTH,
      starts_on: 'serve',
      aim: { at_most: INITIALIZE_AIM_MS, of: 'value' },
    },
    {
      id: 'mcp_first_initialize',
      title: 'the same, the first client of a process',
      unit: 'ms',
      conditions: IDLE,
      aim: { at_most: INITIALIZE_AIM_MS, of: 'value' },
    },
    {
      id: 'start',
      title: 'process start to /ready',
      unit: 'ms',
      conditions: IDLE,
      aim: { at_most: 1_500, of: 'value' },
    },
    { id: 'start_uncompiled', title: 'the same, the very first on a machine', unit: 'ms', conditions: IDLE },
    {
      id: 'memory',
      title: 'resident memory of an idle peer',
      unit: 'MB',
      conditions: IDLE,
      aim: { at_most: 150, of: 'value' },
    },
    { id: 'serve_busy', title: 'share of the time that the serve loops were busy', unit: '%', conditions: ['busy'] },
  ];
}

/** What each round gave, by row and cell. */
export class Rounds {
  readonly #figures = new Map<string, Percentiles[]>();

  add(row: string, cell: Cell, figures: Percentiles): void {
    const key = keyOf(row, cell);
    const rounds = this.#figures.get(key) ?? [];
    rounds.push(figures);
    this.#figures.set(key, rounds);
  }

  of(row: string, cell: Cell): Percentiles[] {
    return this.#figures.get(keyOf(row, cell)) ?? [];
  }
}

function keyOf(row: string, { runtime, condition }: Cell): string {
  return `${row} ${runtime} ${condition}`;
}

export interface Verdict {
  /** In words, e.g. "p50 at most 6 × the floor". */
  aim: string;
  /** What was reached, in the unit of the aim. */
  reached: number;
  met: boolean;
}

export interface MeasuredRow {
  id: string;
  title: string;
  unit: string;
  starts_on: 'mesh' | 'serve' | null;
  /** Medians over the rounds, and what each round gave. */
  cells: (Cell & { median: Percentiles; rounds: Percentiles[] })[];
  /** Null where there is no aim. */
  aim: Verdict | null;
  /** p95 of the dedicated runtime against inline with busy serve loops: 0.8 is 80 % below. Null where not measured. */
  busy_gain: number | null;
  busy_aim: Verdict | null;
}

export function measuredRows(specs: readonly RowSpec[], rounds: Rounds): MeasuredRow[] {
  return specs.map((spec) => {
    const cells = CELLS.filter(({ condition }) => spec.conditions.includes(condition)).map((cell) => {
      const each = rounds.of(spec.id, cell);
      return { ...cell, median: medianOf(each), rounds: each };
    });
    const busy_gain = spec.starts_on === undefined ? null : busyGain(spec.id, rounds);
    const { id, title, unit, starts_on = null } = spec;
    const aim = spec.aim === undefined ? null : judge(spec, spec.aim, rounds);
    return { id, title, unit, starts_on, cells, aim, busy_gain, busy_aim: busyVerdict(starts_on, busy_gain) };
  });
}

function judge({ id, unit }: RowSpec, aim: Aim, rounds: Rounds): Verdict {
  const [cell] = CELLS;
  const p50s = rounds.of(id, cell!).map(({ p50 }) => p50);
  if (aim.of === 'floor') {
    // Round by round: what slows the machine down for a while slows both.
    const floors = rounds.of(FLOOR_ROW, cell!);
    const reached = median(p50s.map((p50, round) => p50 / floors[round]!.p50));
    return { aim: `≤ ${aim.at_most} × the floor`, reached, met: reached <= aim.at_most };
  }
  const reached = median(p50s);
  if ('at_least' in aim) return { aim: `≥ ${aim.at_least} ${unit}`, reached, met: reached >= aim.at_least };
  return { aim: `≤ ${aim.at_most} ${unit}`, reached, met: reached <= aim.at_most };
}

function busyGain(row: string, rounds: Rounds): number | null {
  const inline = rounds.of(row, { runtime: 'inline', condition: 'busy' });
  const gains = rounds.of(row, { runtime: 'dedicated', condition: 'busy' }).map(({ p95 }, round) => {
    const other = inline[round]?.p95;
    return p95 === null || other === null || other === undefined ? null : 1 - p95 / other;
  });
  const known = gains.filter((gain) => gain !== null);
  return known.length === gains.length && known.length > 0 ? median(known) : null;
}

function busyVerdict(startsOn: MeasuredRow['starts_on'], gain: number | null): Verdict | null {
  if (startsOn !== 'mesh' || gain === null) return null;
  return { aim: `p95 ≥ ${BUSY_GAIN_AIM * 100} % below inline`, reached: gain, met: gain >= BUSY_GAIN_AIM };
}

export function renderTable(rows: readonly MeasuredRow[]): string {
  const table = new Table({
    head: ['', ...CELLS.map(headOf), 'aim: dedicated, idle, p50', 'busy: p95 dedicated against inline'],
    style: { head: [], border: [], compact: true },
    wordWrap: true,
    colWidths: [46, 24, 24, 24, 24, 26, 32],
  });
  for (const row of rows) {
    const figures = CELLS.map(({ runtime, condition }) => {
      const cell = row.cells.find((each) => each.runtime === runtime && each.condition === condition);
      return { content: cell === undefined ? '' : shownFigures(cell.median), hAlign: 'right' as const };
    });
    table.push([`${row.title} (${row.unit})`, ...figures, shownAim(row), shownGain(row)]);
  }
  return table.toString();
}

function headOf({ runtime, condition }: Cell): string {
  return `${runtime}, ${condition === 'idle' ? 'idle' : 'serve loops busy'}\np50 / p95 / p99`;
}

function shownFigures({ p50, p95, p99 }: Percentiles): string {
  const all = [p50, p95, p99].filter((value) => value !== null);
  return all.map((value) => shownNumber(value)).join(' / ');
}

function shownNumber(value: number): string {
  if (value >= 100) return value.toFixed(0);
  if (value >= 10) return value.toFixed(1);
  return value.toFixed(value >= 1 ? 2 : 3);
}

function shownAim({ aim }: MeasuredRow): string {
  if (aim === null) return '';
  const reached = aim.aim.includes('floor') ? ` (${aim.reached.toFixed(1)} ×)` : '';
  return `${aim.aim}${reached}: ${aim.met ? 'met' : 'MISSED'}`;
}

function shownGain({ starts_on, busy_gain, busy_aim }: MeasuredRow): string {
  if (busy_gain === null) return '';
  const change = `${busy_gain >= 0 ? '−' : '+'}${Math.abs(busy_gain * 100).toFixed(0)} %`;
  if (starts_on === 'serve') return `${change}; starts on the busy loop: cannot gain`;
  return `${change}; aim −${BUSY_GAIN_AIM * 100} %: ${busy_aim?.met ? 'met' : 'MISSED'}`;
}
