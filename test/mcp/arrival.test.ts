/** Who is believed to ask, with and without proxies in between. */
import type { IncomingMessage } from 'node:http';
import { describe, expect, it } from 'vitest';
import { silentLog } from '../../node/log.ts';
import { clientAddressOf, createArrivals, publicUrlOf } from '../../node/mcp/arrival.ts';
import { type ListenerOptions, startListener } from '../../node/mcp/listener.ts';
import { EchoRouter, echoTools, INFO } from './echo-router.ts';
import { INITIALIZE, postMcp, rawRequest } from './raw-http.ts';

function arrived(from: string | undefined, trusted: string[], headers: Record<string, string>, encrypted = false) {
  const request = { socket: { remoteAddress: from, encrypted }, headers: { host: 'inner:7601', ...headers } };
  createArrivals(trusted)(request as unknown as IncomingMessage);
  return request as unknown as IncomingMessage;
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
    expect(clientAddressOf(arrived(from, trusted, { 'x-forwarded-for': forwarded }))).toBe(client);
  });

  it('of a connection that is gone, or a request of no listener, is unknown', () => {
    expect(clientAddressOf(arrived(undefined, ['0.0.0.0/0'], {}))).toBe('unknown');
    expect(clientAddressOf({} as IncomingMessage)).toBe('unknown');
  });

  it('is never taken from Forwarded, which proxies let through as it came', () => {
    const headers = { forwarded: 'for=1.2.3.4;proto=https;host=other.example' };
    const request = arrived('10.0.0.9', ['10.0.0.9'], headers);
    expect([clientAddressOf(request), publicUrlOf(request)]).toEqual(['10.0.0.9', 'http://inner:7601']);
  });
});

describe('what the client asked for', () => {
  const forwarded = { 'x-forwarded-proto': 'https', 'x-forwarded-host': 'peer.example' };

  it('is told by a trusted proxy, and by nobody else', () => {
    expect(publicUrlOf(arrived('10.0.0.9', ['10.0.0.9'], forwarded))).toBe('https://peer.example');
    expect(publicUrlOf(arrived('10.0.0.9', [], forwarded))).toBe('http://inner:7601');
    expect(publicUrlOf(arrived('10.0.0.9', [], {}, true))).toBe('https://inner:7601');
  });

  it('of several values the nearest proxy wrote the last; a scheme that is none is passed over', () => {
    const several = { 'x-forwarded-proto': 'http, HTTPS', 'x-forwarded-host': 'evil.example, peer.example' };
    expect(publicUrlOf(arrived('10.0.0.9', ['10.0.0.9'], several))).toBe('https://peer.example');
    expect(publicUrlOf(arrived('10.0.0.9', ['10.0.0.9'], { 'x-forwarded-proto': 'gopher' }))).toBe('http://inner:7601');
  });
});

describe('at the listener', () => {
  async function withListener(options: Partial<ListenerOptions>, use: (url: string) => Promise<void>): Promise<void> {
    const base = { router: new EchoRouter(), host: '127.0.0.1', port: 0, info: INFO, log: silentLog, tools: echoTools };
    const listener = await startListener({ ...base, ...options });
    await use(listener.url).finally(() => listener.close());
  }
  const spoofed = { 'x-forwarded-for': '1.2.3.4', 'x-forwarded-proto': 'https' };

  it.each([
    [['127.0.0.0/8'], ['1.2.3.4', 'https://127.0.0.1']],
    [[], ['127.0.0.1', 'http://127.0.0.1']],
  ])('who asks knows the address, trusting %j', async (trusted_proxies, expected) => {
    const seen: string[] = [];
    const identify: ListenerOptions['identify'] = (request) => {
      seen.push(clientAddressOf(request), publicUrlOf(request));
      throw new Error('that is all this test wants to know');
    };
    await withListener({ trusted_proxies, identify }, async (url) => {
      await postMcp(url, INITIALIZE, { ...spoofed, host: '127.0.0.1' });
    });
    expect(seen).toEqual(expected);
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
});
