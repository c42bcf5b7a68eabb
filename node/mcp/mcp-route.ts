/**
 * `/mcp`: decides by the `mcp-protocol-version` header which generation of the protocol a request speaks, and hands
 * it on. This is the one place that knows the generations; a stateless one (2026-07-28) becomes a second branch.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { SUPPORTED_PROTOCOL_VERSIONS } from '@modelcontextprotocol/sdk/types.js';
import { HttpRefusal, readJson, sendJson } from './http-exchange.ts';
import type { HttpSessions, Principal } from './http-sessions.ts';
import { MESSAGE_BYTES_MAX } from './limits.ts';

/** `UnsupportedProtocolVersionError` of the 2026-07-28 specification; older clients look at the status only. */
const UNSUPPORTED_PROTOCOL_VERSION = -32_022;

export async function serveMcp(
  sessions: HttpSessions,
  principal: Principal,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const version = header(request, 'mcp-protocol-version');
  // Requests before the version is negotiated, and clients of 2025-03-26, send none.
  if (version === undefined || SUPPORTED_PROTOCOL_VERSIONS.includes(version)) {
    await serveSessions(sessions, principal, request, response);
    return;
  }
  throw new HttpRefusal(
    400,
    'UNSUPPORTED_PROTOCOL_VERSION',
    `Unsupported protocol version: ${version}. This peer speaks ${SUPPORTED_PROTOCOL_VERSIONS.join(', ')}`,
    { rpcCode: UNSUPPORTED_PROTOCOL_VERSION, data: { supported: SUPPORTED_PROTOCOL_VERSIONS, requested: version } },
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
      const body = await readJson(request, response, MESSAGE_BYTES_MAX);
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

/** A refusal as JSON-RPC, without an id: it is about the HTTP request, not about a message in it. */
export function refuseMcp(request: IncomingMessage, response: ServerResponse, refusal: HttpRefusal): void {
  const error = {
    code: refusal.rpcCode,
    message: refusal.message,
    ...(refusal.data !== undefined && { data: refusal.data }),
  };
  sendJson(request, response, refusal.status, { jsonrpc: '2.0', error, id: null }, refusal.headers);
}

function header(request: IncomingMessage, name: string): string | undefined {
  const value = request.headers[name];
  return Array.isArray(value) ? value[0] : value;
}
