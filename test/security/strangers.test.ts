/**
 * A named list of attacks of peers that are no members, on the admission and on what comes after it. Each is refused
 * with the right code, and leaves nothing behind at the peer that it was tried on.
 */
import { connect as connectSocket, type Socket } from 'node:net';
import { generateKeyPair } from '@libp2p/crypto/keys';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import { encode } from 'cborg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Authority, joinText } from '../../node/membership/authority.ts';
import { newSigningKey, signingKey, signingKeyOf } from '../../node/membership/keys.ts';
import { ROOTS_MAX, STRANGER_BYTES_MAX, STRANGERS_PER_ADDRESS_MAX } from '../../node/membership/limits.ts';
import type { Offer } from '../../node/membership/messages.ts';
import {
  type Certificate,
  keyHash,
  readStatement,
  rootNameOf,
  type Statement,
  state,
} from '../../node/membership/statement.ts';
import { readToken, writeToken } from '../../node/membership/token.ts';
import { loadIdentity } from '../../node/p2p/identity.ts';
import { joinMesh } from '../../node/p2p/join.ts';
import { MEMBERSHIP_PROTOCOL } from '../../node/p2p/member-exchange.ts';
import { recordingLog, SILENT_EVENTS, until } from '../integration/p2p-peers.ts';
import { type SecuredPeer, SecuredPeers } from '../integration/secured-peers.ts';
import { ADMIN, HOUR_MS, ORDINARY } from '../membership/mesh-of-members.ts';
import { Stranger } from './stranger.ts';

let mesh: SecuredPeers;
let founder: SecuredPeer;
/** An ordinary member, connected to the founder. */
let member: SecuredPeer;
const strangers: Stranger[] = [];
/** Messages of who is no member. */
let heard = 0;

beforeAll(async () => {
  mesh = new SecuredPeers();
  const events = {
    ...SILENT_EVENTS,
    onMessage: async (peer: string) => {
      if (founder.membership.of(peer) === null) heard++;
      return null;
    },
  };
  founder = await mesh.found('home', events);
  member = await mesh.join(mesh.token(founder), 'member');
  await mesh.connect(member, founder);
});
afterAll(async () => {
  await Promise.all(strangers.map((each) => each.close()));
  await mesh.close();
});

async function stranger(identity?: Parameters<typeof loadIdentity>[0]): Promise<Stranger> {
  const made =
    identity === undefined ? await Stranger.make() : new Stranger(await loadIdentity(identity, recordingLog()));
  strangers.push(made);
  return made;
}

/** What nothing may change. When members meet each other is theirs. */
function known() {
  const { network, membership } = founder;
  const isStranger = (peer: string): boolean => membership.of(peer) === null;
  return {
    ledger: membership.ledger.digest(),
    connected: network.connected().filter(isStranger),
    peers: network.list().flatMap(({ peer_id }) => (isStranger(peer_id) ? [peer_id] : [])),
    heard,
  };
}

async function refused(attack: () => Promise<string>, code: string): Promise<void> {
  const before = known();
  expect(await attack()).toBe(code);
  expect(known()).toEqual(before);
}

const asMember = (chain: Uint8Array[], roots: Uint8Array[] = []) => ({ as: 'member', chain, roots, digest: '' });

/** A certificate of this mesh as somebody else would write it. */
function certificate(peer_id: string, over: Partial<Certificate> = {}): Certificate {
  const own = founder.membership.ownCertificate().said;
  return { ...own, peer_id, rights: ORDINARY, invite: null, not_after: mesh.now + HOUR_MS, ...over };
}

