/** A path that is resolved directly must be what JSONata answers. */
import fc from 'fast-check';
import jsonata from 'jsonata';
import { describe, expect, it } from 'vitest';
import type { JsonObject, JsonValue } from '../../dag/errors.ts';
import { holds, resolvePath } from '../../dag/expression.ts';

async function askJsonata(expression: string, scope: JsonObject): Promise<JsonValue> {
  const value: unknown = await jsonata(expression).evaluate(scope);
  return value === undefined ? null : (JSON.parse(JSON.stringify(value)) as JsonValue);
}

const scope: JsonObject = {
  input: {
    files: ['a', 'b'],
    none: [],
    one: [1],
    nested: [[1, 2], [3]],
    zero: 0,
    nil: null,
    true: 1,
    'a b': { c: 'x' },
  },
  steps: { count: { output: { items: [{ words: 3 }, { words: 4 }] }, status: 'completed' }, 'a-b': { output: 'dash' } },
  item: ['an', 'array'],
  index: 0,
};

describe('resolvePath', () => {
  it.each<[string, JsonValue]>([
    ['input.files', ['a', 'b']],
    ['input.files[1]', 'b'],
    ['input.none', []],
    ['input.one', [1]],
    ['input.nested[0]', [1, 2]],
    ['input.nested[0][1]', 2],
    ['input.zero', 0],
    ['input.nil', null],
    ['input.`a b`.c', 'x'],
    ['steps.count.output.items[1].words', 4],
    ['steps.count.status', 'completed'],
    ['steps.`a-b`.output', 'dash'],
    ['item', ['an', 'array']],
    [' index ', 0],
  ])('resolves %s as JSONata does', async (expression, expected) => {
    expect(resolvePath(expression, scope)).toEqual({ resolved: true, value: expected });
    expect(await askJsonata(expression, scope)).toEqual(expected);
  });

  it.each([
    'input.missing',
    'input.files.length',
    'steps.count.output.items.words',
    'input.files[-1]',
    'input.files[7]',
    'input.files[0.5]',
    'input.zero[0]',
    'input.nil.x',
    'input.true',
    'true',
    'input.toString',
    'input.',
    '.input',
    'input..files',
    'input.files[]',
    '$sum(input.one)',
    'input.zero + 1',
    '"input"',
    '$',
    '',
    'steps.a-b.output',
    'input.files[0]x',
  ])('leaves %s to JSONata', (expression) => {
    expect(resolvePath(expression, scope)).toEqual({ resolved: false });
  });

  it('answers what JSONata answers, for any data and any path', async () => {
    const key = fc.constantFrom('a', 'b', 'length', 'constructor', 'true', 'in', '__proto__', 'a-b', 'x y');
    const leaf = fc.constantFrom<JsonValue>(null, 0, 1, '', 'text', true, false, [], {}, [null], [[]]);
    const { value } = fc.letrec<{ value: JsonValue; list: JsonValue[]; object: JsonObject }>((tie) => ({
      value: fc.oneof({ depthSize: 'small' }, leaf, tie('list'), tie('object')),
      list: fc.array(tie('value'), { maxLength: 3 }),
      object: fc.dictionary(key, tie('value'), { maxKeys: 4 }).map((entries) => JSON.parse(JSON.stringify(entries))),
    }));
    const quoted = key.map((name) => (/^[a-z]+$/.test(name) ? name : `\`${name}\``));
    const forced = key.map((name) => `\`${name}\``);
    const indexes = fc.oneof(
      fc.constant(''),
      fc.constant(''),
      fc.constantFrom('[0]', '[1]', '[0][0]', '[-1]', '[1][0]'),
    );
    const part = fc.tuple(fc.oneof(quoted, forced), indexes).map(([name, at]) => name + at);
    const paths = fc.array(part, { maxLength: 3 }).map((parts) => ['input', ...parts].join('.'));
    let resolvedPaths = 0;
    await fc.assert(
      fc.asyncProperty(value, paths, indexes, async (input, path, at) => {
        const data: JsonObject = { input };
        const expression = path.replace(/^input/, `input${at}`);
        const direct = resolvePath(expression, data);
        if (!direct.resolved) return;
        resolvedPaths += 1;
        expect(direct.value).toEqual(await askJsonata(expression, data));
      }),
      { numRuns: 5_000 },
    );
    // The property says nothing if the paths never lead anywhere.
    expect(resolvedPaths).toBeGreaterThan(500);
  });
});

describe('holds', () => {
  it('is what $boolean answers, with false for null', async () => {
    const values = fc.jsonValue({ maxDepth: 3 }).map((value) => JSON.parse(JSON.stringify(value)) as JsonValue);
    const cases = fc.oneof(
      values,
      fc.constantFrom<JsonValue>([], [0], [[]], [0, 1], [false, ''], {}, '', '0', [[0, [1]]]),
    );
    await fc.assert(
      fc.asyncProperty(cases, async (x) => {
        expect(holds(x)).toBe((await askJsonata('$boolean(x)', { x })) ?? false);
      }),
      { numRuns: 1_000 },
    );
  });
});
