/** `task_submit`: one unit of work. */
import { z } from 'zod';
import { jsonObject } from '../../dag/json.ts';
import { ACTION_CHARS_MAX, DURATION_MS_MAX, LABEL_CHARS_MAX, PRIORITY_MAX, TAGS_MAX } from '../../dag/limits.ts';
import { idSchema, preferSchema, requiresSchema, retrySchema, waitTimeoutSchema } from '../../dag/schema.ts';
import { taskStatusSchema } from '../../scheduler/records.ts';
import { defineMeshTool } from '../definition.ts';
import { duplicateOut, durabilityOut, warningsOut } from '../fields.ts';
import { queuePositionOut } from './view.ts';

/** Tasks that one task waits for. */
const DEPENDS_ON_MAX = 256;

export const taskSubmit = defineMeshTool({
  name: 'task_submit',
  title: 'Submit a task',
  description:
    'Submits one unit of work to the queue; the mesh runs it on a peer whose worker offers its action and meets `requires`. Use it for a single action; workflow_submit is for several that depend on each other. It answers as soon as the task is kept on disk: task_status shows its progress, task_result its output. Submitting the same task_id with the same content again is safe and answers the existing task; other content is CONFLICT.',
  input: z.strictObject({
    task_id: idSchema.optional().describe('Made when absent. The same id again returns the existing task.'),
    task_type: z
      .string()
      .min(1)
      .max(ACTION_CHARS_MAX)
      .describe(
        'The action: shell, http, echo, sleep, approve, or fn:<name>; `action` of the steps of workflow_submit says what each takes and returns.',
      ),
    payload: jsonObject.default({}).describe('The inputs of the action, e.g. { "command": ["wc", "-l", "a.txt"] }.'),
    priority: z.number().min(0).max(PRIORITY_MAX).default(1).describe('Higher runs first, 0–10.'),
    tags: z
      .array(z.string().min(1).max(LABEL_CHARS_MAX))
      .max(TAGS_MAX)
      .default([])
      .describe('Words to find it by in task_list.'),
    timeout_ms: z
      .number()
      .int()
      .min(1)
      .max(DURATION_MS_MAX)
      .optional()
      .describe('An attempt that runs longer is ended and has failed.'),
    retry_policy: retrySchema
      .default(() => retrySchema.parse({}))
      .describe('When a failed attempt is made again; without it, never.'),
    delay_ms: z
      .number()
      .int()
      .min(0)
      .max(DURATION_MS_MAX)
      .optional()
      .describe('Not started before this long from now.'),
    deadline: z.iso
      .datetime({ offset: true, error: 'must be a time such as 2027-01-31T12:00:00Z' })
      .optional()
      .describe('ISO 8601: not started after this; a task that still waits then has failed.'),
    requires: requiresSchema
      .default(() => requiresSchema.parse({}))
      .describe('What the worker must offer besides the action: labels, cpu_cores, memory_gb, or one of some peers.'),
    prefer: preferSchema,
    wait_timeout_ms: waitTimeoutSchema,
    depends_on: z
      .array(idSchema)
      .max(DEPENDS_ON_MAX)
      .default([])
      .describe('Ids of tasks that must complete before this one starts.'),
    at_most_once: z
      .boolean()
      .default(false)
      .describe('Never start it twice: when its worker is lost, it has failed instead of being run again.'),
    metadata: jsonObject.default({}).describe('Kept with the task, not interpreted.'),
  }),
  output: z.object({
    task_id: z.string().describe('What the other task tools take.'),
    status: taskStatusSchema.describe('Its status now.'),
    queue_position: queuePositionOut,
    estimated_start_time: z.string().describe('When it is expected to start, ISO 8601 UTC.'),
    assigned_worker: z.string().nullable().describe('The worker that has it already, or null while it waits.'),
    owner_peer_id: z.string().describe('The peer that keeps its record.'),
    durability: durabilityOut,
    duplicate: duplicateOut,
    warnings: warningsOut,
  }),
  annotations: { readOnlyHint: false, destructiveHint: false, idempotentHint: false, openWorldHint: true },
  permission: 'task:write',
  cli: { positional: ['task_type'] },
  async handler({ task_id, retry_policy, timeout_ms, delay_ms, deadline, ...rest }, { scheduler, self, caller }) {
    const submitted = await scheduler.submitTask({
      ...rest,
      task_id,
      timeout_ms,
      delay_ms,
      deadline,
      retry: retry_policy,
      submitted_by: caller.id ?? undefined,
    });
    const { record, duplicate, durability, queue_position, estimated_start_time, warnings } = submitted;
    return {
      task_id: record.task_id,
      status: record.status,
      queue_position,
      estimated_start_time,
      assigned_worker: record.worker_id,
      owner_peer_id: self,
      durability,
      ...(duplicate && { duplicate }),
      ...(warnings.length > 0 && { warnings }),
    };
  },
});
