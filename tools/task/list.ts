/** `task_list`: what is in the queue and what was. */
import { z } from 'zod';
import { PRIORITY_MAX } from '../../dag/limits.ts';
import { idSchema } from '../../dag/schema.ts';
import { maySee, onlyOf } from '../../scheduler/caller.ts';
import { taskStatusSchema } from '../../scheduler/records.ts';
import { askPeers, mergeLists, newestFirst, type Page } from '../call/merge.ts';
import { defineReadTool, type MeshContext, type ReadContext } from '../definition.ts';
import { RecordNotFoundError } from '../errors.ts';
import { limitField, offsetField, pageOut, scopeField, tagFilterField, workflowIdField } from '../fields.ts';
import { type TaskItem, taskItem, taskItemOut } from './view.ts';

const LIMIT_DEFAULT = 100;

const input = z.strictObject({
  status_filter: taskStatusSchema.optional().describe('Only those with this status.'),
  worker_filter: idSchema.optional().describe('Only those that this worker runs or ran.'),
  workflow_filter: workflowIdField.optional().describe('Only those of the steps of this workflow.'),
  tag_filter: tagFilterField,
  priority_min: z.number().min(0).max(PRIORITY_MAX).optional().describe('Only those of this priority or higher.'),
  dead_letter: z.boolean().default(false).describe('True: only those that failed with their retries used up.'),
  limit: limitField(LIMIT_DEFAULT),
  offset: offsetField,
  scope: scopeField,
});
type Input = z.output<typeof input>;

const output = z.object({ tasks: z.array(taskItemOut).describe('Newest first.'), ...pageOut });

export const taskList = defineReadTool({
  name: 'task_list',
  title: 'List tasks',
  description:
    'Lists tasks, newest first: those submitted by themselves and those of workflow steps. Use it to find a task, to see those of a workflow or what a worker runs, or with dead_letter what failed for good; it shows those of the mesh, with scope "local" those that this peer owns. It answers one page; total_count and has_more say what is left.',
  input,
  output,
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  permission: 'task:read',
  cli: {
    list: {
      field: 'tasks',
      columns: [
        'task_id',
        'task_type',
        'status',
        'progress',
        'priority',
        'worker_id',
        'peer_id',
        'attempt',
        'created_at',
      ],
    },
  },
  async handler(asked, context) {
    return answer(await localPage(asked, asked, context));
  },
  merge: {
    when: ({ scope }) => scope === 'mesh',
    async handler(asked, context) {
      const page = await mergeLists<TaskItem>(
        {
          local: (part) => localPage(asked, part, context),
          async peers(part) {
            const asking = { ...asked, ...part, scope: 'local' };
            const { answers, missing } = await askPeers(context, 'task_list', output, asking);
            return {
              answers: answers.map(({ peer_id, output }) => ({
                peer_id,
                output: { items: output.tasks, total_count: output.total_count, has_more: output.has_more },
              })),
              missing,
            };
          },
        },
        asked,
        newestFirst,
      );
      if (page.total_count === 0 && asked.workflow_filter !== undefined)
        await requireKnown(asked.workflow_filter, context);
      return { ...answer(page), missing: page.missing };
    },
  },
});

/** A list filtered by a mistyped id would be empty, which looks like an answer. @throws RecordNotFoundError */
async function requireKnown(id: string, { scheduler, caller, reader, self }: MeshContext): Promise<void> {
  const alias = { kind: 'workflow', id } as const;
  const place = await scheduler.resolve(alias);
  if (place === undefined) throw new RecordNotFoundError(alias);
  if (caller.others !== 'none') return;
  // Whether it is one of the caller's own is known where it is.
  if (!place.here && place.at.peer_id !== self) {
    const input = { workflow_id: id, include_steps: false };
    await scheduler.call(place.at, { tool: 'workflow_status', input, caller, hops: 1 });
    return;
  }
  const record = await reader.byAlias('workflow', id);
  if (record === undefined || !maySee(caller, record)) throw new RecordNotFoundError(alias);
}

async function localPage(
  { status_filter, worker_filter, workflow_filter, tag_filter, priority_min, dead_letter }: Input,
  { limit, offset }: { limit: number; offset: number },
  { reader, self, caller }: Pick<ReadContext, 'reader' | 'self' | 'caller'>,
): Promise<Page<TaskItem>> {
  const workflow = workflow_filter === undefined ? undefined : await reader.byAlias('workflow', workflow_filter);
  if (workflow_filter !== undefined && workflow === undefined) return { items: [], total_count: 0, has_more: false };
  const { records, total } = await reader.list({
    kind: 'task',
    status: status_filter,
    tags: tag_filter,
    submitted_by: onlyOf(caller),
    worker_id: worker_filter,
    parent: workflow?.uid,
    priority_min,
    dead_letter: dead_letter || undefined,
    limit,
    offset,
  });
  return {
    items: records.map((record) => taskItem(record, self)),
    total_count: total,
    has_more: offset + records.length < total,
  };
}

function answer({ items, total_count, has_more }: Page<TaskItem>) {
  return { tasks: items, total_count, returned_count: items.length, has_more };
}
