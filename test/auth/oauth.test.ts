/**
 * OAuth as a client of the SDK goes about it: it is refused, told where to ask, gets a token for this peer there, and is in.
 * The authorization server is one of the tests (oauth2-mock-server).
 */
import { auth, type OAuthClientProvider, UnauthorizedError } from '@modelcontextprotocol/sdk/client/auth.js';
import { ClientCredentialsProvider } from '@modelcontextprotocol/sdk/client/auth-extensions.js';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import type { OAuthTokens } from '@modelcontextprotocol/sdk/shared/auth.js';
import { type MutableToken, OAuth2Server } from 'oauth2-mock-server';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fixedPorts } from '../harness/ports.ts';
import { HttpPeers } from '../security/http-peer.ts';

const REDIRECT = 'http://127.0.0.1:1/callback';
const SCOPES = ['task:write', 'task:read'];

let server: OAuth2Server;
let mesh: HttpPeers;
let resource: string;
/** What the next token says besides. */
let claims: Record<string, unknown> = {};
/** What was asked for when the last token was made. */
let asked: Record<string, unknown> = {};

beforeAll(async () => {
  server = new OAuth2Server();
  await server.issuer.keys.generate('RS256');
  await server.start(0, '127.0.0.1');
  server.service.on('beforeTokenSigning', (token: MutableToken, request: { body: Record<string, unknown> }) => {
    asked = request.body;
    Object.assign(token.payload, { aud: asked['resource'] ?? 'nobody', role: 'user', ...claims });
  });
  const [port] = await fixedPorts(1);
  resource = `http://127.0.0.1:${port}/mcp`;
  const issuer = server.issuer.url!;
  mesh = await HttpPeers.of(
    ['a'],
    {
      jwt: { jwks_url: `${issuer}/jwks`, jwks_private: true, issuer },
      oauth: { resource, authorization_servers: [issuer], scopes: SCOPES },
    },
    { http: { port: port! } },
  );
});
afterAll(async () => {
  await mesh?.[Symbol.asyncDispose]();
  await server?.stop();
});

/** A client with a person, who says yes at once. */
class Person implements OAuthClientProvider {
  readonly redirectUrl = REDIRECT;
  readonly clientMetadata = { client_name: 'test', redirect_uris: [REDIRECT] };
  authorizationUrl: URL | undefined;
  #tokens: OAuthTokens | undefined;
  #verifier = '';

  clientInformation() {
    return { client_id: 'test' };
  }
  tokens() {
    return this.#tokens;
  }
  saveTokens(tokens: OAuthTokens) {
    this.#tokens = tokens;
  }
  redirectToAuthorization(url: URL) {
    this.authorizationUrl = url;
  }
  saveCodeVerifier(verifier: string) {
    this.#verifier = verifier;
  }
  codeVerifier() {
    return this.#verifier;
  }
  /** @returns the code that the authorization server sends the browser back with */
  async approve(): Promise<string> {
    const answer = await fetch(this.authorizationUrl!, { redirect: 'manual' });
    return new URL(answer.headers.get('location')!).searchParams.get('code')!;
  }
}

async function submits(client: Client): Promise<unknown> {
  const { structuredContent } = await client.callTool({
    name: 'task_submit',
    arguments: { task_type: 'echo', payload: {} },
  });
  const { task_id } = structuredContent as { task_id: string };
  const status = await client.callTool({ name: 'task_status', arguments: { task_id } });
  return (status.structuredContent as { submitted_by?: string }).submitted_by;
}

describe('a client that knows the URL alone', () => {
  it('is told where to ask, gets a token for this peer, and is the one that the token names', async () => {
    claims = {};
    const person = new Person();
    const first = new StreamableHTTPClientTransport(new URL(resource), { authProvider: person });
    await expect(new Client({ name: 'c', version: '1' }).connect(first)).rejects.toThrow(UnauthorizedError);
    expect(person.authorizationUrl!.searchParams.get('resource')).toBe(resource);
    expect(person.authorizationUrl!.searchParams.get('scope')).toBe(SCOPES.join(' '));
    await first.finishAuth(await person.approve());
    expect(asked).toMatchObject({ grant_type: 'authorization_code', resource });
    const client = new Client({ name: 'c', version: '1' });
    await client.connect(new StreamableHTTPClientTransport(new URL(resource), { authProvider: person }));
    expect(await submits(client)).toBe(`jwt:${server.issuer.url}#johndoe`);
    await client.close();
  });

  it('may be a machine', async () => {
    claims = { sub: 'machine' };
    const authProvider = new ClientCredentialsProvider({
      clientId: 'machine',
      clientSecret: 'x',
      expectedIssuer: server.issuer.url!,
    });
    const client = new Client({ name: 'c', version: '1' });
    await client.connect(new StreamableHTTPClientTransport(new URL(resource), { authProvider }));
    expect(await submits(client)).toBe(`jwt:${server.issuer.url}#machine`);
    await client.close();
  });
});

describe('a token of the same authorization server', () => {
  async function tokenWith(more: Record<string, unknown>): Promise<string> {
    claims = { sub: 'ada', ...more };
    const provider = new ClientCredentialsProvider({
      clientId: 'machine',
      clientSecret: 'x',
      expectedIssuer: server.issuer.url!,
    });
    expect(await auth(provider, { serverUrl: resource })).toBe('AUTHORIZED');
    return provider.tokens()!.access_token;
  }
  const codeFor = async (more: Record<string, unknown>) =>
    (await mesh.caller('a', await tokenWith(more)).call('queue_stats')).code;

  it('for this peer is taken, also beside another one', async () => {
    expect(await codeFor({})).toBeUndefined();
    expect(await codeFor({ aud: ['https://other.example.org/', resource] })).toBeUndefined();
  });

  it('for another resource is none, however like this one it is', async () => {
    for (const aud of ['https://other.example.org/', `${resource}/`, resource.replace('/mcp', ''), [], '', undefined]) {
      expect(await codeFor({ aud })).toBe('TOKEN_INVALID');
    }
  });
});

describe('what is told to who has no token', () => {
  it('is the same at both places, and needs none', async () => {
    const { origin } = new URL(resource);
    for (const path of ['', '/mcp']) {
      const answer = await fetch(`${origin}/.well-known/oauth-protected-resource${path}`);
      expect([answer.status, await answer.json()]).toEqual([
        200,
        {
          resource,
          authorization_servers: [server.issuer.url],
          bearer_methods_supported: ['header'],
          scopes_supported: SCOPES,
          resource_name: 'flowmesh',
        },
      ]);
    }
    const posted = await fetch(`${origin}/.well-known/oauth-protected-resource`, { method: 'POST' });
    expect([posted.status, posted.headers.get('allow')]).toEqual([405, 'GET']);
  });

  it('is where it is told, with each refusal that a token can cure', async () => {
    const metadata = resource.replace('/mcp', '/.well-known/oauth-protected-resource/mcp');
    const nothing = await mesh.caller('a').call('queue_stats');
    expect(nothing.answer.headers['www-authenticate']).toBe(`Bearer realm="flowmesh", resource_metadata="${metadata}"`);
    const wrong = await mesh.caller('a', 'x').call('queue_stats');
    expect(wrong.answer.headers['www-authenticate']).toBe(
      `Bearer realm="flowmesh", error="invalid_token", resource_metadata="${metadata}"`,
    );
  });
});
