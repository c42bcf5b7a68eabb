/**
 * What a frame would become, read from its bytes before anything is made of them. A byte can be a map: a frame of
 * 15 MiB would fill gigabytes and stop the loop for half a minute. What is not JSON is refused here too, so that whatever
 * is decoded is data like any other.
 */
import { JSON_DEPTH_MAX, JSON_ELEMENTS_MAX, JSON_NAMES_MAX } from '../../dag/limits.ts';

/** Levels of lists and maps in a message: those of the largest value, and those that the message puts around it. */
export const FRAME_DEPTH_MAX = JSON_DEPTH_MAX + 32;
/** Values in a frame: those of the largest value, and what the message is made of. */
export const FRAME_ELEMENTS_MAX = JSON_ELEMENTS_MAX + 250_000;

/** Different names of fields in a frame: those of the largest value, and those of the message. */
export const FRAME_NAMES_MAX = JSON_NAMES_MAX + 1_000;

/** The bits of the exponent, all set. */
const NAN_OR_INFINITE_32 = 0x7f80;
const NAN_OR_INFINITE_64 = 0x7ff0;
/** High half of the first 64-bit integer that a number does not hold exactly: 2^53. */
const UNSAFE_HIGH = 0x20_0000;
const PROTO = Buffer.from('__proto__');

/**
 * Looks at all bytes of a frame once, without recursion, in time bounded by FRAME_ELEMENTS_MAX.
 *
 * @returns what is wrong with it, as the end of a sentence; undefined when it may be decoded
 */
export function problemOf(frame: Uint8Array): string | undefined {
  return new Scan(frame).run();
}

// One frame is gone through at a time: the scans share these.
/** By level: items that are still to come, two for each field of a map. */
const left = new Float64Array(FRAME_DEPTH_MAX + 1);
const isMap = new Uint8Array(FRAME_DEPTH_MAX + 1);

