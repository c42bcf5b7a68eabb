/**
 * Everything that somebody may try over HTTP at a peer that asks who calls: each refused with its status and its sentence,
 * and nothing changed at any peer but one line in the trail of the one that was asked.
 */
import { generateKeyPairSync } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { JsonObject } from '../../dag/errors.ts';
import { JWKS_BYTES_MAX } from '../../node/auth/limits.ts';
import { newKey } from '../../node/membership/api-key.ts';
import { permitsTool, ROLE_PERMISSIONS } from '../../tools/permissions.ts';
import { tools } from '../../tools/registry.ts';
import { AUDIENCE, ISSUER, SECRET, secretToken, serve, stop, TokenMaker, unsigned, urlOf } from '../auth/tokens.ts';
import { eventually } from '../harness/eventually.ts';
import { type Caller, HttpPeers, type Told } from './http-peer.ts';

const API_KEY = 'the-one-key-of-the-settings/long+enough=';
const BEARER = 'Bearer realm="flowmesh"';

let maker: TokenMaker;
let mesh: HttpPeers;

beforeAll(async () => {
  maker = await TokenMaker.start('RS256');
  const jwt = { secret: SECRET, jwks_url: maker.jwks_url, jwks_private: true, issuer: ISSUER, audience: AUDIENCE };
  mesh = await HttpPeers.of(['a', 'b'], { api_key: API_KEY, jwt, roles: { poller: ['*:read'] } });
});
afterAll(async () => {
  await mesh?.[Symbol.asyncDispose]();
  await maker?.[Symbol.asyncDispose]();
});

/** How many requests `everywhere` makes when none of them is taken. */
const REQUESTS = 9;

/** Tries everything that there is: the tools, what is plain, and what the user of the peer may do. */
async function everywhere(caller: Caller): Promise<Told[]> {
  const posts = ['/tasks/t/answer', '/drain', '/mesh/members', '/mesh/key_create'].map((path) => caller.post(path));
  const gets = ['/ready', '/nowhere', '/mcp', '/'].map((path) => caller.get(path));
  return await Promise.all([caller.call('task_submit', { task_type: 'echo' }), ...posts, ...gets]);
}

async function refusedEverywhere(shown: string | Record<string, string> | undefined, status: number, code: string) {
  const told = await mesh.refused('a', Array(REQUESTS).fill(code), () => everywhere(mesh.caller('a', shown)));
  for (const each of told) {
    expect([each.status, each.code]).toEqual([status, code]);
    expect(each.message).not.toBe('');
    if (status !== 503) expect(each.answer.headers['www-authenticate']).toMatch(/^Bearer realm="flowmesh"/);
  }
  return told;
}

describe('who is let in', () => {
  it('has a key of the mesh at each of its peers, the key of the settings, a token of either kind, or is the user', async () => {
    const key = await mesh.key('welcome', { role: 'user' });
    const shown = [key, API_KEY, await secretToken(), await maker.token()];
    const headers = [...shown.map((each) => ({ authorization: `Bearer ${each}` })), { 'x-api-key': key }];
    for (const peer of ['a', 'b']) {
      const user = { authorization: `bearer ${mesh.peer(peer).admin_key}` };
      for (const each of [...headers, user]) {
        const submitted = await mesh.caller(peer, each).runTask();
        expect([submitted.status, submitted.code]).toEqual([200, undefined]);
      }
    }
  });

  it('the user of one peer is not that of another one', async () => {
    await refusedEverywhere(mesh.peer('b').admin_key, 401, 'TOKEN_INVALID');
  });

  it('whether it runs is told to everybody, and a preflight is answered; the metadata of OAuth is there where it is set', async () => {
    const nobody = mesh.caller('a');
    expect((await nobody.get('/health')).status).toBe(200);
    expect((await nobody.get('/.well-known/oauth-protected-resource')).status).toBe(404);
    const asked = { origin: 'http://127.0.0.1', 'access-control-request-method': 'POST' };
    const preflight = await fetch(`${mesh.peer('a').http_url}/mcp`, { method: 'OPTIONS', headers: asked });
    expect([preflight.status, preflight.headers.get('access-control-allow-headers')]).toEqual([
      204,
      expect.stringMatching(/authorization.*x-api-key/),
    ]);
    expect((await fetch(`${mesh.peer('a').http_url}/mcp`, { method: 'OPTIONS' })).status).toBe(401);
  });
});

