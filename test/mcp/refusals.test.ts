import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterEach, describe, expect, it } from 'vitest';
import { principalOf } from '../../node/auth/principal.ts';
import { silentLog } from '../../node/log.ts';
import { assertSafeToListen } from '../../node/mcp/host-check.ts';
import { HttpRefusal } from '../../node/mcp/http-exchange.ts';
import { MESSAGE_BYTES_MAX } from '../../node/mcp/limits.ts';
import { type Listener, type ListenerOptions, startListener } from '../../node/mcp/listener.ts';
import type { Tool } from '../../tools/definition.ts';
import { EchoRouter, echoTools, INFO } from './echo-router.ts';
import { INITIALIZE, MCP_HEADERS, openSession, postMcp, rawRequest } from './raw-http.ts';

let listener: Listener | undefined;
const router = new EchoRouter();

async function start(options: Partial<ListenerOptions> = {}): Promise<string> {
  listener = await startListener({
    router,
    host: '127.0.0.1',
    port: 0,
    info: INFO,
    log: silentLog,
    tools: echoTools,
    ...options,
  });
  return listener.url;
}

afterEach(async () => {
  await listener?.close();
  listener = undefined;
});

const ping = { jsonrpc: '2.0', id: 2, method: 'ping' };

describe('Host and Origin', () => {
  it.each([
    ['evil.example', undefined],
    ['127.0.0.1.evil.example', undefined],
    ['localhost@evil.example', undefined],
    ['127.0.0.1', 'http://evil.example'],
    ['127.0.0.1', 'null'],
    ['127.0.0.1', 'http://localhost.evil.example:7601'],
  ])('Host %s with Origin %s is refused on every route', async (host, origin) => {
    const url = await start();
    const headers = { host, ...(origin !== undefined && { origin }) };
    const mcp = await postMcp(url, INITIALIZE, headers);
    expect(mcp.status).toBe(403);
    expect(JSON.parse(mcp.text)).toMatchObject({
      jsonrpc: '2.0',
      id: null,
      error: { message: expect.stringContaining('allowed hosts') },
    });
    for (const path of ['/health', '/ready', '/nowhere']) {
      const answer = await rawRequest(url + path, { headers });
      expect(answer.status).toBe(403);
      expect(JSON.parse(answer.text)).toMatchObject({ success: false, error: { code: 'FORBIDDEN_HOST' } });
    }
    const answered = { ...headers, 'content-type': 'application/json' };
    const answer = await rawRequest(`${url}/tasks/t/answer`, {
      method: 'POST',
      headers: answered,
      body: '{"approve":true}',
    });
    expect(answer.status).toBe(403);
    expect(router.answers).toEqual([]);
  });

  it.each([
    ['localhost:1234', undefined],
    ['LOCALHOST', undefined],
    ['[::1]:7601', undefined],
    ['127.0.0.1', 'http://localhost:6274'],
    ['127.0.0.1', 'https://127.0.0.1'],
    ['127.0.0.1', 'http://[::1]:3000'],
  ])('Host %s with Origin %s is served', async (host, origin) => {
    const url = await start();
    const headers = { host, ...(origin !== undefined && { origin }) };
    expect((await postMcp(url, INITIALIZE, headers)).status).toBe(200);
  });

  it('serves a configured name', async () => {
    const url = await start({ allowed_hosts: ['Mesh.example'] });
    expect((await rawRequest(`${url}/health`, { headers: { host: 'mesh.example:443' } })).status).toBe(200);
    expect((await rawRequest(`${url}/health`, { headers: { host: 'other.example' } })).status).toBe(403);
  });
});

