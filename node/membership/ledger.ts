/**
 * All statements of one mesh that this peer knows, and what follows from them: who is a member now, and why not.
 *
 * 1. What follows depends on the set of statements and the time alone, never on the order in which they came: two
 *    peers that know the same say the same.
 * 2. A statement is taken only from who may make it, so that nobody else can make the ledger grow.
 * 3. A revocation is stronger than any certificate. What a revoked peer or root has signed is void, except what the
 *    revocation names: so a thief's late statements are void although they look as old as it likes.
 * 4. Of the certificates that came by one invite, as many as it has uses stay: those with the lowest redemptions. Two
 *    sides of a partition may both have redeemed it.
 */
import { createHash } from 'node:crypto';
import { type MembershipCode, MembershipError } from './errors.ts';
import {
  CLOCK_SKEW_MS,
  EXPIRED_KEPT_MS,
  INVITES_MAX,
  KEYS_MAX,
  LEDGER_BYTES_MAX,
  MEMBERS_MAX,
  REVOCATIONS_MAX,
  ROOTS_MAX,
} from './limits.ts';
import {
  type Certificate,
  isRoot,
  type Key,
  keyHash,
  type Revocation,
  rootKeyOf,
  rootNameOf,
  type Said,
  type Statement,
} from './statement.ts';
import { isVoidBy, judge, overusedOf, redemptionOf, type Verdicts } from './verdicts.ts';

/** Certificates of one peer that are kept: the newest may be void where an older one is not. */
const CERTIFICATES_PER_PEER_MAX = 4;
/** Of LEDGER_BYTES_MAX: what members may fill with certificates and invites, and with revocations too. */
const SHARE = 3 / 4;
const REVOCATIONS_SHARE = 7 / 8;

/** How a peer stands in the mesh. */
export type Standing =
  | { state: 'member'; certificate: Certificate; id: string }
  | { state: 'expired' | 'revoked' | 'void'; certificate: Certificate | null; why: MembershipError };

/** What can be judged before a signature was checked. */
type Unsigned = Pick<Statement, 'id' | 'said'>;

export class Ledger {
  readonly mesh: string;
  readonly #now: () => number;
  readonly #self: string | null;
  readonly #statements = new Map<string, Statement>();
  readonly #byKind = new Map<Said['kind'], Map<string, Statement>>();
  readonly #certificates = new Map<string, Statement<Certificate>[]>();
  #bytes = 0;
  /** The root whose hash is the mesh, when anything that it signed was here. */
  #firstRoot: string | null = null;
  #verdicts: Verdicts | null = null;
  /** Redemptions that came too late for their invite. */
  #overused: Set<string> | null = null;
  #digest: string | null = null;

  /**
   * @param now wall-clock milliseconds: what expires, expires for people
   * @param self the peer whose ledger it is: it keeps a certificate of its own whatever becomes of it, to say why it is
   *   out, and to be itself again when a clock that was wrong is set
   */
  constructor(mesh: string, now: () => number, self: string | null = null) {
    this.mesh = mesh;
    this.#now = now;
    this.#self = self;
  }

