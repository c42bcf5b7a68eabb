/** What the answers to clients and the ledger of runs, taken together, say about the promises. */
import { faultOf } from './load.ts';
import { type Run, rootsOf } from './run-ledger.ts';
import type { Told } from './told.ts';

export interface Verdict {
  submitted: number;
  accepted: number;
  /** Accepted, and at no peer with an end. */
  lost: number;
  /** With an end at some peers only. */
  unsettled: number;
  /** Jobs whose outcome changed after a client was told it, or differs between peers, and nothing tells of the other. */
  committed_twice: number;
  /** Among the tasks marked `at_most_once`, as one record. */
  started_twice: number;
  wrong_results: number;
  /** Clients that got no answer to a submit, or no result, until the end. */
  unanswered: number;
  /** A sentence for each that was counted above: nothing may be. */
  broken: string[];
  /** Steps and tasks with more than one start: allowed where a worker was lost (P4). */
  run_twice: number;
  /** Jobs whose submit was sent again, to another peer. */
  submitted_again: number;
  /** Jobs that two peers accepted, on two sides of a partition or after an answer was lost, and both began: allowed. */
  accepted_twice: number;
  /** Jobs with an outcome or a record that the mesh shows as given up for another one: allowed after a partition (P5). */
  superseded: number;
}

/** The fields that must be 0. */
export const MUST_BE_ZERO = [
  'lost',
  'unsettled',
  'committed_twice',
  'started_twice',
  'wrong_results',
  'unanswered',
] as const satisfies (keyof Verdict)[];

type Check = (told: Told, runs: Map<string, Run[]>) => string | undefined;

const CHECKS: Record<(typeof MUST_BE_ZERO)[number], Check> = {
  lost: (told) => (told.accepted_at !== undefined && !hasEnd(told) ? 'was accepted and has no end' : undefined),
  unsettled(told) {
    const without = told.everywhere.flatMap((outcome, index) => (outcome === undefined ? [index] : []));
    return hasEnd(told) && without.length > 0 ? `has no end at peers ${without.join(', ')}` : undefined;
  },
  committed_twice(told, runs) {
    const outcomes = standingOf(told);
    if (outcomes.length < 2) return undefined;
    const by = outcomes.map((outcome) => `${shortened(outcome)} (${sayersOf(told, outcome)})`);
    return `ended as ${by.join(' and as ')}; records: ${[...rootsOf(told.job, runs)].join(', ')}`;
  },
  started_twice({ job }, runs) {
    if (!job.once) return undefined;
    const starts = Map.groupBy(runs.get(job.id) ?? [], ({ uid }) => uid);
    const [again] = [...starts].filter(([, { length }]) => length > 1);
    return again === undefined ? undefined : `was started ${again[1].length} times as ${again[0]}`;
  },
  wrong_results(told) {
    const faults = standingOf(told).map((outcome) => faultOf(told.job, outcome));
    return faults.find((fault) => fault !== undefined);
  },
  unanswered: ({ failure }) => failure,
};

/** @param runs by key */
export function judge(all: readonly Told[], runs: Map<string, Run[]>): Verdict {
  const counts = Object.fromEntries(MUST_BE_ZERO.map((field) => [field, 0])) as Record<keyof typeof CHECKS, number>;
  const broken: string[] = [];
  for (const told of all) {
    for (const field of MUST_BE_ZERO) {
      const why = CHECKS[field](told, runs);
      if (why === undefined) continue;
      counts[field]++;
      broken.push(`${field}: ${told.job.id} ${why}`);
    }
  }
  return {
    submitted: all.length,
    accepted: all.filter(({ accepted_at }) => accepted_at !== undefined).length,
    ...counts,
    broken,
    run_twice: [...runs.values()].filter((starts) => starts.length > 1).length,
    submitted_again: all.filter(({ tries }) => tries > 1).length,
    accepted_twice: all.filter(({ job }) => rootsOf(job, runs).size > 1).length,
    superseded: all.filter((told) => standingOf(told).length < outcomesOf(told).length).length,
  };
}

function hasEnd({ everywhere }: Told): boolean {
  return everywhere.some((outcome) => outcome !== undefined && !isSuperseded(outcome));
}

function outcomesOf({ outcome, everywhere }: Told): string[] {
  return [...new Set([outcome, ...everywhere].filter((each) => each !== undefined))];
}

function standingOf(told: Told): string[] {
  return outcomesOf(told).filter((outcome) => !isSuperseded(outcome) && !told.superseded.includes(outcome));
}

function isSuperseded(outcome: string): boolean {
  return (JSON.parse(outcome) as { code: string | null }).code === 'SUPERSEDED';
}

/** Who says so at the end, and whether a client was told it before. */
function sayersOf({ outcome: first, everywhere }: Told, outcome: string): string {
  const peers = everywhere.flatMap((each, index) => (each === outcome ? [`peer ${index}`] : []));
  return [...(first === outcome ? ['told'] : []), ...peers].join(', ');
}

/** The status, and the run that gave the result. */
function shortened(outcome: string): string {
  const { status, code, result } = JSON.parse(outcome) as { status: string; code: string | null; result: unknown };
  return `${status} ${code ?? (result as { run?: string } | null)?.run}`;
}
