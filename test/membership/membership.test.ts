import { generateKeyPair } from '@libp2p/crypto/keys';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Authority, type Redemption } from '../../node/membership/authority.ts';
import { newSigningKey, signingKeyOf } from '../../node/membership/keys.ts';
import { EXPIRED_KEPT_MS } from '../../node/membership/limits.ts';
import { Membership } from '../../node/membership/membership.ts';
import { readRootKey, rootKeyFile } from '../../node/membership/root-key.ts';
import { readStatement, rootNameOf, type Statement, state } from '../../node/membership/statement.ts';
import { readToken, writeToken } from '../../node/membership/token.ts';
import { ADMIN, ADMITTED, codeOf, HOUR_MS, type Member, MembersOnDisk, ORDINARY, SILENT } from './mesh-of-members.ts';

const NONCE = Buffer.alloc(16, 3);

let mesh: MembersOnDisk;
let founder: Member;

beforeEach(async () => {
  mesh = new MembersOnDisk();
  founder = await mesh.found();
});
afterEach(() => mesh.close());

async function stranger(): Promise<string> {
  return peerIdFromPrivateKey(await generateKeyPair('Ed25519')).toString();
}

function admits(at: Member, who: Member, options?: { renewOnly?: boolean }): string {
  return codeOf(() => at.membership.admit(who.peer, who.membership.chain(), who.membership.roots(), options));
}

describe('founding and joining', () => {
  test('a founder is admin and issuer, and one that joins may do what its invite says', async () => {
    const worker = await mesh.join(mesh.token(founder, { rights: { ...ORDINARY, roles: ['work'] } }), founder);
    expect([...founder.membership.of(founder.peer)!.roles]).toEqual(['submit', 'work', 'replicate', 'admin']);
    expect([...founder.membership.of(worker.peer)!.roles]).toEqual(['work']);
    expect(admits(founder, worker)).toBe(ADMITTED);
    expect(admits(worker, founder)).toBe(ADMITTED);
  });

  test('the same is there after a restart, and nothing of it without membership.db', async () => {
    const { dataDir } = founder.membership;
    founder.membership.close();
    const again = Membership.open({ dataDir, identity: founder.identity, now: () => mesh.now, log: SILENT });
    expect(again!.standing.state).toBe('member');
    again!.close();
    expect(
      Membership.open({ dataDir: await mesh.folder(), identity: founder.identity, now: () => 0, log: SILENT }),
    ).toBeNull();
  });

  test('a folder whose identity key is another one says so', async () => {
    const { dataDir } = founder.membership;
    const identity = await generateKeyPair('Ed25519');
    expect(codeOf(() => Membership.open({ dataDir, identity, now: () => mesh.now, log: SILENT }))).toBe(
      'CERTIFICATE_OF_ANOTHER',
    );
  });

  test('a token is one line that survives being pasted, and says when a part of it is missing', () => {
    const token = mesh.token(founder);
    expect(token).toMatch(/^fmj1_[A-Za-z0-9_-]+$/);
    expect(readToken(` flowmesh join ${token}\n`).invite.said.uses).toBe(1);
    expect(codeOf(() => readToken(token.slice(0, -4)))).toBe('INVALID_TOKEN');
    expect(codeOf(() => readToken(token.replace(/.(?=...$)/, (one) => (one === 'A' ? 'B' : 'A'))))).toBe(
      'INVALID_TOKEN',
    );
    expect(codeOf(() => readToken('hello'))).toBe('INVALID_TOKEN');
  });

  test('a token holds no secret of the mesh', () => {
    const token = mesh.token(founder);
    const decoded = Buffer.from(token.slice(5), 'base64url');
    expect(decoded.includes(Buffer.from(founder.identity.raw.subarray(0, 32)))).toBe(false);
    expect(writeToken(readToken(token))).toBe(token);
  });
});