describe('a page in a browser', () => {
  const origin = 'http://localhost:6274';
  const preflight = {
    origin,
    'access-control-request-method': 'POST',
    'access-control-request-headers': 'content-type,mcp-session-id,mcp-protocol-version',
  };

  it('of an admitted origin gets its preflight, and may read answers and the session id', async () => {
    const url = await start();
    const asked = await rawRequest(`${url}/mcp`, { method: 'OPTIONS', headers: preflight });
    expect(asked.status).toBe(204);
    expect(asked.headers).toMatchObject({
      'access-control-allow-origin': origin,
      'access-control-allow-methods': expect.stringContaining('DELETE'),
      vary: 'Origin',
    });
    const sent = [
      'content-type',
      'mcp-session-id',
      'mcp-protocol-version',
      'authorization',
      'x-api-key',
      'last-event-id',
    ];
    for (const name of sent) expect(asked.headers['access-control-allow-headers']).toContain(name);
    const opened = await postMcp(url, INITIALIZE, { origin });
    const refused = await postMcp(url, ping, { origin });
    expect([opened.status, refused.status]).toEqual([200, 400]);
    for (const answer of [opened, refused, await rawRequest(`${url}/health`, { headers: { origin } })]) {
      expect(answer.headers).toMatchObject({
        'access-control-allow-origin': origin,
        'access-control-expose-headers': expect.stringContaining('mcp-session-id'),
      });
    }
  });

  it('of a listed origin is served, of another one it is not, wherever it is', async () => {
    const app = 'https://app.example';
    const url = await start({ cors_origins: [app] });
    const asked = await rawRequest(`${url}/mcp`, { method: 'OPTIONS', headers: { ...preflight, origin: app } });
    expect([asked.status, asked.headers['access-control-allow-origin']]).toEqual([204, app]);
    expect((await postMcp(url, INITIALIZE, { origin: app })).status).toBe(200);
    expect((await postMcp(url, INITIALIZE, { origin })).status).toBe(403);
    expect((await postMcp(url, INITIALIZE)).status).toBe(200);
  });

  it('of another origin, or none, gets nothing', async () => {
    const url = await start();
    const foreign = { ...preflight, origin: 'http://evil.example' };
    const asked = await rawRequest(`${url}/mcp`, { method: 'OPTIONS', headers: foreign });
    expect(asked.status).toBe(403);
    expect(asked.headers['access-control-allow-origin']).toBeUndefined();
    expect((await postMcp(url, INITIALIZE)).headers['access-control-allow-origin']).toBeUndefined();
    expect((await rawRequest(`${url}/mcp`, { method: 'OPTIONS' })).status).toBe(405);
  });
});

describe('what a client accepts', () => {
  it.each(['*/*', 'text/html, */*;q=0.1', undefined])('Accept %s is anything', async (accept) => {
    const url = await start();
    const send = (message: object, session = {}) => {
      const headers = { 'content-type': 'application/json', ...(accept && { accept }), ...session };
      return rawRequest(`${url}/mcp`, { method: 'POST', headers, body: JSON.stringify(message) });
    };
    const opened = await send(INITIALIZE);
    expect(opened.status).toBe(200);
    const answer = await send(ping, { 'mcp-session-id': opened.headers['mcp-session-id'] });
    expect([answer.status, answer.text]).toEqual([200, expect.stringContaining('"id":2')]);
  });

  it('one of the two alone is not enough', async () => {
    const url = await start();
    expect((await postMcp(url, INITIALIZE, { accept: 'application/json' })).status).toBe(406);
  });
});

describe('where it listens', () => {
  it.each(['0.0.0.0', '::', '192.168.1.5', 'example.org', '::ffff:10.0.0.1'])(
    'refuses %s, and says what to do',
    async (host) => {
      expect(() => assertSafeToListen(host, false)).toThrowError(/--auth.*127\.0\.0\.1.*SSH tunnel/);
      await expect(start({ host })).rejects.toMatchObject({ code: 'UNSAFE_LISTEN' });
    },
  );

  it.each(['127.0.0.1', '127.8.9.10', '::1', 'localhost'])('accepts %s', (host) => {
    expect(() => assertSafeToListen(host, false)).not.toThrow();
  });

  it('a port in use is named, with how to choose another', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as AddressInfo;
    await expect(start({ port })).rejects.toMatchObject({
      code: 'PORT_IN_USE',
      message: expect.stringMatching(new RegExp(`Port ${port} on 127.0.0.1.*--http-port`)),
      details: { host: '127.0.0.1', port },
    });
    other.close();
  });
});

