/**
 * What an admin asks of its running peer: `flowmesh mesh …` and `flowmesh key …`, over a route that only this user can call. Each request is
 * defined once: its input, and what is done.
 */
import { z } from 'zod';
import type { JsonObject } from '../../dag/errors.ts';
import { ROLES } from '../../scheduler/roles.ts';
import { permissionPatternSchema } from '../../tools/permissions.ts';
import { keyIdOf } from './api-key.ts';
import type { Authority } from './authority.ts';
import { MembershipError } from './errors.ts';
import type { Standing } from './ledger.ts';
import {
  INVITE_TTL_MAX_MS,
  INVITE_TTL_MIN_MS,
  INVITE_TTL_MS,
  INVITE_USES_MAX,
  KEY_PERMITS_MAX,
  KEY_TTL_MAX_MS,
  KEY_TTL_MIN_MS,
  KEY_TTL_MS,
  MEMBER_TTL_MAX_MS,
  MEMBER_TTL_MIN_MS,
  MEMBER_TTL_MS,
  TOKEN_SPONSORS_MAX,
} from './limits.ts';
import type { Membership } from './membership.ts';
import {
  type Certificate,
  type Invite,
  isRoot,
  type Key,
  keyName,
  keyRole,
  peerId,
  type Statement,
} from './statement.ts';

/** What is said of how this peer and others reach each other. */
export interface Reach {
  listens: string[];
  /** What others are told. */
  announces: string[];
  /** Peers that were met, however they are reached now. */
  peers: { peer_id: string; connected: boolean; path: string | null }[];
  /** Lines about this machine that an admin should know, e.g. which limits it cannot keep. */
  notes: string[];
}

export interface RequestParts {
  membership: Membership;
  authority: Authority;
  reach: () => Reach;
  /** Addresses of a connected peer at which others can dial it: tried out. */
  tryAddresses: (peer: string) => Promise<string[]>;
}

const inviteInput = z.strictObject({
  roles: z.array(z.enum(ROLES)).min(1).default(['submit', 'work', 'replicate']),
  offers: z.array(z.string().min(1).max(128)).max(64).nullable().default(null),
  relay: z.boolean().default(true),
  /** The invited peer may take others in, and renews certificates. */
  issuer: z.boolean().default(false),
  member_ttl_ms: z.int().min(MEMBER_TTL_MIN_MS).max(MEMBER_TTL_MAX_MS).default(MEMBER_TTL_MS),
  uses: z.int().min(1).max(INVITE_USES_MAX).default(1),
  ttl_ms: z.int().min(INVITE_TTL_MIN_MS).max(INVITE_TTL_MAX_MS).default(INVITE_TTL_MS),
  for_peer: z
    .custom<string>(
      (value) => peerId.safeParse(value).success,
      'must be a whole peer id: `flowmesh node status` says it',
    )
    .nullable()
    .default(null),
  /** Addresses for the token, in place of those that are announced. */
  addresses: z.array(z.string().max(512)).max(TOKEN_SPONSORS_MAX).default([]),
});

const revokeInput = z.strictObject({
  /** A peer id, the beginning or end of one, a name that only one member has, or an invite's id. */
  target: z.string().min(1),
  reason: z.string().max(256).default(''),
  issued: z.boolean().default(false),
});

/** Of a part of a peer id: a slip of the pen is not to put somebody out for ever. */
const PART_CHARS_MIN = 6;

const rotateInput = z.strictObject({ root: z.boolean().default(false), drop: z.boolean().default(false) });
const nothing = z.strictObject({});

const keyCreateInput = z
  .strictObject({
    name: keyName,
    /** What it may do is in the settings (`auth.roles`) of the peer that is called. */
    role: keyRole.nullable().default(null),
    permits: z.array(permissionPatternSchema).max(KEY_PERMITS_MAX).default([]),
    ttl_ms: z.int().min(KEY_TTL_MIN_MS).max(KEY_TTL_MAX_MS).default(KEY_TTL_MS),
  })
  .refine(({ role, permits }) => role !== null || permits.length > 0, 'a key needs a role or a permission');
const keyRevokeInput = z.strictObject({ name: keyName, reason: z.string().max(256).default('') });

