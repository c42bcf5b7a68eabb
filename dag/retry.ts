/** How long to wait before the next attempt. */
import type { Retry } from './schema.ts';

/**
 * Exponential backoff, capped; with jitter uniform between 0 and the computed delay ("full jitter": Brooker, M.,
 * Exponential Backoff and Jitter, AWS Architecture Blog, 2015).
 *
 * @param failures attempts that failed so far, at least 1
 * @param random uniform in [0, 1)
 * @returns whole milliseconds
 */
export function retryDelayMs(retry: Retry, failures: number, random: number): number {
  const exponent = Math.max(0, failures - 1);
  // A large power is Infinity, which the cap turns into max_delay_ms; 0 times Infinity would be NaN.
  const grown = retry.initial_delay_ms === 0 ? 0 : retry.initial_delay_ms * retry.backoff_factor ** exponent;
  const delay = Math.min(grown, retry.max_delay_ms);
  return Math.round(retry.jitter ? delay * random : delay);
}
