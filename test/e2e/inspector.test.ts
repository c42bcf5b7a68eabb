/** What a foreign MCP client sees of a peer, over HTTP and over stdio. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { execa } from 'execa';
import { expect, it } from 'vitest';
import { tools } from '../../tools/registry.ts';
import { startProcesses } from '../harness/processes.ts';
import { PROGRAM } from '../harness/program.ts';
import { temporaryFolder } from './temporary-folder.ts';

const ROOT = join(import.meta.dirname, '../..');
const TOOL_COUNT = 26;

interface ListedTool {
  name: string;
  description?: string;
  inputSchema?: { type: string };
  outputSchema?: { type: string };
  annotations?: Record<string, unknown>;
}

/** The tools that the Inspector lists; it fails when a schema is one that some clients cannot use (`--strict`). */
async function inspect(home: string, ...target: string[]): Promise<ListedTool[]> {
  const { stdout } = await execa(
    'mcp-inspector',
    ['--cli', ...target, '--method', 'tools/list', '--format', 'json', '-q', '--strict'],
    { preferLocal: true, localDir: ROOT, env: { PATH: process.env['PATH']!, HOME: home }, extendEnv: false },
  );
  return (JSON.parse(stdout) as { result: { tools: ListedTool[] } }).result.tools;
}

it('the Inspector lists the 26 tools, whole, and the same over HTTP and stdio', async () => {
  await using mesh = await startProcesses(1);
  await using home = await temporaryFolder();
  const stdio = [process.execPath, PROGRAM, 'node', 'start', '--stdio'];
  const [overHttp, overStdio] = await Promise.all([
    inspect(home.path, '--server-url', `${mesh.peers[0]!.url}/mcp`, '--transport', 'http'),
    inspect(home.path, ...stdio),
  ]);
  expect(overHttp.map(({ name }) => name)).toEqual([...tools.keys()]);
  expect(overHttp).toHaveLength(TOOL_COUNT);
  expect(overStdio).toEqual(overHttp);
  for (const tool of overHttp) {
    expect(tool.description, tool.name).toMatch(/\S{3}/);
    expect(tool.inputSchema, tool.name).toMatchObject({ type: 'object', properties: expect.anything() });
    expect(tool.outputSchema, tool.name).toMatchObject({ type: 'object', properties: { success: expect.anything() } });
    expect(tool.annotations, tool.name).toMatchObject({
      readOnlyHint: expect.any(Boolean),
      destructiveHint: expect.any(Boolean),
      idempotentHint: expect.any(Boolean),
    });
  }
});

/** Speaks JSON-RPC to a process by hand and keeps every line that it writes to stdout. */
class RawPeer {
  readonly lines: string[] = [];
  readonly stderr: Promise<string>;
  readonly exited: Promise<unknown[]>;
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, (message: Message) => void>();
  #lastId = 0;

  constructor(args: string[], env: NodeJS.ProcessEnv) {
    this.#child = spawn(process.execPath, [PROGRAM, 'node', 'start', '--stdio', ...args], { env, stdio: 'pipe' });
    this.stderr = text(this.#child.stderr!);
    this.exited = once(this.#child, 'exit');
    createInterface({ input: this.#child.stdout! }).on('line', (line) => {
      this.lines.push(line);
      // A line that is no JSON is judged at the end, with all others.
      if (!line.startsWith('{')) return;
      const message = JSON.parse(line) as Message;
      if (typeof message.id === 'number') this.#waiting.get(message.id)?.(message);
    });
  }

  notify(method: string): void {
    this.#child.stdin!.write(`${JSON.stringify({ jsonrpc: '2.0', method })}\n`);
  }

  async request(method: string, params: object = {}): Promise<Message> {
    const id = ++this.#lastId;
    const answer = new Promise<Message>((resolve) => this.#waiting.set(id, resolve));
    this.#child.stdin!.write(`${JSON.stringify({ jsonrpc: '2.0', id, method, params })}\n`);
    const ended = this.exited.then(async () => {
      throw new Error(`the peer ended before it answered ${method}: ${await this.stderr}`);
    });
    return Promise.race([answer, ended]);
  }

  async call(name: string, input: object): Promise<Record<string, unknown>> {
    const { result } = await this.request('tools/call', { name, arguments: input });
    return result!['structuredContent'] as Record<string, unknown>;
  }

  async hangUp(): Promise<{ code: unknown; stderr: string }> {
    this.#child.stdin!.end();
    const [code] = await this.exited;
    return { code, stderr: await this.stderr };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.exited;
  }
}

interface Message {
  jsonrpc: string;
  id?: number;
  method?: string;
  result?: Record<string, unknown>;
  error?: { code: number };
}

it('stdout carries MCP and nothing else: debug logs and handlers that print go elsewhere (P10)', async () => {
  await using home = await temporaryFolder();
  const functions = join(import.meta.dirname, 'noisy-functions.ts');
  const args = ['--log-level', 'debug', '--http-port', '0', '--allow-shell', 'printf', '--functions', functions];
  await using peer = new RawPeer(args, { PATH: process.env['PATH'], FLOWMESH_HOME: home.path });
  const protocolVersion = '2025-11-25';
  const clientInfo = { name: 'by-hand', version: '1' };
  expect(await peer.request('initialize', { protocolVersion, capabilities: {}, clientInfo })).toMatchObject({
    result: { protocolVersion, serverInfo: { name: 'flowmesh' } },
  });
  peer.notify('notifications/initialized');
  expect((await peer.request('tools/list')).result!['tools']).toHaveLength(TOOL_COUNT);
  expect((await peer.request('no/such/method')).error!.code).toBe(-32_601);

  const submitted = await peer.call('workflow_submit', {
    workflow_id: 'noisy',
    name: 'noisy',
    steps: [
      { step_id: 'chatter', action: 'fn:chatter', inputs: { text: 'hello' } },
      { step_id: 'print', action: 'shell', inputs: { command: ['printf', 'stray line from a program'] } },
    ],
  });
  expect(submitted['success']).toBe(true);
  let result: Record<string, unknown>;
  do result = await peer.call('workflow_result', { workflow_id: 'noisy', include_logs: true });
  while (!['completed', 'failed'].includes(result['status'] as string));
  expect(result).toMatchObject({ status: 'completed', outputs: { chatter: { text: 'hello' } } });

  const { code, stderr } = await peer.hangUp();
  expect(code).toBe(0);
  const messages = peer.lines.map((line) => JSON.parse(line) as Message);
  for (const message of messages) {
    expect(message.jsonrpc).toBe('2.0');
    const isAnswer = typeof message.id === 'number' && (message.result ?? message.error) !== undefined;
    expect(isAnswer || typeof message.method === 'string', JSON.stringify(message)).toBe(true);
  }
  // What was printed did happen, and is where people look for it.
  expect(JSON.stringify(result['logs'])).toContain('stray line from console.log: hello');
  expect(stderr).toMatch(/"level":20/);
});
