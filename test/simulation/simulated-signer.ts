/**
 * The Signer port in memory: deterministic, and unforgeable within the simulation, as only a peer's own signer can make
 * its signatures. It has a cheap hash in place of a key.
 */
import { createHash } from 'node:crypto';
import type { Signer } from '../../scheduler/ports.ts';

export function simulatedSigner(self: string): Signer {
  return {
    sign: (text) => signature(self, text),
    verify: (peer, text, given) => given === signature(peer, text),
  };
}

function signature(peer: string, text: string): string {
  return createHash('sha256').update(`a key of ${peer}\n${text}`).digest('base64url');
}
