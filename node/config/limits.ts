/** What a caller may ask of a peer, where callers are asked who they are and the settings (`limits`) say nothing else. */

export const CALLER_REQUESTS_PER_SECOND = 1_000;
/** Of one tool. */
export const CALLER_CALLS_PER_SECOND = 1_000;
export const CALLER_SUBMISSIONS_PER_MINUTE = 10_000;
/** Bodies of HTTP requests. */
export const CALLER_BYTES_PER_MINUTE = 512 * 1024 * 1024;
export const CALLER_OPEN_WORKFLOWS_MAX = 10_000;
