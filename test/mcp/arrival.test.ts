/** Who is believed to ask, with and without proxies in between. */
import type { IncomingMessage } from 'node:http';
import { describe, expect, it } from 'vitest';
import { silentLog } from '../../node/log.ts';
import { clientAddressOf, createArrivals } from '../../node/mcp/arrival.ts';
import { type ListenerOptions, startListener } from '../../node/mcp/listener.ts';
import { EchoRouter, echoTools, INFO } from './echo-router.ts';
import { INITIALIZE, postMcp, rawRequest } from './raw-http.ts';

function requestFrom(remoteAddress: string | undefined, headers: Record<string, string>, encrypted = false) {
  const headersDistinct = { host: ['inner:7601'] };
  return { socket: { remoteAddress, encrypted }, headers, headersDistinct } as unknown as IncomingMessage;
}

function clientOf(from: string | undefined, trusted: string[], headers: Record<string, string>): string {
  const request = requestFrom(from, headers);
  createArrivals(trusted)(request);
  return clientAddressOf(request);
}

describe('the address of the client', () => {
  it.each([
    // Nobody is trusted: the connection's, whatever is said.
    ['10.0.0.9', [], '1.2.3.4', '10.0.0.9'],
    ['10.0.0.9', ['10.0.0.8', 'fd00::/8'], '1.2.3.4', '10.0.0.9'],
    // One proxy is: what it saw, and not what the client told it.
    ['10.0.0.9', ['10.0.0.9'], '1.2.3.4', '1.2.3.4'],
    ['10.0.0.9', ['10.0.0.0/24'], '6.6.6.6, 1.2.3.4', '1.2.3.4'],
    ['10.0.0.9', ['10.0.0.0/24'], '10.0.0.1, 1.2.3.4', '1.2.3.4'],
    ['10.0.0.9', ['0.0.0.0/0'], '1.2.3.4', '1.2.3.4'],
    // Two are: the first address that is none of theirs.
    ['10.0.0.9', ['10.0.0.0/24'], '6.6.6.6, 1.2.3.4, 10.0.0.5', '1.2.3.4'],
    ['::1', ['::1', 'fd00::/8'], '2001:db8:0::7, fd00::5', '2001:db8::7'],
    // All that are named are proxies: the first of them.
    ['10.0.0.9', ['10.0.0.0/24'], '10.0.0.4, 10.0.0.5', '10.0.0.4'],
    // One address in its two spellings, with zones and with ports.
    ['::ffff:10.0.0.9', ['10.0.0.9'], '::ffff:1.2.3.4', '1.2.3.4'],
    ['::ffff:10.0.0.9', [], '', '10.0.0.9'],
    ['fe80::1%eth0', ['fe80::/10'], '[2001:db8::7]:49152', '2001:db8::7'],
    ['10.0.0.9', ['10.0.0.9'], '1.2.3.4:49152', '1.2.3.4'],
    // What is no address is not gone behind.
    ['10.0.0.9', ['10.0.0.9'], '', '10.0.0.9'],
    ['10.0.0.9', ['10.0.0.9'], '1.2.3.4, unknown', '10.0.0.9'],
    ['10.0.0.9', ['10.0.0.0/24'], "1.2.3.4, <script>, 10.0.0.5', ", '10.0.0.9'],
    ['10.0.0.9', ['10.0.0.9'], '0x7f.1', '10.0.0.9'],
  ])('from %s, trusting %j, X-Forwarded-For %j: %s', (from, trusted, forwarded, client) => {
    expect(clientOf(from, trusted, { 'x-forwarded-for': forwarded })).toBe(client);
  });

  it('of a connection that is gone, or a request of no listener, is unknown', () => {
    expect(clientOf(undefined, ['0.0.0.0/0'], {})).toBe('unknown');
    expect(clientAddressOf({} as IncomingMessage)).toBe('unknown');
  });

  it('is never taken from Forwarded, which proxies let through as it came', () => {
    const forwarded = 'for=1.2.3.4;proto=https;host=other.example';
    expect(clientOf('10.0.0.9', ['10.0.0.9'], { forwarded })).toBe('10.0.0.9');
  });
});

