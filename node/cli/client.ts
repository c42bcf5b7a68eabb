/**
 * An MCP client over Streamable HTTP that does what a command needs: greet, call tools, say goodbye.
 *
 * Invariant: a call is sent once. An answer that did not come is an error, never a reason to send it again.
 *
 * Why not the SDK's client: it takes longer to load than everything else that a command does together.
 *
 *   const peer = new PeerClient({ url: 'http://127.0.0.1:7601' });
 *   const output = await peer.call('peer_list', { limit: 10 });
 *   await peer.close();
 */
import { type ErrorShape, FlowmeshError, type JsonObject, RemoteError } from '../../dag/errors.ts';
import { packageVersion } from '../package-file.ts';
import { eventsOf } from './event-stream.ts';
import { PeerUnreachableError } from './exit.ts';

const PROTOCOL_VERSION = '2025-11-25';
const ANSWER_WAIT_MS = 60_000;
const GOODBYE_WAIT_MS = 1_000;

/** What OpenSSL says of a certificate whose authority is not known here. */
const UNTRUSTED = new Set([
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
]);

interface RpcAnswer {
  id?: number;
  result?: JsonObject;
  error?: { code: number; message: string; data?: { code?: string } };
}

/** Where a peer is, and how it is known there. */
export interface PeerAddress {
  /** Without `/mcp` and without a slash at the end. */
  url: string;
  /** The file of its certificate, for a peer of this machine. Absent: one that this machine trusts. */
  tls_cert?: string | null | undefined;
  /** The key or token that is shown to it. Absent: none, which does where nobody is asked. */
  token?: string | undefined;
}

export class PeerClient {
  readonly url: string;
  readonly #tlsCert: string | null | undefined;
  #ownFetch: Promise<typeof fetch> | undefined;
  #session: string | null = null;
  #version: string | undefined;
  #greeted: Promise<void> | undefined;
  #lastId = 0;

  readonly #token: string | undefined;
  readonly #answerWaitMs: number;

  /** @param answerWaitMs how long an answer may take, beyond what a call itself is allowed to take */
  constructor({ url, tls_cert, token }: PeerAddress, answerWaitMs = ANSWER_WAIT_MS) {
    this.url = url;
    this.#token = token;
    this.#tlsCert = tls_cert;
    this.#answerWaitMs = answerWaitMs;
  }

  /**
   * The tool's output.
   *
   * @param extraMs how long the tool itself may take, beside the usual wait
   * @throws RemoteError with the tool's own error; PeerUnreachableError when there is no answer
   */
  async call(tool: string, input: JsonObject, extraMs = 0): Promise<JsonObject> {
    this.#greeted ??= this.#greet();
    await this.#greeted;
    const result = await this.#rpc('tools/call', { name: tool, arguments: input }, this.#answerWaitMs + extraMs);
    const output = (result['structuredContent'] ?? parsedText(result['content'])) as JsonObject | undefined;
    if (output?.['success'] === false) throw new RemoteError(output['error'] as unknown as ErrorShape);
    if (output === undefined || result['isError'] === true) {
      throw new FlowmeshError('BAD_ANSWER', `${this.url} answered ${tool} with: ${textOf(result['content'])}`);
    }
    return output;
  }

