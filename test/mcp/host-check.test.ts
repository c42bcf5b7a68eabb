/** By which names a peer may be called, and the pages of which origins may use it. */
import { describe, expect, it } from 'vitest';
import { createHostCheck, plainTextWarning } from '../../node/mcp/host-check.ts';

describe('Host', () => {
  const refusal = createHostCheck({ hosts: ['Peer.example'] });
  const asked = (host: string, localAddress?: string) =>
    refusal({ hosts: [host], scheme: 'http', origin: undefined, localAddress });

  it('is a listed name or a loopback one, with any port', () => {
    for (const host of ['peer.example', 'PEER.EXAMPLE:443', 'localhost:1', '127.8.0.1', '[::1]:7601'])
      expect(asked(host)).toBeUndefined();
    for (const host of ['other.example', 'peer.example.evil.example', 'evil-peer.example', '10.0.0.7', ''])
      expect(asked(host)).toContain('--allowed-host');
  });

  it('is the address at which the request came in, which no page can have rebound', () => {
    expect(asked('10.0.0.7:7601', '10.0.0.7')).toBeUndefined();
    expect(asked('10.0.0.7:7601', '::ffff:10.0.0.7')).toBeUndefined();
    expect(asked('[FD00:0::7]:7601', 'fd00::7')).toBeUndefined();
    expect(asked('10.0.0.8:7601', '10.0.0.7')).toContain('not served here');
    expect(asked('evil.example', '10.0.0.7')).toContain('not served here');
  });
});

describe('Origin', () => {
  const ask = (
    rules: Parameters<typeof createHostCheck>[0],
    origin: string,
    host = '127.0.0.1:7601',
    scheme: 'http' | 'https' = 'http',
  ) => createHostCheck(rules)({ hosts: [host], scheme, origin, localAddress: '10.0.0.7' });

  it('without a list: pages of this machine, of the listed names and of the address that was called', () => {
    const rules = { hosts: ['peer.example'] };
    for (const origin of ['http://localhost:6274', 'https://peer.example', 'http://peer.example:3000'])
      expect(ask(rules, origin)).toBeUndefined();
    expect(ask(rules, 'http://10.0.0.7:3000', '10.0.0.7:7601')).toBeUndefined();
    for (const origin of ['https://other.example', 'null', 'file://', 'https://peer.example.evil.example'])
      expect(ask(rules, origin)).toContain('http.allowed_hosts');
  });

  it('with a list: exactly these, and the own pages of the peer', () => {
    const rules = { hosts: ['peer.example'], origins: ['https://app.example', 'vscode-webview://abc'] };
    for (const origin of ['https://app.example', 'vscode-webview://abc', 'http://127.0.0.1:7601'])
      expect(ask(rules, origin)).toBeUndefined();
    expect(ask(rules, 'https://peer.example', 'peer.example', 'https')).toBeUndefined();
    // Whoever is between the two could have made this page.
    expect(ask(rules, 'http://peer.example', 'peer.example', 'https')).toContain('http.cors_origins');
    const others = [
      'http://app.example',
      'https://app.example:8443',
      'https://sub.app.example',
      'http://localhost:6274',
    ];
    for (const origin of [...others, 'https://peer.example', 'http://127.0.0.1:7602', 'null'])
      expect(ask(rules, origin)).toContain('http.cors_origins');
  });

  it('with an empty list: the own pages alone', () => {
    const rules = { hosts: [], origins: [] };
    expect(ask(rules, 'http://127.0.0.1:7601')).toBeUndefined();
    expect(ask(rules, 'http://localhost:7601')).toContain('may not use this peer');
  });
});

it('keys that would cross a network in plain text are warned of', () => {
  const neither = { tls: false, proxied: false };
  expect(plainTextWarning('0.0.0.0', neither)).toContain('--tls-cert');
  expect(plainTextWarning('10.0.0.7', { ...neither, tls: true })).toBeUndefined();
  expect(plainTextWarning('10.0.0.7', { ...neither, proxied: true })).toBeUndefined();
  for (const host of ['127.0.0.1', '::1', 'localhost']) expect(plainTextWarning(host, neither)).toBeUndefined();
});
