/**
 * Keys of callers: a text that is shown once, and what is known of it afterwards.
 *
 *   fmk1_<base64url of 32 random bytes and a checksum of 4>
 *
 * The prefix is there so that scanners of published sources find keys, the checksum so that a part of one, or a slip, is
 * told from a key that nobody made. What is kept is one SHA-256 of the random bytes. A slow hash, as passwords need, would
 * protect nothing here: it makes guessing dear where there is little to guess, and nobody guesses 256 random bits; but it
 * would have every request, and everybody's wrong keys, cost this peer a tenth of a second.
 */
import { createHash, randomBytes } from 'node:crypto';
import type { Ledger } from './ledger.ts';
import { STANDING_CHECK_MS } from './limits.ts';
import type { Membership } from './membership.ts';

const PREFIX = 'fmk1_';
const SECRET_BYTES = 32;
const CHECKSUM_BYTES = 4;
const KEY_ID_CHARS = 12;
const CHARS = PREFIX.length + Math.ceil(((SECRET_BYTES + CHECKSUM_BYTES) * 4) / 3);

/** What a peer that is asked knows of a key. */
export interface KnownKey {
  name: string;
  role: string | null;
  permits: readonly string[];
  hash: string;
  /** Ms since 1970. */
  not_before: number;
  not_after: number;
  revoked: boolean;
}

/** Makes a key. @returns its text, which nobody can make again, and what is kept of it */
export function newKey(): { text: string; hash: string } {
  const secret = randomBytes(SECRET_BYTES);
  return { text: PREFIX + Buffer.concat([secret, checksum(secret)]).toString('base64url'), hash: hashOf(secret) };
}

/** Whether a text means to be a key. */
export function looksLikeKey(text: string): boolean {
  return text.startsWith(PREFIX);
}

/** What is kept of the key with this text; null for a text that is none. */
export function keyHashOf(text: string): string | null {
  if (!looksLikeKey(text) || text.length !== CHARS) return null;
  const packed = Buffer.from(text.slice(PREFIX.length), 'base64url');
  const secret = packed.subarray(0, SECRET_BYTES);
  // Of several texts that are decoded alike only one is the key.
  if (packed.toString('base64url') !== text.slice(PREFIX.length)) return null;
  return checksum(secret).equals(packed.subarray(SECRET_BYTES)) ? hashOf(secret) : null;
}

/** Enough of a key's hash to tell two keys of one name apart. */
export function keyIdOf(hash: string): string {
  return hash.slice(0, KEY_ID_CHARS);
}

/** All keys of a mesh. */
export function keysIn(ledger: Ledger): KnownKey[] {
  return ledger.of('key').map((key) => {
    const { name, role, permits, hash, not_before, not_after } = key.said;
    return { name, role, permits, hash, not_before, not_after, revoked: ledger.keyState(key) === 'revoked' };
  });
}

/**
 * Tells all keys of the mesh now, and whenever one is new or ended: before who ended it is answered.
 *
 * @returns what ends that
 */
export function watchKeys(membership: Membership, tell: (keys: KnownKey[]) => void): () => void {
  let told: string | undefined;
  let digest: string | undefined;
  const look = () => {
    if (membership.ledger.digest() === digest) return;
    digest = membership.ledger.digest();
    const keys = keysIn(membership.ledger);
    const text = JSON.stringify(keys);
    if (text === told) return;
    told = text;
    tell(keys);
  };
  look();
  const stop = membership.onChange(look);
  // What a full disk did not take is known all the same, and nobody was told.
  const timer = setInterval(look, STANDING_CHECK_MS).unref();
  return () => {
    clearInterval(timer);
    stop();
  };
}

function checksum(secret: Uint8Array): Buffer {
  return createHash('sha256').update(PREFIX).update(secret).digest().subarray(0, CHECKSUM_BYTES);
}

function hashOf(secret: Uint8Array): string {
  return createHash('sha256').update(secret).digest('base64url');
}
