/**
 * The Signer port: signatures with the key that a peer's id is made of (Ed25519, RFC 8032). `node:crypto` signs in
 * about 50 µs and verifies in about 150 µs, where the library that makes the ids takes several times as long.
 */
import { createPrivateKey, createPublicKey, type KeyObject, sign, verify } from 'node:crypto';
import type { Ed25519PrivateKey } from '@libp2p/interface';
import { peerIdFromString } from '@libp2p/peer-id';
import type { Signer } from '../../scheduler/ports.ts';

/** Public keys that are kept ready for use. */
const KEYS_MAX = 1_024;
/** A raw private key of libp2p is the 32 bytes of the secret, then those of the public key. */
const SECRET_BYTES = 32;

/** For an open mesh, where everybody who connects is a member: signs nothing, and has nothing to check. */
export const OPEN_SIGNER: Signer = { sign: () => null, verify: () => true };

/** Signs as the peer with this key, and checks what other peers have signed. */
export function createSigner(key: Ed25519PrivateKey): Signer {
  const secret = key.raw.subarray(0, SECRET_BYTES);
  const own = createPrivateKey({
    key: { ...PUBLIC_PART, x: base64url(key.publicKey.raw), d: base64url(secret) },
    format: 'jwk',
  });
  /** By peer id; null for a peer whose id has no such key. */
  const known = new Map<string, KeyObject | null>();
  const keyOf = (peer: string): KeyObject | null => {
    const found = known.get(peer);
    if (found !== undefined) return found;
    const made = publicKeyOf(peer);
    known.set(peer, made);
    if (known.size > KEYS_MAX) known.delete(known.keys().next().value!);
    return made;
  };
  return {
    sign: (text) => sign(null, Buffer.from(text), own).toString('base64url'),
    verify(peer, text, signature) {
      if (typeof signature !== 'string') return false;
      const of = keyOf(peer);
      return of !== null && verify(null, Buffer.from(text), of, Buffer.from(signature, 'base64url'));
    },
  };
}

const PUBLIC_PART = { kty: 'OKP', crv: 'Ed25519' };

function publicKeyOf(peer: string): KeyObject | null {
  try {
    const { publicKey } = peerIdFromString(peer);
    if (publicKey?.type !== 'Ed25519') return null;
    return createPublicKey({ key: { ...PUBLIC_PART, x: base64url(publicKey.raw) }, format: 'jwk' });
  } catch {
    return null; // it is no peer id
  }
}

function base64url(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64url');
}
