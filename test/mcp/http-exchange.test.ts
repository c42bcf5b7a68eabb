/** Requests that are too slow, too large, or none. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterEach, describe, expect, it } from 'vitest';
import { silentLog } from '../../node/log.ts';
import { type HttpRefusal, readJson, sendJson } from '../../node/mcp/http-exchange.ts';
import { CONTROL_BYTES_MAX, HEADERS_BYTES_MAX } from '../../node/mcp/limits.ts';
import { startListener } from '../../node/mcp/listener.ts';
import { EchoRouter, INFO } from './echo-router.ts';
import { rawRequest } from './raw-http.ts';

const closing: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

/** Reads every body as a route does. @returns its port, and what it refused */
async function startReader(withinMs: number): Promise<{ port: number; refusals: HttpRefusal[] }> {
  const refusals: HttpRefusal[] = [];
  const server = createServer((request, response) => {
    readJson(request, response, 1_000, withinMs).then(
      (body) => sendJson(request, response, 200, body),
      (error: HttpRefusal) => {
        refusals.push(error);
        sendJson(request, response, error.status, { code: error.code });
      },
    );
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  closing.push(() => new Promise((resolve) => server.close(resolve)));
  return { port: (server.address() as AddressInfo).port, refusals };
}

function send(port: number, request: string): Socket {
  const socket = connect({ port, host: '127.0.0.1' });
  socket.write(request);
  return socket;
}

const HEAD = 'POST / HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n';

describe('a body that does not come in time', () => {
  it('is refused with a sentence, and the connection ends', async () => {
    const { port, refusals } = await startReader(20);
    const answer = await text(send(port, `${HEAD}content-length: 9\r\n\r\n{"a"`));
    expect(answer).toMatch(/^HTTP\/1\.1 408 [\s\S]*connection: close[\s\S]*BODY_TOO_SLOW/i);
    expect(refusals[0]!.message).toContain('within 20 ms');
  });

  it('is refused although a byte comes now and then', async () => {
    const { port } = await startReader(60);
    const socket = send(port, `${HEAD}transfer-encoding: chunked\r\n\r\n`);
    const dripping = setInterval(() => socket.write('1\r\n \r\n'), 5);
    const [answer] = (await once(socket, 'data')) as [Buffer];
    clearInterval(dripping);
    expect(answer.toString()).toMatch(/^HTTP\/1\.1 408 /);
    socket.destroy();
  });

  it('one that comes in time is read', async () => {
    const { port, refusals } = await startReader(60_000);
    const socket = send(port, `${HEAD}connection: close\r\ncontent-length: 9\r\n\r\n{"a"`);
    socket.write(': 1 }');
    expect(await text(socket)).toContain('{"a":1}');
    expect(refusals).toEqual([]);
  });
});

describe('at the listener', () => {
  async function start(): Promise<{ url: string; port: number }> {
    const onDrain = () => {
      throw new Error('nobody asked for that');
    };
    const listener = await startListener({
      router: new EchoRouter(),
      host: '127.0.0.1',
      port: 0,
      info: INFO,
      log: silentLog,
      onDrain,
    });
    closing.push(() => listener.close());
    return listener;
  }

  it.each([
    [
      'headers that are too large',
      `GET /health HTTP/1.1\r\nx: ${'x'.repeat(HEADERS_BYTES_MAX)}\r\n\r\n`,
      431,
      'HEADERS_TOO_LARGE',
    ],
    ['what is no HTTP', 'SSH-2.0-OpenSSH_9.2\r\n\r\n', 400, 'MALFORMED_REQUEST'],
    ['two lengths of one body', `${HEAD}content-length: 2\r\ncontent-length: 3\r\n\r\n{}`, 400, 'MALFORMED_REQUEST'],
    [
      'a length beside chunks',
      `${HEAD}content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}`,
      400,
      'MALFORMED_REQUEST',
    ],
  ])('%s: the answer is a sentence', async (_, request, status, code) => {
    const { port } = await start();
    const answer = await text(send(port, request));
    expect(answer).toMatch(new RegExp(`^HTTP/1\\.1 ${status} [\\s\\S]*connection: close\r\n\r\n`));
    expect(JSON.parse(answer.split('\r\n\r\n')[1]!)).toMatchObject({ success: false, error: { code } });
  });

  it('what is asked of the peer itself is small', async () => {
    const { url } = await start();
    const body = JSON.stringify({ timeout_ms: 1, more: 'x'.repeat(CONTROL_BYTES_MAX) });
    const headers = { 'content-type': 'application/json' };
    const answer = await rawRequest(`${url}/drain`, { method: 'POST', headers, body });
    expect([answer.status, JSON.parse(answer.text).error.code]).toEqual([413, 'BODY_TOO_LARGE']);
  });
});
