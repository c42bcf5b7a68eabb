/**
 * MCP on stdin and stdout, with the same tools as over HTTP.
 *
 *   const stdio = await serveStdio({ router, info, log });
 *   await stdio.closed; // the client closed stdin
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Log } from '../../scheduler/ports.ts';
import type { Tool } from '../../tools/definition.ts';
import { tools as registry } from '../../tools/registry.ts';
import { ANYONE, type Principal } from '../auth/principal.ts';
import type { ToolRouter } from '../runtimes/router.ts';
import { catalogueOf } from './catalogue.ts';
import { CLOSE_GRACE_MS } from './limits.ts';
import { createMcpSession, type ServerInfo } from './session.ts';
import { StdioTransport } from './stdio-transport.ts';
import { claimStdout } from './stdout.ts';

export interface StdioOptions {
  router: Pick<ToolRouter, 'call'>;
  info: ServerInfo;
  log: Log;
  /** Settles when `router` can answer; calls that were sent before get the time that they need then. Default: it can now. */
  ready?: Promise<unknown>;
  /** Who is at the other end: it is the same user. Default: nobody is asked who they are. */
  principal?: Principal;
  /** What is served. Default: the 26 tools. */
  tools?: ReadonlyMap<string, Tool>;
}

export interface StdioServer {
  /** Resolves when the client closed stdin, its calls have ended (within CLOSE_GRACE_MS) and the session is closed. */
  closed: Promise<void>;
  close(): Promise<void>;
}

/** Takes stdin and stdout of this process until it is closed. */
export async function serveStdio({
  router,
  info,
  log,
  tools,
  ready,
  principal = ANYONE,
}: StdioOptions): Promise<StdioServer> {
  const stdout = claimStdout(log); // P10
  const transport = new StdioTransport(process.stdin, stdout.stream);
  const { session, drained } = createMcpSession(
    { router, info, log, catalogue: catalogueOf(tools ?? registry) },
    {
      transportType: 'stdio',
      principalOf: () => principal,
      cancelled: (requestId) => transport.forget(requestId),
    },
  );
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
    const late = async () => {
      await ready?.catch(() => {}); // Whoever started it is told; calls that wait for it fail by themselves.
      await delay(CLOSE_GRACE_MS, undefined, { signal: grace.signal });
    };
    await Promise.race([drained(), late()]);
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