const INPUTS = {
  invite: inviteInput,
  members: nothing,
  invites: nothing,
  revoke: revokeInput,
  rotate: rotateInput,
  doctor: nothing,
  key_create: keyCreateInput,
  keys: nothing,
  key_revoke: keyRevokeInput,
};
export type MeshRequest = keyof typeof INPUTS;
export const MESH_REQUESTS = Object.keys(INPUTS) as MeshRequest[];

/** @throws MembershipError NOT_SECURED, and what the request says */
export async function serveMeshRequest(
  parts: RequestParts | null,
  request: MeshRequest,
  input: unknown,
): Promise<JsonObject> {
  if (parts === null) {
    if (request.startsWith('key')) {
      throw new MembershipError(
        'NOT_SECURED',
        'Keys are told to all members of a secured mesh, and this peer is in an open one. Found a secured mesh: flowmesh mesh init. Or give this peer one key of its own in its environment (API_KEY), or have it take tokens (JWT_SECRET, auth.jwt): docs/auth.md.',
      );
    }
    throw new MembershipError(
      'NOT_SECURED',
      'This peer is in an open mesh, on this machine alone: there are no members to speak of. Found a mesh of several machines: flowmesh mesh init.',
    );
  }
  const parsed = INPUTS[request].safeParse(input);
  if (!parsed.success) throw new MembershipError('INVALID_ADMISSION', z.prettifyError(parsed.error));
  const asked = new Requests(parts);
  switch (request) {
    case 'invite':
      return await asked.invite(parsed.data as z.output<typeof inviteInput>);
    case 'revoke':
      return asked.revoke(parsed.data as z.output<typeof revokeInput>);
    case 'rotate':
      return asked.rotate(parsed.data as z.output<typeof rotateInput>);
    case 'key_create':
      return asked.key_create(parsed.data as z.output<typeof keyCreateInput>);
    case 'key_revoke':
      return asked.key_revoke(parsed.data as z.output<typeof keyRevokeInput>);
    default:
      return asked[request]();
  }
}

class Requests {
  readonly #membership: Membership;
  readonly #authority: Authority;
  readonly #reach: Reach;
  readonly #tryAddresses: RequestParts['tryAddresses'];

  constructor({ membership, authority, reach, tryAddresses }: RequestParts) {
    this.#membership = membership;
    this.#authority = authority;
    this.#reach = reach();
    this.#tryAddresses = tryAddresses;
  }

  async invite(input: z.output<typeof inviteInput>): Promise<JsonObject> {
    const { roles, offers, relay, issuer, member_ttl_ms, uses, ttl_ms, for_peer } = input;
    const rights = { roles, offers, relay, issue: issuer ? { member_ttl_ms } : null };
    const sponsors =
      input.addresses.length > 0 ? input.addresses : await this.#sponsors(issuer || roles.includes('admin'));
    if (sponsors.length === 0) {
      throw new MembershipError(
        'NOT_AN_ISSUER',
        'There is no address at which an issuer of this mesh can be reached from another machine. Start this peer with --listen /ip4/0.0.0.0/tcp/7600, or name one with --address.',
      );
    }
    const { token, invite } = this.#authority.invite({ rights, uses, for_peer, ttl_ms, sponsors });
    return { token, ...inviteShape(invite.said), sponsors };
  }

