/**
 * A router that answers from itself, and three tools for it: what the MCP side is tested against, apart from the mesh.
 */
import { EventEmitter, once } from 'node:events';
import { z } from 'zod';
import { FlowmeshError, type JsonObject, type JsonValue } from '../../dag/errors.ts';
import type { Principal } from '../../node/auth/principal.ts';
import type { RouterCallOptions, RouterStatus, ToolRouter } from '../../node/runtimes/router.ts';
import { defineMeshTool, type Tool } from '../../tools/definition.ts';

export const INFO = { peer_id: '12D3KooWEcho', name: 'echo-peer', version: '1.2.3' };

const common = {
  annotations: { readOnlyHint: false, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  permission: 'task:write',
  handler: () => Promise.reject(new Error('the router answers, not the handler')),
} as const;

const echo = defineMeshTool({
  ...common,
  name: 'echo_text',
  title: 'Echo a text',
  description: 'Answers with the text it was given.',
  input: z.object({ text: z.string(), times: z.number().default(1) }),
  output: z.object({ text: z.string() }),
});

const fail = defineMeshTool({
  ...common,
  name: 'echo_failure',
  title: 'Fail',
  description: 'Fails with the code it was given.',
  input: z.object({ code: z.string() }),
  output: z.object({ never: z.string() }),
});

const wait = defineMeshTool({
  ...common,
  name: 'wait_cancel',
  title: 'Wait',
  description: 'Answers when it is released; ends when it is cancelled.',
  input: z.object({}),
  output: z.object({ released: z.boolean() }),
});

export const echoTools: ReadonlyMap<string, Tool> = new Map([echo, fail, wait].map((tool) => [tool.name, tool]));

export class EchoRouter implements ToolRouter {
  /** `waiting`, `aborted`: a `wait_cancel` began, was cancelled. `release` ends those that wait. */
  readonly events = new EventEmitter().setMaxListeners(0);
  readonly inputs: unknown[] = [];
  /** Of the last call. */
  principal: Principal | undefined;
  readonly answers: { task_id: string; answer: unknown }[] = [];
  ready = true;
  inFlight = 0;
  inFlightPeak = 0;

  async call(tool: string, input: unknown, options: RouterCallOptions = {}): Promise<JsonObject> {
    this.inputs.push(input);
    this.principal = options.principal;
    this.inFlight += 1;
    this.inFlightPeak = Math.max(this.inFlightPeak, this.inFlight);
    try {
      switch (tool) {
        case 'echo_text':
          await new Promise(setImmediate);
          return { success: true, text: (input as { text: string }).text };
        case 'echo_failure':
          throw (input as { code: string }).code === 'BUG'
            ? new TypeError('a bug in a handler')
            : new FlowmeshError((input as { code: string }).code, 'Asked to fail. Ask for something else.', {
                retryable: true,
                details: { asked: input as JsonObject },
              });
        default:
          return await this.#wait(options.signal!);
      }
    } finally {
      this.inFlight -= 1;
    }
  }

  async answerTask(task_id: string, answer: { approve: boolean; data: JsonValue }): Promise<JsonObject> {
    if (task_id === 'unknown') throw new FlowmeshError('NOT_FOUND', 'No task unknown. List tasks with task_list.');
    if (task_id === 'ended') throw new FlowmeshError('INVALID_STATE', 'Task ended has ended.');
    this.answers.push({ task_id, answer });
    return { success: true, task_id, approved: answer.approve };
  }

  async status(): Promise<RouterStatus> {
    return {
      ...INFO,
      ready: this.ready,
      reasons: this.ready ? [] : ['the store is opening'],
      mesh: 'test',
      connected_peers: 2,
      addresses: [],
      runtime: 'inline',
      in_flight: this.inFlight,
      mesh_restarts: 0,
      loops: { serve: { utilization: 0 }, mesh: null },
      tools: { serve: {}, mesh: {}, inbound: {} },
    };
  }

  async #wait(signal: AbortSignal): Promise<JsonObject> {
    this.events.emit('waiting');
    try {
      await once(this.events, 'release', { signal });
      return { success: true, released: true };
    } catch (error) {
      this.events.emit('aborted', signal.reason);
      throw error;
    }
  }
}
