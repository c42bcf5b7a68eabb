/**
 * What this peer signs for its mesh, as far as its certificate, or the key of the root on this machine, lets it:
 * invites, keys, certificates, revocations, rotations.
 *
 * 1. Only a root makes admins and issuers, and renews them.
 * 2. A certificate is on this disk before it is given to anybody. A peer that redeems again gets the same place again:
 *    an answer that was lost costs no use of the invite.
 */
import { randomBytes } from 'node:crypto';
import type { PrivateKey } from '@libp2p/interface';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import type { Log } from '../../scheduler/ports.ts';
import { ROLES } from '../../scheduler/roles.ts';
import { newKey } from './api-key.ts';
import { MembershipError } from './errors.ts';
import { isSignedBy, newSigningKey, type SigningKey } from './keys.ts';
import type { Standing } from './ledger.ts';
import { CLOCK_SKEW_MS, ISSUER_TTL_MS, KEEPS_MAX, MEMBER_TTL_MS } from './limits.ts';
import { Membership } from './membership.ts';
import { makeRootKey, readRootKey, rootKeyFile } from './root-key.ts';
import {
  type Certificate,
  type Invite,
  isRoot,
  type Key,
  keyHash,
  type Revocation,
  type Rights,
  readStatement,
  rootNameOf,
  type Statement,
  state,
} from './statement.ts';
import { type Token, writeToken } from './token.ts';

const ID_BYTES = 16;
/** Who asks for a renewal before this share of its time is over is given back what it has. */
const RENEWED_FROM = 1 / 2;
const JOIN_DOMAIN = 'flowmesh/join/1\0';

export interface FoundOptions {
  dataDir: string;
  identity: PrivateKey;
  mesh_name: string;
  name: string;
  /** How long the certificates are good for that issuers give. */
  member_ttl_ms?: number | undefined;
  now: () => number;
  log: Log;
}

/** Makes a mesh: its root, and this peer as its first admin and issuer. @throws MembershipError OTHER_MESH */
export function foundMesh({ mesh_name, name, member_ttl_ms = MEMBER_TTL_MS, ...options }: FoundOptions): Membership {
  const root = makeRootKey(rootKeyFile(options.dataDir));
  const mesh = keyHash(root.publicKey);
  const at = options.now();
  const certificate = state<Certificate>(
    {
      kind: 'certificate',
      ...{ mesh, mesh_name, peer_id: peerIdFromPrivateKey(options.identity).toString(), name },
      rights: { roles: [...ROLES], offers: null, relay: true, issue: { member_ttl_ms } },
      invite: null,
      ...{ not_before: at, not_after: at + ISSUER_TTL_MS, epoch: 0, by: rootNameOf(root.publicKey) },
    },
    root,
  );
  return Membership.begin(options, { mesh, mesh_name, sponsors: [] }, [certificate]);
}

export interface InviteOptions {
  rights: Rights;
  uses: number;
  for_peer: string | null;
  ttl_ms: number;
  /** Addresses of members that can take the invited one in. */
  sponsors: string[];
}

export interface KeyOptions {
  name: string;
  role: string | null;
  permits: string[];
  ttl_ms: number;
}

/** What a joiner shows of its invite, and who it says it is. */
export interface Redemption {
  invite: Uint8Array;
  /** The invite's key over `joinText`. */
  proof: Uint8Array;
  name: string;
}

/** What the invite's key signs: good for one connection of two peers alone. */
export function joinText(joiner: string, sponsor: string, nonce: Uint8Array, inviteId: string): Uint8Array {
  return Buffer.from(`${JOIN_DOMAIN}${joiner}\0${sponsor}\0${Buffer.from(nonce).toString('hex')}\0${inviteId}`);
}

export class Authority {
  readonly #membership: Membership;
  /** Where the key of the root is, if it is on this machine. */
  readonly #rootFile: string;

  constructor(membership: Membership, rootFile: string = rootKeyFile(membership.dataDir)) {
    this.#membership = membership;
    this.#rootFile = rootFile;
  }

