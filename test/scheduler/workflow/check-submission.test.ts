import { describe, expect, test } from 'vitest';
import type { JsonObject } from '../../../dag/errors.ts';
import { EXPRESSIONS_MAX, JSON_ELEMENTS_MAX } from '../../../dag/limits.ts';
import { PROBLEMS_MAX } from '../../../dag/problems.ts';
import { InvalidWorkflowError, parseWorkflow, retrySchema } from '../../../dag/schema.ts';
import { CHECKED_STEPS_PER_TURN } from '../../../scheduler/limits.ts';
import { checkParts, checkTask, checkWorkflow } from '../../../scheduler/workflow/check-submission.ts';
import { MemoryEvaluator } from '../../simulation/memory-evaluator.ts';
import { task } from '../scene.ts';

const world = {
  evaluator: new MemoryEvaluator(),
  clock: { defer: (callback: () => void) => queueMicrotask(callback) },
};
const check = (value: object) => checkWorkflow(parseWorkflow(value), world);
const first = { step_id: 's', action: 'echo', inputs: { v: 1 } };
const second = (over: JsonObject) => ({ step_id: 't', action: 'echo', depends_on: ['s'], ...over });
const workflow = (over: JsonObject, rest: JsonObject = {}) => ({
  name: 'w',
  input: { a: 1 },
  steps: [first, second(over)],
  ...rest,
});

async function problemsOf(value: object): Promise<string[]> {
  const error = await check(value).then(
    () => undefined,
    (refusal: unknown) => refusal,
  );
  if (!(error instanceof InvalidWorkflowError)) throw error ?? new Error('it was accepted');
  return error.problems.map(({ path, message }) => `${path}: ${message}`);
}

