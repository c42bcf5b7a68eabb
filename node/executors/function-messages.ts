/**
 * What a peer and the processes that run its `fn:` handlers say to each other. The code of a handler can write to the
 * peer too, so what comes from there is checked before it is used.
 */
import { z } from 'zod';
import { ERROR_MESSAGE_CHARS_MAX, type JsonObject } from '../../dag/errors.ts';
import { OUTPUT_BYTES_MAX } from '../../dag/limits.ts';
import { describeProblems } from '../../dag/problems.ts';
import { LOG_LINE_CHARS_MAX, LOG_LINES_MAX } from '../../scheduler/limits.ts';
import { logLineSchema } from '../../scheduler/records.ts';
import { FUNCTIONS_MAX } from './limits.ts';

/** To the process. One run at a time; `abort` is about the current one. */
export type ToFunctionProcess =
  | { type: 'run'; run: number; name: string; inputs: JsonObject; uid: string; attempt: number }
  | { type: 'abort'; reason: { force: boolean } };

/** Its length is looked at before its elements: a list of nothing may claim to have four billion of them. */
function listOf<T extends z.ZodType>(element: T, maximum: number) {
  const isShort = (value: unknown) => Array.isArray(value) && value.length <= maximum;
  return z.custom<unknown[]>(isShort, { error: `is not a list of at most ${maximum}` }).pipe(z.array(element));
}

const run = z.int().positive();
const text = z.string().max(ERROR_MESSAGE_CHARS_MAX);

/** From the process. `run` is the number of the run that it is about; what a run reports comes before its end. */
const fromFunctionProcessSchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('ready'), names: listOf(z.string(), FUNCTIONS_MAX) }),
  z.object({ type: z.literal('broken'), message: text }),
  /** The handler is called now. A run that was not begun can be given to another process. */
  z.object({ type: z.literal('begun'), run }),
  /** `run` is null for what no run that is under way has written. */
  z.object({
    type: z.literal('report'),
    run: run.nullable(),
    lines: listOf(
      z.object({ stream: logLineSchema.shape.stream, line: z.string().max(LOG_LINE_CHARS_MAX) }),
      LOG_LINES_MAX,
    ),
    progress: z.object({ percent: z.number().min(0).max(100), message: text.optional() }).nullable(),
  }),
  z.object({ type: z.literal('completed'), run, json: z.string().max(OUTPUT_BYTES_MAX) }),
  z.object({
    type: z.literal('failed'),
    run,
    error: z.object({
      code: z.string(),
      message: z.string(),
      retryable: z.boolean(),
      details: z.record(z.string(), z.unknown()).optional(),
    }),
  }),
  /** An error that nobody caught, of no run that is under way: the process takes no other run. */
  z.object({ type: z.literal('stray'), uid: z.string().nullable(), message: text }),
]);
export type FromFunctionProcess = z.infer<typeof fromFunctionProcessSchema>;

/** @throws Error that says in a sentence what it is not */
export function readFromFunctionProcess(message: unknown): FromFunctionProcess {
  const checked = fromFunctionProcessSchema.safeParse(message);
  if (checked.success) return checked.data;
  const [problem] = describeProblems(checked.error, fromFunctionProcessSchema, message);
  throw new Error(`${problem!.path || 'the message'} ${problem!.message}`);
}
