import fc from 'fast-check';
import jsonata from 'jsonata';
import { describe, expect, it } from 'vitest';
import type { JsonObject, JsonValue } from '../../dag/errors.ts';
import { itemsOf, referencedSteps, templatesOf } from '../../dag/expression.ts';
import { mentionsItem } from '../../dag/references.ts';
import { parseWorkflow } from '../../dag/schema.ts';
import { checkParts } from '../../scheduler/workflow/check-submission.ts';

describe('itemsOf', () => {
  it.each([
    [
      [1, 2],
      [1, 2],
    ],
    [[], []],
    [null, []],
    ['s1', ['s1']],
    [{ a: 1 }, [{ a: 1 }]],
    [0, [0]],
    [false, [false]],
    [[[1]], [[1]]],
  ])('%j gives %j', (value, items) => {
    expect(itemsOf(value)).toEqual(items);
  });
});

describe('mentionsItem', () => {
  it.each([
    ['item', true],
    ['index > 1', true],
    ['$exists(item.name)', true],
    ['$$.item = 1', true],
    ['input.rows[id = $$.index]', true],
    ['$.item', true],
    ['$lookup($$, input.name)', true],
    ['{ "a": item }', true],
    ['"item".name', true],
    ['input.item', false],
    ['input.rows[item = 1]', false],
    ['input.rows.(index)', false],
    ['"item"', false],
    ['steps.item.output', false],
    ['$map(input.rows, function($item) { $item.index })', false],
    ['true', false],
  ])('%s: %s', (expression, expected) => {
    expect(mentionsItem(expression)).toBe(expected);
  });
});

describe('referencedSteps', () => {
  it.each<[string, string[] | 'all']>([
    ['steps.a.output', ['a']],
    ['steps.`a-b`.output + steps.c.status', ['a-b', 'c']],
    ['steps . a . output', ['a']],
    ['steps."a b".output', ['a b']],
    ['"steps".a.output', ['a']],
    ['$sum(steps.a.output.($ * 2))', ['a']],
    ['$$.steps.a.output', ['a']],
    ['$.steps.a.output', ['a']],
    ['input.rows[id = $$.steps.a.output].steps', ['a']],
    ['steps.a.output[steps.x > 1]', ['a']],
    ['steps.a.output.{ "k": steps.x }', ['a']],
    ['{ "k": steps.x.output }', ['x']],
    ['[steps.a.output, steps.b.output]', ['a', 'b']],
    ['$map(steps.a.output, function($v) { $v + steps.b.output })', ['a', 'b']],
    ['input.steps.a', []],
    ['"steps.a"', []],
    ['/steps.a/ ', []],
    ['/* steps.a */ 1', []],
    ['input.files', []],
    ['item', []],
    ['$$.input', []],
    ['4 * input.x % 3', []],
    ['input.x and steps.a.output or steps.b.output', ['a', 'b']],
    ['steps', 'all'],
    ['$keys(steps)', 'all'],
    ['steps.*.output', 'all'],
    ['steps[0]', 'all'],
    ['$lookup(steps, input.which).output', 'all'],
    ['(steps).a.output', 'all'],
    ['$$', 'all'],
    ['$', 'all'],
    ['$lookup($, "steps")', 'all'],
    ['*.a.output', 'all'],
    ['**.output', 'all'],
    ['$eval("steps.a")', 'all'],
    ['($s := steps; $s.a.output)', 'all'],
    ['steps.a-b.output', ['a']],
    ['function($x) { $lookup($, "steps") }(1)', 'all'],
  ])('%s mentions %j', (expression, expected) => {
    expect(referencedSteps(expression)).toEqual(expected);
  });

  it('leaves out no step that the value depends on', async () => {
    const ids = ['a', 'b', 'c'];
    const id = fc.constantFrom(...ids);
    const atom = fc.oneof(
      id.map((name) => `steps.${name}.output`),
      id.map((name) => `steps.\`${name}\`.output.n`),
      id.map((name) => `$$.steps.${name}.output`),
      fc.constantFrom('input.rows', 'input.steps', '"steps.a"', '1', 'steps', '$', 'input.rows.steps', '*', '**.n'),
    );
    const { expression } = fc.letrec<{ expression: string }>((tie) => ({
      expression: fc.oneof(
        { depthSize: 'small', withCrossShrink: true },
        atom,
        fc.tuple(tie('expression'), tie('expression')).map(([a, b]) => `[${a}, ${b}]`),
        fc.tuple(tie('expression'), tie('expression')).map(([a, b]) => `(${a}).(${b})`),
        fc.tuple(tie('expression'), tie('expression')).map(([a, b]) => `(${a})[$string(${b}) != "x"]`),
        fc.tuple(tie('expression'), tie('expression')).map(([a, b]) => `{ "k": ${a}, "l": ${b} }`),
        tie('expression').map((a) => `$count(${a})`),
        tie('expression').map((a) => `(function($v) { [$v, ${a}] })(1)`),
        tie('expression').map((a) => `input.rows.(${a})`),
        tie('expression').map((a) => `($s := ${a}; $s)`),
        fc.tuple(tie('expression'), tie('expression')).map(([a, b]) => `$map(${a}, function($v) { ${b} })`),
      ),
    }));
    const scopeOf = (steps: JsonObject): JsonObject => ({
      input: { rows: [{ steps: 1, n: 2 }, { n: 3 }], steps: 5 },
      steps,
    });
    const all: JsonObject = { a: { output: { n: 1 } }, b: { output: [2, { n: 4 }] }, c: { output: 'text' } };
    let narrowed = 0;
    await fc.assert(
      fc.asyncProperty(expression, async (text) => {
        const mentioned = referencedSteps(text);
        if (mentioned === 'all') return;
        narrowed += 1;
        const some = Object.fromEntries(mentioned.map((name) => [name, all[name]!]));
        expect(await ask(text, scopeOf(some))).toEqual(await ask(text, scopeOf(all)));
      }),
      { numRuns: 2_000 },
    );
    expect(narrowed).toBeGreaterThan(200);
  });
});

