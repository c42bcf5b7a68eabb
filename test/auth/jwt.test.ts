/** Which tokens are taken, and whom they name. */
import { createPublicKey, generateKeyPairSync, type JsonWebKey } from 'node:crypto';
import { exportJWK, generateKeyPair, type JWTPayload } from 'jose';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { JwtReader } from '../../node/auth/jwt.ts';
import { type AuthSettings, authSchema, type JwtSettings } from '../../node/config/auth.ts';
import { silentLog } from '../../node/log.ts';
import { CALLER_ID_CHARS_MAX } from '../../scheduler/caller.ts';
import {
  AUDIENCE,
  ISSUER,
  type Minted,
  SECRET,
  secretToken,
  settingsFor,
  signedBySecret,
  TokenMaker,
  unsigned,
} from './tokens.ts';

let maker: TokenMaker;
beforeAll(async () => {
  maker = await TokenMaker.start();
});
afterAll(() => maker[Symbol.asyncDispose]());

const reader = (settings: AuthSettings) => new JwtReader(settings as AuthSettings & { jwt: JwtSettings }, silentLog);
const bySecret = (jwt: object = {}, auth: object = {}) =>
  reader(authSchema.parse({ ...auth, jwt: { secret: SECRET, issuer: ISSUER, audience: AUDIENCE, ...jwt } }));
const byKeys = (jwt: object = {}, auth: object = {}) => reader(settingsFor(maker.jwks_url, jwt, auth));

async function answer(of: JwtReader, token: string | Promise<string>): Promise<string> {
  try {
    return (await of.principalOf(await token)).caller.id!;
  } catch (error) {
    return (error as { code: string }).code;
  }
}

const now = () => Math.floor(Date.now() / 1_000);
const ADA = `jwt:${ISSUER}#ada`;

