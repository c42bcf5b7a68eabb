/** What clients are told of their jobs: when they are accepted, when they have ended, and by every peer at the end. */
import { setTimeout as delay } from 'node:timers/promises';
import { type JsonObject, RemoteError } from '../../dag/errors.ts';
import { inParallel } from '../harness/in-parallel.ts';
import type { PeerProcess } from '../harness/processes.ts';
import type { RoamingClient } from './client.ts';
import { type Job, outcomeOf, questionOf, statusOf, submitOf } from './load.ts';
import { type Run, rootsOf } from './run-ledger.ts';

/** Questions under way at once, each to all peers. */
const QUESTIONS_AT_ONCE = 8;
const ASK_AGAIN_MS = 250;
const STATUS_WAIT_MS = 10_000;
/** For each job, however late it is asked for: a call may fail because the machine is busy. */
const QUESTIONS_MIN = 3;

export interface Told {
  readonly job: Job;
  /** Index of the peer that answered the submit. */
  accepted_by?: number;
  /** Unix ms, as the next. */
  accepted_at?: number;
  answered_at?: number;
  /** Submits, the answered one included. */
  tries: number;
  /** The first one told. */
  outcome?: string;
  /** Why the client gave up. */
  failure?: string;
  /** At the end by each peer, by index; undefined: it tells of no end. */
  everywhere: (string | undefined)[];
  /** Other outcomes, which the mesh itself shows as those of a side that lost after a partition (P5). */
  superseded: string[];
}

export function toldNothing(job: Job): Told {
  return { job, tries: 0, everywhere: [], superseded: [] };
}

/**
 * Submits a job at any peer that answers.
 *
 * @param deadline by `performance.now()`
 * @returns whether it was accepted
 */
export async function submit(client: RoamingClient, told: Told, deadline: () => number): Promise<boolean> {
  try {
    const { by, tries } = await client.anywhere(...submitOf(told.job), deadline);
    told.accepted_by = by.index;
    told.accepted_at = Date.now();
    told.tries = tries;
    return true;
  } catch (error) {
    told.failure = `was not accepted: ${(error as Error).message}`;
    return false;
  }
}

/** Waits for the outcome, at any peer that answers. */
export async function awaitOutcome(client: RoamingClient, told: Told, deadline: number): Promise<void> {
  try {
    told.outcome = await client.ask(...questionOf(told.job), outcomeOf, deadline);
    told.answered_at = Date.now();
  } catch (error) {
    told.failure = `has no result: ${(error as Error).message}`;
  }
}

export interface Settled {
  /** By `performance.now()`: when the last question was answered. */
  at: number;
  /** By `performance.now()`: when peers were last seen to say different things; undefined: never. */
  disagreed_at?: number;
  /** As often a peer did not say what the others said. */
  asked_again: number;
}

/**
 * Asks every peer for every job until all give the same outcome. Jobs whose clients were told last come first.
 *
 * @param deadline by `performance.now()`: then what was said last counts, but not before QUESTIONS_MIN times
 */
export async function askEverywhere(
  peers: readonly PeerProcess[],
  client: RoamingClient,
  all: readonly Told[],
  deadline: number,
): Promise<Settled> {
  const settled: Settled = { at: performance.now(), asked_again: 0 };
  const toldAt = ({ answered_at = Number.POSITIVE_INFINITY }: Told) => answered_at;
  const order = all.toSorted((a, b) => toldAt(b) - toldAt(a));
  await inParallel(order, QUESTIONS_AT_ONCE, async (told) => {
    for (let questions = 1; ; questions++) {
      told.everywhere = await Promise.all(peers.map((peer) => outcomeAt(client, peer, told.job)));
      const [first] = told.everywhere;
      const agreed = first !== undefined && told.everywhere.every((each) => each === first);
      if (agreed || (questions >= QUESTIONS_MIN && performance.now() > deadline)) break;
      settled.asked_again++;
      settled.disagreed_at = performance.now();
      await delay(ASK_AGAIN_MS);
    }
    settled.at = performance.now();
  });
  return settled;
}

/**
 * Where peers do not say what a client was told: what became of the other outcome.
 *
 * @param runs by key
 */
export async function findSuperseded(
  client: RoamingClient,
  all: readonly Told[],
  runs: ReadonlyMap<string, Run[]>,
): Promise<void> {
  const differing = all.filter(({ outcome, everywhere }) => new Set([outcome, ...everywhere]).size > 1);
  await inParallel(differing, QUESTIONS_AT_ONCE, async (told) => {
    const lost = [
      supersededBy(client, told.job),
      ...[...rootsOf(told.job, runs)].map((uid) => setAsideAs(client, told.job, uid)),
    ];
    told.superseded = (await Promise.all(lost)).flat();
  });
}

/** The outcomes that a record shows as those that lost. */
async function supersededBy(client: RoamingClient, job: Job): Promise<string[]> {
  const { superseded = [] } = (await answerTo(client, statusOf(job), STATUS_WAIT_MS)) as { superseded?: JsonObject[] };
  return superseded.map(outcomeOf).filter((outcome) => outcome !== undefined);
}

/** The outcome of a record that gave way to another one with its id; none if this one did not. */
async function setAsideAs(client: RoamingClient, { kind, id }: Job, uid: string): Promise<string[]> {
  // Most did not, so it is asked once.
  const outcome = outcomeOf(await answerTo(client, questionOf({ kind, id: `${id}~${uid}` }), 0));
  return outcome === undefined ? [] : [outcome];
}

/** Nothing of a record that nobody knows. */
async function answerTo(
  client: RoamingClient,
  [tool, input]: [tool: string, input: JsonObject],
  waitMs: number,
): Promise<JsonObject> {
  try {
    const deadline = performance.now() + waitMs;
    return (await client.anywhere(tool, input, () => deadline)).answer;
  } catch (error) {
    const { cause } = error as Error;
    if (cause instanceof RemoteError && cause.code === 'NOT_FOUND') return {};
    throw error;
  }
}

async function outcomeAt(client: RoamingClient, peer: PeerProcess, job: Job): Promise<string | undefined> {
  try {
    return outcomeOf(await client.call(peer, ...questionOf(job)));
  } catch {
    // It is asked again until the deadline, and then tells of no end.
    return undefined;
  }
}
