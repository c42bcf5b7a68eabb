/**
 * This peer's place in a secured mesh: its certificate, what it knows of the others, and what it keeps of both.
 *
 *   const membership = Membership.open({ dataDir, identity, now: Date.now, log }); // null in an open mesh
 *   membership.admit(peer, chain, roots);    // throws why not
 *   membership.of(peer);                     // what it may do, now
 *
 * What this peer signs for others is in `authority.ts`.
 */
import type { PrivateKey } from '@libp2p/interface';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import type { Log } from '../../scheduler/ports.ts';
import type { Membership as MayDo } from '../../scheduler/roles.ts';
import { MembershipError } from './errors.ts';
import { type SigningKey, signingKeyOf } from './keys.ts';
import { inOrder, Ledger, otherMesh, type Standing } from './ledger.ts';
import { MEMBERS_MAX, PRUNE_EVERY_MS, STANDING_CHECK_MS } from './limits.ts';
import { type Certificate, type Hearsay, idOf, isRoot, parseStatement, type Statement } from './statement.ts';
import { isSecured, MembershipStore, type OwnFacts } from './store.ts';

/** In a chain below the root: the member's own certificate, and that of its issuer. */
const CHAIN_MAX = 2;
/** Statements without a good signature in one message; it comes from a member, and one may be damaged. */
const FORGED_MAX = 8;
/** Revocations by roots that are shown to who does not let this peer in yet. */
const UNDOING_SHOWN_MAX = 8;
/** Renewed when this share of its time is over. */
const RENEW_AT = 2 / 3;

export interface MembershipOptions {
  dataDir: string;
  identity: PrivateKey;
  /** Wall-clock milliseconds. */
  now: () => number;
  log: Log;
}

export type Change = (added: readonly Statement[]) => void;

export class Membership {
  readonly self: string;
  readonly dataDir: string;
  readonly facts: OwnFacts;
  readonly ledger: Ledger;
  readonly key: SigningKey;
  readonly now: () => number;
  readonly log: Log;
  readonly #store: MembershipStore;
  readonly #listeners = new Set<Change>();
  /** What is known and not on the disk yet: the disk was full. */
  #unwritten: { added: Statement[]; dropped: string[] } = { added: [], dropped: [] };
  #prunedAt = Number.NEGATIVE_INFINITY;
  readonly #remembered = new Map<string, MayDo | null>();
  #rememberedAt = Number.NEGATIVE_INFINITY;

  /** Null when the data folder is that of a peer of an open mesh. @throws MembershipError when it is of another peer */
  static open(options: MembershipOptions): Membership | null {
    if (!isSecured(options.dataDir)) return null;
    const store = new MembershipStore(options.dataDir);
    const facts = store.facts();
    if (facts === null) {
      store.close();
      throw new MembershipError(
        'NO_CERTIFICATE',
        `The peer in ${options.dataDir} began to found or to join a mesh and did not end. Do it again: flowmesh mesh init, or flowmesh join fmj1_…`,
      );
    }
    return new Membership(options, store, facts);
  }

  /**
   * Whether the peer of a data folder may found or join a mesh: asked before an invite is used up.
   *
   * @param mesh the one it is to join; null for a new one
   * @throws MembershipError OTHER_MESH when it is a member of another one
   */
  static mustBeFree(dataDir: string, mesh: string | null): void {
    if (!isSecured(dataDir)) return;
    const store = new MembershipStore(dataDir);
    const facts = store.facts();
    store.close();
    if (facts === null || facts.mesh === mesh) return;
    throw new MembershipError(
      'OTHER_MESH',
      `The peer in ${dataDir} is a member of mesh ${facts.mesh_name} (${facts.mesh}) already. Give another data folder for another mesh: --data-dir.`,
    );
  }

  /** Writes what a founder or a joined peer begins with. What was there of another mesh is refused. */
  static begin(options: MembershipOptions, facts: OwnFacts, statements: readonly Statement[]): Membership {
    Membership.mustBeFree(options.dataDir, facts.mesh);
    const store = new MembershipStore(options.dataDir);
    store.write({ facts, added: statements });
    return new Membership(options, store, facts);
  }

  private constructor(options: MembershipOptions, store: MembershipStore, facts: OwnFacts) {
    this.self = peerIdFromPrivateKey(options.identity).toString();
    this.dataDir = options.dataDir;
    this.key = signingKeyOf(options.identity);
    this.now = options.now;
    this.log = options.log;
    this.facts = facts;
    this.#store = store;
    this.ledger = new Ledger(facts.mesh, options.now, this.self);
    const { statements, damaged } = store.statements();
    if (damaged > 0)
      this.log.warn({ damaged }, 'statements in membership.db are damaged; other members tell them again');
    for (const statement of inOrder(statements)) this.ledger.restore(statement);
    if (this.ledger.certificatesOf(this.self).length === 0) {
      store.close();
      throw new MembershipError(
        'CERTIFICATE_OF_ANOTHER',
        `The identity key in ${options.dataDir} is not that of the member of mesh ${facts.mesh_name}. Restore identity.key from a backup, or join again with an empty --data-dir.`,
      );
    }
  }

