/** What a task costs, and where: of each thread, of the disk, and in messages. */
import { median } from './percentiles.ts';
import { type PeerFigures, workBetween } from './throughput-figures.ts';

export interface Cost {
  title: string;
  unit: string;
  value: number;
}

type Window = { before: PeerFigures; after: PeerFigures };
const LOOPS = ['serve', 'mesh', 'store'] as const;
const US_PER_MS = 1_000;
const PER_TASKS = 1_000;
const PERCENT = 100;

/**
 * @param before, after of the owner and then of each worker
 * @param tasks that ended between the two
 */
export function costsOf(before: PeerFigures[], after: PeerFigures[], tasks: number): Cost[] {
  const [owner, ...workers] = after.map((figures, index) => ({ before: before[index]!, after: figures }));
  return [...peerCosts('owner', [owner!], tasks), ...peerCosts('workers', workers, tasks)];
}

/** Of each cost the median; what a round did not have was none there. */
export function medianCosts(rounds: readonly Cost[][]): Cost[] {
  const known = new Map(rounds.flat().map((cost) => [cost.title, cost]));
  return [...known.values()].map(({ title, unit }) => {
    const values = rounds.map((costs) => costs.find((cost) => cost.title === title)?.value ?? 0);
    return { title, unit, value: median(values) };
  });
}

function peerCosts(role: string, windows: Window[], tasks: number): Cost[] {
  const sumOf = (figure: (figures: PeerFigures) => number) =>
    windows.reduce((sum, { before, after }) => sum + figure(after) - figure(before), 0);
  const commits = sumOf((figures) => figures.commits);
  const rows = sumOf((figures) => figures.rows);
  const commitMs = sumOf((figures) => figures.commit_ms);
  const methods = [...new Set(windows.flatMap(({ after }) => Object.keys(after.sent)))].sort();
  const costs = LOOPS.flatMap((loop) => loopCosts(`${role}, ${loop} loop`, loop, windows, tasks));
  costs.push({ title: `${role}, commits`, unit: 'per 1,000 tasks', value: (commits * PER_TASKS) / tasks });
  if (commits > 0) {
    costs.push({ title: `${role}, rows of a commit`, unit: 'rows', value: rows / commits });
    costs.push({ title: `${role}, a commit until it is fsynced`, unit: 'ms', value: commitMs / commits });
  }
  for (const method of methods) {
    const sent = sumOf((figures) => figures.sent[method] ?? 0);
    costs.push({ title: `${role}, sent ${method}`, unit: 'per 1,000 tasks', value: (sent * PER_TASKS) / tasks });
  }
  return costs;
}

function loopCosts(title: string, loop: (typeof LOOPS)[number], windows: Window[], tasks: number): Cost[] {
  const works = windows.map(({ before, after }) => workBetween(before[loop], after[loop]));
  const cpuMs = works.reduce((sum, { cpu_ms }) => sum + cpu_ms, 0);
  const utilization = works.reduce((sum, work) => sum + work.utilization, 0) / works.length;
  return [
    { title: `${title}, busy`, unit: '%', value: utilization * PERCENT },
    { title: `${title}, processor`, unit: 'µs per task', value: (cpuMs * US_PER_MS) / tasks },
  ];
}
