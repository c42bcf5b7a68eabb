/** Text that arrives in pieces, as lines: what a running process writes becomes its task's log. */
import { StringDecoder } from 'node:string_decoder';
import { LOG_LINE_CHARS_MAX, LOG_LINES_MAX } from '../../scheduler/limits.ts';

/**
 * Calls `emit` per line. A line keeps its first LOG_LINE_CHARS_MAX characters, the last of them `…` when it is cut.
 * Of a chunk with more than LOG_LINES_MAX lines the last ones are emitted, after a line that says how many are left
 * out: a log keeps no more, and a program that only writes must not hold up the loop.
 */
export class LineSplitter {
  readonly #decoder = new StringDecoder('utf8');
  readonly #emit: (line: string) => void;
  #pending = '';
  #cut = false;
  #complete: string[] = [];
  /** Lines of this chunk that came before those in `#complete`. */
  #leftOut = 0;

  constructor(emit: (line: string) => void) {
    this.#emit = emit;
  }

  /** @returns how many lines ended */
  push(chunk: Buffer | string): number {
    this.#take(typeof chunk === 'string' ? this.#decoder.end() + chunk : this.#decoder.write(chunk));
    return this.#emitComplete();
  }

  /** What has no newline yet is a line. */
  endLine(): void {
    this.#flush();
    this.#emitComplete();
  }

  /** The text ended: what has no newline yet is the last line. */
  end(): void {
    this.#take(this.#decoder.end());
    if (this.#pending !== '') this.#flush();
    this.#emitComplete();
  }

  #take(text: string): void {
    let start = 0;
    for (let end = text.indexOf('\n'); end !== -1; end = text.indexOf('\n', start)) {
      this.#grow(text.slice(start, end));
      this.#flush();
      start = end + 1;
    }
    this.#grow(text.slice(start));
  }

  #grow(text: string): void {
    const room = LOG_LINE_CHARS_MAX - this.#pending.length;
    if (text.length > room) this.#cut = true;
    this.#pending += text.slice(0, room);
  }

  #flush(): void {
    const line = this.#cut ? `${this.#pending.slice(0, LOG_LINE_CHARS_MAX - 1)}…` : this.#pending;
    this.#pending = '';
    this.#cut = false;
    this.#complete.push(line.endsWith('\r') ? line.slice(0, -1) : line);
    if (this.#complete.length > 2 * LOG_LINES_MAX) this.#leftOut += this.#complete.splice(0, LOG_LINES_MAX).length;
  }

  #emitComplete(): number {
    const count = this.#leftOut + this.#complete.length;
    const excess = this.#complete.length - LOG_LINES_MAX;
    if (excess > 0) this.#emit(`… (${this.#leftOut + excess + 1} lines left out)`);
    for (const line of excess > 0 ? this.#complete.slice(excess + 1) : this.#complete) this.#emit(line);
    this.#complete = [];
    this.#leftOut = 0;
    return count;
  }
}
