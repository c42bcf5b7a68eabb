/**
 * How large records may be. A row travels in one message, so no row may be larger than one (P7): parts are bounded
 * where they come in, what is made of them is bounded here, and the journal refuses a row that is still too large.
 */
import { boundedError, type ErrorShape, FlowmeshError, type JsonValue } from '../dag/errors.ts';
import { faultOf, faultText } from '../dag/json.ts';
import { JSON_DEPTH_MAX, jsonBytes } from '../dag/limits.ts';
import { RECORD_BYTES_MAX, RESULT_BYTES_MAX, RESULT_LEVELS, ROW_BYTES_MAX } from './limits.ts';
import type { FlowRecord, Row, WorkflowRecord } from './records.ts';

/** Bytes of the shortest value, with a comma. */
const BYTES_PER_ELEMENT_MIN = 2;

/**
 * The bytes of a value as JSON, at a cost that `maximum` bounds: what templates put together may name one large value a
 * thousand times.
 *
 * @returns null when they are more than `maximum`, or it nests too deep to be written
 */
export function bytesWithin(value: JsonValue, maximum: number): number | null {
  const limits = { elements: maximum / BYTES_PER_ELEMENT_MIN + 1, chars: { limit: '', maximum } };
  if (faultOf(value, limits) !== undefined) return null;
  const bytes = jsonBytes(value);
  return bytes > maximum ? null : bytes;
}

/**
 * A record that is about to end, as JSON.
 *
 * @returns null when it is larger than RECORD_BYTES_MAX: the workflow or task has to end without its output
 */
export function recordText(record: FlowRecord): string | null {
  const text = JSON.stringify(record);
  return isWithin(text, RECORD_BYTES_MAX) ? text : null;
}

/**
 * Why a workflow cannot keep its result, or null. Outputs that were fine by themselves may be too much together; the
 * result stands around them, so it may have some levels more.
 */
export function resultProblem(result: JsonValue, record: WorkflowRecord): ErrorShape | null {
  const chars = { limit: 'RESULT_BYTES_MAX', maximum: RESULT_BYTES_MAX };
  const fault = faultOf(result, { depth: JSON_DEPTH_MAX + RESULT_LEVELS, chars });
  const bytes = fault === undefined ? jsonBytes(result) : 0;
  const all = bytes + jsonBytes(record as unknown as JsonValue);
  if (fault === undefined && bytes <= RESULT_BYTES_MAX && all <= RECORD_BYTES_MAX) return null;
  let why = `has ${bytes} bytes (RESULT_BYTES_MAX is ${RESULT_BYTES_MAX})`;
  if (fault !== undefined) why = `is not kept: ${faultText(fault)}`;
  else if (bytes <= RESULT_BYTES_MAX)
    why = `and its metadata have ${all} bytes (RECORD_BYTES_MAX is ${RECORD_BYTES_MAX})`;
  return {
    code: 'RESULT_TOO_LARGE',
    message: `every step completed, but the result ${why}: give the workflow an \`output\` that is smaller, and read the outputs of single tasks with task_result`,
    retryable: false,
  };
}

/**
 * A record with its errors cut to size. An earlier version wrote errors of any length, and such a record still has to
 * be written again and brought to other peers.
 */
export function withBoundedErrors<R extends FlowRecord>(record: R): R {
  if (!('error' in record)) return record;
  const bounded = { ...record, error: record.error && boundedError(record.error) };
  if (!('attempts' in bounded)) return bounded;
  return { ...bounded, attempts: bounded.attempts.map((each) => ({ ...each, error: boundedError(each.error) })) };
}

/** A row as it travels: with its errors cut to size if it is too large otherwise. */
export function shipped(row: Row): Row {
  const text = row.text ?? JSON.stringify(row.record);
  if (isWithin(text, ROW_BYTES_MAX)) return row;
  const record = withBoundedErrors(row.record);
  return { ...row, record, text: JSON.stringify(record) };
}

/**
 * The JSON of a row that is written.
 *
 * @param text the JSON of the record, if it was made already
 * @throws FlowmeshError ROW_TOO_LARGE, or what keeps it from being JSON: nothing of its commit may be written
 */
export function rowText(record: FlowRecord, text = JSON.stringify(record)): string {
  if (isWithin(text, ROW_BYTES_MAX)) return text;
  const { kind, uid } = record;
  throw new FlowmeshError(
    'ROW_TOO_LARGE',
    `the ${kind} record ${uid} has more than ROW_BYTES_MAX (${ROW_BYTES_MAX}) bytes, which no message to another peer carries; give it smaller data`,
    { details: { limit: 'ROW_BYTES_MAX', maximum: ROW_BYTES_MAX, kind, uid } },
  );
}

/** Whether the JSON of a row has a size that a row may have. */
export function isRowSize(text: string): boolean {
  return isWithin(text, ROW_BYTES_MAX);
}

/** Whether a value has more levels of lists and objects than this. Goes no deeper, so that it is safe for any value. */
export function nestsBeyond(value: unknown, levels: number): boolean {
  if (typeof value !== 'object' || value === null) return false;
  if (levels === 0) return true;
  for (const inner of Object.values(value)) if (nestsBeyond(inner, levels - 1)) return true;
  return false;
}

/** UTF-8 has at most three bytes for each UTF-16 unit. */
function isWithin(text: string, bytesMax: number): boolean {
  return text.length * 3 <= bytesMax || Buffer.byteLength(text) <= bytesMax;
}
