/** Members of one mesh as they are on disk, without a network: what one states is carried to others by hand. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { generateKeyPair } from '@libp2p/crypto/keys';
import type { PrivateKey } from '@libp2p/interface';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import type { FlowmeshError } from '../../dag/errors.ts';
import { Authority, foundMesh, joinText, type Redemption } from '../../node/membership/authority.ts';
import { signingKey } from '../../node/membership/keys.ts';
import { Membership } from '../../node/membership/membership.ts';
import type { Rights } from '../../node/membership/statement.ts';
import { readToken } from '../../node/membership/token.ts';
import type { Log } from '../../scheduler/ports.ts';

export const SILENT: Log = { info() {}, warn() {}, error() {}, debug() {} };
export const ORDINARY: Rights = { roles: ['submit', 'work', 'replicate'], offers: null, relay: true, issue: null };
export const ADMIN: Rights = {
  roles: ['submit', 'work', 'replicate', 'admin'],
  offers: null,
  relay: true,
  issue: { member_ttl_ms: 3_600_000 },
};
const SPONSORS = ['/ip4/192.0.2.1/tcp/7600'];
export const HOUR_MS = 3_600_000;
export const ADMITTED = 'nothing was thrown';

/** The code of what is thrown. */
export function codeOf(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    return (error as FlowmeshError).code;
  }
  return ADMITTED;
}

export interface Member {
  peer: string;
  identity: PrivateKey;
  membership: Membership;
  authority: Authority;
}

export class MembersOnDisk {
  /** Wall-clock milliseconds of all of them. */
  now = Date.UTC(2030, 0, 1);
  readonly #folders: string[] = [];
  readonly #opened: Membership[] = [];

  async folder(): Promise<string> {
    const folder = await mkdtemp(join(tmpdir(), 'flowmesh-members-'));
    this.#folders.push(folder);
    return folder;
  }

  async found(name = 'founder', member_ttl_ms = HOUR_MS): Promise<Member> {
    const identity = await generateKeyPair('Ed25519');
    const options = { dataDir: await this.folder(), identity, now: () => this.now, log: SILENT };
    return this.#member(identity, foundMesh({ ...options, mesh_name: 'home', name, member_ttl_ms }));
  }

  token(
    admin: Member,
    options: { rights?: Rights; uses?: number; for_peer?: string | null; ttl_ms?: number } = {},
  ): string {
    const { rights = ORDINARY, uses = 1, for_peer = null, ttl_ms = HOUR_MS } = options;
    return admin.authority.invite({ rights, uses, for_peer, ttl_ms, sponsors: SPONSORS }).token;
  }

  /** What a joiner shows to a sponsor. */
  redemption(token: string, peer: string, sponsor: string, nonce: Uint8Array, name = 'joiner'): Redemption {
    const { invite, key } = readToken(token);
    return { invite: invite.bytes, proof: signingKey(key).sign(joinText(peer, sponsor, nonce, invite.said.id)), name };
  }

  /** Takes a new peer in at a sponsor. */
  async join(token: string, sponsor: Member, name = 'joiner', identity?: PrivateKey): Promise<Member> {
    const own = identity ?? (await generateKeyPair('Ed25519'));
    const peer = peerIdFromPrivateKey(own).toString();
    const nonce = Buffer.alloc(16, 7);
    sponsor.authority.redeem(this.redemption(token, peer, sponsor.peer, nonce, name), { peer, nonce });
    const options = { dataDir: await this.folder(), identity: own, now: () => this.now, log: SILENT };
    const { mesh, mesh_name } = sponsor.membership.facts;
    const facts = { mesh, mesh_name, sponsors: SPONSORS };
    return this.#member(own, Membership.begin(options, facts, sponsor.membership.ledger.all()));
  }

  /** Carries everything that each knows to all the others. */
  meet(...members: Member[]): void {
    for (const from of members) {
      const everything = from.membership.ledger.all().map(({ bytes }) => bytes);
      for (const to of members) if (to !== from) to.membership.learnFrom(from.peer, everything);
    }
  }

  async close(): Promise<void> {
    for (const membership of this.#opened) membership.close();
    for (const folder of this.#folders) await rm(folder, { recursive: true, force: true });
  }

  #member(identity: PrivateKey, membership: Membership): Member {
    this.#opened.push(membership);
    return { peer: membership.self, identity, membership, authority: new Authority(membership) };
  }
}
