import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterEach, describe, expect, it } from 'vitest';
import { silentLog } from '../../node/log.ts';
import { assertSafeToListen } from '../../node/mcp/host-check.ts';
import { HttpRefusal } from '../../node/mcp/http-exchange.ts';
import { MESSAGE_BYTES_MAX } from '../../node/mcp/limits.ts';
import { type Listener, type ListenerOptions, startListener } from '../../node/mcp/listener.ts';
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

describe('where it listens', () => {
  it.each(['0.0.0.0', '::', '192.168.1.5', 'example.org', '::ffff:10.0.0.1'])(
    'refuses %s, and says what to do',
    async (host) => {
      expect(() => assertSafeToListen(host)).toThrowError(/127\.0\.0\.1.*SSH tunnel/);
      await expect(start({ host })).rejects.toMatchObject({ code: 'UNSAFE_LISTEN' });
    },
  );

  it.each(['127.0.0.1', '127.8.9.10', '::1', 'localhost'])('accepts %s', (host) => {
    expect(() => assertSafeToListen(host)).not.toThrow();
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
      return { id };
    };
    const url = await start({ identify });
    expect((await postMcp(url, INITIALIZE)).status).toBe(401);
    const session = { 'mcp-session-id': await openSession(url, { 'x-test-user': 'ann' }) };
    expect((await postMcp(url, ping, { ...session, 'x-test-user': 'ben' })).status).toBe(404);
    expect((await postMcp(url, ping, { ...session, 'x-test-user': 'ann' })).status).toBe(200);
  });

  it('an initialize that the transport refuses leaves nothing behind', async () => {
    const url = await start({ sessions_max: 1 });
    const id = await openSession(url);
    expect((await postMcp(url, ping, { 'mcp-session-id': id })).status).toBe(200);
    expect((await postMcp(url, INITIALIZE, { 'mcp-session-id': id })).status).toBe(400);
    expect((await postMcp(url, ping, { 'mcp-session-id': id })).status).toBe(200);
  });
});

describe('protocol versions', () => {
  it('an unsupported version is refused with those that are spoken', async () => {
    const url = await start();
    const answer = await postMcp(
      url,
      { jsonrpc: '2.0', id: 1, method: 'server/discover' },
      { 'mcp-protocol-version': '2026-07-28' },
    );
    expect(answer.status).toBe(400);
    expect(JSON.parse(answer.text)).toMatchObject({
      jsonrpc: '2.0',
      id: null,
      error: {
        code: -32_022,
        data: { requested: '2026-07-28', supported: expect.arrayContaining(['2025-11-25', '2025-06-18']) },
      },
    });
  });

  it.each(['2025-11-25', '2025-06-18', '2025-03-26'])('%s is spoken', async (version) => {
    const url = await start();
    const answer = await postMcp(url, { ...INITIALIZE, params: { ...INITIALIZE.params, protocolVersion: version } });
    expect(answer.text).toContain(`"protocolVersion":"${version}"`);
    const session = { 'mcp-session-id': String(answer.headers['mcp-session-id']), 'mcp-protocol-version': version };
    expect((await postMcp(url, ping, session)).status).toBe(200);
  });
});