describe('what the client asked for', () => {
  const asked = (headers: Record<string, string>, trusted = ['10.0.0.9'], encrypted = false) => {
    const { hosts, scheme } = createArrivals(trusted)(requestFrom('10.0.0.9', headers, encrypted));
    return { hosts, scheme };
  };
  const forwarded = { 'x-forwarded-proto': 'https', 'x-forwarded-host': 'peer.example' };

  it('is told by a trusted proxy, and by nobody else', () => {
    expect(asked(forwarded)).toEqual({ hosts: ['inner:7601', 'peer.example'], scheme: 'https' });
    expect(asked(forwarded, [])).toEqual({ hosts: ['inner:7601'], scheme: 'http' });
    expect(asked({}, [], true)).toEqual({ hosts: ['inner:7601'], scheme: 'https' });
    expect(asked({}, ['10.0.0.9'], true)).toEqual({ hosts: ['inner:7601'], scheme: 'https' });
  });

  it('of several values the nearest proxy wrote the last; a scheme that is none is passed over', () => {
    const several = { 'x-forwarded-proto': 'http, HTTPS', 'x-forwarded-host': 'evil.example, peer.example' };
    expect(asked(several)).toEqual({ hosts: ['inner:7601', 'peer.example'], scheme: 'https' });
    expect(asked({ 'x-forwarded-proto': 'gopher' }).scheme).toBe('http');
  });
});

describe('at the listener', () => {
  async function withListener(options: Partial<ListenerOptions>, use: (url: string) => Promise<void>): Promise<void> {
    const base = { router: new EchoRouter(), host: '127.0.0.1', port: 0, info: INFO, log: silentLog, tools: echoTools };
    const listener = await startListener({ ...base, ...options });
    await use(listener.url).finally(() => listener.close());
  }

  it.each([
    [['127.0.0.0/8'], '1.2.3.4'],
    [[], '127.0.0.1'],
  ])('who asks knows the address, trusting %j', async (trusted_proxies, expected) => {
    const seen: string[] = [];
    const identify: ListenerOptions['identify'] = (request) => {
      seen.push(clientAddressOf(request));
      throw new Error('that is all this test wants to know');
    };
    await withListener({ trusted_proxies, identify }, async (url) => {
      await postMcp(url, INITIALIZE, { 'x-forwarded-for': '1.2.3.4' });
    });
    expect(seen).toEqual([expected]);
  });

  it('the host that a proxy was asked for must be served here, and so must the one it asks for', async () => {
    const asked = (url: string, host: string, forwardedHost: string) =>
      rawRequest(`${url}/health`, { headers: { host, 'x-forwarded-host': forwardedHost } });
    const names = { allowed_hosts: ['peer.example'] };
    await withListener({ ...names, trusted_proxies: ['127.0.0.1'] }, async (url) => {
      expect((await asked(url, '127.0.0.1', 'peer.example')).status).toBe(200);
      expect((await asked(url, 'peer.example', 'peer.example:8443')).status).toBe(200);
      expect((await asked(url, '127.0.0.1', 'evil.example')).status).toBe(403);
      // A page that has rebound its name can add any header: it does not make up for its Host.
      expect((await asked(url, 'evil.example', 'peer.example')).status).toBe(403);
    });
    await withListener(names, async (url) => {
      expect((await asked(url, '127.0.0.1', 'evil.example')).status).toBe(200);
      expect((await asked(url, 'evil.example', 'peer.example')).status).toBe(403);
    });
  });

  it('what a proxy has added is there, however many headers the client sent before', async () => {
    const seen: string[] = [];
    const identify: ListenerOptions['identify'] = (request) => {
      seen.push(clientAddressOf(request));
      throw new Error('that is all this test wants to know');
    };
    const many = Array.from({ length: 2_500 }, (_, index) => [String.fromCharCode(97 + (index % 26)), '']);
    const headers = [...many.flat(), 'host', '127.0.0.1', 'x-forwarded-for', '1.2.3.4'];
    await withListener({ trusted_proxies: ['127.0.0.1'], identify }, async (url) => {
      await rawRequest(`${url}/mcp`, { headers });
    });
    expect(seen).toEqual(['1.2.3.4']);
  });

  it('a second Host must be served here, too', async () => {
    await withListener({}, async (url) => {
      const headers = ['host', '127.0.0.1', 'host', 'evil.example'];
      expect((await rawRequest(`${url}/health`, { headers })).status).toBe(403);
    });
  });
});
