/** For what no event tells: asks again until it holds, within a bound. */
import { HANG_MS } from './patience.ts';

const INTERVAL_MS = 20;

export interface Patience {
  /** Default: HANG_MS. */
  timeoutMs?: number;
  /** Default: INTERVAL_MS. */
  intervalMs?: number;
}

/**
 * Resolves with the first value of `check` that is not false or undefined.
 *
 * @param what completes "waited … ms until", in the error
 * @throws with the last error of `check` as its cause, when the time is up
 */
export async function eventually<T>(
  what: string,
  check: () => T | Promise<T>,
  { timeoutMs = HANG_MS, intervalMs = INTERVAL_MS }: Patience = {},
): Promise<Exclude<T, false | undefined>> {
  const end = performance.now() + timeoutMs;
  let last: unknown;
  do {
    try {
      const value = await check();
      if (value !== false && value !== undefined) return value as Exclude<T, false | undefined>;
      last = undefined;
    } catch (error) {
      last = error;
    }
    await new Promise((resolve) => setTimeout(resolve, intervalMs));
  } while (performance.now() < end);
  const why = last instanceof Error ? `: ${last.message}` : '';
  throw new Error(`waited ${timeoutMs} ms until ${what}${why}`, { cause: last });
}
