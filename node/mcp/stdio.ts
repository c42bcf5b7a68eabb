/**
 * MCP on stdin and stdout, with the same tools as over HTTP.
 *
 *   const stdio = await serveStdio({ router, info, log });
 *   await stdio.closed; // the client closed stdin
 */
import { setTimeout as delay } from 'node:timers/promises';
import { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js';
import { ErrorCode, type JSONRPCMessage } from '@modelcontextprotocol/sdk/types.js';
import type { Log } from '../../scheduler/ports.ts';
import type { Tool } from '../../tools/definition.ts';
import { tools as registry } from '../../tools/registry.ts';
import type { ToolRouter } from '../runtimes/router.ts';
import { catalogueOf } from './catalogue.ts';
import { CLOSE_GRACE_MS, MESSAGE_BYTES_MAX } from './limits.ts';
import { createMcpSession, type PeerInfo } from './session.ts';
import { claimStdout } from './stdout.ts';

export interface StdioOptions {
  router: Pick<ToolRouter, 'call'>;
  info: PeerInfo;
  log: Log;
  /** What is served. Default: the 26 tools. */
  tools?: ReadonlyMap<string, Tool>;
}

export interface StdioServer {
  /** Resolves when the client closed stdin, its calls have ended (within CLOSE_GRACE_MS) and the session is closed. */
  closed: Promise<void>;
  close(): Promise<void>;
}

/** Takes stdin and stdout of this process until it is closed. */
export async function serveStdio({ router, info, log, tools }: StdioOptions): Promise<StdioServer> {
  const stdout = claimStdout(log); // P10
  const { session, drained } = createMcpSession(
    { router, info, log, catalogue: catalogueOf(tools ?? registry) },
    'stdio',
  );
  const transport = new StdioServerTransport(process.stdin, stdout.stream, { maxBufferSize: MESSAGE_BYTES_MAX });
  transport.onerror = (error) => {
    const answer = lineError(error);
    if (answer !== undefined) transport.send(answer).catch(() => {}); // Safe: a stdout that is gone ends the session.
  };
  const ended = Promise.withResolvers<void>();
  transport.onclose = ended.resolve;

  let closing: Promise<void> | undefined;
  const close = () => {
    closing ??= session.close().finally(() => stdout.release());
    return closing;
  };
  stdout.stream.once('error', ended.resolve);
  process.stdin.once('end', async () => {
    const grace = new AbortController();
    await Promise.race([drained(), delay(CLOSE_GRACE_MS, undefined, { signal: grace.signal })]);
    grace.abort();
    await new Promise(setImmediate); // The last answer is on its way.
    ended.resolve();
  });
  // Not awaited: it resolves when the client has initialized.
  session.connect(transport).catch((error) => {
    log.error({ err: error }, 'mcp over stdio could not start');
    ended.resolve();
  });
  log.info({}, 'serving MCP on stdin and stdout');
  return { closed: ended.promise.then(close), close };
}

/** JSON-RPC 2.0 answers a line that is no message; the SDK only reports it. */
function lineError(error: Error): JSONRPCMessage | undefined {
  const parse = error instanceof SyntaxError;
  if (!parse && error.name !== 'ZodError') return undefined;
  const code = parse ? ErrorCode.ParseError : ErrorCode.InvalidRequest;
  const message = parse
    ? `Parse error: the line is not JSON: ${error.message}`
    : 'Invalid Request: not a JSON-RPC 2.0 message';
  return { jsonrpc: '2.0', id: null, error: { code, message } } as unknown as JSONRPCMessage;
}