  /** Statements that one peer may lack when another one has them, in the order in which they can be taken. */
  all(): Statement[] {
    return inOrder([...this.#statements.values()].filter((each) => !this.#isRelic(each)));
  }

  has(id: string): boolean {
    return this.#statements.has(id);
  }

  of<K extends Said['kind']>(kind: K): Statement<Extract<Said, { kind: K }>>[] {
    return [...(this.#byKind.get(kind)?.values() ?? [])] as Statement<Extract<Said, { kind: K }>>[];
  }

  /** The same at two peers that know the same. */
  digest(): string {
    if (this.#digest === null) {
      const shared = [...this.#statements.values()].filter((each) => !this.#isRelic(each));
      const ids = shared.map(({ id }) => id).sort();
      this.#digest = createHash('sha256').update(ids.join()).digest('base64url');
    }
    return this.#digest;
  }

  /** The highest epoch that was called for: certificates of an earlier one are to be renewed. */
  get epoch(): number {
    return Math.max(0, ...this.of('rotation').map(({ said }) => said.epoch));
  }

  /** Trusted roots, the newest first. */
  roots(): { key: string; rank: number }[] {
    const roots = Array.from(this.#judged().roots, ([key, rank]) => ({ key, rank }));
    return roots.sort((a, b) => b.rank - a.rank || (a.key < b.key ? -1 : 1));
  }

  /**
   * Takes a statement whose signature was checked.
   *
   * @returns whether it was new and is kept now, and what made room for it
   * @throws MembershipError for one that its signer may not make, or for which there is no room
   */
  add(statement: Statement): { added: boolean; dropped: string[] } {
    return this.wants(statement) ? this.#keep(statement) : { added: false, dropped: [] };
  }

  /**
   * Whether a statement would be taken. Costs little: asked before its signature is checked, so that nobody makes this
   * peer check signatures of just anyone.
   *
   * @returns false for what is known, or past
   * @throws as `add`
   */
  wants(statement: Unsigned & Pick<Statement, 'bytes'>): boolean {
    if (this.#statements.has(statement.id) || this.#isPast(statement.said)) return false;
    const why = this.#whyNotAllowed(statement.said);
    if (why !== undefined) throw why;
    if (this.isVoid(statement)) throw notAllowed(statement.said, 'its signer was revoked', 'REVOKED');
    this.#mustHaveRoom(statement);
    return true;
  }

  /** As `add`, for what was kept by this peer before: it was allowed then. */
  restore(statement: Statement): void {
    if (!this.#isPast(statement.said)) this.#keep(statement);
  }

  /** Forgets what expired long ago. @returns the ids of what was forgotten */
  prune(): string[] {
    const past = [...this.#statements.values()].filter(({ said }) => this.#isPast(said));
    for (const { id } of past) this.#drop(id);
    return past.map(({ id }) => id);
  }

  #keep(statement: Statement): { added: boolean; dropped: string[] } {
    const dropped = this.#makeWay(statement);
    if (dropped === null) return { added: false, dropped: [] };
    const { id, said } = statement;
    this.#statements.set(id, statement);
    const kind = this.#byKind.get(said.kind) ?? new Map<string, Statement>();
    this.#byKind.set(said.kind, kind.set(id, statement));
    this.#bytes += statement.bytes.byteLength;
    this.#changed(said.kind);
    if (this.#firstRoot === null && this.#rankOf(said.by) === 0) {
      this.#firstRoot = rootKeyOf(said.by);
      this.#verdicts = null;
    }
    const ofSelf = said.kind === 'certificate' && said.peer_id === this.#self;
    const mayEndOthers = isRoot(said.by) && dropped.length > 0;
    if (said.kind === 'revocation' || ofSelf || mayEndOthers) dropped.push(...this.#dropLost());
    return { added: true, dropped };
  }

  /** @returns what it takes the place of; null when what is there stays in its place */
  #makeWay(statement: Statement): string[] | null {
    const { id, said } = statement;
    const dropped: string[] = [];
    if (said.kind === 'certificate') {
      const kept = [...this.certificatesOf(said.peer_id), statement as Statement<Certificate>].sort(firstServed);
      const over = kept.splice(CERTIFICATES_PER_PEER_MAX).map((each) => each.id);
      if (over.includes(id)) return null;
      dropped.push(...over);
      for (const each of over) this.#drop(each);
      this.#certificates.set(said.peer_id, kept);
    } else if (said.kind === 'rotation') {
      // Of rotations the last one counts.
      for (const other of this.of('rotation')) {
        if (other.said.epoch > said.epoch || (other.said.epoch === said.epoch && other.id < id)) return null;
        dropped.push(other.id);
        this.#drop(other.id);
      }
    }
    return dropped;
  }

  /** What nobody would take any more is not to take the room of others, nor to be told for ever. */
  #dropLost(): string[] {
    const own = this.certificatesOf(this.#self ?? '');
    const relics = new Set(own.some((each) => !this.#isLost(each)) ? [] : own.map(({ id }) => id));
    const dropped: string[] = [];
    for (;;) {
      const lost = [...this.#statements.values()].filter((each) => !relics.has(each.id) && this.#isLost(each));
      if (lost.length === 0) return dropped;
      for (const { id } of lost) {
        this.#drop(id);
        dropped.push(id);
      }
    }
  }

  /** It is void, or what allowed it is gone. */
  #isLost(statement: Statement): boolean {
    return this.isVoid(statement) || this.#whyNotAllowed(statement.said) !== undefined;
  }

  /** The own certificate, which others have dropped. */
  #isRelic(statement: Statement): boolean {
    const { said } = statement;
    return said.kind === 'certificate' && said.peer_id === this.#self && this.#isLost(statement);
  }

  #drop(id: string): void {
    const statement = this.#statements.get(id);
    if (statement === undefined) return;
    this.#statements.delete(id);
    this.#byKind.get(statement.said.kind)?.delete(id);
    this.#bytes -= statement.bytes.byteLength;
    if (statement.said.kind === 'certificate') {
      const { peer_id } = statement.said;
      const left = (this.#certificates.get(peer_id) ?? []).filter((each) => each.id !== id);
      if (left.length > 0) this.#certificates.set(peer_id, left);
      else this.#certificates.delete(peer_id);
    }
    this.#changed(statement.said.kind);
  }

  /** A certificate or invite ends nobody: who learns very many is not to judge all revocations for each of them. */
  #changed(kind: Said['kind']): void {
    if (kind === 'revocation' || kind === 'root') this.#verdicts = null;
    if (kind === 'certificate') this.#overused = null;
    this.#digest = null;
  }

  /**
   * It expired so long ago that it is not kept. Certificates of admins and issuers are: what they signed is taken by
   * them, a revocation for ever.
   */
  #isPast(said: Said): boolean {
    if (said.kind === 'certificate' && (isRoot(said.by) || said.peer_id === this.#self)) return false;
    const end = endOf(said);
    return end !== null && end + EXPIRED_KEPT_MS < this.#now();
  }

  /** P9: who says something must be one who may. Whether it was revoked since is judged later. */
  #whyNotAllowed(said: Said): MembershipError | undefined {
    if (said.mesh !== this.mesh) return otherMesh(said.mesh, this.mesh);
    const rank = this.#rankOf(said.by);
    if (said.kind === 'root') {
      if (rank !== undefined && said.rank === rank + 1) return undefined;
      return notAllowed(said, 'only a root may name another one, of the next rank');
    }
    if (said.kind === 'revocation' && 'root' in said.target && rootNameOf(said.target.root) === said.by) {
      return notAllowed(said, 'a root does not drop itself');
    }
    if (rank !== undefined) return undefined;
    if (isRoot(said.by)) return notAllowed(said, 'it is signed by a root that this mesh does not have');
    const signers = this.#certificates.get(said.by) ?? [];
    if (said.kind === 'certificate') {
      if (said.rights.issue !== null || said.rights.roles.includes('admin')) {
        return notAllowed(said, 'only a root makes admins and issuers');
      }
      if (signers.some((each) => each.said.rights.issue !== null)) return undefined;
      return notAllowed(said, 'its signer is no issuer');
    }
    if (said.kind === 'invite' && (said.rights.issue !== null || said.rights.roles.includes('admin'))) {
      return notAllowed(said, 'only a root invites admins and issuers');
    }
    if (said.kind === 'revocation' && 'root' in said.target) return notAllowed(said, 'only a root drops a root');
    if (signers.some((each) => each.said.rights.roles.includes('admin'))) return undefined;
    return notAllowed(said, 'its signer is no admin');
  }

  /** Undefined for who is no root, or was never one. Dropped ones count: what they signed before may stay. */
  #rankOf(by: string): number | undefined {
    if (!isRoot(by)) return undefined;
    const key = rootKeyOf(by);
    if (key === this.#firstRoot || keyHash(Buffer.from(key, 'base64url')) === this.mesh) return 0;
    const ranks = this.of('root').flatMap(({ said }) => (said.key === key ? [said.rank] : []));
    return ranks.length === 0 ? undefined : Math.min(...ranks);
  }

  /** Whoever fills the ledger can still be revoked: there is room that only revocations, and that only roots may use. */
  #mustHaveRoom({ said, bytes }: Pick<Statement, 'said' | 'bytes'>): void {
    const kinds = this.#byKind.get(said.kind)?.size ?? 0;
    const tooMany =
      (said.kind === 'certificate' &&
        !this.#certificates.has(said.peer_id) &&
        this.#certificates.size >= MEMBERS_MAX) ||
      (said.kind === 'invite' && kinds >= INVITES_MAX) ||
      (said.kind === 'key' && kinds >= KEYS_MAX) ||
      (said.kind === 'revocation' && kinds >= REVOCATIONS_MAX);
    const share = isRoot(said.by) ? 1 : said.kind === 'revocation' ? REVOCATIONS_SHARE : SHARE;
    const full =
      (tooMany && !isRoot(said.by)) ||
      (said.kind === 'root' && kinds >= ROOTS_MAX) ||
      this.#bytes + bytes.byteLength > share * LEDGER_BYTES_MAX;
    if (full) {
      throw new MembershipError('MESH_FULL', `The mesh knows as many ${said.kind}s as it may; found a new one.`);
    }
  }

  /** How a peer stands by what is known of it here; undefined when nothing is. */
  standing(peer: string): Standing | undefined {
    let first: Standing | undefined;
    for (const each of this.#certificates.get(peer) ?? []) {
      const standing = this.judge(each);
      if (standing.state === 'member') return standing;
      first ??= standing;
    }
    const why = this.whyRevoked(peer);
    return first ?? (why && { state: 'revoked', certificate: null, why });
  }

  /** The certificate by which a peer is a member now. */
  certificateOf(peer: string): Statement<Certificate> | undefined {
    return this.certificatesOf(peer).find((each) => this.judge(each).state === 'member');
  }

  /** How the peer of a certificate stands by it. The certificates of its issuer are in this ledger. */
  judge(statement: Statement<Certificate>): Standing {
    const { said: certificate, id } = statement;
    const why = this.#whyRevoked(statement) ?? this.#whyNotSigned(statement);
    if (why !== undefined) return { state: why.code === 'REVOKED' ? 'revoked' : 'void', certificate, why };
    const late = this.#whyOutOfTime(certificate);
    if (late !== undefined) {
      const past = certificate.not_after + EXPIRED_KEPT_MS < this.#now();
      return { state: past ? 'void' : 'expired', certificate, why: late };
    }
    return { state: 'member', certificate, id };
  }

  #whyRevoked({ said }: Statement<Certificate>): MembershipError | undefined {
    const { revokedInvites } = this.#judged();
    const ofPeer = this.whyRevoked(said.peer_id);
    if (ofPeer !== undefined || said.invite === null) return ofPeer;
    const ofInvite = revokedInvites.get(said.invite.id);
    if (ofInvite !== undefined)
      return revoked(`the invite ${said.invite.id}, by which ${said.peer_id} came,`, ofInvite.said);
    this.#overused ??= overusedOf([...this.#certificates.values()].flat());
    if (!this.#overused.has(redemptionOf(said))) return undefined;
    return new MembershipError(
      'INVITE_USED',
      `The invite ${said.invite.id} of ${said.peer_id} was used by others too, on another side of a partition, and their record comes first. Invite this peer anew.`,
    );
  }

  /** Its chain ends at a root that is trusted, and nobody in it is revoked. */
  #whyNotSigned(statement: Statement<Certificate>): MembershipError | undefined {
    const { by } = statement.said;
    const { roots } = this.#judged();
    if (this.isVoid(statement)) {
      return new MembershipError(
        'REVOKED',
        `${by}, which signed the certificate of ${statement.said.peer_id}, was revoked with what it signed. Invite this peer anew.`,
      );
    }
    if (isRoot(by)) {
      if (roots.has(rootKeyOf(by))) return undefined;
      return notAllowed(statement.said, 'its root is not trusted any more; it is renewed at an issuer');
    }
    if ((this.#certificates.get(by) ?? []).some((each) => this.#mayIssue(each))) return undefined;
    return notAllowed(statement.said, `${by} is no issuer now`);
  }

  /** A revoked issuer's certificates that its revocation keeps stay: so its own revocation is not asked for here. */
  #mayIssue(issuer: Statement<Certificate>): boolean {
    const { by, rights, not_after } = issuer.said;
    if (rights.issue === null || !isRoot(by) || this.isVoid(issuer)) return false;
    return this.#judged().roots.has(rootKeyOf(by)) && this.#now() <= not_after;
  }

  #whyOutOfTime({ peer_id, not_before, not_after }: Certificate): MembershipError | undefined {
    const now = this.#now();
    if (now > not_after) {
      const retryable = not_after + EXPIRED_KEPT_MS >= now;
      const next = retryable
        ? 'It is renewed as soon as an issuer of the mesh is reached.'
        : 'That is too long ago for a renewal: invite this peer anew, or set the clock here if it is wrong.';
      return new MembershipError(
        'CERTIFICATE_EXPIRED',
        `The certificate of ${peer_id} expired at ${new Date(not_after).toISOString()}. ${next}`,
        { retryable },
      );
    }
    if (now + CLOCK_SKEW_MS >= not_before) return undefined;
    return new MembershipError(
      'CERTIFICATE_NOT_YET_VALID',
      `The certificate of ${peer_id} begins at ${new Date(not_before).toISOString()}, and the clock here says ${new Date(now).toISOString()}. Set the clocks.`,
      { retryable: true },
    );
  }

  /** Its signer was revoked, and the revocation does not keep it. */
  isVoid({ id, said }: Unsigned): boolean {
    const { revokedPeers, revokedByRoots, revokedRoots } = this.#judged();
    if (isRoot(said.by)) return isVoidBy(id, revokedRoots.get(rootKeyOf(said.by)));
    // As they are judged: of two admins that revoke each other neither is the first.
    return isVoidBy(id, (said.kind === 'revocation' ? revokedByRoots : revokedPeers).get(said.by));
  }

  isInviteRevoked(inviteId: string): boolean {
    return this.#judged().revokedInvites.has(inviteId);
  }

  /** How a key stands: a revoked one, or one whose maker was revoked, is no good any more. */
  keyState(key: Statement<Key>): 'good' | 'expired' | 'not_yet_valid' | 'revoked' {
    if (this.#judged().revokedKeys.has(key.said.hash) || this.isVoid(key)) return 'revoked';
    const now = this.#now();
    if (now > key.said.not_after) return 'expired';
    return now + CLOCK_SKEW_MS < key.said.not_before ? 'not_yet_valid' : 'good';
  }

  /** Undefined for a peer that was not revoked itself. */
  whyRevoked(peer: string): MembershipError | undefined {
    const [revocation] = this.#judged().revokedPeers.get(peer) ?? [];
    return revocation === undefined ? undefined : revoked(peer, revocation.said);
  }

  /** Peers that came by an invite, those that came too late for it included. */
  redeemedBy(inviteId: string): Certificate[] {
    const found = new Map<string, Certificate>();
    for (const certificates of this.#certificates.values()) {
      for (const { said } of certificates) if (said.invite?.id === inviteId) found.set(said.peer_id, said);
    }
    return [...found.values()];
  }

  /** The newest certificate of each peer, however it stands. */
  members(): Statement<Certificate>[] {
    return Array.from(this.#certificates.values(), ([newest]) => newest!);
  }

  certificatesOf(peer: string): readonly Statement<Certificate>[] {
    return this.#certificates.get(peer) ?? [];
  }

  #judged(): Verdicts {
    this.#verdicts ??= judge(this.of('revocation'), this.of('root'), this.#firstRoot, (by) => this.#rankOf(by));
    return this.#verdicts;
  }
}

/** When a statement ends by itself; null for one that does not. */
function endOf(said: Said): number | null {
  if (said.kind === 'revocation') return 'key' in said.target ? said.target.not_after : null;
  return 'not_after' in said ? said.not_after : null;
}

/** Those of roots first, then the newest: an issuer cannot take an admin's place by certificates that it makes for it. */
function firstServed(a: Statement<Certificate>, b: Statement<Certificate>): number {
  const byRoot = Number(isRoot(b.said.by)) - Number(isRoot(a.said.by));
  return byRoot || b.said.epoch - a.said.epoch || b.said.not_after - a.said.not_after || (a.id < b.id ? -1 : 1);
}

/** Whoever takes them in this order knows the signer of each before it. */
export function inOrder<S extends Unsigned>(statements: S[]): S[] {
  const place = ({ said }: S): number => {
    if (said.kind === 'root') return said.rank;
    if (said.kind === 'revocation') return 2_000;
    if (said.kind === 'certificate') return isRoot(said.by) ? 1_500 : 3_000;
    return 4_000;
  };
  return statements.sort((a, b) => place(a) - place(b) || (a.id < b.id ? -1 : 1));
}

export function otherMesh(theirs: string, ours: string): MembershipError {
  return new MembershipError(
    'OTHER_MESH',
    `It is a member of another mesh (${theirs}) than this one (${ours}). A peer is invited into a mesh: flowmesh mesh invite.`,
  );
}

function notAllowed(said: Said, why: string, code: MembershipCode = 'CERTIFICATE_FORGED'): MembershipError {
  return new MembershipError(code, `A ${said.kind} signed by ${said.by} is not accepted: ${why}.`);
}

function revoked(who: string, { reason, by, at }: Revocation): MembershipError {
  const why = reason === '' ? '' : ` (${reason})`;
  const signer = isRoot(by) ? 'the root' : by;
  return new MembershipError(
    'REVOKED',
    `${who} was revoked by ${signer} at ${new Date(at).toISOString()}${why}. An admin can invite it anew, as another peer.`,
  );
}
