/** What a command says on stdout: a tool's output as JSON, or as people read it. */
import type { JsonObject } from '../../dag/errors.ts';
import type { Tool } from '../../tools/definition.ts';
import { printableJson } from '../printable.ts';

interface Printing {
  json: boolean;
  tool: Pick<Tool, 'cli' | 'name'>;
  /** Columns of the terminal; undefined where output goes elsewhere. */
  width: number | undefined;
  /** For people, in place of the output. */
  shown?: JsonObject;
}

/** What measures and draws text takes 30 ms of processor time to load: only what is drawn waits for it. */
export async function printOutput(output: JsonObject, { json, tool, width, shown = output }: Printing): Promise<void> {
  const text = json ? printableJson(output, 2) : (await import('./render.ts')).renderOutput(tool, shown, width);
  process.stdout.write(`${text}\n`);
}
