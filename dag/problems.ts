/** What a zod schema found wrong, as sentences for people: the place, the cause, and the name that was meant. */
import type { z } from 'zod';
import { didYouMean } from './nearest.ts';
import { cut } from './quoted.ts';

/** `path` reads like code (`steps[2].retry.jitter`), empty for the whole value. */
export interface Problem {
  path: string;
  message: string;
}

/** More problems than this are not listed: the first ones say enough. */
export const PROBLEMS_MAX = 20;

type Key = PropertyKey;
type Issue = z.core.$ZodIssue;

/**
 * @param error what `schema.safeParse(value)` gave
 * @param schema the schema that was used; the names it knows are offered for unknown ones
 * @param value the checked value
 * @returns at most PROBLEMS_MAX problems in the order of the schema, and one that counts the rest
 */
export function describeProblems(error: z.ZodError, schema: z.ZodType, value: unknown): Problem[] {
  const problems: Problem[] = [];
  let rest = 0;
  for (const issue of error.issues) {
    // Finding the name that was meant takes time, so this is done only for the problems that are shown.
    const shown = Math.max(0, PROBLEMS_MAX - problems.length);
    const count = issue.code === 'unrecognized_keys' ? issue.keys.length : 1;
    rest += Math.max(0, count - shown);
    if (shown > 0) problems.push(...describeIssue(issue, schema, value, shown));
  }
  return rest <= 0 ? problems : [...problems, { path: '', message: `and ${rest} more problems` }];
}

/** The first PROBLEMS_MAX problems, and whether there are more. Not how many: a check may stop after one more. */
export function boundedProblems(problems: Problem[]): Problem[] {
  if (problems.length <= PROBLEMS_MAX) return problems;
  return [...problems.slice(0, PROBLEMS_MAX), { path: '', message: 'and more of them' }];
}

/** `['steps', 2, 'inputs', 'a b']` as `steps[2].inputs["a b"]`. */
export function placeOf(path: readonly Key[]): string {
  let place = '';
  for (const key of path) {
    const name = cut(String(key));
    if (typeof key === 'number') place += `[${key}]`;
    else if (place === '') place = name;
    else if (/^[A-Za-z_$][\w$-]*$/.test(name)) place += `.${name}`;
    else place += `[${JSON.stringify(name)}]`;
  }
  return place;
}

/** The place of `inner`, which is a place within the value at `outer`. */
export function joinPlaces(outer: string, inner: string): string {
  if (outer === '' || inner === '') return outer + inner;
  return inner.startsWith('[') ? outer + inner : `${outer}.${inner}`;
}

function describeIssue(issue: Issue, schema: z.ZodType, value: unknown, shown: number): Problem[] {
  const path = placeOf(issue.path);
  if (issue.code === 'unrecognized_keys') {
    const known = keysAt(schema, issue.path, value);
    return issue.keys.slice(0, shown).map((key) => ({
      path: placeOf([...issue.path, key]),
      message: `is not a known field${didYouMean(key, known) || knownList(known)}`,
    }));
  }
  const found = valueAt(value, issue.path);
  if (found === undefined && issue.code !== 'custom') return [{ path, message: 'is missing' }];
  if (issue.code === 'invalid_value') {
    const values = issue.values.map(String);
    const choice = values.map((each) => `"${each}"`).join(', ');
    return [
      {
        path,
        message: `must be one of ${choice}, not ${show(found)}${typeof found === 'string' ? didYouMean(found, values) : ''}`,
      },
    ];
  }
  // A schema with a message of its own says it better.
  if (issue.code === 'invalid_type' && issue.message.startsWith('Invalid input')) {
    return [{ path, message: `must be ${article(issue.expected)}, not ${show(found)}` }];
  }
  if (issue.code === 'invalid_union' && issue.message === 'Invalid input') {
    return [{ path, message: `must be a JSON value, not ${show(found)}` }];
  }
  return [{ path, message: issue.message }];
}

function knownList(known: readonly string[]): string {
  return known.length === 0 ? '' : ` (known: ${known.join(', ')})`;
}

const ARTICLES: Record<string, string> = {
  string: 'a string',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'an object',
  record: 'an object',
  null: 'null',
};

function article(expected: string): string {
  return ARTICLES[expected] ?? expected;
}

const SHOWN_CHARS_MAX = 60;

/** A value as a few words for a sentence. */
function show(value: unknown): string {
  if (Array.isArray(value)) return 'a list';
  if (value !== null && typeof value === 'object') return 'an object';
  if (typeof value !== 'string') return String(value);
  return JSON.stringify(value.length > SHOWN_CHARS_MAX ? `${value.slice(0, SHOWN_CHARS_MAX)}…` : value);
}

function valueAt(value: unknown, path: readonly Key[]): unknown {
  let current = value;
  for (const key of path) {
    if (current === null || typeof current !== 'object') return undefined;
    current = (current as Record<Key, unknown>)[key];
  }
  return current;
}

/** The field names of the object schema at `path`; of a union, those of every branch that is an object. */
function keysAt(schema: z.ZodType, path: readonly Key[], value: unknown): string[] {
  const found = schemasAt(schema, path);
  const keys = found.flatMap((each) => (each.def.type === 'object' ? Object.keys((each as z.ZodObject).shape) : []));
  const present = valueAt(value, path);
  const taken = present !== null && typeof present === 'object' ? present : {};
  // A field that is already there cannot be the one that was meant.
  const free = keys.filter((key) => !(key in taken));
  return free.length > 0 ? free : keys;
}

function schemasAt(schema: z.ZodType, path: readonly Key[]): z.ZodType[] {
  let current = unwrap(schema);
  for (const key of path) current = current.flatMap((each) => childOf(each, key)).flatMap(unwrap);
  return current;
}

interface Wrapped {
  innerType?: z.ZodType;
  in?: z.ZodType;
  options?: z.ZodType[];
  element?: z.ZodType;
  valueType?: z.ZodType;
  items?: z.ZodType[];
}

/** Looks through optional, default, nullable, pipe and union to the schemas that have a shape. */
function unwrap(schema: z.ZodType): z.ZodType[] {
  const def = schema.def as Wrapped;
  if (def.innerType !== undefined) return unwrap(def.innerType);
  if (def.in !== undefined) return unwrap(def.in);
  if (def.options !== undefined) return def.options.flatMap(unwrap);
  return [schema];
}

function childOf(schema: z.ZodType, key: Key): z.ZodType[] {
  const def = schema.def as Wrapped;
  if (schema.def.type === 'object') {
    const child = (schema as z.ZodObject).shape[String(key)];
    return child === undefined ? [] : [child as z.ZodType];
  }
  const child = def.element ?? def.valueType ?? (typeof key === 'number' ? def.items?.[key] : undefined);
  return child === undefined ? [] : [child];
}