describe('refused: what is shown', () => {
  it('nothing', async () => {
    const [told] = await refusedEverywhere(undefined, 401, 'TOKEN_REQUIRED');
    expect(told!.answer.headers['www-authenticate']).toBe(BEARER);
    expect(told!.message).toContain('flowmesh key create');
  });

  const wrong: [string, () => string | Record<string, string>][] = [
    ['a key that nobody made', () => newKey().text],
    ['a part of a key', () => newKey().text.slice(0, 30)],
    ['a word', () => 'password'],
    ['a part of the key of the settings', () => API_KEY.slice(0, -1)],
    ['another kind of header', () => ({ authorization: `Basic ${Buffer.from(`x:${API_KEY}`).toString('base64')}` })],
    ['an empty header', () => ({ authorization: 'Bearer ' })],
    ['a key in a cookie', () => ({ cookie: `access_token=${API_KEY}`, authorization: 'Bearer x' })],
    ['a token without a signature', () => unsigned({ alg: 'none', kid: 'one' })],
    ['a token with a made-up signature', () => unsigned({ alg: 'RS256', kid: 'one' }, 'AAAA')],
  ];
  it.for(wrong)('%s', async ([, shown]) => {
    const [told] = await refusedEverywhere(shown(), 401, 'TOKEN_INVALID');
    expect(told!.answer.headers['www-authenticate']).toBe(`${BEARER}, error="invalid_token"`);
    // Not which of many things is wrong with it.
    expect(told!.message).toBe('This peer does not take this key or token');
  });

  it('a token that is wrong in one thing', async () => {
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2_048 });
    const jwks = (await (await fetch(maker.jwks_url)).json()) as object;
    const tokens = [
      maker.token({ claims: { iss: 'https://evil.example.org/' } }),
      maker.token({ claims: { aud: 'another service' } }),
      maker.token({ header: { kid: 'another' } }),
      maker.token({ key: privateKey as never }),
      secretToken({ key: Buffer.from('a secret that somebody guessed, of 40 characters') }),
      // Key confusion: what everybody can read is no secret.
      secretToken({ key: Buffer.from(JSON.stringify(jwks)), header: { kid: 'one' } }),
    ];
    for (const token of await Promise.all(tokens)) await refusedEverywhere(token, 401, 'TOKEN_INVALID');
  });

  it('one that has ended, or has not begun', async () => {
    await refusedEverywhere(await maker.token({ claims: { exp: 1 } }), 401, 'TOKEN_EXPIRED');
    await refusedEverywhere(await secretToken({ claims: { nbf: 4e9 } }), 401, 'TOKEN_NOT_YET_VALID');
    const key = await mesh.key('short', { role: 'admin', ttl_ms: 1_000 });
    const ended = async () => (await mesh.caller('a', key).get('/ready')).code === 'TOKEN_EXPIRED';
    await eventually('the key has ended', ended);
    await refusedEverywhere(key, 401, 'TOKEN_EXPIRED');
  });

  it('one with a role that this peer does not have', async () => {
    await refusedEverywhere(await maker.token({ claims: { role: 'chief' } }), 403, 'NO_PERMISSIONS');
    await refusedEverywhere(await mesh.key('chief', { role: 'chief' }), 403, 'NO_PERMISSIONS');
  });

  it('a key that was ended: at once where it was, and at a peer that is connected within a moment', async () => {
    const key = await mesh.key('lost', { role: 'admin' });
    const [here, there] = [mesh.caller('a', key), mesh.caller('b', key)];
    expect([(await here.call('queue_stats')).status, (await there.call('queue_stats')).status]).toEqual([200, 200]);
    await mesh.revoke('lost');
    // Its open session gives it nothing.
    expect((await here.call('queue_stats')).code).toBe('TOKEN_REVOKED');
    await eventually('b knows it', async () => (await there.call('queue_stats')).code === 'TOKEN_REVOKED');
    await refusedEverywhere(key, 401, 'TOKEN_REVOKED');
  });

  it('more than one, in whatever header: a proxy may have looked at the other one', async () => {
    const good = `Bearer ${API_KEY}`;
    for (const headers of [
      { authorization: [good, 'Bearer x'] },
      { authorization: ['Bearer x', good] },
      { authorization: good, 'x-api-key': API_KEY },
      { 'x-api-key': [API_KEY, API_KEY] },
    ]) {
      const [told] = await refusedEverywhere(headers as never, 400, 'TOKEN_AMBIGUOUS');
      expect(told!.answer.headers['www-authenticate']).toBe(`${BEARER}, error="invalid_request"`);
    }
  });

  it('in a URL, also beside one in a header', async () => {
    const query = [
      ...['access_token', 'token', 'api_key', 'apikey', 'API-KEY', 'x-api-key', 'key', 'jwt', 'Authorization'].map(
        (name) => `${name}=${encodeURIComponent(API_KEY)}`,
      ),
      `other=${newKey().text}`,
      `a=1&%61ccess%5Ftoken=${newKey().text}`,
      `other=${await secretToken()}`,
    ];
    for (const headers of [{}, { authorization: `Bearer ${API_KEY}` }]) {
      await mesh.refused(
        'a',
        query.map(() => 'TOKEN_IN_QUERY'),
        async () => {
          for (const each of query) {
            const told = await mesh.caller('a', headers).post(`/mcp?${each}`);
            expect([told.status, told.code], each).toEqual([400, 'TOKEN_IN_QUERY']);
            expect(told.answer.text).not.toContain(API_KEY);
          }
        },
      );
    }
  });
});