describe('bodies', () => {
  it('a declared size over the limit is refused before the body is sent', async () => {
    const url = await start();
    const socket = connect(Number(new URL(url).port), '127.0.0.1');
    socket.write(
      `POST /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: ${MESSAGE_BYTES_MAX + 1}\r\n\r\n`,
    );
    const [answer] = (await once(socket, 'data')) as [Buffer];
    expect(answer.toString()).toMatch(/^HTTP\/1\.1 413 [\s\S]*connection: close[\s\S]*"id":null/i);
    socket.destroy();
  });

  it.each(['content-length', 'chunked'])(
    'a body over the limit sent all the same (%s) gets the answer, not a reset',
    async (kind) => {
      const url = await start();
      const body = Buffer.alloc(MESSAGE_BYTES_MAX + 2 * 1024 * 1024, 'x');
      const headers = kind === 'chunked' ? { 'transfer-encoding': 'chunked' } : { 'content-length': body.length };
      const answer = await rawRequest(`${url}/mcp`, { method: 'POST', headers: { ...MCP_HEADERS, ...headers }, body });
      expect(answer.status).toBe(413);
      expect(JSON.parse(answer.text).error.message).toContain(String(MESSAGE_BYTES_MAX));
    },
  );

  it('a client that reads only when it has sent everything gets the answer too', async () => {
    const url = await start();
    const length = MESSAGE_BYTES_MAX + 4 * 1024 * 1024;
    const socket = connect({ port: Number(new URL(url).port), host: '127.0.0.1', noDelay: true }).pause();
    await once(socket, 'connect');
    socket.write(
      `POST /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: ${length}\r\n\r\n`,
    );
    const part = Buffer.alloc(64 * 1024, 'x');
    for (let sent = 0; sent < length; sent += part.length) {
      // A connection that was reset fails here.
      await new Promise<void>((resolve, reject) => socket.write(part, (error) => (error ? reject(error) : resolve())));
    }
    expect(await text(socket)).toMatch(/^HTTP\/1\.1 413 /);
  });

  it('a submission of 8 MiB passes', async () => {
    const url = await start();
    const session = { 'mcp-session-id': await openSession(url) };
    const long = 'x'.repeat(8 * 1024 * 1024 - 100);
    const call = {
      jsonrpc: '2.0',
      id: 2,
      method: 'tools/call',
      params: { name: 'echo_text', arguments: { text: long } },
    };
    const answer = await postMcp(url, call, session);
    expect(answer.status).toBe(200);
    expect(answer.text.length).toBeGreaterThan(2 * long.length);
  });

  it('a client that waits for "continue" gets it, or its refusal', async () => {
    const url = await start();
    const expecting = { expect: '100-continue' };
    expect((await postMcp(url, INITIALIZE, expecting)).status).toBe(200);
    expect((await postMcp(url, INITIALIZE, { ...expecting, 'mcp-session-id': 'nobody' })).status).toBe(404);
  });

  it('malformed JSON is -32700', async () => {
    const url = await start();
    const answer = await postMcp(url, '{"jsonrpc": "2.0", ');
    expect(answer.status).toBe(400);
    expect(JSON.parse(answer.text)).toMatchObject({
      id: null,
      error: { code: -32_700, message: expect.stringContaining('not JSON') },
    });
    const session = { 'mcp-session-id': await openSession(url) };
    expect(JSON.parse((await postMcp(url, '[1,', session)).text)).toMatchObject({ error: { code: -32_700 } });
  });

  it('another content type is 415', async () => {
    const url = await start();
    expect((await postMcp(url, INITIALIZE, { 'content-type': 'text/plain' })).status).toBe(415);
  });
});

