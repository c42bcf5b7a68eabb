/** P7: every bound of the MCP side of a peer, with its unit in the name. */
import { SUBMISSION_BYTES_MAX } from '../../dag/limits.ts';

/** Room for the JSON-RPC envelope, white space and escapes around the largest submission. */
const ENVELOPE_BYTES = 1024 * 1024;
/** One HTTP body or one stdio line. */
export const MESSAGE_BYTES_MAX = SUBMISSION_BYTES_MAX + ENVELOPE_BYTES;
/** Bodies that are being read at once, together; beyond it a request is told to come back. */
export const BODIES_BYTES_MAX = 8 * MESSAGE_BYTES_MAX;
/** So much of each body is read whatever else is: those of others that are large keep no small one out. */
export const SMALL_BODY_BYTES = 64 * 1_024;
/** Messages in one body. */
export const BATCH_MESSAGES_MAX = 100;
/** The answer to an approval. */
export const ANSWER_BYTES_MAX = SUBMISSION_BYTES_MAX;
/** What is asked of the peer itself: to drain, or about its mesh. */
export const CONTROL_BYTES_MAX = 64 * 1024;
/** All headers of a request. */
export const HEADERS_BYTES_MAX = 16 * 1024;
export const CONNECTIONS_MAX = 2_048;

/** Sessions of HTTP clients; the one that rested longest makes room for a new one. */
export const SESSIONS_MAX = 1_024;
/** Of them those of one caller, where callers are asked who they are. */
export const SESSIONS_OWNER_SHARE = 1 / 8;
export const SESSION_IDLE_MS = 30 * 60_000;
export const SESSION_SWEEP_MS = 30_000;

/** Slow clients: time to send the headers, a body, and between two requests of a connection. */
export const HEADERS_TIMEOUT_MS = 10_000;
export const BODY_TIMEOUT_MS = 60_000;
export const CONTROL_TIMEOUT_MS = 10_000;
/** The whole request: who is too slow is told so by a sentence before. */
export const REQUEST_TIMEOUT_MS = HEADERS_TIMEOUT_MS + BODY_TIMEOUT_MS + 5_000;
export const KEEP_ALIVE_TIMEOUT_MS = 75_000;
export const TIMEOUT_CHECK_MS = 5_000;
/** With TLS: time for its handshake. */
export const HANDSHAKE_TIMEOUT_MS = 10_000;

/** How often the files of the certificate are read again, where no change of them was told. */
export const CERTIFICATE_LOOK_MS = 60_000;
/** After a change was told: time for the other file to be written, too. */
export const CERTIFICATE_SETTLE_MS = 200;

/**
 * After an answer that came before the request was read: what is still read, and thrown away, so that the client
 * gets the answer and not a reset connection.
 */
export const LINGER_MS = 1_000;
export const LINGER_BYTES_MAX = 4 * MESSAGE_BYTES_MAX;

/** How often a client that asked for progress hears that its call still runs. */
export const PROGRESS_EVERY_MS = 1_000;
/** How long a browser may remember what a preflight said. */
export const PREFLIGHT_AGE_S = 600;

/** How long `/ready` waits for the router before it says "not ready". */
export const READY_DEADLINE_MS = 2_000;
/** How long a stop waits for calls that run. */
export const CLOSE_GRACE_MS = 2_000;
/** What a client that meets a full peer is told to wait. */
export const RETRY_AFTER_S = 2;
