/** What leaves a sandbox: JSON or an error, never a value that would be changed silently on its way. */
import { thrownText } from '../../dag/errors.ts';

/** The value is not JSON, or too large. `place` reads like code (`a[2].b`), empty for the whole value. */
export class NotJsonError extends Error {
  readonly tooLarge: boolean;

  constructor(message: string, tooLarge = false) {
    super(message);
    this.name = 'NotJsonError';
    this.tooLarge = tooLarge;
  }
}

/**
 * `value` as JSON text. Undefined is null, and left out of objects as JSON does.
 *
 * @param isFunction says which objects stand for functions too
 * @throws NotJsonError for functions, symbols, bigints, NaN, infinities and cycles, and over `maxBytes`
 */
export function encodeJson(value: unknown, maxBytes: number, isFunction = (_: object) => false): string {
  let least = 0;
  const check = (key: string, each: unknown): unknown => {
    const type = typeof each === 'object' && each !== null && isFunction(each) ? 'function' : typeof each;
    if (type === 'function' || type === 'symbol' || type === 'bigint') {
      throw new NotJsonError(`the value${placeOf(key)} is a ${type}, which JSON cannot hold`);
    }
    if (type === 'number' && !Number.isFinite(each)) {
      throw new NotJsonError(`the value${placeOf(key)} is ${each}, which JSON cannot hold`);
    }
    // Counted on the way, so that a value that is shared a million times is refused before it fills the memory.
    least += 1 + (type === 'string' ? (each as string).length : 0);
    if (least > maxBytes) throw tooLarge(maxBytes);
    return each;
  };
  const json = stringify(value ?? null, check) ?? 'null';
  if (Buffer.byteLength(json) > maxBytes) throw tooLarge(maxBytes);
  return json;
}

function stringify(value: unknown, replacer: (key: string, each: unknown) => unknown): string | undefined {
  try {
    return JSON.stringify(value, replacer);
  } catch (error) {
    if (error instanceof NotJsonError) throw error;
    throw new NotJsonError(firstLine(thrownText(error)));
  }
}

function tooLarge(maxBytes: number): NotJsonError {
  return new NotJsonError(`the value is larger than ${maxBytes} bytes of JSON`, true);
}

function placeOf(key: string): string {
  return key === '' ? '' : ` at "${key}"`;
}

/** V8 draws a picture of a cycle under the first line. */
function firstLine(text: string): string {
  return text.split('\n', 1)[0]!;
}
