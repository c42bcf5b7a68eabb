/** `workflow_result`: what came out of a run. */
import { z } from 'zod';
import type { JsonObject, JsonValue } from '../../dag/errors.ts';
import { anyJson, jsonObject } from '../../dag/json.ts';
import { jsonBytes } from '../../dag/limits.ts';
import { errorSchema, type TaskRecord, workflowStatusSchema } from '../../scheduler/records.ts';
import { defineReadTool } from '../definition.ts';
import { msOut, staleOut, workflowIdField } from '../fields.ts';
import { keptLogs, workflowLogLineOut } from '../task/logs.ts';
import { type RunRecords, readRun } from './steps.ts';

/** Outputs of steps in one answer; what is left out is named in `outputs_omitted`. */
const OUTPUTS_BYTES_MAX = 8 * 1024 * 1024;

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
      .describe('Steps whose outputs are left out because the answer would be too large: ask task_result for them.'),
    logs: z.array(workflowLogLineOut).optional().describe('By step and item, oldest first, with include_logs.'),
    logs_dropped: z.number().int().optional().describe('Log lines that are not here because there were too many.'),
    execution_time_ms: msOut.describe('From the start of its first step to its end; null until it ended.'),
  }),
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  permission: 'workflow:read',
  about: ({ workflow_id }) => ({ kind: 'workflow', id: workflow_id }),
  cli: { positional: ['workflow_id'] },
  async handler({ workflow_id, include_outputs, include_logs }, { reader, record: recordOf }) {
    const record = await recordOf('workflow', workflow_id);
    if (record === undefined) return undefined;
    const run = include_outputs || include_logs ? await readRun(reader, record.uid) : undefined;
    const tasks = run?.workflow.steps.flatMap(({ step_id }) => run.tasks?.get(step_id) ?? []) ?? [];
    return {
      workflow_id,
      status: record.status,
      result: record.result,
      error: record.error,
      ...(include_outputs && outputsOf(run)),
      ...(include_logs && (await keptLogs(reader, tasks))),
      execution_time_ms: record.execution_time_ms,
    };
  },
});

function outputsOf(run: RunRecords | undefined): { outputs: JsonObject; outputs_omitted?: string[] } {
  const outputs: JsonObject = {};
  const omitted: string[] = [];
  let bytes = 0;
  for (const { step_id } of run?.workflow.steps ?? []) {
    const step = run?.steps.get(step_id);
    if (step === undefined || !ENDED_WITH_OUTPUT.has(step.status)) continue;
    const output = run?.tasks === null ? undefined : outputOf(run?.tasks.get(step_id) ?? [], step.items);
    const size = jsonBytes(output);
    if (output === undefined || bytes + size > OUTPUTS_BYTES_MAX) {
      omitted.push(step_id);
      continue;
    }
    bytes += size;
    outputs[step_id] = output;
  }
  return omitted.length === 0 ? { outputs } : { outputs, outputs_omitted: omitted };
}

const ENDED_WITH_OUTPUT = new Set(['completed', 'failed']);

/** As `${ steps.<step_id>.output }` has it: null where an item did not complete. */
function outputOf(tasks: TaskRecord[], items: JsonValue[] | null): JsonValue {
  if (items === null) return tasks[0]?.output ?? null;
  const outputs: JsonValue[] = items.map(() => null);
  for (const task of tasks) if (task.index !== null) outputs[task.index] = task.output;
  return outputs;
}
