/** `queue_clear`: removes tasks that do not run. */
import { z } from 'zod';
import { isoTime } from '../../scheduler/ids.ts';
import { defineMeshTool } from '../definition.ts';
import { ConfirmRequiredError } from '../errors.ts';
import { countOut } from '../fields.ts';

export const queueClear = defineMeshTool({
  name: 'queue_clear',
  title: 'Clear the queue',
  description:
    'Removes tasks of this peer that do not run, for good: those with one status, or without a filter all of them. Use it to empty a queue of unwanted work or to drop dead letters; running tasks are left alone (task_cancel ends one). It does nothing unless confirm is true.',
  input: z.strictObject({
    confirm: z.boolean().describe('Must be true: what is cleared does not come back.'),
    status_filter: z
      .enum(['queued', 'failed', 'cancelled', 'dead_letter'])
      .optional()
      .describe('Only these; when absent, every task that does not run.'),
  }),
  output: z.object({
    cleared_count: countOut,
    remaining_count: countOut.describe('Tasks that are left.'),
    cleared_at: z.string().describe('ISO 8601 UTC.'),
  }),
  annotations: { readOnlyHint: false, destructiveHint: true, idempotentHint: true, openWorldHint: false },
  permission: 'queue:admin',
  cli: {},
  async handler({ confirm, status_filter }, { scheduler, clock }) {
    if (!confirm) throw new ConfirmRequiredError();
    return { ...(await scheduler.clearQueue(status_filter)), cleared_at: isoTime(clock.wall()) };
  },
});
