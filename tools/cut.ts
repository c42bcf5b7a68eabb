/**
 * Makes large answers small enough to be read. A value that is too large keeps its shape, and of its texts and lists as
 * much from the front as fits. Every cut is named, so that nobody takes a part for the whole.
 *
 *   cutJson({ ok: true, lines: [...] }, 100); // { value: { ok: true, lines: ['a', 'b'] }, cuts: [{ at: 'lines', … }] }
 */
import { z } from 'zod';
import type { JsonObject, JsonValue } from '../dag/errors.ts';
import { placeOf } from '../dag/problems.ts';

/** Bytes of JSON in an answer when the call does not say: 25,000 tokens, at 2.4 bytes a token. */
export const ANSWER_BYTES_DEFAULT = 60_000;
/** The most bytes of JSON that a call can ask for. */
export const ANSWER_BYTES_MAX = 8 * 1024 * 1024;
const ANSWER_BYTES_MIN = 1_000;
/** Cuts that an answer names; a value with more is cut all over. */
const CUTS_NAMED_MAX = 20;
/** Depth to which values are cut; a deeper one that does not fit is left out. */
const LEVELS_CUT_MAX = 64;
/** An item of a list that would be cut to less than this is left out. */
const LIST_ITEM_BYTES_MIN = 16;

export const maxBytesField = z
  .number()
  .int()
  .min(ANSWER_BYTES_MIN)
  .max(ANSWER_BYTES_MAX)
  .default(ANSWER_BYTES_DEFAULT)
  .describe(
    'How large the answer may be, in bytes of JSON, about; what does not fit is left out, and `truncated` says so.',
  );

/** What the command line asks for: a person sees the whole answer, or pipes it on. */
export const WHOLE = { max_bytes: ANSWER_BYTES_MAX };

export const truncatedOut = z
  .boolean()
  .describe(
    'True when something is left out because the answer would be too large: ask for less, or with a larger max_bytes.',
  );

const cutSchema = z.object({
  at: z.string().describe('Where, e.g. `result.lines`; empty for the value itself.'),
  shown: z.number().int(),
  total: z.number().int().describe('Items of a list, characters of a text, or fields of an object.'),
});
export type Cut = z.infer<typeof cutSchema>;
export const cutsOut = z.array(cutSchema).optional().describe('What of the values is cut; with truncated.');

/**
 * `value` itself when its JSON has at most `bytesMax` bytes, else a copy that is cut to that.
 *
 * @param at the place of `value` in the answer, for the names of the cuts
 */
export function cutJson(value: JsonValue, bytesMax: number, at = ''): { value: JsonValue; cuts: Cut[] } {
  const cuts: Cut[] = [];
  const path = at === '' ? [] : [at];
  return { value: fitted(value, bytesMax, { cuts, path }), cuts };
}

/** The bytes of a value's JSON. Counting stops above `max`: the result is then some number larger than `max`. */
export function bytesUpTo(value: JsonValue, max: number): number {
  let bytes = 0;
  const rest: JsonValue[] = [value];
  while (bytes <= max) {
    const next = rest.pop();
    if (next === undefined) return bytes;
    if (typeof next === 'string') bytes += textBytes(next, max);
    else if (typeof next !== 'object' || next === null) bytes += String(next).length;
    else if (Array.isArray(next)) {
      bytes += 1 + Math.max(next.length, 1);
      if (bytes <= max) for (const item of next) rest.push(item);
    } else {
      const keys = Object.keys(next);
      bytes += 1 + Math.max(keys.length, 1);
      for (const key of keys) {
        if (bytes > max) break;
        bytes += textBytes(key, max) + 1;
        rest.push(next[key]!);
      }
    }
  }
  return bytes;
}

interface Place {
  cuts: Cut[];
  path: (string | number)[];
}

function fitted(value: JsonValue, bytes: number, place: Place): JsonValue {
  if (bytesUpTo(value, bytes) <= bytes) return value;
  if (typeof value === 'string') return fittedText(value, bytes, place);
  if (typeof value !== 'object' || value === null || place.path.length > LEVELS_CUT_MAX) {
    note(place, 0, 1);
    return null;
  }
  return Array.isArray(value) ? fittedList(value, bytes, place) : fittedObject(value, bytes, place);
}

function fittedText(text: string, bytes: number, place: Place): string {
  let kept = Math.min(text.length, Math.max(bytes - 5, 0));
  const shown = () => (kept === 0 ? '' : `${text.slice(0, kept).replace(/[\uD800-\uDBFF]$/, '')}…`);
  // Escapes and letters of several bytes make a text longer than its characters.
  while (kept > 0 && textBytes(shown(), bytes) > bytes) kept = Math.floor(kept * 0.75);
  note(place, kept, text.length);
  return shown();
}

/** The first items that fit; if most of the room is left then, as much of the next item as fits, too. */
function fittedList(list: JsonValue[], bytes: number, place: Place): JsonValue[] {
  const kept: JsonValue[] = [];
  let left = bytes - 2;
  for (const [index, item] of list.entries()) {
    const size = bytesUpTo(item, left) + 1;
    if (size > left) {
      if (left > bytes / 2 && left > LIST_ITEM_BYTES_MIN)
        kept.push(fitted(item, left - 1, { ...place, path: [...place.path, index] }));
      break;
    }
    kept.push(item);
    left -= size;
  }
  if (kept.length < list.length) note(place, kept.length, list.length);
  return kept;
}

/** Keeps small fields whole; the others get equal shares of the room that is left. */
function fittedObject(object: JsonObject, bytes: number, place: Place): JsonObject {
  const fields: { key: string; size: number }[] = [];
  let left = bytes - 2;
  const all = Object.entries(object);
  for (const [key, value] of all) {
    const name = textBytes(key, left) + 2 + 'null'.length;
    if (name > left) break;
    left -= name;
    fields.push({ key, size: bytesUpTo(value, bytes) - 'null'.length });
  }
  const kept = new Map<string, JsonValue>();
  const bySize = fields.toSorted((a, b) => a.size - b.size);
  for (const [index, { key, size }] of bySize.entries()) {
    const share = Math.floor(left / (bySize.length - index));
    const value =
      size <= share
        ? object[key]!
        : fitted(object[key]!, share + 'null'.length, { ...place, path: [...place.path, key] });
    kept.set(key, value);
    left -= Math.max(Math.min(size, share), 0);
  }
  if (fields.length < all.length) note(place, fields.length, all.length);
  return Object.fromEntries(fields.map(({ key }) => [key, kept.get(key)!]));
}

function note({ cuts, path }: Place, shown: number, total: number): void {
  if (cuts.length < CUTS_NAMED_MAX) cuts.push({ at: placeOf(path), shown, total });
}

function textBytes(text: string, max: number): number {
  return text.length > max ? text.length + 2 : Buffer.byteLength(JSON.stringify(text));
}
