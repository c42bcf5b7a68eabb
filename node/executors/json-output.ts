/** JSON that an action got from outside (a program, a server, a handler), as its output. */
import type { FlowmeshError, JsonValue } from '../../dag/errors.ts';
import { faultText, type JsonFault, limitErrorOf } from '../../dag/json.ts';
import { parseJson } from '../../dag/json-text.ts';
import { InvalidOutputError } from './errors.ts';

/**
 * @param what the text as the subject of a sentence: "the answer to GET https://…"
 * @throws SyntaxError when it is not JSON; InvalidOutputError or LimitError for JSON that cannot be kept
 */
export function parseJsonOutput(text: string, what: string, bigNumbers: 'refuse' | 'string' = 'refuse'): JsonValue {
  const read = parseJson(text, { bigNumbers });
  if ('value' in read) return read.value;
  throw outputError(read.fault, what, bigNumbers === 'refuse');
}

function outputError(fault: JsonFault, what: string, mayKeepAsString: boolean): FlowmeshError {
  if (fault.kind === 'limit') return limitErrorOf(fault, what);
  const advice = mayKeepAsString && fault.isBigInteger ? ', or set big_numbers: string' : '';
  return new InvalidOutputError(`${what} cannot be kept: ${faultText(fault)}${advice}`, {
    details: { place: fault.path },
  });
}
