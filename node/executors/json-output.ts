/** JSON that an action got from outside (a program, a server, a handler), as its output. */
import type { JsonValue } from '../../dag/errors.ts';
import { outputError } from '../../dag/json.ts';
import { parseJson } from '../../dag/json-text.ts';

/**
 * @param what the text as the subject of a sentence: "the answer to GET https://…"
 * @throws SyntaxError when it is not JSON; INVALID_OUTPUT or LIMIT_EXCEEDED for JSON that cannot be kept
 */
export function parseJsonOutput(text: string, what: string, bigNumbers: 'refuse' | 'string' = 'refuse'): JsonValue {
  const read = parseJson(text, { bigNumbers });
  if ('value' in read) return read.value;
  const mayBeKept = bigNumbers === 'refuse' && read.fault.kind === 'not_json' && read.fault.isBigInteger;
  throw outputError(read.fault, what, mayBeKept ? ', or set big_numbers: string' : '');
}
