/** What a member that lies, a clock that is wrong, a full disk and a slip of the pen do to a secured mesh: little. */
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { generateKeyPair } from '@libp2p/crypto/keys';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { JsonObject } from '../../dag/errors.ts';
import { newSigningKey } from '../../node/membership/keys.ts';
import { Ledger } from '../../node/membership/ledger.ts';
import { EXPIRED_KEPT_MS, ISSUER_TTL_MS } from '../../node/membership/limits.ts';
import { Membership } from '../../node/membership/membership.ts';
import { type MeshRequest, serveMeshRequest } from '../../node/membership/requests.ts';
import { type Certificate, type Rights, state } from '../../node/membership/statement.ts';
import { MembershipStore } from '../../node/membership/store.ts';
import { readToken } from '../../node/membership/token.ts';
import { ADMIN, ADMITTED, codeOf, HOUR_MS, type Member, MembersOnDisk, ORDINARY, SILENT } from './mesh-of-members.ts';

const ISSUER = { ...ORDINARY, issue: { member_ttl_ms: HOUR_MS } };
const DAY_MS = 24 * HOUR_MS;

let mesh: MembersOnDisk;
let founder: Member;

beforeEach(async () => {
  mesh = new MembersOnDisk();
  founder = await mesh.found();
});
afterEach(() => mesh.close());

function admits(at: Member, who: Member): string {
  return codeOf(() => at.membership.admit(who.peer, who.membership.chain(), who.membership.roots()));
}

async function stranger(): Promise<string> {
  return peerIdFromPrivateKey(await generateKeyPair('Ed25519')).toString();
}

function reopened({ membership, identity }: Member): Membership {
  membership.close();
  return Membership.open({ dataDir: membership.dataDir, identity, now: () => mesh.now, log: SILENT })!;
}

function ask(at: Member, request: MeshRequest, input: JsonObject): Promise<JsonObject> {
  const reach = () => ({ listens: [], announces: ['/ip4/192.0.2.1/tcp/1'], peers: [], notes: [] });
  const parts = { membership: at.membership, authority: at.authority, reach, tryAddresses: async () => [] };
  return serveMeshRequest(parts, request, input);
}

/** A certificate that an issuer makes as it likes. */
function made(issuer: Member, said: Partial<Certificate>): Uint8Array {
  const own = issuer.membership.ownCertificate().said;
  const body = { ...own, rights: ORDINARY, invite: null, epoch: 0, ...said, by: issuer.peer };
  return state<Certificate>(body, issuer.membership.key).bytes;
}

describe('an issuer that lies', () => {
  let issuer: Member;
  let admin: Member;

  beforeEach(async () => {
    issuer = await mesh.join(mesh.token(founder, { rights: ISSUER }), founder, 'issuer');
    admin = await mesh.join(mesh.token(founder, { rights: ADMIN }), founder, 'admin');
    mesh.meet(founder, issuer, admin);
  });

  test('takes no admin its place by newer certificates with less rights', async () => {
    const lesser = [1, 2, 3, 4, 5].map((n) =>
      made(issuer, { peer_id: admin.peer, name: 'x', epoch: 9_000 + n, not_after: mesh.now + 5 * ISSUER_TTL_MS + n }),
    );
    founder.membership.learnFrom(issuer.peer, lesser);
    expect([...founder.membership.of(admin.peer)!.roles]).toContain('admin');
    const revocation = admin.authority.revoke({ peer_id: issuer.peer }, { reason: '', issued: true });
    expect(founder.membership.learnFrom(admin.peer, [revocation.bytes])).toHaveLength(1);
  });

  test('puts no admin out by redemptions of its invite that it made up', async () => {
    const { id } = admin.membership.ownCertificate().said.invite!;
    const lowest = { id, uses: 1, redemption: 'AAAAAAAAAAAAAAAAAAAAAA' };
    founder.membership.learnFrom(issuer.peer, [made(issuer, { peer_id: await stranger(), invite: lowest })]);
    expect(founder.membership.ledger.standing(admin.peer)!.state).toBe('member');
  });

  test('fills the ledger, and is revoked all the same, which makes room', () => {
    const offers = Array.from({ length: 50 }, () => randomBytes(96).toString('hex').slice(0, 128));
    const flood = (from: number, count: number, rights: Rights): void => {
      const made_up = Array.from({ length: count }, (_, n) => made(issuer, { peer_id: peerIdOf(from + n), rights }));
      founder.membership.learnFrom(issuer.peer, made_up);
    };
    flood(0, 650, { ...ORDINARY, offers });
    flood(700, 40, ORDINARY);
    expect(codeOf(() => founder.membership.learn([readToken(mesh.token(admin)).invite]))).toBe('MESH_FULL');
    const revocation = admin.authority.revoke({ peer_id: issuer.peer }, { reason: '', issued: true });
    expect(founder.membership.learnFrom(admin.peer, [revocation.bytes])).toHaveLength(1);
    expect(founder.membership.ledger.members()).toHaveLength(3);
  });
});

