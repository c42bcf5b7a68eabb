/** `workflow_list`: what was submitted. */
import { z } from 'zod';
import { onlyOf } from '../../scheduler/caller.ts';
import { type WorkflowRecord, workflowStatusSchema } from '../../scheduler/records.ts';
import { askPeers, mergeLists, newestFirst, type Page } from '../call/merge.ts';
import { defineReadTool, type ReadContext } from '../definition.ts';
import {
  countOut,
  limitField,
  msOut,
  offsetField,
  pageOut,
  peerIdField,
  scopeField,
  submittedByOut,
  tagFilterField,
  timeOut,
} from '../fields.ts';
import { peerIdOf } from '../peer/reference.ts';

const LIMIT_DEFAULT = 50;

const itemOut = z.object({
  workflow_id: z.string(),
  name: z.string(),
  status: workflowStatusSchema,
  progress: z.number(),
  current_step: z.string().nullable(),
  peer_id: z.string().describe('The peer that owns it.'),
  submitted_by: submittedByOut,
  priority: z.number(),
  tags: z.array(z.string()),
  steps_total: countOut,
  steps_ended: countOut,
  created_at: z.string(),
  start_time: timeOut,
  end_time: timeOut,
  execution_time_ms: msOut,
});
type Item = z.infer<typeof itemOut>;

const input = z.strictObject({
  status_filter: workflowStatusSchema.optional().describe('Only those with this status.'),
  peer_filter: peerIdField
    .optional()
    .describe('Only those owned by this peer; when that is another one, it is asked, whatever the scope.'),
  tag_filter: tagFilterField,
  limit: limitField(LIMIT_DEFAULT),
  offset: offsetField,
  scope: scopeField,
});
type Input = z.output<typeof input>;

const output = z.object({ workflows: z.array(itemOut).describe('Newest first.'), ...pageOut });

export const workflowList = defineReadTool({
  name: 'workflow_list',
  title: 'List workflows',
  description:
    'Lists workflows, newest first, with their status and progress. Use it to find a workflow whose id is not at hand, or to see what runs; it shows those of the mesh, with scope "local" those that this peer owns. It answers one page; total_count and has_more say what is left.',
  input,
  output,
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  permission: 'workflow:read',
  cli: {
    list: {
      field: 'workflows',
      columns: ['workflow_id', 'name', 'status', 'progress', 'steps_ended', 'steps_total', 'peer_id', 'created_at'],
    },
  },
  async handler(asked, context) {
    return answer(await localPage(asked, asked, context));
  },
  merge: {
    when: ({ scope, peer_filter }) => scope === 'mesh' || peer_filter !== undefined,
    async handler(asked, context) {
      const { peer_filter: meant, limit, offset, ...filters } = asked;
      const peer_filter = meant === undefined ? undefined : peerIdOf(meant, context);
      if (peer_filter === context.self) return answer(await localPage({ ...asked, peer_filter }, asked, context));
      const page = await mergeLists<Item>(
        {
          local: (part) => localPage({ ...asked, peer_filter }, part, context),
          async peers(part) {
            const asking = { ...filters, ...part, scope: 'local' };
            const { answers, missing } = await askPeers(context, 'workflow_list', output, asking);
            const wanted = answers.filter(({ peer_id }) => peer_filter === undefined || peer_id === peer_filter);
            const silent = wanted.length === 0 ? [peer_filter!] : [];
            return {
              answers: wanted.map(({ peer_id, output }) => ({
                peer_id,
                output: { items: output.workflows, total_count: output.total_count, has_more: output.has_more },
              })),
              // A peer that is not connected was not asked, and is missing, too.
              missing: peer_filter === undefined ? missing : silent,
            };
          },
        },
        { limit, offset },
        newestFirst,
      );
      return { ...answer(page), missing: page.missing };
    },
  },
});

async function localPage(
  { status_filter, peer_filter, tag_filter }: Input,
  { limit, offset }: { limit: number; offset: number },
  { reader, self, caller }: Pick<ReadContext, 'reader' | 'self' | 'caller'>,
): Promise<Page<Item>> {
  if (peer_filter !== undefined && peer_filter !== self) return { items: [], total_count: 0, has_more: false };
  const { records, total } = await reader.list({
    kind: 'workflow',
    status: status_filter,
    tags: tag_filter,
    submitted_by: onlyOf(caller),
    limit,
    offset,
  });
  return {
    items: records.map((record) => itemOf(record, self)),
    total_count: total,
    has_more: offset + records.length < total,
  };
}

function itemOf(record: WorkflowRecord, self: string): Item {
  return {
    workflow_id: record.workflow_id,
    name: record.name,
    status: record.status,
    progress: record.progress,
    current_step: record.current_step,
    peer_id: self,
    ...(record.submitted_by !== undefined && { submitted_by: record.submitted_by }),
    priority: record.priority,
    tags: record.tags,
    steps_total: record.steps_total,
    steps_ended: record.steps_ended,
    created_at: record.created_at,
    start_time: record.started_at,
    end_time: record.ended_at,
    execution_time_ms: record.execution_time_ms,
  };
}

function answer({ items, total_count, has_more }: Page<Item>) {
  return { workflows: items, total_count, returned_count: items.length, has_more };
}
