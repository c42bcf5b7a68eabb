/** How long to wait before the next attempt. */
import type { ErrorShape } from './errors.ts';
import type { Retry } from './schema.ts';

/**
 * Exponential backoff, capped; with jitter uniform between 0 and the computed delay ("full jitter": Brooker, M.,
 * Exponential Backoff and Jitter, AWS Architecture Blog, 2015).
 *
 * @param failures attempts that failed so far, at least 1
 * @param random uniform in [0, 1)
 * @param askedMs the wait that the other side asked for: the result is not shorter, but never over `max_delay_ms`
 * @returns whole milliseconds
 */
export function retryDelayMs(retry: Retry, failures: number, random: number, askedMs = 0): number {
  const exponent = Math.max(0, failures - 1);
  // A large power is Infinity, which the cap turns into max_delay_ms; 0 times Infinity would be NaN.
  const grown = retry.initial_delay_ms === 0 ? 0 : retry.initial_delay_ms * retry.backoff_factor ** exponent;
  const delay = Math.min(grown, retry.max_delay_ms);
  const own = retry.jitter ? delay * random : delay;
  return Math.round(Math.min(Math.max(own, askedMs), retry.max_delay_ms));
}

/** The wait that a server asked for in a failed attempt (`Retry-After`), in milliseconds; 0 when it did not ask. */
export function askedDelayMs(error: ErrorShape): number {
  const asked = error.details?.['retry_after_ms'];
  return typeof asked === 'number' && Number.isFinite(asked) ? Math.max(asked, 0) : 0;
}
