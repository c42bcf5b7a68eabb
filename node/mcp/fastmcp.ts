/**
 * fastmcp without the HTTP server that it can start: the listener here is our own (`listener.ts`), and mcp-proxy with
 * its second generation of the MCP SDK would cost every peer 21 MB and a third of the time to load MCP. The bundle is
 * made without it (bundle.ts); this is for the sources.
 */
import { registerHooks } from 'node:module';

const NO_SERVER = new URL('./no-server.ts', import.meta.url).href;

const hooks = registerHooks({
  resolve(specifier, context, next) {
    return specifier === 'mcp-proxy' ? { url: NO_SERVER, shortCircuit: true } : next(specifier, context);
  },
});
export const { FastMCPSession } = await import('fastmcp');
hooks.deregister();

export type FastMCPSession = import('fastmcp').FastMCPSession;
export type { Logger } from 'fastmcp';
