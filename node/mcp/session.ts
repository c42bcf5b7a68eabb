/**
 * The MCP conversation with one client, whatever carries it: a `FastMCPSession` whose `tools/list` and `tools/call`
 * are ours. The list is the shared one; calls go straight to the router, without the millisecond that fastmcp waits
 * after each and without a second check of inputs that the router checks.
 *
 *   const { session, drained } = createMcpSession(components, 'httpStream');
 *   session.connect(transport);
 */
import type { AuthInfo } from '@modelcontextprotocol/sdk/server/auth/types.js';
import { ErrorCode, ListToolsRequestSchema, type ServerNotification } from '@modelcontextprotocol/sdk/types.js';
import { z } from 'zod';
import { quoted } from '../../dag/quoted.ts';
import type { Log } from '../../scheduler/ports.ts';
import type { Principal } from '../auth/principal.ts';
import { type CallComponents, callTool } from './calls.ts';
import { FastMCPSession, type Logger } from './fastmcp.ts';
import { INSTRUCTIONS } from './instructions.ts';
import { PROGRESS_EVERY_MS } from './limits.ts';
import { RpcError } from './messages.ts';

export interface ServerInfo {
  name: string;
  version: string;
}

export interface PeerInfo extends ServerInfo {
  peer_id: string;
}

export interface SessionComponents extends CallComponents {
  info: ServerInfo;
}

export interface SessionOptions {
  transportType: 'httpStream' | 'stdio';
  /** Who makes a request of the session. */
  principalOf(extra: { authInfo?: AuthInfo | undefined }): Principal;
  /** Told the id of a call that the client cancelled and that therefore gets no answer. */
  cancelled(requestId: string | number): void;
}

export interface McpSession {
  session: FastMCPSession;
  /** Resolves when no call runs that ran when it was asked. */
  drained(): Promise<void>;
}

/** Only names the method: the SDK's own wrapper checks the rest, and answers -32602 where this would be -32603. */
const ToolsCallSchema = z.looseObject({ method: z.literal('tools/call') });

export function createMcpSession(
  components: SessionComponents,
  { transportType, principalOf, cancelled }: SessionOptions,
): McpSession {
  const { catalogue, info, log } = components;
  const session = new FastMCPSession({
    name: 'flowmesh',
    title: `flowmesh peer ${info.name}`,
    version: info.version,
    instructions: INSTRUCTIONS,
    logger: fastmcpLogger(log),
    hasTools: true,
    tools: [],
    prompts: [],
    resources: [],
    resourcesTemplates: [],
    ping: { enabled: false },
    roots: { enabled: false },
    transportType,
  });
  // The peer of a protocol error is told by the protocol; here it is of interest only while someone looks for it.
  session.server.onerror = (error) => log.debug({ err: error }, 'mcp client error');
  advertiseToolsAlone(session);
  const running = new Set<Promise<unknown>>();
  session.server.setRequestHandler(ListToolsRequestSchema, ({ params }, extra) => {
    if (params?.cursor === undefined) return catalogue.list(principalOf(extra));
    const text = `Unknown cursor: ${quoted(params.cursor)} was not given here. All tools are on one page: leave it out`;
    throw new RpcError(ErrorCode.InvalidParams, text);
  });
  session.server.setRequestHandler(ToolsCallSchema, async (request, extra) => {
    const params = request['params'] as Parameters<typeof callTool>[1];
    const call = callTool(components, params, { signal: extra.signal, principal: principalOf(extra) });
    running.add(call);
    const stopProgress = sendProgress(params, extra.sendNotification);
    try {
      return await call;
    } finally {
      stopProgress();
      running.delete(call);
      if (extra.signal.aborted) cancelled(extra.requestId);
    }
  });
  return { session, drained: () => Promise.allSettled(running).then(() => undefined) };
}

/** fastmcp declares log messages and completions for every server; nothing here would send or answer any. */
function advertiseToolsAlone({ server }: FastMCPSession): void {
  const capabilities = server['getCapabilities']();
  delete capabilities.logging;
  delete capabilities.completions;
  server.removeRequestHandler('logging/setLevel');
  server.removeRequestHandler('completion/complete');
}

/** Tells a client that asked for it that its call still runs: many give up a call of which they hear nothing for a minute. */
function sendProgress(
  { name, _meta }: Parameters<typeof callTool>[1],
  send: (notification: ServerNotification) => Promise<void>,
): () => void {
  const progressToken = _meta?.progressToken;
  if (progressToken === undefined) return () => {};
  let progress = 0;
  const timer = setInterval(() => {
    progress += PROGRESS_EVERY_MS / 1_000;
    const message = `${name} has run for ${progress} s`;
    // A client that left is told nothing; its call goes on.
    send({ method: 'notifications/progress', params: { progressToken, progress, message } }).catch(() => {});
  }, PROGRESS_EVERY_MS);
  return () => clearInterval(timer);
}

/** fastmcp's own default writes to stdout (P10). */
function fastmcpLogger(log: Log): Logger {
  const line =
    (write: (fields: object, message: string) => void) =>
    (...parts: unknown[]) =>
      write({ parts: parts.slice(1).map(String) }, String(parts[0]));
  const debug = line((fields, message) => log.debug(fields, message));
  return {
    debug,
    log: debug,
    info: debug,
    // Its warnings are about clients that leave out what it would like to know; nothing depends on that here.
    warn: debug,
    error: line((fields, message) => log.warn(fields, message)),
  };
}
