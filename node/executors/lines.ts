/** Text that arrives in pieces, as lines: what a running process writes becomes its task's log. */
import { StringDecoder } from 'node:string_decoder';
import { LOG_LINE_CHARS_MAX } from '../../scheduler/limits.ts';

/** Calls `emit` per line. A line keeps its first LOG_LINE_CHARS_MAX characters, the last of them `…` when it is cut. */
export class LineSplitter {
  readonly #decoder = new StringDecoder('utf8');
  readonly #emit: (line: string) => void;
  #pending = '';
  #cut = false;

  constructor(emit: (line: string) => void) {
    this.#emit = emit;
  }

  push(chunk: Buffer): void {
    this.#take(this.#decoder.write(chunk));
  }

  /** The text ended: what has no newline yet is the last line. */
  end(): void {
    this.#take(this.#decoder.end());
    if (this.#pending !== '') this.#flush();
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
    this.#emit(line.endsWith('\r') ? line.slice(0, -1) : line);
  }
}
