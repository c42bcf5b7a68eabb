/** The kept lines of a task: the last ones of all its attempts, at most LOG_LINES_MAX and LOG_BYTES_MAX. */
import type { JsonValue } from '../../dag/errors.ts';
import { jsonBytes } from '../../dag/limits.ts';
import { LOG_BYTES_MAX, LOG_LINES_MAX } from '../limits.ts';
import type { LogLine, LogRecord } from '../records.ts';
import { logUid } from '../uids.ts';

/** The most that a character takes as escaped JSON, and that a line takes besides its text. */
const BYTES_PER_CHAR_MAX = 6;
const LINE_FRAME_BYTES_MAX = 128;

/** The log of a task with more lines. @param dropped how many lines its worker could not keep */
export function withLines(
  known: LogRecord | null,
  taskUid: string,
  lines: readonly LogLine[],
  dropped: number,
): LogRecord {
  const kept = newestLines([...(known?.lines ?? []), ...lines]);
  return {
    kind: 'log',
    uid: logUid(taskUid),
    task_uid: taskUid,
    lines: kept.lines,
    dropped_lines: (known?.dropped_lines ?? 0) + kept.dropped + dropped,
  };
}

/** The last lines that LOG_LINES_MAX and LOG_BYTES_MAX allow, and how many older ones are dropped. */
export function newestLines(lines: readonly LogLine[]): { lines: LogLine[]; dropped: number } {
  const first = Math.max(lines.length - LOG_LINES_MAX, 0);
  let from = lines.length;
  // Nearly always all lines fit, which an upper bound shows without making their JSON.
  if (atMost(lines) <= LOG_BYTES_MAX) from = first;
  for (let bytes = 0; from > first; from--) {
    bytes += jsonBytes(lines[from - 1] as unknown as JsonValue) + 1;
    if (bytes > LOG_BYTES_MAX) break;
  }
  return { lines: lines.slice(from), dropped: from };
}

function atMost(lines: readonly LogLine[]): number {
  return lines.reduce((sum, { line }) => sum + line.length * BYTES_PER_CHAR_MAX + LINE_FRAME_BYTES_MAX, 0);
}
