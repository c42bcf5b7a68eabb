/**
 * The MCP sessions of HTTP clients (protocol versions up to 2025-11-25).
 *
 * 1. A session belongs to the principal that opened it; for everyone else its id does not exist. What that one may do is
 *    asked anew with each request, not when the session begins.
 * 2. There are at most `sessions_max`, and none rests longer than `idle_ms`: the one that rested longest makes room,
 *    one with an open exchange never does (P7). A client whose id is gone gets 404 and starts a new one, as the
 *    specification says.
 * 3. Calls are answered as an event stream. The SDK's JSON answers would keep an entry per call for as long as the
 *    session lives, and could not carry progress.
 */
import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AuthInfo } from '@modelcontextprotocol/sdk/server/auth/types.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import type { Transport, TransportSendOptions } from '@modelcontextprotocol/sdk/shared/transport.js';
import {
  ErrorCode,
  isInitializeRequest,
  type JSONRPCMessage,
  type RequestId,
} from '@modelcontextprotocol/sdk/types.js';
import { idOf, type Principal } from '../auth/principal.ts';
import { busy, HttpRefusal } from './http-exchange.ts';
import { InFlight } from './in-flight.ts';
import { SESSION_IDLE_MS, SESSION_SWEEP_MS, SESSIONS_MAX, SESSIONS_OWNER_SHARE } from './limits.ts';
import { RpcError } from './messages.ts';
import { createMcpSession, type McpSession, type SessionComponents } from './session.ts';

export interface SessionLimits {
  /** Default SESSIONS_MAX. */
  sessions_max?: number;
  /** Default SESSION_IDLE_MS. */
  idle_ms?: number;
}

type Messages = JSONRPCMessage | JSONRPCMessage[];

const SESSION_REQUIRED =
  'Mcp-Session-Id header is required: send initialize first, and then its session id with each request';

interface HttpSession {
  /** Who opened it (`idOf`). */
  readonly owner: string;
  readonly mcp: McpSession;
  readonly transport: SessionTransport;
  /** Open exchanges: calls and the client's event stream. */
  open: number;
  /** Monotonic, of the last time `open` changed. */
  usedAt: number;
}

export class HttpSessions {
  readonly #components: SessionComponents;
  readonly #sessionsMax: number;
  readonly #idleMs: number;
  readonly #sweep: NodeJS.Timeout;
  /** In the order of last use: the first rested longest. */
  readonly #sessions = new Map<string, HttpSession>();

  constructor(components: SessionComponents, limits: SessionLimits = {}) {
    this.#components = components;
    this.#sessionsMax = limits.sessions_max ?? SESSIONS_MAX;
    this.#idleMs = limits.idle_ms ?? SESSION_IDLE_MS;
    this.#sweep = setInterval(() => this.#closeIdle(), Math.min(SESSION_SWEEP_MS, this.#idleMs)).unref();
  }

  /**
   * Hands a request to the session it names.
   *
   * @param body what a POST carries
   * @throws HttpRefusal 404 for an id that is unknown or somebody else's, 400 for a request whose id another one has
   */
  async serve(
    id: string,
    principal: Principal,
    request: IncomingMessage,
    response: ServerResponse,
    body?: Messages,
  ): Promise<void> {
    await this.#exchange(this.find(id, principal), principal, request, response, body);
  }

  /** @throws HttpRefusal 404 for an id that is unknown or somebody else's. */
  find(id: string, principal: Principal): HttpSession {
    const session = this.#sessions.get(id);
    if (session === undefined || session.owner !== idOf(principal)) {
      throw new HttpRefusal(
        404,
        'SESSION_NOT_FOUND',
        'Session not found: it ended or rested too long. Initialize again',
        {
          rpcCode: -32_001,
        },
      );
    }
    return session;
  }

