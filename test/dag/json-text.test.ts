import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseJson, readJson } from '../../dag/json-text.ts';
import { JSON_DEPTH_MAX, JSON_ELEMENTS_MAX } from '../../dag/limits.ts';

const BIG = '3544790567247868102';

describe('parseJson', () => {
  it('reads what JSON.parse reads', () => {
    const noProto = fc.jsonValue().filter((value) => !JSON.stringify(value).includes('__proto__'));
    const spaces = fc.constantFrom(undefined, 1, '\t');
    fc.assert(
      fc.property(noProto, spaces, (value, space) => {
        const text = JSON.stringify(value, null, space);
        expect(parseJson(text)).toEqual({ value: JSON.parse(text) });
        expect(parseJson(text, { bigNumbers: 'string' })).toEqual({ value: JSON.parse(text) });
      }),
    );
  });

  it.each(['', '{', '[1,]', '{"a":1,}', 'nul', '"open', '1 2', '{a:1}', '[1'])('refuses %j', (text) => {
    expect(() => parseJson(text)).toThrow(SyntaxError);
  });

  it.each([
    [BIG, ''],
    [`{"user":{"ids":[1,${BIG}]}}`, 'user.ids[1]'],
    [`{"a":"x","b c":-${BIG}}`, 'b c'],
    [`{"a\\"]":["${BIG}",{"n" : ${BIG} }]}`, 'a"][1].n'],
    [`[{"a":[1,2],"b":{}},[[],{}],${BIG},${BIG}]`, '[2]'],
    ['[100000000000000000000000]', '[0]'],
  ])('refuses an integer that would change, and says where: %s', (text, path) => {
    expect(parseJson(text)).toMatchObject({
      fault: { kind: 'not_json', path, message: expect.stringMatching(/cannot be kept exactly; write it as a string/) },
    });
  });

  it.each([
    ['9007199254740993', '9007199254740993'],
    ['[-9007199254740993, 1]', ['-9007199254740993', 1]],
    [`{"a":${BIG},"b":{"c":[${BIG}]},"d":"${BIG}"}`, { a: BIG, b: { c: [BIG] }, d: BIG }],
    [`[${'9'.repeat(400)}]`, undefined],
  ])('keeps it as a string where that is wanted: %s', (text, value) => {
    const read = parseJson(text, { bigNumbers: 'string' });
    if (value === undefined) expect(read).toMatchObject({ fault: { path: '[0]' } });
    else expect(read).toEqual({ value });
  });

  it.each([
    '9007199254740992',
    '9007199254740994',
    '3544790567247868000',
    '10000000000000000000000',
    '1.0',
    '0.1',
    '1e21',
    '3544790567247868102.5',
    '3.5447905672478681e18',
  ])('takes the number %s, which comes out as it went in or is a measure', (text) => {
    expect(parseJson(text)).toEqual({ value: Number(text) });
  });

  it('refuses what is larger than any number', () => {
    expect(parseJson('{"a":[1e400]}')).toMatchObject({
      fault: { path: 'a[0]', message: expect.stringMatching(/Infinity/) },
    });
    expect(parseJson('{"a":-1e400}', { bigNumbers: 'string' })).toMatchObject({ fault: { path: 'a' } });
    expect(parseJson(`[${'9'.repeat(400)}]`)).toMatchObject({ fault: { path: '[0]' } });
  });

  it('finds any integer that would change', () => {
    const integer = fc.bigInt({ min: -(2n ** 70n), max: 2n ** 70n });
    const tree = fc.letrec<{ tree: unknown }>((tie) => ({
      tree: fc.oneof(
        { depthSize: 'small' },
        integer.map((n) => ({ n })),
        fc.string(),
        fc.array(tie('tree'), { maxLength: 3 }),
        fc.dictionary(fc.string(), tie('tree'), { maxKeys: 3 }),
      ),
    })).tree;
    const textOf = (value: unknown): string => {
      if (Array.isArray(value)) return `[${value.map(textOf).join(', ')}]`;
      if (value === null || typeof value !== 'object') return JSON.stringify(value);
      return `{${Object.entries(value)
        .map(([key, item]) => `${JSON.stringify(key)} : ${typeof item === 'bigint' ? item : textOf(item)}`)
        .join(',')}}`;
    };
    fc.assert(
      fc.property(tree, (value) => {
        const text = textOf(value);
        const integers = [...text.replaceAll(/"(?:[^"\\]|\\.)*"/g, '""').matchAll(/-?\d+/g)].map(([each]) => each);
        const lost = integers.some((each) => BigInt(Number(each)) !== BigInt(each) && String(Number(each)) !== each);
        if (text.includes('__proto__')) return;
        expect('fault' in parseJson(text)).toBe(lost);
        expect('value' in parseJson(text, { bigNumbers: 'string' })).toBe(true);
      }),
      { numRuns: 500 },
    );
  });

  it('counts depth and values before it makes any', () => {
    expect(parseJson('['.repeat(4_000_000))).toMatchObject({
      fault: { kind: 'limit', limit: 'JSON_DEPTH_MAX', value: JSON_DEPTH_MAX + 1, path: '[0]'.repeat(JSON_DEPTH_MAX) },
    });
    const deepest = `${'['.repeat(JSON_DEPTH_MAX)}${']'.repeat(JSON_DEPTH_MAX)}`;
    expect(parseJson(deepest)).toHaveProperty('value');
    const most = `[${'{},'.repeat(JSON_ELEMENTS_MAX - 2)}"a"]`;
    expect(parseJson(most)).toHaveProperty('value');
    expect(parseJson(most.replace('[', '[null,'))).toMatchObject({ fault: { limit: 'JSON_ELEMENTS_MAX' } });
    const fields = `{"a":[${'{"b":true,"c":"d"},'.repeat(1_000_000)}`;
    expect(parseJson(fields)).toMatchObject({
      fault: { limit: 'JSON_ELEMENTS_MAX', path: expect.stringMatching(/^a\[\d+\]/) },
    });
  });

  it('refuses a name that data cannot have', () => {
    expect(parseJson('{"a":{"__proto__":1}}')).toMatchObject({ fault: { path: 'a.__proto__' } });
    expect(parseJson('{"a":{"\\u005f_proto__":1}}')).toMatchObject({ fault: { path: 'a.__proto__' } });
  });
});

it('readJson leaves what is wrong with a part to those who check the part', () => {
  const text = `{"id":1,"params":{"arguments":{"payload":{"n":${BIG}}}}}`;
  expect(readJson(text)).toEqual({ value: { id: 1, params: { arguments: { payload: { n: BigInt(BIG) } } } } });
});
