/**
 * Which kinds of faults there are in a run. A seed has some and not others: now and then none, often one alone, so that
 * what fails can be read.
 */
import type { SeededRandom } from './world.ts';

export const FAULT_KINDS = [
  'crash',
  'stop',
  'hold',
  'loss',
  'delay',
  'duplication',
  'reordering',
  'cut',
  'partition',
  'mute',
  'clocks',
  'full disk',
  'failed fsync',
  'slow peer',
  'join',
  'leave',
  'lost disk',
  'old disk',
  /** A member that lies (`liar.ts`), until all heals. */
  'liar',
  /** No fault: feeds that take several pages. */
  'large rows',
  /** No fault: work that takes as long as a take-over. */
  'long work',
  /** No fault: most workflows want to be on three disks. */
  'three copies',
  /** No fault: many submits are cancelled. */
  'cancel',
  /** No fault: records are removed. */
  'clear',
] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

const NO_FAULTS_SHARE = 0.06;
const ONE_KIND_SHARE = 0.25;
const KIND_CHANCE = 0.35;
/** Of the runs with favoured kinds, those with no others, which would hide what the favoured ones do. */
const FAVOURED_ALONE_SHARE = 0.75;
/** How much more often a favoured kind strikes. */
export const FAVOUR = 3;

export interface FaultPlan {
  kinds: Set<FaultKind>;
  favoured: ReadonlySet<FaultKind>;
}

/** Kinds that take no peer from the others, not even for a while. */
const HARMLESS: ReadonlySet<FaultKind> = new Set([
  'loss',
  'delay',
  'duplication',
  'reordering',
  'clocks',
  'join',
  'large rows',
  'long work',
  'three copies',
  'cancel',
  'clear',
]);

/** Whether a peer, or a link to one, may be gone for a while in runs with this plan. */
export function losesPeers({ kinds }: FaultPlan): boolean {
  return [...kinds].some((kind) => !HARMLESS.has(kind));
}

/** Kinds with which a peer that is connected may leave a question unanswered, or answer it late. */
const DELAYING: ReadonlySet<FaultKind> = new Set([
  'stop',
  'hold',
  'loss',
  'delay',
  'mute',
  'full disk',
  'failed fsync',
  'slow peer',
  'leave',
  'liar',
]);

/** Whether every peer that is connected answers at once in runs with this plan. */
export function areAnswersPrompt({ kinds }: FaultPlan): boolean {
  return [...kinds].every((kind) => !DELAYING.has(kind));
}

/** @param favoured kinds that are always there, and strike more often */
export function planFaults(random: SeededRandom, favoured: readonly FaultKind[] = []): FaultPlan {
  const share = random.next();
  const kinds = new Set<FaultKind>(favoured);
  if (favoured.length > 0 && random.chance(FAVOURED_ALONE_SHARE)) return { kinds, favoured: kinds };
  if (share >= NO_FAULTS_SHARE + ONE_KIND_SHARE) {
    for (const kind of FAULT_KINDS) if (random.chance(KIND_CHANCE)) kinds.add(kind);
  } else if (share >= NO_FAULTS_SHARE) kinds.add(random.pick(FAULT_KINDS));
  return { kinds, favoured: new Set(favoured) };
}
