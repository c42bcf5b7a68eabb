/** Diamonds and single tasks whose right results are known, and whose results tell which runs they came from. */
import type { JsonObject, JsonValue } from '../../dag/errors.ts';
import type { SeededRandom } from '../simulation/world.ts';
import type { Sum } from './recorded-functions.ts';

/**
 * Most runs are short; some are long enough to be under way when their peer is disturbed: a percentile needs many. But
 * the slots of the peers that are up must suffice, or the time a step waits for one is all that is measured: with one
 * in ten, 2,000 diamonds and 2,000 tasks in 300 s need 11 slots, and seven peers with two of them away have 10.
 */
const SHORT_MS = { from: 10, to: 60 };
const LONG_MS = { from: 2_000, to: 4_000 };
const LONG_SHARE = 0.05;
/** Of the tasks. */
const ONCE_SHARE = 0.1;
/** Why a task that may start once can have failed without anything being wrong (P4). */
const LOST_CODES = new Set(['WORKER_LOST', 'OWNER_LOST']);

export interface Job {
  kind: 'workflow' | 'task';
  id: string;
  n: number;
  /** P4: a task that is never to be started twice. */
  once: boolean;
  input: JsonObject;
  /** Its steps, or itself, in the ledger. */
  keys: string[];
}

/**
 * In random order.
 *
 * @param counts.first the number of the first of each kind. Default: 0
 * @param ledger the path of its file
 */
export function makeJobs(
  { workflows, tasks, first = 0 }: { workflows: number; tasks: number; first?: number },
  random: SeededRandom,
  ledger: string,
): Job[] {
  const ms = () => {
    const { from, to } = random.chance(LONG_SHARE) ? LONG_MS : SHORT_MS;
    return Math.round(random.between(from, to));
  };
  const numbers = (count: number) => Array.from({ length: count }, (_, place) => first + place);
  const diamonds = numbers(workflows).map((n) => diamond(`diamond-${n}`, n, ledger, ms));
  const singles = numbers(tasks).map((n) => task(`task-${n}`, n, random.chance(ONCE_SHARE), ledger, ms));
  return random.shuffled([...diamonds, ...singles]);
}

function task(id: string, n: number, once: boolean, ledger: string, ms: () => number): Job {
  const payload = { ledger, key: id, plus: n, of: [], ms: ms() };
  const input = { task_id: id, task_type: 'fn:sum', payload, at_most_once: once };
  return { kind: 'task', id, n, once, input, keys: [id] };
}

function diamond(id: string, n: number, ledger: string, ms: () => number): Job {
  const step = (step_id: string, plus: number, after: string[]): JsonObject => ({
    step_id,
    action: 'fn:sum',
    depends_on: after,
    inputs: { ledger, key: `${id}/${step_id}`, plus, of: after.map((each) => `\${ steps.${each}.output }`), ms: ms() },
  });
  const steps = [
    step('top', n, []),
    step('left', 1, ['top']),
    step('right', 2, ['top']),
    step('bottom', 0, ['left', 'right']),
  ];
  const input = { workflow_id: id, name: 'diamond', steps, output: '${ steps.bottom.output }' };
  return { kind: 'workflow', id, n, once: false, input, keys: steps.map(({ step_id }) => `${id}/${step_id}`) };
}

export function submitOf({ kind, input }: Job): [tool: string, input: JsonObject] {
  return kind === 'workflow' ? ['workflow_submit', input] : ['task_submit', input];
}

export function questionOf({ kind, id }: Pick<Job, 'kind' | 'id'>): [tool: string, input: JsonObject] {
  return kind === 'workflow'
    ? ['workflow_result', { workflow_id: id, include_outputs: false }]
    : ['task_result', { task_id: id, include_output: false }];
}

export function statusOf({ kind, id }: Job): [tool: string, input: JsonObject] {
  return kind === 'workflow' ? ['workflow_status', { workflow_id: id }] : ['task_status', { task_id: id }];
}

/** What a terminal answer says, without what is no part of the outcome; undefined while it is not terminal. */
export function outcomeOf(answer: JsonObject): string | undefined {
  // What `task_status` shows as superseded has an output.
  const { status, result = answer['output'] ?? null } = answer;
  if (!['completed', 'failed', 'cancelled'].includes(String(status))) return undefined;
  const error = answer['error'] as { code: string } | null;
  return JSON.stringify({ status, code: error?.code ?? null, result });
}

/** What is wrong with an outcome; undefined when it is right. */
export function faultOf(job: Job, outcome: string): string | undefined {
  const { status, code, result } = JSON.parse(outcome) as { status: string; code: string | null; result: JsonValue };
  if (job.once && status === 'failed' && LOST_CODES.has(code ?? '')) return undefined;
  if (status !== 'completed') return `is ${status} (${code})`;
  const { value, of } = result as unknown as Sum;
  const expected = job.kind === 'workflow' ? 2 * job.n + 3 : job.n;
  if (value !== expected) return `gave ${value} instead of ${expected}`;
  const tops = new Set(of.map((side) => side.of[0]?.run));
  return tops.size > 1 ? `used ${tops.size} different results of one step` : undefined;
}
