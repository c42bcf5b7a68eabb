/** What a lying peer of a simulated mesh may lie about (`liar.ts`). Each liar has some of these habits, by its seed. */
export const LIES = [
  /** Its actions give what they like. */
  'wrong outputs',
  /** It takes leases and never works. */
  'idle',
  /** Results, progress and refusals of leases that others have. */
  'foreign leases',
  /** Claims of feeds: in its beats, as takeovers, and with commits. */
  'feeds',
  /** Copies that were altered, or invented, and how far they are. */
  'copies',
  /** How far its disk is, to owners that it follows. */
  'cursors',
  /** Roots that it invented, or altered, handed over. */
  'hand-overs',
  /** Ids that it says it has, or that others have. */
  'ids',
  /** What it said or heard before, to anybody. */
  'replays',
  /** Messages without sense. */
  'nonsense',
  /** Many messages at once. */
  'floods',
  /** What it offers, holds, knows and queues. */
  'beats',
] as const;
export type Lie = (typeof LIES)[number];
