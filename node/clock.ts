/**
 * The real time behind `scheduler/ports.ts`: `performance.now` for what is measured, `Date` for what people read.
 */
import type { Clock } from '../scheduler/ports.ts';

/** The longest delay a timer of Node takes; a longer one would fire at once. */
const TIMER_MAX_MS = 2 ** 31 - 1;

/** The clock of this event loop. `now` starts near 0 with the thread, so it means nothing on another thread. */
export function createClock(): Clock {
  return {
    now: () => performance.now(),
    wall: () => Date.now(),
    after,
    defer: (callback) => void setImmediate(callback),
  };
}

/** Calls back after any time, however long. @returns what calls it off */
export function after(delayMs: number, callback: () => void): () => void {
  // Node truncates fractions, and a timer that fires before its time would make its owner ask again for nothing.
  let remaining = Math.max(0, Math.ceil(delayMs));
  let timer: NodeJS.Timeout;
  const arm = () => {
    const next = Math.min(remaining, TIMER_MAX_MS);
    remaining -= next;
    timer = setTimeout(remaining > 0 ? arm : callback, next);
  };
  arm();
  return () => clearTimeout(timer);
}
