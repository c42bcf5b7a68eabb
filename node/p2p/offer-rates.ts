/**
 * How often one peer's offers are taken and passed on, so that nobody floods the mesh: what is beyond is dropped at the
 * first honest peer on its way. Offers are repeated while work waits, so a dropped one is only later (P6).
 */

/** Offers of one peer a second, for long. It sends one a second by default. */
export const OFFERS_PER_SECOND_MAX = 10;
/** Of one peer at once. */
export const OFFERS_AT_ONCE_MAX = 50;
/** Peers whose rates are remembered. */
const AUTHORS_MAX = 4_096;

interface Bucket {
  left: number;
  at: number;
}

export class OfferRates {
  readonly #buckets = new Map<string, Bucket>();
  readonly #now: () => number;

  /** @param now milliseconds, monotonic */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** Counts an offer. False: it is one too many. */
  take(author: string): boolean {
    const now = this.#now();
    const before = this.#buckets.get(author) ?? { left: OFFERS_AT_ONCE_MAX, at: now };
    const refilled = before.left + ((now - before.at) / 1_000) * OFFERS_PER_SECOND_MAX;
    const left = Math.min(OFFERS_AT_ONCE_MAX, refilled);
    const taken = left >= 1;
    // The one that was heard longest ago goes first.
    this.#buckets.delete(author);
    this.#buckets.set(author, { left: taken ? left - 1 : left, at: now });
    if (this.#buckets.size > AUTHORS_MAX) this.#buckets.delete(this.#buckets.keys().next().value!);
    return taken;
  }
}
