/** `queue_resume`: the end of a pause. */
import { z } from 'zod';
import { isoTime } from '../../scheduler/ids.ts';
import { askPeers } from '../call/merge.ts';
import { defineMeshTool } from '../definition.ts';
import { changeScopeField, countOut, missingOut } from '../fields.ts';
import { queueCounts } from './state.ts';

const output = z.object({
  status: z.literal('active'),
  resumed_at: z.string().describe('ISO 8601 UTC.'),
  queued_tasks: countOut.describe('Tasks that may start now.'),
  reordered: z.boolean().describe('True when the order of waiting tasks changed by the resume.'),
  missing: missingOut,
});

export const queueResume = defineMeshTool({
  name: 'queue_resume',
  title: 'Resume the queue',
  description:
    'Ends a pause: waiting tasks start again as workers have free slots, higher priority first. With scope "mesh" the queues of all connected peers are resumed. Resuming a queue that is not paused changes nothing.',
  input: z.strictObject({
    reorder_by_priority: z
      .boolean()
      .default(true)
      .describe('Waiting tasks take the places that their priorities give them, also those changed without requeue.'),
    scope: changeScopeField,
  }),
  output,
  annotations: { readOnlyHint: false, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  permission: 'queue:admin',
  cli: {},
  async handler({ reorder_by_priority, scope }, context) {
    const [{ reordered }, others] = await Promise.all([
      context.scheduler.resumeQueue({ reorder_by_priority }),
      scope === 'mesh' ? askPeers(context, 'queue_resume', output, { reorder_by_priority }) : undefined,
    ]);
    const own = { ...(await queueCounts(context)), reordered };
    const all = [own, ...(others?.answers.map((answer) => answer.output) ?? [])];
    return {
      status: 'active' as const,
      resumed_at: isoTime(context.clock.wall()),
      queued_tasks: all.reduce((sum, counts) => sum + counts.queued_tasks, 0),
      reordered: all.some((answer) => answer.reordered),
      ...(others && { missing: others.missing }),
    };
  },
});