  /** Ends the wait of a task for a person. */
  async answerTask(task_id: string, answer: JsonObject): Promise<JsonObject> {
    const response = await this.#fetch(`/tasks/${encodeURIComponent(task_id)}/answer`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(answer),
    });
    const output = (await this.#json(response)) as JsonObject & { error?: ErrorShape };
    if (output['success'] === false && output.error !== undefined) throw new RemoteError(output.error);
    if (!response.ok) throw this.#refused(response.status, JSON.stringify(output));
    return output;
  }

  /** Lets the peer drain and stop; it has begun when this resolves. @returns whom */
  async drain(timeoutMs: number | undefined): Promise<JsonObject> {
    const response = await this.#fetch('/drain', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ ...(timeoutMs !== undefined && { timeout_ms: timeoutMs }) }),
    });
    const output = (await this.#json(response)) as JsonObject & { error?: ErrorShape };
    if (output['success'] === false && output.error !== undefined) throw new RemoteError(output.error);
    if (!response.ok) throw this.#refused(response.status, JSON.stringify(output));
    return output;
  }

  /** What the user of a peer asks about its mesh (`node/membership/requests.ts`). */
  async meshRequest(request: string, input: JsonObject, adminKey: string): Promise<JsonObject> {
    const response = await this.#fetch(`/mesh/${request}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...bearer(adminKey) },
      body: JSON.stringify(input),
    });
    const { success, ...output } = (await this.#json(response)) as JsonObject & { error?: ErrorShape };
    if (success === false && output.error !== undefined) throw new RemoteError(output.error);
    if (!response.ok) throw this.#refused(response.status, JSON.stringify(output));
    return output;
  }

  /** What the peer says of its own state; also when it is not ready. */
  async status(): Promise<JsonObject> {
    const output = (await this.#json(await this.#fetch('/ready', { method: 'GET' }))) as JsonObject;
    if (output['success'] === false) throw new RemoteError(output['error'] as unknown as ErrorShape);
    return output;
  }

  /** Ends the session at the peer. Never throws: the peer forgets idle sessions by itself. */
  async close(): Promise<void> {
    if (this.#session === null) return;
    try {
      const response = await this.#fetch('/mcp', { method: 'DELETE', headers: this.#headers() }, GOODBYE_WAIT_MS);
      await response.body?.cancel();
    } catch {
      // The command has what it wanted.
    }
    this.#session = null;
  }

  async #greet(): Promise<void> {
    const result = await this.#rpc('initialize', {
      protocolVersion: PROTOCOL_VERSION,
      capabilities: {},
      clientInfo: { name: 'flowmesh-cli', version: packageVersion() },
    });
    this.#version = String(result['protocolVersion'] ?? PROTOCOL_VERSION);
    const response = await this.#post({ jsonrpc: '2.0', method: 'notifications/initialized' });
    await response.body?.cancel();
  }

  async #rpc(method: string, params: JsonObject, waitMs = this.#answerWaitMs): Promise<JsonObject> {
    const id = ++this.#lastId;
    const response = await this.#post({ jsonrpc: '2.0', id, method, params }, waitMs);
    this.#session = response.headers.get('mcp-session-id') ?? this.#session;
    const isStream = response.headers.get('content-type')?.startsWith('text/event-stream') ?? false;
    const answer = isStream ? await this.#fromStream(response, id) : ((await this.#json(response)) as RpcAnswer);
    if (answer.error?.data?.code !== undefined) {
      throw new RemoteError({ code: answer.error.data.code, message: answer.error.message, retryable: false });
    }
    if (answer.error !== undefined) {
      throw new FlowmeshError('PROTOCOL_ERROR', `${this.url} refused ${method}: ${answer.error.message}`, {
        details: { rpc_code: answer.error.code },
      });
    }
    if (!response.ok || answer.result === undefined) throw this.#refused(response.status, JSON.stringify(answer));
    return answer.result;
  }

  #post(message: JsonObject, waitMs = this.#answerWaitMs): Promise<Response> {
    const headers = { ...this.#headers(), 'content-type': 'application/json' };
    return this.#fetch('/mcp', { method: 'POST', headers, body: JSON.stringify(message) }, waitMs);
  }

  #headers(): Record<string, string> {
    const headers: Record<string, string> = { accept: 'application/json, text/event-stream' };
    if (this.#session !== null) headers['mcp-session-id'] = this.#session;
    if (this.#version !== undefined) headers['mcp-protocol-version'] = this.#version;
    return headers;
  }

  async #fetch(path: string, init: RequestInit, waitMs = this.#answerWaitMs): Promise<Response> {
    try {
      const fetchFrom = await this.#fetchFrom();
      const headers = { ...bearer(this.#token), ...(init.headers as Record<string, string> | undefined) };
      return await fetchFrom(this.url + path, { ...init, headers, signal: AbortSignal.timeout(waitMs) });
    } catch (error) {
      throw this.#unreachable(error);
    }
  }

  async #fetchFrom(): Promise<typeof fetch> {
    const certFile = this.#tlsCert;
    if (certFile === undefined || certFile === null) return fetch;
    this.#ownFetch ??= import('./own-certificate.ts').then((module) => module.fetchWithCertificate(certFile));
    return this.#ownFetch;
  }

  async #json(response: Response): Promise<unknown> {
    let text: string;
    try {
      text = await response.text();
    } catch (error) {
      throw this.#unreachable(error);
    }
    try {
      return JSON.parse(text);
    } catch (cause) {
      throw this.#refused(response.status, text.slice(0, 200), cause);
    }
  }

  /** Server-sent events up to the answer; other messages (progress) are passed over. */
  async #fromStream(response: Response, id: number): Promise<RpcAnswer> {
    try {
      for await (const body of eventsOf(response.body!)) {
        const message = body === '' ? {} : (JSON.parse(body) as RpcAnswer);
        if (message.id === id) return message;
      }
    } catch (error) {
      throw this.#unreachable(error);
    }
    throw this.#unreachable(new Error('it closed the connection before it answered'));
  }

  #refused(status: number, body: string, cause?: unknown): FlowmeshError {
    const message = `${this.url} is no flowmesh peer, or not of this version: it answered HTTP ${status} ${body}`;
    return new FlowmeshError('BAD_ANSWER', message, { cause });
  }

  #unreachable(error: unknown): PeerUnreachableError {
    return new PeerUnreachableError(
      `the peer at ${this.url} does not answer: ${causeOf(error)}. Another one is named with --url or --data-dir (FLOWMESH_URL, FLOWMESH_DATA_DIR)`,
      error,
    );
  }
}

function bearer(token: string | undefined): Record<string, string> {
  return token === undefined ? {} : { authorization: `Bearer ${token}` };
}

function causeOf(error: unknown): string {
  const cause = error instanceof Error ? (error.cause as NodeJS.ErrnoException | undefined) : undefined;
  if (cause?.code === 'ECONNREFUSED') return 'nothing listens there';
  if (UNTRUSTED.has(cause?.code ?? '')) {
    return `its certificate is not trusted on this machine (${cause?.message}); NODE_EXTRA_CA_CERTS names the file of one that is`;
  }
  if (error instanceof Error && error.name === 'TimeoutError') return 'no answer in time';
  return cause?.message || (error instanceof Error ? error.message : String(error));
}

function textOf(content: unknown): string {
  if (!Array.isArray(content)) return 'nothing';
  return content.map((part: { text?: string }) => part.text ?? '').join('\n');
}

/** The output in the text part, for a server that sends no structured content. */
function parsedText(content: unknown): JsonObject | undefined {
  try {
    return JSON.parse(textOf(content)) as JsonObject;
  } catch {
    // A sentence: the caller shows it.
    return undefined;
  }
}
