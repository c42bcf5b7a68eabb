/**
 * JSON text from outside, read without losing anything silently:
 *
 * 1. The cost of a text is known before it is parsed: depth and number of values are counted on the text.
 * 2. An integer that would come out with other digits (3544790567247868102 as …868000) is refused with its place, or
 *    kept as a string when the caller asks for that. A number that is out of range (1e400) is always refused.
 *
 * The parser is JSON.parse. Its reviver could show the digits of a number, too, but for a large text with one such
 * number it takes twenty times as long as everything else.
 */
import type { JsonValue } from './errors.ts';
import { faultOf, type JsonFault, type JsonLimits } from './json.ts';
import { JSON_DEPTH_MAX, JSON_ELEMENTS_MAX } from './limits.ts';
import { placeOf } from './problems.ts';

export interface ReadOptions extends JsonLimits {
  /** How to treat an integer that a number cannot hold exactly. Default: `refuse`. */
  bigNumbers?: 'refuse' | 'string';
}

/**
 * Reads JSON and checks the value, as `faultOf` does.
 *
 * @throws SyntaxError when it is not JSON
 */
export function parseJson(text: string, options: ReadOptions = {}): { value: JsonValue } | { fault: JsonFault } {
  const read = readJson(text, options);
  const fault = 'fault' in read ? read.fault : faultOf(read.value, options);
  return fault === undefined ? (read as { value: JsonValue }) : { fault };
}

/**
 * Reads JSON whose parts the caller checks one by one, so that `faultOf` names places within a part. The first integer
 * that would not be exact is left as a bigint, which `faultOf` refuses. A fault here is a limit that the text exceeds.
 *
 * @throws SyntaxError when it is not JSON
 */
export function readJson(text: string, options: ReadOptions = {}): { value: unknown } | { fault: JsonFault } {
  const asStrings = options.bigNumbers === 'string';
  const { over, inexact } = scan(text, options, asStrings ? Number.POSITIVE_INFINITY : 1);
  if (over !== undefined) return { fault: { kind: 'limit', ...over, path: placeOf(pathAt(text, over.at)) } };
  if (inexact.length === 0) return { value: JSON.parse(text) };
  if (asStrings) return { value: JSON.parse(quoted(text, inexact)) };
  const [[start, end]] = inexact as [Span];
  return { value: withBigint(JSON.parse(text), pathAt(text, start), BigInt(text.slice(start, end))) };
}

/** A number in a text: the index of its first character, and the index after its last. */
type Span = [start: number, end: number];

function quoted(text: string, numbers: readonly Span[]): string {
  const parts: string[] = [];
  let done = 0;
  for (const [start, end] of numbers) {
    parts.push(text.slice(done, start), '"', text.slice(start, end), '"');
    done = end;
  }
  parts.push(text.slice(done));
  return parts.join('');
}

function withBigint(root: unknown, path: readonly (string | number)[], value: bigint): unknown {
  const last = path.at(-1);
  if (last === undefined) return value;
  let holder = root as Record<string | number, unknown>;
  for (const key of path.slice(0, -1)) holder = holder[key] as Record<string | number, unknown>;
  holder[last] = value;
  return root;
}

/** An integer with at most this many digits is always exact. */
const EXACT_DIGITS = 15;

/** Whether parsing changes an integer. Numbers with an exponent or a point are measures, not ids: rounding is fine. */
export function isInexact(source: string): boolean {
  if (source.length <= EXACT_DIGITS || !/^-?\d+$/.test(source)) return false;
  const value = Number(source);
  // An integer that is out of range becomes Infinity, which `faultOf` refuses.
  return String(value) !== source && Number.isFinite(value) && BigInt(value) !== BigInt(source);
}

