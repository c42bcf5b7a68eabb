/** The workflow that a task with the action `workflow` stands for: checked when the task begins. */
import { FlowmeshError, type JsonObject, type JsonValue } from '../dag/errors.ts';
import { parseWorkflow, type Workflow } from '../dag/schema.ts';
import { checkAction } from './actions.ts';
import type { TaskRecord } from './records.ts';

/**
 * @param newId makes an id for a workflow without one
 * @throws FlowmeshError INVALID_PAYLOAD, INVALID_WORKFLOW, UNKNOWN_ACTION, LIMIT_EXCEEDED
 */
export function nestedWorkflow(record: TaskRecord, newId: () => string): Workflow & { workflow_id: string } {
  const { workflow, input } = record.payload as { workflow?: JsonValue; input?: JsonValue };
  if (workflow === undefined || workflow === null || typeof workflow !== 'object' || Array.isArray(workflow)) {
    throw new FlowmeshError(
      'INVALID_PAYLOAD',
      'the action "workflow" takes inputs { workflow: { name, steps, … }, input: { … } }',
    );
  }
  if (input !== undefined && (input === null || typeof input !== 'object' || Array.isArray(input))) {
    throw new FlowmeshError('INVALID_PAYLOAD', 'the input of a nested workflow must be an object');
  }
  const parsed = parseWorkflow({ ...workflow, input: { ...((workflow['input'] as JsonObject) ?? {}), ...input } });
  if (parsed.dependencies.length > 0) {
    throw new FlowmeshError(
      'INVALID_PAYLOAD',
      'a nested workflow cannot have `dependencies`; let the workflow that it is nested in wait for them',
    );
  }
  for (const [position, step] of parsed.steps.entries()) checkAction(step.action, `steps[${position}].action`);
  return { ...parsed, workflow_id: parsed.workflow_id ?? newId() };
}
