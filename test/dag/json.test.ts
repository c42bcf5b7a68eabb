import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { anyJson, faultOf, jsonObject, limitErrorOf } from '../../dag/json.ts';
import { JSON_DEPTH_MAX, JSON_ELEMENTS_MAX, JSON_NAMES_MAX } from '../../dag/limits.ts';

const nested = (levels: number, open = '[', close = ']', inner = '') =>
  JSON.parse(`${open.repeat(levels)}${inner}${close.repeat(levels)}`);

describe('faultOf', () => {
  it('finds nothing wrong with JSON', () => {
    fc.assert(
      fc.property(
        fc.jsonValue(),
        (value) => faultOf(value) === undefined || JSON.stringify(value).includes('__proto__'),
      ),
    );
    expect(faultOf({ a: [1, 'x', null, true, { b: {} }], c: undefined })).toBeUndefined();
    expect(faultOf(Object.assign(Object.create(null), { a: 1 }))).toBeUndefined();
  });

  it.each([
    [{ inputs: { a: [1, 2, 3, Number.POSITIVE_INFINITY] } }, 'inputs.a[3]', /Infinity/],
    [[Number.NaN], '[0]', /NaN/],
    [{ a: { 'b c': new Date(0) } }, 'a["b c"]', /Date/],
    [{ a: [new Map()] }, 'a[0]', /Map/],
    [{ a: 1n }, 'a', /is 1, an integer that cannot be kept exactly/],
    [{ a: () => 1 }, 'a', /function/],
    [[undefined], '[0]', /missing/],
    [new Uint8Array(4), '', /Uint8Array/],
    [JSON.parse('{ "a": [{ "__proto__": { "polluted": true } }] }'), 'a[0].__proto__', /name that data cannot have/],
  ])('says what is no JSON and where: %o', (value, path, message) => {
    expect(faultOf(value)).toMatchObject({ kind: 'not_json', path, message: expect.stringMatching(message) });
  });

  it('bounds the depth, whatever it is made of', () => {
    expect(faultOf(nested(JSON_DEPTH_MAX))).toBeUndefined();
    const list = faultOf(nested(100_000));
    expect(list).toMatchObject({ kind: 'limit', limit: 'JSON_DEPTH_MAX', value: JSON_DEPTH_MAX + 1 });
    expect(faultOf(nested(100_000, '{"a":', '}', '1'))).toMatchObject({ limit: 'JSON_DEPTH_MAX' });
    const circle: unknown[] = [];
    circle.push(circle);
    expect(faultOf(circle)).toMatchObject({ limit: 'JSON_DEPTH_MAX' });
  });

  it('takes no more steps than the limit on values, also through shared parts', () => {
    expect(faultOf(Array(JSON_ELEMENTS_MAX - 1).fill(0))).toBeUndefined();
    expect(faultOf(Array(JSON_ELEMENTS_MAX).fill(0))).toMatchObject({
      limit: 'JSON_ELEMENTS_MAX',
      path: `[${JSON_ELEMENTS_MAX - 1}]`,
    });
    // Two to the power of a hundred values, if each were gone through.
    let laughs: unknown = 'ha';
    for (let level = 0; level < 100; level++) laughs = [laughs, laughs];
    expect(faultOf(laughs)).toMatchObject({ limit: 'JSON_ELEMENTS_MAX', value: JSON_ELEMENTS_MAX + 1 });
  });

  it('bounds the different names of fields: a row of equal ones is cheap', () => {
    const named = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, index) => [`n${index}`, 0]));
    expect(faultOf(named(JSON_NAMES_MAX))).toBeUndefined();
    expect(faultOf(named(JSON_NAMES_MAX + 1))).toMatchObject({ limit: 'JSON_NAMES_MAX' });
    expect(faultOf(Array.from({ length: 1.2 * JSON_NAMES_MAX }, () => ({ same: 0 })))).toBeUndefined();
  });

  it('counts the characters of a string each time that it is there', () => {
    const chars = { limit: 'SUBMISSION_BYTES_MAX', maximum: 1_000 };
    const long = 'x'.repeat(100);
    expect(faultOf(Array(10).fill(long), { chars })).toBeUndefined();
    expect(faultOf(Array(11).fill(long), { chars })).toMatchObject({ limit: 'SUBMISSION_BYTES_MAX', path: '[10]' });
  });

  it('is an error with the limit, the place and what to do', () => {
    const fault = faultOf({ a: nested(1_000) });
    if (fault?.kind !== 'limit') throw new Error('no limit was met');
    const error = limitErrorOf(fault, 'the input of task_submit');
    expect(error.toShape()).toMatchObject({
      code: 'LIMIT_EXCEEDED',
      retryable: false,
      details: { limit: 'JSON_DEPTH_MAX' },
    });
    expect(error.message).toMatch(/^the input of task_submit: nested too deep \(at a\[0\]\[0\].*Flatten it\.$/);
  });
});

describe('the schemas of JSON', () => {
  const schema = z.strictObject({ any: anyJson, object: jsonObject, maybe: anyJson.optional() });

  it('take what is there and do not look inside', () => {
    const deep = nested(100_000);
    expect(schema.parse({ any: null, object: { deep } }).object).toEqual({ deep: expect.anything() });
    expect(schema.safeParse({ object: [] }).error?.issues).toMatchObject([
      { path: ['any'], message: 'is missing' },
      { path: ['object'], message: 'must be an object' },
    ]);
  });

  it('are unconstrained in JSON Schema', () => {
    expect(z.toJSONSchema(schema).properties).toEqual({ any: {}, object: { type: 'object' }, maybe: {} });
  });
});
