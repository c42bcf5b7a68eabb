/** Members of a secured mesh over real connections: joining, being let in, renewal, revocation, rotation. */
import { generateKeyPair } from '@libp2p/crypto/keys';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { FlowmeshError } from '../../dag/errors.ts';
import { Authority } from '../../node/membership/authority.ts';
import { STRANGERS_PER_ADDRESS_MAX } from '../../node/membership/limits.ts';
import type { Rights } from '../../node/membership/statement.ts';
import { readToken } from '../../node/membership/token.ts';
import { ADMIN, HOUR_MS, ORDINARY } from '../membership/mesh-of-members.ts';
import { TestPeers, until } from './p2p-peers.ts';
import { type SecuredPeer, SecuredPeers } from './secured-peers.ts';

let mesh: SecuredPeers;
let founder: SecuredPeer;

beforeEach(async () => {
  mesh = new SecuredPeers();
  founder = await mesh.found();
});
afterEach(() => mesh.close());

async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
  } catch (error) {
    return (error as FlowmeshError).code;
  }
  return DONE;
}

const DONE = 'nothing was thrown';

async function eventually(ask: () => Promise<string>, wanted: string): Promise<string> {
  let answer = await ask();
  while (answer !== wanted && answer === 'PEER_UNREACHABLE') answer = await ask();
  return answer;
}

test('one that was invited joins, connects, and is connected again after a restart', async () => {
  const member = await mesh.join(mesh.token(founder), 'member');
  await mesh.connect(member, founder);
  expect([...founder.network.membership(member.network.self)!.roles]).toEqual(ORDINARY.roles);
  await mesh.restart(member);
  await until(() => founder.network.connected().includes(member.network.self), 'the member is back');
});

test('a stranger, a peer of an open mesh and a member of another mesh are not let in, and leave nothing behind', async () => {
  const stranger = await mesh.outsider();
  expect(await codeOf(mesh.connect(stranger, founder))).toBe('OTHER_MESH');
  const open = new TestPeers();
  const other = await open.open({ mesh: 'test' });
  expect(await codeOf(other.connect(founder.network.self, founder.network.addresses()))).toBe('PEER_UNREACHABLE');
  expect(await codeOf(founder.network.connect(other.self, other.addresses()))).toBe('PEER_UNREACHABLE');
  expect(founder.network.connected()).toEqual([]);
  expect(founder.membership.ledger.members()).toHaveLength(1);
  await open.close();
});

test('two members that met nobody but the founder connect to each other', async () => {
  const [a, b] = [await mesh.join(mesh.token(founder), 'a'), await mesh.join(mesh.token(founder), 'b')];
  await mesh.connect(a, founder);
  await mesh.connect(b, a);
  expect(a.membership.ledger.digest()).toBe(b.membership.ledger.digest());
});

test('an invite is redeemed at another issuer when its maker is gone', async () => {
  const issuer = await mesh.join(mesh.token(founder, { rights: ADMIN }), 'issuer');
  await mesh.connect(issuer, founder);
  const token = mesh.token(founder, {}, [founder, issuer]);
  await mesh.stop(founder);
  const guest = await mesh.join(token, 'guest');
  await mesh.connect(guest, issuer);
  expect(await codeOf(mesh.join(token, 'second'))).toBe('INVITE_USED');
});

test('a redemption is on two disks before the certificate is given', async () => {
  const member = await mesh.join(mesh.token(founder), 'member');
  await mesh.connect(member, founder);
  const guest = await mesh.join(mesh.token(founder), 'guest');
  expect(member.membership.ledger.standing(guest.network.self)?.state).toBe('member');
});

test('one that is revoked is cut off everywhere at once, hears why, and does not come back', async () => {
  const [a, b] = [await mesh.join(mesh.token(founder), 'a'), await mesh.join(mesh.token(founder), 'b')];
  await mesh.connect(a, founder);
  await mesh.connect(b, founder);
  await mesh.connect(a, b);
  new Authority(founder.membership).revoke({ peer_id: b.network.self }, { reason: 'lost', issued: false });
  await until(() => b.network.connected().length === 0, 'the revoked peer is alone');
  await until(() => !a.network.connected().includes(b.network.self), 'and so for the others');
  // The dial that meets the end of the old connection says no more than that.
  await until(() => b.network.list().every(({ status }) => status === 'disconnected'), 'the connections are closed');
  expect(await eventually(() => codeOf(mesh.connect(b, a)), 'REVOKED')).toBe('REVOKED');
  expect(await codeOf(mesh.connect(a, b))).not.toBe(DONE);
  await until(() => b.membership.standing.state === 'revoked', 'it knows');
});

