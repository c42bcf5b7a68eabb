import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { Packr } from 'msgpackr/pack';
import { describe, expect, test } from 'vitest';
import { JSON_NAMES_MAX } from '../../dag/limits.ts';
import {
  FRAME_BYTES_TARGET,
  FrameReader,
  MalformedFrameError,
  type Message,
  Outbox,
  packMessage,
  takeFrame,
} from '../../node/p2p/frames.ts';
import { FRAME_DEPTH_MAX, FRAME_ELEMENTS_MAX } from '../../node/p2p/packed.ts';

const json = fc.jsonValue().filter((value) => !JSON.stringify(value).includes('__proto__'));
const message = fc.oneof(
  fc.record({ id: fc.integer({ min: 1 }), method: fc.stringMatching(/^[a-z]{1,20}$/), params: json }),
  fc.record({ id: fc.integer({ min: 1 }), result: json }),
  fc.record({ method: fc.stringMatching(/^[a-z]{1,20}$/), params: json }),
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
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value));

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
    ['ends in the middle of a value', frame(Buffer.from([0x92, 0x01]))],
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

test('a frame is decoded only when what it becomes is bounded', () => {
  const reading = (body: Uint8Array) => () => new FrameReader().push(frame(body));
  const maps = (count: number) => {
    const list = Buffer.alloc(count, 0x80);
    const head = Buffer.from([
      0x82,
      0xa6,
      ...Buffer.from('method'),
      0xa1,
      0x78,
      0xa6,
      ...Buffer.from('params'),
      0xdd,
      0,
      0,
      0,
      0,
    ]);
    head.writeUInt32BE(count, head.length - 4);
    return Buffer.concat([head, list]);
  };
  expect(reading(maps(1_000_000))).toThrow(`more than ${FRAME_ELEMENTS_MAX} values`);
  expect(reading(Buffer.alloc(1_000_000, 0x80))).toThrow(`more than ${FRAME_ELEMENTS_MAX} values`);
  expect(reading(maps(1_000))()).toMatchObject([{ method: 'x', params: { length: 1_000 } }]);
  // A length that is only announced costs nothing.
  expect(reading(maps(1_000).subarray(0, 500))).toThrow('ends in the middle');
  expect(reading(Buffer.from([0xdd, 0xff, 0xff, 0xff, 0xff]))).toThrow(MalformedFrameError);
  expect(reading(Buffer.alloc(500_000, 0x91))).toThrow(`nests more than ${FRAME_DEPTH_MAX} levels`);
  let deep: unknown = 1;
  for (let level = 1; level < FRAME_DEPTH_MAX; level++) deep = [deep];
  expect(reading(packMessage({ method: 'x', params: deep }))()).toHaveLength(1);
  expect(reading(packMessage({ method: 'x', params: [deep] }))).toThrow(MalformedFrameError);
});

test('a frame has no more different names of fields than a value may have', () => {
  const named = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, index) => [`n${index}`, 0]));
  const read = (params: unknown) => new FrameReader().push(frame(packMessage({ method: 'x', params })));
  expect(read(named(JSON_NAMES_MAX))).toHaveLength(1);
  expect(read(Array.from({ length: 2 * JSON_NAMES_MAX }, () => ({ same: 0 })))).toHaveLength(1);
  expect(() => read(named(2 * JSON_NAMES_MAX))).toThrow(/names of fields/);
});

test.each([
  ['a number that is not finite', [Number.NaN], 'not finite'],
  ['an infinite number', { a: Number.NEGATIVE_INFINITY }, 'not finite'],
  ['an integer that cannot be kept', [2n ** 60n], 'cannot be kept exactly'],
  ['a negative one', [-(2n ** 60n)], 'cannot be kept exactly'],
  ['bytes', { a: new Uint8Array(3) }, 'something else than JSON'],
  ['a date', [new Date(0)], 'something else than JSON'],
  ['a name that data cannot have', JSON.parse('{"a":{"__proto__":1}}'), '__proto__'],
  ['a field without a name', new Map([[1, 2]]), 'a field has no name'],
])('a frame with what is no JSON is malformed: %s', (_, params, reason) => {
  const body = new Packr({ useRecords: false, variableMapSize: true, mapsAsObjects: true }).pack({
    method: 'x',
    params,
  });
  expect(() => new FrameReader().push(frame(body))).toThrow(reason);
});

test('what a field leaves undefined travels', () => {
  const [message] = new FrameReader().push(
    frame(packMessage({ method: 'x', params: { a: undefined, b: [1.5, -7, 2 ** 40, 'ü'] } })),
  );
  expect(message!.params).toEqual({ a: undefined, b: [1.5, -7, 2 ** 40, 'ü'] });
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