describe('refused: paths and requests that are not what they seem', () => {
  const PATHS = ['//mcp', '/mcp/', '/mcp/..', '/mcp/../health', '/health/../mcp', '/health/', '/health;x', '/HEALTH'];
  const ENCODED = [
    '/%6dcp',
    '/mcp%2f',
    '/mcp%00',
    '/health%2f..%2fmcp',
    '/.well-known/oauth-protected-resource/..',
    '/%68ealth',
  ];

  it.for([...PATHS, ...ENCODED, '/Mcp', '/health/mcp', '*', 'http://127.0.0.1/mcp', 'http://127.0.0.1/health'])(
    '%s without a key',
    async (path) => {
      for (const method of ['GET', 'POST', 'OPTIONS', 'DELETE', 'PUT', 'TRACE']) {
        expect(await raw(method, path), `${method} ${path}`).toMatch(/^HTTP\/1\.1 40[013] /);
      }
    },
  );

  it('with a key they are what they are: no route', async () => {
    for (const path of [...PATHS, ...ENCODED]) {
      const told = await raw('GET', path, `authorization: Bearer ${API_KEY}\r\n`);
      expect(told, path).toMatch(/^HTTP\/1\.1 404 /);
    }
  });

  it('a method that is said in a header is none', async () => {
    const nobody = mesh.caller('a');
    for (const header of ['x-http-method-override', 'x-original-url', 'x-rewrite-url', 'x-forwarded-for']) {
      expect((await nobody.post('/mcp', {}, { [header]: '/health' })).status).toBe(401);
    }
  });

  it('a page of another origin, or a name of another host, whatever key it has', async () => {
    for (const headers of [
      { host: 'evil.example' },
      { origin: 'http://evil.example' },
      { origin: 'null' },
      { host: '127.0.0.1.evil.example', origin: 'http://127.0.0.1' },
    ]) {
      const caller = mesh.caller('a', { ...headers, authorization: `Bearer ${API_KEY}` });
      const told = await mesh.refused('a', Array(REQUESTS).fill('FORBIDDEN_HOST'), () => everywhere(caller));
      for (const each of told) expect([each.status, each.code]).toEqual([403, 'FORBIDDEN_HOST']);
    }
  });
});

