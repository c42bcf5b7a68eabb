/** What every Signer keeps to. `of` gives the signer of a peer, always the same for the same name. */
import { describe, expect, test } from 'vitest';
import type { Signer } from '../../scheduler/ports.ts';

export interface SignerWorld {
  /** Ids of two peers. */
  peers: readonly [string, string];
  of(peer: string): Signer;
}

const TEXT = 'flowmesh/1\nresult\nuid\nfeed\n1.2\nhash';

export function signerCompliance(name: string, open: () => Promise<SignerWorld>): void {
  describe(`${name} is a Signer`, () => {
    test('what a peer signs is its own by everybody', async () => {
      const { peers, of } = await open();
      const [a, b] = peers;
      const signature = of(a).sign(TEXT);
      expect(signature).toMatch(/^[\w-]+$/);
      expect(of(a).verify(a, TEXT, signature)).toBe(true);
      expect(of(b).verify(a, TEXT, signature)).toBe(true);
    });

    test('it is not that of another peer, of another text, or of nobody', async () => {
      const { peers, of } = await open();
      const [a, b] = peers;
      const signature = of(a).sign(TEXT)!;
      expect(of(b).verify(b, TEXT, signature)).toBe(false);
      expect(of(b).verify(a, `${TEXT} `, signature)).toBe(false);
      expect(of(b).verify('nobody', TEXT, signature)).toBe(false);
    });

    test('what is no signature is none, and never throws', async () => {
      const { peers, of } = await open();
      const [a, b] = peers;
      const altered = of(a)
        .sign(TEXT)!
        .replace(/^./, (first) => (first === 'A' ? 'B' : 'A'));
      for (const none of [altered, '', 'x', '!', null, undefined]) {
        expect(of(b).verify(a, TEXT, none)).toBe(false);
      }
    });
  });
}
