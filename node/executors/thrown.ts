/** What a handler threw, in words: it may be anything, and its own code may throw when it is looked at. */
import { inspect } from 'node:util';
import { cutText, type JsonObject, thrownText } from '../../dag/errors.ts';

const STACK_LINES_MAX = 10;

/** @returns its own words, whether it says that another attempt may help, and what else it tells */
export function describeThrown(thrown: unknown): { message: string; retryable: boolean; details: JsonObject } {
  const details: JsonObject = {};
  const tell = (key: string, value: unknown) => {
    if (typeof value === 'string') details[key] = cutText(value);
  };
  tell('error_name', fieldOf(thrown, 'name'));
  tell('error_code', fieldOf(thrown, 'code'));
  const stack = fieldOf(thrown, 'stack');
  if (typeof stack === 'string') tell('stack', stack.split('\n', STACK_LINES_MAX).join('\n'));
  const retryable = fieldOf(thrown, 'retryable');
  return { message: cutText(wordsOf(thrown)), retryable: typeof retryable === 'boolean' ? retryable : true, details };
}

/** A value that is not a text, as people read it. Never throws. */
export function shown(value: unknown): string {
  try {
    return inspect(value, { depth: 2, breakLength: Number.POSITIVE_INFINITY, maxStringLength: 1_000 });
  } catch {
    return thrownText(value);
  }
}

function wordsOf(thrown: unknown): string {
  if (typeof thrown === 'string') return thrown;
  const message = fieldOf(thrown, 'message');
  return typeof message === 'string' && message !== '' ? message : shown(thrown);
}

function fieldOf(thrown: unknown, key: string): unknown {
  if (typeof thrown !== 'object' || thrown === null) return undefined;
  try {
    return (thrown as Record<string, unknown>)[key];
  } catch {
    // Its own code does not let it be read.
    return undefined;
  }
}