  /** Where issuers are reached: this peer first, then others that are connected. */
  async #sponsors(byRoot: boolean): Promise<string[]> {
    const { ledger, self } = this.#membership;
    const own = this.#authority.canIssue(ORDINARY) ? this.#reach.announces : [];
    const peers = byRoot ? [] : this.#reach.peers.filter(({ connected }) => connected);
    const issuers = peers.map(({ peer_id }) => peer_id).filter((peer) => isIssuer(ledger.standing(peer)));
    const others = issuers
      .slice(0, TOKEN_SPONSORS_MAX)
      .map(async (peer) => toldOf(peer, await this.#tryAddresses(peer)));
    const lists = [toldOf(self, own), ...(await Promise.all(others))];
    // One address of each before the second of any.
    const found = lists.flatMap((list) => list.map((address, place) => ({ address, place })));
    return found
      .sort((a, b) => a.place - b.place)
      .map(({ address }) => address)
      .slice(0, TOKEN_SPONSORS_MAX);
  }

  members(): JsonObject {
    const { ledger, facts, self } = this.#membership;
    const connected = new Map(this.#reach.peers.map((peer) => [peer.peer_id, peer]));
    const members = ledger.members().map((newest) => {
      const { said } = ledger.certificateOf(newest.said.peer_id) ?? newest;
      const standing = ledger.standing(said.peer_id)!;
      const there = connected.get(said.peer_id);
      const is = said.peer_id === self ? 'this peer' : there?.connected === true ? 'connected' : 'away';
      return {
        ...memberShape(said),
        // Since the last rotation.
        renewed: said.epoch >= ledger.epoch,
        state: standing.state,
        why: standing.state === 'member' ? null : standing.why.message,
        connection: is,
        path: there?.path ?? null,
      };
    });
    members.sort((a, b) => (a.name < b.name ? -1 : 1));
    return { mesh: facts.mesh, mesh_name: facts.mesh_name, members } as unknown as JsonObject;
  }

  invites(): JsonObject {
    const { ledger, now } = this.#membership;
    const invites = ledger.of('invite').map((invite) => {
      const { said } = invite;
      const by = ledger.redeemedBy(said.id);
      return {
        ...inviteShape(said),
        used_by: by.map(({ peer_id }) => peer_id),
        state: this.#inviteState(invite, by.length, now()),
      };
    });
    return { invites } as unknown as JsonObject;
  }

  #inviteState(invite: Statement<Invite>, used: number, now: number): string {
    const { ledger } = this.#membership;
    if (ledger.isInviteRevoked(invite.said.id) || ledger.isVoid(invite)) return 'revoked';
    if (used >= invite.said.uses) return 'used';
    return now > invite.said.not_after ? 'expired' : 'open';
  }

  revoke({ target, reason, issued }: z.output<typeof revokeInput>): JsonObject {
    const { ledger, self } = this.#membership;
    if (ledger.of('invite').some(({ said }) => said.id === target)) {
      this.#authority.revoke({ invite_id: target }, { reason, issued });
      return { revoked: target, kind: 'invite', came_by_it: ledger.redeemedBy(target).map(({ peer_id }) => peer_id) };
    }
    const { peer_id, name } = this.#memberNamed(target);
    if (peer_id === self) {
      throw new MembershipError('UNKNOWN_MEMBER', 'A peer does not revoke itself: do it at another admin.');
    }
    const keys = ledger.of('key').filter((each) => each.said.by === peer_id && ledger.keyState(each) === 'good');
    this.#authority.revoke({ peer_id }, { reason, issued });
    return { revoked: peer_id, kind: 'peer', name, keys: keys.map(({ said }) => said.name) };
  }

  #memberNamed(target: string): Certificate {
    const all = this.#membership.ledger.members().map(({ said }) => said);
    // Who joins chooses its name: nobody is out of reach because others took its peer id for theirs.
    const found = [
      all.filter(({ peer_id }) => peer_id === target),
      all.filter(({ name }) => name === target),
      target.length < PART_CHARS_MIN
        ? []
        : all.filter(({ peer_id }) => peer_id.endsWith(target) || peer_id.startsWith(target)),
    ].find((each) => each.length > 0);
    if (found === undefined) {
      throw new MembershipError(
        'UNKNOWN_MEMBER',
        `"${target}": no member and no invite is called that. Give a name, a peer id or ${PART_CHARS_MIN} letters of one: flowmesh mesh members.`,
      );
    }
    if (found.length === 1) return found[0]!;
    const ids = found.map(({ peer_id }) => peer_id).join(', ');
    throw new MembershipError(
      'UNKNOWN_MEMBER',
      `"${target}": ${found.length} members are called that. Give the peer id of one: ${ids}.`,
    );
  }

