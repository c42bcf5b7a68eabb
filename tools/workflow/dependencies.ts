/** `workflow_dependencies`: the graph of a workflow. */
import { z } from 'zod';
import type { JsonObject, JsonValue } from '../../dag/errors.ts';
import { toDot, toMermaid } from '../../dag/format.ts';
import { WorkflowGraph } from '../../dag/graph.ts';
import { anyJson } from '../../dag/json.ts';
import type { Step } from '../../dag/schema.ts';
import type { WorkflowRecord } from '../../scheduler/records.ts';
import { bytesUpTo, cutJson, cutsOut, maxBytesField, truncatedOut, WHOLE } from '../cut.ts';
import { defineReadTool } from '../definition.ts';
import { countOut, rounded, staleOut, workflowIdField } from '../fields.ts';
import { type StepDuration, stepDurations } from './durations.ts';
import { ALL_STEPS, namedSteps, pageOf, stepFilterField, stepLimitField, stepOffsetField } from './step-pages.ts';
import { type RunRecords, readRun, statusOf, stepStatusSchema } from './steps.ts';

const formatSchema = z.enum(['json', 'dot', 'mermaid']);

const criticalPathOut = z.object({
  steps: z.array(z.string()).describe('First to last.'),
  duration_ms: z.number(),
  basis: z.enum(['measured', 'estimated', 'mixed']).describe('Where the durations on the path are from.'),
  measured: z.array(z.string()).describe('Its steps whose durations are measured.'),
  estimated: z.array(z.string()).describe('Its steps whose durations are estimated from the measured ones.'),
});

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
      step_filter: stepFilterField,
      limit: stepLimitField,
      offset: stepOffsetField,
      max_bytes: maxBytesField,
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
    critical_path: criticalPathOut,
    steps_total: countOut,
    truncated: truncatedOut,
    cuts: cutsOut,
    dependencies: z.array(z.string()).describe('Workflows that have to complete before this one starts.'),
    stale_ms: staleOut,
  }),
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  permission: 'workflow:read',
  about: ({ workflow_id }) => ({ kind: 'workflow', id: workflow_id }),
  cli: {
    positional: ['workflow_id'],
    list: { field: 'edges', columns: ['from', 'to'] },
    whole: { ...WHOLE, ...ALL_STEPS },
  },
  async handler({ workflow_id, format, fmt, step_filter, max_bytes, ...asked }, { reader, record: recordOf }) {
    const record = await recordOf('workflow', workflow_id);
    const run = record && (await readRun(reader, record.uid));
    if (record === undefined || run === undefined) return undefined;
    const graph = new WorkflowGraph(run.workflow.steps);
    const shape = format ?? fmt ?? 'json';
    const path = cutJson(criticalPath(graph, stepDurations(record, run)), max_bytes / 4, 'critical_path');
    const left = max_bytes - bytesUpTo(path.value, max_bytes);
    const { page, truncated } = pageOf(namedSteps('workflow_dependencies', run.workflow.steps, step_filter), asked);
    const drawing = drawnWithin(page, left, (steps) => drawn(shape, record, run, graph, steps));
    const cuts = [...drawing.cuts, ...path.cuts];
    return {
      workflow_id,
      format: shape,
      ...(drawing.value as unknown as Drawing),
      critical_path: path.value as unknown as CriticalPath,
      steps_total: run.workflow.steps.length,
      truncated: truncated || drawing.steps < page.length || cuts.length > 0,
      ...(cuts.length > 0 && { cuts }),
      dependencies: record.dependencies,
    };
  },
});

type CriticalPath = z.infer<typeof criticalPathOut>;

interface Drawing {
  dag: JsonValue;
  nodes: { id: string; action: string; status: z.infer<typeof stepStatusSchema> }[];
  edges: { from: string; to: string }[];
}

/** Draws as many steps, from the front, as fit into `bytesMax`; if not even one fits, its lists are cut. */
function drawnWithin(steps: Step[], bytesMax: number, draw: (steps: Step[]) => Drawing) {
  for (let shown = steps.length; ; ) {
    const drawing = draw(steps.slice(0, shown)) as unknown as JsonObject;
    const bytes = bytesUpTo(drawing, bytesMax * 2);
    if (bytes <= bytesMax || shown <= 1) return { steps: shown, ...cutJson(drawing, bytesMax) };
    shown = Math.min(shown - 1, Math.max(1, Math.floor((shown * bytesMax) / bytes)));
  }
}

/** The graph of `steps`. Drawings have the edges between these steps; lists have all that lead to one of them. */
function drawn(
  format: z.infer<typeof formatSchema>,
  record: WorkflowRecord,
  run: RunRecords,
  graph: WorkflowGraph,
  steps: Step[],
): Drawing {
  const ids = new Set(steps.map(({ step_id }) => step_id));
  const status = (stepId: string) => stepStatus(record, run, stepId);
  const order = graph.order.filter((id) => ids.has(id));
  const nodes = steps.map(({ step_id, action }) => ({ id: step_id, action, status: status(step_id) }));
  const edges = order.flatMap((to) => graph.dependencies(to).map((from) => ({ from, to })));
  if (format === 'json') {
    const depends_on = Object.fromEntries(order.map((id) => [id, graph.dependencies(id)]));
    const among = (list: string[]) => list.filter((id) => ids.has(id));
    return { dag: { order, roots: among(graph.roots()), sinks: among(graph.sinks()), depends_on }, nodes, edges };
  }
  const part = steps.map((step) => ({ ...step, depends_on: step.depends_on.filter((id) => ids.has(id)) }));
  const draw = format === 'dot' ? toDot : toMermaid;
  return { dag: draw({ ...run.workflow, steps: part }, new WorkflowGraph(part), status), nodes, edges };
}

function stepStatus(record: WorkflowRecord, run: RunRecords, stepId: string) {
  return statusOf(record, run.steps.get(stepId), run.tasks && (run.tasks.get(stepId) ?? []));
}

function criticalPath(graph: WorkflowGraph, durations: Map<string, StepDuration>) {
  const { steps, duration_ms } = graph.criticalPath((id) => durations.get(id)?.ms ?? 0);
  const measured = steps.filter((id) => durations.get(id)?.measured);
  const estimated = steps.filter((id) => !durations.get(id)?.measured);
  const basis = estimated.length === 0 ? 'measured' : measured.length === 0 ? 'estimated' : 'mixed';
  return { steps, duration_ms: rounded(duration_ms), basis, measured, estimated };
}
