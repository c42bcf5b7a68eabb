/**
 * The operation behind `flowmesh task answer`: a person's yes or no to a task that waits as `input_required`. It is
 * not a tool over MCP and not in the registry; it is routed to the task's owner by the same `callTool`.
 */
import { z } from 'zod';
import { anyJson } from '../../dag/json.ts';
import { taskStatusSchema } from '../../scheduler/records.ts';
import { uidHere } from '../call/route.ts';
import { defineMeshTool } from '../definition.ts';
import { pendingOut, taskIdField } from '../fields.ts';

export const answerOperation = defineMeshTool({
  name: 'task_answer',
  title: 'Answer a task that waits for a person',
  description:
    'Approves or rejects a task of the action `approve`. Approved, it completes with `{ approved, data }`; rejected, it fails with REJECTED. A task that does not wait for an answer is INVALID_STATE.',
  input: z.strictObject({
    task_id: taskIdField,
    approve: z.boolean().describe('True to approve, false to reject.'),
    data: anyJson.default(null).describe('Anything the following steps should see, as `output.data` of the step.'),
  }),
  output: z.object({ task_id: z.string(), status: taskStatusSchema, approved: z.boolean(), pending: pendingOut }),
  annotations: { readOnlyHint: false, destructiveHint: false, idempotentHint: false, openWorldHint: false },
  permission: 'task:write',
  about: ({ task_id }) => ({ kind: 'task', id: task_id }),
  cli: { positional: ['task_id'] },
  whenKept: ({ task_id, approve }, { status }) => ({
    task_id,
    status: taskStatusSchema.parse(status),
    approved: approve,
    pending: true,
  }),
  async handler({ task_id, approve, data }, { scheduler }) {
    const uid = await uidHere(scheduler, { kind: 'task', id: task_id });
    const record = await scheduler.answerTask(uid, { approve, data });
    return { task_id, status: record.status, approved: approve };
  },
});
