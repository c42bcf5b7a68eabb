/**
 * The public keys of who makes tokens, from a URL of the settings. Whatever is there (nothing, something slow or huge, an
 * address inside this network, a redirect to one) costs little and ends soon: callers who are not known yet make it asked.
 */
import { createRemoteJWKSet, customFetch, type JWTVerifyGetKey } from 'jose';
import { Agent, fetch } from 'undici';
import type { Log } from '../../scheduler/ports.ts';
import { guardedConnector } from '../executors/address-policy.ts';
import { ActionNotAllowedError } from '../executors/errors.ts';
import { AuthError } from './errors.ts';
import { JWKS_BYTES_MAX, JWKS_COOLDOWN_MS, JWKS_KEPT_MS, JWKS_RETRY_MS, JWKS_TIMEOUT_MS } from './limits.ts';

/** @param options.private whether they may be at an address that is not public */
export function remoteKeys(url: string, options: { private: boolean; log: Log }): JWTVerifyGetKey {
  const agent = new Agent({
    connect: guardedConnector({ private: options.private, allow: [] }),
    headersTimeout: JWKS_TIMEOUT_MS,
    bodyTimeout: JWKS_TIMEOUT_MS,
  });
  let failed: { error: AuthError; at: number } | undefined;
  const read = async (signal: AbortSignal): Promise<Response> => {
    if (failed !== undefined && performance.now() - failed.at < JWKS_RETRY_MS) throw failed.error;
    try {
      const answer = await fetch(url, { dispatcher: agent, redirect: 'error', signal });
      if (answer.status !== 200) throw new Error(`it answered HTTP ${answer.status}`);
      const text = await boundedText(answer.body);
      JSON.parse(text);
      failed = undefined;
      return new Response(text);
    } catch (cause) {
      const error = new AuthError('JWKS_UNAVAILABLE', { cause });
      failed = { error, at: performance.now() };
      options.log.warn({ url, reason: reasonOf(cause) }, 'the public keys of who makes tokens cannot be read');
      throw error;
    }
  };
  const keys = createRemoteJWKSet(new URL(url), {
    timeoutDuration: JWKS_TIMEOUT_MS,
    cooldownDuration: JWKS_COOLDOWN_MS,
    cacheMaxAge: JWKS_KEPT_MS,
    [customFetch]: (_url, { signal }) => read(signal),
  });
  return (header, token) => keys(header, token);
}

async function boundedText(body: AsyncIterable<Uint8Array> | null): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of body ?? []) {
    bytes += chunk.byteLength;
    if (bytes > JWKS_BYTES_MAX) throw new Error(`it is larger than ${JWKS_BYTES_MAX} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

/** What the innermost error says: fetch itself says only that it failed. */
function reasonOf(error: unknown): string {
  let inner = error;
  while (inner instanceof Error && inner.cause instanceof Error) inner = inner.cause;
  if (inner instanceof ActionNotAllowedError) {
    return 'it is at an address that is not public; auth.jwt.jwks_private: true lets it be';
  }
  return inner instanceof Error ? inner.message : String(inner);
}
