/**
 * What follows from what roots and admins have signed, whatever the time is and in whatever order it came: which roots
 * are trusted, who is out, and who came too late for an invite.
 */
import { type Certificate, isRoot, type Revocation, type Root, rootKeyOf, type Statement } from './statement.ts';

type Revocations = Map<string, Statement<Revocation>[]>;

export interface Verdicts {
  /** Roots that are trusted, by public key, with their rank. */
  readonly roots: ReadonlyMap<string, number>;
  readonly revokedPeers: ReadonlyMap<string, readonly Statement<Revocation>[]>;
  /** Of these by roots alone. */
  readonly revokedByRoots: ReadonlyMap<string, readonly Statement<Revocation>[]>;
  readonly revokedInvites: ReadonlyMap<string, Statement<Revocation>>;
  /** By their hash. */
  readonly revokedKeys: ReadonlySet<string>;
  readonly revokedRoots: ReadonlyMap<string, readonly Statement<Revocation>[]>;
}

/**
 * Revocations of roots come first, those of the newest root before older ones; then those of admins that no root has
 * revoked. Two admins that revoke each other are both out: a root decides whom it takes in again.
 *
 * @param firstRoot the public key whose hash is the mesh; null while nothing that it signed is known
 * @param rankOf of who signed something, if it is or was a root
 */
export function judge(
  revocations: readonly Statement<Revocation>[],
  roots: readonly Statement<Root>[],
  firstRoot: string | null,
  rankOf: (by: string) => number | undefined,
): Verdicts {
  const revokedPeers: Revocations = new Map();
  const revokedRoots: Revocations = new Map();
  const revokedInvites = new Map<string, Statement<Revocation>>();
  const revokedKeys = new Set<string>();
  const apply = (statement: Statement<Revocation>): void => {
    const { target } = statement.said;
    if ('peer_id' in target) append(revokedPeers, target.peer_id, statement);
    else if ('root' in target) append(revokedRoots, target.root, statement);
    else if ('key' in target) revokedKeys.add(target.key);
    else if (!revokedInvites.has(target.invite_id)) revokedInvites.set(target.invite_id, statement);
  };
  const ranked = revocations.map((statement) => ({ statement, rank: rankOf(statement.said.by) ?? -1 }));
  ranked.sort((a, b) => b.rank - a.rank || (a.statement.id < b.statement.id ? -1 : 1));
  for (const { statement, rank } of ranked) {
    if (rank >= 0 && !isVoidBy(statement.id, revokedRoots.get(rootKeyOf(statement.said.by)))) apply(statement);
  }
  const revokedByRoots = new Map(Array.from(revokedPeers, ([peer, by]) => [peer, [...by]]));
  for (const { statement, rank } of ranked) {
    if (rank < 0 && !isVoidBy(statement.id, revokedByRoots.get(statement.said.by))) apply(statement);
  }
  const trustedRoots = trusted(roots, firstRoot, revokedRoots);
  return { roots: trustedRoots, revokedPeers, revokedByRoots, revokedInvites, revokedKeys, revokedRoots };
}

/** The first root, and those that one of them has named; without those that were dropped. */
function trusted(
  named: readonly Statement<Root>[],
  firstRoot: string | null,
  revokedRoots: Revocations,
): ReadonlyMap<string, number> {
  const roots = new Map<string, number>(firstRoot === null ? [] : [[firstRoot, 0]]);
  for (const { id, said } of named.toSorted((a, b) => a.said.rank - b.said.rank)) {
    if (isVoidBy(id, revokedRoots.get(rootKeyOf(said.by)))) continue;
    if (roots.has(rootKeyOf(said.by)) && !roots.has(said.key)) roots.set(said.key, said.rank);
  }
  for (const key of revokedRoots.keys()) roots.delete(key);
  return roots;
}

function append<T>(lists: Map<string, T[]>, key: string, value: T): void {
  const list = lists.get(key);
  if (list === undefined) lists.set(key, [value]);
  else list.push(value);
}

/** Whether one of the revocations of its signer does not keep it. */
export function isVoidBy(id: string, revocations: readonly Statement<Revocation>[] = []): boolean {
  return revocations.some(({ said }) => !said.keeps.includes(id));
}

/**
 * Redemptions that came too late for their invite. Certificates that a root signed and others are judged apart: an issuer
 * is not to put out an admin by redemptions that it made up.
 */
export function overusedOf(certificates: readonly Statement<Certificate>[]): Set<string> {
  const overused = new Set<string>();
  const redemptions = new Map<string, { uses: number; keys: Map<string, string> }>();
  for (const { said } of certificates) {
    if (said.invite === null) continue;
    const { uses, redemption } = said.invite;
    const invite = inviteOf(said);
    const found = redemptions.get(invite) ?? { uses, keys: new Map() };
    redemptions.set(invite, found);
    found.uses = Math.min(found.uses, uses);
    found.keys.set(`${redemption}/${said.peer_id}`, redemptionOf(said));
  }
  for (const { uses, keys } of redemptions.values()) {
    for (const late of [...keys.keys()].sort().slice(uses)) overused.add(keys.get(late)!);
  }
  return overused;
}

function inviteOf({ invite, by }: Certificate): string {
  return `${isRoot(by) ? 'root' : 'issuer'}/${invite?.id}`;
}

/** Names the redemption by which a certificate came. */
export function redemptionOf(said: Certificate): string {
  return `${inviteOf(said)}/${said.invite?.redemption}/${said.peer_id}`;
}
