/**
 * `http`: one request.
 *
 *   inputs: { url, method? = GET, headers?, body?, timeout_ms? = 30000, expect_status?, big_numbers? }
 *   output: { status, headers, body }
 *
 * - `body` of the answer is parsed when it is JSON, text when it is UTF-8, else base64 with `body_encoding: "base64"`.
 * - Expected is any 2xx, or what `expect_status` says (a number or a list).
 * - Retryable: no answer, a broken answer, a timeout, and the statuses 408, 425, 429 and 5xx. Others are not.
 * - `Idempotency-Key` is the task's uid, the same at every attempt, unless the step sets its own; `Flowmesh-Attempt` is
 *   the number of the attempt.
 * - Redirects are followed, each within the peer's policy (`address-policy.ts`).
 */
import { Agent, fetch, Headers, type Response } from 'undici';
import { type HttpInputs, parseInputs } from '../../dag/action-inputs.ts';
import { FlowmeshError, type JsonObject, type JsonValue } from '../../dag/errors.ts';
import { OUTPUT_BYTES_MAX } from '../../dag/limits.ts';
import type { ExecutionIO, ExecutionRequest } from '../../scheduler/ports.ts';
import { guardedConnector, type HttpPolicy } from './address-policy.ts';
import { ActionAbortedError, OutputTooLargeError } from './errors.ts';
import { parseJsonOutput } from './json-output.ts';
import { HTTP_BODY_SHOWN_CHARS_MAX, HTTP_KEEP_ALIVE_MS, SHOWN_CHARS_MAX } from './limits.ts';

const RETRYABLE_STATUSES = new Set([408, 425, 429]);
/** What fetch refuses to do, whatever the network is like: ports of other protocols, endless redirects. */
const FETCH_REFUSALS = new Set(['bad port', 'redirect count exceeded', 'URL scheme must be a HTTP(S) scheme']);

/** The server answered with a status that the step did not expect. */
class HttpStatusError extends FlowmeshError {
  constructor(payload: HttpInputs, response: Response, body: string) {
    const text = body.slice(0, HTTP_BODY_SHOWN_CHARS_MAX);
    const expected = payload.expect_status === undefined ? '2xx' : [payload.expect_status].flat().join(' or ');
    const details: JsonObject = { status: response.status, body: text };
    const retryAfter = response.headers.get('retry-after');
    if (retryAfter !== null) details['retry_after'] = retryAfter;
    super('HTTP_STATUS', `${named(payload)} answered ${response.status}, expected ${expected}`, {
      retryable: response.status >= 500 || RETRYABLE_STATUSES.has(response.status),
      details,
    });
  }
}

/** There was no whole answer. */
class HttpFailedError extends FlowmeshError {
  constructor(payload: HttpInputs, cause: unknown) {
    const why = innermostMessage(cause);
    super('HTTP_FAILED', `${named(payload)} failed: ${why}`, { retryable: !FETCH_REFUSALS.has(why), cause });
  }
}

class HttpTimeoutError extends FlowmeshError {
  constructor(payload: HttpInputs) {
    super(
      'HTTP_TIMEOUT',
      `${named(payload)} took longer than ${payload.timeout_ms} ms; raise timeout_ms if that is normal`,
      { retryable: true, details: { timeout_ms: payload.timeout_ms } },
    );
  }
}

/** The `http` action with its connections. */
export class HttpAction {
  readonly #agent: Agent;

