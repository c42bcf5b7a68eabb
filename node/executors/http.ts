/**
 * `http`: one request.
 *
 *   inputs: { url, method? = GET, headers?, body?, timeout_ms? = 30000, redirect?, expect_status?, big_numbers? }
 *   output: { status, headers, body }
 *
 * - `body` of the answer is parsed when it is JSON, text when it is UTF-8, else base64 with `body_encoding: "base64"`.
 * - Expected is any 2xx, or what `expect_status` says (a number or a list).
 * - `headers` has each as one text, but for `set-cookie`, which is a list.
 * - An object as body is JSON, or with the content type `application/x-www-form-urlencoded` the fields of a form.
 * - Retryable: no answer, a broken answer, a timeout, and the statuses 408, 425, 429 and 5xx. Others are not. What the
 *   server asks to wait (`Retry-After`) is `retry_after_ms` in the details of the error: the next attempt waits for it.
 * - `Idempotency-Key` is the task's uid, the same at every attempt, unless the step sets its own; `Flowmesh-Attempt` is
 *   the number of the attempt.
 * - Redirects are followed, each within the peer's policy (`address-policy.ts`). `redirect: manual` gives the answer
 *   itself, `error` fails. Where `expect_status` names a redirect, `manual` is what is meant.
 */
import { Agent, fetch, Headers, type Response } from 'undici';
import { type HttpInputs, isForm, parseInputs } from '../../dag/action-inputs.ts';
import { FlowmeshError, type JsonObject, type JsonValue } from '../../dag/errors.ts';
import { DURATION_MS_MAX, OUTPUT_BYTES_MAX } from '../../dag/limits.ts';
import type { ExecutionIO, ExecutionRequest } from '../../scheduler/ports.ts';
import { after } from '../clock.ts';
import { guardedConnector, type HttpPolicy } from './address-policy.ts';
import { ActionAbortedError, OutputTooLargeError } from './errors.ts';
import { parseJsonOutput } from './json-output.ts';
import { HTTP_BODY_SHOWN_CHARS_MAX, HTTP_KEEP_ALIVE_MS, SHOWN_CHARS_MAX } from './limits.ts';

const RETRYABLE_STATUSES = new Set([408, 425, 429]);
const REDIRECT_STATUSES = new Set([301, 302, 303, 307, 308]);
/** What fetch refuses to do, whatever the network is like, as it says it and as it is told here. */
const FETCH_REFUSALS = new Map([
  [
    'bad port',
    'its port, or that of a redirect, belongs to another protocol, and HTTP clients refuse it (the bad ports of the Fetch standard); let the server listen on another port',
  ],
  ['redirect count exceeded', 'it redirects without an end'],
  ['URL scheme must be a HTTP(S) scheme', 'it redirects to something else than http and https'],
  ['unexpected redirect', 'it redirects, and the step says redirect: error'],
]);

/** The server answered with a status that the step did not expect. */
class HttpStatusError extends FlowmeshError {
  constructor(payload: HttpInputs, response: Response, body: string) {
    const text = body.slice(0, HTTP_BODY_SHOWN_CHARS_MAX);
    const standard = payload.redirect === 'manual' ? '2xx or 3xx' : '2xx';
    const expected = payload.expect_status === undefined ? standard : [payload.expect_status].flat().join(' or ');
    const details: JsonObject = { status: response.status, body: text };
    const retryAfter = response.headers.get('retry-after');
    const waitMs = retryAfterMs(response.headers);
    if (retryAfter !== null) details['retry_after'] = retryAfter;
    if (waitMs !== null) details['retry_after_ms'] = waitMs;
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
    const refusal = FETCH_REFUSALS.get(why);
    super('HTTP_FAILED', `${named(payload)} failed: ${refusal ?? why}`, { retryable: refusal === undefined, cause });
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
    const timeout = new AbortController();
    const callOff = after(payload.timeout_ms, () => timeout.abort());
    try {
      const response = await fetch(payload.url, {
        method: payload.method,
        headers: headersOf(payload, request),
        ...(payload.body !== undefined && { body: bodyOf(payload.body, payload.headers) }),
        redirect: redirectOf(payload),
        signal: AbortSignal.any([io.signal, timeout.signal]),
        dispatcher: this.#agent,
      });
      const bytes = await boundedBytes(response, payload);
      const type = response.headers.get('content-type') ?? '';
      if (!isExpected(response.status, payload)) throw new HttpStatusError(payload, response, bodyText(bytes).body);
      const body = readBody(bytes, type, payload);
      return { status: response.status, headers: headersIn(response.headers), ...body };
    } catch (error) {
      if (io.signal.aborted) throw new ActionAbortedError('http');
      const known = knownError(error);
      if (known !== null) throw known;
      throw timeout.signal.aborted ? new HttpTimeoutError(payload) : new HttpFailedError(payload, error);
    } finally {
      callOff();
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

function bodyOf(body: JsonValue, headers: Record<string, string>): string {
  if (typeof body === 'string') return body;
  return isForm(headers) ? formOf(body as JsonObject) : JSON.stringify(body);
}

/** A list is a field that is there several times. */
function formOf(fields: JsonObject): string {
  const form = new URLSearchParams();
  for (const [name, value] of Object.entries(fields)) {
    for (const each of [value].flat()) form.append(name, String(each));
  }
  return form.toString();
}

function redirectOf({ redirect, expect_status }: HttpInputs): 'follow' | 'manual' | 'error' {
  const isWanted = [expect_status ?? []].flat().some((status) => REDIRECT_STATUSES.has(status));
  return redirect ?? (isWanted ? 'manual' : 'follow');
}

function isExpected(status: number, { redirect, expect_status }: HttpInputs): boolean {
  if (expect_status !== undefined) return [expect_status].flat().includes(status);
  return status >= 200 && status < (redirect === 'manual' ? 400 : 300);
}

function headersIn(headers: Response['headers']): JsonObject {
  const cookies = headers.getSetCookie();
  return { ...Object.fromEntries(headers), ...(cookies.length > 0 && { 'set-cookie': cookies }) };
}

/** Seconds, or a date, which is compared with that of the answer: clocks may differ (RFC 9110, section 10.2.3). */
function retryAfterMs(headers: Response['headers']): number | null {
  const text = headers.get('retry-after')?.trim() ?? '';
  const now = Date.parse(headers.get('date') ?? '');
  const wait = /^\d+$/.test(text)
    ? Number(text) * 1_000
    : Date.parse(/^[A-Za-z]+,? /.test(text) ? text : '') - (Number.isNaN(now) ? Date.now() : now);
  return Number.isNaN(wait) ? null : Math.min(Math.max(wait, 0), DURATION_MS_MAX);
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
