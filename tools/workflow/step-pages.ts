/** Which steps of a run a call asks for, and how many of them fit into its answer. */
import { z } from 'zod';
import type { JsonValue } from '../../dag/errors.ts';
import { ID_CHARS_MAX, STEPS_MAX } from '../../dag/limits.ts';
import { didYouMean } from '../../dag/nearest.ts';
import { quoted } from '../../dag/quoted.ts';
import { bytesUpTo, cutJson } from '../cut.ts';
import { InvalidInputError } from '../errors.ts';
import { type ShownStep, stepStatusSchema } from './steps.ts';

/** How many steps of a workflow are shown when the call does not say. */
const STEPS_DEFAULT = 100;
/** Bytes of JSON for one step among many: longer errors are cut; task_result has them whole. */
const STEP_BYTES_MAX = 4_000;

export const stepFilterField = z
  .array(z.string().max(ID_CHARS_MAX))
  .max(STEPS_MAX)
  .default([])
  .describe('Only these steps.');
export const stepStatusFilterField = z
  .array(stepStatusSchema)
  .max(stepStatusSchema.options.length)
  .default([])
  .describe('Only steps with one of these statuses, e.g. failed and running.');
export const stepLimitField = z
  .number()
  .int()
  .min(1)
  .max(STEPS_MAX)
  .default(STEPS_DEFAULT)
  .describe('How many steps to return, at most.');
export const stepOffsetField = z
  .number()
  .int()
  .min(0)
  .max(STEPS_MAX)
  .default(0)
  .describe('How many steps to leave out first.');

/** The input that the command line sends: every step. */
export const ALL_STEPS = { limit: STEPS_MAX };

/**
 * The steps with these names; all steps when there are no names.
 *
 * @throws {InvalidInputError} INVALID_INPUT for a name that no step has
 */
export function namedSteps<S extends { step_id: string }>(tool: string, steps: S[], names: string[]): S[] {
  if (names.length === 0) return steps;
  const known = steps.map(({ step_id }) => step_id);
  const ids = new Set(known);
  const problems = [...names.entries()].flatMap(([index, name]) =>
    ids.has(name)
      ? []
      : [
          {
            path: `step_filter[${index}]`,
            message: `the workflow has no step ${quoted(name)}${didYouMean(name, known)}`,
          },
        ],
  );
  if (problems.length > 0) throw new InvalidInputError(tool, problems);
  const wanted = new Set(names);
  return steps.filter(({ step_id }) => wanted.has(step_id));
}

/** One page of `all`, and whether there are items that are not on it. */
export function pageOf<S>(
  all: S[],
  { offset, limit }: { offset: number; limit: number },
): { page: S[]; truncated: boolean } {
  const page = all.slice(offset, offset + limit);
  return { page, truncated: offset + page.length < all.length };
}

/** As many steps, from the front, as fit into `bytesMax` of JSON. */
export function stepsWithin(steps: ShownStep[], bytesMax: number): ShownStep[] {
  const fitting: ShownStep[] = [];
  let left = bytesMax;
  for (const step of steps) {
    const { value } = cutJson(step as unknown as JsonValue, STEP_BYTES_MAX);
    left -= bytesUpTo(value, left) + 1;
    if (left < 0) break;
    fitting.push(value as unknown as ShownStep);
  }
  return fitting;
}
