/** `http` against a real server on this machine, and the addresses it must not reach. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gzipSync } from 'node:zlib';
import { buildConnector } from 'undici';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { FlowmeshError, JsonObject, JsonValue } from '../../dag/errors.ts';
import { DURATION_MS_MAX, JSON_ELEMENTS_MAX, OUTPUT_BYTES_MAX } from '../../dag/limits.ts';
import { guardedConnector, type HttpPolicy, isPublicAddress } from '../../node/executors/address-policy.ts';
import { HttpAction } from '../../node/executors/http.ts';
import { RecordedIO, requestOf } from './recorded-io.ts';

const BIG = '3544790567247868102';

type Answer = (request: IncomingMessage, response: ServerResponse) => void;

let server: Server;
let port: number;
const requests: string[] = [];
const answers: Record<string, Answer> = {
  '/json': (_, response) => response.setHeader('content-type', 'application/problem+json').end('{"a":[1,2]}'),
  '/text': (_, response) => response.setHeader('x-extra', 'yes').end('grüße'),
  '/bytes': (_, response) => response.end(Buffer.from([0xff, 0xfe, 0x00])),
  '/broken-json': (_, response) => response.setHeader('content-type', 'application/json').end('{"a":'),
  '/big-number': (_, response) => response.setHeader('content-type', 'application/json').end(`{"ids":[1,${BIG}]}`),
  '/too-large-a-number': (_, response) => response.setHeader('content-type', 'application/json').end('{"a":1e400}'),
  '/deep': (_, response) => response.setHeader('content-type', 'application/json').end('['.repeat(100_000)),
  '/wide': (_, response) =>
    response.setHeader('content-type', 'application/json').end(`[${'{},'.repeat(JSON_ELEMENTS_MAX)}1]`),
  '/odd-name': (_, response) => response.setHeader('content-type', 'application/json').end('{"a":{"__proto__":1}}'),
  '/cookies': (_, response) => response.setHeader('set-cookie', ['a=1; Path=/', 'b=2']).end('ok'),
  '/cookie': (_, response) => response.setHeader('set-cookie', 'a=1').end('ok'),
  '/busy-until': (request, response) => {
    const date = new Date('2031-05-06T07:08:09Z');
    const asked = new Date(
      date.getTime() + Number(new URL(request.url!, 'http://x').searchParams.get('seconds')) * 1_000,
    );
    response.writeHead(503, { date: date.toUTCString(), 'retry-after': asked.toUTCString() }).end();
  },
  '/busy-somehow': (_, response) => response.writeHead(429, { 'retry-after': 'soon' }).end(),
  '/slow': (_, response) => void setTimeout(() => response.end('slow'), 50),
  '/hangs': () => {},
  '/hangs-midway': (_, response) => response.write('some'),
  '/resets': (request) => request.socket.destroy(),
  '/large': (_, response) => response.end(Buffer.alloc(OUTPUT_BYTES_MAX + 1, 'x')),
  '/bomb': (_, response) =>
    response.setHeader('content-encoding', 'gzip').end(gzipSync(Buffer.alloc(8 * OUTPUT_BYTES_MAX))),
  '/mirror': (request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk) => chunks.push(chunk));
    request.on('end', () => {
      const { method, headers } = request;
      response.setHeader('content-type', 'application/json');
      response.end(JSON.stringify({ method, headers, body: Buffer.concat(chunks).toString() }));
    });
  },
};

beforeAll(async () => {
  server = createServer((request, response) => {
    const url = new URL(request.url!, 'http://x');
    requests.push(url.pathname);
    const status = /^\/status\/(\d+)$/.exec(url.pathname)?.[1];
    const to = url.searchParams.get('to');
    if (status !== undefined) response.writeHead(Number(status), { 'retry-after': '7' }).end('why');
    else if (to !== null) response.writeHead(307, { location: to }).end();
    else answers[url.pathname]!(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  port = (server.address() as AddressInfo).port;
});
afterAll(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

/** Runs one request under a policy and takes the connections down again. */
async function request(
  payload: JsonObject,
  policy: Partial<HttpPolicy> = { private: true },
  options: { io?: RecordedIO; connect?: buildConnector.connector } = {},
): Promise<JsonObject> {
  const action = new HttpAction({ private: false, allow: [], ...policy }, options.connect);
  try {
    return (await action.run(requestOf('http', payload), options.io ?? new RecordedIO())) as JsonObject;
  } finally {
    await action.close();
  }
}
const failureOf = (...args: Parameters<typeof request>) =>
  request(...args).then(
    (output) => {
      throw new Error(`an output: ${JSON.stringify(output)}`);
    },
    (error: FlowmeshError) => error,
  );
