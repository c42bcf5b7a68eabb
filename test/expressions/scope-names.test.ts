import fc from 'fast-check';
import jsonata from 'jsonata';
import { describe, expect, test } from 'vitest';
import type { JsonObject, JsonValue } from '../../dag/errors.ts';
import { nameProblem, namesOfPath, type ScopeName } from '../../dag/scope.ts';
import { Expressions } from '../../node/expressions/jsonata.ts';

const expressions = new Expressions();
const PLACE = { item: true, itemAdvice: '', stepIds: new Set(['a']), inputs: [] };

function namesIn(expression: string): ScopeName[] {
  const checked = expressions.check(expression);
  if ('problem' in checked) throw new Error(`${expression}: ${checked.problem.message}`);
  return checked.names;
}

const told = (expression: string) =>
  namesIn(expression)
    .map(({ path, kind }) => `${kind} ${path.join('.')}`)
    .sort();

describe('the names that an expression takes from its scope', () => {
  test.each<[string, string[]]>([
    ['input.a', ['scope input.a']],
    ['steps.s.outputs[0].v', ['scope steps.s.outputs.v']],
    ['steps.`a-b`.output & "steps.x"', ['scope steps.a-b.output']],
    ['"steps".a.output', ['scope steps.a.output']],
    ['$$.item + $.index', ['scope index', 'scope item']],
    ['input.rows[price > limit]', ['item limit', 'item price', 'scope input.rows']],
    ['input.rows[price > $$.input.limit]', ['item price', 'scope input.limit', 'scope input.rows']],
    ['input.rows.(price * n)', ['item n', 'item price', 'scope input.rows']],
    ['input.rows.{ "k": price }', ['item price', 'scope input.rows']],
    ['input.rows{ kind: $sum(price) }', ['item kind', 'item price', 'scope input.rows']],
    ['input.rows^(>price, name)', ['item name', 'item price', 'scope input.rows']],
    ['input ~> |rows|{ "x": price }, ["y"]|', ['item price', 'item rows', 'scope input']],
    ['{ "k": a, b: 1 }', ['scope a', 'scope b']],
    ['[a, (b; c)]', ['scope a', 'scope b', 'scope c']],
    ['$map(input.rows, function($v, $i) { $v.price + other })', ['scope input.rows', 'scope other']],
    ['function($n)<n:n> { $n + item }(1)', ['scope item']],
    ['input.rows@$r.$r.price', ['scope input.rows']],
    ['input.rows#$i.{ "at": $i, "p": price }', ['item price', 'scope input.rows']],
    ['a ? b : c', ['scope a', 'scope b', 'scope c']],
    ['a ?? b ?: c', ['scope a', 'scope b', 'scope c']],
    ['a in b and c or not', ['scope a', 'scope b', 'scope c', 'scope not']],
    ['-a + (b.c)', ['scope a', 'scope b.c']],
    ['true and null = false', []],
    ['($x := input; $x.foo)', ['scope input']],
    ['count(input.a)', ['call count', 'scope input.a']],
    ['input.rows.map(function($x) { $x })', ['call input.rows.map', 'scope input.rows']],
    ['/steps.a/i', []],
    ['**.foo', []],
    ['($$ := { "a": 1 }; $$.a)', []],
  ])('%s', (expression, expected) => {
    expect(told(expression)).toEqual([...expected].sort());
  });

  test('of a plain path are known without a parser', () => {
    for (const path of ['input.a', 'steps.s.outputs.v.w', 'item', 'inputs']) {
      expect(namesOfPath(path)).toEqual(namesIn(path));
    }
    for (const other of ['true', 'null', 'a b', 'a[0]', '$x', '']) expect(namesOfPath(other)).toBeUndefined();
  });

  test('are found in an expression as deep as the parser reads', () => {
    expect(namesIn(Array.from({ length: 2_000 }, () => 'item').join(' + '))).toEqual([
      { path: ['item'], kind: 'scope' },
    ]);
  });
});

