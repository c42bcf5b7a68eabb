/** A handler that enters the start and the end of each of its runs in a file outside the mesh (`run-ledger.ts`). */
import { randomUUID } from 'node:crypto';
import { appendFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { JsonObject } from '../../dag/errors.ts';
import type { FunctionContext } from '../../node/executors/handler.ts';

/** What a run gives: its number, and by which runs it came about. */
export interface Sum {
  value: number;
  /** Of this run alone: two runs of one step give different ones. */
  run: string;
  of: Sum[];
}

/** `fn:sum` adds `plus` and the values `of` earlier steps, which takes it `ms`. `key` names the step in the ledger. */
export async function sum(inputs: JsonObject, { uid, attempt }: FunctionContext): Promise<JsonObject> {
  const { ledger, key, plus, ms } = inputs;
  const of = inputs['of'] as unknown as Sum[];
  const run = randomUUID().slice(0, 8);
  // One short write to a file opened for appending: lines of several processes do not mix.
  const enter = (entry: JsonObject) => appendFileSync(String(ledger), `${JSON.stringify({ ...entry, run })}\n`);
  enter({ key: key!, uid, attempt, pid: process.ppid, started_at: Date.now() });
  await delay(Number(ms));
  const value = of.reduce((total, each) => total + each.value, Number(plus));
  enter({ ended_at: Date.now(), value });
  return { value, run, of: of as unknown as JsonObject[] };
}
