/**
 * JSON from outside: inputs, outputs, files, frames. What is one JSON value here is decided in one place, by loops that
 * neither recurse nor grow with what they are given:
 *
 * 1. `faultOf` walks a value once and says what of it is no JSON, or more than is carried, and where.
 * 2. `anyJson` and `jsonObject` are what schemas say of such values. They do not look inside: who takes a value in has
 *    walked it before (rule 1), and a schema that recursed would let user data decide how deep and how long.
 */
import { z } from 'zod';
import { FlowmeshError, type JsonObject, type JsonValue } from './errors.ts';
import {
  JSON_DEPTH_MAX,
  JSON_ELEMENT_BYTES,
  JSON_ELEMENTS_MAX,
  JSON_NAMES_MAX,
  jsonBytes,
  LARGE_ELEMENTS,
  LimitError,
  SUBMISSION_BYTES_MAX,
} from './limits.ts';
import { placeOf } from './problems.ts';

/** Any JSON value, in JSON Schema `{}`. */
export const anyJson = z.any().refine((value) => value !== undefined, 'is missing') as unknown as z.ZodType<
  JsonValue,
  JsonValue
>;

/** Any JSON object, in JSON Schema `{ "type": "object" }`. */
export const jsonObject = z
  .any()
  .refine((value) => value !== undefined, { error: 'is missing', abort: true })
  .refine(isObject, 'must be an object')
  .meta({ type: 'object' }) as unknown as z.ZodType<JsonObject, JsonObject>;

function isObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** What is wrong with a value, and where: `inputs.a[3]`, empty for the value itself. */
export type JsonFault = { path: string } & (
  | { kind: 'not_json'; message: string; isBigInteger?: true }
  | { kind: 'limit'; limit: string; value: number; maximum: number }
);

export interface JsonLimits {
  /** Levels of lists and objects. Default: JSON_DEPTH_MAX. */
  depth?: number;
  /** Values in the value, itself included. Default: JSON_ELEMENTS_MAX. */
  elements?: number;
  /** Characters of all strings and names together; a shared value counts each time. Default: none. */
  chars?: { limit: string; maximum: number };
}

/**
 * The first thing in `value` that is no JSON or over a limit. Takes at most JSON_ELEMENTS_MAX steps: what is refused
 * costs no more than what is accepted. A field that is undefined is none, as in JSON.stringify; a value that is in two
 * places counts twice, as JSON has no references, and a circle is deeper than any limit.
 */
export function faultOf(value: unknown, limits: JsonLimits = {}): JsonFault | undefined {
  return new Walk(limits).run(value);
}

/** As `faultOf`, and how many values there are. */
export function walkJson(value: unknown, limits: JsonLimits = {}): { fault: JsonFault | undefined; elements: number } {
  const walk = new Walk(limits);
  return { fault: walk.run(value), elements: walk.elements };
}

/** True of a value that is too large for several things to be done with it in one turn of a loop. Looks no further. */
export function isLarge(value: unknown): boolean {
  return faultOf(value, { elements: LARGE_ELEMENTS })?.kind === 'limit';
}

/**
 * What a value counts where several share a message: its bytes as JSON, or what its values make of them if that is more.
 *
 * @param value a checked one
 */
export function carriedBytes(value: JsonValue): number {
  return Math.max(jsonBytes(value), JSON_ELEMENT_BYTES * walkJson(value).elements);
}

/** A list or an object on the way down to the current value. */
interface Level {
  container: Record<string, unknown> | readonly unknown[];
  /** Of an object. */
  keys: readonly string[] | null;
  /** The item that comes next. */
  next: number;
}

class Walk {
  readonly #depthMax: number;
  readonly #elementsMax: number;
  readonly #chars: { limit: string; maximum: number };
  readonly #levels: Level[] = [];
  elements = 0;
  #charsSeen = 0;
  readonly #names = new Set<string>();

  constructor({ depth, elements, chars }: JsonLimits) {
    this.#depthMax = depth ?? JSON_DEPTH_MAX;
    this.#elementsMax = elements ?? JSON_ELEMENTS_MAX;
    this.#chars = chars ?? { limit: '', maximum: Number.POSITIVE_INFINITY };
  }

  run(root: unknown): JsonFault | undefined {
    let fault = this.#visit(root);
    while (fault === undefined) {
      const level = this.#levels.at(-1);
      if (level === undefined) return undefined;
      const { container, keys } = level;
      const at = level.next++;
      if (at >= (keys ?? (container as readonly unknown[])).length) this.#levels.pop();
      else if (keys === null) fault = this.#visit((container as readonly unknown[])[at]);
      else fault = this.#visitField(keys[at]!, (container as Record<string, unknown>)[keys[at]!]);
    }
    return fault;
  }

  #visitField(key: string, value: unknown): JsonFault | undefined {
    if (value === undefined) return undefined;
    // As a key it would be lost on the way, or set an object's prototype instead of a field of it.
    if (key === '__proto__') return this.#notJson('is a name that data cannot have; rename the field');
    this.#charsSeen += key.length;
    this.#names.add(key);
    if (this.#names.size > JSON_NAMES_MAX) return this.#over('JSON_NAMES_MAX', this.#names.size, JSON_NAMES_MAX);
    return this.#visit(value);
  }

