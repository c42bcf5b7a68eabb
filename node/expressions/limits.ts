/** P7: what expressions may use, with its unit in the name. */
import { INPUT_BYTES_MAX } from '../../dag/limits.ts';

/** Running time of one expression, on the clock and on the processors. */
export const EXPRESSION_TIMEOUT_MS = 1_000;
/** One that has not had half of its running time, because the machine did other things, gets so many times as long. */
export const PATIENCE = 10;
/** JavaScript heap of a process that evaluates expressions. */
export const EXPRESSION_MEMORY_MB = 128;
/** Nested evaluations; a level of a recursive function takes about four. */
export const EXPRESSION_DEPTH_MAX = 10_000;
/** The JSON of one result: a `foreach` list may hold several inputs. */
export const RESULT_BYTES_MAX = 8 * INPUT_BYTES_MAX;
/** Compiled expressions kept in one process: measured, 15 KB each and 80 bytes for a character. */
export const COMPILED_MAX = 1_000;
/** Characters of all of them together. */
export const COMPILED_CHARS_MAX = 128 * 1024;
/** Processes that evaluate for workflows at a time; one more is there for the checks of submits. */
export const EVALUATOR_PROCESSES_MAX = 2;
/** What has not run of a batch after this waits for its next turn. */
export const SLICE_MS = 100;
/** Jobs in one message to such a process. */
export const JOBS_PER_MESSAGE_MAX = 256;
/** Jobs that wait or run in one peer: of workflows, and as many checks. */
export const JOBS_QUEUED_MAX = 200_000;
/** Results are sent on after this, and when they have so many characters, also when other jobs have not run yet. */
export const FLUSH_INTERVAL_MS = 20;
export const FLUSH_CHARS = 1024 * 1024;
/** A process that should answer and has not for this much longer than a job may run is given up. */
export const SILENCE_GRACE_MS = 10_000;
/** Characters of an expression that are shown in an error. */
export const SHOWN_CHARS_MAX = 120;