const local = (path: string) => `http://127.0.0.1:${port}${path}`;

describe('a request', () => {
  it('gives status, headers and body, parsed when it is JSON', async () => {
    expect(await request({ url: local('/json') })).toMatchObject({ status: 200, body: { a: [1, 2] } });
    expect(await request({ url: local('/text') })).toMatchObject({ body: 'grüße', headers: { 'x-extra': 'yes' } });
    expect(await request({ url: local('/bytes') })).toMatchObject({ body: '//4A', body_encoding: 'base64' });
    expect(await request({ url: local('/broken-json') })).toMatchObject({ body: '{"a":' });
  });

  it('does not change an integer in silence: it is an error with its place, or a string', async () => {
    const refused = await failureOf({ url: local('/big-number') });
    expect(refused).toMatchObject({ code: 'INVALID_OUTPUT', retryable: false, details: { place: 'ids[1]' } });
    expect(refused.message).toMatch(/ids\[1\] is 3544790567247868102.*big_numbers: string/);
    const kept = await request({ url: local('/big-number'), big_numbers: 'string' });
    expect(kept).toMatchObject({ body: { ids: [1, BIG] } });
  });

  it.each([
    ['/too-large-a-number', 'INVALID_OUTPUT', /a is Infinity/],
    ['/odd-name', 'INVALID_OUTPUT', /a\.__proto__ is a name that data cannot have/],
    ['/deep', 'LIMIT_EXCEEDED', /nested too deep/],
    ['/wide', 'LIMIT_EXCEEDED', /too many values/],
  ])('refuses JSON that cannot be kept: %s', async (path, code, message) => {
    expect(await failureOf({ url: local(path) })).toMatchObject({
      code,
      retryable: false,
      message: expect.stringMatching(message),
    });
  });

  it('sends method, headers, a JSON body, the idempotency key and the attempt', async () => {
    const url = local('/mirror');
    const { body } = await request({ url, method: 'post', headers: { 'X-Count': 3 }, body: { a: 1 } });
    expect(body).toMatchObject({
      method: 'POST',
      body: '{"a":1}',
      headers: { 'x-count': '3', 'content-type': 'application/json', 'idempotency-key': 'w1/step/0' },
    });
    expect(body).toMatchObject({ headers: { 'flowmesh-attempt': String(requestOf('http', {}).attempt) } });
    const own = await request({ url, method: 'PUT', headers: { 'Idempotency-Key': 'mine' }, body: 'plain' });
    expect(own['body']).toMatchObject({ body: 'plain', headers: { 'idempotency-key': 'mine' } });
  });

  it('follows redirects with its body', async () => {
    const url = local(`/?to=${encodeURIComponent(local('/mirror'))}`);
    expect(await request({ url, method: 'POST', body: 'again' })).toMatchObject({
      status: 200,
      body: { body: 'again' },
    });
  });

  it('gives a redirect itself, or fails at one, where the step says so', async () => {
    const url = local(`/?to=${encodeURIComponent('/text')}`);
    const redirect = { status: 307, headers: { location: '/text' } };
    expect(await request({ url, redirect: 'manual' })).toMatchObject(redirect);
    expect(await request({ url, expect_status: [200, 307] })).toMatchObject(redirect);
    expect(await request({ url, expect_status: [200, 307], redirect: 'follow' })).toMatchObject({ status: 200 });
    expect(await request({ url: local('/text'), redirect: 'manual' })).toMatchObject({ status: 200 });
    expect(await failureOf({ url, redirect: 'error' })).toMatchObject({
      code: 'HTTP_FAILED',
      retryable: false,
      message: expect.stringMatching(/it redirects, and the step says redirect: error/),
    });
  });

  it('says of a port that HTTP clients refuse that it is one', async () => {
    for (const url of ['http://127.0.0.1:10080/', local(`/?to=${encodeURIComponent('http://127.0.0.1:6667/')}`)]) {
      expect(await failureOf({ url })).toMatchObject({
        code: 'HTTP_FAILED',
        retryable: false,
        message: expect.stringMatching(/its port.* belongs to another protocol.*another port/),
      });
    }
  });

  it.each([
    [404, false],
    [400, false],
    [408, true],
    [425, true],
    [429, true],
    [500, true],
    [503, true],
  ])('that is answered with %i fails, retryable %s', async (status, retryable) => {
    expect(await failureOf({ url: local(`/status/${status}`) })).toMatchObject({
      code: 'HTTP_STATUS',
      retryable,
      details: { status, body: 'why', retry_after: '7', retry_after_ms: 7_000 },
    });
  });

  it.each([
    ['/busy-until?seconds=90', 90_000],
    ['/busy-until?seconds=-90', 0],
    ['/busy-somehow', undefined],
  ])('tells how long its server asks to wait, by the clock of the server: %s', async (path, wait) => {
    const error = await failureOf({ url: local(path) });
    expect(error).toMatchObject({ code: 'HTTP_STATUS', retryable: true });
    expect(error.details!['retry_after_ms']).toBe(wait);
  });

  it('keeps every cookie, as a list', async () => {
    expect(await request({ url: local('/cookies') })).toMatchObject({
      headers: { 'set-cookie': ['a=1; Path=/', 'b=2'] },
    });
    expect(await request({ url: local('/cookie') })).toMatchObject({ headers: { 'set-cookie': ['a=1'] } });
  });

  it('sends an object as the fields of a form when its content type says so', async () => {
    const form = { method: 'POST', headers: { 'Content-Type': 'application/x-www-form-urlencoded; charset=utf-8' } };
    const body = { a: 1, b: 'x y&z', c: [true, 'ü'], d: [] };
    const { body: sent } = await request({ ...form, url: local('/mirror'), body });
    expect(sent).toMatchObject({
      body: 'a=1&b=x+y%26z&c=true&c=%C3%BC',
      headers: { 'content-type': 'application/x-www-form-urlencoded; charset=utf-8' },
    });
    const text = await request({ ...form, url: local('/mirror'), body: 'a=1' });
    expect(text).toMatchObject({ body: { body: 'a=1' } });
    for (const [wrong, message] of [
      [{ a: { b: 1 } }, /body\.a must be a string, a number, true or false, or a list of these/],
      [{ a: null }, /body\.a must be/],
      [[1], /body must be a string or an object of fields/],
    ] as const) {
      const error = await failureOf({ ...form, url: local('/mirror'), body: wrong as JsonValue });
      expect(error).toMatchObject({ code: 'INVALID_PAYLOAD', message: expect.stringMatching(message) });
    }
  });

  it('may expect another status', async () => {
    expect(await request({ url: local('/status/404'), expect_status: [200, 404] })).toMatchObject({ status: 404 });
    expect(await failureOf({ url: local('/text'), expect_status: 201 })).toMatchObject({
      code: 'HTTP_STATUS',
      retryable: false,
      message: expect.stringMatching(/answered 200, expected 201/),
    });
  });

  it('fails, to be retried, when there is no answer', async () => {
    const closed = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => closed.once('listening', resolve));
    const free = (closed.address() as AddressInfo).port;
    await new Promise((resolve) => closed.close(resolve));
    const refused = await failureOf({ url: `http://127.0.0.1:${free}/` });
    expect(refused).toMatchObject({
      code: 'HTTP_FAILED',
      retryable: true,
      message: expect.stringMatching(/ECONNREFUSED/),
    });
    expect(await failureOf({ url: local('/resets') })).toMatchObject({ code: 'HTTP_FAILED', retryable: true });
  });

  it.each(['/hangs', '/hangs-midway'])('has a timeout: %s', async (path) => {
    expect(await failureOf({ url: local(path), timeout_ms: 50 })).toMatchObject({
      code: 'HTTP_TIMEOUT',
      retryable: true,
    });
  });

  it('takes any timeout, also one that is longer than a timer of Node can be', async () => {
    expect(await request({ url: local('/slow'), timeout_ms: 2 ** 31 })).toMatchObject({ body: 'slow' });
    expect(await request({ url: local('/slow'), timeout_ms: DURATION_MS_MAX })).toMatchObject({ body: 'slow' });
  });

  it('ends when it is aborted', async () => {
    const io = new RecordedIO();
    const arrived = new Promise((resolve) => server.once('request', resolve));
    const ended = failureOf({ url: local('/hangs') }, { private: true }, { io });
    await arrived;
    io.abort(false);
    expect(await ended).toMatchObject({ code: 'ABORTED' });
  });

  it.each(['/large', '/bomb'])('is ended when the answer is too large: %s', async (path) => {
    expect(await failureOf({ url: local(path) })).toMatchObject({ code: 'OUTPUT_TOO_LARGE', retryable: false });
  });

  it.each([
    [{}, /url is missing/],
    [{ url: 'example.org' }, /url must be a whole URL/],
    [{ url: 'file:///etc/passwd' }, /url must be http or https, not file:/],
    [{ url: 'http://a:b@example.org' }, /must not hold a password/],
    [{ url: 'http://example.org', method: 'GETT' }, /did you mean "GET"/],
    [{ url: 'http://example.org', method: 'CONNECT' }, /method must be one of/],
    [{ url: 'http://example.org', body: 1 }, /body cannot be sent with GET/],
    [{ url: 'http://example.org', headers: { Host: 'other' } }, /is set by the connection/],
    [{ url: 'http://example.org', headers: { 'x-a': 'b\r\nc: d' } }, /characters that a header cannot hold/],
    [{ url: 'http://example.org', timeout: 5 }, /timeout is not a known field .*timeout_ms/],
  ])('is refused when its inputs are wrong: %j', async (payload, message) => {
    const error = await failureOf(payload as JsonObject);
    expect(error).toMatchObject({ code: 'INVALID_PAYLOAD', retryable: false });
    expect(error.message).toMatch(message);
  });
});