describe('shown as the certificate of a member', () => {
  test('none', async () => {
    const x = await stranger();
    await refused(() => x.says(founder.network, () => asMember([])), 'NO_CERTIFICATE');
  });

  test("another member's, with its chain", async () => {
    const x = await stranger();
    await refused(() => x.says(founder.network, () => asMember(member.membership.chain())), 'CERTIFICATE_OF_ANOTHER');
  });

  test("the listener's own, as it has just shown it", async () => {
    const x = await stranger();
    await refused(() => x.says(founder.network, ({ chain }) => asMember(chain)), 'CERTIFICATE_OF_ANOTHER');
  });

  test('one of another mesh', async () => {
    const x = await mesh.outsider();
    const before = known();
    await expect(mesh.connect(x, founder)).rejects.toMatchObject({ code: 'OTHER_MESH' });
    const key = await stranger(x.dataDir);
    await mesh.stop(x);
    const chain = x.membership.chain();
    expect(await key.says(founder.network, () => asMember(chain))).toBe('OTHER_MESH');
    expect(known()).toEqual(before);
  });

  test.each([
    ['itself', (x: Stranger) => [state(certificate(x.self, { by: x.self }), signingKeyOf(x.identity))]],
    ['itself, in the name of the root', (x: Stranger) => [state(certificate(x.self), signingKeyOf(x.identity))]],
    [
      'a root of its own, of which it says that it is that of the mesh',
      (x: Stranger) => {
        const root = newSigningKey();
        return [state(certificate(x.self, { by: rootNameOf(root.publicKey) }), root)];
      },
    ],
    [
      'an issuer that it made itself',
      (x: Stranger) => {
        const root = newSigningKey();
        const by = signingKeyOf(x.identity);
        const issuer = state(certificate(x.self, { rights: ADMIN, by: rootNameOf(root.publicKey) }), root);
        return [state(certificate(x.self, { by: x.self }), by), issuer];
      },
    ],
    [
      'a member that is no issuer',
      (x: Stranger) => {
        const own = member.membership.ownCertificate();
        return [state(certificate(x.self, { by: member.network.self }), member.membership.key), own];
      },
    ],
  ] as [string, (x: Stranger) => Statement[]][])('one that was signed by %s', async (_by, forge) => {
    const x = await stranger();
    const chain = forge(x).map(({ bytes }) => bytes);
    await refused(() => x.says(founder.network, () => asMember(chain)), 'CERTIFICATE_FORGED');
  });

  test('a good one, altered: a role, its owner, its end', async () => {
    const x = await stranger();
    const own = member.membership.ownCertificate();
    for (const over of [{}, { rights: ADMIN }, { not_after: own.said.not_after * 2 }]) {
      const altered = withPayload(own, { ...own.said, ...over, peer_id: x.self });
      const code = await x.says(founder.network, () => asMember([altered]));
      expect(code).toBe('CERTIFICATE_FORGED');
    }
  });

  test('an invite, and a root of its own among the roots', async () => {
    const x = await stranger();
    const { invite } = readToken(mesh.token(founder));
    await refused(() => x.says(founder.network, () => asMember([invite.bytes])), 'CERTIFICATE_FORGED');
    const root = newSigningKey();
    const { mesh: id } = founder.membership.ledger;
    const key = Buffer.from(root.publicKey).toString('base64url');
    const named = state({ kind: 'root', mesh: id, key, rank: 1, at: mesh.now, by: rootNameOf(root.publicKey) }, root);
    const own = state(certificate(x.self, { by: rootNameOf(root.publicKey) }), root);
    await refused(() => x.says(founder.network, () => asMember([own.bytes], [named.bytes])), 'CERTIFICATE_FORGED');
  });

  test('a chain of three', async () => {
    const x = await stranger();
    const { bytes } = state(certificate(x.self, { by: x.self }), signingKeyOf(x.identity));
    await refused(() => x.says(founder.network, () => asMember([bytes, bytes, bytes])), 'INVALID_ADMISSION');
  });

  test('that of a peer that was revoked, as a member, as expired, and with a new invite', async () => {
    const lost = await mesh.join(mesh.token(founder), 'lost');
    const token = mesh.token(founder);
    new Authority(founder.membership).revoke({ peer_id: lost.network.self }, { reason: 'lost', issued: false });
    await mesh.stop(lost);
    const x = await stranger(lost.dataDir);
    const chain = lost.membership.chain();
    await refused(() => x.says(founder.network, () => asMember(chain)), 'REVOKED');
    await refused(() => x.says(founder.network, () => ({ ...asMember(chain), as: 'expired' })), 'REVOKED');
    await refused(() => x.says(founder.network, redeem(x, token)), 'REVOKED');
  });

  test('one that has expired, as a good one', async () => {
    const late = await mesh.join(mesh.token(founder), 'late');
    await mesh.stop(late);
    const x = await stranger(late.dataDir);
    const { bytes, said } = late.membership.ownCertificate();
    const { now } = mesh;
    mesh.now = said.not_after + 1;
    const code = await x.says(founder.network, () => asMember([bytes]));
    mesh.now = now;
    expect(code).toBe('CERTIFICATE_EXPIRED');
  });
});

function withPayload({ bytes }: Statement, said: object): Uint8Array {
  const signature = bytes.subarray(-64);
  return encode([encode(said), signature]);
}

/** What a joiner says. */
function redeem(x: { self: string }, token: string, over: { sponsor?: string; nonce?: Uint8Array } = {}) {
  const { invite, key } = readToken(token);
  return (offer: Offer, sponsor: string) => {
    const text = joinText(x.self, over.sponsor ?? sponsor, over.nonce ?? offer.nonce, invite.said.id);
    return { as: 'joiner', invite: invite.bytes, proof: signingKey(key).sign(text), name: 'x' };
  };
}

