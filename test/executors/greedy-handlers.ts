/** A user's module for `fn:` whose handlers take more than they are given. */
import { spawn } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import type { JsonObject } from '../../dag/errors.ts';
import type { FunctionContext } from '../../node/executors/handler.ts';

const PIECE_BYTES = 4 * 1024 * 1024;
const LONG_S = '600';

export const modest = (inputs: JsonObject) => inputs;

/** Beside the heap, which has a limit of its own. */
export async function fills() {
  for (const pieces: Buffer[] = []; ; await delay(1)) pieces.push(Buffer.alloc(PIECE_BYTES, 1));
}

export function spins() {
  for (;;) {}
}

export async function prints() {
  for (;;) {
    console.log('x'.repeat(1_000));
    await delay(0);
  }
}

export async function forks(_inputs: JsonObject, { log }: FunctionContext) {
  for (let count = 0; count < 100; count++) log(String(spawn('sleep', [LONG_S]).pid));
  await delay(Number(LONG_S) * 1_000);
}

export async function sleeps() {
  await delay(Number(LONG_S) * 1_000);
}
