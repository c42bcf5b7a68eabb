/** The kept log lines of tasks, as answers show them. */
import { z } from 'zod';
import type { Reader } from '../../scheduler/ports.ts';
import { type LogLine, logLineSchema, type TaskRecord } from '../../scheduler/records.ts';

/** Log lines in one answer. */
export const LOG_LINES_ANSWER_MAX = 10_000;

export const logLineOut = logLineSchema.describe('One line: when, of which attempt, where it was printed.');

export const workflowLogLineOut = logLineSchema.extend({
  task_id: z.string(),
  step_id: z.string().nullable(),
  index: z.number().int().nullable().describe('The item, in a `foreach` step.'),
});
type WorkflowLogLine = z.infer<typeof workflowLogLineOut>;

/** The lines kept of one task, oldest first, and how many more there were. */
export async function logsOf(reader: Reader, taskUid: string): Promise<{ logs: LogLine[]; logs_dropped: number }> {
  const log = await reader.get('log', `${taskUid}/log`);
  return { logs: log?.lines ?? [], logs_dropped: log?.dropped_lines ?? 0 };
}

/** The lines of several tasks in their order, at most LOG_LINES_ANSWER_MAX of them. */
export async function keptLogs(
  reader: Reader,
  tasks: TaskRecord[],
): Promise<{ logs: WorkflowLogLine[]; logs_dropped: number }> {
  const logs: WorkflowLogLine[] = [];
  let dropped = 0;
  for (const { uid, task_id, step_id, index } of tasks) {
    const kept = await logsOf(reader, uid);
    const room = kept.logs.slice(0, LOG_LINES_ANSWER_MAX - logs.length);
    for (const line of room) logs.push({ ...line, task_id, step_id, index });
    dropped += kept.logs_dropped + kept.logs.length - room.length;
  }
  return { logs, logs_dropped: dropped };
}
