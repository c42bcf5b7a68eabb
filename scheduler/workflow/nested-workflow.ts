/** The workflow in the inputs of a task with the action `workflow`. */
import { FlowmeshError, type JsonObject } from '../../dag/errors.ts';
import { parseWorkflow, type Workflow } from '../../dag/schema.ts';

/**
 * @param inputs with `input`, whose fields replace those of the workflow's own input
 * @throws FlowmeshError INVALID_PAYLOAD, INVALID_WORKFLOW, LIMIT_EXCEEDED
 */
export function nestedWorkflow(inputs: { workflow: JsonObject; input?: JsonObject | undefined }): Workflow {
  const { workflow, input } = inputs;
  const parsed = parseWorkflow({ ...workflow, input: { ...((workflow['input'] as JsonObject) ?? {}), ...input } });
  if (parsed.dependencies.length === 0) return parsed;
  throw new FlowmeshError(
    'INVALID_PAYLOAD',
    'a nested workflow cannot have `dependencies`; let the workflow that it is nested in wait for them',
  );
}