describe('shown as an invite', () => {
  test('one that was used already', async () => {
    const token = mesh.token(founder);
    await mesh.join(token, 'first');
    const x = await stranger();
    await refused(() => x.says(founder.network, redeem(x, token)), 'INVITE_USED');
  });

  test('one that was revoked', async () => {
    const token = mesh.token(founder);
    new Authority(founder.membership).revoke(
      { invite_id: readToken(token).invite.said.id },
      { reason: '', issued: false },
    );
    const x = await stranger();
    await refused(() => x.says(founder.network, redeem(x, token)), 'INVITE_REVOKED');
  });

  test('one that is for another peer', async () => {
    const other = peerIdFromPrivateKey(await generateKeyPair('Ed25519')).toString();
    const token = mesh.token(founder, { for_peer: other });
    const x = await stranger();
    await refused(() => x.says(founder.network, redeem(x, token)), 'INVITE_FOR_ANOTHER');
  });

  test('one that has expired', async () => {
    const token = mesh.token(founder, { ttl_ms: 1_000 });
    const x = await stranger();
    mesh.now += 2_000;
    await refused(() => x.says(founder.network, redeem(x, token)), 'INVITE_EXPIRED');
    mesh.now -= 2_000;
  });

  test('one without its key', async () => {
    const { invite, ...rest } = readToken(mesh.token(founder));
    const token = writeToken({ ...rest, invite, key: newSigningKey().seed });
    const x = await stranger();
    await refused(() => x.says(founder.network, redeem(x, token)), 'INVITE_FORGED');
  });

  test('one that was signed by a member that may not invite', async () => {
    const key = newSigningKey();
    const { said } = readToken(mesh.token(founder)).invite;
    const publicKey = Buffer.from(key.publicKey).toString('base64url');
    const mine = { ...said, id: keyHash(key.publicKey), key: publicKey, by: member.network.self };
    const invite = state(mine, member.membership.key);
    const root = Buffer.from(founder.membership.ledger.roots()[0]!.key, 'base64url');
    const token = writeToken({ invite, key: key.seed, root, sponsors: founder.network.addresses() });
    const x = await stranger();
    await refused(() => x.says(founder.network, redeem(x, token)), 'CERTIFICATE_FORGED');
  });

  test('the words of an earlier redemption again: on a new connection, by its peer and by another one', async () => {
    const token = mesh.token(founder, { uses: 5 });
    const [x, y] = [await stranger(), await stranger()];
    let said: ReturnType<ReturnType<typeof redeem>> | undefined;
    const recorded = (offer: Offer, sponsor: string) => {
      said = redeem(x, token)(offer, sponsor);
      return said;
    };
    expect(await x.says(founder.network, recorded)).toBe('admitted');
    await refused(() => x.says(founder.network, () => said!), 'INVITE_FORGED');
    await refused(() => y.says(founder.network, () => said!), 'INVITE_FORGED');
    await refused(() => y.says(founder.network, redeem(x, token)), 'INVITE_FORGED');
  });

  test('a proof that was made for another sponsor', async () => {
    const token = mesh.token(founder);
    const x = await stranger();
    await refused(() => x.says(founder.network, redeem(x, token, { sponsor: member.network.self })), 'INVITE_FORGED');
  });

  test('at a member that may not let anybody in', async () => {
    const x = await stranger();
    expect(await x.says(member.network, redeem(x, mesh.token(founder)))).toBe('NOT_AN_ISSUER');
    for (const at of [member, founder]) expect(at.membership.ledger.standing(x.self)).toBeUndefined();
  });

  test('a joiner is asked for it by who is no member, at the address of a sponsor', async () => {
    const other = await mesh.found('other');
    const token = mesh.sponsoredBy(mesh.token(founder), other);
    const dataDir = await mesh.peers.folder();
    const identity = await loadIdentity(dataDir, recordingLog());
    const options = { dataDir, identity, token: readToken(token), name: 'x', now: () => mesh.now, log: recordingLog() };
    await expect(joinMesh(options)).rejects.toMatchObject({ code: 'OTHER_MESH' });
    expect(other.membership.ledger.members()).toHaveLength(1);
  });
});

