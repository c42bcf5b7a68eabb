/** P7: the bounds of calls between event loops. */

/** Calls that the router carries at once; one that was given up counts until the mesh loop is done with it. */
export const CALLS_IN_FLIGHT_MAX = 1_024;
/** Calls of other peers that run on the mesh loop at once. */
export const INBOUND_CALLS_MAX = 1_024;
/** A call without a deadline of its own ends after this, or when it has waited as long as its input says and had time to answer. */
export const CALL_DEADLINE_DEFAULT_MS = 600_000;
/** The mesh loop counts as not ready when it has not said how it is within this. */
export const STATE_DEADLINE_MS = 2_000;
/** From the start of the mesh loop until it can take calls; a large store takes a while to read. */
export const MESH_START_DEADLINE_MS = 60_000;
/** Restarts of a crashed mesh loop within `MESH_RESTART_WINDOW_MS`; one more and the peer gives up. */
export const MESH_RESTARTS_MAX = 5;
export const MESH_RESTART_WINDOW_MS = 60_000;
/** Leases remembered that a crashed mesh loop had worked on, until their owners know; older ones are forgotten. */
export const CRASHED_LEASES_MAX = 1_024;
/** The first restart comes at once, the next after this, doubled each time. */
export const MESH_RESTART_DELAY_MS = 100;
export const MESH_RESTART_DELAY_MAX_MS = 5_000;
/** How long calls that run may take to end when the peer stops; then they are ended. */
export const CALLS_GRACE_MS = 500;
/** How long one part may take to close; what is still open then is left to the end of the process. */
export const CLOSE_DEADLINE_MS = 4_000;
/** How long the mesh loop as a whole may take to hand over and close before its thread is ended. */
export const MESH_STOP_DEADLINE_MS = 8_000;
/** Peers asked at once by a call with `scope: "mesh"`. */
export const EVERYWHERE_CONCURRENCY = 16;
/** How long such a call waits for the slowest of them. */
export const EVERYWHERE_DEADLINE_MS = 5_000;
/** How long an answer of the serve loop waits for the mesh loop to say why tasks wait. */
export const WHY_WAITING_DEADLINE_MS = 2_000;
/** A mesh thread that said it stopped may write its last log lines for this long, then it is ended. */
export const THREAD_EXIT_GRACE_MS = 200;
/** The input of a call that is larger, as JSON, has turns of the mesh loop of its own. */
export const LARGE_INPUT_CHARS = 64 * 1024;
/** The longest deadline that a caller can give a call. */
export const CALL_DEADLINE_MAX_MS = 3_600_000;