describe('an invite', () => {
  async function redeem(token: string, change: Partial<Redemption> = {}, at = founder, peer?: string): Promise<string> {
    const joiner = peer ?? (await stranger());
    const shown = { ...mesh.redemption(token, joiner, at.peer, NONCE), ...change };
    return codeOf(() => at.authority.redeem(shown, { peer: joiner, nonce: NONCE }));
  }

  test('is used once, by the same peer as often as it asks', async () => {
    const token = mesh.token(founder);
    const first = await stranger();
    expect(await redeem(token, {}, founder, first)).toBe(ADMITTED);
    expect(await redeem(token, {}, founder, first)).toBe(ADMITTED);
    expect(await redeem(token)).toBe('INVITE_USED');
  });

  test('of several uses ends after them', async () => {
    const token = mesh.token(founder, { uses: 2 });
    expect([await redeem(token), await redeem(token), await redeem(token)]).toEqual([
      ADMITTED,
      ADMITTED,
      'INVITE_USED',
    ]);
  });

  test('expires', async () => {
    const token = mesh.token(founder, { ttl_ms: HOUR_MS });
    mesh.now += HOUR_MS + 1;
    expect(await redeem(token)).toBe('INVITE_EXPIRED');
  });

  test('that was revoked is refused, and who came by it is out', async () => {
    const token = mesh.token(founder, { uses: 5 });
    const joined = await mesh.join(token, founder);
    founder.authority.revoke({ invite_id: readToken(token).invite.said.id }, { reason: '', issued: false });
    expect(await redeem(token)).toBe('INVITE_REVOKED');
    expect(admits(founder, joined)).toBe('REVOKED');
  });

  test('for one peer is refused to another', async () => {
    const wanted = await stranger();
    const token = mesh.token(founder, { for_peer: wanted });
    expect(await redeem(token)).toBe('INVITE_FOR_ANOTHER');
    expect(await redeem(token, {}, founder, wanted)).toBe(ADMITTED);
  });

  test('is worth nothing without its key, with a proof for another peer, sponsor or connection', async () => {
    const token = mesh.token(founder);
    const joiner = await stranger();
    const { proof: ofAnother } = mesh.redemption(token, await stranger(), founder.peer, NONCE);
    const { proof: forAnother } = mesh.redemption(token, joiner, await stranger(), NONCE);
    const { proof: replayed } = mesh.redemption(token, joiner, founder.peer, Buffer.alloc(16, 9));
    const { sign } = newSigningKey();
    for (const proof of [ofAnother, forAnother, replayed, sign(NONCE), Buffer.alloc(64)]) {
      expect(await redeem(token, { proof }, founder, joiner)).toBe('INVITE_FORGED');
    }
  });

  test('is made by admins alone, and one that makes admins or issuers by the root alone', async () => {
    const admin = await mesh.join(mesh.token(founder, { rights: ADMIN }), founder);
    const member = await mesh.join(mesh.token(founder), founder);
    expect(codeOf(() => mesh.token(member))).toBe('NEEDS_ADMIN');
    expect(codeOf(() => mesh.token(admin, { rights: ADMIN }))).toBe('NEEDS_ROOT');
    expect(codeOf(() => mesh.token(admin))).toBe(ADMITTED);
  });

  test('that a member signed without being admin is refused', async () => {
    const member = await mesh.join(mesh.token(founder), founder);
    const { said } = readToken(mesh.token(founder)).invite;
    const forged = state({ ...said, by: member.peer }, member.membership.key);
    expect(codeOf(() => founder.membership.learn([forged]))).toBe('CERTIFICATE_FORGED');
  });

  test('is redeemed at any issuer, and not at a member that is none', async () => {
    const issuer = await mesh.join(mesh.token(founder, { rights: ADMIN }), founder);
    const member = await mesh.join(mesh.token(founder), founder);
    mesh.meet(founder, issuer, member);
    const token = mesh.token(founder);
    expect(await redeem(token, {}, member)).toBe('NOT_AN_ISSUER');
    expect(await redeem(token, {}, issuer)).toBe(ADMITTED);
  });

  test('two sides of a partition that both redeem it: after the heal one is out, everywhere the same one', async () => {
    const issuer = await mesh.join(mesh.token(founder, { rights: ADMIN }), founder);
    const token = mesh.token(founder);
    mesh.meet(founder, issuer);
    const [here, there] = [await mesh.join(token, founder, 'here'), await mesh.join(token, issuer, 'there')];
    mesh.meet(founder, issuer, here, there);
    const outAt = [founder, issuer, here, there].map((at) =>
      [here, there].filter(({ peer }) => at.membership.of(peer) === null).map(({ peer }) => peer),
    );
    expect(outAt[0]).toHaveLength(1);
    expect(new Set(outAt.map((out) => out.join()))).toHaveLength(1);
    expect(founder.membership.ledger.standing(outAt[0]![0]!)).toMatchObject({
      state: 'void',
      why: { code: 'INVITE_USED' },
    });
  });
});

