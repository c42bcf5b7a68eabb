/**
 * One `tools/call`: the input goes to the router as it came, what comes back becomes an MCP result. A tool that
 * fails is a result with `isError`; only a call that names no tool is an error of the protocol.
 */
import { type CallToolRequest, type CallToolResult, ErrorCode } from '@modelcontextprotocol/sdk/types.js';
import type { JsonObject } from '../../dag/errors.ts';
import { didYouMean } from '../../dag/nearest.ts';
import { cut } from '../../dag/quoted.ts';
import type { Log } from '../../scheduler/ports.ts';
import { type Failure, failure } from '../../tools/call/envelope.ts';
import type { Principal } from '../auth/principal.ts';
import type { ToolRouter } from '../runtimes/router.ts';
import type { Catalogue } from './catalogue.ts';
import { RpcError } from './messages.ts';

export interface CallComponents {
  router: Pick<ToolRouter, 'call'>;
  catalogue: Catalogue;
  log: Log;
}

/**
 * @param params of the request; `arguments` are unchecked, the router checks them
 * @param how.signal aborted when the client cancels the call or its session ends
 * @throws RpcError InvalidParams (-32602) for an unknown tool, as the MCP specification says under "Error Handling"
 */
export async function callTool(
  { router, catalogue, log }: CallComponents,
  params: CallToolRequest['params'],
  { signal, principal }: { signal: AbortSignal; principal: Principal },
): Promise<CallToolResult> {
  if (!catalogue.names.has(params.name)) {
    const hint = didYouMean(params.name, [...catalogue.names]);
    throw new RpcError(ErrorCode.InvalidParams, `Unknown tool: ${cut(params.name)}${hint}. tools/list names them all`);
  }
  try {
    return result(await router.call(params.name, params.arguments ?? {}, { signal, principal }));
  } catch (error) {
    const failed = failure(error);
    if (failed.error.code === 'INTERNAL') log.error({ err: error, tool: params.name }, 'tool failed unexpectedly');
    return { ...result(failed), isError: true };
  }
}

/** The text is for clients that know no structured content. */
function result(output: JsonObject | Failure): CallToolResult {
  return { content: [{ type: 'text', text: JSON.stringify(output) }], structuredContent: { ...output } };
}
