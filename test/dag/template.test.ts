import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { JsonValue } from '../../dag/errors.ts';
import { compileTemplate, fillTemplate, InvalidExpressionError } from '../../dag/expression.ts';
import { EXPRESSION_CHARS_MAX } from '../../dag/limits.ts';

function fill(value: JsonValue, values: Record<string, JsonValue>): JsonValue {
  return fillTemplate(compileTemplate(value), new Map(Object.entries(values)));
}

describe('templates', () => {
  it('keeps the type of a value that stands alone', () => {
    expect(fill('${ x }', { x: [1, { a: null }] })).toEqual([1, { a: null }]);
    expect(fill('${x}', { x: 3 })).toBe(3);
    expect(fill('${ missing }', {})).toBeNull();
  });

  it('writes a value into a longer string', () => {
    const values = { s: 'text', n: 3, o: { a: [1] }, z: null, f: false };
    expect(fill('<${ s }|${ n }|${ o }|${ z }|${ none }|${ f }>', values)).toBe('<text|3|{"a":[1]}|||false>');
    expect(fill(' ${ n }', values)).toBe(' 3');
  });

  it('fills values, not keys, at any depth', () => {
    expect(fill({ '${ k }': ['a', { b: '${ x }' }] }, { x: 1, k: 'no' })).toEqual({ '${ k }': ['a', { b: 1 }] });
  });

  it('writes $${ as ${ and leaves other dollars alone', () => {
    expect(fill('$${ x } costs $5 $$ $', { x: 1 })).toBe('${ x } costs $5 $$ $');
    expect(fill('$$${x}', { x: 1 })).toBe('$${x}');
    expect(fill(['$${', '}'], {})).toEqual(['${', '}']);
  });

  it.each([
    ['"}"', '${ "}" & x }'],
    ["'a\\'}'", "${ 'a\\'}' }"],
    ['{ "a": { "b": 1 } }.a', '${ { "a": { "b": 1 } }.a }'],
    ['`}`', '${ `}` }'],
    ['/* } */ 1', '${ /* } */ 1 }'],
    ['$match(x, /\\}"/)', '${ $match(x, /\\}"/) }'],
    ['a / b } ', '${ a / b } / 2 }'],
    ['[1] / 2', '${ [1] / 2 }'],
  ])('finds the end of an expression with %s in it', (_, text) => {
    const [first] = compileTemplate(text).expressions;
    const expected = text.includes('/ b') ? 'a / b' : text.slice(2, -1).trim();
    expect(first).toBe(expected);
  });

  it('lists each expression once, with its first place', () => {
    const template = compileTemplate({ a: '${ x } ${ y }', list: ['${ y }', '${x}'] }, ['steps', 1, 'inputs']);
    expect(template.expressions).toEqual(['x', 'y']);
    expect(template.places.get('y')).toBe('steps[1].inputs.a');
  });

  it.each([
    ['${ x', 'does not end'],
    ['${ "x }', 'does not end'],
    ['${ /* }', 'does not end'],
    ['${ { }', 'does not end'],
    ['${}', 'is empty'],
    ['a ${   } b', 'is empty'],
  ])('refuses %s', (text, message) => {
    const compile = () => compileTemplate({ deep: [text] }, ['inputs']);
    expect(compile).toThrow(InvalidExpressionError);
    expect(compile).toThrow(message);
    expect(compile).toThrow(expect.objectContaining({ place: 'inputs.deep[0]', code: 'INVALID_EXPRESSION' }));
  });

  it('refuses an endless expression', () => {
    expect(() => compileTemplate(`\${ ${'x'.repeat(EXPRESSION_CHARS_MAX + 1)} }`)).toThrow(
      expect.objectContaining({ code: 'LIMIT_EXCEEDED' }),
    );
  });

  it('leaves any JSON without ${ exactly as it is', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const json = JSON.parse(JSON.stringify(value)) as JsonValue;
        fc.pre(!JSON.stringify(json).includes('${'));
        expect(fillTemplate(compileTemplate(json), new Map())).toEqual(json);
      }),
    );
  });

  it('gives back any string that was escaped', () => {
    const text = fc.array(fc.constantFrom('$', '{', '}', 'a', ' ')).map((chars) => chars.join(''));
    fc.assert(
      fc.property(text, (plain) => {
        fc.pre(!plain.includes('$${') && !plain.includes('$$'));
        expect(fill(plain.split('${').join('$${'), {})).toBe(plain);
      }),
    );
  });

  it('puts any value of an expression in its place', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const json = JSON.parse(JSON.stringify(value)) as JsonValue;
        expect(fill(['${ x }'], { x: json })).toEqual([json]);
      }),
    );
  });
});
