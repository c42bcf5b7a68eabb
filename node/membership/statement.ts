/**
 * What a secured mesh is made of: signed statements about who is a member, who is not any more, and who may say so.
 * A statement is deterministic CBOR (RFC 8949, 4.2) of one of the shapes below, and a signature over just these bytes;
 * it is checked once, where it comes in, and never written anew.
 *
 *   root         a key that may sign everything; the first one is the mesh's name (`mesh` is its hash)
 *   certificate  a peer is a member, and what it may do
 *   invite       who has the key of this invite may become a member
 *   key          who shows this key may call, and what it may do then (`api-key.ts`)
 *   revocation   a peer, an invite, a key or a root is out, for ever
 *   rotation     certificates of an earlier epoch are to be renewed now
 *
 * Signers are named by `by`: `root:<public key>` or a PeerId, whose key is inside it.
 */
import { createHash } from 'node:crypto';
import { decode, encode, rfc8949EncodeOptions } from 'cborg';
import { z } from 'zod';
import { ROLES } from '../../scheduler/roles.ts';
import { MembershipError } from './errors.ts';
import { isSignedBy, publicKeyOf, type SigningKey } from './keys.ts';
import { INVITE_USES_MAX, KEEPS_MAX, KEY_PERMITS_MAX, STATEMENT_BYTES_MAX } from './limits.ts';

const DOMAIN = new TextEncoder().encode('flowmesh/statement/1\0');
const ROOT_PREFIX = 'root:';
const OFFERS_MAX = 64;

const base64url = (bytes: number) => z.string().regex(new RegExp(`^[A-Za-z0-9_-]{${Math.ceil((bytes * 4) / 3)}}$`));
const meshId = base64url(16);
const publicKey = base64url(32);
const statementId = base64url(32);
export const peerId = z.string().regex(/^[1-9A-HJ-NP-Za-km-z]{46,64}$/);
const rootName = z.string().regex(/^root:[A-Za-z0-9_-]{43}$/);
const time = z.int().nonnegative();
const signer = z.union([peerId, rootName]);
export const memberName = z.string().min(1).max(64);

/** What an invite gives, and a certificate has. */
const rights = z.strictObject({
  roles: z.array(z.enum(ROLES)).max(ROLES.length),
  offers: z.array(z.string().min(1).max(128)).max(OFFERS_MAX).nullable(),
  relay: z.boolean(),
  /** It may make other peers members, without `admin` and without this right; for how long each. */
  issue: z.strictObject({ member_ttl_ms: time }).nullable(),
});
export type Rights = z.infer<typeof rights>;

const rootSchema = z.strictObject({
  kind: z.literal('root'),
  mesh: meshId,
  key: publicKey,
  /** One more than that of the root that signed it. */
  rank: z.int().min(1).max(1_000),
  at: time,
  by: rootName,
});

export type Root = z.infer<typeof rootSchema>;

const certificateSchema = z.strictObject({
  kind: z.literal('certificate'),
  mesh: meshId,
  mesh_name: z.string().min(1).max(63),
  peer_id: peerId,
  name: memberName,
  rights,
  /** The invite that it came by; kept over renewals. Two of one single-use invite differ in `redemption`. */
  invite: z
    .strictObject({ id: base64url(16), uses: z.int().min(1).max(INVITE_USES_MAX), redemption: base64url(16) })
    .nullable(),
  not_before: time,
  not_after: time,
  epoch: z.int().nonnegative(),
  by: signer,
});
export type Certificate = z.infer<typeof certificateSchema>;

const inviteSchema = z.strictObject({
  kind: z.literal('invite'),
  mesh: meshId,
  mesh_name: z.string().min(1).max(63),
  /** Hash of `key`. */
  id: base64url(16),
  key: publicKey,
  rights,
  uses: z.int().min(1).max(INVITE_USES_MAX),
  for_peer: peerId.nullable(),
  not_before: time,
  not_after: time,
  by: signer,
});
export type Invite = z.infer<typeof inviteSchema>;

/** Also a part of what callers are called: `key:<name>`. */
export const keyName = z
  .string()
  .regex(
    /^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$/,
    'must be 1 to 64 characters of A-Z a-z 0-9 . _ @ - and begin with a letter or digit',
  );
export const keyRole = z.string().regex(/^[a-z][a-z0-9_-]{0,31}$/, 'must be the name of a role');

const keySchema = z.strictObject({
  kind: z.literal('key'),
  mesh: meshId,
  name: keyName,
  /** What it means is in the settings of each peer. */
  role: keyRole.nullable(),
  /** As they were meant when it was made: a peer that does not know one of them gives nothing for it. */
  permits: z.array(z.string().min(1).max(128)).max(KEY_PERMITS_MAX),
  /** SHA-256 of its secret, which nobody keeps. */
  hash: base64url(32),
  not_before: time,
  not_after: time,
  by: signer,
});
export type Key = z.infer<typeof keySchema>;

const revocationSchema = z.strictObject({
  kind: z.literal('revocation'),
  mesh: meshId,
  target: z.union([
    z.strictObject({ peer_id: peerId }),
    z.strictObject({ invite_id: base64url(16) }),
    /** With the end of the key: afterwards both are forgotten. */
    z.strictObject({ key: base64url(32), not_after: time }),
    z.strictObject({ root: publicKey }),
  ]),
  /** What the revoked one signed and what stays: everything else that it signed is void. */
  keeps: z.array(statementId).max(KEEPS_MAX),
  reason: z.string().max(256),
  at: time,
  by: signer,
});
export type Revocation = z.infer<typeof revocationSchema>;

