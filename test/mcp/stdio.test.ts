import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { echoTools } from './echo-router.ts';
import { INITIALIZE } from './raw-http.ts';

const PEER = join(import.meta.dirname, 'stdio-peer.ts');
const GIVEN_BACK = 'stdout is given back';

describe('a client on stdio', () => {
  let client: Client;
  const protocolErrors: Error[] = [];

  beforeEach(async () => {
    client = new Client({ name: 'test', version: '1.0.0' });
    client.onerror = (error) => protocolErrors.push(error);
    await client.connect(new StdioClientTransport({ command: process.execPath, args: [PEER], stderr: 'ignore' }));
  });
  afterEach(() => client.close());

  it('sees the same tools, calls and errors as over HTTP', async () => {
    const { tools } = await client.listTools();
    expect(tools.map((tool) => tool.name)).toEqual([...echoTools.keys()]);
    const result = await client.callTool({ name: 'echo_text', arguments: { text: 'hello' } });
    expect(result.structuredContent).toEqual({ success: true, text: 'hello' });
    const failed = await client.callTool({ name: 'echo_failure', arguments: { code: 'NOT_FOUND' } });
    expect(failed).toMatchObject({
      isError: true,
      structuredContent: { success: false, error: { code: 'NOT_FOUND' } },
    });
    await expect(client.callTool({ name: 'wait_cancle', arguments: {} })).rejects.toMatchObject({ code: -32_602 });
    expect(protocolErrors).toEqual([]);
  });
});

/** Feeds `lines` to a peer, closes its stdin, and gives what it wrote. */
async function talk(
  lines: string[],
): Promise<{ messages: Record<string, unknown>[]; last: string; stderr: string; code: number }> {
  const peer = spawn(process.execPath, [PEER], { stdio: 'pipe' });
  const exited = once(peer, 'exit');
  const output = Promise.all([text(peer.stdout), text(peer.stderr)]);
  peer.stdin.end(lines.map((line) => `${line}\n`).join(''));
  const [stdout, stderr] = await output;
  const [code] = (await exited) as [number];
  const written = stdout.trimEnd().split('\n');
  const last = written.pop()!;
  return { messages: written.map((line) => JSON.parse(line) as Record<string, unknown>), last, stderr, code };
}

it('nothing but MCP is on stdout (P10), and calls sent before stdin closed are answered', async () => {
  const { messages, last, stderr, code } = await talk([
    JSON.stringify(INITIALIZE),
    JSON.stringify({ jsonrpc: '2.0', method: 'notifications/initialized' }),
    JSON.stringify({ jsonrpc: '2.0', id: 2, method: 'tools/call', params: { name: 'wait_cancel', arguments: {} } }),
  ]);
  expect(code).toBe(0);
  expect(messages.map((message) => message['id'])).toEqual([1, 2]);
  expect(messages[1]).toMatchObject({
    jsonrpc: '2.0',
    result: { structuredContent: { success: true, released: true } },
  });
  expect(last).toBe(GIVEN_BACK);
  expect(stderr.match(/stray line/g)).toHaveLength(4);
  expect(stderr).toContain('belongs to MCP');
});

it('a line that is no message gets a JSON-RPC error, and the next is served', async () => {
  const { messages } = await talk(['{"jsonrpc": ', '{"some": "object"}', JSON.stringify(INITIALIZE)]);
  expect(messages).toMatchObject([
    { id: null, error: { code: -32_700 } },
    { id: null, error: { code: -32_600 } },
    { id: 1, result: { serverInfo: { name: 'flowmesh' } } },
  ]);
});
