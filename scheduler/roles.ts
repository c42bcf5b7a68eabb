/**
 * What a member of the mesh may do. Its certificate says so; in an open mesh everybody may do everything. Roles change
 * while peers are connected (a renewal, a revocation), so they are asked for at each use and never kept.
 */
import { ForbiddenError, NotAMemberError } from './errors.ts';

/**
 *   submit     own work: give out leases, reserve ids, call tools at other peers
 *   work       run leases of others
 *   replicate  keep copies of feeds, and take over what was copied
 *   admin      invite and revoke members
 */
export const ROLES = ['submit', 'work', 'replicate', 'admin'] as const;
export type Role = (typeof ROLES)[number];

/** What a peer's certificate says of it. */
export interface Membership {
  readonly roles: ReadonlySet<Role>;
  /** The actions and labels that its workers may offer; one that ends with `*` stands for all that begin so. Null: any. */
  readonly offers: readonly string[] | null;
}

/** Whose work runs here: the peer that granted the lease, as its connection and its certificate say (P9). */
export interface Caller {
  peer_id: string;
  /** This peer itself. */
  own: boolean;
  /** None for a peer that is not a member now. */
  roles: ReadonlySet<Role>;
}

/** Of every peer of an open mesh. */
export const FULL_MEMBER: Membership = { roles: new Set(ROLES), offers: null };

/** What the certificate of a peer says now; null for one that is not a member. */
export type MembershipOf = (peer: string) => Membership | null;

/** Whether a member has one of these roles. Without roles: whether it is a member at all. */
export function mayDo(membership: Membership | null, anyOf: readonly Role[]): boolean {
  return membership !== null && (anyOf.length === 0 || anyOf.some((role) => membership.roles.has(role)));
}

/** Every member, whatever its roles. */
export const EVERY_MEMBER: readonly Role[] = [];
/** Those that may own a feed: one that they made (`submit`), or one that they copied and took over (`replicate`). */
export const OWNERS: readonly Role[] = ['submit', 'replicate'];
const WORKERS: readonly Role[] = ['work'];
const FOLLOWERS: readonly Role[] = ['replicate'];

/** Who may call a method, and at whom: one of these roles is needed. */
interface MethodRoles {
  caller: readonly Role[];
  callee: readonly Role[];
}

/**
 * The roles for each method between peers. `inbound.ts` refuses what does not fit, and senders do not ask a peer that
 * would refuse. What a method says of a feed or a lease is judged on top of that, where it is used (P9).
 */
export const METHOD_ROLES = {
  /** Whoever is there says so. What it offers and owns is believed as far as its roles go (`PeerTable`). */
  hello: { caller: EVERY_MEMBER, callee: EVERY_MEMBER },
  beat: { caller: EVERY_MEMBER, callee: EVERY_MEMBER },
  /** The same as a beat tells without being asked. */
  describe: { caller: EVERY_MEMBER, callee: EVERY_MEMBER },
  /** An owner gives out its own work, or that of a feed that it took over. */
  lease: { caller: OWNERS, callee: WORKERS },
  /** A worker gives back, reports and ends what it was leased. An owner hears that also when it may own no more. */
  refuse: { caller: WORKERS, callee: EVERY_MEMBER },
  progress: { caller: WORKERS, callee: EVERY_MEMBER },
  result: { caller: WORKERS, callee: EVERY_MEMBER },
  /** What an owner gave out it may call back, also from a peer that may work no more. */
  cancel: { caller: OWNERS, callee: EVERY_MEMBER },
  /** A worker asks for work. */
  claim: { caller: WORKERS, callee: EVERY_MEMBER },
  /** An owner brings rows to be kept. */
  push: { caller: OWNERS, callee: FOLLOWERS },
  /**
   * Rows go to who keeps copies, and to an owner that asks what of its own feed others have; from either of them. A
   * worker may ask for the history of a feed, without rows, to learn whom its results go to.
   */
  pull: { caller: ['submit', 'replicate', 'work'], callee: OWNERS },
  /** An owner has opened a line: after a restart, or in a feed that it copied. Every worker says what it holds of it. */
  takeover: { caller: OWNERS, callee: EVERY_MEMBER },
  /** Who has owned or copied a feed brings what it has beyond the fork to the owner of the line that stays. */
  handover: { caller: OWNERS, callee: OWNERS },
  /** A submit reserves its id. All have to agree who is the arbiter, so every member is one. */
  reserve: { caller: ['submit'], callee: EVERY_MEMBER },
  /** Where a record is, as ids are no secret among members: a worker asks, too, on behalf of others. */
  locate: { caller: EVERY_MEMBER, callee: EVERY_MEMBER },
  /** A tool for a client of the caller, or a call that the caller kept for the next owner of a feed that it copies. */
  call: { caller: OWNERS, callee: EVERY_MEMBER },
} as const satisfies Record<string, MethodRoles>;
export type Method = keyof typeof METHOD_ROLES;

/** Whether a peer may be asked to do this: it would refuse otherwise. */
export function maySend(method: Method, membership: Membership | null): boolean {
  return mayDo(membership, METHOD_ROLES[method].callee);
}

/**
 * The one place where the table above is held against a message.
 * @throws NotAMemberError, ForbiddenError
 */
export function mustBeAllowed(method: Method, caller: string, callee: string, membershipOf: MembershipOf): void {
  for (const [as, peer] of [
    ['caller', caller],
    ['callee', callee],
  ] as const) {
    const anyOf = METHOD_ROLES[method][as];
    const membership = membershipOf(peer);
    if (membership === null) throw new NotAMemberError(peer);
    if (!mayDo(membership, anyOf))
      throw new ForbiddenError(`"${method}" ${as === 'caller' ? 'from' : 'at'}`, peer, anyOf);
  }
}