describe('a certificate', () => {
  test('of another mesh, of another peer, none at all', async () => {
    const other = await mesh.found();
    const member = await mesh.join(mesh.token(founder), founder);
    expect(admits(founder, other)).toBe('OTHER_MESH');
    expect(codeOf(() => founder.membership.admit(other.peer, member.membership.chain(), []))).toBe(
      'CERTIFICATE_OF_ANOTHER',
    );
    expect(codeOf(() => founder.membership.admit(other.peer, [], []))).toBe('NO_CERTIFICATE');
  });

  test('a chain that is forged anywhere', async () => {
    const issuer = await mesh.join(mesh.token(founder, { rights: ADMIN }), founder);
    const member = await mesh.join(mesh.token(founder), founder);
    const identity = await generateKeyPair('Ed25519');
    const key = signingKeyOf(identity);
    const peer_id = peerIdFromPrivateKey(identity).toString();
    const own = { ...member.membership.ownCertificate().said, peer_id, invite: null };
    const thief = newSigningKey();
    const rights = { ...ORDINARY, roles: ['admin' as const] };
    const chains: Uint8Array[][] = [
      [state({ ...own, by: peer_id }, key).bytes], // Signed by itself.
      [state({ ...own, by: founder.peer }, key).bytes], // In another one's name.
      [state({ ...own, by: rootNameOf(thief.publicKey) }, thief).bytes], // By a root of its own.
      [state({ ...own, by: member.peer }, member.membership.key).bytes, ...member.membership.chain().slice(0, 1)], // By no issuer.
      [state({ ...own, rights, by: issuer.peer }, issuer.membership.key).bytes, issuer.membership.chain()[0]!], // Issuers make no admins.
      [flipped(state({ ...own, by: issuer.peer }, issuer.membership.key).bytes)],
      [Buffer.from('hello')],
      [...member.membership.chain(), ...member.membership.chain()],
    ];
    const before = founder.membership.ledger.digest();
    for (const chain of chains) {
      expect(codeOf(() => founder.membership.admit(peer_id, chain, []))).toBe('CERTIFICATE_FORGED');
    }
    expect(founder.membership.ledger.digest()).toBe(before);
  });

  test('that expired is good for its renewal alone, and it is good again after that', async () => {
    const member = await mesh.join(mesh.token(founder), founder);
    mesh.now += HOUR_MS + 1;
    expect(admits(founder, member)).toBe('CERTIFICATE_EXPIRED');
    expect(founder.membership.of(member.peer)).toBeNull();
    expect(admits(founder, member, { renewOnly: true })).toBe(ADMITTED);
    const shown = founder.membership.admit(member.peer, member.membership.chain(), [], { renewOnly: true });
    member.membership.learn([founder.authority.renew(shown)]);
    expect(admits(founder, member)).toBe(ADMITTED);
  });

  test('that expired long ago is not renewed any more, nor kept', async () => {
    const member = await mesh.join(mesh.token(founder), founder);
    const chain = member.membership.chain();
    mesh.now += HOUR_MS + EXPIRED_KEPT_MS + 1;
    founder.membership.tidy();
    expect(founder.membership.ledger.standing(member.peer)).toBeUndefined();
    expect(codeOf(() => founder.membership.admit(member.peer, chain, [], { renewOnly: true }))).not.toBe(ADMITTED);
  });

  test('is due for renewal after two thirds of its time', async () => {
    const member = await mesh.join(mesh.token(founder), founder);
    mesh.now += HOUR_MS * 0.66;
    expect(member.membership.isRenewalDue()).toBe(false);
    mesh.now += HOUR_MS * 0.01;
    expect(member.membership.isRenewalDue()).toBe(true);
  });

  test('from a clock that is ahead is refused until then', async () => {
    const member = await mesh.join(mesh.token(founder), founder);
    mesh.now -= 10 * 60_000;
    expect(admits(founder, member)).toBe('CERTIFICATE_NOT_YET_VALID');
  });
});