  #visit(value: unknown): JsonFault | undefined {
    this.elements++;
    if (this.elements > this.#elementsMax) return this.#over('JSON_ELEMENTS_MAX', this.elements, this.#elementsMax);
    switch (typeof value) {
      case 'string':
        this.#charsSeen += value.length;
        if (this.#charsSeen <= this.#chars.maximum) return undefined;
        return this.#over(this.#chars.limit, this.#charsSeen, this.#chars.maximum);
      case 'boolean':
        return undefined;
      case 'number':
        return Number.isFinite(value)
          ? undefined
          : this.#notJson(`is ${value}, and JSON has no such number; write it as a string`);
      case 'object':
        return value === null ? undefined : this.#enter(value);
      case 'bigint':
        return {
          ...this.#notJson(`is ${shown(value)}, an integer that cannot be kept exactly; write it as a string`),
          isBigInteger: true,
        };
      default:
        return this.#notJson(value === undefined ? 'is missing' : `is no JSON value but a ${typeof value}`);
    }
  }

  #enter(value: object): JsonFault | undefined {
    if (this.#levels.length >= this.#depthMax) {
      return this.#over('JSON_DEPTH_MAX', this.#levels.length + 1, this.#depthMax);
    }
    if (Array.isArray(value)) {
      this.#levels.push({ container: value, keys: null, next: 0 });
      return undefined;
    }
    if (!isPlain(value)) return this.#notJson(`is no JSON value but a ${value.constructor?.name ?? 'class instance'}`);
    this.#levels.push({ container: value as Record<string, unknown>, keys: Object.keys(value), next: 0 });
    return undefined;
  }

  #notJson(message: string): JsonFault & { kind: 'not_json' } {
    return { kind: 'not_json', path: this.#place(), message };
  }

  #over(limit: string, value: number, maximum: number): JsonFault {
    return { kind: 'limit', path: this.#place(), limit, value, maximum };
  }

  /** Where the value is that was visited last. */
  #place(): string {
    return placeOf(this.#levels.map(({ keys, next }) => (keys === null ? next - 1 : keys[next - 1]!)));
  }
}

const DIGITS_SHOWN_MAX = 40;

function shown(value: bigint): string {
  const digits = String(value);
  return digits.length <= DIGITS_SHOWN_MAX ? digits : `${digits.slice(0, DIGITS_SHOWN_MAX)}…`;
}

/** Also of another realm, whose `Object` is another one. */
function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || prototype === Object.prototype || Object.getPrototypeOf(prototype) === null;
}

const ADVICE: Record<string, string> = {
  JSON_DEPTH_MAX: 'Flatten it.',
  JSON_ELEMENTS_MAX: 'Pass a reference to the data, or split it.',
  JSON_NAMES_MAX: 'Make it a list of { name, value }, or pass a reference to the data.',
};

const WHAT: Record<string, string> = {
  JSON_DEPTH_MAX: 'nested too deep',
  JSON_ELEMENTS_MAX: 'too many values',
  JSON_NAMES_MAX: 'too many different names of fields',
};

/**
 * Walks a value that comes from outside, before anything else looks at it: a deep or huge one would make the checks
 * themselves expensive (P7).
 *
 * @param what names the value in the message
 * @param invalid makes the error of a value that is no JSON
 * @throws LimitError, or what `invalid` made
 */
export function checkJson(
  value: unknown,
  what: string,
  invalid: (fault: Exclude<JsonFault, { kind: 'limit' }>) => Error,
): void {
  const fault = faultOf(value, { chars: { limit: 'SUBMISSION_BYTES_MAX', maximum: SUBMISSION_BYTES_MAX } });
  if (fault?.kind === 'limit') throw limitErrorOf(fault, what);
  if (fault !== undefined) throw invalid(fault);
}

/**
 * @param what the value as the subject of a sentence: "the input of task_submit"
 * @param advice when it is another one than to send less
 */
export function limitErrorOf(fault: JsonFault & { kind: 'limit' }, what: string, advice?: string): LimitError {
  const { limit, value, maximum, path } = fault;
  const at = path === '' ? '' : ` (at ${shortened(path)})`;
  const how = WHAT[limit] ?? 'more than may be, in characters';
  return new LimitError(
    limit,
    value,
    maximum,
    `${what}: ${how}${at}`,
    advice ?? ADVICE[limit] ?? 'Pass a reference to the data.',
  );
}

/** What is wrong, with the place, as the rest of a sentence after "the output of fn:a: ". */
export function faultText(fault: JsonFault): string {
  const { path } = fault;
  const place = path === '' ? 'the value' : shortened(path);
  if (fault.kind === 'not_json') return `${place} ${fault.message}`;
  return `${place} has ${WHAT[fault.limit] ?? 'too much'} (the limit ${fault.limit} is ${fault.maximum})`;
}

/** @param what the output as the subject of a sentence: "the output of fn:resize" */
export function outputError(fault: JsonFault, what: string, advice = ''): FlowmeshError {
  if (fault.kind === 'limit') return limitErrorOf(fault, what);
  return new FlowmeshError('INVALID_OUTPUT', `${what} cannot be kept: ${faultText(fault)}${advice}`, {
    details: { place: shortened(fault.path) },
  });
}

const PLACE_CHARS_MAX = 200;

/** A place in a sentence: the front says which field, the end of a very deep one says nothing more. */
function shortened(place: string): string {
  return place.length <= PLACE_CHARS_MAX ? place : `${place.slice(0, PLACE_CHARS_MAX)}…`;
}
