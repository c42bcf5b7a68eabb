/**
 * One peer's HTTP listener: MCP Streamable HTTP on `/mcp`, and the plain routes of `peer-routes.ts`.
 *
 *   const listener = await startListener({ router, host: '127.0.0.1', port: 7601, info, log });
 *   listener.url; // http://127.0.0.1:7601
 *   await listener.close();
 *
 * 1. Host and Origin are checked before anything else, on every route; an Origin that is admitted may read the answer.
 * 2. Who asks is decided once per request, in `identify`; routes and sessions get the principal. Only whether the process
 *    answers (`/health`) is told to everybody.
 * 3. Every refusal is JSON with a sentence; on `/mcp` it is a JSON-RPC error.
 * 4. What speaks MCP is loaded with the first request for it: no start waits for it, and a peer that only works for
 *    others goes without it.
 */
import { createServer, type IncomingMessage, type Server, type ServerOptions, type ServerResponse } from 'node:http';
import { type AddressInfo, isIPv6, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { FlowmeshError } from '../../dag/errors.ts';
import type { Log } from '../../scheduler/ports.ts';
import type { Tool } from '../../tools/definition.ts';
import { tools as registry } from '../../tools/registry.ts';
import { nameOf, type Trail } from '../audit/trail.ts';
import { ANYONE, type Origin, type Principal } from '../auth/principal.ts';
import type { ToolRouter } from '../runtimes/router.ts';
import { RateLimitedError } from '../throttle/errors.ts';
import type { Throttle } from '../throttle/throttle.ts';
import { clientAddressOf, createArrivals } from './arrival.ts';
import { allowOrigin } from './cors.ts';
import { assertSafeToListen, createHostCheck, plainTextWarning } from './host-check.ts';
import { answerUnreadable, bodyBytesOf, HttpRefusal, refuseMcp, sendJson } from './http-exchange.ts';
import type { SessionLimits } from './http-sessions.ts';
import type { TlsFiles } from './https-server.ts';
import {
  CLOSE_GRACE_MS,
  CONNECTIONS_MAX,
  HEADERS_BYTES_MAX,
  HEADERS_TIMEOUT_MS,
  KEEP_ALIVE_TIMEOUT_MS,
  REQUEST_TIMEOUT_MS,
  TIMEOUT_CHECK_MS,
} from './limits.ts';
import type { McpRoute } from './mcp-route.ts';
import { type AdminRoutes, serveHealth, servePeerRoute } from './peer-routes.ts';
import type { PeerInfo } from './session.ts';

/** Another process listens on the port. */
export class PortInUseError extends FlowmeshError {
  constructor(host: string, port: number, cause: unknown) {
    super(
      'PORT_IN_USE',
      `Port ${port} on ${host} is in use by another process. Choose another with --http-port (FLOWMESH_HTTP_PORT, or http.port in the mesh file), or stop that process.`,
      { retryable: true, details: { host, port }, cause },
    );
  }
}

export interface ListenerOptions extends SessionLimits {
  router: ToolRouter;
  /** A loopback address, unless `identify` asks who calls. */
  host: string;
  /** 0 takes a free one. */
  port: number;
  /** HTTPS with the certificate in these files. Default: HTTP. */
  tls?: TlsFiles | undefined;
  info: PeerInfo;
  log: Log;
  /** Drains the peer, and stops it. Default: nobody does. */
  onDrain?: (waitMs: number | undefined) => void;
  /** What the user of this peer may ask about its mesh. Default: nobody may. */
  admin?: AdminRoutes;
  /** Names, beside the loopback ones and `host`, that Host and Origin headers may have. Default: none. */
  allowed_hosts?: readonly string[];
  /** The only origins, beside the peer's own, whose pages may use it. Default: those of the names above. */
  cors_origins?: readonly string[] | undefined;
  /** Proxies whose X-Forwarded-… headers are believed: addresses and networks. Default: none. */
  trusted_proxies?: readonly string[];
  /** Says who makes a request, or throws an HttpRefusal. Default: nobody is asked. */
  identify?: (request: IncomingMessage) => Principal | Promise<Principal>;
  /** Answers what is told to everybody, beside `/health`. @returns whether it was that */
  serveOpen?: (path: string, request: IncomingMessage, response: ServerResponse) => boolean;
  /** Told of every request that is refused, and of what admins change. Default: nobody is. */
  trail?: Trail | undefined;
  /** How much callers may ask, where they are asked who they are. Default: as much as they like. */
  throttle?: Throttle | undefined;
  /** What is served. Default: the 26 tools. */
  tools?: ReadonlyMap<string, Tool>;
}

const BAD_REQUEST = 400;
const TOO_MANY_REQUESTS = 429;
const MS_PER_S = 1_000;
/** Of a session's id, in the trail. */
const SESSION_SHOWN_CHARS = 8;

export interface Listener {
  /** Of this machine, without a path: MCP is at `${url}/mcp`. */
  url: string;
  port: number;
  /** Stops listening, lets running calls end within CLOSE_GRACE_MS, then ends every session. */
  close(): Promise<void>;
}

/** Every address of this machine is none to connect to. */
const ON_LOOPBACK: Record<string, string> = { '0.0.0.0': '127.0.0.1', '::': '::1' };

/** @throws UnsafeListenError beyond loopback; PortInUseError; TlsFilesError; FlowmeshError LISTEN_FAILED for other reasons. */
export async function startListener(options: ListenerOptions): Promise<Listener> {
  const { router, host, info, log, onDrain, admin, trail, throttle } = options;
  assertSafeToListen(host, options.identify !== undefined);
  let mcp: Promise<McpRoute> | undefined;
  const loadMcp = async () => {
    const { openMcpRoute } = await import('./mcp-route.ts');
    return openMcpRoute({ router, tools: options.tools ?? registry, info, log }, options);
  };
  const openMcp = () => {
    mcp ??= loadMcp().catch((error) => {
      mcp = undefined; // out of file descriptors, perhaps: the next request tries again
      throw error;
    });
    return mcp;
  };
  const arrivalOf = createArrivals(options.trusted_proxies ?? []);
  const refusalOfHost = createHostCheck({
    hosts: [host, ...(options.allowed_hosts ?? [])],
    origins: options.cors_origins,
  });
  const identify = options.identify ?? (() => ANYONE);

  const route = async (path: string, request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const { hosts, scheme } = arrivalOf(request);
    const { localAddress } = request.socket;
    const refusal = refusalOfHost({ hosts, scheme, origin: request.headers.origin, localAddress });
    if (refusal !== undefined) throw new HttpRefusal(403, 'FORBIDDEN_HOST', refusal);
    if (allowOrigin(request, response)) return;
    if (path === '/health') {
      serveHealth(info, request, response);
      return;
    }
    if (options.serveOpen?.(path, request, response)) return;
    const principal = { ...(await identify(request)), origin: originOf(request) };
    asking.set(request, principal);
    await admit(principal, request);
    if (path === '/mcp') {
      await (await openMcp()).serve(principal, request, response);
      // The transport of the SDK answers by itself what it does not take.
      if (response.statusCode >= BAD_REQUEST) noteRefusal(request, path, `HTTP_${response.statusCode}`);
    } else await servePeerRoute({ ...{ router, info, onDrain, admin, trail }, principal }, path, request, response);
  };
  /** @throws HttpRefusal 429 for a caller that asks too much */
  const admit = async ({ caller: { id } }: Principal, request: IncomingMessage): Promise<void> => {
    if (throttle === undefined || id === null) return;
    const isChunked = request.headers['transfer-encoding'] !== undefined;
    // One byte at least: who has none left sends nothing, however large.
    const bytes = isChunked ? 1 : Number(request.headers['content-length'] ?? 0);
    await throttle.request(id, bytes).catch(refuseTooMuch);
    if (isChunked) {
      request.once('close', () => void throttle.spent(id, bodyBytesOf(request)));
    }
  };
  /** Requests that are served, by who makes them. */
  const asking = new WeakMap<IncomingMessage, Principal>();
  const noteRefusal = (request: IncomingMessage, path: string, outcome: string): void => {
    const principal = asking.get(request);
    const who = principal === undefined ? originOf(request) : nameOf(principal);
    trail?.record({ event: 'refused', ...who, route: `${request.method} ${path}`, outcome });
  };
  const handle = (request: IncomingMessage, response: ServerResponse): void => {
    const path = request.url!.split('?', 1)[0]!;
    route(path, request, response).catch((error) => {
      noteRefusal(request, path, error instanceof HttpRefusal ? error.code : 'INTERNAL');
      answerFailure(path, request, response, error, log);
    });
  };

  const server = await createServerOf(options, handle);
  // Clients of large bodies wait for "continue"; readJson sends it once the request has passed the checks.
  server.on('checkContinue', handle);
  server.on('clientError', (error, stream) => {
    const outcome = answerUnreadable(error, stream);
    const { remoteAddress: from } = stream as Socket;
    if (outcome !== undefined) trail?.record({ event: 'refused', from, outcome });
  });
  server.maxConnections = CONNECTIONS_MAX;
  // HEADERS_BYTES_MAX bounds them; a number of them would drop the last ones, which a proxy has added.
  server.maxHeadersCount = 0;
  const port = await listen(server, host, options.port);
  const scheme = options.tls === undefined ? 'http' : 'https';
  const name = ON_LOOPBACK[host] ?? host;
  const url = `${scheme}://${isIPv6(name) ? `[${name}]` : name}:${port}`;
  log.info({ url }, 'listening for MCP and HTTP');
  const isSafe = { tls: options.tls !== undefined, proxied: (options.trusted_proxies ?? []).length > 0 };
  const warning = plainTextWarning(host, isSafe);
  if (warning !== undefined) log.warn({ host }, warning);

  return { url, port, close: () => close(server, mcp) };
}

function refuseTooMuch(error: unknown): never {
  if (!(error instanceof RateLimitedError)) throw error;
  const seconds = Math.max(1, Math.ceil(error.retryAfterMs / MS_PER_S));
  throw new HttpRefusal(TOO_MANY_REQUESTS, error.code, error.message, { headers: { 'retry-after': String(seconds) } });
}

function originOf(request: IncomingMessage): Origin {
  const session = request.headers['mcp-session-id'];
  return {
    from: clientAddressOf(request),
    session: typeof session === 'string' ? session.slice(0, SESSION_SHOWN_CHARS) : undefined,
  };
}

async function createServerOf(
  { tls, log }: ListenerOptions,
  handle: (request: IncomingMessage, response: ServerResponse) => void,
): Promise<Server> {
  const limits: ServerOptions = {
    headersTimeout: HEADERS_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
    connectionsCheckingInterval: TIMEOUT_CHECK_MS,
    maxHeaderSize: HEADERS_BYTES_MAX,
  };
  if (tls === undefined) return createServer(limits, handle);
  const { createHttpsServer } = await import('./https-server.ts');
  return createHttpsServer(tls, limits, handle, log);
}

function listen(server: Server, host: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE') reject(new PortInUseError(host, port, error));
      else {
        const message = `Cannot listen on ${host}:${port}: ${error.message}. Choose another address with --http-host and --http-port.`;
        reject(new FlowmeshError('LISTEN_FAILED', message, { details: { host, port }, cause: error }));
      }
    });
    server.listen({ host, port, exclusive: true }, () => resolve((server.address() as AddressInfo).port));
  });
}

