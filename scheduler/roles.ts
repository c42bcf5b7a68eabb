/** What a member of the mesh may do. Its certificate says so; in an open mesh everybody may do everything. */

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

/** Of every peer of an open mesh. */
export const FULL_MEMBER: Membership = { roles: new Set(ROLES), offers: null };
