/**
 * Who makes an HTTP request, by the one key or token that its headers show (RFC 6750), and what a client is told that shows
 * none (RFC 9728).
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Authenticator } from '../auth/authenticator.ts';
import { AuthError } from '../auth/errors.ts';
import type { Principal } from '../auth/principal.ts';
import type { AuthSettings } from '../config/auth.ts';
import { HttpRefusal, sendJson } from './http-exchange.ts';
import { RETRY_AFTER_S } from './limits.ts';
import type { ListenerOptions } from './listener.ts';

const METADATA_PATH = '/.well-known/oauth-protected-resource';
const BEARER = /^Bearer +([\w.~+/-]+=*) *$/i;
/** Fields of a query that would be a key or a token, and what keys and tokens look like. */
const QUERY_NAMES = /^(access_?token|id_?token|token|bearer|authorization|(x[-_])?api[-_]?key|key|jwt)$/i;
const QUERY_VALUES = /^(bearer\s|fmk1_|eyJ)/i;

/** What of a listener follows from who is asked who they are. */
export function askWhoCalls(authenticator: Authenticator): Pick<ListenerOptions, 'identify' | 'serveOpen'> {
  return {
    identify: (request) => identifyRequest(authenticator, request),
    serveOpen: (path, request, response) => serveMetadata(authenticator.settings, path, request, response),
  };
}

/** @returns who it is @throws HttpRefusal */
async function identifyRequest(authenticator: Authenticator, request: IncomingMessage): Promise<Principal> {
  try {
    return await authenticator.principalOf(shownBy(request));
  } catch (error) {
    if (!(error instanceof AuthError)) throw error;
    throw refusalOf(error, authenticator.settings);
  }
}

/** @throws AuthError TOKEN_REQUIRED, TOKEN_INVALID, TOKEN_AMBIGUOUS, TOKEN_IN_QUERY */
function shownBy(request: IncomingMessage): string {
  if (hasTokenInQuery(request.url!)) throw new AuthError('TOKEN_IN_QUERY');
  // Of two headers Node keeps the first, and a proxy in front may have looked at the other one.
  const { authorization = [], 'x-api-key': apiKey = [] } = request.headersDistinct;
  if (authorization.length + apiKey.length > 1) throw new AuthError('TOKEN_AMBIGUOUS');
  const [key] = apiKey;
  if (key !== undefined) return key.trim();
  const [header] = authorization;
  if (header === undefined) throw new AuthError('TOKEN_REQUIRED');
  const token = BEARER.exec(header)?.[1];
  if (token === undefined) throw new AuthError('TOKEN_INVALID');
  return token;
}

function hasTokenInQuery(url: string): boolean {
  const query = url.indexOf('?');
  if (query === -1) return false;
  for (const [name, value] of new URLSearchParams(url.slice(query))) {
    if (QUERY_NAMES.test(name) || QUERY_VALUES.test(value)) return true;
  }
  return false;
}

function refusalOf(error: AuthError, { oauth }: AuthSettings): HttpRefusal {
  const headers: Record<string, string> = {};
  if (error.status === 503) headers['retry-after'] = String(RETRY_AFTER_S);
  else {
    const parameters = { realm: 'flowmesh', error: error.bearerError, resource_metadata: metadataUrl(oauth) };
    const told = Object.entries(parameters).flatMap(([name, value]) =>
      value === undefined ? [] : [`${name}="${value}"`],
    );
    headers['www-authenticate'] = `Bearer ${told.join(', ')}`;
  }
  return new HttpRefusal(error.status, error.code, error.message, { headers });
}

/** Where clients read of this peer's authorization servers: for `https://host/mcp` below `/mcp` of it (RFC 9728, 3.1). */
function metadataUrl(oauth: AuthSettings['oauth']): string | undefined {
  if (oauth === undefined) return undefined;
  const { origin, pathname } = new URL(oauth.resource);
  return `${origin}${METADATA_PATH}${pathname === '/' ? '' : pathname}`;
}

/** Answers a question for the metadata of this resource, which needs no token. @returns whether it was one */
function serveMetadata(
  { oauth }: AuthSettings,
  path: string,
  request: IncomingMessage,
  response: ServerResponse,
): boolean {
  if (path !== METADATA_PATH && path !== `${METADATA_PATH}/mcp`) return false;
  if (oauth === undefined) {
    throw new HttpRefusal(404, 'NOT_FOUND', 'This peer takes keys, and names no authorization server of OAuth');
  }
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    throw new HttpRefusal(405, 'METHOD_NOT_ALLOWED', `${request.method} is not a method of this route, GET is`, {
      headers: { allow: 'GET' },
    });
  }
  sendJson(request, response, 200, {
    resource: oauth.resource,
    authorization_servers: oauth.authorization_servers,
    bearer_methods_supported: ['header'],
    ...(oauth.scopes.length > 0 && { scopes_supported: oauth.scopes }),
    resource_name: 'flowmesh',
  });
  return true;
}
