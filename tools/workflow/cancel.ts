/** `workflow_cancel`: ends a run early. */
import { z } from 'zod';
import { workflowStatusSchema } from '../../scheduler/records.ts';
import { uidHere } from '../call/route.ts';
import { defineMeshTool } from '../definition.ts';
import { forceField, pendingOut, reasonField, workflowIdField } from '../fields.ts';

export const workflowCancel = defineMeshTool({
  name: 'workflow_cancel',
  title: 'Cancel a workflow',
  description:
    'Ends a workflow that has not ended yet: nothing new starts, and steps that run are told to stop on whichever peer they are; with force they are killed at once. Use it when the result is no longer wanted. It answers when the cancel is kept on disk, with the steps it cut short; a workflow that ended already is INVALID_STATE and stays as it is.',
  input: z.strictObject({ workflow_id: workflowIdField, reason: reasonField, force: forceField }),
  output: z.object({
    workflow_id: z.string(),
    status: workflowStatusSchema.describe('`cancelled`, or what it is until its running steps have stopped.'),
    cancelled_steps: z.array(z.string()).describe('Steps that had not ended.'),
    pending: pendingOut,
    message: z.string().describe('The same in one sentence.'),
  }),
  annotations: { readOnlyHint: false, destructiveHint: true, idempotentHint: true, openWorldHint: false },
  permission: 'workflow:write',
  about: ({ workflow_id }) => ({ kind: 'workflow', id: workflow_id }),
  cli: { positional: ['workflow_id'] },
  whenKept: ({ workflow_id }, { status }) => ({
    workflow_id,
    status: workflowStatusSchema.parse(status),
    cancelled_steps: [],
    pending: true,
    message: `${workflow_id} cannot be cancelled now, because its owner cannot be reached; the cancel is kept until somebody can`,
  }),
  async handler({ workflow_id, reason, force }, { scheduler }) {
    const uid = await uidHere(scheduler, { kind: 'workflow', id: workflow_id });
    const { record, cancelled_steps } = await scheduler.cancelWorkflow(uid, { reason, force });
    return {
      workflow_id,
      status: record.status,
      cancelled_steps,
      message: `${workflow_id} is cancelled; ${cancelled_steps.length} of its ${record.steps_total} steps had not ended`,
    };
  },
});