  rotate({ root, drop }: z.output<typeof rotateInput>): JsonObject {
    if (drop) this.#authority.dropOldRoots('rotation');
    else if (root) this.#authority.addRoot();
    else this.#authority.rotate();
    const left = this.#authority.leftBehind().map(memberShape);
    return { roots: this.#membership.ledger.roots().length, left } as unknown as JsonObject;
  }

  key_create(input: z.output<typeof keyCreateInput>): JsonObject {
    const { text, key } = this.#authority.createKey(input);
    return { key: text, ...this.#keyShape(key) };
  }

  keys(): JsonObject {
    const keys = this.#membership.ledger.of('key').map((each) => this.#keyShape(each));
    return { keys: keys.sort((a, b) => (a['name']! < b['name']! ? -1 : 1)) };
  }

  key_revoke({ name, reason }: z.output<typeof keyRevokeInput>): JsonObject {
    return { revoked: name, keys: this.#authority.revokeKey(name, reason).length };
  }

  #keyShape(key: Statement<Key>): JsonObject {
    const { name, role, permits, hash, not_after, by } = key.said;
    return {
      ...{ name, role, permits, key_id: keyIdOf(hash), state: this.#membership.ledger.keyState(key) },
      ...{ expires_at: new Date(not_after).toISOString(), made_by: isRoot(by) ? 'root' : by },
    };
  }

  doctor(): JsonObject {
    const { membership } = { membership: this.#membership };
    const { ledger, facts } = membership;
    const own = membership.ownCertificate().said;
    return {
      ...{ mesh: facts.mesh, mesh_name: facts.mesh_name, certificate: memberShape(own) },
      ...{ listens: this.#reach.listens, announces: this.#reach.announces, peers: this.#reach.peers },
      findings: [...this.#findings(), ...this.#reach.notes.map((what) => ({ level: 'note', what }))],
      roots: ledger.roots().length,
    } as unknown as JsonObject;
  }

  #findings(): { level: 'problem' | 'warning' | 'note'; what: string }[] {
    const { ledger, standing } = this.#membership;
    const findings: { level: 'problem' | 'warning' | 'note'; what: string }[] = [];
    const say = (level: 'problem' | 'warning' | 'note', what: string): number => findings.push({ level, what });
    if (standing.state !== 'member') say('problem', standing.why.message);
    else if (this.#membership.isRenewalDue()) {
      say(
        'warning',
        'The certificate of this peer is due for renewal: it is renewed as soon as an issuer is connected.',
      );
    }
    const issuers = ledger.members().filter(({ said }) => isIssuer(ledger.standing(said.peer_id)));
    if (issuers.length < 2) {
      say(
        'warning',
        'The mesh has one issuer: when it is gone, nobody can join, and certificates run out. Invite another one: flowmesh mesh invite --issuer.',
      );
    }
    if (!this.#reach.announces.some(isDirect)) {
      say(
        'note',
        'No address of this peer is known at which others can dial it: they reach it over connections that it opened, or through members.',
      );
    }
    const away = issuers.filter(
      ({ said }) => !this.#reach.peers.some((peer) => peer.connected && peer.peer_id === said.peer_id),
    );
    if (
      issuers.length > 0 &&
      away.length === issuers.length &&
      !issuers.some(({ said }) => said.peer_id === this.#membership.self)
    ) {
      say('warning', 'No issuer is connected now: this certificate cannot be renewed.');
    }
    if (ledger.roots().length > 1)
      say('warning', 'An old root is trusted still: end its rotation with flowmesh mesh rotate --drop.');
    return findings;
  }
}

const ORDINARY = { roles: [], offers: null, relay: true, issue: null };

/** Addresses as others are told them: direct ones, with whose they are. */
function toldOf(peer: string, addresses: readonly string[]): string[] {
  return addresses.filter(isDirect).map((each) => (each.includes('/p2p/') ? each : `${each}/p2p/${peer}`));
}

function isIssuer(standing: Standing | undefined): boolean {
  return standing?.state === 'member' && standing.certificate.rights.issue !== null;
}

function isDirect(address: string): boolean {
  return !address.includes('/p2p-circuit');
}

function memberShape({ peer_id, name, rights, not_after, invite, by }: Certificate) {
  return {
    ...{
      peer_id,
      name,
      roles: rights.roles,
      offers: rights.offers,
      relay: rights.relay,
      issuer: rights.issue !== null,
    },
    expires_at: new Date(not_after).toISOString(),
    invite_id: invite?.id ?? null,
    issued_by: isRoot(by) ? 'root' : by,
  };
}

function inviteShape({ id, rights, uses, for_peer, not_after, by }: Invite) {
  return {
    ...{ invite_id: id, roles: rights.roles, offers: rights.offers, issuer: rights.issue !== null, uses, for_peer },
    expires_at: new Date(not_after).toISOString(),
    made_by: isRoot(by) ? 'root' : by,
  };
}