  /**
   * Opens a session with an `initialize` request.
   *
   * @throws HttpRefusal 400 when the body is another request, 503 when every session is busy
   */
  async open(principal: Principal, request: IncomingMessage, response: ServerResponse, body: Messages): Promise<void> {
    if (!isInitializeRequest(body)) throw new HttpRefusal(400, 'SESSION_REQUIRED', SESSION_REQUIRED);
    this.#keepShare(principal);
    if (this.#sessions.size >= this.#sessionsMax) this.#makeRoom();
    const transport = new SessionTransport({
      sessionIdGenerator: randomUUID,
      onsessioninitialized: (id) => {
        this.#sessions.set(id, session);
        transport.onclose = after(transport.onclose, () => this.#sessions.delete(id));
      },
    });
    const mcp = createMcpSession(this.#components, {
      transportType: 'httpStream',
      principalOf: ({ authInfo }) => shownBy(authInfo),
      cancelled: (requestId) => transport.forget(requestId),
    });
    const session: HttpSession = { owner: idOf(principal), mcp, transport, open: 0, usedAt: performance.now() };
    // Not awaited: it resolves when the client has initialized, which is what happens next.
    mcp.session.connect(transport as Transport).catch((error) => {
      this.#components.log.warn({ err: error }, 'mcp session could not start');
    });
    await this.#exchange(session, principal, request, response, body);
    // Refused by the transport, e.g. for its Accept header: nobody knows this session.
    if (transport.sessionId === undefined) await mcp.session.close();
  }

  /** Resolves when no call runs any more. */
  async drained(): Promise<void> {
    await Promise.all([...this.#sessions.values()].map((session) => session.mcp.drained()));
  }

  async close(): Promise<void> {
    clearInterval(this.#sweep);
    await Promise.all([...this.#sessions.values()].map((session) => session.mcp.session.close()));
  }

  async #exchange(
    session: HttpSession,
    principal: Principal,
    request: IncomingMessage,
    response: ServerResponse,
    body: Messages | undefined,
  ): Promise<void> {
    const giveUp = session.transport.begin(body);
    session.open += 1;
    response.once('close', () => {
      session.open -= 1;
      this.#touch(session);
    });
    this.#touch(session);
    await session.transport.handleRequest(Object.assign(request, { auth: carried(principal) }), response, body);
    // The transport handed nothing on.
    if (response.statusCode >= 400) giveUp();
  }

  #touch(session: HttpSession): void {
    session.usedAt = performance.now();
    const id = session.transport.sessionId;
    if (id !== undefined && this.#sessions.delete(id)) this.#sessions.set(id, session);
  }

  /** One caller has a share of the sessions at most, so that it cannot take those of others: its own make room. */
  #keepShare({ caller }: Principal): void {
    if (caller.id === null) return;
    const own = [...this.#sessions].filter(([, { owner }]) => owner === caller.id);
    if (own.length < Math.max(1, Math.floor(this.#sessionsMax * SESSIONS_OWNER_SHARE))) return;
    const resting = own.find(([, { open }]) => open === 0);
    if (resting === undefined) throw busy('All MCP sessions that a caller may have here are in use. Close one');
    this.#end(...resting);
  }

  #makeRoom(): void {
    for (const [id, session] of this.#sessions) {
      if (session.open === 0) {
        this.#end(id, session);
        return;
      }
    }
    throw busy(`All ${this.#sessionsMax} MCP sessions of this peer are in use. Close one, or use another peer`);
  }

  #closeIdle(): void {
    const oldest = performance.now() - this.#idleMs;
    for (const [id, session] of this.#sessions) {
      if (session.usedAt > oldest) return;
      if (session.open === 0) this.#end(id, session);
    }
  }

  #end(id: string, session: HttpSession): void {
    this.#sessions.delete(id);
    session.mcp.session.close().catch((error) => {
      this.#components.log.warn({ err: error }, 'mcp session could not close');
    });
  }
}

/** As the SDK carries it from a request to the calls in it. */
function carried(principal: Principal): AuthInfo {
  return { token: '', clientId: idOf(principal), scopes: [], extra: { principal } };
}

function shownBy(auth: AuthInfo | undefined): Principal {
  if (auth?.extra === undefined) throw new Error('a request came without who makes it');
  return auth.extra['principal'] as Principal;
}

/** The SDK's transport for one session, where no two requests that run have the same id. */
class SessionTransport extends StreamableHTTPServerTransport {
  readonly #inFlight = new InFlight();

  /** Notes the requests of a POST. @throws HttpRefusal 400 for an id that a running one has */
  begin(messages: Messages = []): () => void {
    try {
      return this.#inFlight.begin(Array.isArray(messages) ? messages : [messages]);
    } catch (error) {
      if (!(error instanceof RpcError)) throw error;
      throw new HttpRefusal(400, 'ID_IN_USE', error.message, { rpcCode: error.code, rpcId: error.id });
    }
  }

  override async send(message: JSONRPCMessage, options?: TransportSendOptions): Promise<void> {
    this.#inFlight.passed(message);
    await super.send(message, options);
  }

  /**
   * A cancelled call has no answer, so its event stream must be ended here, or it stays open until the client leaves.
   * The SDK forgets the id of a call only when an answer passes by: with the stream closed none is sent.
   */
  forget(requestId: RequestId): void {
    this.closeSSEStream(requestId);
    const answer = { code: ErrorCode.InternalError, message: 'cancelled' };
    this.send({ jsonrpc: '2.0', id: requestId, error: answer }).catch(() => {
      // Expected: "no connection for this id" is how the SDK says that it dropped the answer.
    });
  }
}

function after(first: (() => void) | undefined, second: () => void): () => void {
  return () => {
    first?.();
    second();
  };
}