  close(): void {
    this.#store.close();
  }

  /** Told of every statement that is new here, when it is on the disk. @returns what ends that */
  onChange(listener: Change): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** How this peer itself stands. */
  get standing(): Standing {
    return this.ledger.standing(this.self)!;
  }

  /** What a peer may do now; null for one that is no member now. Asked for every message: remembered for a moment. */
  of(peer: string): MayDo | null {
    const now = this.now();
    if (now - this.#rememberedAt >= STANDING_CHECK_MS || now < this.#rememberedAt) {
      this.#remembered.clear();
      this.#rememberedAt = now;
    }
    let found = this.#remembered.get(peer);
    if (found === undefined) {
      found = this.#judge(peer);
      if (this.#remembered.size < MEMBERS_MAX) this.#remembered.set(peer, found);
    }
    return found;
  }

  #judge(peer: string): MayDo | null {
    const standing = this.ledger.standing(peer);
    if (standing?.state !== 'member') return null;
    const { roles, offers } = standing.certificate.rights;
    return { roles: new Set(roles), offers };
  }

  /** The name that the certificate of a peer has. */
  nameOf(peer: string): string | null {
    return this.ledger.standing(peer)?.certificate?.name ?? null;
  }

  /** This peer's certificate and, where a peer signed it, that one's: what it shows of itself. */
  chain(): Uint8Array[] {
    const own = this.ownCertificate();
    const issuer = isRoot(own.said.by) ? undefined : this.ledger.certificatesOf(own.said.by).find(mayIssue);
    return [own.bytes, ...(issuer === undefined ? [] : [issuer.bytes])];
  }

  /** Of the certificates of this peer the one that counts. */
  ownCertificate(): Statement<Certificate> {
    const own = this.ledger.certificatesOf(this.self);
    return own.find((each) => this.ledger.judge(each).state === 'member') ?? own[0]!;
  }

  /**
   * How the roots of the mesh came one from the other, and whom a root put out last with all that they signed: by that
   * somebody is let in again whom a stolen admin had revoked.
   */
  roots(): Uint8Array[] {
    const undoing = this.ledger
      .of('revocation')
      .filter(({ said }) => isRoot(said.by) && 'peer_id' in said.target && said.keeps.length === 0)
      .sort((a, b) => b.said.at - a.said.at);
    const said: Statement[] = [...this.ledger.of('root'), ...undoing.slice(0, UNDOING_SHOWN_MAX)];
    return inOrder(said).map(({ bytes }) => bytes);
  }

  /** Two thirds of its time are over, or a rotation called for a new one. */
  isRenewalDue(): boolean {
    const { said } = this.ownCertificate();
    const { epoch } = this.ledger;
    if (said.epoch < epoch || this.standing.state === 'expired') return true;
    return this.now() > said.not_before + (said.not_after - said.not_before) * RENEW_AT;
  }

  /**
   * Whether a peer is a member, by what is known of it here, else by what it shows. The peer is the one that the
   * connection's encryption proved.
   *
   * @param options.renewOnly lets one in whose certificate has expired: for the renewal alone
   * @throws MembershipError why not
   */
  admit(
    peer: string,
    chain: readonly Uint8Array[],
    roots: readonly Uint8Array[],
    options: { renewOnly?: boolean } = {},
  ): Statement<Certificate> {
    const known = this.ledger.certificateOf(peer);
    if (known !== undefined) return known;
    // True whoever brings it.
    this.learnFrom(peer, roots);
    const revoked = this.ledger.whyRevoked(peer);
    if (revoked !== undefined) throw revoked;
    if (chain.length === 0) {
      throw new MembershipError(
        'NO_CERTIFICATE',
        'Only members of this mesh are let in. Ask an admin for an invite: flowmesh mesh invite.',
      );
    }
    if (chain.length > CHAIN_MAX) {
      throw new MembershipError('CERTIFICATE_FORGED', 'A chain has at most two certificates.');
    }
    const shown = chain.map(parseCertificate);
    const [own] = shown;
    if (own!.said.mesh !== this.ledger.mesh) throw otherMesh(own!.said.mesh, this.ledger.mesh);
    if (own!.said.peer_id !== peer) {
      throw new MembershipError(
        'CERTIFICATE_OF_ANOTHER',
        `The certificate is that of ${own!.said.peer_id}, and the peer is ${peer}.`,
      );
    }
    this.#learnChain(shown);
    const kept = this.ledger.certificatesOf(peer).find(({ id }) => id === own!.id);
    const certificate = kept ?? (own!.checked() as Statement<Certificate>);
    const standing = this.ledger.judge(certificate);
    if (standing.state === 'member') return certificate;
    if (options.renewOnly === true && standing.state === 'expired' && kept !== undefined) return certificate;
    throw standing.why;
  }

