/** Handlers that enter each start of theirs in a ledger, a file outside the mesh (`ledger.ts` reads it). */
import { appendFileSync, existsSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { JsonObject } from '../../dag/errors.ts';
import type { FunctionContext } from '../../node/executors/handler.ts';

const LOOK_INTERVAL_MS = 10;

/** `fn:enter` takes `ms`, none by default. */
export async function enter({ ledger, n, ms }: JsonObject): Promise<JsonObject> {
  // One write of a few bytes to a file opened for appending: lines of several processes do not mix.
  appendFileSync(String(ledger), `${n} ${process.ppid}\n`);
  if (ms !== undefined) await delay(Number(ms));
  return { n: Number(n) };
}

/** `fn:hold` runs until there is a file `gate`. */
export async function hold(inputs: JsonObject, { signal }: FunctionContext): Promise<JsonObject> {
  const entered = await enter(inputs);
  while (!existsSync(String(inputs['gate'])) && !signal.aborted) await delay(LOOK_INTERVAL_MS);
  return entered;
}
