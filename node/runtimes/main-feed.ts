/**
 * How the feed of new work is, as the mesh loop keeps it for the serve loop in shared memory: P1 for reads on that loop,
 * which sees rows as soon as they are on this disk, costs no message.
 *
 * A reader may see the fields of two updates. It takes rows for shown only when the feed was the same before and after,
 * and within one feed `released` only grows.
 */
import type { Durability, FeedsNow, MainFeedState } from '../../scheduler/api.ts';
import { COPIES_MAX } from '../../scheduler/limits.ts';
import { LOCAL_FEED } from '../../scheduler/records.ts';
import { durabilityNow } from '../../scheduler/storage/durability.ts';

/** Followers whose disks are told of: more than one record can want to be on. */
const FOLLOWERS_TOLD_MAX = COPIES_MAX;
const FIELDS = ['feed', 'released', 'alone', 'followers'] as const;
type Field = (typeof FIELDS)[number];

/** Shared memory for one writer and any number of readers. */
export function newMainFeedMemory(): SharedArrayBuffer {
  return new SharedArrayBuffer((FIELDS.length + FOLLOWERS_TOLD_MAX) * BigInt64Array.BYTES_PER_ELEMENT);
}

/** Writes what the scheduler says of its main feed (`SchedulerComponents.onMainFeed`). */
export function mainFeedWriter(memory: SharedArrayBuffer): (state: MainFeedState) => void {
  const fields = new BigInt64Array(memory);
  const set = (field: Field, value: bigint) => Atomics.store(fields, FIELDS.indexOf(field), value);
  let last = '';
  return ({ feed_id, released, copied, alone }) => {
    if (feed_id !== last) {
      set('followers', 0n);
      set('released', 0n);
      set('feed', keyOf(feed_id));
      last = feed_id;
    }
    const told = copied.toSorted((a, b) => b - a).slice(0, FOLLOWERS_TOLD_MAX);
    for (const [at, seq] of told.entries()) Atomics.store(fields, FIELDS.length + at, BigInt(seq));
    set('followers', BigInt(told.length));
    set('alone', alone ? 1n : 0n);
    set('released', BigInt(released));
  };
}

/** Reads it on another loop. Of other feeds nothing is known there: calls about them cross to the mesh loop. */
export class MainFeedReader implements FeedsNow {
  readonly memory: SharedArrayBuffer;
  readonly #fields: BigInt64Array;
  readonly #copiesByDefault: number;
  readonly #keys = new Map<string, bigint>();

  constructor(memory: SharedArrayBuffer, copiesByDefault: number) {
    this.memory = memory;
    this.#fields = new BigInt64Array(memory);
    this.#copiesByDefault = copiesByDefault;
  }

  isReleased(feedId: string, seq: number): boolean {
    if (feedId === LOCAL_FEED) return true; // it has no copies: what is on the disk may be shown
    if (!this.#isMain(feedId)) return false;
    const released = this.#get('released');
    return this.#isMain(feedId) && seq <= Number(released);
  }

  durabilityOf(feedId: string, seq: number, wanted: number): Durability | null {
    if (!this.#isMain(feedId)) return null;
    let copies = 1;
    for (let at = 0; at < Number(this.#get('followers')); at++) {
      if (Number(Atomics.load(this.#fields, FIELDS.length + at)) >= seq) copies++;
    }
    const mesh = { byDefault: this.#copiesByDefault, alone: this.#get('alone') === 1n };
    return durabilityNow(copies, wanted, mesh);
  }

  /** What is shown here is of the main feed, which this peer writes. */
  staleMs(): null {
    return null;
  }

  #get(field: Field): bigint {
    return Atomics.load(this.#fields, FIELDS.indexOf(field));
  }

  #isMain(feedId: string): boolean {
    let key = this.#keys.get(feedId);
    if (key === undefined) {
      if (this.#keys.size >= KEYS_MAX) this.#keys.clear();
      key = keyOf(feedId);
      this.#keys.set(feedId, key);
    }
    return key !== 0n && this.#get('feed') === key;
  }
}

/** Feeds whose keys are remembered. */
const KEYS_MAX = 1_024;
const KEY_CHARS = 12;
const BITS_PER_CHAR = 5n;
const RADIX = 32;

/** The first 60 random bits of the id of a feed (base32hex); 0 for none. */
function keyOf(feedId: string): bigint {
  let key = 0n;
  for (const char of feedId.slice(0, KEY_CHARS))
    key = (key << BITS_PER_CHAR) | BigInt(Number.parseInt(char, RADIX) || 0);
  return key;
}