async function close(server: Server, opened: Promise<McpRoute> | undefined): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  const mcp = await opened?.catch(() => undefined); // the request that wanted it was told
  const grace = new AbortController();
  await Promise.race([mcp?.drained(), delay(CLOSE_GRACE_MS, undefined, { signal: grace.signal })]);
  grace.abort();
  // Answers that are ready leave in this turn.
  await new Promise(setImmediate);
  await mcp?.close();
  server.closeAllConnections();
  await closed;
}

function answerFailure(
  path: string,
  request: IncomingMessage,
  response: ServerResponse,
  error: unknown,
  log: Log,
): void {
  if (request.destroyed && !request.complete) return; // The client left; nobody is there to be told.
  if (response.headersSent) {
    log.error({ err: error, path }, 'http request failed after its answer began');
    response.destroy();
    return;
  }
  let refusal: HttpRefusal;
  if (error instanceof HttpRefusal) refusal = error;
  else {
    log.error({ err: error, path }, 'http request failed unexpectedly');
    refusal = new HttpRefusal(500, 'INTERNAL', 'This peer failed to handle the request; its log says why', {
      rpcCode: -32_603,
    });
  }
  if (path === '/mcp') refuseMcp(request, response, refusal);
  else {
    const failure = {
      code: refusal.code,
      message: refusal.message,
      retryable: refusal.status === 503 || refusal.status === TOO_MANY_REQUESTS,
    };
    sendJson(request, response, refusal.status, { success: false, error: failure }, refusal.headers);
  }
}
