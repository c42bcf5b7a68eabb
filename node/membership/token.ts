/**
 * The one line that takes a machine into a mesh: `fmj1_` (so that scanners find it), then base64url of deterministic
 * CBOR and of the first bytes of its hash. It has the key of one invite, and never a secret of the mesh.
 */
import { createHash } from 'node:crypto';
import { decode, encode, rfc8949EncodeOptions } from 'cborg';
import { z } from 'zod';
import { MembershipError } from './errors.ts';
import { TOKEN_CHARS_MAX, TOKEN_SPONSORS_MAX } from './limits.ts';
import { type Invite, readStatement, type Statement } from './statement.ts';

const PREFIX = 'fmj1_';
const CHECKSUM_BYTES = 6;
const KEY_BYTES = 32;

const bytes = (length: number) => z.instanceof(Uint8Array).refine((value) => value.byteLength === length);
const tokenSchema = z.strictObject({
  invite: z.instanceof(Uint8Array),
  key: bytes(KEY_BYTES),
  root: bytes(KEY_BYTES),
  sponsors: z.array(z.string().max(512)).min(1).max(TOKEN_SPONSORS_MAX),
});

export interface Token {
  /** What an admin signed. */
  invite: Statement<Invite>;
  /** The private key of the invite: the seed of an Ed25519 key. */
  key: Uint8Array;
  /** The newest root when it was made: whoever takes the token in must have a chain from it. */
  root: Uint8Array;
  /** Addresses of members that can take it in. */
  sponsors: string[];
}

/** @throws MembershipError INVALID_TOKEN when it would be longer than what is read */
export function writeToken({ invite, key, root, sponsors }: Token): string {
  const body = encode({ invite: invite.bytes, key, root, sponsors }, rfc8949EncodeOptions);
  const token = PREFIX + Buffer.concat([body, checksum(body)]).toString('base64url');
  if (token.length <= TOKEN_CHARS_MAX) return token;
  throw new MembershipError(
    'INVALID_TOKEN',
    `The token would have ${token.length} characters, and at most ${TOKEN_CHARS_MAX} are read. Name fewer or shorter offers and addresses.`,
  );
}

/** @throws MembershipError INVALID_TOKEN */
export function readToken(text: string): Token {
  const trimmed = text.trim().replace(/^.*\b(?=fmj1_)/s, '');
  if (!trimmed.startsWith(PREFIX)) throw invalid(`it does not begin with ${PREFIX}`);
  if (trimmed.length > TOKEN_CHARS_MAX) throw invalid('it is too long');
  const packed = Buffer.from(trimmed.slice(PREFIX.length).replace(/\s/g, ''), 'base64url');
  const body = packed.subarray(0, -CHECKSUM_BYTES);
  if (!checksum(body).equals(packed.subarray(-CHECKSUM_BYTES))) {
    throw invalid('its checksum is wrong: a part of it is missing or was changed');
  }
  try {
    const { invite, ...rest } = tokenSchema.parse(decode(body, { strict: true }));
    const statement = readStatement(invite);
    if (statement.said.kind === 'invite') return { invite: statement as Statement<Invite>, ...rest };
  } catch (error) {
    throw invalid('it is not of this version', error);
  }
  throw invalid('it holds no invite');
}

function checksum(body: Uint8Array): Buffer {
  return createHash('sha256').update(body).digest().subarray(0, CHECKSUM_BYTES);
}

function invalid(why: string, cause?: unknown): MembershipError {
  return new MembershipError(
    'INVALID_TOKEN',
    `The token cannot be used: ${why}. Copy the whole line that "flowmesh mesh invite" printed.`,
    { cause },
  );
}
