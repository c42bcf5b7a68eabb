/** The kept lines of a task: the last LOG_LINES_MAX of all its attempts. */
import { LOG_LINES_MAX } from './limits.ts';
import type { LogLine, LogRecord } from './records.ts';

/** The log of a task with more lines; `dropped` are those that its worker could not keep. */
export function withLines(
  known: LogRecord | null,
  taskUid: string,
  lines: readonly LogLine[],
  dropped: number,
): LogRecord {
  const all = [...(known?.lines ?? []), ...lines];
  const surplus = Math.max(all.length - LOG_LINES_MAX, 0);
  return {
    kind: 'log',
    uid: `${taskUid}/log`,
    task_uid: taskUid,
    lines: all.slice(surplus),
    dropped_lines: (known?.dropped_lines ?? 0) + surplus + dropped,
  };
}
