/** P7: every bound of finding out who calls, with its unit in the name. */

/** A longer token is none. */
export const TOKEN_CHARS_MAX = 8_192;
/** The public keys of who makes tokens: size of what is read, and how long that may take. */
export const JWKS_BYTES_MAX = 256 * 1_024;
export const JWKS_TIMEOUT_MS = 4_000;
/** How long they count, without being asked for again. */
export const JWKS_KEPT_MS = 10 * 60_000;
/** How soon they are asked for again when a token names one that is not there. */
export const JWKS_COOLDOWN_MS = 30_000;
/** After an attempt that failed; who calls meanwhile is told so at once. */
export const JWKS_RETRY_MS = 2_000;
/** How long a token that was taken is taken without another look at its signature, and how many of them. */
export const TOKEN_KEPT_MS = 60_000;
export const TOKENS_KEPT_MAX = 1_024;
/** Permissions that a token may name. */
export const TOKEN_PERMISSIONS_MAX = 128;
