/** The text of a message as JSON, with nothing of it changed in silence. */
import { readJson } from '../../dag/json-text.ts';

/** How deep and how large its parts may be is decided where they are used. */
const NO_LIMITS = { depth: Number.POSITIVE_INFINITY, elements: Number.POSITIVE_INFINITY };

/**
 * An integer that would not come out exact is a bigint, which is refused with its place where the message is used.
 *
 * @throws SyntaxError when it is not JSON
 */
export function parseMessage(text: string): unknown {
  return (readJson(text, NO_LIMITS) as { value: unknown }).value;
}
