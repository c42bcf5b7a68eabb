/**
 * A real MCP server over Streamable HTTP, made with the SDK, whose tools answer what a test says and that keeps what
 * it was sent; with the plain HTTP routes of a peer beside it.
 */
import { randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Server } from '@modelcontextprotocol/sdk/server/index.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { CallToolRequestSchema } from '@modelcontextprotocol/sdk/types.js';
import type { JsonObject } from '../../dag/errors.ts';

export interface McpEndpoint {
  url: string;
  /** Every tool call, in order. */
  calls: { tool: string; input: JsonObject }[];
  /** Every answer to a task, in order. */
  answers: { task_id: string; body: JsonObject }[];
  /** Sessions that were ended by the client. */
  goodbyes: number;
  /** Resolves when the `count`-th call has come. */
  called(count: number): Promise<void>;
  close(): Promise<void>;
}

/**
 * @param answer of a tool call; `success: false` is answered as the failure of a tool is
 * @param options.stream answers as server-sent events instead of JSON
 */
export async function startEndpoint(
  answer: (tool: string, input: JsonObject) => JsonObject,
  options: { stream?: boolean; ready?: JsonObject; answerStatus?: number } = {},
): Promise<McpEndpoint> {
  const transports = new Map<string, StreamableHTTPServerTransport>();
  const waiting: { count: number; resolve: () => void }[] = [];
  const endpoint: McpEndpoint = {
    url: '',
    calls: [],
    answers: [],
    goodbyes: 0,
    called(count) {
      const { promise, resolve } = Promise.withResolvers<void>();
      if (endpoint.calls.length >= count) resolve();
      else waiting.push({ count, resolve });
      return promise;
    },
    async close() {
      for (const transport of transports.values()) await transport.close();
      http.closeAllConnections();
      await new Promise((resolve) => http.close(resolve));
    },
  };

  const open = async (): Promise<StreamableHTTPServerTransport> => {
    const server = new Server({ name: 'test', version: '1.0.0' }, { capabilities: { tools: {} } });
    server.setRequestHandler(CallToolRequestSchema, async ({ params }) => {
      const input = (params.arguments ?? {}) as JsonObject;
      endpoint.calls.push({ tool: params.name, input });
      for (const each of waiting) if (endpoint.calls.length >= each.count) each.resolve();
      const output = answer(params.name, input);
      return {
        content: [{ type: 'text', text: JSON.stringify(output) }],
        structuredContent: output,
        isError: output['success'] === false,
      };
    });
    const transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      enableJsonResponse: options.stream !== true,
      onsessioninitialized: (id) => void transports.set(id, transport),
      onsessionclosed: () => void endpoint.goodbyes++,
    });
    await server.connect(transport);
    return transport;
  };

  const route = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const send = (status: number, body: JsonObject) =>
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    if (request.url === '/mcp') {
      const id = request.headers['mcp-session-id'];
      const transport = typeof id === 'string' ? transports.get(id) : await open();
      if (transport === undefined) send(404, { error: 'no such session' });
      else await transport.handleRequest(request, response);
    } else if (request.url === '/ready') {
      send(
        options.ready?.['ready'] === false ? 503 : 200,
        options.ready ?? { ready: true, peer_id: 'me', name: 'here' },
      );
    } else {
      const task = /^\/tasks\/(.+)\/answer$/.exec(request.url!)!;
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk as Buffer);
      endpoint.answers.push({
        task_id: decodeURIComponent(task[1]!),
        body: JSON.parse(Buffer.concat(chunks).toString()),
      });
      send(options.answerStatus ?? 200, answer('answer', {}));
    }
  };
  const http = createServer((request, response) => void route(request, response));
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
  endpoint.url = `http://127.0.0.1:${(http.address() as AddressInfo).port}`;
  return endpoint;
}