describe('the policy', () => {
  const refusal = { code: 'ACTION_NOT_ALLOWED', retryable: false };
  const TEST_ADDRESS = '93.184.215.14';

  /** As if the server had a public address, and nothing else changed. */
  const withPublicServer = (policy: HttpPolicy): buildConnector.connector => {
    const connect = buildConnector({} as object);
    const guarded = guardedConnector(policy);
    return (options, callback) => {
      if (options.hostname !== TEST_ADDRESS) guarded(options, callback);
      else connect({ ...options, hostname: '127.0.0.1', host: `127.0.0.1:${options.port}` }, callback);
    };
  };

  it.each(['127.0.0.1', 'localhost', '2130706433', '0x7f.1', '[::1]', '[::ffff:127.0.0.1]', '0.0.0.0', '[::]'])(
    'refuses http://%s before anything is sent, and says what would allow it',
    async (host) => {
      const before = requests.length;
      const error = await failureOf({ url: `http://${host}:${port}/text` }, {});
      expect(error).toMatchObject(refusal);
      expect(error.message).toMatch(/not a public address.*--http-private.*http_action\.private/);
      expect(requests).toHaveLength(before);
    },
  );

  it.each(['127.0.0.1', 'localhost', '[::1]'])('refuses a redirect to %s', async (host) => {
    const policy = { private: false, allow: [] };
    const to = encodeURIComponent(`http://${host}:${port}/text`);
    const before = requests.length;
    const url = `http://${TEST_ADDRESS}:${port}/?to=${to}`;
    expect(await failureOf({ url }, policy, { connect: withPublicServer(policy) })).toMatchObject(refusal);
    expect(requests.slice(before)).toEqual(['/']);
    const open = { private: true, allow: [] };
    if (host !== '[::1]')
      expect(await request({ url }, open, { connect: withPublicServer(open) })).toMatchObject({ status: 200 });
  });

  it('reaches only allowed hosts, at a redirect too', async () => {
    const policy = { private: true, allow: ['localhost', '*.example.org'] };
    expect(await request({ url: `http://localhost:${port}/text` }, policy)).toMatchObject({ status: 200 });
    const error = await failureOf({ url: local('/text') }, policy);
    expect(error).toMatchObject(refusal);
    expect(error.message).toMatch(/may not reach 127\.0\.0\.1, only localhost, \*\.example\.org.*--allow-http/);
    const redirect = `http://localhost:${port}/?to=${encodeURIComponent(local('/text'))}`;
    expect(await failureOf({ url: redirect }, policy)).toMatchObject(refusal);
    expect(await failureOf({ url: 'http://example.org.evil.test/' }, policy)).toMatchObject(refusal);
    expect(await failureOf({ url: 'http://example.org/' }, policy)).toMatchObject(refusal);
  });

  it.each([
    ['8.8.8.8', true],
    ['2606:4700::1111', true],
    ['64:ff9b::808:808', true],
    ['10.1.2.3', false],
    ['172.16.0.1', false],
    ['192.168.1.1', false],
    ['127.8.8.8', false],
    ['169.254.169.254', false],
    ['100.100.100.200', false],
    ['168.63.129.16', false],
    ['0.0.0.0', false],
    ['224.0.0.1', false],
    ['255.255.255.255', false],
    ['::1', false],
    ['::', false],
    ['fe80::1', false],
    ['fd00:ec2::254', false],
    ['::ffff:10.0.0.1', false],
    ['::ffff:169.254.169.254', false],
    ['::127.0.0.1', false],
    ['64:ff9b::a9fe:a9fe', false],
    ['2002:7f00:1::', false],
    ['ff02::1', false],
    ['not an address', false],
  ])('%s is public: %s', (address, expected) => {
    expect(isPublicAddress(address)).toBe(expected);
  });
});
