/** Server-sent events, as far as MCP has them: what each one carries in its `data` lines. */

/** @param body the bytes, however they are cut into pieces: each is looked at once */
export async function* eventsOf(body: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let data: string[] = [];
  /** Of the line that has not ended. */
  let pieces: string[] = [];
  for await (const chunk of body) {
    const [first, ...rest] = decoder.decode(chunk, { stream: true }).split('\n') as [string, ...string[]];
    pieces.push(first);
    for (const next of rest) {
      const line = pieces.join('').replace(/\r$/, '');
      pieces = [next];
      if (line.startsWith('data:')) data.push(line.slice('data:'.length));
      if (line !== '') continue;
      if (data.length > 0) yield data.join('\n').trim();
      data = [];
    }
  }
}
