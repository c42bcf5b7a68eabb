/**
 * A client's message as it came off the wire: what clients write where nothing is meant is taken away, what belongs to a
 * tool is left to the tool, and what is no message is refused in one sentence with the id it has.
 */
import {
  CallToolRequestSchema,
  ErrorCode,
  InitializeRequestSchema,
  type JSONRPCMessage,
  JSONRPCMessageSchema,
  ListToolsRequestSchema,
  type RequestId,
} from '@modelcontextprotocol/sdk/types.js';
import type { z } from 'zod';
import { faultOf, faultText, type JsonFault } from '../../dag/json.ts';
import { cut, quoted } from '../../dag/quoted.ts';
import { describeProblems } from '../../dag/schema.ts';
import { parseMessage } from './message-text.ts';

/** Problems that the sentence of a refusal names. */
const PROBLEMS_IN_SENTENCE = 3;

/**
 * An error of the protocol. Its message goes to the client as it is: the SDK's own error class would put its name and code
 * before it, and the client's does so once more.
 */
export class RpcError extends Error {
  readonly code: number;
  /** Of the request, where it has one. */
  readonly id: RequestId | null;

  constructor(code: number, message: string, id: RequestId | null = null) {
    super(message);
    this.code = code;
    this.id = id;
  }

  /** As it is written to the client. */
  toMessage(): JSONRPCMessage {
    const { code, message, id } = this;
    // The SDK's type knows no answer to a message without an id; JSON-RPC 2.0 does.
    return { jsonrpc: '2.0', id, error: { code, message } } as JSONRPCMessage;
  }
}

/** Requests whose params are checked here; a tool's arguments are the router's. */
const REQUESTS: ReadonlyMap<string, z.ZodType> = new Map(
  Object.entries({
    initialize: InitializeRequestSchema as unknown as z.ZodType,
    'tools/list': ListToolsRequestSchema as unknown as z.ZodType,
    'tools/call': CallToolRequestSchema as unknown as z.ZodType,
  }),
);

/**
 * @param value what the message's text said
 * @throws RpcError InvalidRequest (-32600) for what is no JSON-RPC 2.0 message or holds a value over a limit,
 *   InvalidParams (-32602) for a request with params that it does not take
 */
export function readMessage(value: unknown): JSONRPCMessage {
  const fault = faultOf(isObject(value) ? withoutArguments(value) : value);
  if (fault !== undefined) throw refusalOf(value, fault);
  const message = isObject(value) ? tidied(value) : value;
  const id = idOf(message);
  if (isObject(message) && typeof message['method'] === 'string' && id !== null) {
    const problem = problemOf(message['method'], message);
    if (problem !== undefined) throw new RpcError(ErrorCode.InvalidParams, problem, id);
  }
  const parsed = JSONRPCMessageSchema.safeParse(message);
  if (parsed.success) return message as JSONRPCMessage;
  const text =
    'Invalid Request: not a JSON-RPC 2.0 message. It needs jsonrpc: "2.0" and a method, a result or an error';
  throw new RpcError(ErrorCode.InvalidRequest, text, id);
}

/** The id of a request, or null for what has none. */
export function requestId(message: JSONRPCMessage): RequestId | null {
  return 'method' in message ? idOf(message) : null;
}

function problemOf(method: string, message: Record<string, unknown>): string | undefined {
  const { params } = message;
  if (params !== undefined && !isObject(params)) {
    return `Invalid params of ${quoted(method)}: params must be an object, not ${Array.isArray(params) ? 'a list' : typeof params}`;
  }
  const schema = REQUESTS.get(method);
  const parsed = schema?.safeParse(message);
  if (schema === undefined || parsed === undefined || parsed.success) return undefined;
  const problems = describeProblems(parsed.error, schema, message);
  const shown = problems.slice(0, PROBLEMS_IN_SENTENCE).map(({ path, message: text }) => `${path} ${text}`);
  return `Invalid params of ${method}: ${shown.join('; ')}`;
}

/** Of a request, where its params are what is wrong, else of the message. */
function refusalOf(message: unknown, fault: JsonFault): RpcError {
  const id = idOf(message);
  const method = isObject(message) ? message['method'] : undefined;
  const ofParams = id !== null && typeof method === 'string' && /^params\b/.test(fault.path);
  return ofParams
    ? new RpcError(ErrorCode.InvalidParams, `Invalid params of ${cut(method)}: ${faultText(fault)}`, id)
    : new RpcError(ErrorCode.InvalidRequest, `Invalid Request: ${faultText(fault)}`, id);
}

/** What is checked here: the arguments of a tool are checked where the tool is known, and refused with their place. */
function withoutArguments(message: Record<string, unknown>): Record<string, unknown> {
  const { method, params } = message;
  return method === 'tools/call' && isObject(params)
    ? { ...message, params: { ...params, arguments: undefined } }
    : message;
}

/**
 * Null is written for "nothing" by some clients, and an object as its JSON by others. `task` asks for an answer of another
 * kind, which no call here gives: the specification has it ignored where it is not offered.
 */
function tidied(message: Record<string, unknown>): Record<string, unknown> {
  const { params, ...rest } = message;
  if (params === null) return rest;
  if (!isObject(params)) return message;
  const kept: Record<string, unknown> = {};
  for (const [field, value] of Object.entries(params)) if (value !== null) kept[field] = value;
  if (kept['cursor'] === '') delete kept['cursor'];
  if (message['method'] === 'tools/call') {
    delete kept['task'];
    if (typeof kept['arguments'] === 'string') kept['arguments'] = objectIn(kept['arguments']);
  }
  if (isObject(kept['_meta']) && kept['_meta']['progressToken'] === null) {
    const { progressToken, ...meta } = kept['_meta'];
    kept['_meta'] = meta;
  }
  return { ...message, params: kept };
}

/** The object whose JSON `text` is, or `text`. */
function objectIn(text: string): unknown {
  try {
    const value = parseMessage(text);
    return isObject(value) ? value : text;
  } catch {
    // It is refused as the text that it is.
    return text;
  }
}

function idOf(message: unknown): RequestId | null {
  const id = isObject(message) ? message['id'] : undefined;
  return typeof id === 'string' || Number.isInteger(id) ? (id as RequestId) : null;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
