/**
 * A mesh of real processes under load while its peers are killed, stopped and cut off, and what came of it:
 *
 *   const report = await runChaos({ peers: 4, workflows: 100, tasks: 100, … });
 *   report.broken;   // none, or a sentence for each promise that was broken
 */
import { setTimeout as delay } from 'node:timers/promises';
import { type Percentiles, percentilesOf } from '../../bench/percentiles.ts';
import { Cables } from '../harness/cables.ts';
import { startProcesses } from '../harness/processes.ts';
import { SeededRandom } from '../simulation/world.ts';
import { RoamingClient } from './client.ts';
import { type Disturbance, Disturber, type Fault } from './disturbances.ts';
import { makeJobs } from './load.ts';
import { RECORDED_FUNCTIONS, type Run, RunLedger } from './run-ledger.ts';
import { askEverywhere, awaitOutcome, findSuperseded, submit, type Told, toldNothing } from './told.ts';
import { judge, type Verdict } from './verdict.ts';

const SLOTS = 2;
/** After the last heal, until every job has ended and every peer says the same of it. */
const SETTLED_WITHIN_MS = 90_000;

export interface ChaosOptions {
  peers: number;
  workflows: number;
  tasks: number;
  /** Between the begins of two disturbances. */
  everyMs: number;
  /** Of the disturbances, if none has to wait for room; the submits are spread over it. */
  durationMs: number;
  seed: number;
  faults: readonly Fault[];
  /** The peers are members of a secured mesh. Default: false. */
  secured?: boolean;
  /** Hears of each phase. */
  note?: (line: string) => void;
}

/** Of a run with few samples p99 is not known, and the longest time says more. */
export interface Spread extends Percentiles {
  samples: number;
  longest: number;
}

export interface ChaosReport extends Verdict {
  seed: number;
  disturbances: Disturbance[];
  /**
   * From the kill or stop of a peer to the next start of a step that ran there, or that it owned and that ran anywhere,
   * in ms, of those that were started again before their client had the answer. Null: none was.
   */
  replaced_ms: Spread | null;
  /** Those that took the longest, the longest first. */
  slowest: Replacement[];
  /** From the kill of the peer that accepted a job to the next start of one of the job's steps, in ms. */
  owner_replaced_ms: Spread | null;
  /** From the last heal until peers were last seen to answer differently for one id, in ms; 0: never after it. */
  converged_ms: number;
  /** From the last heal until every peer had been asked for every id and had answered alike, in ms. */
  asked_ms: number;
  /** As often a peer had to be asked again because it did not say what the others said. */
  asked_again: number;
}

/** A step that was started again after its peer, or its owner, was lost. */
export interface Replacement {
  /** Of the record. */
  uid: string;
  ms: number;
  fault: Fault;
  /** Index of the peer that was lost. */
  peer: number;
  /** Unix ms, of the loss. */
  at: number;
  /** Whether that peer had accepted its job; else it ran the step. */
  was_owner: boolean;
}

const SLOWEST_SHOWN = 5;

export async function runChaos(options: ChaosOptions): Promise<ChaosReport> {
  const { peers, seed, everyMs, durationMs, faults, note = () => {} } = options;
  const random = new SeededRandom(seed);
  await using cables = await Cables.lay(peers);
  const args = ['--functions', RECORDED_FUNCTIONS, '--slots', String(SLOTS)];
  await using mesh = await startProcesses(peers, cables.options({ args, secured: options.secured ?? false }));
  await using client = new RoamingClient(mesh.peers, new SeededRandom(seed + 1));
  const ledger = new RunLedger(mesh.home);
  const all = makeJobs(options, random, ledger.path).map(toldNothing);
  note(`${peers} peers are up; ${all.length} jobs in ${durationMs / 1_000} s`);

  const disturber = new Disturber(mesh, cables, random, faults);
  const deadline = performance.now() + durationMs + SETTLED_WITHIN_MS;
  const clients = all.map(async (told, place) => {
    await delay((place / all.length) * durationMs);
    if (await submit(client, told, () => deadline)) await awaitOutcome(client, told, deadline);
  });
  await disturber.run(everyMs, disturbancesIn(durationMs, everyMs));
  const healed = performance.now();
  note(`${disturber.done.length} disturbances are healed`);
  await Promise.all(clients);
  note('every client has its answer, or has given up');
  const settled = await askEverywhere(mesh.peers, client, all, healed + SETTLED_WITHIN_MS);
  note('every peer has been asked for every id');
  const runs = await ledger.byKey();
  await findSuperseded(client, all, runs);
  return {
    seed,
    disturbances: disturber.done,
    ...judge(all, runs),
    ...replacements(disturber.done, all, runs),
    converged_ms: Math.round(Math.max((settled.disagreed_at ?? healed) - healed, 0)),
    asked_ms: Math.round(settled.at - healed),
    asked_again: settled.asked_again,
  };
}

/** One after every `everyMs`, none at the very end. */
export function disturbancesIn(durationMs: number, everyMs: number): number {
  return Math.max(Math.ceil(durationMs / everyMs) - 1, 0);
}

/** How long it took until what a lost peer ran was started again, and what it had accepted went on. */
function replacements(disturbances: readonly Disturbance[], all: readonly Told[], runs: Map<string, Run[]>) {
  const replaced: Replacement[] = [];
  const owners: number[] = [];
  for (const { fault, peers, pid, at } of disturbances) {
    if (fault !== 'kill' && fault !== 'pause') continue;
    for (const { job, accepted_by, accepted_at = at, answered_at = Number.POSITIVE_INFINITY } of all) {
      const isOwned = accepted_by === peers[0] && accepted_at < at;
      const starts = job.keys.flatMap((key) => runs.get(key) ?? []);
      for (const { uid, pid: ranAt, started_at, ended_at = Number.POSITIVE_INFINITY } of starts) {
        if (!(isOwned || ranAt === pid) || started_at >= at || ended_at <= at) continue;
        // What was not started again until its client had the answer did not have to be: its result was there.
        const next = starts.find((run) => run.uid === uid && run.started_at > at && run.started_at <= answered_at);
        if (next === undefined) continue;
        replaced.push({ uid, ms: next.started_at - at, fault, peer: peers[0]!, at, was_owner: isOwned });
      }
      const later = starts.filter((run) => run.started_at > at);
      if (fault !== 'kill' || !isOwned || answered_at <= at || later.length === 0) continue;
      owners.push(Math.min(...later.map((run) => run.started_at)) - at);
    }
  }
  return {
    replaced_ms: spreadOf(replaced.map(({ ms }) => ms)),
    slowest: replaced.toSorted((a, b) => b.ms - a.ms).slice(0, SLOWEST_SHOWN),
    owner_replaced_ms: spreadOf(owners),
  };
}

function spreadOf(times: readonly number[]): Spread | null {
  if (times.length === 0) return null;
  return { ...percentilesOf(times), samples: times.length, longest: Math.max(...times) };
}
