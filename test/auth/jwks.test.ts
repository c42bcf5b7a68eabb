/** Public keys that cannot be had: whoever calls is told so, soon, and nothing inside this network is reached. */
import { once } from 'node:events';
import type { RequestListener } from 'node:http';
import { createServer, type Socket } from 'node:net';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { JwtReader } from '../../node/auth/jwt.ts';
import { JWKS_BYTES_MAX, JWKS_RETRY_MS, JWKS_TIMEOUT_MS } from '../../node/auth/limits.ts';
import type { AuthSettings, JwtSettings } from '../../node/config/auth.ts';
import type { Log } from '../../scheduler/ports.ts';
import { serve, settingsFor, stop, TokenMaker, urlOf } from './tokens.ts';

afterEach(() => vi.restoreAllMocks());

interface Asked {
  code: string;
  log: string;
}

/** What who shows a good token is told, while the keys are at this URL. */
async function ask(url: string, jwt: object = {}): Promise<Asked & { again: () => Promise<string> }> {
  await using maker = await TokenMaker.start();
  const lines: string[] = [];
  const log: Log = { info() {}, error() {}, debug() {}, warn: (fields) => void lines.push(JSON.stringify(fields)) };
  const reader = new JwtReader(settingsFor(url, jwt) as AuthSettings & { jwt: JwtSettings }, log);
  const token = await maker.token();
  const again = () =>
    reader.principalOf(token).then(
      () => 'taken',
      (error: { code: string }) => error.code,
    );
  return { code: await again(), log: lines.join('\n'), again };
}

async function askAt(listener: RequestListener): Promise<Asked> {
  const server = await serve(listener);
  try {
    return await ask(urlOf(server));
  } finally {
    await stop(server);
  }
}

describe('the keys cannot be had', () => {
  it('where nothing listens', async () => {
    const server = await serve(() => {});
    const url = urlOf(server);
    await stop(server);
    expect(await ask(url)).toMatchObject({ code: 'JWKS_UNAVAILABLE', log: expect.stringContaining('ECONNREFUSED') });
  });

  it.for([
    ['says 500', 500, '{"keys":[]}', 'HTTP 500'],
    ['says 404', 404, '{"keys":[]}', 'HTTP 404'],
    ['is no JSON', 200, '<html>', 'JSON'],
    ['is huge', 200, `{"keys":[${' '.repeat(JWKS_BYTES_MAX)}]}`, 'larger than'],
  ] as const)('where what is there %s', async ([, status, body, why]) => {
    const asked = await askAt((_request, response) => response.writeHead(status).end(body));
    expect(asked).toMatchObject({ code: 'JWKS_UNAVAILABLE', log: expect.stringContaining(why) });
  });

  it('where it has no end: no more is read than keys are large', async () => {
    let sent = 0;
    const asked = await askAt((_request, response) => {
      response.on('error', () => {});
      const more = () => {
        for (;;) {
          if (response.destroyed) return;
          sent += 16_384;
          if (!response.write(' '.repeat(16_384))) break;
        }
        response.once('drain', more);
      };
      more();
    });
    expect(asked.code).toBe('JWKS_UNAVAILABLE');
    expect(sent).toBeLessThan(64 * JWKS_BYTES_MAX);
  });

  it('where they are no keys', async () => {
    const asked = await askAt((_request, response) => response.end('{"keys":5}'));
    expect(asked.code).toBe('JWKS_UNAVAILABLE');
  });

  it('where it is slow, however it goes about that: the wait has an end', async () => {
    const sockets = new Set<Socket>();
    const mute = createServer((socket) => void sockets.add(socket.on('error', () => {}))).listen(0, '127.0.0.1');
    await once(mute, 'listening');
    const { port } = mute.address() as { port: number };
    const dripping = await serve((_request, response) => {
      response.writeHead(200).write('{"keys":[');
      const timer = setInterval(() => response.write(' '), 100);
      response.once('close', () => clearInterval(timer));
    });
    const began = performance.now();
    const asked = await Promise.all([ask(`http://127.0.0.1:${port}/`), ask(urlOf(dripping))]);
    expect(asked.map(({ code }) => code)).toEqual(['JWKS_UNAVAILABLE', 'JWKS_UNAVAILABLE']);
    expect(performance.now() - began).toBeGreaterThanOrEqual(JWKS_TIMEOUT_MS - 50);
    for (const socket of sockets) socket.destroy();
    mute.close();
    await stop(dripping);
  });
});

describe('what is not public is not reached', () => {
  it.for([
    'https://127.0.0.1:8443/',
    'https://[::1]:8443/',
    'https://169.254.169.254/latest',
    'https://localhost:8443/',
    'https://10.0.0.1/',
  ])('%s', async (url) => {
    const asked = await ask(url, { jwks_private: false });
    expect(asked).toMatchObject({ code: 'JWKS_UNAVAILABLE', log: expect.stringContaining('jwks_private') });
  });

  it('nor where a redirect leads', async () => {
    await using maker = await TokenMaker.start();
    const asked = await askAt((_request, response) => response.writeHead(302, { location: maker.jwks_url }).end());
    expect(asked.code).toBe('JWKS_UNAVAILABLE');
    expect(maker.asked).toBe(0);
  });
});

describe('who asks often costs little', () => {
  it('what failed is not tried again for each caller, and is tried again later', async () => {
    let asked = 0;
    const server = await serve((_request, response) => {
      asked += 1;
      response.writeHead(503).end();
    });
    const clock = vi.spyOn(performance, 'now');
    const { again } = await ask(urlOf(server));
    await Promise.all([again(), again(), again()]);
    expect(asked).toBe(1);
    const now = performance.now();
    clock.mockImplementation(() => now + JWKS_RETRY_MS + 1);
    expect([await again(), asked]).toEqual(['JWKS_UNAVAILABLE', 2]);
    await stop(server);
  });

  it('keys are kept, and tokens that name unknown ones do not have them asked for each time', async () => {
    await using maker = await TokenMaker.start();
    const reader = new JwtReader(settingsFor(maker.jwks_url) as AuthSettings & { jwt: JwtSettings }, {
      ...{ info() {}, error() {}, debug() {}, warn() {} },
    });
    await reader.principalOf(await maker.token());
    for (let index = 0; index < 20; index++) {
      const token = await maker.token({ header: { kid: `made-up-${index}` } });
      await expect(reader.principalOf(token)).rejects.toMatchObject({ code: 'TOKEN_INVALID' });
    }
    expect(maker.asked).toBe(1);
  });
});
