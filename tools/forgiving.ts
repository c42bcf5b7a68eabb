/**
 * Mends the slips of models. Many write null for an absent field, or put the JSON of a list, an object, a number or a
 * boolean into a string. Only where the schema of the tool wants the other type is the value changed, so fields with
 * data of users (`inputs`, `payload`, `metadata`), of which the schema says nothing, stay as they are inside.
 */
import type { z } from 'zod';
import { readJson } from '../dag/json-text.ts';

type Schema = z.core.$ZodType;
type Def = z.core.$ZodTypeDef & {
  innerType?: Schema;
  in?: Schema;
  element?: Schema;
  options?: Schema[];
  shape?: Record<string, Schema>;
};

/** A number as JSON writes it. */
const NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/;

/** @returns `value` itself when there is nothing to mend, else a copy; parts that cannot be mended stay as they are */
export function forgiving(schema: Schema, value: unknown): unknown {
  const def = schema._zod.def as Def;
  switch (def.type) {
    case 'optional':
    case 'default':
    case 'prefault':
      if (value === null && def.innerType!._zod.def.type !== 'nullable') return undefined;
      return forgiving(def.innerType!, value);
    case 'nullable':
      return value === null ? null : forgiving(def.innerType!, value);
    case 'pipe':
      return forgiving(def.in!, value);
    case 'object':
      return object(def.shape!, readAs(value, isObject));
    case 'array':
      return list(def.element!, readAs(value, Array.isArray));
    case 'union':
      return union(def.options!, value);
    case 'number':
      return typeof value === 'string' && NUMBER.test(value.trim()) ? exactNumber(value) : value;
    case 'boolean':
      return value === 'true' || value === 'false' ? value === 'true' : value;
    default:
      return isOfObjects(schema) ? readAs(value, isObject) : value;
  }
}

function object(shape: Record<string, Schema>, value: unknown): unknown {
  if (!isObject(value)) return value;
  let mended: Record<string, unknown> | undefined;
  for (const [field, schema] of Object.entries(shape)) {
    if (!Object.hasOwn(value, field)) continue;
    const meant = forgiving(schema, value[field]);
    if (meant === value[field]) continue;
    mended ??= { ...value };
    if (meant === undefined) delete mended[field];
    else mended[field] = meant;
  }
  return mended ?? value;
}

function list(element: Schema, value: unknown): unknown {
  if (!Array.isArray(value)) return value;
  const mended = value.map((item) => forgiving(element, item));
  return mended.some((item, index) => item !== value[index]) ? mended : value;
}

/** A value stays as it is unless mending it for one of the options makes it valid for that option. */
function union(options: Schema[], value: unknown): unknown {
  for (const option of options) {
    const meant = forgiving(option, value);
    if (meant !== value && (option as z.ZodType).safeParse(meant).success) return meant;
  }
  return value;
}

/** Whether a schema is `jsonObject`, any JSON object: only its metadata tells. */
function isOfObjects(schema: Schema): boolean {
  return (schema as z.ZodType).meta?.()?.['type'] === 'object';
}

/** Parses a text that is the JSON of a value of the wanted kind; anything else is returned as it is. */
function readAs(value: unknown, wanted: (value: unknown) => boolean): unknown {
  if (typeof value !== 'string' || !/^\s*[[{]/.test(value)) return value;
  try {
    const read = readJson(value);
    return 'value' in read && wanted(read.value) ? read.value : value;
  } catch {
    // Not JSON: the check of the input will say that a text is not allowed here.
    return value;
  }
}

/** A whole number that a double cannot hold exactly stays a text, which the check of the input refuses. */
function exactNumber(text: string): number | string {
  const number = Number(text);
  if (!Number.isFinite(number)) return text;
  return Number.isInteger(number) && !Number.isSafeInteger(number) ? text : number;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
