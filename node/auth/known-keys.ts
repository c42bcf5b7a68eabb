/** Keys of the mesh as the loop that serves has them: told by the mesh side whenever they change. */
import type { JsonObject } from '../../dag/errors.ts';
import { type KnownKey, keyHashOf, keyIdOf } from '../membership/api-key.ts';
import { CLOCK_SKEW_MS } from '../membership/limits.ts';
import { AuthError } from './errors.ts';
import { type Principal, principalOf } from './principal.ts';

interface Kept {
  key: KnownKey;
  /** Null for a key that gives nothing here. */
  principal: Principal | null;
}

export class KnownKeys {
  readonly #roles: Record<string, readonly string[]>;
  #kept = new Map<string, Kept>();
  /** Ms since 1970, by hash; since this peer started. */
  readonly #usedAt = new Map<string, number>();

  constructor(roles: Record<string, readonly string[]>) {
    this.#roles = roles;
  }

  /** Takes all keys of the mesh, in place of those that were told before. */
  set(keys: readonly KnownKey[]): void {
    this.#kept = new Map(keys.map((key) => [key.hash, { key, principal: this.#principalOf(key) }]));
    for (const hash of this.#usedAt.keys()) if (!this.#kept.has(hash)) this.#usedAt.delete(hash);
  }

  #principalOf({ name, role, permits, not_after }: KnownKey): Principal | null {
    const ofRole = role === null ? [] : this.#roles[role];
    if (ofRole === undefined) return null;
    const permissions = [...new Set([...ofRole, ...permits])];
    return permissions.length === 0 ? null : principalOf(`key:${name}`, permissions, { name, expires_at: not_after });
  }

  /** @throws AuthError when who shows this text may not call, now */
  find(text: string, now: number): Principal {
    const hash = keyHashOf(text);
    // By its hash: how long it takes to find nothing tells nobody anything about a key.
    const found = hash === null ? undefined : this.#kept.get(hash);
    if (found === undefined) throw new AuthError('TOKEN_INVALID');
    const { key, principal } = found;
    if (key.revoked) throw new AuthError('TOKEN_REVOKED');
    if (now > key.not_after) throw new AuthError('TOKEN_EXPIRED');
    if (now + CLOCK_SKEW_MS < key.not_before) throw new AuthError('TOKEN_NOT_YET_VALID');
    if (principal === null) throw new AuthError('NO_PERMISSIONS');
    this.#usedAt.set(key.hash, now);
    return principal;
  }

  /** Adds to a list of keys when each was used last at this peer, since it started. */
  withUse(output: JsonObject): JsonObject {
    const usedAt = new Map(Array.from(this.#usedAt, ([hash, at]) => [keyIdOf(hash), new Date(at).toISOString()]));
    const keys = (output['keys'] as JsonObject[]).map((key) => {
      return { ...key, last_used_at: usedAt.get(String(key['key_id'])) ?? null };
    });
    return { ...output, keys };
  }
}
