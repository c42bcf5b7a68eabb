/**
 * MCP messages as lines on a pair of streams. Whatever a line is, it is answered and the next one is read: one that is too
 * long, no JSON, no message, or has the id of a request that still runs.
 */
import type { Readable, Writable } from 'node:stream';
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js';
import { ErrorCode, type JSONRPCMessage, type RequestId } from '@modelcontextprotocol/sdk/types.js';
import { InFlight } from './in-flight.ts';
import { MESSAGE_BYTES_MAX } from './limits.ts';
import { BoundedLines, type Line } from './lines.ts';
import { parseMessage } from './message-text.ts';
import { RpcError, readMessage } from './messages.ts';

export class StdioTransport implements Transport {
  onmessage?: (message: JSONRPCMessage) => void;
  onclose?: () => void;
  onerror?: (error: Error) => void;

  readonly #input: Readable;
  readonly #output: Writable;
  readonly #lines: BoundedLines;
  readonly #inFlight = new InFlight();

  /** @param options.line_bytes_max default MESSAGE_BYTES_MAX */
  constructor(input: Readable, output: Writable, options: { line_bytes_max?: number } = {}) {
    this.#input = input;
    this.#output = output;
    this.#lines = new BoundedLines(options.line_bytes_max ?? MESSAGE_BYTES_MAX);
  }

  async start(): Promise<void> {
    this.#input.on('data', this.#read);
    this.#input.on('error', this.#failed);
  }

  send(message: JSONRPCMessage): Promise<void> {
    this.#inFlight.passed(message);
    return new Promise((resolve) => {
      if (this.#output.write(`${JSON.stringify(message)}\n`)) resolve();
      else this.#output.once('drain', resolve);
    });
  }

  /** The client cancelled the request `id`: it gets no answer. */
  forget(id: RequestId): void {
    this.#inFlight.end(id);
  }

  async close(): Promise<void> {
    this.#input.off('data', this.#read).off('error', this.#failed);
    this.#input.pause();
    this.onclose?.();
  }

  readonly #failed = (error: Error) => this.onerror?.(error);

  readonly #read = (chunk: Buffer): void => {
    for (const line of this.#lines.push(chunk)) {
      if ('text' in line && line.text.trim() === '') continue;
      try {
        const message = messageIn(line);
        this.#inFlight.begin([message]);
        this.onmessage?.(message);
      } catch (error) {
        // Thrown on, it would end the peer for what one client wrote.
        if (error instanceof RpcError) this.#refuse(error);
        else this.onerror?.(error as Error);
      }
    }
  };

  /** Not through `send`: the id may be that of a request which goes on. */
  #refuse(refusal: RpcError): void {
    this.onerror?.(refusal);
    this.#output.write(`${JSON.stringify(refusal.toMessage())}\n`);
  }
}

/** @throws RpcError */
function messageIn(line: Line): JSONRPCMessage {
  if ('tooLong' in line) {
    const { head, tail, bytes, bytesMax } = line.tooLong;
    const text = `Invalid Request: the line is ${bytes} bytes, and may be ${bytesMax}. Pass a reference to the data`;
    throw new RpcError(ErrorCode.InvalidRequest, text, idIn(head, tail));
  }
  let value: unknown;
  try {
    value = parseMessage(line.text);
  } catch (error) {
    throw new RpcError(ErrorCode.ParseError, `Parse error: the line is not JSON: ${(error as Error).message}`);
  }
  return readMessage(value);
}

const STRING = String.raw`"(?:[^"\\]|\\.)*"`;
const ID = String.raw`(-?\d{1,15}|"[^"\\]{0,128}")`;
/** Fields with plain values, then the id: nothing before it can be inside of anything. */
const ID_FIRST = new RegExp(
  String.raw`^\s*\{(?:\s*${STRING}\s*:\s*(?:${STRING}|-?[\d.]+)\s*,)*?\s*"id"\s*:\s*${ID}\s*[,}]`,
);
/** The id as the last field: the brace that ends the line ends the message. */
const ID_LAST = new RegExp(String.raw`[,{]\s*"id"\s*:\s*${ID}\s*\}\s*$`);

/** The id of a message of which only the ends are known; null where it cannot be told for certain. */
function idIn(head: string, tail: string): RequestId | null {
  const found = ID_FIRST.exec(head)?.[1] ?? ID_LAST.exec(tail)?.[1];
  if (found === undefined) return null;
  return found.startsWith('"') ? found.slice(1, -1) : Number(found);
}
