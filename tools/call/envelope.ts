/**
 * The edge of every tool: an input is checked here and trusted from here on; an answer has one of two shapes,
 * `{ success: true, … }` or `{ success: false, error }`.
 */
import type { z } from 'zod';
import { type ErrorShape, errorShape, type JsonObject, type JsonValue } from '../../dag/errors.ts';
import { checkJson } from '../../dag/json.ts';
import { checkBytes, SUBMISSION_BYTES_MAX } from '../../dag/limits.ts';
import { describeProblems } from '../../dag/schema.ts';
import { CALL_DEADLINE_MS, CALL_WAIT_MAX_MS } from '../../scheduler/limits.ts';
import type { Tool } from '../definition.ts';
import { InvalidInputError } from '../errors.ts';
import { forgiving } from '../forgiving.ts';

/** An input that passed `parseInput`, with defaults filled in. */
export type ParsedInput = z.output<Tool['input']>;

export type Success = JsonObject & { success: true };
export interface Failure {
  success: false;
  error: ErrorShape;
}

/**
 * Checks the input of a call. An absent input counts as `{}`, and the slips of models are mended (`forgiving.ts`).
 *
 * @throws {InvalidInputError} INVALID_INPUT with `details.problems: [{ path, message }]`; an unknown field is a
 *   problem too and names the nearest known one
 * @throws {LimitError} LIMIT_EXCEEDED for an input that is nested too deep, has too many values or is too large
 */
export function parseInput(tool: Tool, rawInput: unknown): ParsedInput {
  const given = rawInput ?? {};
  checkValue(tool.name, given);
  const value = forgiving(tool.input, given);
  // `forgiving` parses JSON that came as a text: the first check saw only the text, not what is in it.
  if (value !== given) checkValue(tool.name, value);
  const parsed = tool.input.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new InvalidInputError(tool.name, describeProblems(parsed.error, tool.input, value));
}

/** How long a call waits because its input says so, in ms, besides the time that any call takes; bounded (P7). */
export function callWaitMs(tool: Tool, input: ParsedInput): number {
  return Math.min(tool.waitMs?.(input) ?? 0, CALL_WAIT_MAX_MS);
}

/** How long a call may take at another peer, in ms. */
export function callDeadlineMs(tool: Tool, input: ParsedInput): number {
  return CALL_DEADLINE_MS + callWaitMs(tool, input);
}

/** The answer for a tool's output, without its undefined fields. */
export function success(output: object): Success {
  const answer: Success = { success: true };
  for (const [field, value] of Object.entries(output)) if (value !== undefined) answer[field] = value as JsonValue;
  return answer;
}

export function failure(error: unknown): Failure {
  return { success: false, error: errorShape(error) };
}

/** Bounds the size and depth of an input before the schema walks through it. */
function checkValue(tool: string, value: unknown): void {
  const what = `the input of ${tool}`;
  checkJson(value, what, (fault) => new InvalidInputError(tool, [fault]));
  checkBytes(value as JsonValue, 'SUBMISSION_BYTES_MAX', SUBMISSION_BYTES_MAX, what);
}
