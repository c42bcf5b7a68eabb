/** The end of what a program writes, when all of it would be too much to keep. */
export class KeptEnd {
  readonly #bytesMax: number;
  #chunks: Buffer[] = [];
  #kept = 0;
  /** Bytes that were written. */
  bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  push(chunk: Buffer): void {
    this.bytes += chunk.length;
    this.#chunks.push(chunk);
    this.#kept += chunk.length;
    // Joined now and then, not at every chunk.
    if (this.#kept <= 2 * this.#bytesMax) return;
    const end = this.#end(this.#bytesMax);
    this.#chunks = [end];
    this.#kept = end.length;
  }

  /** @param bytesMax less than what is kept, where there is no room for it */
  take(bytesMax = this.#bytesMax): { text: string; droppedBytes: number } {
    const end = this.#end(Math.min(bytesMax, this.#bytesMax));
    // A cut inside of a character leaves its last bytes.
    let start = 0;
    if (end.length < this.bytes) while (start < end.length && (end[start]! & 0xc0) === 0x80) start += 1;
    return { text: end.toString('utf8', start), droppedBytes: this.bytes - end.length + start };
  }

  #end(bytesMax: number): Buffer {
    const all = Buffer.concat(this.#chunks);
    return all.subarray(Math.max(0, all.length - bytesMax));
  }
}
