/**
 * The real randomness behind `scheduler/ports.ts`, from `node:crypto`: ids made here are unpredictable.
 */
import { randomFillSync } from 'node:crypto';
import type { Random } from '../scheduler/ports.ts';

/** RFC 4648 section 7, lower case: its order is that of the numbers it writes. */
const BASE32HEX = '0123456789abcdefghijklmnopqrstuv';
/** Random bytes drawn at once; a call of `randomFillSync` costs more than most ids need bytes. */
const POOL_BYTES = 4_096;
/** The mantissa of a double holds 53 bits: 32 + 21. */
const HIGH_BITS = 2 ** 32;
const LOW_BITS = 2 ** 21;

export function createRandom(): Random {
  const pool = Buffer.alloc(POOL_BYTES);
  let used = POOL_BYTES;
  const take = (bytes: number): number => {
    if (used + bytes > POOL_BYTES) {
      randomFillSync(pool);
      used = 0;
    }
    const at = used;
    used += bytes;
    return at;
  };
  return {
    next() {
      const at = take(8);
      const low = pool.readUInt32LE(at + 4) % LOW_BITS;
      return (pool.readUInt32LE(at) * LOW_BITS + low) / (HIGH_BITS * LOW_BITS);
    },
    id(length) {
      let id = '';
      for (let index = 0; index < length; index++) id += BASE32HEX[pool[take(1)]! & 31];
      return id;
    },
  };
}
