/** `workflow_dependencies`: the graph of a workflow. */
import { z } from 'zod';
import { toDot, toJson, toMermaid } from '../../dag/format.ts';
import { WorkflowGraph } from '../../dag/graph.ts';
import { anyJson } from '../../dag/json.ts';
import type { WorkflowRecord } from '../../scheduler/records.ts';
import { defineReadTool } from '../definition.ts';
import { rounded, staleOut, workflowIdField } from '../fields.ts';
import { type StepDuration, stepDurations } from './durations.ts';
import { type RunRecords, readRun, statusOf, stepStatusSchema } from './steps.ts';

const formatSchema = z.enum(['json', 'dot', 'mermaid']);

export const workflowDependencies = defineReadTool({
  name: 'workflow_dependencies',
  title: 'Dependencies of a workflow',
  description:
    'Shows the graph of a workflow: its steps, what each depends on, the status of each, and the critical path, the chain of steps that decides how long the run takes. Use it to explain or draw a workflow (`mermaid` for Markdown, `dot` for Graphviz), or to find the step that is worth making faster. Durations on the critical path are measured where steps ended and estimated elsewhere, and the answer says which.',
  input: z
    .strictObject({
      workflow_id: workflowIdField,
      format: formatSchema.optional().describe('How `dag` is written; json when absent.'),
      fmt: formatSchema.optional().describe('Another name for `format`.'),
    })
    .refine(({ format, fmt }) => format === undefined || fmt === undefined || format === fmt, {
      path: ['fmt'],
      error: 'is another name for format and says something else; give one of the two',
    }),
  output: z.object({
    workflow_id: z.string(),
    format: formatSchema,
    dag: anyJson.describe(
      'dot, mermaid: the text to draw. json: { order, roots, sinks, depends_on: { step_id: [step_id] } }.',
    ),
    nodes: z.array(z.object({ id: z.string(), action: z.string(), status: stepStatusSchema })),
    edges: z.array(z.object({ from: z.string(), to: z.string() })).describe('`to` depends on `from`.'),
    critical_path: z.object({
      steps: z.array(z.string()).describe('First to last.'),
      duration_ms: z.number(),
      basis: z.enum(['measured', 'estimated', 'mixed']).describe('Where the durations on the path are from.'),
      measured: z.array(z.string()).describe('Its steps whose durations are measured.'),
      estimated: z.array(z.string()).describe('Its steps whose durations are estimated from the measured ones.'),
    }),
    dependencies: z.array(z.string()).describe('Workflows that have to complete before this one starts.'),
    stale_ms: staleOut,
  }),
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  permission: 'workflow:read',
  about: ({ workflow_id }) => ({ kind: 'workflow', id: workflow_id }),
  cli: { positional: ['workflow_id'], list: { field: 'edges', columns: ['from', 'to'] } },
  async handler({ workflow_id, format, fmt }, { reader, record: recordOf }) {
    const record = await recordOf('workflow', workflow_id);
    const run = record && (await readRun(reader, record.uid));
    if (record === undefined || run === undefined) return undefined;
    const graph = new WorkflowGraph(run.workflow.steps);
    const shape = format ?? fmt ?? 'json';
    return {
      workflow_id,
      format: shape,
      dag: drawn(shape, record, run, graph),
      nodes: run.workflow.steps.map(({ step_id, action }) => ({
        id: step_id,
        action,
        status: stepStatus(record, run, step_id),
      })),
      edges: toJson(run.workflow, graph).edges,
      critical_path: criticalPath(graph, stepDurations(record, run)),
      dependencies: record.dependencies,
    };
  },
});

function stepStatus(record: WorkflowRecord, run: RunRecords, stepId: string) {
  return statusOf(record, run.steps.get(stepId), run.tasks?.get(stepId) ?? []);
}

function drawn(format: z.infer<typeof formatSchema>, record: WorkflowRecord, run: RunRecords, graph: WorkflowGraph) {
  const status = (stepId: string) => stepStatus(record, run, stepId);
  if (format === 'dot') return toDot(run.workflow, graph, status);
  if (format === 'mermaid') return toMermaid(run.workflow, graph, status);
  const depends_on = Object.fromEntries(graph.order.map((id) => [id, graph.dependencies(id)]));
  return { order: graph.order, roots: graph.roots(), sinks: graph.sinks(), depends_on };
}

function criticalPath(graph: WorkflowGraph, durations: Map<string, StepDuration>) {
  const { steps, duration_ms } = graph.criticalPath((id) => durations.get(id)?.ms ?? 0);
  const measured = steps.filter((id) => durations.get(id)?.measured);
  const estimated = steps.filter((id) => !durations.get(id)?.measured);
  const basis = estimated.length === 0 ? 'measured' : measured.length === 0 ? 'estimated' : 'mixed';
  return { steps, duration_ms: rounded(duration_ms), basis, measured, estimated } as const;
}
