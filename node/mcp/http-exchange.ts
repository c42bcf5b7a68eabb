/**
 * Reading a JSON body within bounds, and answering in JSON, on plain `node:http`.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import {
  BODIES_BYTES_MAX,
  BODY_TIMEOUT_MS,
  HEADERS_BYTES_MAX,
  LINGER_BYTES_MAX,
  LINGER_MS,
  RETRY_AFTER_S,
  SMALL_BODY_BYTES,
} from './limits.ts';
import { parseMessage } from './message-text.ts';

/** A request that is refused; how it is written depends on the route. */
export class HttpRefusal extends Error {
  readonly status: number;
  readonly code: string;
  readonly rpcCode: number;
  /** Of the request that is refused, where the refusal is about one. */
  readonly rpcId: string | number | null;
  readonly headers: Record<string, string>;

  /**
   * @param code stable, upper snake case, for the plain routes
   * @param message the sentence that the client gets
   * @param options.rpcCode the JSON-RPC code on `/mcp`; default -32000
   * @param options.rpcId of the JSON-RPC request that it is about; default null: it is about the HTTP request
   */
  constructor(
    status: number,
    code: string,
    message: string,
    options: { rpcCode?: number; rpcId?: string | number | null; headers?: Record<string, string> } = {},
  ) {
    super(message);
    this.status = status;
    this.code = code;
    this.rpcCode = options.rpcCode ?? -32_000;
    this.rpcId = options.rpcId ?? null;
    this.headers = options.headers ?? {};
  }
}

/** A refusal that passes: the client may come back. */
export function busy(message: string): HttpRefusal {
  return new HttpRefusal(503, 'BUSY', message, { headers: { 'retry-after': String(RETRY_AFTER_S) } });
}

let bytesInReading = 0;
const bodyBytes = new WeakMap<IncomingMessage, number>();

/** What has been read of a body that did not say before how large it is. */
export function bodyBytesOf(request: IncomingMessage): number {
  return bodyBytes.get(request) ?? 0;
}

/**
 * The parsed body.
 *
 * @param withinMs how long the client may take to send it
 * @throws HttpRefusal 413 beyond `bytesMax` (nothing more is kept from then on), 415 when it is not declared as JSON,
 *   400 (JSON-RPC -32700) when it is not JSON, 408 when it does not come in time, 503 while too much is being read for
 *   others
 */
export async function readJson(
  request: IncomingMessage,
  response: ServerResponse,
  bytesMax: number,
  withinMs = BODY_TIMEOUT_MS,
): Promise<unknown> {
  const type = request.headers['content-type']?.split(';', 1)[0]?.trim().toLowerCase();
  if (type !== 'application/json') {
    throw new HttpRefusal(415, 'UNSUPPORTED_MEDIA_TYPE', 'Send the body as content-type: application/json');
  }
  if (Number(request.headers['content-length'] ?? 0) > bytesMax) throw tooLarge(bytesMax);
  if (request.headers.expect !== undefined) response.writeContinue();
  const text = await readText(request, bytesMax, withinMs);
  try {
    return parseMessage(text);
  } catch (error) {
    throw new HttpRefusal(400, 'PARSE_ERROR', `Parse error: the body is not JSON: ${(error as Error).message}`, {
      rpcCode: -32_700,
    });
  }
}

/** Events instead of `for await`: leaving the loop early would destroy the connection that the answer needs. */
function readText(request: IncomingMessage, bytesMax: number, withinMs: number): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  /** Of them, those that count for BODIES_BYTES_MAX. */
  let large = 0;
  const isDeclared = request.headers['content-length'] !== undefined;
  let timer: NodeJS.Timeout;
  return new Promise<string>((resolve, reject) => {
    const refuse = (refusal: HttpRefusal) => {
      request.off('data', keep);
      reject(refusal);
    };
    const keep = (chunk: Buffer) => {
      bytes += chunk.length;
      if (!isDeclared) bodyBytes.set(request, bytes);
      const more = Math.max(0, bytes - SMALL_BODY_BYTES) - large;
      large += more;
      bytesInReading += more;
      if (bytes > bytesMax) refuse(tooLarge(bytesMax));
      else if (large > 0 && bytesInReading > BODIES_BYTES_MAX)
        refuse(busy('This peer is reading too many large requests at once'));
      else chunks.push(chunk);
    };
    timer = setTimeout(() => refuse(tooSlow(withinMs)), withinMs);
    request.on('data', keep);
    request.once('end', () => resolve(Buffer.concat(chunks, bytes).toString()));
    request.once('error', reject);
    request.once('close', () => reject(new Error('the client left before its request was complete')));
  }).finally(() => {
    clearTimeout(timer);
    bytesInReading -= large;
    request.pause();
  });
}

