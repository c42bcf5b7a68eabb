/** `workflow_result`: what came out of a run. */
import { z } from 'zod';
import type { JsonObject, JsonValue } from '../../dag/errors.ts';
import { anyJson, jsonObject } from '../../dag/json.ts';
import { placeOf } from '../../dag/problems.ts';
import type { Step } from '../../dag/schema.ts';
import { errorSchema, type TaskRecord, workflowStatusSchema } from '../../scheduler/records.ts';
import { bytesUpTo, type Cut, cutJson, cutsOut, maxBytesField, truncatedOut, WHOLE } from '../cut.ts';
import { defineReadTool } from '../definition.ts';
import { msOut, staleOut, workflowIdField } from '../fields.ts';
import { keptLogs, workflowLogLineOut } from '../task/logs.ts';
import { namedSteps, stepFilterField } from './step-pages.ts';
import { type RunRecords, readRun } from './steps.ts';

/** Of the steps whose outputs are left out, an answer names this many. */
const OMITTED_NAMED_MAX = 100;
/** An output that would be cut to less than this is left out: the part would say too little. */
const OUTPUT_PART_BYTES_MIN = 1_000;

export const workflowResult = defineReadTool({
  name: 'workflow_result',
  title: 'Result of a workflow',
  description:
    'Gives what a workflow produced: its result, the output of every step, and with include_logs what its tasks printed. Use it when workflow_status says that the workflow ended. While it still runs, result is null and status says so; that is not an error.',
  input: z.strictObject({
    workflow_id: workflowIdField,
    include_outputs: z
      .boolean()
      .default(true)
      .describe('The output of each step that completed: one value, or a list by item for a `foreach` step.'),
    include_logs: z.boolean().default(false).describe('The kept log lines of all its tasks.'),
    step_filter: stepFilterField.describe('Only outputs and log lines of these steps.'),
    max_bytes: maxBytesField,
  }),
  output: z.object({
    workflow_id: z.string(),
    status: workflowStatusSchema,
    result: anyJson.describe(
      'The `output` template filled in, or the outputs of the steps nothing depends on; null until completed.',
    ),
    error: errorSchema.nullable().describe('Why it failed or was cancelled.'),
    stale_ms: staleOut,
    outputs: jsonObject.optional().describe('By step_id, with include_outputs.'),
    outputs_omitted: z
      .array(z.string())
      .optional()
      .describe(
        `Steps whose outputs are left out because the answer would be too large, the first ${OMITTED_NAMED_MAX}: ask for them with step_filter.`,
      ),
    truncated: truncatedOut,
    cuts: cutsOut,
    logs: z.array(workflowLogLineOut).optional().describe('By step and item, oldest first, with include_logs.'),
    logs_dropped: z.number().int().optional().describe('Log lines that are not here because there were too many.'),
    execution_time_ms: msOut.describe('From the start of its first step to its end; null until it ended.'),
  }),
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  permission: 'workflow:read',
  about: ({ workflow_id }) => ({ kind: 'workflow', id: workflow_id }),
  cli: { positional: ['workflow_id'], whole: WHOLE },
  async handler({ workflow_id, include_outputs, include_logs, step_filter, max_bytes }, { reader, record: recordOf }) {
    const record = await recordOf('workflow', workflow_id);
    if (record === undefined) return undefined;
    const run = include_outputs || include_logs ? await readRun(reader, record.uid) : undefined;
    const steps = namedSteps('workflow_result', run?.workflow.steps ?? [], run === undefined ? [] : step_filter);

    const result = cutJson(record.result, include_outputs || include_logs ? max_bytes / 2 : max_bytes, 'result');
    let left = max_bytes - bytesUpTo(result.value, max_bytes);
    const outputs = include_outputs ? outputsOf(run, steps, include_logs ? left / 2 : left) : undefined;
    if (outputs !== undefined) left -= bytesUpTo(outputs.outputs, left);
    const tasks = steps.flatMap(({ step_id }) => run?.tasks?.get(step_id) ?? []);
    const { truncated = false, ...logs } = include_logs ? await keptLogs(reader, tasks, left) : {};

    const cuts = [...result.cuts, ...(outputs?.cuts ?? [])];
    const omitted = outputs?.omitted ?? [];
    return {
      workflow_id,
      status: record.status,
      result: result.value,
      error: record.error,
      ...(outputs !== undefined && { outputs: outputs.outputs }),
      ...(omitted.length > 0 && { outputs_omitted: omitted.slice(0, OMITTED_NAMED_MAX) }),
      ...logs,
      truncated: truncated || cuts.length > 0 || omitted.length > 0,
      ...(cuts.length > 0 && { cuts }),
      execution_time_ms: record.execution_time_ms,
    };
  },
});

interface ShownOutputs {
  outputs: JsonObject;
  cuts: Cut[];
  /** Steps that are not in `outputs`. */
  omitted: string[];
}

/** Small outputs whole; larger ones get equal shares of the rest, or are left out if a share would say too little. */
function outputsOf(run: RunRecords | undefined, steps: Step[], bytesMax: number): ShownOutputs {
  const shown = new Map<string, JsonValue>();
  const cuts: Cut[] = [];
  const known: { step_id: string; output: JsonValue; size: number }[] = [];
  for (const { step_id } of steps) {
    const step = run?.steps.get(step_id);
    if (step === undefined || run === undefined || !ENDED_WITH_OUTPUT.has(step.status)) continue;
    const output = run.tasks === null ? undefined : outputOf(run.tasks.get(step_id) ?? [], step.items);
    if (output === undefined) known.push({ step_id, output: null, size: Number.POSITIVE_INFINITY });
    else known.push({ step_id, output, size: step_id.length + 4 + bytesUpTo(output, bytesMax) });
  }
  let left = bytesMax;
  const bySize = known.toSorted((a, b) => a.size - b.size);
  for (const [index, { step_id, output, size }] of bySize.entries()) {
    if (size === Number.POSITIVE_INFINITY) break;
    const share = Math.floor(left / (bySize.length - index));
    const isPartOfUse = share >= OUTPUT_PART_BYTES_MIN;
    const room = isPartOfUse ? share : left;
    if (size > room && !isPartOfUse) break;
    const cut = size <= room ? { value: output, cuts: [] } : cutJson(output, room, placeOf(['outputs', step_id]));
    shown.set(step_id, cut.value);
    cuts.push(...cut.cuts);
    left -= Math.min(size, room);
  }
  const outputs: JsonObject = {};
  for (const { step_id } of known) if (shown.has(step_id)) outputs[step_id] = shown.get(step_id)!;
  return { outputs, cuts, omitted: known.flatMap(({ step_id }) => (shown.has(step_id) ? [] : [step_id])) };
}

const ENDED_WITH_OUTPUT = new Set(['completed', 'failed']);

/** The same value as `${ steps.<step_id>.output }`: with null for each item that did not complete. */
function outputOf(tasks: TaskRecord[], items: JsonValue[] | null): JsonValue {
  if (items === null) return tasks[0]?.output ?? null;
  const outputs: JsonValue[] = items.map(() => null);
  for (const task of tasks) if (task.index !== null) outputs[task.index] = task.output;
  return outputs;
}