const rotationSchema = z.strictObject({
  kind: z.literal('rotation'),
  mesh: meshId,
  epoch: z.int().min(1),
  at: time,
  by: signer,
});

const statementSchema = z.discriminatedUnion('kind', [
  rootSchema,
  certificateSchema,
  inviteSchema,
  keySchema,
  revocationSchema,
  rotationSchema,
]);
export type Said = z.infer<typeof statementSchema>;

/** A statement whose signature was checked. */
export interface Statement<S extends Said = Said> {
  /** Hash of what was said, not of the signature. */
  readonly id: string;
  readonly said: S;
  /** As it travels and as it is kept. */
  readonly bytes: Uint8Array;
}

/** Signs a statement. @throws MembershipError for one that others, and this peer after a restart, would not accept */
export function state<S extends Said>(said: S, key: SigningKey): Statement<S> {
  const { error } = statementSchema.safeParse(said);
  if (error !== undefined) {
    throw new MembershipError('INVALID_ADMISSION', `No ${said.kind} can be made of this: ${z.prettifyError(error)}`);
  }
  const payload = encode(said, rfc8949EncodeOptions);
  const bytes = encode([payload, key.sign(signed(payload))], rfc8949EncodeOptions);
  return { id: hashOf(payload, 32), said, bytes: fitting(bytes, said.kind) };
}

function fitting(bytes: Uint8Array, what: string): Uint8Array {
  if (bytes.byteLength <= sizeMax(what)) return bytes;
  throw new MembershipError('MESH_FULL', `a ${what} of ${bytes.byteLength} bytes is larger than members take`);
}

/** A revocation may name very many certificates that stay. */
function sizeMax(kind: string): number {
  return kind === 'revocation' ? STATEMENT_BYTES_MAX + KEEPS_MAX * 48 : STATEMENT_BYTES_MAX;
}

/** Reads a statement and checks who signed it. @throws MembershipError CERTIFICATE_FORGED */
export function readStatement(bytes: Uint8Array): Statement {
  return parseStatement(bytes).checked();
}

/** The id of a statement that was not read yet. @throws MembershipError CERTIFICATE_FORGED for what is none */
export function idOf(bytes: Uint8Array): string {
  return hashOf(open(bytes)[0], 32);
}

/** What somebody says that somebody said: not to be believed before `checked`. */
export interface Hearsay extends Statement {
  /** @throws MembershipError CERTIFICATE_FORGED when it is not signed by whom it names */
  checked(): Statement;
}

/** Reads a statement and does not check who signed it. @throws MembershipError CERTIFICATE_FORGED for what is none */
export function parseStatement(bytes: Uint8Array): Hearsay {
  const [payload, signature] = open(bytes);
  const said = parse(payload);
  if (bytes.byteLength > sizeMax(said.kind)) throw forged('it is larger than any statement is');
  const statement = { id: hashOf(payload, 32), said, bytes };
  const checked = (): Statement => {
    const key = keyOf(said.by);
    if (key === null || !isSignedBy(key, signed(payload), signature)) throw forged(`it is not signed by ${said.by}`);
    return statement;
  };
  return { ...statement, checked };
}

function open(bytes: Uint8Array): [Uint8Array, Uint8Array] {
  if (bytes.byteLength > sizeMax('revocation')) throw forged('it is larger than any statement is');
  let parts: unknown;
  try {
    parts = decode(bytes, STRICT);
  } catch (error) {
    throw forged('it is not CBOR', error);
  }
  const [payload, signature, ...more] = Array.isArray(parts) ? (parts as unknown[]) : [];
  if (payload instanceof Uint8Array && signature instanceof Uint8Array && more.length === 0)
    return [payload, signature];
  throw forged('it is no statement');
}

const STRICT = { strict: true, allowIndefinite: false, allowUndefined: false, rejectDuplicateMapKeys: true };

function parse(payload: Uint8Array): Said {
  let value: unknown;
  try {
    value = decode(payload, STRICT);
  } catch (error) {
    throw forged('what it says is not CBOR', error);
  }
  const parsed = statementSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw forged(`it is not of this version: ${z.prettifyError(parsed.error)}`, parsed.error);
}

function forged(why: string, cause?: unknown): MembershipError {
  return new MembershipError('CERTIFICATE_FORGED', `A statement of the mesh is not accepted: ${why}.`, { cause });
}

function signed(payload: Uint8Array): Uint8Array {
  return Buffer.concat([DOMAIN, payload]);
}

/** The public key of who is named in `by`; null for a name without one. */
function keyOf(by: string): Uint8Array | null {
  return isRoot(by) ? Buffer.from(rootKeyOf(by), 'base64url') : publicKeyOf(by);
}

/** How a root is named in `by`. */
export function rootNameOf(key: Uint8Array | string): string {
  return `${ROOT_PREFIX}${typeof key === 'string' ? key : Buffer.from(key).toString('base64url')}`;
}

export function isRoot(by: string): boolean {
  return by.startsWith(ROOT_PREFIX);
}

/** The public key of a root that is named in `by`, in base64url. */
export function rootKeyOf(by: string): string {
  return by.slice(ROOT_PREFIX.length);
}

/** What names a mesh, an invite: the first bytes of the hash of its public key, in base64url. */
export function keyHash(key: Uint8Array): string {
  return hashOf(key, 16);
}

function hashOf(bytes: Uint8Array, length: number): string {
  return createHash('sha256').update(bytes).digest().subarray(0, length).toString('base64url');
}
