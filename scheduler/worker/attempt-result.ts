/**
 * The result that a worker reports of an ended attempt. It is made of what an action gave, so whatever is wrong with
 * that fails this attempt and nothing else: nothing is thrown from here.
 */
import { type ErrorShape, errorShape, FlowmeshError, type JsonValue } from '../../dag/errors.ts';
import { outputError, walkJson } from '../../dag/json.ts';
import { JSON_ELEMENT_BYTES, jsonBytes, OUTPUT_BYTES_MAX } from '../../dag/limits.ts';
import { RESULT_BATCH_BYTES } from '../limits.ts';
import type { AttemptResult, Lease, LeaseToken } from '../messages.ts';
import type { LogLine } from '../records.ts';

export interface EndedAttempt {
  lease: Lease;
  /** Why the attempt was ended early, which decides its status; null when it ended by itself. */
  ending: 'cancel' | 'timeout' | 'hand_back' | null;
  /** Monotonic: when the attempt began. */
  started: number;
  /** Log lines since the last report. */
  lines: LogLine[];
  /** How many older lines had to make room. */
  dropped: number;
}

/** What an action gave: an output, or whatever it threw. */
export type ActionEnd = { output: JsonValue } | { thrown: unknown };

/**
 * @param now monotonic
 * @returns the result, and roughly how many bytes it takes in a frame. Never throws
 */
export function resultOf(attempt: EndedAttempt, end: ActionEnd, now: number): { result: AttemptResult; bytes: number } {
  try {
    if ('output' in end) return told(attempt, end.output ?? null, null, now);
    return told(attempt, null, errorShape(end.thrown), now);
  } catch (cause) {
    return told(attempt, null, unreadable(cause), now);
  }
}

/** For an output that is not JSON or too deep to read. The cause is an error of the engine, so its text is short. */
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

/** Checks that an output can be kept and carried. The errors are final: every attempt would give the same output. */
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

/** The last lines that fit into `maximum` bytes: with a large output, all of them would not fit into one frame. */
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

/** A token as a key, unique among all owners, as it names the feed. `join` makes one flat string: many are kept. */
export function keyOf({ uid, feed_id, epoch, attempt }: LeaseToken): string {
  return [feed_id, epoch, uid, attempt].join('/');
}
