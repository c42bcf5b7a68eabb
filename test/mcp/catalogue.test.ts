import { AjvJsonSchemaValidator } from '@modelcontextprotocol/sdk/validation/ajv';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { ANYONE } from '../../node/auth/principal.ts';
import { catalogueOf } from '../../node/mcp/catalogue.ts';
import { defineMeshTool } from '../../tools/definition.ts';
import { tools as registry } from '../../tools/registry.ts';

const tool = defineMeshTool({
  name: 'sample_tool',
  title: 'Sample',
  description: 'Has the kinds of fields that need care.',
  input: z.object({
    type: z.string(),
    when: z.union([z.string(), z.boolean()]).default(true),
    free: z.record(z.string(), z.unknown()),
    pick: z.enum(['a', 'b']).default('a'),
  }),
  output: z.object({
    end_time: z.string().nullable(),
    nested: z.object({ count: z.number(), more: z.object({ x: z.string() }).optional() }).optional(),
  }),
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  permission: 'task:read',
  handler: async () => ({ end_time: null }),
});

describe('the JSON Schemas of a tool', () => {
  const listed = catalogueOf(new Map([[tool.name, tool]])).list(ANYONE).tools[0]!;
  const output = new AjvJsonSchemaValidator().getValidator(listed.outputSchema!);
  const input = new AjvJsonSchemaValidator().getValidator(listed.inputSchema);

  it('ask only for what has no default, and keep fields named like keywords', () => {
    expect(listed.inputSchema.required).toEqual(['type', 'free']);
    expect(listed.inputSchema.properties).toMatchObject({
      type: { type: 'string' },
      when: { anyOf: [{ type: 'string' }, { type: 'boolean' }], default: true },
      free: { type: 'object', additionalProperties: true },
      pick: { enum: ['a', 'b'], default: 'a' },
    });
    expect(input({ type: 'x', free: { any: [1] }, when: 'later' }).valid).toBe(true);
    expect(input({ type: 'x', free: {}, when: 7 }).valid).toBe(false);
  });

  it('accept a success and a failure, and neither without saying which', () => {
    expect(output({ success: true, end_time: null }).valid).toBe(true);
    expect(output({ success: true, end_time: 'now', nested: { count: 1 } }).valid).toBe(true);
    expect(output({ success: false, error: { code: 'X', message: 'y', retryable: false, details: {} } }).valid).toBe(
      true,
    );
    expect(output({ end_time: null }).valid).toBe(false);
    expect(output({ success: true, end_time: 7 }).valid).toBe(false);
    expect(output({ success: true, end_time: null, nested: { count: 'one' } }).valid).toBe(false);
    expect(output({ success: false, error: 'a sentence' }).valid).toBe(false);
  });

  it('name the fields of an output and of the objects in it, and leave it at that', () => {
    expect(listed.outputSchema!.properties).toEqual({
      success: { type: 'boolean' },
      error: expect.objectContaining({ type: 'object' }),
      end_time: { anyOf: [{ type: 'string' }, { type: 'null' }] },
      nested: { type: 'object', properties: { count: { type: 'number' }, more: { type: 'object' } } },
    });
  });
});

/** What clients are known to refuse a whole server for, wherever in a schema it is. */
const REFUSED = [
  '$ref',
  '$defs',
  '$schema',
  '$id',
  'definitions',
  'propertyNames',
  'exclusiveMinimum',
  'exclusiveMaximum',
  'not',
  'if',
  'patternProperties',
];
/** `tools/list` as a client gets it. */
const LIST_BYTES_MAX = 80 * 1024;

describe('the 26 tools', () => {
  const { tools } = catalogueOf(registry).list(ANYONE);

  it.each(tools.map((tool) => [tool.name, tool] as const))('%s has schemas that every client takes', (_name, tool) => {
    for (const schema of [tool.inputSchema, tool.outputSchema]) {
      const found = keywordsOf(schema);
      expect([...found].filter((keyword) => REFUSED.includes(keyword))).toEqual([]);
      expect(schema).toMatchObject({ type: 'object', properties: expect.any(Object) });
      for (const keyword of ['anyOf', 'oneOf', 'allOf']) expect(schema).not.toHaveProperty(keyword);
      // JSON: what contains itself would not be.
      expect(JSON.parse(JSON.stringify(schema))).toEqual(schema);
    }
  });

  it('are told in at most 80 KB', () => {
    expect(Buffer.byteLength(JSON.stringify({ tools }))).toBeLessThanOrEqual(LIST_BYTES_MAX);
  });

  it('leave any JSON without a constraint', () => {
    const { inputSchema } = tools.find(({ name }) => name === 'workflow_submit')!;
    const { output, input } = inputSchema.properties as Record<string, object>;
    expect(Object.keys(output!)).toEqual(['description']);
    expect(input).toEqual({ type: 'object', default: {}, description: expect.any(String) });
  });
});

/** The keywords in a schema; the names of properties and the values of `default` and the like are none. */
function keywordsOf(schema: unknown, found = new Set<string>()): Set<string> {
  if (Array.isArray(schema)) for (const each of schema) keywordsOf(each, found);
  else if (typeof schema === 'object' && schema !== null) {
    for (const [keyword, value] of Object.entries(schema)) {
      found.add(keyword);
      if (keyword === 'properties') for (const each of Object.values(value)) keywordsOf(each, found);
      else if (!['default', 'enum', 'const', 'required'].includes(keyword)) keywordsOf(value, found);
    }
  }
  return found;
}

it('no schema of the registry has a list of types', () => {
  expect(JSON.stringify(catalogueOf(registry).list(ANYONE))).not.toContain('"type":[');
});
