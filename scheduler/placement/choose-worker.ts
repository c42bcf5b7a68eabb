/**
 * Which worker gets a task. Pure: candidates in, choice and reason out.
 *
 * Two random choices among the best and the better of them (Mitzenmacher, "The Power of Two Choices in Randomized Load
 * Balancing", 2001) keeps many owners that see the same slightly old beats from all choosing the same worker. A tie
 * goes to the local worker: no hop is the fastest hop.
 */
import type { Candidate } from '../membership/peer-table.ts';

/** Scores closer than this count as equal: beats are up to a second old, so a few percent of load are noise. */
const TIE_SCORE = 0.05;
/** The two random choices are drawn from the candidates whose score is within this of the best. */
const BEST_SCORE_SPREAD = 0.15;
/** A round trip this long weighs as much as a fully loaded worker. */
const RTT_WEIGHT_MS = 200;
/** This many waiting tasks per slot weigh as much as a fully loaded worker. */
const QUEUE_WEIGHT_TASKS_PER_SLOT = 10;

/** Lower is better; 0 is an idle local worker. */
export function score(candidate: Candidate): number {
  const load = 1 - candidate.free / Math.max(candidate.slots, 1);
  const queue = candidate.queued / Math.max(candidate.slots, 1) / QUEUE_WEIGHT_TASKS_PER_SLOT;
  const distance = candidate.local ? 0 : candidate.rtt_ms / RTT_WEIGHT_MS;
  return load + Math.min(queue, 1) + Math.min(distance, 1) + candidate.loss_rate;
}

/**
 * @param candidates workers that can run the task, with free slots or not
 * @param random uniform in [0, 1)
 * @returns the chosen worker, or null when none has a free slot; `reason` says why, for people
 */
export function choose(
  candidates: readonly Candidate[],
  random: () => number,
): { chosen: Candidate | null; reason: string } {
  let best: { candidate: Candidate; score: number }[] = [];
  let lowest = Number.POSITIVE_INFINITY;
  let wishes = 0;
  for (const candidate of candidates) {
    if (candidate.free <= 0 || candidate.wishes < wishes) continue;
    if (candidate.wishes > wishes) {
      wishes = candidate.wishes;
      best = [];
      lowest = Number.POSITIVE_INFINITY;
    }
    const value = score(candidate);
    best.push({ candidate, score: value });
    if (value < lowest) lowest = value;
  }
  if (best.length === 0) {
    return { chosen: null, reason: candidates.length === 0 ? 'no connected worker can run it' : whyFull(candidates) };
  }
  const preferred = wishes > 0 ? ' of those it prefers' : '';
  const local = best.find(({ candidate, score }) => candidate.local && score <= lowest + TIE_SCORE);
  if (local !== undefined)
    return {
      chosen: local.candidate,
      reason: (best.length === 1 ? 'the only one with a free slot' : 'local and no worse') + preferred,
    };
  best = best.filter(({ score }) => score <= lowest + BEST_SCORE_SPREAD);
  const one = draw(best, random);
  const two = draw(best, random);
  const winner = two.score < one.score ? two : one;
  return {
    chosen: winner.candidate,
    reason:
      (best.length === 1 ? 'the least loaded' : `the better of two among the ${best.length} least loaded`) + preferred,
  };
}

function draw<T>(from: readonly T[], random: () => number): T {
  return from[Math.floor(random() * from.length)]!;
}

/** Why a task waits when some workers can run it, but all their slots are taken. */
export function whyFull(candidates: readonly Candidate[]): string {
  let slots = 0;
  for (const candidate of candidates) slots += candidate.slots;
  return slots === 1 ? 'the only slot for it is taken' : `all ${slots} slots are taken`;
}
