/** Limits of what a secured mesh remembers of its members, and how long what it says is good for (P7). */

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

/** A member's certificate; renewed at two thirds of it. The root may set another time for what an issuer issues. */
export const MEMBER_TTL_MS = 30 * DAY_MS;
export const MEMBER_TTL_MIN_MS = 10_000;
export const MEMBER_TTL_MAX_MS = 365 * DAY_MS;
/** An issuer's certificate, which the root signs. */
export const ISSUER_TTL_MS = 365 * DAY_MS;
export const INVITE_TTL_MS = HOUR_MS;
export const INVITE_TTL_MIN_MS = 1_000;
export const INVITE_TTL_MAX_MS = 30 * DAY_MS;
export const INVITE_USES_MAX = 1_000;
/** A key of a caller. Each has an end: what is forgotten only then, is bounded. */
export const KEY_TTL_MS = 90 * DAY_MS;
export const KEY_TTL_MIN_MS = 1_000;
export const KEY_TTL_MAX_MS = 2 * 365 * DAY_MS;
/** How far the clocks of two machines may be apart for what begins now. */
export const CLOCK_SKEW_MS = 5 * MINUTE_MS;
/** What expired so long ago is forgotten. */
export const EXPIRED_KEPT_MS = 90 * DAY_MS;
export const PRUNE_EVERY_MS = HOUR_MS;
/** How often a peer looks whether its certificate is to be renewed, and whose has expired. */
export const STANDING_CHECK_MS = 1_000;
/** After a renewal that failed. Doubles. */
export const RENEW_RETRY_MIN_MS = 2_000;
export const RENEW_RETRY_MAX_MS = 10 * MINUTE_MS;
/** An expired peer says so this often in its log. */
export const EXPIRED_REMINDER_MS = DAY_MS;

export const MEMBERS_MAX = 1_024;
export const INVITES_MAX = 1_024;
/** Those that were revoked or have expired not long ago included. */
export const KEYS_MAX = 1_024;
/** Permissions that a key names itself, besides its role. */
export const KEY_PERMITS_MAX = 32;
export const REVOCATIONS_MAX = 4_096;
export const ROOTS_MAX = 16;
/** Statements that a revocation names as those that stay. */
export const KEEPS_MAX = 8_192;
export const STATEMENT_BYTES_MAX = 8 * 1_024;
/** All statements of a mesh at once: what two peers may have to tell each other when they meet. */
export const LEDGER_BYTES_MAX = 4 * 1_024 * 1_024;
/** What somebody who has not been admitted may say. */
export const STRANGER_BYTES_MAX = 64 * 1_024;
/** From the end of the encryption's handshake to the admission. */
export const ADMISSION_TIMEOUT_MS = 5_000;
/** Connections of one address, or one public IPv6 network, that are not admitted yet. */
export const STRANGERS_PER_ADDRESS_MAX = 32;
/** Connections that are not admitted yet. */
export const STRANGERS_MAX = 128;
/** Refusals that are remembered, to tell who dials why the connection was closed. */
export const REFUSALS_KEPT_MAX = 256;
/** How long an issuer waits until another disk has a redemption. */
export const REDEMPTION_COPY_WAIT_MS = 3_000;
/** Members in one call of another member, and its answer. */
export const MEMBERSHIP_CALL_TIMEOUT_MS = 10_000;
export const TOKEN_CHARS_MAX = 4_096;
export const TOKEN_SPONSORS_MAX = 6;
