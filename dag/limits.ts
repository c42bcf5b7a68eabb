/** P7: every bound on a workflow and on the data that flows through it, with its unit in the name. */
import { FlowmeshError, type JsonValue } from './errors.ts';

/** Steps of one workflow. */
export const STEPS_MAX = 10_000;
/** Entries of all `depends_on` lists of one workflow together. */
export const EDGES_MAX = 100_000;
/** Tasks of one run: one per step, or one per item of a `foreach` step. */
export const TASK_INSTANCES_MAX = 100_000;
/** A submitted workflow or task, as JSON. */
export const SUBMISSION_BYTES_MAX = 8 * 1024 * 1024;
/** The resolved inputs of one task, as JSON. */
export const INPUT_BYTES_MAX = 1024 * 1024;
/** The output of one task, as JSON. */
export const OUTPUT_BYTES_MAX = 4 * 1024 * 1024;
/** Words of one `command`. */
export const COMMAND_WORDS_MAX = 4_096;
/** Timeout of an `http` request that names no `timeout_ms`. */
export const HTTP_TIMEOUT_MS = 30_000;
/** Levels of lists and objects in a submission, an input, an output or a message. */
export const JSON_DEPTH_MAX = 128;
/** Lists, objects, strings, numbers, booleans and nulls in one of these: they decide what checking and copying cost. */
export const JSON_ELEMENTS_MAX = 150_000;
/** Each step of handling data with more values takes a turn of the event loop, so that other work comes in between. */
export const LARGE_ELEMENTS = 10_000;
/** The least that each value counts where several inputs or outputs share a message. */
export const JSON_ELEMENT_BYTES = 24;
/** Different field names in an input or output: a name that comes for the first time costs as much as many values. */
export const JSON_NAMES_MAX = 50_000;
/** Tasks of one `foreach` step that exist unfinished at once, when `max_parallel` is larger or absent. */
export const EXPAND_CHUNK_ITEMS = 256;
/** Workflows inside workflows. */
export const NESTING_LEVELS_MAX = 8;
export const RETRIES_MAX = 100;
export const BACKOFF_FACTOR_MAX = 100;
/** The longest timeout, delay or backoff: 30 days. */
export const DURATION_MS_MAX = 30 * 24 * 3_600_000;
/** Different expressions in the inputs, the `foreach` or the `when` of one step, or in an `output`. */
export const EXPRESSIONS_MAX = 10_000;
/** One `${ … }` expression. */
export const EXPRESSION_CHARS_MAX = 16_384;
export const ID_CHARS_MAX = 128;
export const NAME_CHARS_MAX = 256;
export const ACTION_CHARS_MAX = 256;
export const TAGS_MAX = 64;
export const LABELS_MAX = 64;
export const LABEL_CHARS_MAX = 128;
/** Workflows that one workflow waits for. */
export const WORKFLOW_DEPENDENCIES_MAX = 256;
export const PRIORITY_MAX = 10;

/** Something is larger than flowmesh carries. `details` has `limit` (the constant's name), `value` and `maximum`. */
export class LimitError extends FlowmeshError {
  /**
   * @param what the thing that is too large and where it is, as the subject of a sentence
   * @param advice what the reader can do
   */
  constructor(limit: string, value: number, maximum: number, what: string, advice: string) {
    super('LIMIT_EXCEEDED', `${what}: ${value}, but the limit ${limit} is ${maximum}. ${advice}`, {
      details: { limit, value, maximum },
    });
  }
}

/** The size of a value as UTF-8 JSON, in bytes; 0 for undefined. */
export function jsonBytes(value: JsonValue | undefined): number {
  return value === undefined ? 0 : Buffer.byteLength(JSON.stringify(value));
}

/** @throws LimitError when the JSON of `value` is larger than `maximum` bytes. */
export function checkBytes(
  value: JsonValue,
  limit: string,
  maximum: number,
  what: string,
  advice = 'Pass a reference to the data.',
): void {
  const bytes = jsonBytes(value);
  if (bytes > maximum) throw new LimitError(limit, bytes, maximum, `${what} is too large, in bytes`, advice);
}
