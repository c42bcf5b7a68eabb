/**
 * The answer to `tools/list`, made once from the definitions, when it is asked for first (a start does not wait for it),
 * and shared by every session of every transport.
 */
import { type ListToolsResult, ListToolsResultSchema } from '@modelcontextprotocol/sdk/types.js';
import { z } from 'zod';
import type { Tool } from '../../tools/definition.ts';

export interface Catalogue {
  /** @throws when a definition has no JSON Schema, or one that MCP does not allow */
  list(): ListToolsResult;
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
const JSON_SCHEMA_OPTIONS = { io: 'input', unrepresentable: 'any' } as const;

/** Schemas, titles and hints of `tools` as MCP clients see them. */
export function catalogueOf(tools: ReadonlyMap<string, Tool>): Catalogue {
  let made: ListToolsResult | undefined;
  const make = () => ListToolsResultSchema.parse({ tools: [...tools.values()].map(listed) });
  return { list: () => (made ??= make()), names: new Set(tools.keys()) };
}

function listed(tool: Tool) {
  return {
    name: tool.name,
    title: tool.title,
    description: tool.description,
    inputSchema: portable(z.toJSONSchema(tool.input, JSON_SCHEMA_OPTIONS)),
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
  const either = portable(z.toJSONSchema(z.union([success, failureSchema]), JSON_SCHEMA_OPTIONS));
  // MCP wants an object at the root; what kind of object, the branches say.
  return { ...either, type: 'object', properties: { success: { type: 'boolean' } }, required: ['success'] };
}

/** Keywords whose value is data, not a schema. */
const DATA_KEYWORDS = new Set(['default', 'const', 'enum', 'examples', 'required']);

/** Respells a schema for clients of narrower dialects: one `type` per schema, `true` for "anything". */
function portable<T>(schema: T): T {
  if (Array.isArray(schema)) return schema.map(portable) as T;
  if (typeof schema !== 'object' || schema === null) return schema;
  const respelled: Record<string, unknown> = {};
  for (const [keyword, value] of Object.entries(schema)) {
    if (keyword === 'type' && Array.isArray(value)) respelled['anyOf'] = value.map((type) => ({ type }));
    else if (keyword === 'additionalProperties' && isEmpty(value)) respelled[keyword] = true;
    else respelled[keyword] = DATA_KEYWORDS.has(keyword) ? value : portable(value);
  }
  return respelled as T;
}

function isEmpty(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Object.keys(value).length === 0;
}
