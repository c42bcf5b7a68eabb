import { afterEach, describe, expect, it } from 'vitest';
import { eventually } from './eventually.ts';
import { HostedPeer } from './hosted-peers.ts';
import { Internet, NO_NAMESPACES, skipNote } from './namespaces.ts';

describe.skipIf(NO_NAMESPACES !== null)(`peers on hosts of their own${skipNote(NO_NAMESPACES)}`, () => {
  let net: Internet;
  afterEach(() => net[Symbol.asyncDispose]());

  it('an open mesh on the loopback of one host; a peer of another host is not in it', async () => {
    net = await Internet.make();
    const [one, other] = [await net.host('one'), await net.host('other')];
    await using first = await HostedPeer.start(one, ['--mesh', 'ours', '--listen', '/ip4/127.0.0.1/tcp/7600']);
    const join = ['--mesh', 'ours', '--listen', '/ip4/127.0.0.1/tcp/7700', '--join', '/ip4/127.0.0.1/tcp/7600'];
    await using second = await HostedPeer.start(one, join);
    await using elsewhere = await HostedPeer.start(other, join);
    const connected = async (peer: HostedPeer) => {
      const { peers } = (await peer.cli('peer', 'list', '--status-filter', 'connected')) as {
        peers: { peer_id: string }[];
      };
      return peers.map(({ peer_id }) => peer_id);
    };
    await eventually('the two of one host are connected', async () => (await connected(first)).length === 1);
    expect(await connected(first)).toEqual([second.record.peer_id]);
    expect(await connected(elsewhere)).toEqual([]);
    await second.end('SIGTERM');
    await second.start();
    expect(await second.text('workflow', 'list')).toBe('none\n');
  });
});
