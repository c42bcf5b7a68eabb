/**
 * The answer to `tools/list`, made once from the definitions, when it is asked for first (a start does not wait for it),
 * and shared by every session of every transport.
 */
import { type ListToolsResult, ListToolsResultSchema } from '@modelcontextprotocol/sdk/types.js';
import { z } from 'zod';
import type { Tool } from '../../tools/definition.ts';
import { permitsTool } from '../../tools/permissions.ts';
import type { Principal } from '../auth/principal.ts';

export interface Catalogue {
  /**
   * What the principal may call.
   * @throws when a definition has no JSON Schema, or one that MCP does not allow
   */
  list(principal: Principal): ListToolsResult;
  names: ReadonlySet<string>;
}

/** What every failed call has in its structured content, beside `success: false`. */
const ERROR_OUT: Schema = {
  type: 'object',
  description: 'With success: false: code, message, retryable, and details where there are some.',
};

/**
 * As a client may send it and a handler gives it: outputs are not parsed, so nothing is filled in or cut off. A schema that
 * contains itself has no place here: clients that do not follow references would refuse the whole server.
 */
const JSON_SCHEMA_OPTIONS = { io: 'input', unrepresentable: 'any', cycles: 'throw', reused: 'inline' } as const;

type Schema = z.core.JSONSchema._JSONSchema;

/** Schemas, titles and hints of `tools` as MCP clients see them. */
export function catalogueOf(tools: ReadonlyMap<string, Tool>): Catalogue {
  let made: ListToolsResult | undefined;
  const make = () => ListToolsResultSchema.parse({ tools: [...tools.values()].map(listed) });
  const list = ({ permissions }: Principal): ListToolsResult => {
    made ??= make();
    if (permissions.includes('*')) return made;
    return { tools: made.tools.filter(({ name }) => permitsTool(permissions, tools.get(name)!)) };
  };
  return { list, names: new Set(tools.keys()) };
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
 * One flat object for success and failure, since clients check structured content against this schema in both cases: a
 * schema of successes alone would hide every error behind "does not match", and an `anyOf` at the root some do not read.
 */
function outputSchema(tool: Tool): Record<string, unknown> {
  const { properties } = z.toJSONSchema(tool.output, JSON_SCHEMA_OPTIONS);
  const fields = { success: { type: 'boolean' as const }, error: ERROR_OUT, ...properties };
  return portable({
    type: 'object',
    properties: mapValues<Schema, Schema>(fields, (each) => outline(each)),
    required: ['success'],
  });
}

/**
 * A field of an output as far as clients use it, which read it all before they call anything: what it is, in words; which
 * fields its objects have, and of what type; of objects inside those, that they are objects. The reference page has the rest.
 */
function outline(schema: Schema, level = 0): Schema {
  if (typeof schema === 'boolean') return schema;
  const { properties, required, items, anyOf, description, ...rest } = schema;
  const outlined: Exclude<Schema, boolean> = rest;
  if (anyOf !== undefined) outlined.anyOf = anyOf.map((each) => outline(each, level) as typeof outlined);
  if (items !== undefined && !Array.isArray(items)) outlined.items = outline(items, level);
  if (level > 0) return outlined;
  if (properties !== undefined) outlined.properties = mapValues(properties, (each) => outline(each, level + 1));
  if (description !== undefined) outlined.description = description;
  return outlined;
}

/** Keywords whose value is data, not a schema. */
const DATA_KEYWORDS = new Set(['default', 'const', 'enum', 'examples', 'required']);
/** Keywords that clients are known to refuse, whole servers with them. What they say is checked with the input itself. */
const LEFT_OUT = new Set(['$schema', 'propertyNames']);

/**
 * Respells a schema for clients of narrower dialects: one `type` per schema, `true` for "anything", bounds that are part
 * of the range. Bounds that every whole number of JavaScript has say nothing, and are left out.
 */
function portable<T>(schema: T): T {
  if (Array.isArray(schema)) return schema.map(portable) as T;
  if (typeof schema !== 'object' || schema === null) return schema;
  const respelled: Record<string, unknown> = {};
  for (const [keyword, value] of Object.entries(schema)) {
    if (LEFT_OUT.has(keyword)) continue;
    if (typeof value === 'number' && Math.abs(value) === Number.MAX_SAFE_INTEGER) continue;
    if (keyword === 'type' && Array.isArray(value)) respelled['anyOf'] = value.map((type) => ({ type }));
    else if (keyword === 'exclusiveMinimum' && typeof value === 'number') respelled['minimum'] = value;
    else if (keyword === 'additionalProperties' && isEmpty(value)) respelled[keyword] = true;
    else if (keyword === 'properties') respelled[keyword] = mapValues(value as Record<string, unknown>, portable);
    else respelled[keyword] = DATA_KEYWORDS.has(keyword) ? value : portable(value);
  }
  return respelled as T;
}

function mapValues<T, R>(object: Record<string, T>, map: (value: T) => R): Record<string, R> {
  return Object.fromEntries(Object.entries(object).map(([key, value]) => [key, map(value)]));
}

function isEmpty(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Object.keys(value).length === 0;
}
