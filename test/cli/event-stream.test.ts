import { expect, it } from 'vitest';
import { eventsOf } from '../../node/cli/event-stream.ts';

async function read(text: string, bytesEach: number): Promise<string[]> {
  const bytes = new TextEncoder().encode(text);
  async function* pieces() {
    for (let at = 0; at < bytes.length; at += bytesEach) yield bytes.subarray(at, at + bytesEach);
  }
  const events: string[] = [];
  for await (const event of eventsOf(pieces())) events.push(event);
  return events;
}

const STREAM = [
  ': a comment\n\nevent: message\r\nid: 1\r\ndata: {"é":1}\r\n\r\n',
  'data:\n\ndata: {"a":\ndata: 2}\n\nretry: 5\n\ndata: {"b":3}\n\ndata: not ended',
].join('');

it.each([1, 2, 3, 7, 1_000])(
  'events are the same in pieces of %i bytes; one that has not ended is none',
  async (bytes) => {
    expect(await read(STREAM, bytes)).toEqual(['{"é":1}', '', '{"a":\n 2}', '{"b":3}']);
  },
);

it('a line of many pieces is gone through once', async () => {
  const long = 'x'.repeat(2_000_000);
  // Gone through at each piece, it would be a terabyte.
  expect(await read(`data: ${long}\n\n`, 2)).toEqual([long]);
});
