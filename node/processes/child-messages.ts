/**
 * Messages between a peer and a child process, over two pipes of their own: each is its length in four bytes, then
 * the value as V8 serializes it (parts that are shared travel once).
 *
 * Not the channel of `fork`: there any code in the child says what it likes with `process.send`, as libraries do, a
 * message may have any size, and bytes that are no message throw where the peer's own code runs.
 */
import { deserialize, serialize } from 'node:v8';

/** In the child: what the peer says, and what it is told. */
export const FROM_PEER_FD = 3;
export const TO_PEER_FD = 4;

const LENGTH_BYTES = 4;

export function encodeMessage(message: unknown): Buffer {
  const body = serialize(message);
  const length = Buffer.allocUnsafe(LENGTH_BYTES);
  length.writeUInt32BE(body.length);
  return Buffer.concat([length, body]);
}

/** Messages from the bytes of a pipe, however they are cut into pieces. */
export class MessageReader {
  readonly #bytesMax: number;
  readonly #onMessage: (message: unknown) => void;
  #chunks: Buffer[] = [];
  #buffered = 0;
  /** Bytes of the next piece: a length, or the body of which the length is known. */
  #wanted = LENGTH_BYTES;
  #isBody = false;

  /** @param bytesMax of one message */
  constructor(bytesMax: number, onMessage: (message: unknown) => void) {
    this.#bytesMax = bytesMax;
    this.#onMessage = onMessage;
  }

  /** @throws what `onMessage` throws, and an Error for what is no message; nothing can be read after either */
  push(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#buffered += chunk.length;
    while (this.#buffered >= this.#wanted) {
      const piece = this.#take(this.#wanted);
      if (this.#isBody) {
        this.#wanted = LENGTH_BYTES;
        this.#isBody = false;
        this.#onMessage(deserialize(piece));
        continue;
      }
      const length = piece.readUInt32BE();
      if (length > this.#bytesMax) throw new Error(`a message of ${length} bytes, more than ${this.#bytesMax}`);
      this.#wanted = length;
      this.#isBody = true;
    }
  }

  #take(bytes: number): Buffer {
    const all = this.#chunks.length === 1 ? this.#chunks[0]! : Buffer.concat(this.#chunks);
    const rest = all.subarray(bytes);
    this.#chunks = rest.length === 0 ? [] : [rest];
    this.#buffered = rest.length;
    return all.subarray(0, bytes);
  }
}
