/**
 * The bytes of the peer protocol. A frame is a big-endian u32 byte count and that many bytes: one or more msgpack
 * messages, one behind the other, which is a batch. A message is one of
 *
 *   { id, method, params }   a request
 *   { id, result }           its answer
 *   { id, error }            its answer when it failed
 *   { method, params }       a notification
 *
 * Each message is packed alone, so that one that is too large is refused without touching the others of its batch.
 */
// Without its native part, whose strings are all cut from one of the whole message: an id kept would keep a payload.
import { Packr, Unpackr } from 'msgpackr/pack';
import type { ErrorShape } from '../../dag/errors.ts';
import { problemOf } from './packed.ts';

/** The largest message, and so the largest frame. */
export const MESSAGE_BYTES_MAX = 16 * 1024 * 1024;
/** A batch is closed when it has this many bytes; only a single larger message makes a larger frame. */
export const FRAME_BYTES_TARGET = 64 * 1024;
const METHOD_CHARS_MAX = 64;
const HEADER_BYTES = 4;

export interface Message {
  id?: number;
  method?: string;
  params?: unknown;
  result?: unknown;
  error?: ErrorShape;
}

/** What the other side sent is not a frame of this protocol. The stream cannot be read any further. */
export class MalformedFrameError extends Error {}

// Records would be cheaper for repeated shapes, but their state ties every message to all before it.
const packr = new Packr({ useRecords: false, variableMapSize: true });
const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true, int64AsType: 'number' });

/** @throws when the value holds what msgpack cannot say (a circular reference) */
export function packMessage(message: Message): Uint8Array {
  return packr.pack(message);
}

/**
 * Takes messages from the front of `outbox` and makes them one frame, as the chunks to write in order.
 * Leaves the rest in `outbox`.
 */
export function takeFrame(outbox: Outbox): Uint8Array[] {
  const first = outbox.shift()!;
  if (first.byteLength >= FRAME_BYTES_TARGET) return [header(first.byteLength), first];
  const parts = [first];
  let bytes = first.byteLength;
  while (!outbox.empty && bytes + outbox.peek()!.byteLength <= FRAME_BYTES_TARGET) {
    const next = outbox.shift()!;
    parts.push(next);
    bytes += next.byteLength;
  }
  const frame = Buffer.allocUnsafe(HEADER_BYTES + bytes);
  frame.writeUInt32BE(bytes, 0);
  let at = HEADER_BYTES;
  for (const part of parts) {
    frame.set(part, at);
    at += part.byteLength;
  }
  return [frame];
}

function header(bytes: number): Uint8Array {
  const header = Buffer.allocUnsafe(HEADER_BYTES);
  header.writeUInt32BE(bytes, 0);
  return header;
}

/** Packed messages that wait to be sent, in order; knows its size in bytes. */
export class Outbox {
  bytes = 0;
  #messages: Uint8Array[] = [];
  #head = 0;

  get empty(): boolean {
    return this.#head === this.#messages.length;
  }

  push(message: Uint8Array): void {
    this.#messages.push(message);
    this.bytes += message.byteLength;
  }

  peek(): Uint8Array | undefined {
    return this.#messages[this.#head];
  }

  shift(): Uint8Array | undefined {
    const message = this.#messages[this.#head];
    if (message === undefined) return undefined;
    this.bytes -= message.byteLength;
    this.#head++;
    if (this.#head === this.#messages.length) {
      this.#messages = [];
      this.#head = 0;
    }
    return message;
  }

  clear(): void {
    this.#messages = [];
    this.#head = 0;
    this.bytes = 0;
  }
}

/**
 * Puts frames together from the chunks of a stream and reads their messages.
 *
 * @example
 * const reader = new FrameReader();
 * for (const message of reader.push(chunk)) handle(message);
 */
export class FrameReader {
  readonly #limitBytes: number;
  /** Chunks of a frame that is not complete, at most one frame's worth. */
  #chunks: Uint8Array[] = [];
  #length = 0;
  #needed = HEADER_BYTES;

  constructor(limitBytes = MESSAGE_BYTES_MAX) {
    this.#limitBytes = limitBytes;
  }

  /**
   * The messages that `chunk` completes, in order.
   *
   * @throws MalformedFrameError when the bytes are not frames of messages
   */
  push(chunk: Uint8Array): Message[] {
    this.#chunks.push(chunk);
    this.#length += chunk.byteLength;
    if (this.#length < this.#needed) return [];
    const bytes = this.#chunks.length === 1 ? chunk : Buffer.concat(this.#chunks, this.#length);
    const messages: Message[] = [];
    let at = 0;
    this.#needed = HEADER_BYTES;
    while (bytes.byteLength - at >= HEADER_BYTES) {
      const size = this.#sizeAt(bytes, at);
      if (bytes.byteLength - at - HEADER_BYTES < size) {
        this.#needed = HEADER_BYTES + size;
        break;
      }
      at += HEADER_BYTES;
      readMessages(bytes.subarray(at, at + size), messages);
      at += size;
    }
    this.#length = bytes.byteLength - at;
    this.#chunks = this.#length === 0 ? [] : [bytes.subarray(at)];
    return messages;
  }

  #sizeAt(bytes: Uint8Array, at: number): number {
    const size = bytes[at]! * 0x1000000 + ((bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!);
    if (size === 0) throw new MalformedFrameError('a frame is empty');
    if (size > this.#limitBytes) {
      throw new MalformedFrameError(`a frame of ${size} bytes is announced; at most ${this.#limitBytes} are allowed`);
    }
    return size;
  }
}

function readMessages(frame: Uint8Array, into: Message[]): void {
  const problem = problemOf(frame);
  if (problem !== undefined) throw new MalformedFrameError(`a frame cannot be read: ${problem}`);
  let values: unknown[];
  try {
    values = unpackr.unpackMultiple(frame);
  } catch (error) {
    throw new MalformedFrameError(`a frame is not msgpack (${error instanceof Error ? error.message : error})`);
  }
  for (const value of values) into.push(checked(value));
}

function checked(value: unknown): Message {
  if (typeof value !== 'object' || value === null) throw new MalformedFrameError('a message is not a map');
  const { id, method, error } = value as Record<string, unknown>;
  if (id !== undefined && !(Number.isSafeInteger(id) && (id as number) > 0)) {
    throw new MalformedFrameError('the id of a message is not a positive integer');
  }
  if (method !== undefined) {
    if (typeof method !== 'string' || method.length === 0 || method.length > METHOD_CHARS_MAX) {
      throw new MalformedFrameError(`the method of a message is not a name of 1 to ${METHOD_CHARS_MAX} characters`);
    }
  } else if (id === undefined) {
    throw new MalformedFrameError('a message has neither id nor method');
  } else if (error !== undefined && !isErrorShape(error)) {
    throw new MalformedFrameError('the error of an answer has no code, message and retryable');
  }
  return value as Message;
}

function isErrorShape(error: unknown): error is ErrorShape {
  if (typeof error !== 'object' || error === null) return false;
  const { code, message, retryable, details } = error as Record<string, unknown>;
  return (
    typeof code === 'string' &&
    typeof message === 'string' &&
    typeof retryable === 'boolean' &&
    (details === undefined || (typeof details === 'object' && details !== null))
  );
}
