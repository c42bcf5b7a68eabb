/** In place of mcp-proxy (`fastmcp.ts`): what fastmcp imports of it has to be here, or the import of fastmcp fails. */
export function startHTTPServer(): never {
  throw new Error('peers serve HTTP themselves: node/mcp/listener.ts');
}
