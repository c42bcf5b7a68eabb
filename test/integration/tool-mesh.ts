/**
 * Three peers as processes and an MCP client at each, for tests of what a tool does and of what it refuses to do:
 *
 *   const mesh = toolMesh();
 *   coverTools(TOOLS.task, mesh, { effects: { async task_submit() { … } }, refusals: () => ({ task_submit: [ … ] }) });
 *
 * The clients have read `tools/list`, so the SDK checks every answer against the published output schema.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Client } from '@modelcontextprotocol/sdk/client/index.js';
import type { CallToolResult } from '@modelcontextprotocol/sdk/types.js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import type { ErrorShape, JsonObject, JsonValue } from '../../dag/errors.ts';
import { eventually } from '../harness/eventually.ts';
import { type PeerProcess, type ProcessesOptions, type ProcessMesh, startProcesses } from '../harness/processes.ts';
import { Gate } from './gate.ts';

/** The 26 tools, by the test file that covers them. */
export const TOOLS = {
  workflow: [
    'workflow_submit',
    'workflow_status',
    'workflow_cancel',
    'workflow_list',
    'workflow_dependencies',
    'workflow_result',
  ],
  task: ['task_submit', 'task_status', 'task_cancel', 'task_list', 'task_priority', 'task_retry', 'task_result'],
  queue: [
    'queue_stats',
    'queue_pause',
    'queue_resume',
    'queue_clear',
    'worker_register',
    'worker_unregister',
    'worker_status',
  ],
  peer: ['peer_discover', 'peer_connect', 'peer_disconnect', 'peer_list', 'peer_metrics', 'bootstrap_network'],
} as const;

const FAILURES_AT_LEAST = 2;
const ENDED = new Set(['completed', 'failed', 'cancelled']);

/** The error shape of every tool, and nothing beside it. */
const failureSchema = z.strictObject({
  success: z.literal(false),
  error: z.strictObject({
    code: z.string().regex(/^[A-Z][A-Z_]+$/),
    message: z.string().min(10),
    retryable: z.boolean(),
    details: z.record(z.string(), z.json()).optional(),
  }),
});

/** One peer, as its MCP client sees it. */
export class ToolPeer {
  readonly process: PeerProcess;
  client: Client;
  readonly succeeded: Map<string, number>;

  constructor(process: PeerProcess, client: Client, succeeded: Map<string, number>) {
    this.process = process;
    this.client = client;
    this.succeeded = succeeded;
  }

  get peer_id(): string {
    return this.process.peer_id;
  }

  /** The output of a call that must succeed. */
  async call(tool: string, input: JsonObject = {}): Promise<JsonObject> {
    const result = await this.#send(tool, input);
    const output = result.structuredContent as JsonObject;
    expect(output, `${tool} ${JSON.stringify(input)}`).toMatchObject({ success: true });
    expect(result.isError ?? false).toBe(false);
    this.succeeded.set(tool, (this.succeeded.get(tool) ?? 0) + 1);
    return output;
  }

  /** The error of a call that must fail. */
  async refuse(tool: string, input: JsonObject): Promise<ErrorShape> {
    const result = await this.#send(tool, input);
    const what = `${tool} ${JSON.stringify(input)?.slice(0, 300)}`;
    expect(result.isError, `${what} gave ${JSON.stringify(result.structuredContent)}`).toBe(true);
    return failureSchema.parse(result.structuredContent).error as ErrorShape;
  }

  /** On its folder and ports again, with a new client. */
  async restart(): Promise<void> {
    await this.process.restart();
    this.client = await clientOf(this.process);
  }

  /** The peers that it is connected to. */
  async neighbours(): Promise<string[]> {
    const { peers } = await this.call('peer_list', { status_filter: 'connected', sort_by: 'peer_id' });
    return (peers as { peer_id: string }[]).map(({ peer_id }) => peer_id);
  }