class Scan {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;
  #elements = 0;
  #depth = 0;
  readonly #names = new Set<number>();

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  run(): string | undefined {
    while (this.#at < this.#bytes.length || this.#depth > 0) {
      if (this.#depth > 0 && left[this.#depth] === 0) {
        this.#depth--;
        continue;
      }
      if (this.#at >= this.#bytes.length) return CUT_OFF;
      const isName = isMap[this.#depth] === 1 && left[this.#depth]! % 2 === 0;
      if (this.#depth > 0) left[this.#depth]!--;
      const problem = isName ? this.#name() : this.#value();
      if (problem !== undefined) return problem;
      if (this.#at > this.#bytes.length) return CUT_OFF;
    }
    return undefined;
  }

  #name(): string | undefined {
    const type = this.#bytes[this.#at]!;
    const isString = (type >= 0xa0 && type <= 0xbf) || (type >= 0xd9 && type <= 0xdb);
    if (!isString) return 'a field has no name';
    const length = this.#stringLength(type);
    if (length === undefined) return CUT_OFF;
    const start = this.#at;
    this.#at += length;
    if (length === PROTO.length && PROTO.equals(this.#bytes.subarray(start, this.#at))) {
      return 'a field is named __proto__';
    }
    // A frame has few different names, or no room for many.
    if (this.#bytes.length < 2 * FRAME_NAMES_MAX || this.#at > this.#bytes.length) return undefined;
    this.#names.add(hashOf(this.#bytes, start, this.#at));
    return this.#names.size <= FRAME_NAMES_MAX ? undefined : `it has more than ${FRAME_NAMES_MAX} names of fields`;
  }

  #value(): string | undefined {
    this.#elements++;
    if (this.#elements > FRAME_ELEMENTS_MAX) return TOO_MANY;
    const type = this.#bytes[this.#at]!;
    if (type <= 0x7f || type >= 0xe0) return this.#skip(1);
    if (type <= 0x8f) return this.#enter(1, type & 0x0f, true);
    if (type <= 0x9f) return this.#enter(1, type & 0x0f, false);
    if (type <= 0xbf || (type >= 0xd9 && type <= 0xdb)) return this.#string(type);
    switch (type) {
      case 0xc0: // null
      case 0xc2: // false
      case 0xc3: // true
        return this.#skip(1);
      case 0xca: // float 32
        if (!this.#has(5)) return CUT_OFF;
        return this.#finite((this.#view.getUint16(this.#at + 1) & NAN_OR_INFINITE_32) !== NAN_OR_INFINITE_32, 5);
      case 0xcb: // float 64
        if (!this.#has(9)) return CUT_OFF;
        return this.#finite((this.#view.getUint16(this.#at + 1) & NAN_OR_INFINITE_64) !== NAN_OR_INFINITE_64, 9);
      case 0xcc: // integers of 8, 16 and 32 bits
      case 0xd0:
        return this.#skip(2);
      case 0xcd:
      case 0xd1:
        return this.#skip(3);
      case 0xce:
      case 0xd2:
        return this.#skip(5);
      case 0xcf: // unsigned 64
      case 0xd3: // signed 64
        if (!this.#has(9)) return CUT_OFF;
        return this.#safe(type === 0xcf ? this.#view.getUint32(this.#at + 1) : this.#view.getInt32(this.#at + 1));
      case 0xd4: // msgpackr's undefined
        if (!this.#has(3)) return CUT_OFF;
        return this.#bytes[this.#at + 1] === 0 ? this.#skip(3) : NO_JSON;
      case 0xdc:
      case 0xde:
        return this.#has(3) ? this.#enter(3, this.#view.getUint16(this.#at + 1), type === 0xde) : CUT_OFF;
      case 0xdd:
      case 0xdf:
        return this.#has(5) ? this.#enter(5, this.#view.getUint32(this.#at + 1), type === 0xdf) : CUT_OFF;
      default:
        return NO_JSON;
    }
  }

  #has(bytes: number): boolean {
    return this.#at + bytes <= this.#bytes.length;
  }

  #skip(bytes: number): undefined {
    this.#at += bytes;
  }

  #finite(is: boolean, bytes: number): string | undefined {
    return is ? this.#skip(bytes) : 'a number is not finite';
  }

  #safe(high: number): string | undefined {
    return high < UNSAFE_HIGH && high >= -UNSAFE_HIGH ? this.#skip(9) : 'an integer cannot be kept exactly';
  }

  #string(type: number): string | undefined {
    const length = this.#stringLength(type);
    return length === undefined ? CUT_OFF : this.#skip(length);
  }

  /** Goes to the first of its bytes. */
  #stringLength(type: number): number | undefined {
    const head = type <= 0xbf ? 1 : type === 0xd9 ? 2 : type === 0xda ? 3 : 5;
    if (!this.#has(head)) return undefined;
    const from = this.#at + 1;
    this.#at += head;
    if (head === 1) return type & 0x1f;
    if (head === 2) return this.#bytes[from]!;
    return head === 3 ? this.#view.getUint16(from) : this.#view.getUint32(from);
  }

  #enter(head: number, items: number, map: boolean): string | undefined {
    this.#at += head;
    // Before anything is made of a length that is only announced.
    if (this.#elements + items > FRAME_ELEMENTS_MAX) return TOO_MANY;
    if (items > this.#bytes.length - this.#at) return CUT_OFF;
    if (this.#depth >= FRAME_DEPTH_MAX) return `it nests more than ${FRAME_DEPTH_MAX} levels`;
    this.#depth++;
    left[this.#depth] = map ? 2 * items : items;
    isMap[this.#depth] = map ? 1 : 0;
    return undefined;
  }
}

/** FNV-1a, 32 bits. Names that share one are counted as one: their number stays bounded by chance, not by proof. */
function hashOf(bytes: Uint8Array, start: number, end: number): number {
  let hash = 0x811c9dc5;
  for (let at = start; at < end; at++) hash = Math.imul(hash ^ bytes[at]!, 0x01000193);
  return hash;
}

const CUT_OFF = 'it ends in the middle of a value';
const NO_JSON = 'it holds something else than JSON';
const TOO_MANY = `it has more than ${FRAME_ELEMENTS_MAX} values`;