/** Of as many peers as are wanted, without making keys. */
function peerIdOf(n: number): string {
  const letters = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz';
  const tail = Array.from({ length: 4 }, (_, place) => letters[Math.floor(n / 58 ** place) % 58]).join('');
  return `12D3KooW${'A'.repeat(40)}${tail}`;
}

/** What one that joins now takes of what the founder tells it. */
function newcomer(): Ledger {
  const { ledger } = founder.membership;
  const late = new Ledger(ledger.mesh, () => mesh.now);
  for (const statement of ledger.all()) late.add(statement);
  return late;
}

describe('one that is out', () => {
  test('since its issuer was revoked with what it issued: it says so, also after a restart, and can be invited anew', async () => {
    const issuer = await mesh.join(mesh.token(founder, { rights: ISSUER }), founder, 'issuer');
    mesh.meet(founder, issuer);
    const member = await mesh.join(mesh.token(founder), issuer, 'member');
    mesh.meet(founder, issuer, member);
    const { bytes } = founder.authority.revoke({ peer_id: issuer.peer }, { reason: '', issued: true });
    member.membership.learnFrom(founder.peer, [bytes]);
    expect(member.membership.standing).toMatchObject({ state: 'revoked', why: { code: 'REVOKED' } });
    expect(member.membership.isRenewalDue()).toBe(false);
    const again = reopened(member);
    expect(again.standing.state).toBe('revoked');
    again.close();
    const anew = await mesh.join(mesh.token(founder), founder, 'member', member.identity);
    expect(anew.membership.standing.state).toBe('member');
    expect(anew.membership.ledger.digest()).toBe(founder.membership.ledger.digest());
  });

  test('stays out at those that join when the admin that revoked it is long gone', async () => {
    const admin = await mesh.join(mesh.token(founder, { rights: ADMIN }), founder, 'admin');
    mesh.now += ISSUER_TTL_MS - DAY_MS;
    founder.authority.renew(founder.membership.ownCertificate());
    const out = await mesh.join(mesh.token(founder, { rights: ADMIN }), founder, 'out');
    mesh.meet(founder, admin, out);
    const { bytes } = admin.authority.revoke({ peer_id: out.peer }, { reason: '', issued: false });
    founder.membership.learnFrom(admin.peer, [bytes]);
    mesh.now += EXPIRED_KEPT_MS + 2 * DAY_MS;
    founder.membership.tidy();
    const late = newcomer();
    expect(late.whyRevoked(out.peer)).toBeDefined();
    expect(late.digest()).toBe(founder.membership.ledger.digest());
  });

  test('stays out when the admin that revoked it was revoked itself, and the root was rotated', async () => {
    const admin = await mesh.join(mesh.token(founder, { rights: ADMIN }), founder, 'admin');
    const out = await mesh.join(mesh.token(founder), founder, 'out');
    mesh.meet(founder, admin, out);
    const { bytes } = admin.authority.revoke({ peer_id: out.peer }, { reason: '', issued: false });
    founder.membership.learnFrom(admin.peer, [bytes]);
    founder.authority.revoke({ peer_id: admin.peer }, { reason: '', issued: false });
    founder.authority.addRoot();
    founder.authority.dropOldRoots('rotation');
    const late = newcomer();
    expect([late.whyRevoked(out.peer), late.whyRevoked(admin.peer)]).toEqual([expect.anything(), expect.anything()]);
    expect(late.digest()).toBe(founder.membership.ledger.digest());
  });

  test('by a stolen admin is in again by the word of the root, which it brings itself', async () => {
    const thief = await mesh.join(mesh.token(founder, { rights: ADMIN }), founder, 'thief');
    const other = await mesh.join(mesh.token(founder), founder, 'other');
    mesh.meet(founder, thief, other);
    thief.authority.revoke({ peer_id: founder.peer }, { reason: '', issued: true });
    mesh.meet(founder, thief, other);
    expect([founder.membership.standing.state, admits(other, founder)]).toEqual(['revoked', 'REVOKED']);
    await ask(founder, 'revoke', { target: 'thief', issued: true });
    expect(founder.membership.standing.state).toBe('member');
    expect(admits(other, founder)).toBe(ADMITTED);
    expect(admits(other, thief)).toBe('REVOKED');
  });

  test('an admin whose certificate has expired invites nobody', async () => {
    const admin = await mesh.join(mesh.token(founder, { rights: ADMIN }), founder, 'admin');
    mesh.now += ISSUER_TTL_MS - HOUR_MS;
    founder.authority.renew(founder.membership.ownCertificate());
    const token = mesh.token(admin, { ttl_ms: 20 * DAY_MS });
    mesh.now += DAY_MS;
    const joiner = await stranger();
    const shown = mesh.redemption(token, joiner, founder.peer, Buffer.alloc(16));
    expect(codeOf(() => founder.authority.redeem(shown, { peer: joiner, nonce: Buffer.alloc(16) }))).toBe(
      'INVITE_REVOKED',
    );
  });
});

