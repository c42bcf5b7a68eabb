/**
 * Who shows a key or a token: the user of this peer, a key of its settings, a key of the mesh, or whom a token names.
 *
 *   const authenticator = new Authenticator({ settings: config.auth, adminKey, log });
 *   authenticator.keys.set(keys);                  // whenever the mesh side tells them
 *   await authenticator.principalOf('fmk1_…');     // who that is, or an AuthError
 *
 * What somebody may do is asked at each call: a key or a token that ends, ends with the next one.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { Log } from '../../scheduler/ports.ts';
import { type AuthSettings, type JwtSettings, rolesOf } from '../config/auth.ts';
import { looksLikeKey } from '../membership/api-key.ts';
import { AuthError } from './errors.ts';
import type { JwtReader } from './jwt.ts';
import { KnownKeys } from './known-keys.ts';
import { TOKEN_CHARS_MAX } from './limits.ts';
import { localUser } from './local-user.ts';
import { type Principal, principalOf } from './principal.ts';

/** No key of the mesh can be called that. */
const SETTINGS_KEY_ID = 'key:(settings)';

export interface AuthenticatorOptions {
  settings: AuthSettings;
  /** What the user of this peer shows. */
  adminKey: string;
  log: Log;
  /** Wall-clock milliseconds. Default: Date.now. */
  now?: () => number;
}

export class Authenticator {
  readonly settings: AuthSettings;
  readonly keys: KnownKeys;
  readonly #log: Log;
  readonly #now: () => number;
  /** By the hash of what is shown. */
  readonly #fixed: { digest: Buffer; principal: Principal }[];
  #jwt: Promise<JwtReader> | undefined;

  constructor({ settings, adminKey, log, now = Date.now }: AuthenticatorOptions) {
    this.settings = settings;
    this.#log = log;
    this.#now = now;
    const roles = rolesOf(settings);
    this.keys = new KnownKeys(roles);
    this.#fixed = [{ digest: digestOf(adminKey), principal: localUser() }];
    if (settings.api_key !== undefined) {
      const principal = principalOf(SETTINGS_KEY_ID, roles[settings.api_key_role]!, { name: 'auth.api_key' });
      this.#fixed.push({ digest: digestOf(settings.api_key), principal });
    }
  }

  /** @param shown a key or a token, as it was sent @throws AuthError */
  async principalOf(shown: string): Promise<Principal> {
    if (shown.length > TOKEN_CHARS_MAX) throw new AuthError('TOKEN_INVALID');
    const digest = digestOf(shown);
    // In constant time: a key is not to be guessed letter by letter.
    const fixed = this.#fixed.find((each) => timingSafeEqual(each.digest, digest));
    if (fixed !== undefined) return fixed.principal;
    if (looksLikeKey(shown)) return this.keys.find(shown, this.#now());
    const { jwt } = this.settings;
    if (jwt === undefined || !/^[\w-]+\.[\w-]+\.[\w-]*$/.test(shown)) throw new AuthError('TOKEN_INVALID');
    this.#jwt ??= this.#openJwt(jwt);
    return (await this.#jwt).principalOf(shown);
  }

  /** Loaded with the first token: a peer that takes none goes without. */
  async #openJwt(jwt: JwtSettings): Promise<JwtReader> {
    const { JwtReader: Reader } = await import('./jwt.ts');
    return new Reader({ ...this.settings, jwt }, this.#log);
  }
}

function digestOf(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
