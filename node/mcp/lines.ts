/**
 * Lines out of a stream of bytes, each bounded (P7): of one that is too long the beginning and the end are kept, enough to
 * say whose it was, and the next line is read as any other.
 */

/** What is kept of each end of a line that is too long. */
const ENDS_BYTES = 1_024;

export type Line = { text: string } | { tooLong: { head: string; tail: string; bytes: number; bytesMax: number } };

export class BoundedLines {
  readonly #bytesMax: number;
  #parts: Buffer[] = [];
  #bytes = 0;
  #long: { head: Buffer; tail: Buffer } | undefined;

  /** @param bytesMax of one line, without its end */
  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** The lines that end in `chunk`. */
  *push(chunk: Buffer): Generator<Line> {
    let from = 0;
    for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10, from)) {
      this.#add(chunk.subarray(from, end));
      from = end + 1;
      yield this.#take();
    }
    if (from < chunk.length) this.#add(chunk.subarray(from));
  }

  #add(part: Buffer): void {
    this.#bytes += part.length;
    if (this.#long !== undefined) {
      this.#long.tail = lastOf(Buffer.concat([this.#long.tail, lastOf(part)]));
      return;
    }
    this.#parts.push(part);
    if (this.#bytes <= this.#bytesMax) return;
    const whole = Buffer.concat(this.#parts);
    // Copies: a view would keep the whole line in memory.
    this.#long = { head: Buffer.from(whole.subarray(0, ENDS_BYTES)), tail: Buffer.from(lastOf(whole)) };
    this.#parts = [];
  }

  #take(): Line {
    const parts = this.#parts;
    const bytes = this.#bytes;
    const long = this.#long;
    this.#parts = [];
    this.#bytes = 0;
    this.#long = undefined;
    if (long !== undefined)
      return { tooLong: { head: String(long.head), tail: String(long.tail), bytes, bytesMax: this.#bytesMax } };
    return { text: Buffer.concat(parts, bytes).toString().replace(/\r$/, '') };
  }
}

function lastOf(bytes: Buffer): Buffer {
  return bytes.subarray(Math.max(0, bytes.length - ENDS_BYTES));
}
