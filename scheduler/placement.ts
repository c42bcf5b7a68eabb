/**
 * Which worker gets a task. Pure: candidates in, choice and reason out.
 *
 * Two random choices among the best and the better of them (Mitzenmacher, "The Power of Two Choices in Randomized Load
 * Balancing", 2001) keeps many owners that see the same slightly old beats from all choosing the same worker. A tie goes
 * to the local worker: no hop is the fastest hop.
 */
import type { Requires } from '../dag/schema.ts';
import type { WorkerState } from './messages.ts';
import type { Placement } from './records.ts';

/** What a task needs of the worker that gets it, and what it wishes for. */
export interface Wanted {
  action: string;
  requires: Requires;
  /** What the worker's peer has to allow, as the executors name it: `shell:wc`, `http:example.org`. */
  needs: readonly string[];
  /** Labels of a worker that is chosen before others while it has a free slot. */
  prefer: readonly string[];
  /** Peers that have refused this very task by their policy (`Directory.markOf`). */
  barred: readonly string[];
}

/** Actions that are a state of the task's record: they are placed nowhere, hold no slot and survive restarts. */
export const RECORD_ACTIONS: ReadonlySet<string> = new Set(['sleep', 'approve', 'workflow']);

export interface Candidate {
  peer_id: string;
  worker_id: string;
  local: boolean;
  slots: number;
  /** Slots believed free now. */
  free: number;
  /** Tasks waiting at that peer for its own workers. */
  queued: number;
  rtt_ms: number;
  /** Leases this owner lost there, of all it gave there: 0–1. */
  loss_rate: number;
  found_by: NonNullable<Placement['found_by']>;
  /** How many of the labels that the task prefers it has. */
  wishes: number;
}

/** Scores closer than this count as equal: a few percent of load are noise of beats a second old. */
const TIE_SCORE = 0.05;
/** Candidates within this of the best are "the best" that two are drawn from. */
const BEST_SCORE_SPREAD = 0.15;
/** A round trip this long weighs as much as a fully loaded worker. */
const RTT_WEIGHT_MS = 200;
/** So many waiting tasks per slot weigh as much as a fully loaded worker. */
const QUEUE_WEIGHT_TASKS_PER_SLOT = 10;

/** True when a worker can run tasks with this action and these requirements at all, now or when it has a slot. */
export function canRun(
  worker: WorkerState,
  peer: { peer_id: string; name: string },
  { action, requires, needs }: Pick<Wanted, 'action' | 'requires' | 'needs'>,
): boolean {
  if (worker.status !== 'active') return false;
  if (!worker.actions.includes(action)) return false;
  if (requires.peers.length > 0 && !requires.peers.some((wanted) => wanted === peer.peer_id || wanted === peer.name)) {
    return false;
  }
  if (!requires.labels.every((label) => worker.labels.includes(label))) return false;
  if (requires.cpu_cores !== undefined && (worker.cpu_cores ?? 0) < requires.cpu_cores) return false;
  if (requires.memory_gb !== undefined && (worker.memory_gb ?? 0) < requires.memory_gb) return false;
  return needs.every((need) => allows(worker, need));
}

/**
 * True when the policy of a worker's peer allows what a task needs: by its name, by `<action>:*`, or by `*.` before the
 * end of it. A peer of a version that does not say may allow it.
 */
export function allows({ allows: allowed }: Pick<WorkerState, 'allows'>, need: string): boolean {
  if (allowed === undefined || allowed.includes(need)) return true;
  const [action, what] = splitNeed(need);
  if (what === null) return false;
  return allowed.some((entry) => {
    const [of, pattern] = splitNeed(entry);
    if (of !== action || pattern === null) return false;
    return pattern === '*' || (pattern.startsWith('*.') && what.endsWith(pattern.slice(1)));
  });
}

/** `shell:wc` as `shell` and `wc`; null after what stands alone. */
export function splitNeed(need: string): [action: string, what: string | null] {
  const colon = need.indexOf(':');
  return colon === -1 ? [need, null] : [need.slice(0, colon), need.slice(colon + 1)];
}

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
 * @returns the chosen one with a free slot, or null
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

/** Why a task waits that some workers can run, and none of them has a free slot. */
export function whyFull(candidates: readonly Candidate[]): string {
  let slots = 0;
  for (const candidate of candidates) slots += candidate.slots;
  return slots === 1 ? 'the only slot for it is taken' : `all ${slots} slots are taken`;
}

/**
 * The strings under which a worker's peer announces itself in the DHT: its actions and labels, then what it allows of
 * the actions.
 */
export function capabilityNames(workers: readonly WorkerState[]): string[] {
  const names = new Set<string>();
  const allowed = new Set<string>();
  for (const worker of workers) {
    if (worker.status !== 'active') continue;
    for (const action of worker.actions) names.add(`action:${action}`);
    for (const label of worker.labels) names.add(`label:${label}`);
    for (const each of worker.allows ?? []) allowed.add(`action:${each}`);
  }
  return [...[...names].sort(), ...[...allowed].sort()];
}

/**
 * What a capability that a person names may be announced as: that it is an action or a label, only its peer knows. What
 * is allowed of an action (`shell:wc`) may be one of all that are (`shell:*`).
 */
export function announcedAs(capability: string): string[] {
  const [action, what] = splitNeed(capability);
  const names = [`action:${capability}`, `label:${capability}`];
  return what === null || what === '*' || action === 'fn' ? names : [...names, `action:${action}:*`];
}

/** The rarest thing a task needs, to ask the DHT for: a label when it has one, else what it needs, else its action. */
export function capabilitiesToLookUp({ action, requires, needs }: Wanted): string[] {
  const label = requires.labels[0];
  if (label !== undefined) return [`label:${label}`];
  const [need] = needs;
  if (need === undefined) return [`action:${action}`];
  const [of, what] = splitNeed(need);
  return what === null ? [`action:${need}`] : [`action:${need}`, `action:${of}:*`];
}
