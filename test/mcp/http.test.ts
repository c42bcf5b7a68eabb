import { once } from 'node:events';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import type { CallToolResult } from '@modelcontextprotocol/sdk/types.js';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ANYONE } from '../../node/auth/principal.ts';
import { silentLog } from '../../node/log.ts';
import { catalogueOf } from '../../node/mcp/catalogue.ts';
import { type Listener, startListener } from '../../node/mcp/listener.ts';
import { tools as registry } from '../../tools/registry.ts';
import { EchoRouter, echoTools, INFO } from './echo-router.ts';
import { MCP_HEADERS, openSession, postMcp } from './raw-http.ts';

let router: EchoRouter;
let listener: Listener;
let client: Client;

async function connect(url: string): Promise<Client> {
  const connected = new Client({ name: 'test', version: '1.0.0' });
  await connected.connect(new StreamableHTTPClientTransport(new URL(`${url}/mcp`)));
  return connected;
}

beforeEach(async () => {
  router = new EchoRouter();
  listener = await startListener({
    router,
    host: '127.0.0.1',
    port: 0,
    info: INFO,
    log: silentLog,
    tools: echoTools,
  });
  client = await connect(listener.url);
});

afterEach(async () => {
  await client.close();
  await listener.close();
});

describe('initialize', () => {
  it('names the peer and offers tools', () => {
    expect(client.getServerVersion()).toMatchObject({
      name: 'flowmesh',
      version: '1.2.3',
      title: 'flowmesh peer echo-peer',
    });
    expect(client.getServerCapabilities()).toEqual({ tools: {} });
    expect(client.getInstructions()).toContain('workflow_submit');
  });

  it('is answered at once, not after a poll', async () => {
    const start = performance.now();
    await openSession(listener.url);
    expect(performance.now() - start).toBeLessThan(500);
  });
});

describe('tools/list', () => {
  it('gives every tool its title, texts, schemas and hints', async () => {
    const { tools } = await client.listTools();
    expect(tools.map((tool) => tool.name)).toEqual([...echoTools.keys()]);
    expect(tools[0]).toMatchObject({
      title: 'Echo a text',
      description: 'Answers with the text it was given.',
      inputSchema: { type: 'object', required: ['text'], properties: { times: { type: 'number', default: 1 } } },
      outputSchema: { type: 'object', properties: { text: { type: 'string' } }, required: ['success'] },
      annotations: { title: 'Echo a text', destructiveHint: false, openWorldHint: false },
    });
  });

  it('serves exactly the registry when nothing else is asked for', async () => {
    const whole = await startListener({
      router,
      host: '127.0.0.1',
      port: 0,
      info: INFO,
      log: silentLog,
    });
    const other = await connect(whole.url);
    const { tools } = await other.listTools();
    expect(tools.map((tool) => tool.name)).toEqual([...registry.keys()]);
    expect(tools).toEqual(catalogueOf(registry).list(ANYONE).tools);
    expect(tools).toHaveLength(26);
    for (const tool of tools) {
      const defined = registry.get(tool.name)!;
      expect(tool).toMatchObject({ title: defined.title, description: defined.description });
      expect(tool.annotations).toMatchObject(defined.annotations);
      expect(Object.keys(tool.inputSchema.properties ?? {})).toEqual(Object.keys(defined.input.shape));
      expect(JSON.stringify(tool.outputSchema)).toContain('"success"');
    }
    await other.close();
    await whole.close();
  });
});

