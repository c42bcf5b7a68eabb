/** `workflow_submit`: the way work gets into the mesh. */
import { z } from 'zod';
import { checkLimits, workflowSchema } from '../../dag/schema.ts';
import { COPIES_MAX } from '../../scheduler/limits.ts';
import { workflowStatusSchema } from '../../scheduler/records.ts';
import { defineMeshTool } from '../definition.ts';
import { duplicateOut, durabilityOut, warningsOut } from '../fields.ts';

const fields = workflowSchema.shape;

export const workflowSubmit = defineMeshTool({
  name: 'workflow_submit',
  title: 'Submit a workflow',
  description:
    'Submits a workflow: steps that depend on each other, placed on the peers of the mesh and run there. Use it for work of several steps, for a fan-out over a list (`foreach`), or for anything that needs conditions, retries or approval; task_submit is enough for one unit of work. It answers as soon as the workflow is kept on disk, without waiting for it to run: ask workflow_status for its progress and workflow_result for the result. Submitting the same workflow_id with the same content again is safe and answers the existing run; other content is CONFLICT.',
  input: workflowSchema.safeExtend({
    name: fields.name.describe('What people call it.'),
    steps: fields.steps.describe(
      'The steps. Each names an action, its inputs, and the steps it depends on; `${ steps.<step_id>.output }` in its inputs is the output of one of these.',
    ),
    tags: fields.tags.describe('Words to find it by in workflow_list.'),
    copies: z
      .number()
      .int()
      .min(1)
      .max(COPIES_MAX)
      .optional()
      .describe(
        'On how many disks the records are kept; when absent, as many as the peer that accepts it is told to (`copies`).',
      ),
    require_copies: z
      .boolean()
      .default(false)
      .describe('True: when there are too few peers for `copies`, nothing runs and the answer is TOO_FEW_COPIES.'),
  }),
  output: z.object({
    workflow_id: z.string().describe('What the other workflow tools take.'),
    status: workflowStatusSchema.describe('Its status now.'),
    peer_assigned: z.string().describe('The peer that owns the workflow and places its steps.'),
    estimated_start_time: z.string().describe('When its first step is expected to start, ISO 8601 UTC.'),
    durability: durabilityOut,
    duplicate: duplicateOut,
    warnings: warningsOut,
    message: z.string().describe('The same in one sentence.'),
  }),
  annotations: { readOnlyHint: false, destructiveHint: false, idempotentHint: false, openWorldHint: true },
  permission: 'workflow:write',
  cli: {},
  async handler({ copies, require_copies, ...workflow }, context) {
    checkLimits(workflow);
    const { record, duplicate, durability, estimated_start_time, warnings } = await context.scheduler.submitWorkflow({
      workflow,
      copies,
      require_copies,
      submitted_by: context.caller.id ?? undefined,
    });
    const { workflow_id, status } = record;
    return {
      workflow_id,
      status,
      peer_assigned: context.self,
      estimated_start_time,
      durability,
      ...(duplicate && { duplicate }),
      ...(warnings.length > 0 && { warnings }),
      message: duplicate
        ? `${workflow_id} was submitted before with the same content and is ${status}`
        : `${workflow_id} is accepted with ${record.steps_total} ${record.steps_total === 1 ? 'step' : 'steps'}; workflow_status shows its progress`,
    };
  },
});
