/**
 * The answer to `tools/list`, made once from the definitions and shared by every session of every transport.
 */
import { type ListToolsResult, ListToolsResultSchema } from '@modelcontextprotocol/sdk/types.js';
import { z } from 'zod';
import type { Tool } from '../../tools/definition.ts';

export interface Catalogue {
  list: ListToolsResult;
  names: ReadonlySet<string>;
}

/** What every failed call has in its structured content. */
const failureSchema = z.object({
  success: z.literal(false),
  error: z.object({
    code: z.string(),
    message: z.string(),
    retryable: z.boolean(),
    details: z.record(z.string(), z.unknown()).optional(),
  }),
});

/** As a client may send it and a handler gives it: outputs are not parsed, so nothing is filled in or cut off. */
const JSON_SCHEMA_OPTIONS = { io: 'input', unrepresentable: 'any', override: portable } as const;

/**
 * Schemas, titles and hints of `tools` as MCP clients see them.
 *
 * @throws when a definition has no JSON Schema, or one that MCP does not allow
 */
export function catalogueOf(tools: ReadonlyMap<string, Tool>): Catalogue {
  const list = ListToolsResultSchema.parse({ tools: [...tools.values()].map(listed) });
  return { list, names: new Set(tools.keys()) };
}

function listed(tool: Tool) {
  return {
    name: tool.name,
    title: tool.title,
    description: tool.description,
    inputSchema: z.toJSONSchema(tool.input, JSON_SCHEMA_OPTIONS),
    outputSchema: outputSchema(tool),
    annotations: { title: tool.title, ...tool.annotations },
  };
}

/**
 * Success or failure: clients check structured content against this schema in both cases, so a schema of successes
 * alone would hide every error behind "does not match".
 */
function outputSchema(tool: Tool): Record<string, unknown> {
  const success = tool.output.extend({ success: z.literal(true) });
  const either = z.toJSONSchema(z.union([success, failureSchema]), JSON_SCHEMA_OPTIONS);
  // MCP wants an object at the root; what kind of object, the branches say.
  return { ...either, type: 'object', properties: { success: { type: 'boolean' } }, required: ['success'] };
}

/** Spellings that clients for narrower schema dialects take too: one type per schema, `true` for "anything". */
function portable({ jsonSchema }: { jsonSchema: z.core.JSONSchema.BaseSchema }): void {
  const { type, additionalProperties } = jsonSchema;
  if (Array.isArray(type)) {
    jsonSchema.anyOf = (type as 'string'[]).map((one) => ({ type: one }));
    delete jsonSchema.type;
  }
  if (typeof additionalProperties === 'object' && Object.keys(additionalProperties).length === 0) {
    jsonSchema.additionalProperties = true;
  }
}
