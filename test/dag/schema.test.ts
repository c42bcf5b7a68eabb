import { describe, expect, it } from 'vitest';
import { FlowmeshError } from '../../dag/errors.ts';
import { EDGES_MAX, JSON_DEPTH_MAX, jsonBytes, STEPS_MAX, SUBMISSION_BYTES_MAX } from '../../dag/limits.ts';
import { InvalidWorkflowError, idSchema, parseWorkflow, stepIdSchema } from '../../dag/schema.ts';

const echo = { step_id: 'a', action: 'echo' };

function refusal(value: unknown): FlowmeshError {
  try {
    parseWorkflow(value);
  } catch (error) {
    if (error instanceof FlowmeshError) return error;
    throw error;
  }
  throw new Error('the workflow was accepted');
}

function problems(value: unknown): string[] {
  const error = refusal(value);
  expect(error).toBeInstanceOf(InvalidWorkflowError);
  expect(error.code).toBe('INVALID_WORKFLOW');
  expect(error.retryable).toBe(false);
  return (error as InvalidWorkflowError).problems.map(({ path, message }) => `${path}: ${message}`);
}

describe('parseWorkflow', () => {
  it('fills in every default', () => {
    const workflow = parseWorkflow({ name: 'w', steps: [echo] });
    expect(workflow).toEqual({
      name: 'w',
      input: {},
      priority: 1,
      tags: [],
      dependencies: [],
      metadata: {},
      steps: [
        {
          step_id: 'a',
          action: 'echo',
          inputs: {},
          depends_on: [],
          retry: { max_retries: 0, initial_delay_ms: 1000, backoff_factor: 2, max_delay_ms: 60_000, jitter: true },
          on_failure: 'fail',
          requires: { labels: [], peers: [] },
          at_most_once: false,
          cache: false,
        },
      ],
    });
  });

  it('gives every workflow defaults of its own', () => {
    const [one, two] = [parseWorkflow({ name: 'w', steps: [echo] }), parseWorkflow({ name: 'w', steps: [echo] })];
    one.steps[0]!.requires.labels.push('gpu');
    one.metadata['seen'] = true;
    expect(two.steps[0]!.requires.labels).toEqual([]);
    expect(parseWorkflow({ name: 'w', steps: [echo] }).metadata).toEqual({});
  });

  it('parses its own output to the same', () => {
    const workflow = parseWorkflow({ name: 'w', steps: [{ ...echo, foreach: [1, '${ input.x }'], when: true }] });
    expect(parseWorkflow(JSON.parse(JSON.stringify(workflow)))).toEqual(workflow);
  });

  it.each<[string, unknown, string[]]>([
    ['nothing', undefined, [': is missing']],
    ['a list', [], [': must be an object, not a list']],
    ['no name', { steps: [echo] }, ['name: is missing']],
    ['no steps', { name: 'w' }, ['steps: is missing']],
    ['empty steps', { name: 'w', steps: [] }, ['steps: must have at least one step']],
    [
      'a mistyped field of a step',
      { name: 'w', steps: [echo, { ...echo, step_id: 'b', dependson: ['a'] }] },
      ['steps[1].dependson: is not a known field (did you mean "depends_on"?)'],
    ],
    [
      'a mistyped field of the workflow',
      { name: 'w', steps: [echo], inputs: {} },
      ['inputs: is not a known field (did you mean "input"?)'],
    ],
    [
      'a mistyped field far down',
      { name: 'w', steps: [{ ...echo, retry: { max_retry: 3 } }] },
      ['steps[0].retry.max_retry: is not a known field (did you mean "max_retries"?)'],
    ],
    [
      'a field like no other',
      { name: 'w', steps: [{ ...echo, retry: { zzzzzzzzzz: 3 } }] },
      [
        'steps[0].retry.zzzzzzzzzz: is not a known field (known: max_retries, initial_delay_ms, backoff_factor, max_delay_ms, jitter)',
      ],
    ],
    [
      'a mistyped choice',
      { name: 'w', steps: [{ ...echo, on_failure: 'contine' }] },
      ['steps[0].on_failure: must be one of "fail", "skip", "continue", not "contine" (did you mean "continue"?)'],
    ],
    ['a wrong type', { name: 3, steps: [echo] }, ['name: must be a string, not 3']],
    [
      'a condition that is a number',
      { name: 'w', steps: [{ ...echo, when: 1 }] },
      ['steps[0].when: must be one ${ … } expression, true or false'],
    ],
    [
      'a value that is not JSON',
      { name: 'w', steps: [{ ...echo, inputs: { at: [Number.NaN] } }] },
      ['steps[0].inputs.at[0]: is NaN, and JSON has no such number; write it as a string'],
    ],
    [
      'an id with a colon',
      { name: 'w', steps: [{ ...echo, step_id: 'a:b' }] },
      ['steps[0].step_id: must be 1 to 128 characters of A-Z a-z 0-9 . _ -'],
    ],
    [
      'a choice that is an object with an odd name',
      { name: 'w', steps: [{ ...echo, on_failure: { toString: 1 } }] },
      ['steps[0].on_failure: must be one of "fail", "skip", "continue", not an object'],
    ],
    [
      'several problems',
      { steps: [{ action: 'echo', prority: 1 }] },
      [
        'name: is missing',
        'steps[0].step_id: is missing',
        'steps[0].prority: is not a known field (did you mean "priority"?)',
      ],
    ],
  ])('refuses %s', (_, value, expected) => {
    expect(problems(value).sort()).toEqual(expected.sort());
  });

  it('lists a bounded number of problems', () => {
    const steps = Array.from({ length: 100 }, () => ({ step_id: 'a b', action: '' }));
    const found = problems({ name: 'w', steps });
    expect(found).toHaveLength(21);
    expect(found.at(-1)).toBe(': and 180 more problems');
  });

  it('names the limit that was passed', () => {
    const steps = Array.from({ length: STEPS_MAX + 1 }, (_, index) => ({ step_id: `s${index}`, action: 'echo' }));
    expect(refusal({ name: 'w', steps })).toMatchObject({
      code: 'LIMIT_EXCEEDED',
      details: { limit: 'STEPS_MAX', value: STEPS_MAX + 1, maximum: STEPS_MAX },
    });
    const large = { name: 'w', steps: [echo], input: { text: 'x'.repeat(SUBMISSION_BYTES_MAX) } };
    expect(refusal(large)).toMatchObject({ code: 'LIMIT_EXCEEDED', details: { limit: 'SUBMISSION_BYTES_MAX' } });
    let deep: unknown = 1;
    for (let level = 0; level < 50_000; level += 1) deep = [deep];
    expect(refusal({ name: 'w', steps: [echo], input: { deep } })).toMatchObject({
      code: 'LIMIT_EXCEEDED',
      details: { limit: 'JSON_DEPTH_MAX', maximum: JSON_DEPTH_MAX },
    });
    const wide = Array.from({ length: 450 }, (_, index) => ({
      step_id: `s${index}`,
      action: 'echo',
      depends_on: Array.from({ length: index }, (_, other) => `s${other}`),
    }));
    expect(refusal({ name: 'w', steps: wide })).toMatchObject({ details: { limit: 'EDGES_MAX', maximum: EDGES_MAX } });
  });

  it('accepts as many steps as the limit says', () => {
    const steps = Array.from({ length: STEPS_MAX }, (_, index) => ({ step_id: `s${index}`, action: 'echo' }));
    expect(parseWorkflow({ name: 'w', steps }).steps).toHaveLength(STEPS_MAX);
  });
});

describe('ids', () => {
  it.each(['a', 'A.b_c-9', 'x'.repeat(128)])('accepts %s', (id) => {
    expect(stepIdSchema.safeParse(id).success).toBe(true);
    expect(idSchema.safeParse(`${id.slice(0, 120)}:1`).success).toBe(true);
  });

  it.each(['', 'a b', 'ä', 'a/b', 'a\n', 'x'.repeat(129), '__proto__'])('refuses %j', (id) => {
    expect(stepIdSchema.safeParse(id).success).toBe(false);
    expect(idSchema.safeParse(id).success).toBe(false);
  });
});

describe('jsonBytes', () => {
  it('counts bytes, not characters', () => {
    expect(jsonBytes('é')).toBe(4);
    expect(jsonBytes({ a: [1, null] })).toBe('{"a":[1,null]}'.length);
    expect(jsonBytes(undefined)).toBe(0);
  });
});
