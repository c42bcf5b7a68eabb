import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MESSAGE_BYTES_MAX } from '../../node/mcp/limits.ts';
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

it('values that no message may hold are refused with their place, in what a client sends and in what it answers', async () => {
  const inexact = '3544790567247868102';
  const deep = '['.repeat(20_000) + ']'.repeat(20_000);
  const { messages, code } = await talk([
    JSON.stringify(INITIALIZE),
    `{"jsonrpc":"2.0","id":2,"result":{"action":"accept","content":{"n":${inexact}}}}`,
    `{"jsonrpc":"2.0","id":3,"method":"ping","params":{"_meta":{"progressToken":${inexact}}}}`,
    `{"jsonrpc":"2.0","id":4,"method":"tools/call","params":{"name":"echo_text","_meta":{"x":${deep}}}}`,
    `{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"echo_text","__proto__":{"arguments":{"text":"x"}}}}`,
    `{"jsonrpc":"2.0","id":6,"method":"ping"}`,
  ]);
  const said = messages.map(({ id, error }) => {
    const { code, message } = (error ?? {}) as { code?: number; message?: string };
    return [id, code, message] as const;
  });
  expect(said.sort(([a], [b]) => Number(a) - Number(b))).toEqual([
    [1, undefined, undefined],
    [2, -32_600, expect.stringContaining(`Invalid Request: result.content.n is ${inexact}`)],
    [3, -32_602, expect.stringContaining(`Invalid params of ping: params._meta.progressToken is ${inexact}`)],
    [4, -32_602, expect.stringContaining('Invalid params of tools/call: params._meta.x')],
    [5, -32_602, expect.stringContaining('params.__proto__ is a name that data cannot have')],
    [6, undefined, undefined],
  ]);
  expect(code).toBe(0);
});

describe('a line over the limit', () => {
  const huge = 'x'.repeat(MESSAGE_BYTES_MAX);
  const last = JSON.stringify({ method: 'ping', params: { huge, id: 1 }, jsonrpc: '2.0', id: 41 });
  const first = JSON.stringify({ jsonrpc: '2.0', id: 'call-1', method: 'ping', params: { huge } });

  it('is answered with the limit and the id that it has, and the next one is served', async () => {
    const unknown = JSON.stringify({ jsonrpc: '2.0', method: 'ping', params: { id: 5, huge }, x: [{ id: 6 }] });
    const { messages, code } = await talk([last, first, unknown, `${huge}x`, JSON.stringify(INITIALIZE)]);
    expect(messages.map(({ id }) => id)).toEqual([41, 'call-1', null, null, 1]);
    for (const { error } of messages.slice(0, 4)) {
      expect(error).toEqual({ code: -32_600, message: expect.stringContaining(String(MESSAGE_BYTES_MAX)) });
    }
    expect(messages.at(-1)).toMatchObject({ result: { serverInfo: { name: 'flowmesh' } } });
    expect(code).toBe(0);
  });
});

it('params and arguments that are null, wrong params, and an id in use are as over HTTP', async () => {
  const call = { jsonrpc: '2.0', id: 2, method: 'tools/call' };
  const { messages } = await talk(
    [
      INITIALIZE,
      { ...call, params: { name: 'wait_cancel', arguments: null, task: {} } },
      { ...call, params: { name: 'echo_text', arguments: { text: 'x' } } },
      { ...call, id: 3, params: { name: 'echo_text', arguments: [] } },
      { jsonrpc: '2.0', id: 4, method: 'tools/list', params: null },
      { jsonrpc: '2.0', id: 5, method: 'initialize', params: {} },
      { jsonrpc: '2.0', id: 6, method: 'server/discover', params: {} },
    ].map((message) => JSON.stringify(message)),
  );
  const answers = Object.groupBy(messages, ({ id }) => String(id));
  expect(answers['2']).toMatchObject([
    { error: { code: -32_600 } },
    { result: { structuredContent: { released: true } } },
  ]);
  expect(answers['3']).toMatchObject([
    {
      error: { code: -32_602, message: 'Invalid params of tools/call: params.arguments must be an object, not a list' },
    },
  ]);
  expect(answers['4']).toMatchObject([{ result: { tools: [{}, {}, {}] } }]);
  expect(answers['5']).toMatchObject([
    { error: { code: -32_602, message: expect.stringContaining('protocolVersion is missing') } },
  ]);
  expect(answers['6']).toMatchObject([{ error: { code: -32_601 } }]);
});