  /**
   * Takes statements of others, or of this peer, keeps them, and tells the listeners.
   *
   * @returns those that were new
   * @throws MembershipError at the first that is not to be taken; what came before it stays
   */
  learn(statements: readonly Statement[]): Statement[] {
    const added: Statement[] = [];
    try {
      for (const statement of inOrder([...statements])) this.#take(statement, added);
    } finally {
      this.flush();
    }
    return added;
  }

  /**
   * Takes what another member knows. What cannot be taken (any more) is left out: the other one may not know yet that
   * its signer was revoked.
   *
   * What a full disk does not take is known all the same, and written by `tidy`: nobody is shut out for it.
   *
   * @throws MembershipError CERTIFICATE_FORGED when too much of it is not even signed
   */
  learnFrom(peer: string, statements: readonly Uint8Array[]): Statement[] {
    let forged = 0;
    const orForged = <T>(work: () => T): T | undefined => {
      try {
        return work();
      } catch (error) {
        if (++forged > FORGED_MAX) throw error;
        return undefined;
      }
    };
    const added: Statement[] = [];
    try {
      const unknown = statements.flatMap(
        (bytes) => orForged(() => (this.ledger.has(idOf(bytes)) ? [] : [parseStatement(bytes)])) ?? [],
      );
      for (const heard of inOrder(unknown)) {
        if (!this.#wants(peer, heard)) continue;
        const statement = orForged(heard.checked);
        if (statement !== undefined) this.#take(statement, added);
      }
    } finally {
      this.#writeOrLater();
    }
    return added;
  }

  /** Checks signatures of those alone that can be taken. @throws as `learn` */
  #learnChain(chain: readonly Hearsay[]): void {
    try {
      for (const heard of inOrder([...chain])) if (this.ledger.wants(heard)) this.#take(heard.checked(), []);
    } finally {
      this.#writeOrLater();
    }
  }

  #wants(peer: string, heard: Hearsay): boolean {
    try {
      return this.ledger.wants(heard);
    } catch (error) {
      const { id, said } = heard;
      this.log.debug({ peer, id, kind: said.kind, reason: reasonOf(error) }, 'a statement was not taken');
      return false;
    }
  }

  #take(statement: Statement, added: Statement[]): void {
    const change = this.ledger.add(statement);
    if (!change.added) return;
    added.push(statement);
    this.#unwritten.added.push(statement);
    this.#unwritten.dropped.push(...change.dropped);
    this.#remembered.clear();
  }

  #writeOrLater(): void {
    try {
      this.flush();
    } catch (error) {
      this.log.error({ reason: reasonOf(error) }, 'what others told of the members could not be written; tried again');
    }
  }

  /** All that is new at once; what could not be written before, too. @throws what SQLite says, e.g. of a full disk */
  flush(): void {
    const { added, dropped } = this.#unwritten;
    if (added.length === 0 && dropped.length === 0) return;
    this.#store.write({ added: added.filter(({ id }) => this.ledger.has(id)), dropped });
    this.#unwritten = { added: [], dropped: [] };
    if (added.length === 0) return;
    for (const listener of this.#listeners) {
      try {
        listener(added);
      } catch (error) {
        this.log.error({ reason: reasonOf(error) }, 'what follows from new statements was not done');
      }
    }
  }

  /** From time to time: forgets what expired long ago, and writes what could not be written. @throws as `learn` */
  tidy(): void {
    const now = this.now();
    if (Math.abs(now - this.#prunedAt) >= PRUNE_EVERY_MS) {
      this.#prunedAt = now;
      this.#unwritten.dropped.push(...this.ledger.prune());
    }
    this.flush();
  }
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function mayIssue({ said }: Statement<Certificate>): boolean {
  return said.rights.issue !== null;
}

function parseCertificate(bytes: Uint8Array): Hearsay & Statement<Certificate> {
  const heard = parseStatement(bytes);
  if (heard.said.kind === 'certificate') return heard as Hearsay & Statement<Certificate>;
  throw new MembershipError('CERTIFICATE_FORGED', `A chain holds a ${heard.said.kind}.`);
}
