/** Resolves the most common expression, a plain path, without JSONata. */
import type { JsonObject, JsonValue } from './errors.ts';

const STEP = /(?:([A-Za-z_][A-Za-z0-9_]*)|`([^`]+)`)((?:\[(?:0|[1-9][0-9]{0,8})\])*)(\.|$)/y;
/** Words that JSONata reads as a value, an operator or the start of a function. */
const NOT_NAMES = new Set(['true', 'false', 'null', 'and', 'or', 'in', 'function']);

/**
 * Resolves `input.a.b`, `steps.x.output.items[0]`, `item` or names in backquotes with exactly JSONata's answer.
 * A path that JSONata could read differently (a path step that maps over an array, a missing value, an index into what
 * is not an array or outside of it) is left to JSONata.
 *
 * @returns the value itself, not a copy
 */
export function resolvePath(
  expression: string,
  scope: JsonObject,
): { resolved: true; value: JsonValue } | { resolved: false } {
  const path = expression.trim();
  let value: JsonValue = scope;
  let position = 0;
  for (;;) {
    STEP.lastIndex = position;
    const match = STEP.exec(path);
    if (match === null) return { resolved: false };
    const [all, plain, quoted, indexes, separator] = match;
    if (plain !== undefined && NOT_NAMES.has(plain)) return { resolved: false };
    const found = step(value, plain ?? quoted!, indexes!);
    if (found === undefined) return { resolved: false };
    value = found;
    position += all.length;
    if (separator === '') return { resolved: true, value };
  }
}

function step(from: JsonValue, name: string, indexes: string): JsonValue | undefined {
  if (from === null || typeof from !== 'object' || Array.isArray(from) || !Object.hasOwn(from, name)) return undefined;
  let value: JsonValue | undefined = from[name];
  for (const index of indexes.match(/[0-9]+/g) ?? []) {
    if (!Array.isArray(value)) return undefined;
    value = value[Number(index)];
  }
  return value;
}
