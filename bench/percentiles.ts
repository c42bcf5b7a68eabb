/** The few numbers that stand for many. */

export interface Percentiles {
  p50: number;
  /** Null where there were too few samples for it to mean anything. */
  p95: number | null;
  p99: number | null;
}

/** Fewer samples have no tail to speak of. */
const TAIL_SAMPLES_MIN = 20;

/** @param values at least one */
export function percentilesOf(values: readonly number[]): Percentiles {
  const sorted = values.toSorted((a, b) => a - b);
  const hasTail = sorted.length >= TAIL_SAMPLES_MIN;
  return { p50: at(sorted, 0.5), p95: hasTail ? at(sorted, 0.95) : null, p99: hasTail ? at(sorted, 0.99) : null };
}

/** Of each figure the median; null when a round lacks it. */
export function medianOf(rounds: readonly Percentiles[]): Percentiles {
  return {
    p50: median(rounds.map(({ p50 }) => p50)),
    p95: medianOrNull(rounds.map(({ p95 }) => p95)),
    p99: medianOrNull(rounds.map(({ p99 }) => p99)),
  };
}

/** @param values at least one */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

function medianOrNull(values: readonly (number | null)[]): number | null {
  const known = values.filter((value) => value !== null);
  return known.length === values.length ? median(known) : null;
}

/** Nearest rank. */
function at(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * share) - 1)]!;
}
