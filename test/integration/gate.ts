/**
 * A command that is seen from outside: it writes its process id, waits until it is let through, and ends.
 *
 *   const gate = new Gate(folder, 'held');
 *   await call('task_submit', { task_type: 'shell', payload: { command: gate.command } });
 *   await gate.pid();   // it runs, and this is its process
 *   await gate.open();
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { eventually } from '../harness/eventually.ts';

const SCRIPT = 'echo $$ >"$1.tmp"; mv "$1.tmp" "$1.pid"; until [ -e "$1.open" ]; do sleep 0.05; done; echo through';

export class Gate {
  readonly command: string[];
  readonly #path: string;

  /** @param options.stubborn true: the process does not end for a SIGTERM */
  constructor(folder: string, name: string, { stubborn = false }: { stubborn?: boolean } = {}) {
    this.#path = join(folder, name);
    this.command = ['sh', '-c', stubborn ? `trap '' TERM; ${SCRIPT}` : SCRIPT, 'sh', this.#path];
  }

  /** Of the start that was last. Waits until there was one. */
  pid(): Promise<number> {
    return eventually(`${this.#path} runs`, async () => Number(await readFile(`${this.#path}.pid`, 'utf8')));
  }

  async open(): Promise<void> {
    await writeFile(`${this.#path}.open`, '');
  }
}