describe('a revocation', () => {
  test('is stronger than any certificate, also one that comes later, and holds after a restart', async () => {
    const member = await mesh.join(mesh.token(founder), founder);
    founder.authority.revoke({ peer_id: member.peer }, { reason: 'lost laptop', issued: false });
    expect(admits(founder, member)).toBe('REVOKED');
    const own = member.membership.ownCertificate();
    expect(codeOf(() => founder.authority.renew(own))).toBe(ADMITTED); // It may be signed by one who does not know …
    expect(founder.membership.of(member.peer)).toBeNull(); // … and is worth nothing.
    expect(admits(founder, member, { renewOnly: true })).toBe('REVOKED');
  });

  test('reaches whoever hears of it from anybody', async () => {
    const [a, b] = [
      await mesh.join(mesh.token(founder), founder, 'a'),
      await mesh.join(mesh.token(founder), founder, 'b'),
    ];
    mesh.meet(founder, a, b);
    founder.authority.revoke({ peer_id: b.peer }, { reason: '', issued: false });
    mesh.meet(founder, a);
    expect(admits(a, b)).toBe('REVOKED');
  });

  test('of an issuer keeps what is known that it issued, and voids what it issues with its stolen key', async () => {
    const issuer = await mesh.join(mesh.token(founder, { rights: ADMIN }), founder, 'issuer');
    mesh.meet(founder, issuer);
    const honest = await mesh.join(mesh.token(founder), issuer, 'honest');
    mesh.meet(founder, issuer, honest);
    founder.authority.revoke({ peer_id: issuer.peer }, { reason: 'stolen', issued: false });
    const late = await mesh.join(mesh.token(issuer), issuer, 'late');
    mesh.meet(founder, honest);
    expect(admits(founder, honest)).toBe(ADMITTED);
    expect(admits(founder, late)).toBe('REVOKED');
    expect(admits(honest, late)).toBe('REVOKED');
  });

  test('of an issuer with what it issued', async () => {
    const issuer = await mesh.join(mesh.token(founder, { rights: ADMIN }), founder, 'issuer');
    mesh.meet(founder, issuer);
    const member = await mesh.join(mesh.token(founder), issuer, 'member');
    mesh.meet(founder, issuer, member);
    founder.authority.revoke({ peer_id: issuer.peer }, { reason: '', issued: true });
    expect(admits(founder, member)).toBe('REVOKED');
  });

  test('is for admins alone', async () => {
    const member = await mesh.join(mesh.token(founder), founder);
    expect(codeOf(() => member.authority.revoke({ peer_id: founder.peer }, { reason: '', issued: false }))).toBe(
      'NEEDS_ADMIN',
    );
    const target = { peer_id: founder.peer };
    const said = {
      kind: 'revocation' as const,
      mesh: founder.membership.ledger.mesh,
      target,
      keeps: [],
      reason: '',
      at: 0,
      by: member.peer,
    };
    expect(codeOf(() => founder.membership.learn([state(said, member.membership.key)]))).toBe('CERTIFICATE_FORGED');
  });

  test('what follows does not depend on the order in which it is learnt', async () => {
    const admin = await mesh.join(mesh.token(founder, { rights: ADMIN }), founder, 'admin');
    mesh.meet(founder, admin);
    const victim = await mesh.join(mesh.token(founder), founder, 'victim');
    mesh.meet(founder, admin, victim);
    const observers = [
      await mesh.join(mesh.token(founder), founder, 'x'),
      await mesh.join(mesh.token(founder), founder, 'y'),
    ];
    mesh.meet(founder, admin, victim, ...observers);
    const byThief = admin.authority.revoke({ peer_id: victim.peer }, { reason: '', issued: false }).bytes;
    const ofThief = founder.authority.revoke({ peer_id: admin.peer }, { reason: '', issued: false }).bytes;
    observers[0]!.membership.learnFrom('', [byThief]);
    observers[0]!.membership.learnFrom('', [ofThief]);
    observers[1]!.membership.learnFrom('', [ofThief]);
    observers[1]!.membership.learnFrom('', [byThief]);
    for (const { membership } of observers) {
      expect(membership.of(victim.peer)).not.toBeNull();
      expect(membership.of(admin.peer)).toBeNull();
    }
    expect(observers[0]!.membership.ledger.digest()).toBe(observers[1]!.membership.ledger.digest());
  });
});

