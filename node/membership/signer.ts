/** The Signer port: signatures with the key that a peer's id is made of (Ed25519, RFC 8032). */
import type { Signer } from '../../scheduler/ports.ts';
import { isSignedBy, publicKeyOf, type SigningKey } from './keys.ts';

/** For an open mesh, where everybody who connects is a member: signs nothing, and has nothing to check. */
export const OPEN_SIGNER: Signer = { sign: () => null, verify: () => true };

/** Signs as the peer with this identity key, and checks what other peers have signed. */
export function createSigner(key: SigningKey): Signer {
  return {
    sign: (text) => Buffer.from(key.sign(Buffer.from(text))).toString('base64url'),
    verify(peer, text, signature) {
      if (typeof signature !== 'string') return false;
      const of = publicKeyOf(peer);
      return of !== null && isSignedBy(of, Buffer.from(text), Buffer.from(signature, 'base64url'));
    },
  };
}
