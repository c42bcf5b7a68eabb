/**
 * An MCP client that is as thin as it can be, so that a measurement is about the server: `node:http` with keep-alive
 * connections, no schema checks. Understands JSON and event-stream answers.
 *
 *   const client = new RawMcpClient('http://127.0.0.1:7601/mcp', 32);
 *   await client.initialize();
 *   const output = await client.call('queue_stats', {});
 *   client.close();
 */
import { Agent, request } from 'node:http';
import type { JsonObject } from '../dag/errors.ts';

interface RpcAnswer {
  result?: { structuredContent?: JsonObject; isError?: boolean } & JsonObject;
  error?: { code: number; message: string };
}

export class RawMcpClient {
  readonly #url: URL;
  readonly #agent: Agent;
  readonly #headers: Record<string, string> = {
    'content-type': 'application/json',
    accept: 'application/json, text/event-stream',
  };
  #nextId = 1;

  /**
   * @param connections kept open at most; calls beyond it wait
   * @param key shown with each request
   */
  constructor(url: string, connections: number, key?: string) {
    if (key !== undefined) this.#headers['authorization'] = `Bearer ${key}`;
    this.#url = new URL(url);
    this.#agent = new Agent({ keepAlive: true, maxSockets: connections });
  }

  /** Opens the session. @returns the time until its answer, in ms */
  async initialize(): Promise<number> {
    const start = performance.now();
    await this.#rpc('initialize', {
      protocolVersion: '2025-11-25',
      capabilities: {},
      clientInfo: { name: 'raw', version: '1.0.0' },
    });
    const elapsed = performance.now() - start;
    this.#headers['mcp-protocol-version'] = '2025-11-25';
    await this.#post({ jsonrpc: '2.0', method: 'notifications/initialized' });
    return elapsed;
  }

  /** @returns the tool's output. @throws Error when the call failed */
  async call(tool: string, input: JsonObject): Promise<JsonObject> {
    const result = await this.#rpc('tools/call', { name: tool, arguments: input });
    if (result?.isError === true) throw new Error(`${tool} failed: ${JSON.stringify(result.structuredContent)}`);
    return result?.structuredContent ?? {};
  }

  /** @returns how many there are */
  async listTools(): Promise<number> {
    const { tools } = (await this.#rpc('tools/list', {})) as unknown as { tools: unknown[] };
    return tools.length;
  }

  close(): void {
    this.#agent.destroy();
  }

  async #rpc(method: string, params: JsonObject): Promise<RpcAnswer['result']> {
    const text = await this.#post({ jsonrpc: '2.0', id: this.#nextId++, method, params });
    const answer = JSON.parse(text.startsWith('{') ? text : eventData(text)) as RpcAnswer;
    if (answer.error !== undefined) throw new Error(`${method}: ${answer.error.code} ${answer.error.message}`);
    return answer.result;
  }

  #post(message: JsonObject): Promise<string> {
    const body = Buffer.from(JSON.stringify(message));
    return new Promise((resolve, reject) => {
      const headers = { ...this.#headers, 'content-length': body.length };
      const sent = request(this.#url, { method: 'POST', agent: this.#agent, headers }, (response) => {
        const session = response.headers['mcp-session-id'];
        if (typeof session === 'string') this.#headers['mcp-session-id'] = session;
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.once('end', () => {
          const text = Buffer.concat(chunks).toString();
          if (response.statusCode! < 300) resolve(text);
          else reject(new Error(`HTTP ${response.statusCode}: ${text}`));
        });
        response.once('error', reject);
      });
      sent.once('error', reject);
      sent.end(body);
    });
  }
}

/** The last event of a stream is the answer; those before it are notifications. */
function eventData(stream: string): string {
  const start = stream.lastIndexOf('data: ') + 'data: '.length;
  return stream.slice(start, stream.indexOf('\n', start));
}
