/** `task_result`: what came out of a task. */
import { z } from 'zod';
import { anyJson } from '../../dag/json.ts';
import { errorSchema, taskStatusSchema } from '../../scheduler/records.ts';
import { bytesUpTo, cutJson, cutsOut, maxBytesField, truncatedOut, WHOLE } from '../cut.ts';
import { defineReadTool } from '../definition.ts';
import { countOut, msOut, staleOut, taskIdField } from '../fields.ts';
import { logLineOut, logsOf } from './logs.ts';

export const taskResult = defineReadTool({
  name: 'task_result',
  title: 'Result of a task',
  description:
    'Gives what a task produced: the value its action returned, or its error, and with include_logs what it printed. Use it when task_status says that the task ended. While it still waits or runs, result is null and status says so; that is not an error.',
  input: z.strictObject({
    task_id: taskIdField,
    include_output: z.boolean().default(true).describe('Also as `output`, the name that expressions use for it.'),
    include_logs: z.boolean().default(false).describe('The kept lines of what it printed.'),
    max_bytes: maxBytesField,
  }),
  output: z.object({
    task_id: z.string(),
    status: taskStatusSchema,
    result: anyJson.describe('What the action returned; null until it completed.'),
    output: anyJson.optional().describe('The same value as `result`, with include_output.'),
    truncated: truncatedOut,
    cuts: cutsOut,
    error: errorSchema.nullable().describe('Why it failed or was cancelled.'),
    dead_letter: z.boolean(),
    stale_ms: staleOut,
    logs: z.array(logLineOut).optional().describe('Oldest first, with include_logs.'),
    logs_dropped: countOut.optional().describe('Lines that were not kept because there were too many.'),
    execution_time_ms: msOut.describe('What the last attempt ran; null until it ended.'),
    attempts: countOut.describe('Starts, the last one included.'),
  }),
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  permission: 'task:read',
  about: ({ task_id }) => ({ kind: 'task', id: task_id }),
  cli: { positional: ['task_id'], whole: WHOLE },
  async handler({ task_id, include_output, include_logs, max_bytes }, { reader, record }) {
    const task = await record('task', task_id);
    if (task === undefined) return undefined;
    // With include_output the output is in the answer twice. Logs get half of the bytes, and what the output leaves.
    const copies = include_output ? 2 : 1;
    const forOutput = Math.floor((include_logs ? max_bytes / 2 : max_bytes) / copies);
    const { value, cuts } = cutJson(task.output, forOutput, 'result');
    const forLogs = max_bytes - bytesUpTo(value, forOutput) * copies;
    const { truncated = false, ...logs } = include_logs ? await logsOf(reader, task.uid, forLogs) : {};
    return {
      task_id,
      status: task.status,
      result: value,
      ...(include_output && { output: value }),
      truncated: truncated || cuts.length > 0,
      ...(cuts.length > 0 && { cuts }),
      error: task.error,
      dead_letter: task.dead_letter,
      ...logs,
      execution_time_ms: task.execution_time_ms,
      attempts: task.attempt,
    };
  },
});
