/** `fn:enter`: adds one line to the ledger, a file outside the mesh, at each start. */
import { appendFileSync } from 'node:fs';
import type { JsonObject } from '../../dag/errors.ts';

export function enter({ ledger, n }: JsonObject): { n: number } {
  // One write of a few bytes to a file opened for appending: lines of several processes do not mix.
  appendFileSync(String(ledger), `${n}\n`);
  return { n: Number(n) };
}