  /** @throws MembershipError NEEDS_ADMIN, NEEDS_ROOT, MESH_FULL */
  invite({ rights, uses, for_peer, ttl_ms, sponsors }: InviteOptions): { token: string; invite: Statement<Invite> } {
    const { ledger, facts, now } = this.#membership;
    const key = newSigningKey();
    const at = now();
    const invite = this.#sign<Invite>(isForRoot(rights) ? 'root' : 'admin', (by) => ({
      kind: 'invite',
      ...{ mesh: ledger.mesh, mesh_name: facts.mesh_name, id: keyHash(key.publicKey) },
      key: Buffer.from(key.publicKey).toString('base64url'),
      ...{ rights, uses, for_peer, not_before: at, not_after: at + ttl_ms, by },
    }));
    const root = Buffer.from(ledger.roots()[0]!.key, 'base64url');
    const token = writeToken({ invite, key: key.seed, root, sponsors } satisfies Token);
    this.#membership.learn([invite]);
    return { token, invite };
  }

  /**
   * Makes a key for a caller. Its text is nowhere else.
   *
   * @throws MembershipError NEEDS_ADMIN, MESH_FULL, KEY_EXISTS
   */
  createKey({ name, role, permits, ttl_ms }: KeyOptions): { text: string; key: Statement<Key> } {
    const { ledger, now } = this.#membership;
    if (this.#keysNamed(name).some((each) => ['good', 'not_yet_valid'].includes(ledger.keyState(each)))) {
      throw new MembershipError(
        'KEY_EXISTS',
        `There is a key "${name}" already. Choose another name, or end that one first: flowmesh key revoke ${name}. Who has a key of the same name later has the records of the earlier one.`,
      );
    }
    const { text, hash } = newKey();
    const at = now();
    const key = this.#sign<Key>(this.hasRoot ? 'root' : 'admin', (by) => ({
      kind: 'key',
      ...{ mesh: ledger.mesh, name, role, permits, hash, not_before: at, not_after: at + ttl_ms, by },
    }));
    this.#membership.learn([key]);
    return { text, key };
  }

  /** Ends all keys of a name. @throws MembershipError NEEDS_ADMIN, UNKNOWN_KEY */
  revokeKey(name: string, reason: string): Statement<Key>[] {
    const { ledger, now } = this.#membership;
    const keys = this.#keysNamed(name).filter((each) => ledger.keyState(each) !== 'revoked');
    if (keys.length === 0) {
      throw new MembershipError(
        'UNKNOWN_KEY',
        `No key is called "${name}", or it was revoked before: flowmesh key list.`,
      );
    }
    const revocations = keys.map(({ said: { hash, not_after } }) =>
      this.#sign<Revocation>(this.hasRoot ? 'root' : 'admin', (by) => ({
        kind: 'revocation',
        ...{ mesh: ledger.mesh, target: { key: hash, not_after }, keeps: [], reason, at: now(), by },
      })),
    );
    this.#membership.learn(revocations);
    return keys;
  }

  #keysNamed(name: string): Statement<Key>[] {
    return this.#membership.ledger.of('key').filter(({ said }) => said.name === name);
  }

  /**
   * Makes a peer a member that shows the key of an invite.
   *
   * @param how.peer who the connection proved it is
   * @throws MembershipError why not
   */
  redeem(redemption: Redemption, how: { peer: string; nonce: Uint8Array }): Statement<Certificate> {
    const { ledger, self } = this.#membership;
    const statement = readStatement(redemption.invite);
    if (statement.said.kind !== 'invite') throw new MembershipError('INVITE_FORGED', 'What was shown is no invite.');
    const invite = statement.said;
    const proven = joinText(how.peer, self, how.nonce, invite.id);
    const key = Buffer.from(invite.key, 'base64url');
    if (keyHash(key) !== invite.id || !isSignedBy(key, proven, redemption.proof)) {
      throw new MembershipError('INVITE_FORGED', 'The one who shows the invite does not have its key.');
    }
    this.#mustBeOpen(statement as Statement<Invite>, how.peer);
    const earlier = ledger.redeemedBy(invite.id);
    const again = earlier.find(({ peer_id }) => peer_id === how.peer);
    const has = this.#membership.ledger.certificateOf(how.peer);
    if (has?.said.invite?.id === invite.id && has.said.name === redemption.name && this.#isYoung(has)) return has;
    if (again === undefined && earlier.length >= invite.uses) {
      throw new MembershipError(
        'INVITE_USED',
        `The invite ${invite.id} was used as often as it may be (${invite.uses}). Ask for a new one.`,
      );
    }
    const redeemed = again?.invite?.redemption ?? randomBytes(ID_BYTES).toString('base64url');
    return this.#issue({
      ...{ peer_id: how.peer, name: redemption.name, rights: invite.rights },
      invite: { id: invite.id, uses: invite.uses, redemption: redeemed },
    });
  }

  #mustBeOpen(statement: Statement<Invite>, peer: string): void {
    const { ledger, now } = this.#membership;
    const { said: invite } = statement;
    const refuse = (code: 'INVITE_REVOKED' | 'INVITE_FOR_ANOTHER' | 'INVITE_EXPIRED', why: string): never => {
      throw new MembershipError(code, `The invite ${invite.id} ${why}. Ask for a new one.`);
    };
    if (ledger.isInviteRevoked(invite.id)) refuse('INVITE_REVOKED', 'was revoked');
    if (invite.for_peer !== null && invite.for_peer !== peer) refuse('INVITE_FOR_ANOTHER', 'is for another peer');
    if (now() > invite.not_after) refuse('INVITE_EXPIRED', `expired at ${new Date(invite.not_after).toISOString()}`);
    if (now() + CLOCK_SKEW_MS < invite.not_before) refuse('INVITE_EXPIRED', 'is not valid yet: set the clocks');
    const revoked = ledger.whyRevoked(peer);
    if (revoked !== undefined) throw revoked;
    this.#membership.learn([statement]); // Its signer is or was an admin, or this throws.
    const isAdmin = isRoot(invite.by) || this.#membership.of(invite.by)?.roles.has('admin') === true;
    if (!isAdmin) refuse('INVITE_REVOKED', `was made by ${invite.by}, which is no admin now`);
  }

  /**
   * A new certificate for a member whose own was shown and is good, or expired.
   *
   * @throws MembershipError NEEDS_ROOT, NOT_AN_ISSUER
   */
  renew({ said }: Statement<Certificate>): Statement<Certificate> {
    const { peer_id, name, rights, invite } = said;
    return this.#issue({ peer_id, name, rights, invite });
  }

  /** As `renew`, for one that asks as often as it likes: each new certificate is written by all members. */
  renewIfDue(shown: Statement<Certificate>): Statement<Certificate> {
    return this.#isYoung(shown) ? shown : this.renew(shown);
  }

  #isYoung(certificate: Statement<Certificate>): boolean {
    const { ledger, now } = this.#membership;
    const { not_before, not_after, epoch } = certificate.said;
    if (ledger.judge(certificate).state !== 'member' || epoch < ledger.epoch) return false;
    return now() < not_before + (not_after - not_before) * RENEWED_FROM;
  }

  /** Whether this peer can renew a certificate, or give one with such rights. */
  canIssue(rights: Rights): boolean {
    if (this.#root() !== null) return true;
    return !isForRoot(rights) && this.#issuing() !== null;
  }

  get hasRoot(): boolean {
    return this.#root() !== null;
  }

  #issue(member: Pick<Certificate, 'peer_id' | 'name' | 'rights' | 'invite'>): Statement<Certificate> {
    const { ledger, facts, now } = this.#membership;
    const at = now();
    const special = isForRoot(member.rights);
    const issuer = this.#issuing();
    const ttl = special ? ISSUER_TTL_MS : (issuer?.rights.issue?.member_ttl_ms ?? MEMBER_TTL_MS);
    // A certificate ends with that of its issuer: so it is renewed, by another one, before it is worth nothing.
    const not_after = special ? at + ttl : Math.min(at + ttl, issuer?.not_after ?? at + ttl);
    const certificate = this.#sign<Certificate>(special ? 'root' : 'issuer', (by) => ({
      kind: 'certificate',
      ...{ mesh: ledger.mesh, mesh_name: facts.mesh_name, ...member },
      ...{ not_before: at, not_after, epoch: ledger.epoch, by },
    }));
    this.#membership.learn([certificate]);
    return certificate;
  }

  /**
   * Puts a peer, or an invite and those who came by it, out for ever.
   *
   * @param options.issued what a revoked issuer issued is void too, not only what is unknown here
   * @throws MembershipError NEEDS_ADMIN, NEEDS_ROOT, UNKNOWN_MEMBER
   */
  revoke(
    target: { peer_id: string } | { invite_id: string },
    options: { reason: string; issued: boolean },
  ): Statement<Revocation> {
    const { ledger, now } = this.#membership;
    const keeps = 'peer_id' in target && !options.issued ? this.#signedBy(target.peer_id) : [];
    const revocation = this.#sign<Revocation>(this.hasRoot ? 'root' : 'admin', (by) => ({
      kind: 'revocation',
      ...{ mesh: ledger.mesh, target, keeps, reason: options.reason, at: now(), by },
    }));
    this.#membership.learn([revocation]);
    return revocation;
  }

  /** What a peer has signed as far as it is known here, except invites and keys: whoever had the peer may have them. */
  #signedBy(by: string): string[] {
    const signed = this.#membership.ledger
      .all()
      .filter(({ said }) => said.by === by && said.kind !== 'invite' && said.kind !== 'key');
    return signed.slice(0, KEEPS_MAX).map(({ id }) => id);
  }

  /** Has every member renew its certificate now. @throws MembershipError NEEDS_ADMIN */
  rotate(): void {
    const { ledger, now } = this.#membership;
    const said = { kind: 'rotation' as const, mesh: ledger.mesh, epoch: ledger.epoch + 1, at: now() };
    this.#membership.learn([this.#sign(this.hasRoot ? 'root' : 'admin', (by) => ({ ...said, by }))]);
    if (this.hasRoot) this.#reissueThoseOfTheRoot();
  }

  /**
   * Makes a new root, which the old one names; admins and issuers get new certificates of it at once, and the others
   * renew theirs. The old one is dropped by `dropOldRoots`, when all have.
   */
  addRoot(): void {
    const { ledger, now } = this.#membership;
    const old = this.#mustHaveRoot();
    const [newest] = ledger.roots();
    const rank = newest!.rank + 1;
    const key = makeRootKey(this.#rootFile);
    const added = state(
      {
        kind: 'root',
        ...{ mesh: ledger.mesh, key: Buffer.from(key.publicKey).toString('base64url'), rank, at: now() },
        by: rootNameOf(old.publicKey),
      },
      old,
    );
    this.#membership.learn([added]);
    this.rotate();
  }

  /** Admins and issuers cannot renew their certificates themselves. */
  #reissueThoseOfTheRoot(): void {
    for (const member of this.#membership.ledger.members()) {
      const { said } = member;
      if (isForRoot(said.rights) && !isOut(this.#membership.ledger.standing(said.peer_id))) this.renew(member);
    }
  }

  /** Members that have not renewed their certificate since the last rotation. */
  leftBehind(): Certificate[] {
    const { ledger } = this.#membership;
    const behind = ledger.members().filter(({ said }) => said.epoch < ledger.epoch);
    return behind.flatMap(({ said }) => (isOut(ledger.standing(said.peer_id)) ? [] : [said]));
  }

  /** What old roots sign from now on is void. */
  dropOldRoots(reason: string): void {
    const { ledger, now } = this.#membership;
    const [newest, ...old] = ledger.roots();
    const key = this.#mustHaveRoot();
    const dropped = old.map((root) =>
      state<Revocation>(
        {
          kind: 'revocation',
          ...{ mesh: ledger.mesh, target: { root: root.key }, keeps: this.#signedByRoot(root.key), reason, at: now() },
          by: rootNameOf(newest!.key),
        },
        key,
      ),
    );
    this.#membership.learn(dropped);
  }

  /**
   * Of an old root what is no certificate stays: the names of its successors, and what it revoked. And the certificates
   * of admins that were revoked, which get no new ones: without them nobody would take what they themselves revoked.
   */
  #signedByRoot(root: string): string[] {
    const { ledger } = this.#membership;
    const signed = ledger.all().filter(({ said }) => said.by === rootNameOf(root));
    const stays = signed.filter(({ said }) => said.kind !== 'certificate' || ledger.whyRevoked(said.peer_id));
    return stays.map(({ id }) => id);
  }

  /** Signs with the root where it is needed, else as this peer, if it may. */
  #sign<S extends Certificate | Invite | Key | Revocation | Rotation>(
    need: 'root' | 'admin' | 'issuer',
    said: (by: string) => S,
  ): Statement<S> {
    const { key, self } = this.#membership;
    if (need === 'root') {
      const root = this.#mustHaveRoot();
      return state(said(rootNameOf(root.publicKey)), root);
    }
    if (need === 'issuer' && this.#issuing() === null) {
      throw new MembershipError('NOT_AN_ISSUER', 'This peer may not make others members. Ask one that may.', {
        retryable: true,
      });
    }
    if (need === 'admin' && this.#membership.of(self)?.roles.has('admin') !== true) {
      throw new MembershipError(
        'NEEDS_ADMIN',
        'The certificate of this peer does not have the role admin. Do this at a peer that has it: flowmesh mesh members.',
      );
    }
    return state(said(self), key);
  }

  /** By which certificate this peer makes others members. */
  #issuing(): Certificate | null {
    const { standing } = this.#membership;
    return standing.state === 'member' && standing.certificate.rights.issue !== null ? standing.certificate : null;
  }

  /** Null when its key is not on this machine, or of a root that is not the newest any more. */
  #root(): SigningKey | null {
    const key = readRootKey(this.#rootFile);
    if (key === null) return null;
    const name = Buffer.from(key.publicKey).toString('base64url');
    return this.#membership.ledger.roots()[0]?.key === name ? key : null;
  }

  #mustHaveRoot(): SigningKey {
    const key = this.#root();
    if (key !== null) return key;
    throw new MembershipError(
      'NEEDS_ROOT',
      `This needs the key of the mesh's root, and ${this.#rootFile} is not it. Do it on the machine that founded the mesh, or put its root.key there.`,
    );
  }
}

type Rotation = Parameters<typeof state>[0] & { kind: 'rotation' };

function isOut(standing: Standing | undefined): boolean {
  return standing?.state === 'revoked' || standing?.state === 'void';
}

/** Only a root gives these, and renews them. */
function isForRoot({ roles, issue }: Rights): boolean {
  return issue !== null || roles.includes('admin');
}
