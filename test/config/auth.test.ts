/** The setting `auth`, and the two doors that let nobody serve other machines without it. */
import { describe, expect, it } from 'vitest';
import { rolesOf } from '../../node/config/auth.ts';
import type { Settings } from '../../node/config/settings.ts';
import { resolveSettings, type Sources } from '../../node/config/sources.ts';

const SECRET = 's'.repeat(32);

function settings(sources: Partial<Sources> = {}): Settings {
  return resolveSettings({ flags: {}, env: {}, file: undefined, cwd: '/work', ...sources });
}

function inFile(auth: unknown, env: Sources['env'] = {}): Settings {
  return settings({ env, file: { path: '/m/mesh.yaml', value: { auth } } });
}

function problems(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    return (error as Error).message;
  }
  return 'nothing was wrong';
}

describe('whether callers are asked', () => {
  it('by default nobody is, and auth: false says so too', () => {
    expect(settings().auth).toBeNull();
    expect(inFile(false).auth).toBeNull();
  });

  it.for([
    { flags: { auth: true } },
    { env: { FLOWMESH_AUTH: 'true' } },
    { env: { ENABLE_AUTH: '1' } },
    { env: { DEPLOYMENT_MODE: 'cloud' } },
    { file: { path: '/m', value: { auth: true } } },
  ] as Partial<Sources>[])('%j asks', (sources) => {
    expect(settings(sources).auth).toMatchObject({ api_key_role: 'admin', roles: {} });
    const host = { ...sources, flags: { ...sources.flags, 'http.host': '0.0.0.0' } };
    expect(settings(host).http!.host).toBe('0.0.0.0');
  });

  it('a file says what is asked for, and a flag alone takes nothing of it away', () => {
    const file = { path: '/m/mesh.yaml', value: { auth: { api_key: SECRET }, http: { host: '::' } } };
    expect(settings({ file, flags: { auth: true } }).auth!.api_key).toBe(SECRET);
    expect(problems(() => settings({ file, env: { FLOWMESH_AUTH: 'no' } }))).toMatch(
      /^\/m\/mesh.yaml, http.host: must be a loopback address.*without authentication.*--auth/,
    );
  });
});

describe('secrets of the environment', () => {
  it('count where callers are asked, and are nobody else’s business', () => {
    const env = { API_KEY: SECRET, JWT_SECRET: SECRET };
    expect(settings({ env }).auth).toBeNull();
    expect(settings({ env: { API_KEY: 'of another program' } }).auth).toBeNull();
    expect(inFile(true, env).auth).toMatchObject({ api_key: SECRET, jwt: { secret: SECRET } });
    expect(inFile({ api_key: 'f'.repeat(32) }, env).auth!.api_key).toBe(SECRET);
  });

  it('a key that cannot be sent is refused', () => {
    expect(problems(() => inFile({ api_key: `${SECRET} ${SECRET}` }))).toMatch(/api_key: must have only A-Z/);
  });

  it.for(['API_KEY', 'JWT_SECRET'])('a %s that is too short is refused, and not shown', (name) => {
    const message = problems(() => inFile(true, { [name]: 'hunter2' }));
    expect(message).toMatch(new RegExp(`^${name}: must have at least 32 characters`));
    expect(message).not.toContain('hunter2');
  });
});

describe('what does not go together is refused', () => {
  it.for([
    [{ roles: { Chief: ['*'] } }, 'lower case', /a-z/],
    [{ roles: { chief: ['workflow:fly'] } }, 'a permission', /must be a permission/],
    [{ api_key_role: 'chief' }, 'a role', /api_key_role: names no role; the roles are admin, user, readonly/],
    [{ jwt: { default_role: 'chief', secret: SECRET } }, 'a role', /default_role: names no role/],
    [{ jwt: { jwks_url: 'https://id.example.org/keys' } }, 'an issuer', /issuer: is needed with jwks_url/],
    [{ jwt: { jwks_url: 'https://id.example.org/keys', issuer: 'i' } }, 'an audience', /audience: is needed/],
    [{ jwt: { jwks_url: 'http://id.example.org/keys', issuer: 'i', audience: 'a' } }, 'https', /must be https/],
    [
      { oauth: { resource: 'https://m.example.org/mcp', authorization_servers: ['https://id.example.org/'] } },
      'keys',
      /oauth: needs jwt.jwks_url/,
    ],
  ] as const)('%j: needs %s', ([auth, , message]) => {
    expect(problems(() => inFile(auth))).toMatch(message);
  });

  it('roles of the file stand beside the known ones, or in their place', () => {
    const roles = rolesOf(
      inFile({ roles: { readonly: [], reporter: ['workflow:read'] }, api_key_role: 'reporter' }).auth!,
    );
    expect(roles).toMatchObject({ admin: ['*'], readonly: [], reporter: ['workflow:read'] });
    expect(roles['constructor']).toBeUndefined();
  });
});
