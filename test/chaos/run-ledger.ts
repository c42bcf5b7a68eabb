/** Every run of `recorded-functions.ts`, as the handlers themselves wrote it down. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

export const RECORDED_FUNCTIONS = join(import.meta.dirname, 'recorded-functions.ts');

export interface Run {
  /** Of the step or task, made of the user's ids: the same wherever and however often it runs. */
  key: string;
  /** Of the task's record. */
  uid: string;
  attempt: number;
  run: string;
  /** The process of the peer. */
  pid: number;
  /** Unix ms. */
  started_at: number;
  /** Undefined when it never came to its end. */
  ended_at?: number;
  value?: number;
}

export class RunLedger {
  readonly path: string;

  constructor(folder: string) {
    this.path = join(folder, 'runs.ndjson');
  }

  /** By key, each list in the order of the starts. */
  async byKey(): Promise<Map<string, Run[]>> {
    const text = existsSync(this.path) ? await readFile(this.path, 'utf8') : '';
    const runs = new Map<string, Run>();
    for (const line of text.split('\n')) {
      // A process that is killed may leave its last line unfinished.
      if (!line.endsWith('}')) continue;
      const entry = JSON.parse(line) as Run;
      runs.set(entry.run, { ...runs.get(entry.run), ...entry });
    }
    return Map.groupBy(runs.values(), ({ key }) => key);
  }
}

/** The uids of the records under which a job's steps, or it itself, were started: one unless it was accepted twice. */
export function rootsOf({ keys }: { keys: readonly string[] }, runs: ReadonlyMap<string, Run[]>): Set<string> {
  return new Set(keys.flatMap((key) => (runs.get(key) ?? []).map(({ uid }) => uid.split('/')[0]!)));
}