describe('what is no admission', () => {
  test.each([
    ['nothing that is known', { as: 'admin' }],
    ['no roots', { as: 'member', chain: [], digest: '' }],
    ['a chain of texts', { as: 'member', chain: ['x'], roots: [], digest: '' }],
    [
      'too many roots',
      { as: 'member', chain: [], roots: Array(2 * ROOTS_MAX + 1).fill(new Uint8Array(1)), digest: '' },
    ],
    ['a long name', { as: 'joiner', invite: new Uint8Array(1), proof: new Uint8Array(1), name: 'x'.repeat(65) }],
  ])('%s', async (_what, said) => {
    const x = await stranger();
    await refused(() => x.says(founder.network, () => said), 'INVALID_ADMISSION');
  });

  test.each([
    ['bytes that are no statement', new Uint8Array(100)],
    ['an empty statement', new Uint8Array(0)],
    ['CBOR that nests without end', new Uint8Array(10_000).fill(0x81)],
    ['CBOR that says it has four thousand million values', Buffer.from('9affffffff', 'hex')],
  ])('%s in a chain', async (_what, bytes) => {
    const x = await stranger();
    await refused(() => x.says(founder.network, () => asMember([bytes])), 'CERTIFICATE_FORGED');
  });

  test('more than a stranger may say', async () => {
    const x = await stranger();
    const said = asMember([new Uint8Array(STRANGER_BYTES_MAX), new Uint8Array(1)]);
    await refused(() => x.says(founder.network, () => said), 'closed');
  });

  test.each([
    '/flowmesh/peer/1.0.0',
    MEMBERSHIP_PROTOCOL,
    'kad',
    '/meshsub/1.2.0',
    '/ipfs/id/1.0.0',
    '/ipfs/ping/1.0.0',
    '/libp2p/circuit/relay/0.2.0/hop',
    '/libp2p/circuit/relay/0.2.0/stop',
    '/libp2p/dcutr',
  ])('%s on a connection that was not admitted', async (name) => {
    const protocol = name === 'kad' ? `/flowmesh/${founder.membership.ledger.mesh}/kad/1.0.0` : name;
    const x = await stranger();
    const open = async (): Promise<string> => {
      try {
        const connection = await x.dial(founder.network, async () => {}); // as if it had been admitted
        await connection.newStream(protocol);
        return 'opened';
      } catch {
        return 'refused';
      }
    };
    await refused(open, 'refused');
  });
});

describe('connections that say nothing, or half', () => {
  const port = () => Number(/\/tcp\/(\d+)/.exec(founder.network.addresses()[0]!)![1]);
  const sockets: Socket[] = [];
  afterAll(() => {
    for (const socket of sockets) socket.destroy();
  });
  function raw(says: (socket: Socket) => void): Promise<Socket> {
    const socket = connectSocket(port(), '127.0.0.1');
    sockets.push(socket);
    socket.on('error', () => {}); // It is closed by the other side: what is tested.
    return new Promise((resolve) =>
      socket.once('connect', () => {
        says(socket);
        resolve(socket);
      }),
    );
  }
  const HALF: [string, (socket: Socket) => void][] = [
    ['nothing', () => {}],
    ['noise', (socket) => socket.write(Buffer.alloc(1_000, 0xff))],
    ['the first words of libp2p', (socket) => socket.write('\x13/multistream/1.0.0\n')],
    ['HTTP', (socket) => socket.write('GET /mesh/invite HTTP/1.1\r\nHost: a\r\n\r\n')],
  ];

  test('are closed in the end, those that stop within the admission too; members are served meanwhile', async () => {
    const before = known();
    const half = await Promise.all(HALF.flatMap(([, says]) => [raw(says), raw(says)]));
    const x = await stranger();
    let stopped = 0;
    const stops = Array.from({ length: 4 }, () =>
      x.dial(founder.network, async (lines) => {
        stopped++;
        await lines.ended().catch(() => {});
        await new Promise((resolve) => setTimeout(resolve, 20_000).unref());
      }),
    );
    for (const each of stops) each.catch(() => {}); // It is closed by the other side.
    await until(() => stopped > 0);
    expect(await member.network.request(founder.network.self, 'any', {}, 30_000)).toBeNull();
    const joined = await mesh.join(mesh.token(founder), 'meanwhile');
    await mesh.stop(joined);
    await until(() => half.every((socket) => socket.destroyed || socket.readableEnded), 'the sockets are closed');
    expect(known().connected).toEqual(before.connected);
  });

  test('many refusals one after the other use nothing up', async () => {
    const x = await stranger();
    const tries = 2 * STRANGERS_PER_ADDRESS_MAX + 1;
    for (let at = 0; at < tries; at++) {
      expect(await x.says(founder.network, () => asMember([]))).toBe('NO_CERTIFICATE');
    }
    const joined = await mesh.join(mesh.token(founder), 'afterwards');
    await mesh.connect(joined, founder);
    await mesh.stop(joined);
  });
});

test('what a forged statement is made of is read as it is written', () => {
  const own = member.membership.ownCertificate();
  expect(readStatement(withPayload(own, own.said)).id).toBe(own.id);
});
