/** P7: no error is larger than a record can carry, whatever it was made of; what was cut says so. */
import { describe, expect, it } from 'vitest';
import {
  boundedError,
  cutText,
  ERROR_CODE_CHARS_MAX,
  ERROR_DETAILS_CHARS_MAX,
  ERROR_MESSAGE_CHARS_MAX,
  ERROR_TEXT_CHARS_MAX,
  errorShape,
  FlowmeshError,
  type JsonValue,
  RemoteError,
  thrownText,
} from '../../dag/errors.ts';
import { jsonBytes } from '../../dag/limits.ts';
import { resultRequestSchema } from '../../scheduler/messages.ts';

const HUGE = 'x'.repeat(20_000_000);

describe('a text', () => {
  it('that fits stays as it is', () => {
    expect(cutText('short')).toBe('short');
    expect(cutText('x'.repeat(ERROR_TEXT_CHARS_MAX))).toHaveLength(ERROR_TEXT_CHARS_MAX);
  });

  it('that does not keeps its beginning and says how much is missing', () => {
    const text = cutText(HUGE);
    expect(text.length).toBeLessThanOrEqual(ERROR_TEXT_CHARS_MAX);
    const [, kept, leftOut] = /^(x+)… \((.*) characters left out\)$/.exec(text)!;
    expect(kept!.length + Number(leftOut!.replaceAll(',', ''))).toBe(HUGE.length);
    expect(cutText(text)).toBe(text);
  });

  it('is not cut inside of a character', () => {
    for (const charsMax of [60, 61]) expect(cutText('😀'.repeat(100), charsMax).isWellFormed()).toBe(true);
  });
});

describe('an error', () => {
  it.each([
    ['made here', new FlowmeshError('ANY', HUGE).toShape()],
    ['of another peer', new RemoteError({ code: HUGE, message: HUGE, retryable: true }).toShape()],
    ['of code that is not ours', errorShape(new Error(HUGE))],
    ['thrown as a text', errorShape(HUGE)],
    ['in a message', boundedError({ code: 'ANY', message: HUGE, retryable: false })],
  ])('%s has a bounded message', (_how, { code, message }) => {
    expect(code.length).toBeLessThanOrEqual(ERROR_CODE_CHARS_MAX);
    expect(message.length).toBeLessThanOrEqual(ERROR_MESSAGE_CHARS_MAX);
    expect(message).toMatch(/characters left out\)$/);
  });

  it('keeps details that fit as they are', () => {
    const details = { expression: 'a', position: 3, deep: { list: [1, 'two', null, { three: true }] } };
    expect(new FlowmeshError('ANY', 'why', { details }).details).toEqual(details);
    expect(new FlowmeshError('ANY', 'why').toShape()).toEqual({ code: 'ANY', message: 'why', retryable: false });
  });

  let deep: JsonValue = [];
  for (let level = 0; level < 100_000; level++) deep = [deep];
  it.each<[string, JsonValue]>([
    ['long', HUGE],
    ['wide', Array.from({ length: 100_000 }, (_, n) => ({ n }))],
    ['deep', deep],
    ['of many fields', Object.fromEntries(Array.from({ length: 100_000 }, (_, n) => [`field ${n}`, n]))],
    ['of a long name', { [HUGE]: 1 }],
    ['of a name that is no field', JSON.parse('{ "__proto__": { "polluted": true } }')],
  ])('has bounded details, which say that something is missing: %s', (_what, value) => {
    const { details } = new FlowmeshError('ANY', 'why', { details: { first: 1, value } });
    expect(jsonBytes(details)).toBeLessThan(ERROR_DETAILS_CHARS_MAX + 1_000);
    expect(details).toMatchObject({ first: 1 });
    expect(JSON.stringify(details)).toMatch(/characters left out\)|"left_out":\d+/);
  });

  it('that another peer reports of a task is bounded before it is part of a record', () => {
    const token = { uid: 'u', feed_id: 'f', epoch: 1, attempt: 1 };
    const error = { code: 'ANY', message: HUGE, retryable: true, details: { text: HUGE } };
    const line = { at: '', attempt: 1, stream: 'log', line: HUGE };
    const result = { ...token, status: 'failed', output: null, error, execution_time_ms: 1, lines: [line] };
    const parsed = resultRequestSchema.parse({ results: [{ ...result, dropped_lines: 0 }] });
    expect(JSON.stringify(parsed).length).toBeLessThan(ERROR_MESSAGE_CHARS_MAX + ERROR_DETAILS_CHARS_MAX);
  });
});

describe('something thrown', () => {
  const hostile = new Proxy(() => {}, {
    get() {
      throw new Error('not to be read');
    },
    getPrototypeOf() {
      throw new Error('not to be asked');
    },
  });
  const throwing = {
    toString() {
      throw new Error('no text');
    },
  };
  const objection = {
    get message() {
      throw new Error('no message');
    },
  };
  it.each<[string, unknown, RegExp]>([
    ['an error', new TypeError('no paper'), /^no paper$/],
    ['an error without a message', new TypeError(), /^TypeError$/],
    ['a text', 'no paper', /^no paper$/],
    ['undefined', undefined, /^undefined$/],
    ['a symbol', Symbol('paper'), /^Symbol\(paper\)$/],
    ['an object without a prototype', Object.create(null), /has no text \(object\)/],
    ['an object whose toString throws', throwing, /has no text \(object\)/],
    ['an object whose message throws', objection, /has no text \(object\)/],
    ['a proxy that throws', hostile, /has no text \(function\)/],
  ])('has words: %s', (_what, thrown, words) => {
    expect(thrownText(thrown)).toMatch(words);
    expect(errorShape(thrown)).toMatchObject({ code: 'INTERNAL', message: expect.stringMatching(words) });
  });
});
