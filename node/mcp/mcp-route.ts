/**
 * `/mcp`: decides by the `mcp-protocol-version` header which generation of the protocol a request speaks, and hands
 * it on. This is the one place that knows the generations; a stateless one (2026-07-28) becomes a second branch.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { ErrorCode, type JSONRPCMessage, SUPPORTED_PROTOCOL_VERSIONS } from '@modelcontextprotocol/sdk/types.js';
import { cut } from '../../dag/quoted.ts';
import type { Tool } from '../../tools/definition.ts';
import type { Principal } from '../auth/principal.ts';
import { catalogueOf } from './catalogue.ts';
import { HttpRefusal, readJson } from './http-exchange.ts';
import { HttpSessions, type SessionLimits } from './http-sessions.ts';
import { BATCH_MESSAGES_MAX, MESSAGE_BYTES_MAX } from './limits.ts';
import { RpcError, readMessage } from './messages.ts';
import type { SessionComponents } from './session.ts';

const ACCEPTED = 'application/json, text/event-stream';

export interface McpRoute {
  /** Answers one request. @throws HttpRefusal */
  serve(principal: Principal, request: IncomingMessage, response: ServerResponse): Promise<void>;
  /** Resolves when no call runs any more. */
  drained(): Promise<void>;
  /** Ends every session. */
  close(): Promise<void>;
}

/** @param components.tools what is served */
export function openMcpRoute(
  { tools, ...components }: Omit<SessionComponents, 'catalogue'> & { tools: ReadonlyMap<string, Tool> },
  limits: SessionLimits,
): McpRoute {
  const sessions = new HttpSessions({ ...components, catalogue: catalogueOf(tools) }, limits);
  return {
    serve: (principal, request, response) => serveMcp(sessions, principal, request, response),
    drained: () => sessions.drained(),
    close: () => sessions.close(),
  };
}

async function serveMcp(
  sessions: HttpSessions,
  principal: Principal,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  acceptAnything(request);
  const version = header(request, 'mcp-protocol-version');
  // Requests before the version is negotiated, and clients of 2025-03-26, send none.
  if (version === undefined || SUPPORTED_PROTOCOL_VERSIONS.includes(version)) {
    await serveSessions(sessions, principal, request, response);
    return;
  }
  // The code and the words of the SDK: a code of a later revision would tell its clients that it is spoken here.
  throw new HttpRefusal(
    400,
    'UNSUPPORTED_PROTOCOL_VERSION',
    `Bad Request: Unsupported protocol version: ${cut(version)} (supported versions: ${SUPPORTED_PROTOCOL_VERSIONS.join(', ')})`,
  );
}

async function serveSessions(
  sessions: HttpSessions,
  principal: Principal,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const id = header(request, 'mcp-session-id');
  switch (request.method) {
    case 'POST': {
      // Before the body is read: a request for a session that is gone costs nothing.
      if (id !== undefined) sessions.find(id, principal);
      const body = messagesOf(await readJson(request, response, MESSAGE_BYTES_MAX));
      if (id === undefined) await sessions.open(principal, request, response, body);
      else await sessions.serve(id, principal, request, response, body);
      return;
    }
    case 'GET':
    case 'DELETE':
      if (id === undefined) throw new HttpRefusal(400, 'SESSION_REQUIRED', 'Mcp-Session-Id header is required');
      await sessions.serve(id, principal, request, response);
      return;
    default:
      throw new HttpRefusal(405, 'METHOD_NOT_ALLOWED', `${request.method} is not a method of /mcp`, {
        headers: { allow: 'GET, POST, DELETE' },
      });
  }
}

/** One message, or the several of a batch, of which none is served when one of them is none. */
function messagesOf(body: unknown): JSONRPCMessage | JSONRPCMessage[] {
  // Before they are looked at: a large body has hundreds of thousands.
  if (Array.isArray(body) && body.length > BATCH_MESSAGES_MAX) {
    throw new HttpRefusal(400, 'BATCH_TOO_LARGE', `A batch has at most ${BATCH_MESSAGES_MAX} messages`, {
      rpcCode: ErrorCode.InvalidRequest,
    });
  }
  try {
    return Array.isArray(body) ? body.map(readMessage) : readMessage(body);
  } catch (error) {
    if (!(error instanceof RpcError)) throw error;
    throw refusalOf(error, body);
  }
}

/** Wrong params are an answer to the request; what is no request is an HTTP request that went wrong. */
function refusalOf({ code, message, id }: RpcError, body: unknown): HttpRefusal {
  const isAnswer = code === ErrorCode.InvalidParams && !Array.isArray(body) && !isInitialize(body);
  return new HttpRefusal(isAnswer ? 200 : 400, 'INVALID_MESSAGE', message, { rpcCode: code, rpcId: id });
}

function isInitialize(body: unknown): boolean {
  return typeof body === 'object' && body !== null && 'method' in body && body.method === 'initialize';
}

/** A client that takes anything takes what the SDK's transport wants to see named. */
function acceptAnything(request: IncomingMessage): void {
  const { accept } = request.headers;
  if (accept !== undefined && !accept.includes('*/*')) return;
  request.headers.accept = ACCEPTED;
  request.rawHeaders.push('Accept', ACCEPTED);
}

function header(request: IncomingMessage, name: string): string | undefined {
  const value = request.headers[name];
  return Array.isArray(value) ? value[0] : value;
}
