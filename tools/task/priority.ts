/** `task_priority`: moves a task in the queue. */
import { z } from 'zod';
import { PRIORITY_MAX } from '../../dag/limits.ts';
import { uidHere } from '../call/route.ts';
import { defineMeshTool } from '../definition.ts';
import { taskIdField } from '../fields.ts';
import { queuePositionOut } from './view.ts';

const CHANGES = ['new_priority', 'boost', 'demote'] as const;
const step = z.number().positive().max(PRIORITY_MAX);

export const taskPriority = defineMeshTool({
  name: 'task_priority',
  title: 'Change the priority of a task',
  description:
    'Changes the priority of a task that waits, so that it runs earlier or later: to a value (new_priority), or by a difference (boost up, demote down), always within 0–10. Give exactly one of the three. It answers the old and the new priority and the new place in the queue; a task that ended is INVALID_STATE.',
  input: z
    .strictObject({
      task_id: taskIdField,
      new_priority: z.number().min(0).max(PRIORITY_MAX).optional().describe('The priority to set, 0–10.'),
      boost: step.optional().describe('How much to add.'),
      demote: step.optional().describe('How much to take away.'),
      requeue: z
        .boolean()
        .default(true)
        .describe('True: its place in the queue changes now. False: the priority counts the next time it is queued.'),
    })
    .refine((input) => CHANGES.filter((field) => input[field] !== undefined).length === 1, {
      error: 'give exactly one of new_priority, boost and demote',
    }),
  output: z.object({
    task_id: z.string(),
    old_priority: z.number(),
    new_priority: z.number(),
    new_queue_position: queuePositionOut,
  }),
  annotations: { readOnlyHint: false, destructiveHint: false, idempotentHint: false, openWorldHint: false },
  permission: 'task:write',
  about: ({ task_id }) => ({ kind: 'task', id: task_id }),
  cli: { positional: ['task_id'] },
  async handler({ task_id, new_priority, boost, demote, requeue }, { scheduler }) {
    const uid = await uidHere(scheduler, { kind: 'task', id: task_id });
    const change =
      new_priority !== undefined ? { new_priority } : boost !== undefined ? { boost } : { demote: demote ?? 0 };
    return { task_id, ...(await scheduler.setPriority(uid, change, { requeue })) };
  },
});
