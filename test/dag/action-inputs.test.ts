import { describe, expect, test } from 'vitest';
import { InvalidInputsError, inputProblems, literalProblems, parseInputs } from '../../dag/action-inputs.ts';
import type { JsonObject } from '../../dag/errors.ts';
import { compileTemplate } from '../../dag/template.ts';

const literal = (action: string, inputs: JsonObject) => literalProblems(action, compileTemplate(inputs));

describe('inputs that stand in the workflow are checked before it runs', () => {
  test.each<[string, string, JsonObject, string, RegExp]>([
    ['a command that is a line', 'shell', { command: 'ls -l' }, 'command', /list of words such as .*takes command/],
    ['a sleep in seconds', 'sleep', { seconds: 1 }, 'seconds', /not a known field.*takes duration_ms/],
    ['an approval with a prompt', 'approve', { prompt: 'Go?' }, 'prompt', /not a known field.*may have message/],
    ['a workflow by its name', 'workflow', { workflow: 'build' }, 'workflow', /must be a whole workflow.*not the name/],
    ['a field that is not known', 'http', { url: 'https://a.example', verb: 'GET' }, 'verb', /not a known field/],
    ['an unknown field beside expressions', 'shell', { command: '${ input.c }', cdw: '/' }, 'cdw', /mean "cwd"/],
    ['a wrong word among expressions', 'shell', { command: ['${ input.c }', {}] }, 'command[1]', /must be a string/],
    ['a field that is missing', 'http', { method: 'GET' }, 'url', /is missing/],
    ['a number as text', 'sleep', { duration_ms: '10' }, 'duration_ms', /must be a number/],
  ])('%s', (_what, action, inputs, path, message) => {
    const found = literal(action, inputs).find((problem) => problem.path === path);
    expect(found?.path).toBe(path);
    expect(
      literal(action, inputs)
        .map((problem) => problem.message)
        .join('\n'),
    ).toMatch(message);
  });

  test.each<[string, string, JsonObject]>([
    ['an expression for the whole', 'shell', { command: '${ input.words }' }],
    ['expressions inside', 'shell', { command: ['wc', '${ item }'], env: { A: '${ index }' }, stdin: '${ input }' }],
    ['an expression where a number belongs', 'sleep', { duration_ms: '${ input.ms }' }],
    ['an expression in an address', 'http', { url: '${ input.host }/x', expect_status: [200, '${ input.s }'] }],
    ['an expression in a method', 'http', { url: 'https://a.example', method: '${ input.m }', body: { a: 1 } }],
    ['a workflow from an expression', 'workflow', { workflow: '${ input.w }' }],
    ['an approval without a word', 'approve', {}],
    ['anything for echo', 'echo', { any: [1, { thing: null }] }],
    ['anything for a function of the user', 'fn:x', { any: 'thing' }],
    ['anything for a name that objects have', 'toString', { any: 'thing' }],
  ])('%s passes', (_what, action, inputs) => {
    expect(literal(action, inputs)).toEqual([]);
  });

  test('what was an expression is checked when it has a value', () => {
    expect(() => parseInputs('sleep', { duration_ms: 'soon' })).toThrow(InvalidInputsError);
    expect(parseInputs('sleep', { duration_ms: 5 })).toEqual({ duration_ms: 5 });
    expect(inputProblems('sleep', { duration_ms: 5 })).toEqual([]);
  });
});