describe('tools/call', () => {
  beforeEach(() => client.listTools()); // From here on the client checks every output against its schema.

  it('answers with structured content and the same as text', async () => {
    const result = (await client.callTool({ name: 'echo_text', arguments: { text: 'hello ☃' } })) as CallToolResult;
    expect(result.isError).toBeFalsy();
    expect(result.structuredContent).toEqual({ success: true, text: 'hello ☃' });
    expect(result.content).toEqual([{ type: 'text', text: JSON.stringify(result.structuredContent) }]);
  });

  it('hands the input to the router as it came', async () => {
    await client.callTool({ name: 'echo_text', arguments: { text: 'x', unknown: [1, { a: null }], times: 'many' } });
    expect(router.inputs).toEqual([{ text: 'x', unknown: [1, { a: null }], times: 'many' }]);
  });

  it('a failure has its code, sentence, retryability and details, structured and as text', async () => {
    const result = (await client.callTool({
      name: 'echo_failure',
      arguments: { code: 'QUEUE_FULL' },
    })) as CallToolResult;
    expect(result.isError).toBe(true);
    expect(result.structuredContent).toEqual({
      success: false,
      error: {
        code: 'QUEUE_FULL',
        message: 'Asked to fail. Ask for something else.',
        retryable: true,
        details: { asked: { code: 'QUEUE_FULL' } },
      },
    });
    expect(result.content).toEqual([{ type: 'text', text: JSON.stringify(result.structuredContent) }]);
  });

  it('an unexpected exception becomes INTERNAL in the same shape', async () => {
    const result = await client.callTool({ name: 'echo_failure', arguments: { code: 'BUG' } });
    expect(result.structuredContent).toEqual({
      success: false,
      error: { code: 'INTERNAL', message: 'a bug in a handler', retryable: false },
    });
  });

  it('an unknown tool is an error of the protocol that names the nearest', async () => {
    await expect(client.callTool({ name: 'echo_txt', arguments: {} })).rejects.toMatchObject({
      code: -32_602,
      message: expect.stringContaining('Unknown tool: echo_txt (did you mean "echo_text"?)'),
    });
    expect(router.inputs).toEqual([]);
  });

  it('an error of the protocol names itself once, and what is not offered is no method', async () => {
    const error = await client.callTool({ name: 'nothing', arguments: {} }).catch((thrown: Error) => thrown);
    expect((error as Error).message.match(/MCP error/g)).toHaveLength(1);
    for (const method of ['logging/setLevel', 'completion/complete', 'tasks/list', 'server/discover']) {
      const session = { 'mcp-session-id': await openSession(listener.url) };
      const answer = await postMcp(listener.url, { jsonrpc: '2.0', id: 2, method, params: { level: 'info' } }, session);
      expect(answer.text, method).toContain('"code":-32601');
    }
  });

  it('a long call tells a client that asked for it that it still runs', async () => {
    const progress: { progress: number; message?: string | undefined }[] = [];
    const twice = Promise.withResolvers<void>();
    const call = client.callTool({ name: 'wait_cancel', arguments: {} }, undefined, {
      onprogress: (each) => {
        progress.push(each);
        if (progress.length === 2) twice.resolve();
      },
    });
    await twice.promise;
    router.events.emit('release');
    expect((await call).structuredContent).toEqual({ success: true, released: true });
    expect(progress).toEqual([
      { progress: 1, message: 'wait_cancel has run for 1 s' },
      { progress: 2, message: 'wait_cancel has run for 2 s' },
    ]);
  });

  it('malformed parameters are -32602', async () => {
    const session = { 'mcp-session-id': await openSession(listener.url) };
    const answer = await postMcp(
      listener.url,
      { jsonrpc: '2.0', id: 2, method: 'tools/call', params: { name: 'echo_text', arguments: 'no object' } },
      session,
    );
    expect(answer.text).toContain('"code":-32602');
  });

  it('32 calls run at once and each gets its own answer', async () => {
    const waiting = Array.from({ length: 32 }, () => client.callTool({ name: 'wait_cancel', arguments: {} }));
    while (router.inFlight < 32) await once(router.events, 'waiting');
    router.events.emit('release');
    for (const result of await Promise.all(waiting))
      expect(result.structuredContent).toEqual({ success: true, released: true });

    const texts = Array.from({ length: 32 }, (_, index) => `text ${index}`);
    const results = await Promise.all(texts.map((text) => client.callTool({ name: 'echo_text', arguments: { text } })));
    expect(results.map((result) => (result.structuredContent as { text: string }).text)).toEqual(texts);
    expect(router.inFlightPeak).toBe(32);
  });
});

describe('cancellation', () => {
  it('notifications/cancelled aborts the signal of that call alone', async () => {
    const kept = client.callTool({ name: 'wait_cancel', arguments: {} });
    const cancel = new AbortController();
    const cancelled = client.callTool({ name: 'wait_cancel', arguments: {} }, undefined, { signal: cancel.signal });
    while (router.inFlight < 2) await once(router.events, 'waiting');
    const aborted = once(router.events, 'aborted');
    cancel.abort('no longer needed');
    await expect(cancelled).rejects.toThrow();
    expect(await aborted).toEqual(['no longer needed']);
    expect(router.inFlight).toBe(1);
    router.events.emit('release');
    expect((await kept).structuredContent).toEqual({ success: true, released: true });
  });

  it('ends the HTTP exchange of the cancelled call, without an answer', async () => {
    const session = { 'mcp-session-id': await openSession(listener.url) };
    const waiting = once(router.events, 'waiting');
    const exchange = postMcp(
      listener.url,
      { jsonrpc: '2.0', id: 'call-7', method: 'tools/call', params: { name: 'wait_cancel', arguments: {} } },
      session,
    );
    await waiting;
    const told = await postMcp(
      listener.url,
      { jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 'call-7' } },
      session,
    );
    expect(told.status).toBe(202);
    expect(await exchange).toMatchObject({ status: 200, text: '' });
  });

  it('a client that only loses its connection does not cancel its call', async () => {
    const session = { 'mcp-session-id': await openSession(listener.url) };
    const waiting = once(router.events, 'waiting');
    const leave = new AbortController();
    const lost = fetch(`${listener.url}/mcp`, {
      method: 'POST',
      headers: { ...MCP_HEADERS, ...session },
      body: JSON.stringify({ jsonrpc: '2.0', id: 2, method: 'tools/call', params: { name: 'wait_cancel' } }),
      signal: leave.signal,
    }).then((response) => response.text());
    await waiting;
    leave.abort();
    await expect(lost).rejects.toThrow();
    // A round trip later the listener has seen the connection go.
    await postMcp(listener.url, { jsonrpc: '2.0', id: 3, method: 'ping' }, session);
    expect(router.inFlight).toBe(1);
    router.events.emit('release');
  });

  it('ending the session aborts its calls', async () => {
    const session = { 'mcp-session-id': await openSession(listener.url) };
    const waiting = once(router.events, 'waiting');
    const exchange = postMcp(
      listener.url,
      { jsonrpc: '2.0', id: 2, method: 'tools/call', params: { name: 'wait_cancel' } },
      session,
    );
    await waiting;
    const aborted = once(router.events, 'aborted');
    const ended = await fetch(`${listener.url}/mcp`, { method: 'DELETE', headers: session });
    expect(ended.status).toBe(200);
    await aborted;
    await exchange;
    expect((await postMcp(listener.url, { jsonrpc: '2.0', id: 3, method: 'ping' }, session)).status).toBe(404);
  });
});

describe('close', () => {
  it('lets a running call end, and answers it', async () => {
    const call = client.callTool({ name: 'wait_cancel', arguments: {} });
    await once(router.events, 'waiting');
    const closed = listener.close();
    router.events.emit('release');
    expect((await call).structuredContent).toEqual({ success: true, released: true });
    await closed;
    await expect(fetch(`${listener.url}/health`)).rejects.toThrow();
  });
});
