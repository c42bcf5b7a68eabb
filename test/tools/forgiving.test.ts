import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { JsonObject, JsonValue } from '../../dag/errors.ts';
import { ANYONE } from '../../node/auth/principal.ts';
import { catalogueOf } from '../../node/mcp/catalogue.ts';
import { parseInput } from '../../tools/call/envelope.ts';
import { tools } from '../../tools/registry.ts';

const parse = (tool: string, input: unknown) => parseInput(tools.get(tool)!, input);
const steps = [{ step_id: 'a', action: 'echo' }];

/** As JSON Schema tells clients; where it tells of no fields, the data is the user's. */
interface Schema {
  type?: string;
  properties?: Record<string, Schema>;
  required?: string[];
  items?: Schema;
}
const schemas = new Map(
  catalogueOf(tools)
    .list(ANYONE)
    .tools.map((tool) => [tool.name, tool.inputSchema as Schema]),
);

/** `value` as a model may write it, which of its slips it makes decided by `slips`. */
function slipped(value: JsonValue, schema: Schema, slips: () => boolean): JsonValue {
  if (schema.type === 'number' || schema.type === 'integer' || schema.type === 'boolean') {
    return slips() ? String(value) : value;
  }
  if (Array.isArray(value) && schema.type === 'array') {
    const list = value.map((item) => slipped(item, schema.items ?? {}, slips));
    return slips() ? JSON.stringify(list) : list;
  }
  if (typeof value !== 'object' || value === null || schema.type !== 'object') return value;
  const object: JsonObject = { ...(value as JsonObject) };
  for (const [field, each] of Object.entries(schema.properties ?? {})) {
    if (Object.hasOwn(object, field)) object[field] = slipped(object[field]!, each, slips);
    else if (!schema.required?.includes(field) && slips()) object[field] = null;
  }
  return slips() ? JSON.stringify(object) : object;
}

/** Data of users, full of what looks like a slip. */
const data = fc.dictionary(
  fc.constantFrom('a', 'limit', 'priority', 'steps', 'timeout_ms'),
  fc.oneof(
    fc.constantFrom<JsonValue[]>(null, '5', 'true', '[1]', '{"a":null}', '-0', [null, '7'], { b: null }),
    // A name that is refused, whatever else is there.
    fc
      .jsonValue()
      .filter((value) => !JSON.stringify(value).includes('__proto__'))
      .map((value) => JSON.parse(JSON.stringify(value))),
  ),
) as fc.Arbitrary<JsonObject>;
const some = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined });
const withoutAbsent = <T extends object>(value: T) =>
  Object.fromEntries(Object.entries(value).filter(([, each]) => each !== undefined)) as JsonObject;
const record = (fields: Record<string, fc.Arbitrary<unknown>>) => fc.record(fields).map(withoutAbsent);
const tags = some(fc.array(fc.constantFrom('x', '5', 'null', '[]'), { maxLength: 3 }));
const retry = some(
  record({
    max_retries: some(fc.nat(9)),
    backoff_factor: some(fc.double({ min: 1, max: 9, noNaN: true })),
    jitter: some(fc.boolean()),
  }),
);

const INPUTS: [tool: string, input: fc.Arbitrary<JsonObject>][] = [
  [
    'workflow_submit',
    record({
      name: fc.constantFrom('x', '5', 'true', '[]', 'null'),
      input: some(data),
      metadata: some(data),
      priority: some(fc.nat(10)),
      require_copies: some(fc.boolean()),
      tags,
      steps: fc.array(
        record({
          step_id: fc.constantFrom('1', 'a', 'null'),
          action: fc.constant('echo'),
          inputs: some(data),
          when: some(fc.constantFrom('${ true }', true)),
          foreach: some(fc.constantFrom('${ [1] }', ['1', null])),
          timeout_ms: some(fc.integer({ min: 1, max: 1_000 })),
          cache: some(fc.boolean()),
          retry,
        }),
        { minLength: 1, maxLength: 3 },
      ),
    }),
  ],
  [
    'task_submit',
    record({
      task_type: fc.constant('echo'),
      payload: some(data),
      metadata: some(data),
      priority: some(fc.double({ min: 0, max: 10, noNaN: true })),
      tags,
      retry_policy: retry,
    }),
  ],
  [
    'workflow_list',
    record({
      limit: some(fc.integer({ min: 1, max: 1_000 })),
      tag_filter: tags,
      status_filter: some(fc.constant('running')),
    }),
  ],
  [
    'task_retry',
    record({ task_id: fc.constantFrom('1', 'true'), retry_config: some(record({ max_retries: some(fc.nat(9)) })) }),
  ],
  [
    'bootstrap_network',
    record({ bootstrap_nodes: some(fc.constant(['/ip4/127.0.0.1/tcp/1'])), min_connections: some(fc.nat(1)) }),
  ],
];