  /** A task that has ended, as this peer sees it. */
  taskEnds(task_id: string): Promise<JsonObject> {
    return this.#ends('task_status', { task_id, include_metrics: true });
  }

  /** A workflow that has ended, as this peer sees it. */
  workflowEnds(workflow_id: string): Promise<JsonObject> {
    return this.#ends('workflow_status', { workflow_id });
  }

  #ends(tool: string, input: JsonObject): Promise<JsonObject> {
    return eventually(`${JSON.stringify(input)} has ended`, async () => {
      const status = await this.call(tool, input);
      if (ENDED.has(String(status['status']))) return status;
      throw new Error(JSON.stringify(status));
    });
  }

  async #send(tool: string, input: JsonObject): Promise<CallToolResult> {
    const result = (await this.client.callTool({ name: tool, arguments: input })) as CallToolResult;
    const [text] = result.content;
    expect(JSON.parse((text as { text: string }).text)).toEqual(result.structuredContent);
    return result;
  }
}

export class ToolMesh {
  readonly #options: ProcessesOptions;
  #started: { processes: ProcessMesh; peers: ToolPeer[]; folder: string } | undefined;
  readonly #succeeded = new Map<string, number>();

  constructor(options: ProcessesOptions) {
    this.#options = options;
  }

  async start(): Promise<void> {
    const folder = await mkdtemp(join(tmpdir(), 'flowmesh-tools-'));
    const processes = await startProcesses(3, { args: ['--allow-shell', '*', '--slots', '4'], ...this.#options });
    const peers = await Promise.all(
      processes.peers.map(async (process) => new ToolPeer(process, await clientOf(process), this.#succeeded)),
    );
    this.#started = { processes, peers, folder };
  }

  async close(): Promise<void> {
    const started = this.#started;
    this.#started = undefined;
    await started?.processes.close();
    if (started !== undefined) await rm(started.folder, { recursive: true, force: true });
  }

  get peers(): ToolPeer[] {
    if (this.#started === undefined) throw new Error('the mesh does not run');
    return this.#started.peers;
  }
  get a(): ToolPeer {
    return this.peers[0]!;
  }
  get b(): ToolPeer {
    return this.peers[1]!;
  }
  get c(): ToolPeer {
    return this.peers[2]!;
  }
  get processes(): ProcessMesh {
    return this.#started!.processes;
  }

  /** In a folder that goes with the mesh. */
  path(name: string): string {
    return join(this.#started!.folder, name);
  }

  gate(name: string, options?: { stubborn?: boolean }): Gate {
    return new Gate(this.#started!.folder, name, options);
  }

  /** A command that leaves one line for every time it ran. */
  append(name: string, line: string): string[] {
    return ['sh', '-c', 'echo "$1" >>"$2"', 'sh', line, this.path(name)];
  }

  /** The lines of a file that steps append to; none while it does not exist. */
  async lines(name: string): Promise<string[]> {
    const text = await readFile(this.path(name), 'utf8').catch(() => '');
    return text.split('\n').filter((line) => line !== '');
  }

  /** How often a tool was called with success. */
  successes(tool: string): number {
    return this.#succeeded.get(tool) ?? 0;
  }

  /** Work of each kind that a wrong call could harm: ended, running and waiting, kept by B. */
  async seed(): Promise<void> {
    const { b } = this;
    await b.call('workflow_submit', {
      workflow_id: 'wf-done',
      name: 'done',
      steps: [{ step_id: 's', action: 'echo' }],
    });
    const open = { step_id: 's', action: 'sleep', inputs: { duration_ms: 600_000 } };
    await b.call('workflow_submit', { workflow_id: 'wf-open', name: 'open', steps: [open] });
    await b.call('task_submit', { task_id: 't-done', task_type: 'echo', payload: { n: 1 } });
    await b.call('task_submit', { task_id: 't-dead', task_type: 'shell', payload: { command: ['false'] } });
    await b.call('task_submit', { task_id: 't-later', task_type: 'echo', delay_ms: 600_000, priority: 2 });
    await b.call('worker_register', { worker_id: 'w-seed', capabilities: ['echo', 'seeded'] });
    for (const task_id of ['t-done', 't-dead']) await b.taskEnds(task_id);
    await b.workflowEnds('wf-done');
    // The next beats of B tell of its new worker: after them nothing changes by itself.
    for (const peer of this.peers) {
      if (peer === b || !(await peer.neighbours()).includes(b.peer_id)) continue;
      await eventually('the worker is known', async () => {
        return (await peer.call('peer_list', { capability_filter: ['seeded'] }))['total_count'] === 1;
      });
    }
  }

  /** Everything that a call could change, of every peer; figures that move by themselves are left out. */
  async state(): Promise<JsonValue> {
    return Promise.all(
      this.peers.map(async (peer) => {
        const [{ workflows }, { tasks }, stats, { peers }] = await Promise.all([
          peer.call('workflow_list', { limit: 1_000, scope: 'local' }),
          peer.call('task_list', { limit: 1_000, scope: 'local' }),
          peer.call('queue_stats', { include_worker_stats: true, scope: 'local' }),
          peer.call('peer_list', { sort_by: 'peer_id', limit: 1_000 }),
        ]);
        const { average_wait_time_ms, average_execution_time_ms, throughput_per_minute, ...counts } = stats!;
        const connections = (peers as JsonObject[]).map(({ peer_id, status, connected_since, capabilities }) => {
          return { peer_id: peer_id!, status: status!, connected_since: connected_since!, capabilities: capabilities! };
        });
        return { workflows: workflows!, tasks: tasks!, counts, connections };
      }),
    );
  }
}

async function clientOf(process: PeerProcess): Promise<Client> {
  const client = await process.mcp();
  await client.listTools();
  return client;
}

/** A mesh for the tests of one file. */
export function toolMesh(options: ProcessesOptions = {}): ToolMesh {
  const mesh = new ToolMesh(options);
  beforeAll(() => mesh.start());
  afterAll(() => mesh.close());
  return mesh;
}

export interface RefusedCall {
  code: string;
  says: RegExp;
  input: JsonObject;
  at: 'a' | 'b' | 'c';
}

/** @param at the peer that is asked; by default one that keeps nothing of what was seeded */
export function refused(code: string, says: RegExp, input: JsonObject, at: RefusedCall['at'] = 'a'): RefusedCall {
  return { code, says, input, at };
}

/** Registers a test for what each tool refuses, one for what it does, and one that none is left out. */
export function coverTools<Name extends string>(
  names: readonly Name[],
  mesh: ToolMesh,
  cover: { effects: Record<Name, () => Promise<void>>; refusals: () => Record<Name, RefusedCall[]> },
): void {
  describe('a refused call says why and changes nothing', () => {
    beforeAll(() => mesh.seed());

    it.each(names)('%s', async (name) => {
      const calls = cover.refusals()[name];
      expect(calls.length).toBeGreaterThanOrEqual(FAILURES_AT_LEAST);
      const before = await mesh.state();
      for (const { code, says, input, at } of calls) {
        const error = await mesh[at].refuse(name, input);
        expect(error).toMatchObject({ code, message: expect.stringMatching(says) });
      }
      expect(await mesh.state()).toEqual(before);
    });
  });

  describe('a call has its effect, seen from another peer', () => {
    it.each(names)('%s', async (name) => {
      const before = mesh.successes(name);
      await cover.effects[name]();
      expect(mesh.successes(name)).toBeGreaterThan(before);
    });
  });

  it('every tool of this family is covered, and nothing else', () => {
    expect(Object.keys(cover.effects).sort()).toEqual([...names].sort());
    expect(Object.keys(cover.refusals()).sort()).toEqual([...names].sort());
  });
}
