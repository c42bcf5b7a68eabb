/** HTTP requests with any headers and any bytes, which `fetch` does not allow. */
import { type IncomingHttpHeaders, type OutgoingHttpHeaders, request } from 'node:http';

export interface RawAnswer {
  status: number;
  headers: IncomingHttpHeaders;
  text: string;
}

export function rawRequest(
  url: string,
  options: { method?: string; headers?: OutgoingHttpHeaders | string[]; body?: string | Buffer } = {},
): Promise<RawAnswer> {
  return new Promise((resolve, reject) => {
    const sent = request(url, { method: options.method ?? 'GET', headers: options.headers ?? {}, agent: false });
    sent.once('response', (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.once('end', () => {
        resolve({ status: response.statusCode!, headers: response.headers, text: Buffer.concat(chunks).toString() });
        sent.destroy();
      });
      response.once('error', reject);
    });
    sent.once('error', reject);
    sent.end(options.body);
  });
}

export const MCP_HEADERS = { 'content-type': 'application/json', accept: 'application/json, text/event-stream' };

/** A POST of JSON to `/mcp`. */
export function postMcp(url: string, message: unknown, headers: OutgoingHttpHeaders = {}): Promise<RawAnswer> {
  const body = typeof message === 'string' ? message : JSON.stringify(message);
  return rawRequest(`${url}/mcp`, { method: 'POST', headers: { ...MCP_HEADERS, ...headers }, body });
}

export const INITIALIZE = {
  jsonrpc: '2.0',
  id: 1,
  method: 'initialize',
  params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'raw', version: '1.0.0' } },
};

/** Opens a session. @returns its id */
export async function openSession(url: string, headers: OutgoingHttpHeaders = {}): Promise<string> {
  const answer = await postMcp(url, INITIALIZE, headers);
  const id = answer.headers['mcp-session-id'];
  if (typeof id !== 'string') throw new Error(`no session: HTTP ${answer.status} ${answer.text}`);
  return id;
}