describe('what models write for what they mean', () => {
  it.each(INPUTS)('%s takes as what it means, and the data of users as it is', (tool, inputs) => {
    fc.assert(
      fc.property(inputs, fc.infiniteStream(fc.boolean()), (input, stream) => {
        const slips = () => stream.next().value as boolean;
        const meant = parse(tool, input);
        expect(parse(tool, slipped(input, schemas.get(tool)!, slips))).toEqual(meant);
        const { payload, input: data, metadata } = input;
        expect(meant).toMatchObject(withoutAbsent({ payload, input: data, metadata }));
      }),
      { numRuns: 300 },
    );
  });

  it.each<[string, JsonObject, JsonObject]>([
    ['workflow_submit', { name: 'x', workflow_id: null, priority: null, steps }, { priority: 1 }],
    ['workflow_submit', { name: 'x', steps: JSON.stringify(steps) }, { steps: [{ step_id: 'a' }] }],
    ['workflow_submit', { name: 'x', output: null, steps: [{ ...steps[0]!, retry: null, when: null }] }, {}],
    [
      'workflow_submit',
      { name: 'x', steps: [{ ...steps[0]!, foreach: '["a", "b"]', when: 'true' }] },
      { steps: [{ foreach: ['a', 'b'], when: true }] },
    ],
    ['workflow_list', { limit: '5' }, { limit: 5 }],
    ['task_submit', { task_type: 'echo', payload: '{"a": null, "b": "5"}' }, { payload: { a: null, b: '5' } }],
    [
      'peer_discover',
      { capability_filter: '["gpu"]', include_metrics: 'true' },
      { capability_filter: ['gpu'], include_metrics: true },
    ],
  ])('%s %j', (tool, input, meant) => {
    expect(parse(tool, input)).toMatchObject(meant);
    expect(parse(tool, input)).not.toHaveProperty('workflow_id');
  });

  it.each<[string, unknown, string]>([
    ['workflow_list', { limit: 'five' }, 'limit: must be a number, not "five"'],
    ['workflow_list', { limit: '0x10' }, 'limit: must be a number'],
    ['workflow_list', { limit: '' }, 'limit: must be a number'],
    ['workflow_list', { limit: '3544790567247868102' }, 'limit: must be a number'],
    ['workflow_list', { limits: null }, 'limits: is not a known field'],
    ['task_status', { task_id: null }, 'task_id: must be a string, not null'],
    ['workflow_submit', { name: 'x', steps: '{"step_id": "a"}' }, 'steps: must be a list'],
    ['workflow_submit', { name: 'x', steps: '[{"step_id": "a",' }, 'steps: must be a list'],
    [
      'workflow_submit',
      { name: 'x', steps: '[{"step_id": "a", "action": "echo", "priority": 3544790567247868102}]' },
      'steps[0].priority',
    ],
    [
      'workflow_submit',
      { name: 'x', steps: `[{"step_id": "a", "action": "echo", "inputs": {"__proto__": 1}}]` },
      '__proto__',
    ],
    ['task_submit', { task_type: 'echo', payload: 'text' }, 'payload: must be an object'],
    ['queue_clear', { confirm: 'yes' }, 'confirm: must be true or false'],
  ])('%s %j is still refused', (tool, input, says) => {
    expect(() => parse(tool, input)).toThrow(says);
  });

  it('a text with too deep a list in it is refused as the list is', () => {
    const deep = `[{"step_id": "a", "action": "echo", "inputs": {"x": ${'['.repeat(100_000)}${']'.repeat(100_000)}}}]`;
    expect(() => parse('workflow_submit', { name: 'x', steps: deep })).toThrow();
  });
});
