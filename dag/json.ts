/**
 * JSON from outside: inputs, outputs, files, frames. Whether something is a JSON value is decided here alone, by loops
 * that do not recurse and stop at a limit:
 *
 * 1. `faultOf` walks a value once and names the first part that is not JSON or exceeds a limit.
 * 2. `anyJson` and `jsonObject` stand for such values in schemas. They do not look inside: the value has been walked
 *    before (rule 1), and a schema that recursed would let user data decide how deep it goes and how long it takes.
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

/** Any JSON value; `{}` in JSON Schema. */
export const anyJson = z.any().refine((value) => value !== undefined, 'is missing') as unknown as z.ZodType<
  JsonValue,
  JsonValue
>;

/** Any JSON object; `{ "type": "object" }` in JSON Schema. */
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
 * The first part of `value` that is not JSON or exceeds a limit; undefined when all is well. Visits no more values than
 * the limit allows, so that a refused value costs no more than an accepted one. A field that is undefined counts as
 * absent, as in JSON.stringify. An object in two places counts twice, as JSON has no references; a circular one exceeds
 * the limit of depth.
 */
export function faultOf(value: unknown, limits: JsonLimits = {}): JsonFault | undefined {
  return new Walk(limits).run(value);
}

/** As `faultOf`, and how many values there are. */
export function walkJson(value: unknown, limits: JsonLimits = {}): { fault: JsonFault | undefined; elements: number } {
  const walk = new Walk(limits);
  return { fault: walk.run(value), elements: walk.elements };
}

/** Whether a value is so large that each thing done with it takes a turn of the event loop. Stops counting there. */
export function isLarge(value: unknown): boolean {
  return faultOf(value, { elements: LARGE_ELEMENTS })?.kind === 'limit';
}

/**
 * The bytes that a value counts as where several share a message: its size as JSON, or JSON_ELEMENT_BYTES for each
 * value in it, whichever is more.
 *
 * @param value has passed `faultOf`
 */
export function carriedBytes(value: JsonValue): number {
  return Math.max(jsonBytes(value), JSON_ELEMENT_BYTES * walkJson(value).elements);
}

/** A list or an object on the way down to the current value. */
interface Level {
  container: Record<string, unknown> | readonly unknown[];
  /** The names of an object's fields; null for a list. */
  keys: readonly string[] | null;
  /** The index of the next item or name. */
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
    // As a key, `__proto__` would be lost on the way or set the prototype of an object.
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

  /** The place of the value visited last. */
  #place(): string {
    return placeOf(this.#levels.map(({ keys, next }) => (keys === null ? next - 1 : keys[next - 1]!)));
  }
}

const DIGITS_SHOWN_MAX = 40;

function shown(value: bigint): string {
  const digits = String(value);
  return digits.length <= DIGITS_SHOWN_MAX ? digits : `${digits.slice(0, DIGITS_SHOWN_MAX)}…`;
}

/** Also true for a plain object of another realm, which has its own `Object`. */
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
 * Walks a value that comes from outside, before anything else looks at it: a deep or huge value would make the
 * checks themselves expensive (P7).
 *
 * @param what names the value in the message
 * @param invalid makes the error for a value that is not JSON
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
 * @param advice what to do, when the usual advice for this limit does not fit
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

/** A fault and its place, as the rest of a sentence after "the output of fn:a: ". */
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

/** A place, cut for a sentence: its beginning says which field, the end of a very deep one adds nothing. */
function shortened(place: string): string {
  return place.length <= PLACE_CHARS_MAX ? place : `${place.slice(0, PLACE_CHARS_MAX)}…`;
}