function tooSlow(withinMs: number): HttpRefusal {
  return new HttpRefusal(
    408,
    'BODY_TOO_SLOW',
    `The body of the request was not here within ${withinMs} ms. Send it again.`,
  );
}

function tooLarge(bytesMax: number): HttpRefusal {
  return new HttpRefusal(
    413,
    'BODY_TOO_LARGE',
    `The request is larger than ${bytesMax} bytes. Pass a reference to the data.`,
  );
}

/**
 * Writes a JSON answer. When the request has not been read to its end, a bounded rest is read and dropped first: a
 * connection closed on unread data is reset, and the client would lose the answer.
 */
export function sendJson(
  request: IncomingMessage,
  response: ServerResponse,
  status: number,
  body: unknown,
  headers: Record<string, string> = {},
): void {
  const text = Buffer.from(JSON.stringify(body));
  const unread = hasBody(request) && !request.complete;
  response.writeHead(status, {
    'content-type': 'application/json',
    'content-length': text.length,
    'cache-control': 'no-store',
    ...(unread && { connection: 'close' }),
    ...headers,
  });
  if (!unread || request.destroyed) {
    response.end(text);
    return;
  }
  response.write(text);
  drop(request, () => response.end());
}

function drop(request: IncomingMessage, done: () => void): void {
  let bytes = 0;
  const timer = setTimeout(finish, LINGER_MS);
  function finish(): void {
    clearTimeout(timer);
    request.off('data', count).off('end', finish).off('close', finish);
    done();
  }
  function count(chunk: Buffer): void {
    bytes += chunk.length;
    if (bytes > LINGER_BYTES_MAX) finish();
  }
  request.on('data', count).once('end', finish).once('close', finish);
  request.resume();
}

function hasBody(request: IncomingMessage): boolean {
  const length = request.headers['content-length'];
  return request.headers['transfer-encoding'] !== undefined || (length !== undefined && length !== '0');
}

/** A refusal as JSON-RPC, on `/mcp`. */
export function refuseMcp(request: IncomingMessage, response: ServerResponse, refusal: HttpRefusal): void {
  const error = { code: refusal.rpcCode, message: refusal.message, data: { code: refusal.code } };
  sendJson(request, response, refusal.status, { jsonrpc: '2.0', error, id: refusal.rpcId }, refusal.headers);
}

const UNREADABLE: Record<string, [status: string, code: string, message: string]> = {
  HPE_HEADER_OVERFLOW: [
    '431 Request Header Fields Too Large',
    'HEADERS_TOO_LARGE',
    `The headers are larger than ${HEADERS_BYTES_MAX} bytes.`,
  ],
  ERR_HTTP_REQUEST_TIMEOUT: [
    '408 Request Timeout',
    'REQUEST_TOO_SLOW',
    'The request was not here in time. Send it again.',
  ],
};
const MALFORMED = ['400 Bad Request', 'MALFORMED_REQUEST', 'This is no HTTP request that can be read.'] as const;

/** For what came and is no request, so that no route can answer it (`clientError`). @returns the code, if one was told */
export function answerUnreadable(error: NodeJS.ErrnoException, stream: Duplex): string | undefined {
  const socket = stream as Socket;
  let told: string | undefined;
  // In the middle of an answer, or with nobody there, a sentence would help nobody.
  if (socket.writable && socket.bytesWritten === 0 && error.code !== 'ECONNRESET') {
    const [status, code, message] = UNREADABLE[error.code ?? ''] ?? MALFORMED;
    const body = JSON.stringify({ success: false, error: { code, message, retryable: code === 'REQUEST_TOO_SLOW' } });
    const head = `HTTP/1.1 ${status}\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n`;
    socket.write(head + body);
    told = code;
  }
  socket.destroySoon();
  return told;
}
