import { AjvJsonSchemaValidator } from '@modelcontextprotocol/sdk/validation/ajv';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
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
  output: z.object({ end_time: z.string().nullable(), nested: z.object({ count: z.number() }).optional() }),
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  permission: 'task:read',
  handler: async () => ({ end_time: null }),
});

describe('the JSON Schemas of a tool', () => {
  const listed = catalogueOf(new Map([[tool.name, tool]])).list().tools[0]!;
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

  it('accept a success and a failure, and nothing between', () => {
    expect(output({ success: true, end_time: null }).valid).toBe(true);
    expect(output({ success: true, end_time: 'now', nested: { count: 1 } }).valid).toBe(true);
    expect(output({ success: false, error: { code: 'X', message: 'y', retryable: false } }).valid).toBe(true);
    expect(output({ success: true }).valid).toBe(false);
    expect(output({ success: false }).valid).toBe(false);
    expect(output({ end_time: null }).valid).toBe(false);
    expect(output({ success: true, end_time: null, nested: {} }).valid).toBe(false);
  });
});

it('no schema of the registry has a list of types', () => {
  expect(JSON.stringify(catalogueOf(registry).list())).not.toContain('"type":[');
});
