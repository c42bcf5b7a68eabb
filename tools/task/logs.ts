/** The kept log lines of tasks, as answers show them. */
import { z } from 'zod';
import type { Reader } from '../../scheduler/ports.ts';
import { type LogLine, logLineSchema, type TaskRecord } from '../../scheduler/records.ts';
import { logUid } from '../../scheduler/uids.ts';
import { bytesUpTo } from '../cut.ts';

/** Log lines in one answer. */
export const LOG_LINES_ANSWER_MAX = 10_000;

export const logLineOut = logLineSchema.describe('One line: when, of which attempt, where it was printed.');

export const workflowLogLineOut = logLineSchema.extend({
  task_id: z.string(),
  step_id: z.string().nullable(),
  index: z.number().int().nullable().describe('The item, in a `foreach` step.'),
});
type WorkflowLogLine = z.infer<typeof workflowLogLineOut>;

/** The kept lines of one task, oldest first, and how many older ones were dropped. */
async function linesOf(reader: Reader, taskUid: string): Promise<{ logs: LogLine[]; logs_dropped: number }> {
  const log = await reader.get('log', logUid(taskUid));
  return { logs: log?.lines ?? [], logs_dropped: log?.dropped_lines ?? 0 };
}

/** The newest kept lines of one task that fit into `bytesMax`, oldest first, and how many older ones there were. */
export async function logsOf(
  reader: Reader,
  taskUid: string,
  bytesMax: number,
): Promise<{ logs: LogLine[]; logs_dropped: number; truncated: boolean }> {
  const { logs: all, logs_dropped } = await linesOf(reader, taskUid);
  let first = all.length;
  for (let left = bytesMax; first > 0; first--) {
    left -= bytesUpTo(all[first - 1]!, left) + 1;
    if (left < 0) break;
  }
  return { logs: all.slice(first), logs_dropped: logs_dropped + first, truncated: first > 0 };
}

/** The lines of several tasks, in the order of the tasks; at most LOG_LINES_ANSWER_MAX lines and `bytesMax` of JSON. */
export async function keptLogs(
  reader: Reader,
  tasks: TaskRecord[],
  bytesMax: number,
): Promise<{ logs: WorkflowLogLine[]; logs_dropped: number; truncated: boolean }> {
  const logs: WorkflowLogLine[] = [];
  let dropped = 0;
  let left = bytesMax;
  let truncated = false;
  for (const { uid, task_id, step_id, index } of tasks) {
    const kept = await linesOf(reader, uid);
    dropped += kept.logs_dropped;
    for (const line of kept.logs) {
      const shown = { ...line, task_id, step_id, index };
      left -= left < 0 ? 0 : bytesUpTo(shown, left) + 1;
      truncated ||= left < 0 || logs.length === LOG_LINES_ANSWER_MAX;
      if (truncated) dropped += 1;
      else logs.push(shown);
    }
  }
  return { logs, logs_dropped: dropped, truncated };
}