describe('a token', () => {
  it('of the secret and of the public keys is taken, each alone and both', async () => {
    expect(await answer(bySecret(), secretToken())).toBe(ADA);
    expect(await answer(bySecret(), secretToken({ header: { alg: 'HS512' } }))).toBe(ADA);
    expect(await answer(byKeys(), maker.token())).toBe(ADA);
    const both = byKeys({ secret: SECRET });
    expect([await answer(both, secretToken()), await answer(both, maker.token())]).toEqual([ADA, ADA]);
  });

  it.for(['RS256', 'PS384', 'EdDSA'])('that is signed with %s is taken', async (alg) => {
    await using other = await TokenMaker.start(alg);
    expect(await answer(reader(settingsFor(other.jwks_url)), other.token())).toBe(ADA);
  });

  it('says until when it is good, and how its subject is called', async () => {
    const exp = now() + 100;
    const principal = await bySecret({ leeway_s: 7 }).principalOf(
      await secretToken({ claims: { exp, name: 'Ada L.' } }),
    );
    expect(principal).toMatchObject({ name: 'Ada L.', expires_at: (exp + 7) * 1_000, caller: { others: 'none' } });
  });

  const wrong: [string, Minted, string][] = [
    ['that expired', { claims: { exp: 1 } }, 'TOKEN_EXPIRED'],
    ['that is not valid yet', { claims: { nbf: 4e9 } }, 'TOKEN_NOT_YET_VALID'],
    ['of another issuer', { claims: { iss: 'https://evil.example.org/' } }, 'TOKEN_INVALID'],
    ['of nobody', { without: ['iss'] }, 'TOKEN_INVALID'],
    ['for another audience', { claims: { aud: 'another' } }, 'TOKEN_INVALID'],
    ['for nobody', { without: ['aud'] }, 'TOKEN_INVALID'],
    ['about nobody', { without: ['sub'] }, 'TOKEN_INVALID'],
    ['without an end', { without: ['exp'] }, 'TOKEN_INVALID'],
    ['with a role that nobody knows', { claims: { role: 'chief' } }, 'NO_PERMISSIONS'],
    ['with a role that every object has', { claims: { role: 'constructor' } }, 'NO_PERMISSIONS'],
    ['without a role', { without: ['role'] }, 'NO_PERMISSIONS'],
  ];
  it.for(wrong)('%s is refused', async ([, minted, code]) => {
    expect(await answer(bySecret(), secretToken(minted))).toBe(code);
    expect(await answer(byKeys(), maker.token(minted))).toBe(code);
  });

  it('with a header that has to be understood, and is not, is refused', async () => {
    expect(await answer(bySecret(), signedBySecret({ alg: 'HS256' }))).toBe(ADA);
    expect(await answer(bySecret(), signedBySecret({ alg: 'HS256', crit: ['x'], x: 1 }))).toBe('TOKEN_INVALID');
    expect(await answer(bySecret(), signedBySecret({ alg: 'HS256', crit: ['b64'], b64: false }))).toBe('TOKEN_INVALID');
  });

  it('that was taken ends all the same, and lends nothing to another one', async () => {
    const strict = bySecret({ leeway_s: 0 });
    const exp = now() + 30;
    const token = await secretToken({ claims: { exp } });
    expect([await answer(strict, token), await answer(strict, token)]).toEqual([ADA, ADA]);
    expect(await answer(strict, `${token.slice(0, -2)}AA`)).toBe('TOKEN_INVALID');
    vi.useFakeTimers({ now: (exp + 1) * 1_000, toFake: ['Date'] });
    try {
      expect(await answer(strict, token)).toBe('TOKEN_EXPIRED');
    } finally {
      vi.useRealTimers();
    }
  });

  it('the clocks may be apart for as long as the settings say', async () => {
    const late = secretToken({ claims: { exp: now() - 20 } });
    const early = secretToken({ claims: { nbf: now() + 20 } });
    expect([await answer(bySecret(), late), await answer(bySecret(), early)]).toEqual([ADA, ADA]);
    const strict = bySecret({ leeway_s: 0 });
    expect([await answer(strict, late), await answer(strict, early)]).toEqual(['TOKEN_EXPIRED', 'TOKEN_NOT_YET_VALID']);
  });

  it('whose text was changed, or has no signature, is none', async () => {
    const token = await secretToken();
    const [head, claims, signature] = token.split('.') as [string, string, string];
    const other = (await secretToken({ claims: { role: 'admin' } })).split('.')[1]!;
    for (const text of [
      `${head}.${other}.${signature}`,
      `${head}.${claims}.`,
      `${head}.${claims}`,
      '..',
      'a.b.c',
      '',
    ]) {
      expect(await answer(bySecret(), text)).toBe('TOKEN_INVALID');
    }
    for (const alg of ['none', 'None', 'NONE', 'nOnE', '', 'HS257', 5, null]) {
      expect(await answer(bySecret({}), unsigned({ alg })), String(alg)).toBe('TOKEN_INVALID');
      expect(await answer(byKeys({ secret: SECRET }), unsigned({ alg, kid: 'one' }, 'AAAA'))).toBe('TOKEN_INVALID');
    }
  });
});

