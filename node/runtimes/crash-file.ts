/**
 * What mesh loops were at when they crashed, in a file of the data folder until the owners of the leases know: so that
 * a task that stops one loop after the other is found out (`POISON_CRASHES`), also across a start of the process.
 *
 * Written by whoever watches the loop while there is none, and by the loop while there is one: never by both.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { type LeaseToken, leaseTokenSchema } from '../../scheduler/messages.ts';
import type { CrashedLease, Crashes, Log, WorkedOn } from '../../scheduler/ports.ts';
import { keyOf } from '../../scheduler/worker/attempt-result.ts';
import { CRASHED_LEASES_MAX } from './limits.ts';

const FILE = 'crashes.json';
const CRASH_NAME_BYTES = 8;

const fileSchema = z.object({
  leases: z.array(leaseTokenSchema.extend({ owner: z.string(), crash: z.string() })),
});

/** A mesh loop crashed while it worked on these. Written when it returns. */
export function noteCrash(dataDir: string, leases: readonly WorkedOn[], log: Log): void {
  if (leases.length === 0) return;
  const crash = randomBytes(CRASH_NAME_BYTES).toString('hex');
  const noted = leases.map(({ uid, feed_id, epoch, attempt, owner }) => ({
    uid,
    feed_id,
    epoch,
    attempt,
    owner,
    crash,
  }));
  try {
    write(dataDir, [...read(dataDir, log), ...noted].slice(-CRASHED_LEASES_MAX));
  } catch (error) {
    // The loop starts again all the same; only this crash is not counted.
    log.error({ err: error }, 'it could not be written what the mesh loop was at when it crashed');
  }
}

/** The crashes that a starting loop tells the owners of. */
export class CrashFile implements Crashes {
  readonly #dataDir: string;
  readonly #log: Log;
  readonly #left: Map<string, CrashedLease>;
  #writing = false;

  constructor(dataDir: string, log: Log) {
    this.#dataDir = dataDir;
    this.#log = log;
    this.#left = new Map(read(dataDir, log).map((lease) => [keyOf(lease), lease]));
  }

  get untold(): readonly CrashedLease[] {
    return [...this.#left.values()];
  }

  told(lease: LeaseToken): void {
    if (!this.#left.delete(keyOf(lease)) || this.#writing) return;
    this.#writing = true;
    setImmediate(() => {
      this.#writing = false;
      try {
        write(this.#dataDir, this.untold);
      } catch (error) {
        // It is told again after the next start, and known there already.
        this.#log.warn({ err: error }, 'it could not be written that a crash has been told');
      }
    });
  }
}

function read(dataDir: string, log: Log): CrashedLease[] {
  let text: string;
  try {
    text = readFileSync(join(dataDir, FILE), 'utf8');
  } catch {
    return []; // there was no crash, or nothing can be read here: the store says so
  }
  try {
    return fileSchema.parse(JSON.parse(text)).leases;
  } catch (error) {
    log.warn({ err: error, file: FILE }, 'what the mesh loop was at when it crashed cannot be read; it is not counted');
    return [];
  }
}

function write(dataDir: string, leases: readonly CrashedLease[]): void {
  const draft = join(dataDir, `${FILE}.draft`);
  const file = openSync(draft, 'w', 0o600);
  try {
    writeFileSync(file, JSON.stringify({ leases }));
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(draft, join(dataDir, FILE));
}
