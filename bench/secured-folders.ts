/**
 * Data folders of members of one secured mesh, made without a network: by a member that only signs and never runs.
 *
 *   using folders = await SecuredFolders.found(join(root, 'office'));
 *   await folders.add(dataDir, 'peer-1');   // a peer that is started on it is a member
 */
import { mkdir } from 'node:fs/promises';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import { Authority, foundMesh, joinText } from '../node/membership/authority.ts';
import { signingKey } from '../node/membership/keys.ts';
import { Membership } from '../node/membership/membership.ts';
import type { Rights } from '../node/membership/statement.ts';
import { readToken } from '../node/membership/token.ts';
import { loadIdentity } from '../node/p2p/identity.ts';
import type { Log } from '../scheduler/ports.ts';

const SILENT: Log = { info() {}, warn() {}, error() {}, debug() {} };
const ORDINARY: Rights = { roles: ['submit', 'work', 'replicate'], offers: null, relay: true, issue: null };
const INVITE_MS = 60_000;
const NONCE = new Uint8Array(16);

export class SecuredFolders implements Disposable {
  readonly #office: Membership;
  readonly #authority: Authority;

  private constructor(office: Membership) {
    this.#office = office;
    this.#authority = new Authority(office);
  }

  /** @param dataDir of the member that signs */
  static async found(dataDir: string): Promise<SecuredFolders> {
    await mkdir(dataDir, { recursive: true });
    const identity = await loadIdentity(dataDir, SILENT);
    return new SecuredFolders(
      foundMesh({ dataDir, identity, mesh_name: 'secured', name: 'office', now: Date.now, log: SILENT }),
    );
  }

  /** Makes the peer of a folder a member; one that is a member stays it. @returns its peer id */
  async add(dataDir: string, name: string, rights: Rights = ORDINARY): Promise<string> {
    await mkdir(dataDir, { recursive: true });
    const identity = await loadIdentity(dataDir, SILENT);
    const peer = peerIdFromPrivateKey(identity).toString();
    const invited = { rights, uses: 1, for_peer: peer, ttl_ms: INVITE_MS, sponsors: ['/ip4/127.0.0.1/tcp/1'] };
    const { invite, key } = readToken(this.#authority.invite(invited).token);
    const proof = signingKey(key).sign(joinText(peer, this.#office.self, NONCE, invite.said.id));
    this.#authority.redeem({ invite: invite.bytes, proof, name }, { peer, nonce: NONCE });
    const { mesh, mesh_name } = this.#office.facts;
    const options = { dataDir, identity, now: Date.now, log: SILENT };
    Membership.begin(options, { mesh, mesh_name, sponsors: [] }, this.#office.ledger.all()).close();
    return peer;
  }

  [Symbol.dispose](): void {
    this.#office.close();
  }
}