describe('keys are not confused', () => {
  it('the text of a public key is no secret', async () => {
    const [jwk] = ((await (await fetch(maker.jwks_url)).json()) as { keys: [JsonWebKey] }).keys;
    const publicKey = createPublicKey({ key: jwk, format: 'jwk' });
    const texts = [
      publicKey.export({ type: 'spki', format: 'pem' }),
      publicKey.export({ type: 'spki', format: 'der' }),
      JSON.stringify(jwk),
    ];
    for (const text of texts) {
      const forged = secretToken({ key: Buffer.from(text), header: { kid: 'one' }, claims: { role: 'admin' } });
      expect(await answer(byKeys(), forged)).toBe('TOKEN_INVALID');
      expect(await answer(byKeys({ secret: SECRET }), forged)).toBe('TOKEN_INVALID');
    }
  });

  it('a peer that has only one of the two takes no token of the other kind', async () => {
    expect(await answer(byKeys(), secretToken())).toBe('TOKEN_INVALID');
    expect(await answer(bySecret(), maker.token())).toBe('TOKEN_INVALID');
  });

  it('a key that a token brings along, or says where to find, counts for nothing', async () => {
    const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable: true });
    await using other = await TokenMaker.start();
    const jwk = await exportJWK(publicKey);
    for (const header of [{ jwk }, { jku: other.jwks_url }, { x5u: other.jwks_url }, { kid: '../../dev/null' }]) {
      const token = maker.token({ key: privateKey, header: header as object });
      expect(await answer(byKeys(), token)).toBe('TOKEN_INVALID');
    }
    expect(other.asked).toBe(0);
  });

  it('a key that is not at the URL is none, whatever its id', async () => {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    for (const kid of ['one', 'two', undefined]) {
      const token = maker.token({ key: privateKey as never, header: { kid: kid as string } });
      expect(await answer(byKeys(), token)).toBe('TOKEN_INVALID');
    }
  });
});

describe('what a token gives', () => {
  const permissions = async (jwt: object, claims: JWTPayload, auth: object = {}) =>
    (await bySecret(jwt, auth).principalOf(await secretToken({ claims, without: 'role' in claims ? [] : ['role'] })))
      .permissions;

  it('is that of its role, as the settings have it', async () => {
    expect(await permissions({}, { role: 'readonly' })).toEqual(['*:read']);
    expect(await permissions({}, { role: 'readonly' }, { roles: { readonly: ['peer:read'] } })).toEqual(['peer:read']);
  });

  it('may be in a claim of another name, in a list, or in an object', async () => {
    expect(await permissions({ role_claim: 'groups' }, { groups: ['staff', 'readonly'] })).toEqual(['*:read']);
    const realm = { realm_access: { roles: ['offline_access', 'readonly'] } };
    expect(await permissions({ role_claim: 'realm_access.roles' }, realm)).toEqual(['*:read']);
    expect(
      await permissions({ role_claim: 'https://x.example/role' }, { 'https://x.example/role': 'readonly' }),
    ).toEqual(['*:read']);
  });

  it('may be permissions alone, also among the words of a scope; words that are none are nothing', async () => {
    expect(await permissions({}, { permissions: ['task:read', 'fly:*'] })).toEqual(['task:read']);
    const scope = { permissions_claim: 'scope' };
    expect(await permissions(scope, { scope: 'openid task:read workflow:*' })).toEqual(['task:read', 'workflow:*']);
    await expect(permissions(scope, { scope: 'openid profile' })).rejects.toThrow('gives no permission');
  });

  it('is that of default_role where the token says nothing, and only there', async () => {
    expect(await permissions({ default_role: 'readonly' }, {})).toEqual(['*:read']);
    await expect(permissions({ default_role: 'readonly' }, { role: 'chief' })).rejects.toThrow('gives no permission');
  });
});

describe('who a token names', () => {
  const idOf = async (iss: string, sub: string) =>
    (await bySecret({ issuer: undefined }).principalOf(await secretToken({ claims: { iss, sub } }))).caller.id!;

  it('is nobody else, however issuer and subject are chosen', async () => {
    const ids = [await idOf('a', 'b#c'), await idOf('a#b', 'c'), await idOf('a%23b', 'c'), await idOf('', 'a#b#c')];
    expect(new Set(ids).size).toBe(ids.length);
  });

  it('has an id of a bounded length, without characters that terminals obey', async () => {
    const long = await idOf(ISSUER, 'x'.repeat(1_000));
    expect(long.length).toBeLessThanOrEqual(CALLER_ID_CHARS_MAX);
    expect(long).not.toBe(await idOf(ISSUER, 'x'.repeat(1_001)));
    expect(await idOf(ISSUER, 'a\u001b[2J')).toMatch(/^jwt:sha256:[\w-]{43}$/);
  });
});