  /** @param connect opens every connection, those of redirects too; default: within `policy` */
  constructor(policy: HttpPolicy, connect = guardedConnector(policy)) {
    // Timeouts are the step's own: the agent's would cut a long answer that the step waits for.
    this.#agent = new Agent({
      connect,
      keepAliveTimeout: HTTP_KEEP_ALIVE_MS,
      headersTimeout: 0,
      bodyTimeout: 0,
    });
  }

  /**
   * @throws InvalidInputsError, ActionNotAllowedError, ActionAbortedError, OutputTooLargeError, HttpStatusError
   *   (`HTTP_STATUS`), HttpFailedError (`HTTP_FAILED`), HttpTimeoutError (`HTTP_TIMEOUT`)
   */
  async run(request: ExecutionRequest, io: ExecutionIO): Promise<JsonValue> {
    const payload = parseInputs('http', request.payload);
    const timeout = AbortSignal.timeout(payload.timeout_ms);
    try {
      const response = await fetch(payload.url, {
        method: payload.method,
        headers: headersOf(payload, request),
        ...(payload.body !== undefined && { body: bodyOf(payload.body) }),
        signal: AbortSignal.any([io.signal, timeout]),
        dispatcher: this.#agent,
      });
      const bytes = await boundedBytes(response, payload);
      const type = response.headers.get('content-type') ?? '';
      if (!isExpected(response.status, payload)) throw new HttpStatusError(payload, response, bodyText(bytes).body);
      const body = readBody(bytes, type, payload);
      return { status: response.status, headers: Object.fromEntries(response.headers), ...body };
    } catch (error) {
      if (io.signal.aborted) throw new ActionAbortedError('http');
      const known = knownError(error);
      if (known !== null) throw known;
      throw timeout.aborted ? new HttpTimeoutError(payload) : new HttpFailedError(payload, error);
    }
  }

  async close(): Promise<void> {
    await this.#agent.destroy();
  }
}

function named(payload: HttpInputs): string {
  return `${payload.method} ${payload.url.slice(0, SHOWN_CHARS_MAX)}`;
}

function headersOf(payload: HttpInputs, request: ExecutionRequest): Headers {
  const headers = new Headers(payload.headers);
  if (!headers.has('idempotency-key')) headers.set('idempotency-key', request.uid);
  headers.set('flowmesh-attempt', String(request.attempt));
  if (payload.body !== undefined && !headers.has('content-type')) {
    headers.set('content-type', typeof payload.body === 'string' ? 'text/plain; charset=utf-8' : 'application/json');
  }
  return headers;
}

function bodyOf(body: JsonValue): string {
  return typeof body === 'string' ? body : JSON.stringify(body);
}

function isExpected(status: number, payload: HttpInputs): boolean {
  if (payload.expect_status === undefined) return status >= 200 && status < 300;
  return [payload.expect_status].flat().includes(status);
}

async function boundedBytes(response: Response, payload: HttpInputs): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  // Leaving the loop cancels the body, which closes the connection.
  for await (const chunk of response.body ?? []) {
    bytes += (chunk as Uint8Array).byteLength;
    if (bytes > OUTPUT_BYTES_MAX) throw new OutputTooLargeError(`the answer to ${named(payload)}`);
    chunks.push(chunk as Uint8Array);
  }
  return Buffer.concat(chunks);
}

function readBody(bytes: Buffer, contentType: string, payload: HttpInputs): Body {
  const read = bodyText(bytes);
  if (read.body_encoding !== undefined) return read;
  if (!/^application\/([\w.-]+\+)?json\b/i.test(contentType.trim())) return read;
  try {
    return { body: parseJsonOutput(read.body, `the answer to ${named(payload)}`, payload.big_numbers) };
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    // The server says JSON and sends something else (often nothing): the step sees what came.
    return read;
  }
}

interface Body {
  body: JsonValue;
  body_encoding?: 'base64';
}

function bodyText(bytes: Buffer): Body & { body: string } {
  try {
    return { body: new TextDecoder('utf-8', { fatal: true }).decode(bytes) };
  } catch {
    // Not text: handed on as it is.
    return { body: bytes.toString('base64'), body_encoding: 'base64' };
  }
}

/** One of ours that came through fetch as the cause of its own error. */
function knownError(error: unknown): FlowmeshError | null {
  for (const each of causes(error)) if (each instanceof FlowmeshError) return each;
  return null;
}

/** fetch says only "fetch failed"; why is in the causes below. */
function innermostMessage(error: unknown): string {
  const last = causes(error).at(-1);
  if (!(last instanceof Error)) return String(last);
  const code = (last as NodeJS.ErrnoException).code;
  return last.message === '' ? (code ?? last.name) : last.message;
}

const CAUSES_MAX = 10;

function causes(error: unknown): unknown[] {
  const found = [error];
  while (found.length < CAUSES_MAX) {
    const last = found.at(-1);
    // Several addresses were tried: the first one's reason stands for all.
    const next = last instanceof AggregateError ? last.errors[0] : last instanceof Error ? last.cause : undefined;
    if (next === undefined) break;
    found.push(next);
  }
  return found;
}