describe('a member that asks or tells much', () => {
  test('is given back the certificate that it has, until half of its time is over', async () => {
    const member = await mesh.join(mesh.token(founder), founder);
    const own = member.membership.ownCertificate();
    expect(founder.authority.renewIfDue(own)).toBe(own);
    mesh.now += HOUR_MS / 2;
    expect(founder.authority.renewIfDue(own).id).not.toBe(own.id);
  });

  test('makes others check no signatures of just anyone, and write once for all that is new', async () => {
    const member = await mesh.join(mesh.token(founder), founder);
    const { said } = member.membership.ownCertificate();
    const nobody = await generateKeyPair('Ed25519');
    const by = peerIdFromPrivateKey(nobody).toString();
    // Signed by another key than it says: it would be noticed as forged, if it were checked.
    const junk = Array.from({ length: 40 }, (_, n) =>
      state<Certificate>({ ...said, name: `x${n}`, by }, newSigningKey()),
    );
    const before = founder.membership.ledger.digest();
    expect(
      founder.membership.learnFrom(
        member.peer,
        junk.map(({ bytes }) => bytes),
      ),
    ).toEqual([]);
    expect(founder.membership.ledger.digest()).toBe(before);
    let told = 0;
    member.membership.onChange(() => told++);
    for (let n = 0; n < 5; n++) mesh.token(founder);
    mesh.meet(founder, member);
    expect(told).toBe(1);
    // Nor does one that is not a member yet: what is no chain of this mesh is refused before a signature is checked.
    const chain = [state<Certificate>({ ...said, peer_id: by, by }, newSigningKey()).bytes];
    expect(() => founder.membership.admit(by, chain, [])).toThrow(/its signer is no issuer/);
    expect(member.membership.ledger.digest()).toBe(founder.membership.ledger.digest());
  });
});

