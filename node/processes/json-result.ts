/** What leaves a sandbox: JSON or an error, never a value that would be changed silently on its way. */
import { thrownText } from '../../dag/errors.ts';
import { faultText } from '../../dag/json.ts';
import { readJson } from '../../dag/json-text.ts';
import { placeOf } from '../../dag/problems.ts';

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
  const way = new Way();
  function check(this: unknown, key: string, each: unknown): unknown {
    way.step(this, key, each);
    const type = typeof each === 'object' && each !== null && isFunction(each) ? 'function' : typeof each;
    if (key === '__proto__') throw new NotJsonError(`the value${way.place} has a name that data cannot have`);
    if (type === 'function' || type === 'symbol' || type === 'bigint') {
      throw new NotJsonError(`the value${way.place} is a ${type}, which JSON cannot hold`);
    }
    if (type === 'number' && !Number.isFinite(each)) {
      throw new NotJsonError(`the value${way.place} is ${each}, which JSON cannot hold`);
    }
    // Counted on the way, so that a value that is shared a million times is refused before it fills the memory.
    least += 1 + (type === 'string' ? (each as string).length : 0);
    if (least > maxBytes) throw tooLarge(maxBytes);
    return each;
  }
  const json = stringify(value ?? null, check) ?? 'null';
  if (Buffer.byteLength(json) > maxBytes) throw tooLarge(maxBytes);
  const read = readJson(json);
  if ('fault' in read) throw new NotJsonError(faultText(read.fault));
  return json;
}

/** Where JSON.stringify is: it tells each value's name, and what it is in. */
class Way {
  readonly #levels: { value: unknown; key: string | number }[] = [];

  step(holder: unknown, key: string, value: unknown): void {
    while (this.#levels.length > 0 && this.#levels.at(-1)!.value !== holder) this.#levels.pop();
    this.#levels.push({ value, key: Array.isArray(holder) ? Number(key) : key });
  }

  get place(): string {
    const place = placeOf(this.#levels.map(({ key }) => key).filter((key, at) => at > 0 || key !== ''));
    return place === '' ? '' : ` at ${place}`;
  }
}

function stringify(
  value: unknown,
  replacer: (this: unknown, key: string, each: unknown) => unknown,
): string | undefined {
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

/** V8 draws a picture of a cycle under the first line. */
function firstLine(text: string): string {
  return text.split('\n', 1)[0]!;
}
