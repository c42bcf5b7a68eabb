/** `worker_unregister`: takes a worker out of service. */
import { z } from 'zod';
import { DURATION_MS_MAX } from '../../dag/limits.ts';
import { isoTime } from '../../scheduler/ids.ts';
import { defineMeshTool } from '../definition.ts';
import { countOut, workerIdField } from '../fields.ts';

/** Less than clients wait for an answer. */
const DRAIN_MS_DEFAULT = 25_000;

export const workerUnregister = defineMeshTool({
  name: 'worker_unregister',
  title: 'Unregister a worker',
  description:
    'Takes a worker out of service, on whichever peer it is. Gracefully it takes nothing new and the call waits up to timeout_ms for the tasks it runs; what runs then, or at once without graceful, is ended and put back in the queues of its owners. Use it before a peer is stopped or a pool is made anew.',
  input: z.strictObject({
    worker_id: workerIdField,
    graceful: z.boolean().default(true).describe('Let the tasks that it runs end first.'),
    timeout_ms: z
      .number()
      .int()
      .min(0)
      .max(DURATION_MS_MAX)
      .default(DRAIN_MS_DEFAULT)
      .describe('How long to wait for them, in milliseconds; what runs then is started again elsewhere.'),
  }),
  output: z.object({
    worker_id: z.string(),
    status: z.literal('offline'),
    unregistered_at: z.string().describe('ISO 8601 UTC.'),
    completed_tasks: countOut.describe('Tasks that ended while it was waited for.'),
    abandoned_tasks: countOut.describe('Tasks put back in their queues.'),
  }),
  annotations: { readOnlyHint: false, destructiveHint: true, idempotentHint: true, openWorldHint: false },
  permission: 'worker:write',
  about: ({ worker_id }) => ({ kind: 'worker', id: worker_id }),
  waitMs: ({ graceful, timeout_ms }) => (graceful ? timeout_ms : 0),
  cli: { positional: ['worker_id'] },
  async handler({ worker_id, graceful, timeout_ms }, { scheduler, clock }) {
    const ended = await scheduler.unregisterWorker(worker_id, { graceful, timeout_ms });
    return { worker_id, status: 'offline' as const, unregistered_at: isoTime(clock.wall()), ...ended };
  },
});
