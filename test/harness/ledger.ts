/**
 * What ran, as the actions themselves saw it:
 *
 *   const ledger = new Ledger(folder);   // peers run with `--functions LEDGER_FUNCTIONS`
 *   await call('task_submit', { task_type: 'fn:enter', payload: { ledger: ledger.path, n: 7 } });
 *   await ledger.starts();               // [{ n: 7, pid: 4711 }]
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

export const LEDGER_FUNCTIONS = join(import.meta.dirname, 'ledger-functions.ts');

/** One start of an action. */
export interface Start {
  n: number;
  /** The process of the peer that ran it. */
  pid: number;
}

export class Ledger {
  readonly path: string;

  constructor(folder: string) {
    this.path = join(folder, 'ledger');
  }

  /** Oldest first; none while there is no file. */
  async starts(): Promise<Start[]> {
    const lines = (await this.#text()).split('\n').filter((line) => line !== '');
    return lines.map((line) => {
      const [n, pid] = line.split(' ').map(Number);
      return { n: n!, pid: pid! };
    });
  }

  /** How often each ran, by `n`. */
  async counts(): Promise<Map<number, number>> {
    const counts = new Map<number, number>();
    for (const { n } of await this.starts()) counts.set(n, (counts.get(n) ?? 0) + 1);
    return counts;
  }

  async #text(): Promise<string> {
    try {
      return await readFile(this.path, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '';
      throw error;
    }
  }
}