async function ask(expression: string, scope: JsonObject): Promise<JsonValue> {
  try {
    const value: unknown = await jsonata(expression).evaluate(scope);
    return value === undefined ? null : (JSON.parse(JSON.stringify(value) ?? 'null') as JsonValue);
  } catch (error) {
    return `failed: ${(error as { code?: string }).code}`;
  }
}

function check(value: object): void {
  checkParts(parseWorkflow(value), 0);
}

describe('the steps that an expression mentions', () => {
  const fetch = { step_id: 'fetch', action: 'echo' };
  const parse = { step_id: 'parse-it', action: 'echo', depends_on: ['fetch'] };

  it('accepts what has ended: dependencies, direct or not, and any step in the output', () => {
    const last = {
      step_id: 'last',
      action: 'echo',
      depends_on: ['parse-it'],
      inputs: { x: '${ steps.fetch.output }' },
    };
    check({
      name: 'w',
      steps: [fetch, parse, last],
      output: { a: '${ steps.fetch.output }', b: '${ steps.*.status }' },
    });
  });

  it.each<[string, object, string, string]>([
    [
      'an unknown step',
      { ...parse, inputs: { x: ['${ steps.fetsh.output }'] } },
      'steps[1].inputs.x[0]',
      'there is no step "fetsh" (did you mean "fetch"?)',
    ],
    [
      'a dash that is read as minus',
      { ...parse, depends_on: [], step_id: 'sum', when: '${ steps.parse-it.output }' },
      'steps[1].when',
      'there is no step "parse" (write steps.`parse-it`, in backquotes)',
    ],
    [
      'a step it does not wait for',
      { ...parse, depends_on: [], foreach: '${ steps.fetch.output }' },
      'steps[1].foreach',
      'mentions step "fetch", which may not have ended then; add "fetch" to depends_on of step "parse-it"',
    ],
    [
      'itself',
      { ...parse, inputs: { x: 'is ${ steps.`parse-it`.output }' } },
      'steps[1].inputs.x',
      'a step cannot use its own output (steps.parse-it)',
    ],
  ])('refuses %s', (_, step, path, message) => {
    const more = 'sum' in step || (step as { step_id: string }).step_id === 'sum' ? [parse] : [];
    expect(() => check({ name: 'w', steps: [fetch, step, ...more] })).toThrow(
      expect.objectContaining({ code: 'INVALID_WORKFLOW', problems: [{ path, message }] }),
    );
  });

  it('refuses an unknown step in the output', () => {
    expect(() => check({ name: 'w', steps: [fetch], output: '${ steps.x.output }' })).toThrow(
      'output: there is no step "x"',
    );
  });

  it('is fast where every step of a long chain mentions the first', () => {
    const steps = Array.from({ length: 10_000 }, (_, index) => ({
      step_id: `s${index}`,
      action: 'echo',
      ...(index > 0 && { depends_on: [`s${index - 1}`], inputs: { x: '${ steps.s0.output }' } }),
    }));
    check({ name: 'w', steps });
  });
});

describe('templatesOf', () => {
  const stepOf = (fields: object) =>
    parseWorkflow({ name: 'w', steps: [{ step_id: 'a', action: 'echo', ...fields }] }).steps[0]!;

  it('gives what is to be evaluated', () => {
    const step = stepOf({ when: '${ input.on }', foreach: [1, '${ input.x }'], inputs: { n: '${ item }' } });
    const templates = templatesOf(step);
    expect(templates.when?.expressions).toEqual(['input.on']);
    expect(templates.foreach?.expressions).toEqual(['input.x']);
    expect(templates.inputs.expressions).toEqual(['item']);
    expect(templatesOf(step)).toBe(templates);
    expect(templatesOf(stepOf({}))).not.toHaveProperty('when');
  });

  it.each([
    [{ when: 'input.on' }, 'step "a".when: must be one expression, written ${ … }, or true or false, not "input.on"'],
    [{ when: '${ a } ${ b }' }, 'step "a".when: must be one expression'],
    [{ foreach: 'x' }, 'step "a".foreach: must be one expression, written ${ … }, or a list, not "x"'],
  ])('refuses %j', (fields, message) => {
    expect(() => templatesOf(stepOf(fields))).toThrow(message);
  });
});