describe('clocks, disks and slips of the pen', () => {
  test('a clock that was years ahead for a while costs a peer nothing', async () => {
    const member = await mesh.join(mesh.token(founder), founder);
    const before = mesh.now;
    mesh.now += 20 * ISSUER_TTL_MS;
    member.membership.tidy();
    expect(member.membership.standing).toMatchObject({ state: 'void' });
    mesh.now = before;
    const again = reopened(member);
    expect(again.standing.state).toBe('member');
    again.close();
  });

  test('what could not be written is written later, and told then', async () => {
    const told: string[] = [];
    founder.membership.onChange((added) => told.push(...added.map(({ id }) => id)));
    const { dataDir } = founder.membership;
    const other = new DatabaseSync(join(dataDir, 'membership.db'));
    other.exec('BEGIN IMMEDIATE');
    expect(() => mesh.token(founder)).toThrow(/locked/);
    expect(told).toEqual([]);
    other.exec('ROLLBACK');
    other.close();
    founder.membership.tidy();
    expect(told).toHaveLength(1);
    const digest = founder.membership.ledger.digest();
    const again = reopened(founder);
    expect(again.ledger.digest()).toBe(digest);
    again.close();
  });

  test('a disk that takes nothing shuts no member out, and gives no new one a certificate', async () => {
    const member = await mesh.join(mesh.token(founder), founder);
    const token = mesh.token(founder);
    const guest = peerIdFromPrivateKey(await generateKeyPair('Ed25519')).toString();
    const nonce = randomBytes(16);
    const other = new DatabaseSync(join(member.membership.dataDir, 'membership.db'));
    other.exec('BEGIN IMMEDIATE');
    const known = founder.membership.ledger.all().map(({ bytes }) => bytes);
    expect(member.membership.learnFrom(founder.peer, known).length).toBeGreaterThan(0);
    const { chain, roots } = { chain: founder.membership.chain(), roots: founder.membership.roots() };
    expect(member.membership.admit(founder.peer, chain, roots).said.peer_id).toBe(founder.peer);
    // Who has told it is not to take this disk for a second one.
    expect(() => member.membership.flush()).toThrow(/locked/);
    other.exec('ROLLBACK');
    other.close();
    member.membership.flush();

    const full = new DatabaseSync(join(founder.membership.dataDir, 'membership.db'));
    full.exec('BEGIN IMMEDIATE');
    const shown = mesh.redemption(token, guest, founder.peer, nonce);
    for (let times = 0; times < 2; times++) {
      expect(() => founder.authority.redeem(shown, { peer: guest, nonce })).toThrow(/locked/);
    }
    full.exec('ROLLBACK');
    full.close();
    expect(founder.authority.redeem(shown, { peer: guest, nonce }).said.peer_id).toBe(guest);
  });

  test('a listener that throws keeps neither the others nor the statement away', () => {
    const told: number[] = [];
    founder.membership.onChange(() => {
      throw new Error('broken');
    });
    founder.membership.onChange((added) => told.push(added.length));
    mesh.token(founder);
    expect(told).toEqual([1]);
  });

  test('rotations can be called for without end', () => {
    for (let n = 0; n < 40; n++) founder.authority.rotate();
    expect(founder.membership.ledger.epoch).toBe(40);
    expect(founder.membership.ledger.of('rotation')).toHaveLength(1);
  });

  test('a token that nobody could read is not made, nor its invite', () => {
    const offers = Array.from({ length: 40 }, (_, n) => `${n}`.padEnd(90, 'x'));
    expect(codeOf(() => mesh.token(founder, { rights: { ...ORDINARY, offers } }))).toBe('INVALID_TOKEN');
    expect(founder.membership.ledger.of('invite')).toEqual([]);
  });

  test('an invite for what is no peer id is refused, and nothing of it is kept', async () => {
    await expect(ask(founder, 'invite', { for_peer: 'bob' })).rejects.toMatchObject({ code: 'INVALID_ADMISSION' });
    expect(codeOf(() => mesh.token(founder, { for_peer: 'bob' }))).toBe('INVALID_ADMISSION');
    const again = reopened(founder);
    expect(again.ledger.of('invite')).toEqual([]);
    again.close();
  });

  test('a damaged statement is left out, a damaged file is named', async () => {
    const member = await mesh.join(mesh.token(founder), founder);
    const { dataDir } = member.membership;
    const file = join(dataDir, 'membership.db');
    const database = new DatabaseSync(file);
    database.prepare("UPDATE statements SET bytes = x'00' WHERE id = ?").run(founder.membership.ownCertificate().id);
    database.close();
    const again = reopened(member);
    expect(again.standing.state).not.toBe('revoked');
    mesh.meet(founder, { ...member, membership: again });
    expect(again.standing.state).toBe('member');
    again.close();
    writeFileSync(file, 'not a database, and long enough to be looked at as one: '.repeat(40));
    expect(codeOf(() => new MembershipStore(dataDir))).toBe('MEMBERSHIP_UNREADABLE');
  });

  test('a founding that was cut off is done again; a peer of one mesh is told so before an invite is used up', async () => {
    const dataDir = await mesh.folder();
    new MembershipStore(dataDir).close();
    expect(codeOf(() => Membership.mustBeFree(dataDir, null))).toBe(ADMITTED);
    expect(codeOf(() => Membership.mustBeFree(founder.membership.dataDir, null))).toBe('OTHER_MESH');
    const { mesh: own } = founder.membership.facts;
    expect(codeOf(() => Membership.mustBeFree(founder.membership.dataDir, own))).toBe(ADMITTED);
  });

  test('nobody is out of reach of a revocation by the names that others chose, or put out by a slip', async () => {
    const victim = await mesh.join(mesh.token(founder), founder, 'accomplice');
    await mesh.join(mesh.token(founder), founder, victim.peer);
    const slip = ask(founder, 'revoke', { target: victim.peer.slice(-1) });
    await expect(slip).rejects.toMatchObject({ code: 'UNKNOWN_MEMBER' });
    expect(await ask(founder, 'revoke', { target: victim.peer })).toMatchObject({ revoked: victim.peer });
  });

  test('a member is renewed before its issuer’s own certificate ends', async () => {
    const issuer = await mesh.join(mesh.token(founder, { rights: ISSUER }), founder, 'issuer');
    mesh.now += ISSUER_TTL_MS - HOUR_MS / 2;
    founder.authority.renew(founder.membership.ownCertificate());
    mesh.meet(founder, issuer);
    const member = await mesh.join(mesh.token(founder), issuer, 'member');
    expect(member.membership.ownCertificate().said.not_after).toBe(issuer.membership.ownCertificate().said.not_after);
    mesh.now += HOUR_MS / 2.5;
    expect(member.membership.isRenewalDue()).toBe(true);
    member.membership.learn([founder.authority.renewIfDue(member.membership.ownCertificate())]);
    mesh.now += HOUR_MS / 4;
    expect(admits(founder, member)).toBe(ADMITTED);
  });
});
