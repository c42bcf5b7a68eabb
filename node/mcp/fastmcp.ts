/**
 * fastmcp without the HTTP server that it can start: the listener here is our own (`listener.ts`), and mcp-proxy with
 * its second generation of the MCP SDK would cost every peer 21 MB and a third of the time to load MCP.
 */
import { registerHooks } from 'node:module';

/** In place of mcp-proxy; what fastmcp imports of it has to be here, or the import of fastmcp fails. */
const NO_SERVER = `data:text/javascript,${encodeURIComponent(
  "export function startHTTPServer() { throw new Error('peers serve HTTP themselves: node/mcp/listener.ts'); }",
)}`;

const hooks = registerHooks({
  resolve(specifier, context, next) {
    return specifier === 'mcp-proxy' ? { url: NO_SERVER, shortCircuit: true } : next(specifier, context);
  },
});
export const { FastMCPSession } = await import('fastmcp');
hooks.deregister();

export type FastMCPSession = import('fastmcp').FastMCPSession;
export type { Logger } from 'fastmcp';
