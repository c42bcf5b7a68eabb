/**
 * Ed25519 keys as this folder uses them: raw public keys and PeerIds, which for Ed25519 contain the public key
 * (RFC 8032; libp2p peer-ids specification). Everything that a mesh signs is a statement, and begins with DOMAIN, so
 * that no signature means anything elsewhere.
 */
import { createPrivateKey, createPublicKey, type KeyObject, randomBytes, sign, verify } from 'node:crypto';
import type { PrivateKey } from '@libp2p/interface';
import { peerIdFromString } from '@libp2p/peer-id';

const PUBLIC_BYTES = 32;
const SEED_BYTES = 32;
export const SIGNATURE_BYTES = 64;
const PUBLIC_KEYS_CACHED_MAX = 2_048;

/** What signs: a root, an invite, or a peer with its identity key. */
export interface SigningKey {
  /** 32 bytes. */
  readonly publicKey: Uint8Array;
  sign(bytes: Uint8Array): Uint8Array;
}

export function newSigningKey(): SigningKey & { seed: Uint8Array } {
  const seed = randomBytes(SEED_BYTES);
  return { ...signingKey(seed), seed };
}

/** PKCS #8 of an Ed25519 seed (RFC 8410): this head, then the seed. */
const PKCS8_HEAD = Buffer.from('302e020100300506032b657004220420', 'hex');

/** @param seed 32 bytes: the private key of RFC 8032 */
export function signingKey(seed: Uint8Array): SigningKey {
  const der = Buffer.concat([PKCS8_HEAD, seed.subarray(0, SEED_BYTES)]);
  const privateKey = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
  const publicKey = Buffer.from(createPublicKey(privateKey).export({ format: 'jwk' }).x!, 'base64url');
  return { publicKey, sign: (bytes) => sign(null, bytes, privateKey) };
}

/** The identity key of a peer as what signs. @throws TypeError for a key that is not Ed25519 */
export function signingKeyOf(identity: PrivateKey): SigningKey {
  if (identity.type !== 'Ed25519') throw new TypeError(`a ${identity.type} key cannot sign for a mesh`);
  // libp2p's raw form: the seed, then the public key.
  return signingKey(identity.raw);
}

/** Whether the key signed just these bytes. False for what is no key or no signature. */
export function isSignedBy(publicKey: Uint8Array, bytes: Uint8Array, signature: Uint8Array): boolean {
  if (publicKey.byteLength !== PUBLIC_BYTES || signature.byteLength !== SIGNATURE_BYTES) return false;
  return verify(null, bytes, keyObject(publicKey), signature);
}

const peerKeys = new Map<string, Uint8Array | null>();

/** The public key inside a PeerId; null when it has none or is none. */
export function publicKeyOf(peer: string): Uint8Array | null {
  const known = peerKeys.get(peer);
  if (known !== undefined) return known;
  const found = readPublicKey(peer);
  remember(peerKeys, peer, found);
  return found;
}

function readPublicKey(peer: string): Uint8Array | null {
  try {
    const id = peerIdFromString(peer);
    return id.type === 'Ed25519' ? id.publicKey.raw : null;
  } catch {
    return null; // Whoever names it learns that nobody of this name can have signed.
  }
}

const keyObjects = new Map<string, KeyObject>();

function keyObject(publicKey: Uint8Array): KeyObject {
  const x = Buffer.from(publicKey).toString('base64url');
  const known = keyObjects.get(x);
  if (known !== undefined) return known;
  const made = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' });
  remember(keyObjects, x, made);
  return made;
}

function remember<T>(cache: Map<string, T>, key: string, value: T): void {
  if (cache.size >= PUBLIC_KEYS_CACHED_MAX) cache.delete(cache.keys().next().value!);
  cache.set(key, value);
}
