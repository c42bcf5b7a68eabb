/** `task_cancel`: ends one task early. */
import { z } from 'zod';
import { isoTime } from '../../scheduler/ids.ts';
import { taskStatusSchema } from '../../scheduler/records.ts';
import { uidHere } from '../call/route.ts';
import { defineMeshTool } from '../definition.ts';
import { forceField, pendingOut, reasonField, taskIdField, timeOut } from '../fields.ts';

export const taskCancel = defineMeshTool({
  name: 'task_cancel',
  title: 'Cancel a task',
  description:
    'Takes a task out of the queue, or tells the worker that runs it to stop, on whichever peer that is; with force its process is killed at once. Use it when the result is no longer wanted; task_retry can run it again later. A task that ended already is INVALID_STATE and stays as it is.',
  input: z.strictObject({ task_id: taskIdField, reason: reasonField, force: forceField }),
  output: z.object({
    task_id: z.string(),
    status: taskStatusSchema,
    cancelled_at: timeOut,
    pending: pendingOut,
    cleanup_required: z
      .boolean()
      .describe('True when it was running: its action is being ended, and what it did until then is not undone.'),
  }),
  annotations: { readOnlyHint: false, destructiveHint: true, idempotentHint: true, openWorldHint: false },
  permission: 'task:write',
  about: ({ task_id }) => ({ kind: 'task', id: task_id }),
  cli: { positional: ['task_id'] },
  whenKept: ({ task_id }, { status }) => ({
    task_id,
    status: taskStatusSchema.parse(status),
    cancelled_at: null,
    cleanup_required: false,
    pending: true,
  }),
  async handler({ task_id, reason, force }, { scheduler, clock }) {
    const uid = await uidHere(scheduler, { kind: 'task', id: task_id });
    const { record, cleanup_required } = await scheduler.cancelTask(uid, { reason, force });
    return {
      task_id,
      status: record.status,
      cancelled_at: record.ended_at ?? isoTime(clock.wall()),
      cleanup_required,
    };
  },
});