describe('a name that is not in scope is refused with its place and what is meant', () => {
  test.each<[string, JsonObject, RegExp]>([
    ['inputs.a', { inputs: { a: '${ inputs.a }' } }, /^steps\[1\]\.inputs\.a: .*"inputs".*did you mean "input"/],
    ['step.s', { inputs: { b: '${ step.s.output }' } }, /^steps\[1\]\.inputs\.b: .*did you mean "steps"/],
    ['a field of a step', { inputs: { c: '${ steps.s.outputs.v }' } }, /steps\.s has no "outputs" .*mean "output"/],
    ['a field of the workflow', { inputs: { c: '${ workflow.id }' } }, /workflow has no "id".*workflow_id, name/],
    ['item without foreach', { inputs: { e: '${ item }' } }, /"item" is not in scope.*step "t" has no foreach/],
    ['index without foreach', { when: '${ index > 1 }' }, /^steps\[1\]\.when: .*"index" is not in scope/],
    ['item in foreach itself', { foreach: '${ item }' }, /^steps\[1\]\.foreach: .*from the list made here/],
    ['a step by its name', { inputs: { v: '${ s.output }' } }, /output of that step is steps\.s\.output/],
    ['a text without quotes', { when: '${ steps.s.status = completed }' }, /in quotes: "completed"/],
    ['inside a longer text', { inputs: { v: 'a ${ params.x } b' } }, /"params" is not in scope/],
    ['deep in an expression', { inputs: { v: '${ [1, { "a": $count(env) }] }' } }, /"env" is not in scope/],
    ['a function without $', { inputs: { v: '${ count(input.a) }' } }, /begin with \$ \(did you mean "\$count"\?\)/],
    ['a method', { inputs: { v: '${ input.a.map(function($x) { $x }) }' } }, /no methods; write \$map\(list/],
  ])('%s', async (_what, over, message) => {
    expect((await problemsOf(workflow(over))).join('\n')).toMatch(message);
  });

  test('every one at once, and in `output` too', async () => {
    const inputs = { a: '${ inputs.a }', b: '${ step.s.output }', e: '${ item }' };
    expect(await problemsOf(workflow({ inputs }))).toHaveLength(3);
    expect(await problemsOf(workflow({}, { output: '${ item }' }))).toEqual([
      expect.stringMatching(/^output: .*one step with foreach/),
    ]);
  });

  test('in a nested workflow, with the way to write an expression of the inner one', async () => {
    const inner = (text: string) => ({ name: 'n', input: { b: 1 }, steps: [{ ...first, inputs: { v: text } }] });
    const nested = (text: string) => workflow({ action: 'workflow', inputs: { workflow: inner(text) } });
    expect(await problemsOf(nested('$${ inputs.b }'))).toEqual([
      expect.stringMatching(/^steps\[1\]\.inputs\.workflow\.steps\[0\]\.inputs\.v: .*mean "input"/),
    ]);
    expect(await problemsOf(nested('${ item }'))).toEqual([expect.stringMatching(/inner workflow is written \$\$\{/)]);
    expect(await problemsOf(nested('${ steps.other.output }'))).toEqual([
      expect.stringMatching(/no step "other".*inner workflow is written \$\$\{/),
    ]);
    expect(() => checkParts(parseWorkflow(inner('${ inputs.b }')), 1)).toThrow('did you mean "input"');
  });

  test('what is in scope is accepted', async () => {
    const inputs = {
      a: '${ input.a.b.length > 3 ? item.item : index }',
      b: '${ steps.s.output[status = "x"].(error & $$.item) }',
      c: '${ workflow.name & workflow.workflow_id & steps.s.status & steps.s.error.code }',
      d: '${ $map(input.list, function($v, $i) { $v.a + $i }) }',
    };
    await check(workflow({ foreach: '${ input.list }', when: '${ item > index }', inputs }));
  });
});

describe('a large workflow', () => {
  test('is checked in turns, and of many mistakes the first ones are told', async () => {
    let turns = 0;
    const clock = {
      defer(callback: () => void) {
        turns += 1;
        queueMicrotask(callback);
      },
    };
    const steps = (inputs: JsonObject) =>
      Array.from({ length: 3 * CHECKED_STEPS_PER_TURN }, (_, n) => ({ step_id: `s${n}`, action: 'echo', inputs }));
    await checkWorkflow(parseWorkflow({ name: 'w', steps: steps({ v: '${ input.a }' }) }), { ...world, clock });
    expect(turns).toBeGreaterThanOrEqual(3);
    for (const text of ['${ steps.nowhere.output }', '${ inputs.a }', '${ 1 + }']) {
      const problems = await problemsOf({ name: 'w', steps: steps({ v: text }) });
      expect(problems).toHaveLength(PROBLEMS_MAX + 1);
      expect(problems.at(-1)).toBe(': and more of them');
    }
  });

  test('has a bound on the expressions of one step', async () => {
    const v = Array.from({ length: EXPRESSIONS_MAX + 1 }, (_, n) => `\${ input.a${n} }`);
    await expect(check(workflow({ inputs: { v } }))).rejects.toMatchObject({
      code: 'LIMIT_EXCEEDED',
      message: expect.stringContaining('steps[1]: too many different expressions'),
    });
    const texts = Array.from({ length: JSON_ELEMENTS_MAX - 1_000 }, (_, n) => `text ${n}`);
    await check(workflow({ inputs: { v: ['${ input.a }', ...texts] } }));
  });
});

describe('at_most_once with retries', () => {
  test('is refused, in a workflow and in a task', async () => {
    const over = { at_most_once: true, retry: { max_retries: 2 } };
    expect(await problemsOf(workflow(over))).toEqual([
      expect.stringMatching(/^steps\[1\]\.retry\.max_retries: must be 0 with at_most_once, not 2/),
    ]);
    await check(workflow({ at_most_once: true, retry: { max_retries: 0 } }));
    const retry = retrySchema.parse({ max_retries: 1 });
    await expect(checkTask(task({ at_most_once: true, retry }), world)).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      message: expect.stringContaining('retry_policy.max_retries'),
    });
  });
});

describe('what looks like another language is refused with what to write instead', () => {
  test.each([
    ['input.a === 1', 'written "="'],
    ['input.a == 1', 'written "="'],
    ['input.a !== 1', 'written "!="'],
    ['input.a && input.b', 'written "and"'],
    ['input.a || input.b', 'written "or"'],
    ['!input.a', '$not(x)'],
    ['input.a and !input.b', '$not(x)'],
    ['$map(input.a, x => x)', 'function($x)'],
    ['input?.a', 'is written "."'],
    ['function(x) { x }(1)', 'parameters begin with $'],
    ['{ inputs.a }', 'with one brace'],
  ])('%s', async (text, advice) => {
    const problems = await problemsOf(workflow({ inputs: { v: `\${ ${text} }` } }));
    expect(problems.join('\n')).toContain(advice);
  });
});

describe('what is allowed and probably not meant is a warning', () => {
  const warningsOf = async (over: JsonObject) => (await check(workflow(over))).warnings;

  test('a text with {{ … }}', async () => {
    const at = 'steps[1].inputs.v[0]';
    expect(await warningsOf({ inputs: { v: ['Hello {{ input.name }}'] } })).toEqual([
      { at, message: expect.stringMatching(/"\{\{ input\.name \}\}".*written \$\{ … \}/) },
    ]);
    expect(await warningsOf({ inputs: { v: ['${ input.a } {{x}}'] } })).toMatchObject([{ at }]);
    expect(await warningsOf({ inputs: { v: '${ {"a":{"b":1}} } { { x } }' } })).toEqual([]);
  });

  test('item, index and others inside a predicate, and .length', async () => {
    const foreach = '${ input.list }';
    expect(await warningsOf({ foreach, inputs: { v: '${ input.rows[id = item] }' } })).toEqual([
      { at: 'steps[1].inputs.v', message: expect.stringContaining('write $$.item') },
    ]);
    expect(await warningsOf({ inputs: { v: '${ input.rows[id = input.a] }' } })).toMatchObject([
      { message: expect.stringContaining('write $$.input') },
    ]);
    expect(await warningsOf({ when: '${ input.list.length > 0 }' })).toMatchObject([
      { at: 'steps[1].when', message: expect.stringContaining('$count(list)') },
    ]);
    expect(await warningsOf({ inputs: { v: '${ input.rows[item = 1 and id = $$.input.a] }' } })).toEqual([]);
  });

  test('an expression in a task, which has none; its nested workflow has', async () => {
    const warnings = (payload: object, task_type = 'echo') => checkTask(task({ task_type, payload } as never), world);
    expect(await warnings({ a: { b: '${ input.x }' }, c: '{{ x }}' })).toMatchObject([
      { at: 'payload.a.b', message: expect.stringContaining('only workflows have expressions') },
      { at: 'payload.c' },
    ]);
    expect(await warnings({ command: ['sh', '-c', 'echo ${HOME} ${x}'] }, 'shell')).toEqual([]);
    const workflow = { name: 'n', steps: [{ ...first, inputs: { v: '${ input.a }' } }] };
    expect(await warnings({ workflow }, 'workflow')).toEqual([]);
    const wrong = { name: 'n', steps: [{ ...first, inputs: { v: '${ inputs.a }' } }] };
    await expect(warnings({ workflow: wrong }, 'workflow')).rejects.toThrow('payload.workflow.steps[0].inputs.v');
  });
});