describe('rotation', () => {
  test('of the root: all renew, the old root is dropped, and what it signs then is void', async () => {
    const issuer = await mesh.join(mesh.token(founder, { rights: ADMIN }), founder, 'issuer');
    const member = await mesh.join(mesh.token(founder), founder, 'member');
    mesh.meet(founder, issuer, member);
    const token = mesh.token(founder);
    const oldRoot = readRootKey(rootKeyFile(founder.membership.dataDir))!;
    founder.authority.addRoot();
    mesh.meet(founder, issuer, member);
    expect([member, issuer].map(({ membership }) => membership.isRenewalDue())).toEqual([true, false]);
    expect(founder.authority.leftBehind().map(({ name }) => name)).toEqual(['member']);
    member.membership.learn([issuer.authority.renew(member.membership.ownCertificate())]);
    mesh.meet(founder, issuer, member);
    expect(founder.authority.leftBehind()).toEqual([]);
    founder.authority.dropOldRoots('rotation');
    mesh.meet(founder, issuer, member);
    for (const at of [founder, issuer, member]) {
      expect(at.membership.ledger.roots()).toHaveLength(1);
      for (const who of [founder, issuer, member]) expect(admits(at, who)).toBe(ADMITTED);
    }
    // What the old root signs from now on.
    const late = {
      ...issuer.membership.ownCertificate().said,
      peer_id: await stranger(),
      by: rootNameOf(oldRoot.publicKey),
    };
    expect(codeOf(() => member.membership.learn([state(late, oldRoot)]))).toBe('REVOKED');
    // An invite of before is good still.
    expect(codeOf(() => mesh.redemption(token, member.peer, founder.peer, NONCE))).toBe(ADMITTED);
    expect((await mesh.join(token, issuer, 'guest')).membership.standing.state).toBe('member');
  });

  test('whoever slept through it is a member when it comes back', async () => {
    const member = await mesh.join(mesh.token(founder), founder, 'member');
    const issuer = await mesh.join(mesh.token(founder, { rights: ADMIN }), founder, 'issuer');
    mesh.meet(founder, member, issuer);
    founder.authority.addRoot();
    founder.authority.dropOldRoots('rotation');
    for (const sleeper of [member, issuer]) {
      expect(admits(founder, sleeper)).toBe(ADMITTED);
      expect(admits(sleeper, founder)).toBe(ADMITTED);
      mesh.meet(founder, sleeper);
      expect(sleeper.membership.standing.state).toBe('member');
    }
  });

  test('needs the key of the newest root', async () => {
    const admin = await mesh.join(mesh.token(founder, { rights: ADMIN }), founder, 'admin');
    expect(codeOf(() => admin.authority.addRoot())).toBe('NEEDS_ROOT');
    const elsewhere = new Authority(founder.membership, `${await mesh.folder()}/root.key`);
    expect(codeOf(() => elsewhere.addRoot())).toBe('NEEDS_ROOT');
  });
});

test('a statement keeps its bytes, and any bit that is changed is noticed', () => {
  const [statement] = founder.membership.ledger.all() as [Statement];
  expect(readStatement(statement.bytes)).toEqual(statement);
  for (let at = 0; at < statement.bytes.byteLength; at++) {
    expect(codeOf(() => readStatement(flipped(statement.bytes, at)))).toBe('CERTIFICATE_FORGED');
  }
});

function flipped(bytes: Uint8Array, at = bytes.byteLength - 10): Uint8Array {
  const changed = Uint8Array.from(bytes);
  changed[at]! ^= 1;
  return changed;
}
