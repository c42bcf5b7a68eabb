/**
 * What a browser wants to hear before a page of another origin may read an answer. The origins are those that the check of
 * Host and Origin admits: whoever is let in here may read what it is told.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { PREFLIGHT_AGE_S } from './limits.ts';

const METHODS = 'GET, POST, DELETE, OPTIONS';
const REQUEST_HEADERS =
  'accept, authorization, content-type, last-event-id, mcp-method, mcp-name, mcp-protocol-version, mcp-session-id, x-api-key';
const ANSWER_HEADERS = 'mcp-session-id, retry-after, www-authenticate';

/**
 * For a request that passed the check of its Origin.
 *
 * @returns true when it was a preflight, which is answered now
 */
export function allowOrigin(request: IncomingMessage, response: ServerResponse): boolean {
  const { origin } = request.headers;
  if (origin === undefined) return false;
  response.setHeader('access-control-allow-origin', origin);
  response.setHeader('access-control-expose-headers', ANSWER_HEADERS);
  response.setHeader('vary', 'Origin');
  if (request.method !== 'OPTIONS' || request.headers['access-control-request-method'] === undefined) return false;
  response
    .writeHead(204, {
      'access-control-allow-methods': METHODS,
      'access-control-allow-headers': REQUEST_HEADERS,
      'access-control-max-age': String(PREFLIGHT_AGE_S),
    })
    .end();
  return true;
}
