/** Why nobody is believed to be who they say. What is told of it helps who has a key, and not who looks for one. */
import { FlowmeshError } from '../../dag/errors.ts';

const SENTENCES = {
  TOKEN_REQUIRED:
    'This peer asks who calls: send a key or a token as "Authorization: Bearer …", or a key as "x-api-key". An admin makes keys: flowmesh key create <name>',
  TOKEN_INVALID: 'This peer does not take this key or token',
  TOKEN_EXPIRED: 'This key or token has expired: get a new one',
  TOKEN_NOT_YET_VALID: 'This key or token is not valid yet: wait, or set the clocks',
  TOKEN_REVOKED: 'This key was revoked: an admin can make a new one',
  TOKEN_AMBIGUOUS:
    'More than one key or token was sent: send one, in one header "Authorization: Bearer …" or "x-api-key"',
  TOKEN_IN_QUERY:
    'Keys and tokens do not belong into a URL, which others write down: send it as "Authorization: Bearer …". Take one that was in a URL for stolen, and make a new one',
  NO_PERMISSIONS:
    'This key or token gives no permission at this peer: it has none, or a role that the settings of this peer (auth.roles) do not have',
  JWKS_UNAVAILABLE:
    'The keys that tokens are checked with cannot be had now: try again, or tell the admin of this peer',
} as const;
type AuthCode = keyof typeof SENTENCES;

const STATUS: Partial<Record<AuthCode, number>> = {
  TOKEN_AMBIGUOUS: 400,
  TOKEN_IN_QUERY: 400,
  NO_PERMISSIONS: 403,
  JWKS_UNAVAILABLE: 503,
};

export class AuthError extends FlowmeshError {
  /** Of the answer over HTTP. */
  readonly status: number;

  constructor(code: AuthCode, options: { cause?: unknown } = {}) {
    const status = STATUS[code] ?? 401;
    super(code, SENTENCES[code], { retryable: status === 503, ...options });
    this.status = status;
  }

  /** The error of RFC 6750, 3.1; absent where nothing was shown. */
  get bearerError(): string | undefined {
    if (this.code === 'TOKEN_REQUIRED' || this.status === 503) return undefined;
    if (this.status === 403) return 'insufficient_scope';
    return this.status === 400 ? 'invalid_request' : 'invalid_token';
  }
}
