/**
 * Tokens that others made (JWT, RFC 7519), checked with a secret or with the public keys of who made them.
 *
 * 1. The kind of the signature decides with what it is checked: a secret never checks a signature of public keys, nor a
 *    public key one of a secret, and a token without a signature is none.
 * 2. A token that was taken is taken again without another look at its signature, which costs more than the rest of a
 *    call, for TOKEN_KEPT_MS and not beyond its end: what it says does not change.
 * 3. A token has an end (`exp`) and somebody whom it is about (`sub`); issuer and audience are those of the settings.
 */
import { createHash, createSecretKey } from 'node:crypto';
import {
  decodeProtectedHeader,
  errors,
  type JWTPayload,
  type JWTVerifyGetKey,
  type JWTVerifyOptions,
  jwtVerify,
} from 'jose';
import { CALLER_ID_CHARS_MAX } from '../../scheduler/caller.ts';
import type { Log } from '../../scheduler/ports.ts';
import { permissionPatternSchema } from '../../tools/permissions.ts';
import { type AuthSettings, type JwtSettings, rolesOf } from '../config/auth.ts';
import { AuthError } from './errors.ts';
import { remoteKeys } from './jwks.ts';
import { TOKEN_KEPT_MS, TOKEN_PERMISSIONS_MAX, TOKENS_KEPT_MAX } from './limits.ts';
import { type Principal, principalOf } from './principal.ts';

const SECRET_ALGORITHMS = ['HS256', 'HS384', 'HS512'];
const PUBLIC_ALGORITHMS = [
  ...['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'],
  ...['ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519'],
];
const NAME_CHARS_MAX = 64;

export class JwtReader {
  readonly #settings: JwtSettings;
  readonly #roles: Record<string, readonly string[]>;
  readonly #options: JWTVerifyOptions;
  readonly #secret: ReturnType<typeof createSecretKey> | undefined;
  readonly #publicKeys: JWTVerifyGetKey | undefined;
  /** By the hash of the token, in the order in which they were taken; `until` is ms since 1970. */
  readonly #taken = new Map<string, { principal: Principal; until: number }>();

  constructor({ jwt, oauth, roles }: AuthSettings & { jwt: JwtSettings }, log: Log) {
    this.#settings = jwt;
    this.#roles = rolesOf({ roles });
    // RFC 8707: a token for another resource of the same authorization server is not one for this peer.
    const audience = oauth === undefined ? jwt.audience : [oauth.resource, ...[jwt.audience ?? []].flat()];
    this.#options = {
      ...(jwt.issuer !== undefined && { issuer: jwt.issuer }),
      ...(audience !== undefined && { audience }),
      clockTolerance: jwt.leeway_s,
      requiredClaims: ['exp', 'sub'],
    };
    this.#secret = jwt.secret === undefined ? undefined : createSecretKey(Buffer.from(jwt.secret));
    this.#publicKeys =
      jwt.jwks_url === undefined ? undefined : remoteKeys(jwt.jwks_url, { private: jwt.jwks_private, log });
  }

  /** @throws AuthError */
  async principalOf(token: string): Promise<Principal> {
    const digest = createHash('sha256').update(token).digest('base64url');
    const taken = this.#taken.get(digest);
    if (taken !== undefined && Date.now() < taken.until) return taken.principal;
    this.#taken.delete(digest);
    const principal = await this.#read(token);
    if (this.#taken.size >= TOKENS_KEPT_MAX) this.#taken.delete(this.#taken.keys().next().value!);
    this.#taken.set(digest, { principal, until: Math.min(principal.expires_at!, Date.now() + TOKEN_KEPT_MS) });
    return principal;
  }

  async #read(token: string): Promise<Principal> {
    const claims = await this.#verified(token);
    const permissions = this.#permissionsOf(claims);
    const id = jwtCallerId(claims.iss ?? '', claims.sub!);
    const name = typeof claims['name'] === 'string' ? claims['name'].slice(0, NAME_CHARS_MAX) : undefined;
    return principalOf(id, permissions, { name, expires_at: (claims.exp! + this.#settings.leeway_s) * 1_000 });
  }

  async #verified(token: string): Promise<JWTPayload> {
    try {
      const { alg } = decodeProtectedHeader(token);
      if (this.#secret !== undefined && SECRET_ALGORITHMS.includes(alg ?? '')) {
        return (await jwtVerify(token, this.#secret, { ...this.#options, algorithms: SECRET_ALGORITHMS })).payload;
      }
      if (this.#publicKeys !== undefined && PUBLIC_ALGORITHMS.includes(alg ?? '')) {
        return (await jwtVerify(token, this.#publicKeys, { ...this.#options, algorithms: PUBLIC_ALGORITHMS })).payload;
      }
      throw new AuthError('TOKEN_INVALID');
    } catch (error) {
      throw refusalOf(error);
    }
  }

  /** A role that is named and not known here is refused: it was meant to give something else than nothing. */
  #permissionsOf(claims: JWTPayload): string[] {
    const { role_claim, permissions_claim, default_role } = this.#settings;
    const named = textsOf(claimAt(claims, role_claim));
    const own = textsOf(claimAt(claims, permissions_claim))
      .flatMap((each) => each.split(' '))
      .slice(0, TOKEN_PERMISSIONS_MAX)
      .filter((each) => permissionPatternSchema.safeParse(each).success);
    const roles = named.length === 0 && own.length === 0 && default_role !== undefined ? [default_role] : named;
    const known = roles.flatMap((role) => (role in this.#roles ? [this.#roles[role]!] : []));
    const permissions = [...new Set([...known.flat(), ...own])];
    if ((roles.length > 0 && known.length === 0) || permissions.length === 0) throw new AuthError('NO_PERMISSIONS');
    return permissions;
  }
}

/** The same at every peer, and never that of another issuer's subject. */
function jwtCallerId(issuer: string, subject: string): string {
  const id = `jwt:${issuer.replaceAll('%', '%25').replaceAll('#', '%23')}#${subject}`;
  if (id.length <= CALLER_ID_CHARS_MAX && !/\p{C}/u.test(id)) return id;
  return `jwt:sha256:${createHash('sha256').update(id).digest('base64url')}`;
}

/** `realm_access.roles` is a field of an object; a claim whose name has dots is found by its whole name. */
function claimAt(claims: JWTPayload, path: string): unknown {
  if (Object.hasOwn(claims, path)) return claims[path];
  return path.split('.').reduce<unknown>((value, key) => {
    const isObject = typeof value === 'object' && value !== null && Object.hasOwn(value, key);
    return isObject ? (value as Record<string, unknown>)[key] : undefined;
  }, claims);
}

function textsOf(value: unknown): string[] {
  return [value].flat().filter((each) => typeof each === 'string');
}

function refusalOf(error: unknown): AuthError {
  if (error instanceof AuthError) return error;
  if (error instanceof errors.JWTExpired) return new AuthError('TOKEN_EXPIRED');
  const notYet = error instanceof errors.JWTClaimValidationFailed && error.claim === 'nbf';
  if (notYet && error.reason === 'check_failed') return new AuthError('TOKEN_NOT_YET_VALID');
  if (error instanceof errors.JWKSTimeout || error instanceof errors.JWKSInvalid) {
    return new AuthError('JWKS_UNAVAILABLE', { cause: error });
  }
  return new AuthError('TOKEN_INVALID', { cause: error });
}
