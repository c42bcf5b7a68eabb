/** Which addresses that others told a peer may dial. */
import { multiaddr } from '@multiformats/multiaddr';
import { describe, expect, it } from 'vitest';
import { announced, DialPolicy, relayIn, sourceOf } from '../../node/p2p/addresses.ts';
import { KnownPeers } from '../../node/p2p/known-peers.ts';

const SELF = '12D3KooWKA2Du3FhuCAZHfCsqCEZrkLvNMQTXQwKBKucd4iPxef5';
const RELAY = '12D3KooWBP3yFMMFgx8cTAV9YRrdoaMcZFfeMuCDuZUJAkDFvfwc';
const PEER = '12D3KooWGoeYzuFYwBDWGGG6GFbHMVz5FgD8RYpXkqQ6kkgVhUjH';
const OWN = ['/ip4/127.0.0.1/tcp/7600', '/ip4/192.168.1.5/tcp/7600'];

function policy(listen: string[], relay: boolean): DialPolicy {
  const own = () => OWN.map((address) => `${address}/p2p/${SELF}`);
  return new DialPolicy({ self: SELF, listen, relay, own });
}

const loopback = policy(['/ip4/127.0.0.1/tcp/7600'], false);
const anywhere = policy(['/ip4/0.0.0.0/tcp/7600', '/ip6/::/tcp/7600'], true);
/** Secured, and told not to relay or be relayed. */
const direct = policy(['/ip4/192.168.1.5/tcp/7600'], false);

/** What a peer may dial that listens on loopback, anywhere, and anywhere without relays. */
const TABLE: [address: string, loopback: boolean, anywhere: boolean, direct: boolean][] = [
  ['/ip4/127.0.0.1/tcp/7601', true, false, false],
  ['/ip4/127.9.9.9/tcp/7601', true, false, false],
  ['/ip6/::1/tcp/7601', true, false, false],
  ['/ip6/::ffff:127.0.0.1/tcp/7601', true, false, false],
  ['/dns4/localhost/tcp/7601', false, false, false],
  ['/dns4/Db.LocalHost./tcp/7601', false, false, false],
  ['/ip4/10.0.0.7/tcp/7600', false, true, true],
  ['/ip4/192.168.1.6/tcp/7600', false, true, true],
  ['/ip4/8.8.8.8/tcp/7600', false, true, true],
  [`/ip4/8.8.8.8/tcp/7600/p2p/${PEER}`, false, true, true],
  ['/ip6/2001:db8::7/tcp/7600', false, true, true],
  ['/ip6/fd00::7/tcp/7600', false, true, true],
  ['/dns4/mesh.example.org/tcp/7600', false, true, true],
  ['/dns6/mesh.example.org/tcp/7600', false, true, true],
  ['/dns/mesh.example.org/tcp/7600', false, true, true],
  // Nobody, everybody, or somebody else for each who asks.
  ['/ip4/0.0.0.0/tcp/7600', false, false, false],
  ['/ip6/::/tcp/7600', false, false, false],
  ['/ip4/255.255.255.255/tcp/7600', false, false, false],
  ['/ip4/224.0.0.251/tcp/7600', false, false, false],
  ['/ip6/ff02::fb/tcp/7600', false, false, false],
  ['/ip4/169.254.169.254/tcp/80', false, false, false],
  ['/ip6/fe80::1/tcp/7600', false, false, false],
  ['/ip6/::ffff:169.254.169.254/tcp/80', false, false, false],
  // This peer itself.
  ['/ip4/127.0.0.1/tcp/7600', false, false, false],
  ['/ip4/192.168.1.5/tcp/7600', false, false, false],
  [`/ip4/8.8.8.8/tcp/7600/p2p/${SELF}`, false, false, false],
  // Not TCP.
  ['/ip4/8.8.8.8/udp/7600', false, false, false],
  ['/ip4/8.8.8.8/udp/7600/quic-v1', false, false, false],
  ['/ip4/8.8.8.8/tcp/7600/ws', false, false, false],
  ['/ip4/8.8.8.8/tcp/443/tls/ws', false, false, false],
  ['/dnsaddr/mesh.example.org', false, false, false],
  ['/dnsaddr/mesh.example.org/tcp/7600', false, false, false],
  ['/unix/%2Frun%2Fdocker.sock', false, false, false],
  ['/ip4/8.8.8.8/tcp/0', false, false, false],
  ['/ip4/8.8.8.8', false, false, false],
  [`/p2p/${PEER}`, false, false, false],
  ['no address', false, false, false],
  // Through one relay.
  [`/ip4/8.8.8.8/tcp/7600/p2p/${RELAY}/p2p-circuit`, false, true, false],
  [`/ip4/8.8.8.8/tcp/7600/p2p/${RELAY}/p2p-circuit/p2p/${PEER}`, false, true, false],
  [`/ip4/127.0.0.1/tcp/7601/p2p/${RELAY}/p2p-circuit/p2p/${PEER}`, false, false, false],
  [`/ip4/8.8.8.8/tcp/7600/p2p/${SELF}/p2p-circuit/p2p/${PEER}`, false, false, false],
  [`/ip4/8.8.8.8/tcp/7600/p2p/${RELAY}/p2p-circuit/p2p/${SELF}`, false, false, false],
  [`/ip4/8.8.8.8/tcp/7600/p2p/${RELAY}/p2p-circuit/p2p/${RELAY}`, false, false, false],
  [`/ip4/8.8.8.8/tcp/7600/p2p-circuit/p2p/${PEER}`, false, false, false],
  [`/ip4/8.8.8.8/tcp/7600/p2p/${RELAY}/p2p-circuit/p2p/${PEER}/p2p-circuit/p2p/${PEER}`, false, false, false],
];