test('a peer that was away learns of a revocation when it connects, before anything else', async () => {
  const [a, b] = [await mesh.join(mesh.token(founder), 'a'), await mesh.join(mesh.token(founder), 'b')];
  await mesh.connect(a, founder);
  await mesh.connect(b, a);
  await mesh.stop(a);
  new Authority(founder.membership).revoke({ peer_id: b.network.self }, { reason: '', issued: false });
  const back = await mesh.restart(a);
  await mesh.connect(back, founder);
  expect(back.network.membership(b.network.self)).toBeNull();
  expect(await codeOf(mesh.connect(b, back))).toBe('REVOKED');
});

test('a certificate is renewed in time by an issuer that is connected, and connections stay', async () => {
  const member = await mesh.join(mesh.token(founder), 'member');
  await mesh.connect(member, founder);
  const before = member.membership.ownCertificate().id;
  mesh.now += HOUR_MS * 0.7;
  await until(() => member.membership.ownCertificate().id !== before, 'the renewal');
  expect(founder.network.connected()).toEqual([member.network.self]);
});

test('a certificate that expired ends its connections; the peer is renewed when it comes back, whoever dials', async () => {
  const [member, other] = [
    await mesh.join(mesh.token(founder), 'member'),
    await mesh.join(mesh.token(founder), 'other'),
  ];
  await mesh.connect(member, other);
  await mesh.stop(founder);
  mesh.now += HOUR_MS + 1;
  await until(() => member.network.connected().length === 0, 'the end of the connection');
  expect(await codeOf(mesh.connect(member, other))).toMatch(/CERTIFICATE_EXPIRED|NOT_AN_ISSUER/);
  const back = await mesh.restart(founder);
  await mesh.connect(member, back);
  await mesh.connect(back, other);
  expect([member, other].map(({ membership }) => membership.standing.state)).toEqual(['member', 'member']);
  await mesh.connect(member, other);
});

test('a root is rotated while all are connected', async () => {
  const issuer = await mesh.join(mesh.token(founder, { rights: ADMIN }), 'issuer');
  const member = await mesh.join(mesh.token(founder), 'member');
  for (const each of [issuer, member]) await mesh.connect(each, founder);
  const authority = new Authority(founder.membership);
  authority.addRoot();
  await until(() => authority.leftBehind().length === 0, 'all have renewed');
  authority.dropOldRoots('rotation');
  await until(() => member.membership.ledger.roots().length === 1, 'the old root is dropped');
  for (const { membership } of [founder, issuer, member]) expect(membership.standing.state).toBe('member');
  expect(founder.network.connected()).toHaveLength(2);
});

test('two sides of a partition redeem one invite: when they meet, one of the two is out', async () => {
  const issuer = await mesh.join(mesh.token(founder, { rights: ADMIN }), 'issuer');
  await mesh.connect(issuer, founder);
  const token = mesh.token(founder, {}, [founder]);
  const there = mesh.token(founder, {}, [issuer]);
  expect(readToken(there).invite.id).not.toBe(readToken(token).invite.id);
  await until(
    () => issuer.membership.ledger.of('invite').length === founder.membership.ledger.of('invite').length,
    'it knows',
  );
  mesh.cut(founder, issuer);
  const one = await mesh.join(token, 'one');
  const two = await mesh.join(mesh.sponsoredBy(token, issuer), 'two');
  mesh.mend(founder, issuer);
  await mesh.connect(founder, issuer);
  const out = [one, two].filter(({ network }) => founder.network.membership(network.self) === null);
  expect(out).toHaveLength(1);
  expect(issuer.network.membership(out[0]!.network.self)).toBeNull();
  expect(await codeOf(mesh.connect(out[0]!, founder))).toBe('INVITE_USED');
});

test('a joiner says nothing to a member of another mesh that answers at the address of its sponsor', async () => {
  const other = await mesh.found('other');
  const token = mesh.token(founder);
  expect(await codeOf(mesh.join(mesh.sponsoredBy(token, other), 'joiner'))).toBe('OTHER_MESH');
  expect(await mesh.join(token, 'joiner')).toBeDefined();
});

test('connections that say nothing do not keep members out', async () => {
  const silent = await mesh.silentConnections(founder, STRANGERS_PER_ADDRESS_MAX + 10);
  const member = await mesh.join(mesh.token(founder), 'member').catch((error: FlowmeshError) => error.code);
  expect(member).toBe('PEER_UNREACHABLE'); // From the same address; it goes on when these are closed.
  silent.close();
  const after = await mesh.join(mesh.token(founder), 'member');
  await mesh.connect(after, founder);
});

test('identity and rights: what a peer may do is what its certificate says now', async () => {
  const rights: Rights = { roles: ['work'], offers: ['echo'], relay: false, issue: null };
  const member = await mesh.join(mesh.token(founder, { rights }), 'member');
  await mesh.connect(member, founder);
  expect(founder.network.membership(member.network.self)).toEqual({ roles: new Set(['work']), offers: ['echo'] });
  expect(founder.network.membership((await generateKeyPair('Ed25519')).publicKey.toString())).toBeNull();
});
