import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { Packr } from 'msgpackr/pack';
import { describe, expect, test } from 'vitest';
import {
  FRAME_BYTES_TARGET,
  FrameReader,
  MalformedFrameError,
  type Message,
  Outbox,
  packMessage,
  takeFrame,
} from '../../node/p2p/frames.ts';

const message = fc.oneof(
  fc.record({ id: fc.integer({ min: 1 }), method: fc.stringMatching(/^[a-z]{1,20}$/), params: fc.jsonValue() }),
  fc.record({ id: fc.integer({ min: 1 }), result: fc.jsonValue() }),
  fc.record({ method: fc.stringMatching(/^[a-z]{1,20}$/), params: fc.jsonValue() }),
) as fc.Arbitrary<Message>;

function framesOf(messages: readonly Message[]): { bytes: Buffer; frames: number } {
  const outbox = new Outbox();
  for (const one of messages) outbox.push(packMessage(one));
  const chunks: Uint8Array[] = [];
  let frames = 0;
  for (; !outbox.empty; frames++) chunks.push(...takeFrame(outbox));
  expect(outbox.bytes).toBe(0);
  return { bytes: Buffer.concat(chunks), frames };
}

/** As JSON says it: msgpack keeps -0 and the order of keys, which JSON equality does not ask for. */
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value).replaceAll('__proto__', '__proto_'));

function frame(body: Uint8Array): Buffer {
  const header = Buffer.alloc(4);
  header.writeUInt32BE(body.byteLength);
  return Buffer.concat([header, body]);
}

describe('frames', () => {
  test('messages come out as they went in, wherever the stream is cut into chunks', () => {
    fc.assert(
      fc.property(fc.array(message, { minLength: 1, maxLength: 20 }), fc.array(fc.nat(500)), (messages, cuts) => {
        const { bytes } = framesOf(messages);
        const reader = new FrameReader();
        const read: Message[] = [];
        let at = 0;
        for (const size of cuts) {
          if (at >= bytes.byteLength) break;
          read.push(...reader.push(bytes.subarray(at, at + size + 1)));
          at += size + 1;
        }
        if (at < bytes.byteLength) read.push(...reader.push(bytes.subarray(at)));
        expect(plain(read)).toEqual(plain(messages));
      }),
    );
  });

  test('any bytes are messages or malformed, never another error', () => {
    const packr = new Packr({ useRecords: true });
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 300 }),
      fc.uint8Array({ minLength: 1, maxLength: 300 }).map(frame),
      fc.jsonValue().map((value) => frame(packr.pack(value))),
    );
    fc.assert(
      fc.property(bytes, (chunk) => {
        try {
          new FrameReader().push(chunk);
        } catch (error) {
          expect(error).toBeInstanceOf(MalformedFrameError);
        }
      }),
      { numRuns: 500 },
    );
  });

  test('small messages share a frame up to its target size; a large one travels alone', () => {
    const small = { method: 'note', params: 'x'.repeat(1_000) };
    const large = { method: 'note', params: 'x'.repeat(2 * FRAME_BYTES_TARGET) };
    expect(framesOf(Array(10).fill(small)).frames).toBe(1);
    expect(framesOf(Array(130).fill(small)).frames).toBe(3);
    expect(framesOf([small, large, small]).frames).toBe(3);
  });

  test.each([
    ['is empty', Buffer.alloc(4)],
    ['announced', Buffer.from([0xff, 0xff, 0xff, 0xff])],
    ['not msgpack', frame(Buffer.from([0x92, 0x01]))],
    ['not a map', frame(packMessage(7 as unknown as Message))],
    ['neither id nor method', frame(packMessage({ params: 1 }))],
    ['positive integer', frame(packMessage({ id: -1, method: 'x' }))],
    ['name of 1 to 64', frame(packMessage({ id: 1, method: 'x'.repeat(65) }))],
    ['no code', frame(packMessage({ id: 1, error: 'broken' as never }))],
  ])('says what is malformed: %s', (reason, bytes) => {
    const read = () => new FrameReader().push(bytes);
    expect(read).toThrow(MalformedFrameError);
    expect(read).toThrow(reason);
  });

  test('a frame over the limit is refused by its header, before its bytes are kept', () => {
    const reader = new FrameReader(100);
    expect(() => reader.push(Buffer.from([0, 0, 0, 101]))).toThrow(MalformedFrameError);
    expect(new FrameReader(101).push(Buffer.from([0, 0, 0, 101]))).toEqual([]);
  });
});

test('what is kept of a message does not keep the rest of it in memory', () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const items = Array.from({ length: 100 }, (_, n) => `${n}`.padStart(100, 'x'));
  const read = (id: number) => {
    const { bytes } = framesOf([{ id, method: 'lease', params: { uid: `${id}`.padStart(20, 'u'), items } }]);
    const [message] = new FrameReader().push(bytes);
    return (message!.params as { uid: string }).uid;
  };
  read(1);
  collect();
  const before = process.memoryUsage().heapUsed;
  const kept = Array.from({ length: 1_000 }, (_, index) => read(index + 1));
  collect();
  expect((process.memoryUsage().heapUsed - before) / kept.length).toBeLessThan(1_000);
});