const QUOTE = 0x22;
const COMMA = 0x2c;
const MINUS = 0x2d;
const DIGIT_0 = 0x30;
const DIGIT_9 = 0x39;
const COLON = 0x3a;
const LIST_START = 0x5b;
const BACKSLASH = 0x5c;
const LIST_END = 0x5d;
const OBJECT_START = 0x7b;
const OBJECT_END = 0x7d;

/** The first letters of true, false and null; none of them comes again within these words. */
const WORD_STARTS = new Set([...'tfn'].map((letter) => letter.charCodeAt(0)));

interface Scanned {
  over?: { limit: string; value: number; maximum: number; at: number };
  inexact: Span[];
}

/** Counts the values in `text` as if it were JSON: the parser decides later whether it is. */
function scan(text: string, { depth, elements }: JsonLimits, inexactMax: number): Scanned {
  const depthMax = depth ?? JSON_DEPTH_MAX;
  const elementsMax = elements ?? JSON_ELEMENTS_MAX;
  const inexact: Span[] = [];
  let level = 0;
  let values = 0;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) {
      values++;
      at = endOfString(text, at);
    } else if (code === MINUS || isDigit(code)) {
      values++;
      const end = endOfNumber(text, at);
      const mayBeInexact = end - at > EXACT_DIGITS && inexact.length < inexactMax;
      if (mayBeInexact && isInexact(text.slice(at, end))) inexact.push([at, end]);
      at = end - 1;
    } else if (code === LIST_START || code === OBJECT_START) {
      values++;
      level++;
      if (level > depthMax) return { over: { limit: 'JSON_DEPTH_MAX', value: level, maximum: depthMax, at }, inexact };
    } else if (code === LIST_END || code === OBJECT_END) {
      level--;
    } else if (code === COLON) {
      values--; // the string before it was a name
    } else if (WORD_STARTS.has(code)) {
      values++;
    }
    // The last value counted may be a name whose colon has not come yet.
    if (values > elementsMax + 1) {
      return { over: { limit: 'JSON_ELEMENTS_MAX', value: values, maximum: elementsMax, at }, inexact };
    }
  }
  return { inexact };
}

function isDigit(code: number): boolean {
  return code >= DIGIT_0 && code <= DIGIT_9;
}

/** The index of the quote that closes the string at `start`; the length of the text when there is none. */
function endOfString(text: string, start: number): number {
  for (let end = text.indexOf('"', start + 1); end >= 0; end = text.indexOf('"', end + 1)) {
    let before = end - 1;
    while (text.charCodeAt(before) === BACKSLASH) before--;
    if ((end - before) % 2 === 1) return end;
  }
  return text.length;
}

/** The index after the number that begins at `start`. */
function endOfNumber(text: string, start: number): number {
  let end = start + 1;
  // Digits, a point, an exponent and its sign.
  while (end < text.length) {
    const code = text.charCodeAt(end);
    if (!(isDigit(code) || code === 0x2e || code === 0x65 || code === 0x45 || code === 0x2b || code === MINUS)) break;
    end++;
  }
  return end;
}

/** The path of the value at `position`, in a text that is JSON up to there. */
function pathAt(text: string, position: number): (string | number)[] {
  const path: (string | number)[] = [];
  let name = '';
  for (let at = 0; at < position; at++) {
    const code = text.charCodeAt(at);
    const last = path.at(-1);
    if (code === QUOTE) {
      const end = endOfString(text, at);
      name = text.slice(at, end + 1);
      at = end;
    } else if (code === COLON) {
      path[path.length - 1] = nameOf(name);
    } else if (code === LIST_START) {
      path.push(0);
    } else if (code === OBJECT_START) {
      path.push('');
    } else if (code === LIST_END || code === OBJECT_END) {
      path.pop();
    } else if (code === COMMA && typeof last === 'number') {
      path[path.length - 1] = last + 1;
    }
  }
  return path;
}

function nameOf(source: string): string {
  try {
    return String(JSON.parse(source));
  } catch {
    return source; // Not JSON, but the limit was exceeded before that and is what the caller reports.
  }
}
