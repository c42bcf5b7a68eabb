/** `queue_pause`: no new starts. */
import { z } from 'zod';
import { isoTime } from '../../scheduler/ids.ts';
import { askPeers } from '../call/merge.ts';
import { defineMeshTool } from '../definition.ts';
import { changeScopeField, countOut, missingOut, reasonField } from '../fields.ts';
import { queueCounts } from './state.ts';

const output = z.object({
  status: z.literal('paused'),
  paused_at: z.string().describe('ISO 8601 UTC; of this peer’s queue, since when it is paused.'),
  reason: z.string().nullable(),
  queued_tasks: countOut.describe('Tasks that wait for queue_resume.'),
  running_tasks: countOut.describe('Tasks that run on to their end.'),
  missing: missingOut,
});

export const queuePause = defineMeshTool({
  name: 'queue_pause',
  title: 'Pause the queue',
  description:
    'Stops this peer from starting tasks that wait in its queue; what runs goes on, and submits are still accepted. Use it before maintenance or while something that tasks depend on is down; queue_resume ends it. With scope "mesh" the queues of all connected peers are paused. A paused queue stays paused over a restart.',
  input: z.strictObject({ reason: reasonField, scope: changeScopeField }),
  output,
  annotations: { readOnlyHint: false, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  permission: 'queue:admin',
  cli: {},
  async handler({ reason, scope }, context) {
    const [queue, others] = await Promise.all([
      context.scheduler.pauseQueue(reason),
      scope === 'mesh'
        ? askPeers(context, 'queue_pause', output, { ...(reason !== undefined && { reason }) })
        : undefined,
    ]);
    const own = await queueCounts(context);
    const all = [own, ...(others?.answers.map((answer) => answer.output) ?? [])];
    return {
      status: 'paused' as const,
      paused_at: queue.paused_at ?? isoTime(context.clock.wall()),
      reason: queue.reason,
      queued_tasks: all.reduce((sum, counts) => sum + counts.queued_tasks, 0),
      running_tasks: all.reduce((sum, counts) => sum + counts.running_tasks, 0),
      ...(others && { missing: others.missing }),
    };
  },
});