/** Expressions that use what is in scope rightly: `outer` where names are those of the scope, `inner` elsewhere. */
const { outer } = fc.letrec<{ outer: string; inner: string }>((tie) => {
  const out = tie('outer');
  const inn = tie('inner');
  return {
    outer: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      fc.constantFrom('input.rows', 'steps.a.output', 'item', 'index', 'workflow.name', '1', '"x"', '$$.input.n', '[]'),
      fc.constantFrom('steps.a.error.message', 'steps.a.status', 'input.one[]', 'input.rows[0].name', 'input.rows[-1]'),
      fc.tuple(out, out).map(([a, b]) => `[${a}, ${b}]`),
      fc.tuple(out, inn).map(([a, b]) => `(${a})[${b}]`),
      fc.tuple(out, inn).map(([a, b]) => `(${a}).(${b})`),
      fc.tuple(out, inn).map(([a, b]) => `(${a}).[${b}]`),
      fc.tuple(out, inn, inn).map(([a, b, c]) => `(${a}){ $string(${b}): ${c} }`),
      fc.tuple(out, inn).map(([a, b]) => `(${a})^(>${b})`),
      fc.tuple(out, out).map(([a, b]) => `$map(${a}, function($v) { ${b} })`),
      fc.tuple(out, out).map(([a, b]) => `{ "k": ${a}, "l": ${b} }`),
      fc.tuple(out, out, out).map(([a, b, c]) => `(${a} ? ${b} : ${c})`),
      fc
        .tuple(out, fc.constantFrom('&', '=', '!=', 'in', 'and', 'or', '??', '?:'), out)
        .map((all) => `(${all.join(' ')})`),
      fc.tuple(out, inn, inn).map(([a, b, c]) => `(${a} ~> |${b}|{ "z": ${c} }|)`),
      fc.tuple(out, inn).map(([a, b]) => `($s := ${a}; $s.foo.(${b}))`),
      fc.tuple(out, inn).map(([a, b]) => `(${a})@$v.($v.foo)[${b}]`),
      out.map((a) => `(function($n)<x:x> { [$n, ${a}] })(1)`),
      out.map((a) => `(${a} ~> $count)`),
      out.map((a) => `$append(?, 1)(${a})`),
    ),
    inner: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      fc.constantFrom(
        'name',
        'n',
        'rows.name',
        'item',
        'input',
        'steps.nowhere',
        '$',
        '$.n',
        '$$.input.n',
        '$$.item',
        '2',
      ),
      fc.tuple(inn, fc.constantFrom('=', '&', 'and', 'in'), inn).map((all) => `(${all.join(' ')})`),
      fc.tuple(inn, inn).map(([a, b]) => `(${a}).(${b})`),
      fc.tuple(inn, inn).map(([a, b]) => `(${a})[${b}]`),
      inn.map((a) => `$exists(${a})`),
      inn.map((a) => `function($v) { [$v, ${a}] }(1)`),
    ),
  };
});

const SCOPE: JsonObject = {
  input: {
    n: 2,
    one: [1],
    rows: [
      { name: 'x', n: 1 },
      { name: 'y', n: 2, item: 3 },
    ],
  },
  steps: { a: { output: [1, { n: 4 }], status: 'completed', error: null } },
  workflow: { name: 'w', workflow_id: 'id' },
  item: { name: 'x' },
  index: 1,
};

describe('of any expression', () => {
  test('no name that is in scope is refused', () => {
    let valid = 0;
    fc.assert(
      fc.property(outer, (text) => {
        const checked = expressions.check(text);
        if ('problem' in checked) return;
        valid += 1;
        for (const name of checked.names) expect(nameProblem(name, PLACE)).toBeNull();
      }),
      { numRuns: 5_000 },
    );
    expect(valid).toBeGreaterThan(4_000);
  });

  test('no name that its value depends on is left out', async () => {
    let valid = 0;
    await fc.assert(
      fc.asyncProperty(outer, async (text) => {
        const checked = expressions.check(text);
        // A bare `$` at the beginning is everything in scope.
        if ('problem' in checked) return;
        valid += 1;
        const roots = checked.names.filter(({ kind }) => kind === 'scope').map(({ path }) => path[0]!);
        const some = Object.fromEntries(Object.entries(SCOPE).filter(([name]) => roots.includes(name)));
        expect(await ask(text, some)).toEqual(await ask(text, SCOPE));
      }),
      { numRuns: 2_000 },
    );
    expect(valid).toBeGreaterThan(1_500);
  });
});

async function ask(expression: string, scope: JsonObject): Promise<JsonValue> {
  try {
    const value: unknown = await jsonata(expression).evaluate(structuredClone(scope));
    return value === undefined ? null : (JSON.parse(JSON.stringify(value) ?? 'null') as JsonValue);
  } catch (error) {
    return `failed: ${(error as { code?: string }).code}`;
  }
}