describe('an address that others told', () => {
  it.each(TABLE)('%s: on loopback %s, anywhere %s, without relays %s', (address, ...expected) => {
    expect([loopback, anywhere, direct].map((each) => each.mayDial(address))).toEqual(expected);
  });

  it('is not kept when it may not be dialled, nor when it is of another peer', () => {
    const known = new KnownPeers((address) => anywhere.mayDial(address));
    known.learn(PEER, ['/ip4/127.0.0.1/tcp/22', '/ip4/169.254.169.254/tcp/80', `/ip4/8.8.8.8/tcp/1/p2p/${RELAY}`]);
    known.learn(PEER, ['/ip4/10.0.0.7/tcp/7600', `/ip4/8.8.8.8/tcp/1/p2p/${RELAY}/p2p-circuit`]);
    expect(known.get(PEER)?.addresses).toEqual([
      `/ip4/10.0.0.7/tcp/7600/p2p/${PEER}`,
      `/ip4/8.8.8.8/tcp/1/p2p/${RELAY}/p2p-circuit/p2p/${PEER}`,
    ]);
  });
});

describe('what a user named by hand', () => {
  const given = policy(['/ip4/127.0.0.1/tcp/7600'], false);
  given.give('/ip4/10.0.0.7/tcp/7600');

  it('may be dialled whatever its kind, as the peer that answers there too', () => {
    expect(given.mayDial('/ip4/10.0.0.7/tcp/7600')).toBe(true);
    expect(given.mayDial(`/ip4/10.0.0.7/tcp/7600/p2p/${PEER}`)).toBe(true);
  });

  it('lets nothing beside it be dialled', () => {
    expect(given.mayDial('/ip4/10.0.0.7/tcp/760')).toBe(false);
    expect(given.mayDial('/ip4/10.0.0.8/tcp/7600')).toBe(false);
    expect(given.mayDial(`/ip4/10.0.0.7/tcp/7600/p2p/${SELF}`)).toBe(false);
  });
});

describe('a name', () => {
  const named = multiaddr('/dns4/localhost.localdomain.invalid/tcp/7600');

  it('that stands for nothing is left to fail in the dial', async () => {
    expect(await anywhere.denies(named)).toBe(false);
  });

  it('is looked behind before it is dialled', async () => {
    // The one name of every machine that stands for loopback.
    expect(await anywhere.denies(multiaddr('/dns4/localhost/tcp/7601'))).toBe(true);
    const byHand = policy(['/ip4/0.0.0.0/tcp/7600'], false);
    byHand.give('/dns4/localhost/tcp/7601');
    expect(await byHand.denies(multiaddr('/dns4/localhost/tcp/7601'))).toBe(false);
  });
});

describe('what a peer tells of itself', () => {
  const parsed = (addresses: string[]) => announced(addresses.map((address) => multiaddr(address))).map(String);

  it('leaves out loopback where it has other addresses', () => {
    expect(parsed(OWN)).toEqual(['/ip4/192.168.1.5/tcp/7600']);
    expect(parsed(['/ip4/127.0.0.1/tcp/1', '/ip6/::1/tcp/1'])).toEqual(['/ip4/127.0.0.1/tcp/1', '/ip6/::1/tcp/1']);
  });
});

describe('the relay of an address', () => {
  it('is the peer in its middle', () => {
    expect(relayIn(`/ip4/8.8.8.8/tcp/1/p2p/${RELAY}/p2p-circuit/p2p/${PEER}`)).toBe(RELAY);
    expect(relayIn(`/ip4/8.8.8.8/tcp/1/p2p/${PEER}`)).toBe(null);
  });
});

describe('where a connection comes from', () => {
  const source = (address: string) => sourceOf(multiaddr(`${address}/tcp/1`));

  it('is an address, and one of the public networks of IPv6, whatever the address in it is', () => {
    expect(source('/ip4/192.0.2.7')).toBe('192.0.2.7');
    const one = ['2001:db8:1:2::1', '2001:db8:1:2:ffff:1:2:3', '2001:db8:1:2:5::'].map((ip) => source(`/ip6/${ip}`));
    expect(new Set(one).size).toBe(1);
    const others = ['2001:db8:1:3::1', '2001:db8::2:0:0:1', 'fd00::1', 'fd00::2', '::1'].map((ip) =>
      source(`/ip6/${ip}`),
    );
    expect(new Set([...one, ...others]).size).toBe(6);
  });
});
