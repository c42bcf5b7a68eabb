/** Bounds of what counts how much callers ask. */

/** When a caller with too many open workflows may come back: nobody knows when one of them ends. */
export const OPEN_WORKFLOWS_RETRY_MS = 5_000;
/** How long a count of open workflows is believed: other peers may have handed some over. */
export const OPEN_WORKFLOWS_COUNT_AGE_MS = 60_000;
/** Callers whose count is kept; the oldest is counted anew. */
export const OPEN_WORKFLOWS_CALLERS_MAX = 10_000;

/** How long a start waits for Redis; without it the limits are this peer's own until it answers. */
export const REDIS_START_WAIT_MS = 2_000;
/** A Redis that does not answer within it is taken for one that is down. */
export const REDIS_ANSWER_WAIT_MS = 500;
export const REDIS_RECONNECT_MAX_MS = 2_000;
