import fc from 'fast-check';
import { expect, it } from 'vitest';
import { BoundedLines } from '../../node/mcp/lines.ts';

it('lines are the same however the bytes arrive, and only those over the bound lose their middle', () => {
  const text = fc.oneof(fc.string({ unit: 'grapheme', maxLength: 40 }), fc.string({ minLength: 60, maxLength: 5_000 }));
  const line = text.map((chars) => chars.replaceAll(/[\r\n]/g, ' '));
  fc.assert(
    fc.property(fc.array(line), fc.array(fc.nat(500)), (texts, cuts) => {
      const lines = new BoundedLines(64);
      const found = [...pieces(Buffer.from(texts.map((each) => `${each}\n`).join('')), cuts)].flatMap((piece) => [
        ...lines.push(piece),
      ]);
      expect(found).toEqual(
        texts.map((each) => {
          const bytes = Buffer.from(each);
          if (bytes.length <= 64) return { text: each };
          const tail = bytes.subarray(Math.max(0, bytes.length - 1_024));
          const ends = { head: String(bytes.subarray(0, 1_024)), tail: String(tail) };
          return {
            tooLong: expect.objectContaining({ ...headOf(ends), tail: ends.tail, bytes: bytes.length, bytesMax: 64 }),
          };
        }),
      );
    }),
  );
});

/** The head is what had arrived when the bound was passed, or more of it: at least its first bytes. */
function headOf({ head }: { head: string }) {
  return { head: expect.stringContaining(head.slice(0, 20)) };
}

function* pieces(bytes: Buffer, cuts: number[]): Generator<Buffer> {
  let from = 0;
  for (const cut of cuts) {
    yield bytes.subarray(from, from + cut);
    from += cut;
  }
  yield bytes.subarray(from);
}
