/** `task_retry`: runs a task that ended badly once more. */
import { z } from 'zod';
import { DURATION_MS_MAX, RETRIES_MAX } from '../../dag/limits.ts';
import { uidHere } from '../call/route.ts';
import { defineMeshTool } from '../definition.ts';
import { countOut, taskIdField } from '../fields.ts';
import { queuePositionOut } from './view.ts';

export const taskRetry = defineMeshTool({
  name: 'task_retry',
  title: 'Retry a task',
  description:
    'Submits a task that failed, was cancelled or is a dead letter once more, as a new task with the same action and payload: the old record stays as it is. Use it after the cause was removed. It answers the id of the new task; a task that has not ended, or that completed, is INVALID_STATE.',
  input: z.strictObject({
    task_id: taskIdField,
    retry_config: z
      .strictObject({
        max_retries: z.number().int().min(0).max(RETRIES_MAX).optional().describe('Retries of the new task.'),
        timeout_ms: z.number().int().min(1).max(DURATION_MS_MAX).optional().describe('Timeout of the new task.'),
      })
      .default({})
      .describe('What is different for the new task; the rest is as it was.'),
  }),
  output: z.object({
    task_id: z.string().describe('The old task.'),
    retry_task_id: z.string().describe('The new task, e.g. `<task_id>-retry-1`.'),
    retry_count: countOut.describe('How often this piece of work was retried, this time included.'),
    queue_position: queuePositionOut,
  }),
  annotations: { readOnlyHint: false, destructiveHint: false, idempotentHint: false, openWorldHint: true },
  permission: 'task:write',
  about: ({ task_id }) => ({ kind: 'task', id: task_id }),
  cli: { positional: ['task_id'] },
  async handler({ task_id, retry_config }, { scheduler }) {
    const uid = await uidHere(scheduler, { kind: 'task', id: task_id });
    const { max_retries, timeout_ms } = retry_config;
    const { record, queue_position } = await scheduler.retryTask(uid, { max_retries, timeout_ms });
    return { task_id, retry_task_id: record.task_id, retry_count: record.retry_count, queue_position };
  },
});
