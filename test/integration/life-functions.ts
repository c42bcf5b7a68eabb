/** Handlers for `fn:` steps of the tests of task life. */
import { appendFileSync, existsSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { JsonObject } from '../../dag/errors.ts';
import type { FunctionContext } from '../../node/executors/handler.ts';

const POLL_MS = 20;

/** Tells how far it is, and goes on when `path` exists. */
export async function reportsAndWaits({ path }: JsonObject, { progress, log, attempt }: FunctionContext) {
  progress(40, 'nearly half');
  log(`attempt ${attempt} has begun`);
  while (!existsSync(String(path))) await delay(POLL_MS);
  progress(90);
  log('let through');
  return { attempt };
}

/** Leaves one line for every time it is called. */
export function counts({ path, value }: JsonObject): JsonObject {
  appendFileSync(String(path), `${value}\n`);
  return { value: value! };
}
