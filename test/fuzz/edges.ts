/**
 * The edges where data comes in, and what each promises of any input: it is taken, or refused with an error that has a
 * code, says where or what, and says what to do. Nothing else is thrown.
 */
import { Readable } from 'node:stream';
import fc from 'fast-check';
import { FlowmeshError, type JsonValue } from '../../dag/errors.ts';
import { faultOf } from '../../dag/json.ts';
import { OUTPUT_BYTES_MAX } from '../../dag/limits.ts';
import { parseWorkflow } from '../../dag/schema.ts';
import { readDocument } from '../../node/cli/document.ts';
import { readFromFunctionProcess } from '../../node/executors/function-messages.ts';
import { parseJsonOutput } from '../../node/executors/json-output.ts';
import { parseMessage } from '../../node/mcp/message-text.ts';
import { RpcError, readMessage } from '../../node/mcp/messages.ts';
import { FrameReader, MalformedFrameError } from '../../node/p2p/frames.ts';
import { encodeJson, NotJsonError } from '../../node/processes/json-result.ts';
import { resultOf } from '../../scheduler/worker/attempt-result.ts';
import { checkParts } from '../../scheduler/workflow/check-submission.ts';
import { parseInput } from '../../tools/call/envelope.ts';
import { tools } from '../../tools/registry.ts';
import { anything, childMessage, fileText, frameBody, jsonText, toolCall } from './inputs.ts';

/** A refusal is as long as a page of text at most, whatever it is about. */
const MESSAGE_CHARS_MAX = 20_000;

export interface Edge {
  name: string;
  /** Throws when the edge does not keep its promise. */
  property: fc.IAsyncProperty<unknown>;
}

const edge = <T>(name: string, inputs: fc.Arbitrary<T>, take: (input: T) => unknown): Edge => ({
  name,
  property: fc.asyncProperty(inputs, async (input) => {
    await take(input);
  }) as fc.IAsyncProperty<unknown>,
});

/** Runs `work`, and sees to it that what it throws is a refusal. @returns undefined when it was one */
async function refusedOr<T>(work: () => T | Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    mustBeRefusal(error);
    return undefined;
  }
}

function mustBeRefusal(error: unknown): void {
  if (!(error instanceof FlowmeshError)) throw error;
  const { code, message, retryable, details } = error.toShape();
  if (!/^[A-Z][A-Z_]+$/.test(code) || code === 'INTERNAL') throw new Error(`a code that says nothing: ${code}`);
  if (retryable) throw new Error(`${code} says that the same input may be taken later`);
  if (message.length < 10 || message.length > MESSAGE_CHARS_MAX)
    throw new Error(`a message of ${message.length} characters`);
  JSON.stringify(details);
  if (code === 'INVALID_INPUT') mustList(details?.['problems']);
  if (code === 'LIMIT_EXCEEDED' && typeof details?.['limit'] !== 'string') throw new Error('a limit without its name');
}

function mustList(problems: JsonValue | undefined): void {
  if (!Array.isArray(problems) || problems.length === 0) throw new Error('INVALID_INPUT without problems');
  for (const problem of problems) {
    const { path, message } = problem as { path: unknown; message: unknown };
    if (typeof path !== 'string' || typeof message !== 'string' || message === '')
      throw new Error('a problem without a place or a sentence');
  }
}

const LEASE = {
  uid: 'u',
  feed_id: 'f',
  epoch: 1,
  attempt: 1,
  worker_id: 'w',
  action: 'fn:x',
  payload: {},
  requires: { labels: [], peers: [] },
  timeout_ms: null,
};
const attempt = () =>
  ({ lease: LEASE, ending: null, started: 0, lines: [], dropped: 0 }) as unknown as Parameters<typeof resultOf>[0];

/** What was made of an output is told, kept and read again. */
function mustCarry({ result, bytes }: ReturnType<typeof resultOf>): void {
  JSON.parse(JSON.stringify(result));
  if (!(bytes >= 0 && Number.isFinite(bytes))) throw new Error(`a result of ${bytes} bytes`);
  if (result.status === 'completed' && faultOf(result.output) !== undefined)
    throw new Error('an output that cannot be kept was taken');
  if (result.status === 'failed' && result.error === null) throw new Error('a failure without an error');
}

export const EDGES: readonly Edge[] = [
  edge('tool arguments', toolCall, async ({ tool, input }) => {
    const parsed = await refusedOr(() => parseInput(tools.get(tool)!, input));
    if (parsed === undefined) return;
    JSON.stringify(parsed);
    if (tool !== 'workflow_submit') return;
    const { copies, require_copies, ...fields } = parsed as Record<string, unknown>;
    const workflow = await refusedOr(() => parseWorkflow(fields));
    if (workflow !== undefined) await refusedOr(() => checkParts(workflow, 0));
  }),
  edge('text of messages', jsonText, (text) => {
    try {
      readMessage(parseMessage(text));
    } catch (error) {
      if (error instanceof SyntaxError) return; // Both transports say so: it is no JSON.
      if (!(error instanceof RpcError) || error.message.length < 10) throw error;
    }
  }),
  edge('workflow files', fileText, async (text) => {
    const document = await refusedOr(() => readDocument('-', Readable.from([text]) as unknown as NodeJS.ReadStream));
    if (document !== undefined) JSON.stringify(document.value);
  }),
  edge('frames', frameBody, (body) => {
    const frame = Buffer.alloc(4 + body.length);
    frame.writeUInt32BE(body.length);
    frame.set(body, 4);
    try {
      for (const message of new FrameReader().push(frame)) JSON.stringify(message);
    } catch (error) {
      if (!(error instanceof MalformedFrameError) || error.message.length < 10) throw error;
    }
  }),
  edge('outputs', anything, (output) => {
    mustCarry(resultOf(attempt(), { output: output as JsonValue }, 1));
    mustCarry(resultOf(attempt(), { thrown: output }, 1));
  }),
  edge('outputs of programs and servers', jsonText, async (text) => {
    for (const bigNumbers of ['refuse', 'string'] as const) {
      try {
        await refusedOr(() => parseJsonOutput(text, 'stdout of "x"', bigNumbers));
      } catch (error) {
        if (!(error instanceof SyntaxError)) throw error;
      }
    }
  }),
  edge('outputs of handlers', anything, (output) => {
    try {
      JSON.parse(encodeJson(output, OUTPUT_BYTES_MAX));
    } catch (error) {
      if (!(error instanceof NotJsonError) || error.message.length < 5) throw error;
    }
  }),
  edge('messages of child processes', childMessage, (message) => {
    try {
      readFromFunctionProcess(message);
    } catch (error) {
      if (!(error instanceof Error) || error.constructor !== Error || error.message.length < 10) throw error;
    }
  }),
];
