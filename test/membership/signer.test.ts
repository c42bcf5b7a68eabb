import { generateKeyPair } from '@libp2p/crypto/keys';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import { expect, test } from 'vitest';
import { signingKeyOf } from '../../node/membership/keys.ts';
import { createSigner, OPEN_SIGNER } from '../../node/membership/signer.ts';
import { signerCompliance } from '../compliance/signer.ts';

async function twoPeers() {
  const keys = await Promise.all([generateKeyPair('Ed25519'), generateKeyPair('Ed25519')]);
  const signers = new Map(keys.map((key) => [peerIdFromPrivateKey(key).toString(), createSigner(signingKeyOf(key))]));
  const [a, b] = [...signers.keys()];
  return { peers: [a!, b!] as const, of: (peer: string) => signers.get(peer)! };
}

signerCompliance('the signer of a secured mesh', twoPeers);

test('a signature is the same as that of the library which makes the keys', async () => {
  const key = await generateKeyPair('Ed25519');
  const peer = peerIdFromPrivateKey(key).toString();
  const signature = Buffer.from(await key.sign(Buffer.from('text'))).toString('base64url');
  expect(createSigner(signingKeyOf(key)).verify(peer, 'text', signature)).toBe(true);
  expect(createSigner(signingKeyOf(key)).sign('text')).toBe(signature);
});

test('in an open mesh nothing is signed, and nothing is doubted', () => {
  expect(OPEN_SIGNER.sign('text')).toBeNull();
  expect(OPEN_SIGNER.verify('anybody', 'text', undefined)).toBe(true);
});
