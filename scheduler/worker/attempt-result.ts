/**
 * What a worker tells of an attempt that has ended. Made of what an action gave, so whatever is wrong with that fails
 * this attempt and nothing else: nothing is thrown from here.
 */
import { type ErrorShape, errorShape, FlowmeshError, type JsonValue } from '../../dag/errors.ts';
import { outputError, walkJson } from '../../dag/json.ts';
import { JSON_ELEMENT_BYTES, jsonBytes, OUTPUT_BYTES_MAX } from '../../dag/limits.ts';
import { RESULT_BATCH_BYTES } from '../limits.ts';
import type { AttemptResult, Lease, LeaseToken } from '../messages.ts';
import type { LogLine } from '../records.ts';

export interface EndedAttempt {
  lease: Lease;
  /** Why it was ended before its time; decides what is told. */
  ending: 'cancel' | 'timeout' | 'hand_back' | null;
  /** Monotonic. */
  started: number;
  /** Its lines since the last report. */
  lines: LogLine[];
  /** Older ones that had to make room. */
  dropped: number;
}

/** What an action gave: an output, or whatever it threw. */
export type ActionEnd = { output: JsonValue } | { thrown: unknown };

/**
 * @param now monotonic
 * @returns the result, and about how many bytes it takes in a frame. Never throws
 */
export function resultOf(attempt: EndedAttempt, end: ActionEnd, now: number): { result: AttemptResult; bytes: number } {
  try {
    if ('output' in end) return told(attempt, end.output ?? null, null, now);
    return told(attempt, null, errorShape(end.thrown), now);
  } catch (cause) {
    return told(attempt, null, unreadable(cause), now);
  }
}

/** What was given is no JSON, or nests so deep that it cannot be read. Its text is the engine's own, so it is short. */
function unreadable(cause: unknown): ErrorShape {
  const why = cause instanceof Error ? cause.message : 'it cannot be described';
  const message = `what the action gave cannot be told as JSON (${why}); return plain, flat data`;
  return new FlowmeshError('INVALID_OUTPUT', message).toShape();
}

function told(
  attempt: EndedAttempt,
  output: JsonValue,
  error: ErrorShape | null,
  now: number,
): { result: AttemptResult; bytes: number } {
  const checked = error === null ? checkOutput(attempt.lease.action, output) : { error, bytes: 0 };
  const failure = attempt.ending === 'timeout' ? timeoutError(attempt.lease) : checked.error;
  const status = attempt.ending === 'cancel' ? 'cancelled' : failure === null ? 'completed' : 'failed';
  const bytes = status === 'completed' ? checked.bytes : jsonBytes({ error: failure } as unknown as JsonValue);
  const { lines, lineBytes } = linesWithin(attempt.lines, RESULT_BATCH_BYTES - bytes);
  return {
    bytes: bytes + lineBytes,
    result: {
      ...tokenOf(attempt.lease),
      status,
      output: status === 'completed' ? output : null,
      error: status === 'completed' ? null : failure,
      execution_time_ms: Math.max(now - attempt.started, 0),
      lines,
      dropped_lines: attempt.dropped + attempt.lines.length - lines.length,
    },
  };
}

function timeoutError(lease: Lease): ErrorShape {
  const message = `the action ran longer than timeout_ms (${lease.timeout_ms})`;
  return new FlowmeshError('TIMEOUT', message, { retryable: true }).toShape();
}

/** Whether it can be kept and carried: the same at every attempt, so no other one is made for it. */
function checkOutput(action: string, output: JsonValue): { error: ErrorShape | null; bytes: number } {
  const { fault, elements } = walkJson(output, { chars: { limit: 'OUTPUT_BYTES_MAX', maximum: OUTPUT_BYTES_MAX } });
  const over = fault?.kind === 'limit' && fault.limit === 'OUTPUT_BYTES_MAX';
  if (fault !== undefined && !over) return { error: outputError(fault, `the output of ${action}`).toShape(), bytes: 0 };
  const bytes = over ? fault.value : jsonBytes(output);
  if (bytes <= OUTPUT_BYTES_MAX) return { error: null, bytes: Math.max(bytes, JSON_ELEMENT_BYTES * elements) };
  const error = new FlowmeshError(
    'OUTPUT_TOO_LARGE',
    `the output has ${bytes} bytes, more than OUTPUT_BYTES_MAX (${OUTPUT_BYTES_MAX}); write it to a file or store and return where`,
  );
  return { error: error.toShape(), bytes: 0 };
}

/** The last of the lines that fit: with a large output they would not travel in one frame. */
function linesWithin(lines: readonly LogLine[], maximum: number): { lines: LogLine[]; lineBytes: number } {
  let lineBytes = 0;
  let from = lines.length;
  while (from > 0) {
    const size = jsonBytes(lines[from - 1] as unknown as JsonValue);
    if (lineBytes + size > maximum) break;
    lineBytes += size;
    from--;
  }
  return { lines: lines.slice(from), lineBytes };
}

export function tokenOf({ uid, feed_id, epoch, attempt }: LeaseToken): LeaseToken {
  return { uid, feed_id, epoch, attempt };
}

/** Of all owners: tokens are unique by their feed. Joined, which makes one string: many of them are remembered. */
export function keyOf({ uid, feed_id, epoch, attempt }: LeaseToken): string {
  return [feed_id, epoch, uid, attempt].join('/');
}