describe('refused: what somebody may not', () => {
  const writing = [...tools.values()].filter(({ permission }) => !permission.endsWith(':read'));

  async function refusedTools(
    role: string,
    caller: Caller,
    refused: readonly { name: string; permission: string }[],
    peer = 'a',
  ) {
    const opened = await caller.initialize();
    expect(opened.status).toBe(200);
    await mesh.refused(
      peer,
      refused.map(() => 'FORBIDDEN'),
      async () => {
        for (const { name, permission } of refused) {
          const told = await caller.call(name, INPUTS[name] ?? {});
          expect([told.status, told.code, name, role]).toEqual([200, 'FORBIDDEN', name, role]);
          expect(told.message).toContain(permission);
        }
      },
    );
  }

  /** As they would be done. */
  const INPUTS: Record<string, JsonObject> = {
    task_submit: { task_type: 'echo', payload: {} },
    workflow_submit: { name: 'w', steps: [{ step_id: 's', action: 'echo' }] },
    queue_pause: {},
    queue_clear: { confirm: true },
  };

  it('every tool that changes something, for who may only read', async () => {
    expect(writing.length).toBeGreaterThan(10);
    for (const role of ['readonly', 'poller']) {
      await refusedTools(role, mesh.caller('a', await mesh.key(`reads-${role}`, { role })), writing);
    }
    await refusedTools('readonly', mesh.caller('b', await secretToken({ claims: { role: 'readonly' } })), writing, 'b');
  });

  it('every tool that is not for its role, for a user', async () => {
    const refused = writing.filter((tool) => !permitsTool(ROLE_PERMISSIONS.user, tool));
    expect(refused.map(({ name }) => name)).toContain('queue_clear');
    await refusedTools('user', mesh.caller('a', await mesh.key('a-user', { role: 'user' })), refused);
  });

  it('every tool but one, for who may use just that', async () => {
    const caller = mesh.caller('a', await mesh.key('only-one', { permits: ['tool:queue_stats'] }));
    expect((await caller.call('queue_stats')).code).toBeUndefined();
    await refusedTools(
      'tool',
      caller,
      [...tools.values()].filter(({ name }) => name !== 'queue_stats'),
    );
    const { output } = await caller.rpc('tools/list');
    expect((output['tools'] as { name: string }[]).map(({ name }) => name)).toEqual(['queue_stats']);
  });

  it('what was right at the first call of a session, and is not at the second', async () => {
    const key = await mesh.key('fleeting', { role: 'user' });
    const caller = mesh.caller('a', key);
    expect((await caller.runTask()).code).toBeUndefined();
    await mesh.revoke('fleeting');
    const again = await mesh.refused('a', ['TOKEN_REVOKED'], () =>
      caller.call('task_submit', { task_type: 'echo', payload: {} }),
    );
    expect([again.status, again.code]).toEqual([401, 'TOKEN_REVOKED']);
    // A new key of the same name is the same caller, in the same session, with other rights.
    const other = mesh.caller('a', await mesh.key('fleeting', { role: 'readonly' }));
    expect((await other.resume(caller).call('task_submit', { task_type: 'echo', payload: {} })).code).toBe('FORBIDDEN');
  });

  it('what is the user’s of the peer alone, for an admin of the mesh too', async () => {
    const admin = mesh.caller('a', await mesh.key('an-admin', { role: 'admin' }));
    for (const asked of ['invite', 'members', 'revoke', 'rotate', 'key_create', 'keys', 'key_revoke']) {
      const told = await mesh.refused('a', ['UNAUTHORIZED'], () => admin.post(`/mesh/${asked}`));
      expect([told.status, told.code]).toEqual([401, 'UNAUTHORIZED']);
    }
    const user = mesh.caller('a', mesh.peer('a').admin_key);
    const { output } = await user.post('/mesh/keys');
    expect(output['keys']).toContainEqual(
      expect.objectContaining({ name: 'an-admin', role: 'admin', state: 'good', last_used_at: expect.any(String) }),
    );
  });

  it('to stop the peer, or to answer for somebody else', async () => {
    const user = mesh.caller('a', await mesh.key('stops', { role: 'user' }));
    const drain = await mesh.refused('a', ['FORBIDDEN'], () => user.post('/drain'));
    expect([drain.status, drain.code]).toEqual([403, 'FORBIDDEN']);
    const reader = mesh.caller('a', await mesh.key('answers', { role: 'readonly' }));
    const answer = await mesh.refused('a', ['FORBIDDEN'], () => reader.post('/tasks/t/answer', { approve: true }));
    expect([answer.status, answer.code]).toEqual([403, 'FORBIDDEN']);
  });
});

/** A request whose first line is as it is given: what `node:http` would not send. @returns the answer */
async function raw(method: string, path: string, headers = ''): Promise<string> {
  const { port } = new URL(mesh.peer('a').http_url!);
  const socket = connect(Number(port), '127.0.0.1');
  socket.end(`${method} ${path} HTTP/1.1\r\nhost: 127.0.0.1\r\n${headers}connection: close\r\n\r\n`);
  return await text(socket);
}

describe('refused: tokens, while the keys of who makes them cannot be had', () => {
  const servers: [string, (request: unknown, response: ServerResponse) => void, boolean][] = [
    ['down', () => {}, true],
    ['slow', () => {}, false],
    ['huge', (_request, response) => response.end(`{"keys":[${' '.repeat(2 * JWKS_BYTES_MAX)}]}`), false],
    ['elsewhere', (_request, response) => response.writeHead(302, { location: maker.jwks_url }).end(), false],
  ];
  it.for(servers)('where they are is %s', async ([, listener, isDown]) => {
    const server = await serve(listener);
    const jwks_url = urlOf(server);
    if (isDown) await stop(server);
    await refusedFor({ jwks_url, jwks_private: true });
    if (!isDown) await stop(server);
  });

  it('where they are is an address inside this network', async () => {
    await refusedFor({ jwks_url: 'https://127.0.0.1:8443/keys' });
  });

  /** Also: who has another kind of key is let in meanwhile. */
  async function refusedFor(jwt: { jwks_url: string; jwks_private?: boolean }): Promise<void> {
    await using alone = await HttpPeers.of(['c'], {
      api_key: API_KEY,
      jwt: { ...jwt, issuer: ISSUER, audience: AUDIENCE },
    });
    const token = await maker.token();
    const told = await alone.unchanged(() => alone.caller('c', token).call('task_submit', { task_type: 'echo' }));
    expect([told.status, told.code]).toEqual([503, 'JWKS_UNAVAILABLE']);
    expect(told.answer.headers['retry-after']).toMatch(/^\d+$/);
    expect((await alone.caller('c', API_KEY).call('queue_stats')).code).toBeUndefined();
  }
});
