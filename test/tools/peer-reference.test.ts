/** A peer is meant by its id, its name or the short id of a table, and never guessed. */
import { describe, expect, it } from 'vitest';
import { shortPeerId } from '../../node/cli/render.ts';
import { callTool } from '../../tools/call/route.ts';
import { peerIdOf } from '../../tools/peer/reference.ts';
import { tools } from '../../tools/registry.ts';
import { connection, MeshOfDoubles } from './mesh-of-doubles.ts';

const ADA = '12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo';
const BEN = '12D3KooWHpUq1bNf2eVW5Yd1S7nq2J9xVbHhR4aM3cKz8TtLw6Xo';
const UNMET = '12D3KooWMjTb3cPq5rXw2Yd1S7nq2J9xVbHhR4aM3cKz8TtL1111';

function meshOf(...others: ReturnType<typeof connection>[]) {
  const peer = new MeshOfDoubles().peer('me');
  peer.peers.list = () => others;
  return peer;
}

describe('a peer is meant', () => {
  const peer = meshOf(connection(ADA, { name: 'ada' }), connection(BEN, { name: 'the peer of ben' }));

  it.each([
    ['its id', ADA, ADA],
    ['its name', 'the peer of ben', BEN],
    ['the short id that tables show', shortPeerId(ADA), ADA],
    ['the short id as it can be typed', shortPeerId(ADA).replace('…', '...'), ADA],
    ['the end of its id', 'Lw6Xo', BEN],
    ['the id of one that was never met', UNMET, UNMET],
    ['the name of the asked peer itself', 'name of me', 'me'],
  ])('by %s', (_, text, expected) => expect(peerIdOf(text, peer.context)).toBe(expected));

  it('an end that two ids have, and a name that two peers have, are errors that name both', () => {
    const twins = meshOf(connection(ADA, { name: 'twin' }), connection(BEN, { name: 'twin' }));
    const both = { code: 'AMBIGUOUS', retryable: false, details: { kind: 'peer', id: 'twin', peer_ids: [ADA, BEN] } };
    expect(() => peerIdOf('twin', twins.context)).toThrow(expect.objectContaining(both));
    const alike = meshOf(connection(ADA), connection(`${ADA.slice(0, -20)}x${ADA.slice(-19)}`));
    expect(() => peerIdOf(shortPeerId(ADA), alike.context)).toThrow(expect.objectContaining({ code: 'AMBIGUOUS' }));
    // Too little of an id to mean anyone.
    expect(() => peerIdOf('2Xo', twins.context)).toThrow(expect.objectContaining({ code: 'NOT_FOUND' }));
    const message = expect.stringContaining(`${ADA} (twin), ${BEN} (twin). Give the whole id`);
    expect(() => peerIdOf('twin', twins.context)).toThrow(expect.objectContaining({ message }));
  });

  it('of two with one name the one that is there is meant', () => {
    const again = meshOf(connection(ADA, { name: 'ada', status: 'disconnected' }), connection(BEN, { name: 'ada' }));
    expect(peerIdOf('ada', again.context)).toBe(BEN);
  });

  it('no name takes calls for the id of another, nor for its short id', () => {
    const liar = meshOf(connection(ADA, { name: 'ada' }), connection(BEN, { name: ADA }));
    expect(peerIdOf(ADA, liar.context)).toBe(ADA);
    const shortLiar = meshOf(connection(ADA, { name: 'ada' }), connection(BEN, { name: shortPeerId(ADA) }));
    expect(() => peerIdOf(shortPeerId(ADA), shortLiar.context)).toThrow(expect.objectContaining({ code: 'AMBIGUOUS' }));
  });

  it('nobody is an error that says how to look', () => {
    const message = expect.stringContaining('no peer has the id or the name "cleo"');
    expect(() => peerIdOf('cleo', peer.context)).toThrow(expect.objectContaining({ code: 'NOT_FOUND', message }));
  });

  it('wherever a tool takes one', async () => {
    const asked: (string | undefined)[] = [];
    peer.peers.disconnect = async (id) => {
      asked.push(id);
      return { was_connected: true };
    };
    peer.peers.connect = async ({ peer_id }) => {
      asked.push(peer_id);
      return { peer_id: peer_id!, connection_id: '', connection_time_ms: 1, protocol_version: '', attempts: 1 };
    };
    const call = (tool: string, input: object) => callTool(tools.get(tool)!, input, peer.context, 0);
    expect(await call('peer_metrics', { peer_id: 'ada' })).toMatchObject({ peer_id: ADA, name: 'ada' });
    await call('peer_disconnect', { peer_id: 'ada', graceful: false });
    await call('peer_connect', { peer_id: 'the peer of ben' });
    expect(asked).toEqual([ADA, BEN]);
  });
});