describe('params', () => {
  it.each([
    [
      'tools/call',
      { name: 'echo_text', arguments: 'no object' },
      'params.arguments must be an object, not "no object"',
    ],
    ['tools/call', { name: 7 }, 'params.name must be a string, not 7'],
    ['tools/call', {}, 'params.name is missing'],
    ['tools/call', ['echo_text'], 'params must be an object, not a list'],
    ['tools/call', { name: 'echo_txt' }, 'Unknown tool: echo_txt (did you mean "echo_text"?)'],
    ['tools/call', { name: 'x'.repeat(100_000) }, 'Unknown tool: xxx'],
    ['tools/list', { cursor: 'next' }, 'Unknown cursor: "next"'],
    ['tools/list', { cursor: 'x'.repeat(100_000) }, 'Unknown cursor: "xxx'],
    ['tools/list', { cursor: 5 }, 'params.cursor must be a string, not 5'],
    ['tools/list', 'all', 'params must be an object, not string'],
  ])('%s with %j is -32602 in one sentence', async (method, params, says) => {
    const url = await start();
    const session = { 'mcp-session-id': await openSession(url) };
    const answer = await postMcp(url, { jsonrpc: '2.0', id: 'a', method, params }, session);
    expect(answer.status).toBe(200);
    const json = answer.text.startsWith('{') ? answer.text : /^data: (.*)$/m.exec(answer.text)![1]!;
    const { id, error } = JSON.parse(json);
    expect({ id, code: error.code }).toEqual({ id: 'a', code: -32_602 });
    expect(error.message).toContain(says);
    expect(error.message).not.toMatch(/MCP error|[\n[{]/);
    expect(error.message.length).toBeLessThan(250);
  });

  it('what is no message is -32600, with its id where it has one', async () => {
    const url = await start();
    const session = { 'mcp-session-id': await openSession(url) };
    const answer = await postMcp(url, { id: 7, method: 'ping' }, session);
    expect(answer.status).toBe(400);
    expect(JSON.parse(answer.text)).toMatchObject({ id: 7, error: { code: -32_600 } });
    const batch = await postMcp(url, [ping, { some: 'object' }], session);
    expect(JSON.parse(batch.text)).toMatchObject({ id: null, error: { code: -32_600 } });
  });

  it.each([
    [{ method: 'tools/list', params: null }],
    [{ method: 'tools/list', params: { cursor: null, _meta: null } }],
    [{ method: 'tools/list', params: { cursor: '' } }],
    [{ method: 'ping', params: null }],
    [{ method: 'tools/call', params: { name: 'echo_text', arguments: null, _meta: { progressToken: null } } }],
    [{ method: 'tools/call', params: { name: 'echo_text', arguments: '{"text": "x"}' } }],
    [{ method: 'tools/call', params: { name: 'echo_text', arguments: { text: 'x' }, task: { ttl: 60_000 } } }],
    [{ method: 'tools/call', params: { name: 'echo_text', arguments: { text: 'x' }, task: 7 } }],
  ])('%j is served: nothing is meant by it, or the object it spells', async (message) => {
    const url = await start();
    const session = { 'mcp-session-id': await openSession(url) };
    const answer = await postMcp(url, { jsonrpc: '2.0', id: 3, ...message }, session);
    expect([answer.status, answer.text]).toEqual([200, expect.stringContaining('"result"')]);
  });
});

describe('two requests with one id', () => {
  const call = { jsonrpc: '2.0', id: 'twice', method: 'tools/call', params: { name: 'wait_cancel', arguments: {} } };

  it('the second is refused while the first runs, which gets its own answer; then the id is free again', async () => {
    const url = await start();
    const session = { 'mcp-session-id': await openSession(url) };
    const waiting = once(router.events, 'waiting');
    const first = postMcp(url, call, session);
    await waiting;
    const second = await postMcp(url, call, session);
    expect(second.status).toBe(400);
    expect(JSON.parse(second.text)).toMatchObject({
      id: 'twice',
      error: { code: -32_600, message: expect.stringContaining('"twice"') },
    });
    const both = await postMcp(
      url,
      [
        { ...ping, id: 8 },
        { ...ping, id: 8 },
      ],
      session,
    );
    expect(both.status).toBe(400);
    // Neither the refused batch nor a request that the transport refuses keeps an id.
    expect((await postMcp(url, { ...ping, id: 9 }, { ...session, accept: 'application/json' })).status).toBe(406);
    for (const id of [8, 9]) expect((await postMcp(url, { ...ping, id }, session)).status).toBe(200);
    router.events.emit('release');
    expect((await first).text).toContain('"released":true');
    expect((await postMcp(url, { ...ping, id: 'twice' }, session)).status).toBe(200);
  });

  it('of two clients are no concern of each other', async () => {
    const url = await start();
    const sessions = [await openSession(url), await openSession(url)];
    const calls = sessions.map((id) => postMcp(url, call, { 'mcp-session-id': id }));
    while (router.inFlight < 2) await once(router.events, 'waiting');
    router.events.emit('release');
    for (const answer of await Promise.all(calls)) expect(answer.text).toContain('"released":true');
  });
});

describe('sessions', () => {
  it('an unknown id is 404, for every method', async () => {
    const url = await start();
    const headers = { ...MCP_HEADERS, 'mcp-session-id': '00000000-0000-0000-0000-000000000000' };
    for (const method of ['POST', 'GET', 'DELETE']) {
      const answer = await rawRequest(`${url}/mcp`, {
        method,
        headers,
        ...(method === 'POST' && { body: JSON.stringify(ping) }),
      });
      expect(answer.status).toBe(404);
      expect(JSON.parse(answer.text)).toMatchObject({ jsonrpc: '2.0', id: null, error: { code: -32_001 } });
    }
  });

  it('a request without a session must be initialize', async () => {
    const url = await start();
    const none = await postMcp(url, ping);
    expect(none.status).toBe(400);
    expect(none.text).toContain('Mcp-Session-Id');
    const malformed = await postMcp(url, { jsonrpc: '2.0', id: 1, method: 'initialize', params: {} });
    expect(malformed.status).toBe(400);
    expect(JSON.parse(malformed.text)).toMatchObject({
      error: { code: -32_602, message: expect.stringContaining('protocolVersion') },
    });
    expect((await rawRequest(`${url}/mcp`, { headers: { accept: 'text/event-stream' } })).status).toBe(400);
    const put = await rawRequest(`${url}/mcp`, { method: 'PUT' });
    expect(put).toMatchObject({ status: 405, headers: { allow: 'GET, POST, DELETE' } });
  });

  it('the session that rested longest makes room; one with an open stream does not', async () => {
    const url = await start({ sessions_max: 3 });
    const streaming = await openSession(url);
    const stream = await fetch(`${url}/mcp`, { headers: { accept: 'text/event-stream', 'mcp-session-id': streaming } });
    const [rested, used] = [await openSession(url), await openSession(url)];
    expect((await postMcp(url, ping, { 'mcp-session-id': rested })).status).toBe(200);
    await openSession(url); // `used` is now the one that rested longest.
    expect((await postMcp(url, ping, { 'mcp-session-id': used })).status).toBe(404);
    expect((await postMcp(url, ping, { 'mcp-session-id': rested })).status).toBe(200);
    expect((await postMcp(url, ping, { 'mcp-session-id': streaming })).status).toBe(200);
    await stream.body?.cancel();
  });

  it('when all are in use a new one is told to come back', async () => {
    const url = await start({ sessions_max: 1 });
    const id = await openSession(url);
    const stream = await fetch(`${url}/mcp`, { headers: { accept: 'text/event-stream', 'mcp-session-id': id } });
    const refused = await postMcp(url, INITIALIZE);
    expect(refused.status).toBe(503);
    expect(refused.headers['retry-after']).toBeDefined();
    await stream.body?.cancel();
  });

  it('one that rests too long ends', async () => {
    const url = await start({ idle_ms: 40 });
    const session = { 'mcp-session-id': await openSession(url), 'content-type': 'text/plain' };
    // Refused before it reaches the session, so that asking does not keep it awake.
    const status = async () => (await postMcp(url, ping, session)).status;
    expect(await status()).toBe(415);
    await expect.poll(status).toBe(404);
  });

  it('belongs to the principal that opened it', async () => {
    const identify: ListenerOptions['identify'] = (request) => {
      const id = request.headers['x-test-user'];
      if (typeof id !== 'string') throw new HttpRefusal(401, 'UNAUTHENTICATED', 'Say who you are.');
      return principalOf(id, ['*']);
    };
    const url = await start({ identify });
    expect((await postMcp(url, INITIALIZE)).status).toBe(401);
    const session = { 'mcp-session-id': await openSession(url, { 'x-test-user': 'ann' }) };
    expect((await postMcp(url, ping, { ...session, 'x-test-user': 'ben' })).status).toBe(404);
    expect((await postMcp(url, ping, { ...session, 'x-test-user': 'ann' })).status).toBe(200);
  });

  it('of one caller are a share of all, and make room for each other alone', async () => {
    const url = await start({
      sessions_max: 16,
      identify: (request) => principalOf(String(request.headers['x-test-user']), ['*']),
    });
    const status = async (user: string, id: string) =>
      (await postMcp(url, ping, { 'x-test-user': user, 'mcp-session-id': id })).status;
    const ben = await openSession(url, { 'x-test-user': 'ben' });
    const ann: string[] = [];
    for (let at = 0; at < 20; at++) ann.push(await openSession(url, { 'x-test-user': 'ann' }));
    expect(await status('ben', ben)).toBe(200);
    expect([await status('ann', ann[0]!), await status('ann', ann.at(-1)!)]).toEqual([404, 200]);
  });

  it('has the rights of who makes the request, not those that it began with', async () => {
    let ann = principalOf('ann', ['*']);
    const router = new EchoRouter();
    const url = await start({ router, identify: () => ann });
    const session = { 'mcp-session-id': await openSession(url) };
    const ask = async (method: string, params: object) =>
      await (await postMcp(url, { jsonrpc: '2.0', id: 7, method, params }, session)).text;
    const call = { name: 'echo_text', arguments: { text: 'x' } };
    await ask('tools/call', call);
    expect(router.principal).toMatchObject(ann);
    expect(await ask('tools/list', {})).toContain('"name":"echo_text"');
    ann = principalOf('ann', ['peer:read']);
    await ask('tools/call', call);
    expect(router.principal).toMatchObject(ann);
    expect(await ask('tools/list', {})).not.toContain('"name":"echo_text"');
  });

  it.each(['constructor', 'toString', '__proto__'])('%s is a method that nobody knows', async (method) => {
    const url = await start();
    const session = { 'mcp-session-id': await openSession(url) };
    const told = await postMcp(url, { jsonrpc: '2.0', id: 9, method }, session);
    expect(told.status).toBe(200);
    expect(told.text).toContain('"code":-32601');
  });

  it('a batch of too many messages is refused as a whole', async () => {
    const url = await start();
    const session = { 'mcp-session-id': await openSession(url) };
    const batch = Array.from({ length: 101 }, () => ({ jsonrpc: '2.0', method: 'notifications/initialized' }));
    const refused = await postMcp(url, batch, session);
    expect([refused.status, JSON.parse(refused.text)]).toMatchObject([400, { error: { code: -32_600 } }]);
    expect((await postMcp(url, batch.slice(1), session)).status).toBe(202);
  });

  it('an initialize that the transport refuses leaves nothing behind', async () => {
    const url = await start({ sessions_max: 1 });
    const id = await openSession(url);
    expect((await postMcp(url, ping, { 'mcp-session-id': id })).status).toBe(200);
    expect((await postMcp(url, INITIALIZE, { 'mcp-session-id': id })).status).toBe(400);
    expect((await postMcp(url, ping, { 'mcp-session-id': id })).status).toBe(200);
  });
});

describe('what speaks MCP cannot be loaded', () => {
  /** Fails as a file that cannot be opened would, as often as told. */
  class Unreadable extends Map<string, Tool> {
    failures: number;

    constructor(failures: number) {
      super(echoTools);
      this.failures = failures;
    }

    override keys() {
      if (this.failures-- > 0) throw new Error('too many open files');
      return super.keys();
    }
  }

  it('the request is refused, and the next one tries again', async () => {
    const url = await start({ tools: new Unreadable(1) });
    expect((await postMcp(url, INITIALIZE)).status).toBe(500);
    expect((await postMcp(url, INITIALIZE)).status).toBe(200);
  });

  it('the listener closes all the same', async () => {
    const url = await start({ tools: new Unreadable(Number.POSITIVE_INFINITY) });
    expect((await postMcp(url, INITIALIZE)).status).toBe(500);
    await expect(listener!.close()).resolves.toBeUndefined();
    listener = undefined;
    await expect(rawRequest(`${url}/health`)).rejects.toThrow('ECONNREFUSED');
  });
});

describe('protocol versions', () => {
  it('a version of later is refused as the SDK does it, whose clients then speak an earlier one', async () => {
    const url = await start();
    const discover = { jsonrpc: '2.0', id: 1, method: 'server/discover', params: {} };
    const answer = await postMcp(url, discover, { 'mcp-protocol-version': '2026-07-28' });
    expect(answer.status).toBe(400);
    expect(JSON.parse(answer.text)).toEqual({
      jsonrpc: '2.0',
      id: null,
      error: {
        code: -32_000,
        message: expect.stringMatching(/^Bad Request: Unsupported protocol version: 2026-07-28 .*2025-11-25/),
        data: { code: 'UNSUPPORTED_PROTOCOL_VERSION' },
      },
    });
    const without = await postMcp(url, discover);
    expect([without.status, JSON.parse(without.text).error.code]).toEqual([400, -32_000]);
    const long = await postMcp(url, discover, { 'mcp-protocol-version': 'x'.repeat(4_000) });
    expect(long.text.length).toBeLessThan(400);
  });

  it.each(['2025-11-25', '2025-06-18', '2025-03-26'])('%s is spoken', async (version) => {
    const url = await start();
    const answer = await postMcp(url, { ...INITIALIZE, params: { ...INITIALIZE.params, protocolVersion: version } });
    expect(answer.text).toContain(`"protocolVersion":"${version}"`);
    const session = { 'mcp-session-id': String(answer.headers['mcp-session-id']), 'mcp-protocol-version': version };
    expect((await postMcp(url, ping, session)).status).toBe(200);
  });
});

it('a number that would come out with other digits reaches no tool as one', async () => {
  const url = await start();
  const session = { 'mcp-session-id': await openSession(url) };
  const call = (number: string) =>
    `{"jsonrpc": "2.0", "id": 4, "method": "tools/call", "params": {"name": "echo_text", "arguments": {"text": "x", "n": ${number}}}}`;
  router.inputs.length = 0;
  for (const number of ['3544790567247868102', '9007199254740991']) await postMcp(url, call(number), session);
  expect(router.inputs).toEqual([
    { text: 'x', n: 3544790567247868102n },
    { text: 'x', n: 9007199254740991 },
  ]);
});
