/**
 * What a workflow is: the shape of a submitted DAG, and the check that says in plain words what is wrong with one.
 *
 *   const workflow = parseWorkflow(parse(await readFile('examples/diamond.yaml', 'utf8')));
 */
import { z } from 'zod';
import { FlowmeshError, type JsonValue } from './errors.ts';
import { anyJson, checkJson, jsonObject } from './json.ts';
import {
  ACTION_CHARS_MAX,
  BACKOFF_FACTOR_MAX,
  checkBytes,
  DURATION_MS_MAX,
  EDGES_MAX,
  EXPRESSION_CHARS_MAX,
  ID_CHARS_MAX,
  LABEL_CHARS_MAX,
  LABELS_MAX,
  LimitError,
  NAME_CHARS_MAX,
  PRIORITY_MAX,
  RETRIES_MAX,
  STEPS_MAX,
  SUBMISSION_BYTES_MAX,
  TAGS_MAX,
  TASK_INSTANCES_MAX,
  WORKFLOW_DEPENDENCIES_MAX,
} from './limits.ts';
import { describeProblems, type Problem } from './problems.ts';

export { describeProblems };

// `__proto__` as a key would set an object's prototype instead of a field of it.
const notPrototype = (id: string): boolean => id !== '__proto__';
const reserved = { error: 'must not be __proto__' };

/** An id of a workflow, task or worker. */
export const idSchema = z
  .string()
  .regex(new RegExp(`^[A-Za-z0-9._:-]{1,${ID_CHARS_MAX}}$`), {
    error: `must be 1 to ${ID_CHARS_MAX} characters of A-Z a-z 0-9 . _ : -`,
  })
  .refine(notPrototype, reserved);

/** An id of a step: without ":", so that `<workflow_id>:<step_id>:<index>` reads one way only. */
export const stepIdSchema = z
  .string()
  .regex(new RegExp(`^[A-Za-z0-9._-]{1,${ID_CHARS_MAX}}$`), {
    error: `must be 1 to ${ID_CHARS_MAX} characters of A-Z a-z 0-9 . _ -`,
  })
  .refine(notPrototype, reserved)
  .describe('Unique in the workflow. Other steps name it in depends_on and in ${ steps.<step_id>.output }.');

const duration = z.number().int().min(0).max(DURATION_MS_MAX);
const label = z.string().min(1).max(LABEL_CHARS_MAX);

/** What a worker must offer to run a task. */
export const requiresSchema = z
  .strictObject({
    labels: z.array(label).max(LABELS_MAX).default([]).describe('Labels the worker must have, e.g. gpu or region=eu.'),
    cpu_cores: z.number().positive().optional(),
    memory_gb: z.number().positive().optional(),
    peers: z
      .array(label)
      .max(LABELS_MAX)
      .default([])
      .describe('Only on one of these peers (peer ids, or names that exactly one known peer has).'),
  })
  .describe('What the worker must offer.');

/** Labels that a worker should have, but need not. */
export const preferSchema = z
  .array(label)
  .max(LABELS_MAX)
  .optional()
  .describe(
    'Labels that its worker rather has: one with them is chosen while it has a free slot, else any other at once.',
  );
export const waitTimeoutSchema = duration
  .min(1)
  .optional()
  .describe(
    'It fails with NO_WORKER when for this long no connected worker can run it (a busy one can). Absent: it waits, but one that only policies forbid fails soon with ACTION_NOT_ALLOWED.',
  );

/** When a failed attempt is made again: exponential backoff, capped, with full jitter. */
export const retrySchema = z
  .strictObject({
    max_retries: z.number().int().min(0).max(RETRIES_MAX).default(0).describe('Attempts after the first one.'),
    initial_delay_ms: duration.default(1_000).describe('Wait before the first retry.'),
    backoff_factor: z.number().min(1).max(BACKOFF_FACTOR_MAX).default(2).describe('Each wait is this times longer.'),
    max_delay_ms: duration
      .default(60_000)
      .describe('No wait is longer, also where a server asks for more (Retry-After).'),
    jitter: z.boolean().default(true).describe('Wait a random time between 0 and the computed one.'),
  })
  .describe('When a failed attempt is made again.');

const prioritySchema = z.number().min(0).max(PRIORITY_MAX);

export const stepSchema = z.strictObject({
  step_id: stepIdSchema,
  action: z
    .string()
    .min(1)
    .max(ACTION_CHARS_MAX)
    .describe(
      'What runs: what it takes as inputs → its output. shell { command: ["wc", "-l", "a.txt"], cwd?, env?, stdin?, parse?: text | json | lines } → { exit_code, stdout, stderr } (no shell reads the command). http { url, method?, headers?, body?, expect_status? } → { status, headers, body }. echo (anything) → its inputs. sleep { duration_ms }. approve { message } asks a person → { approved, data }; a rejection fails with REJECTED. workflow { workflow: { name, steps }, input? } → the result of that run. fn:<name> (anything) → what that function of a peer returns.',
    ),
  inputs: jsonObject
    .default({})
    .describe(
      'Handed to the action. Strings may hold ${ … }, JSONata over input, steps.<step_id>.output, .status and .error, workflow, and item and index in foreach. A string that is one expression keeps the type of its value; in a longer one it is filled in as text.',
    ),
  depends_on: z
    .array(z.string())
    .default([])
    .describe('Steps that must end before this one starts: all that its expressions mention.'),
  when: z
    .union([z.string(), z.boolean()], { error: 'must be one ${ … } expression, true or false' })
    .optional()
    .describe(
      'One ${ … } expression; the step is skipped when it gives false, null, 0, "" or nothing; with item or index in it, it is decided for each item. E.g. ${ steps.review.status = "completed" }.',
    ),
  foreach: z
    .union([z.string(), z.array(anyJson)], { error: 'must be one ${ … } expression or a list' })
    .optional()
    .describe('A list, or one ${ … } expression: a task for each item, named item and index; one value is one item.'),
  max_parallel: z.number().int().min(1).max(TASK_INSTANCES_MAX).optional().describe('Items of foreach at a time.'),
  retry: retrySchema.default(() => retrySchema.parse({})),
  timeout_ms: duration.min(1).optional().describe('An attempt that runs longer is ended and has failed.'),
  on_failure: z
    .enum(['fail', 'skip', 'continue'])
    .default('fail')
    .describe(
      'fail: the run stops. skip: as if the step had been skipped. continue: dependents run all the same, and see its status "failed".',
    ),
  requires: requiresSchema.default(() => requiresSchema.parse({})),
  prefer: preferSchema,
  wait_timeout_ms: waitTimeoutSchema,
  priority: prioritySchema.optional().describe('Higher runs first; the workflow’s priority when absent.'),
  at_most_once: z.boolean().default(false).describe('Never start it twice: a lost worker fails the step.'),
  cache: z.boolean().default(false).describe('Reuse the output of an earlier run with the same action and inputs.'),
});

export const workflowSchema = z.strictObject({
  workflow_id: idSchema.optional().describe('Made when absent. The same id again returns the existing run.'),
  name: z.string().min(1).max(NAME_CHARS_MAX),
  steps: z.array(stepSchema).min(1, { error: 'must have at least one step' }),
  input: jsonObject.default({}).describe('Data for the run, by name: ${ input.<name> }.'),
  output: anyJson
    .optional()
    .describe(
      'The result, any JSON with ${ … } in its strings; what a skipped step would give is null. When absent, the outputs of the steps nothing depends on.',
    ),
  priority: prioritySchema.default(1).describe('Higher runs first.'),
  tags: z.array(z.string().min(1).max(LABEL_CHARS_MAX)).max(TAGS_MAX).default([]),
  dependencies: z
    .array(idSchema)
    .max(WORKFLOW_DEPENDENCIES_MAX)
    .default([])
    .describe('Ids of workflows that must complete before this one starts.'),
  metadata: jsonObject.default({}).describe('Kept with the workflow, not interpreted.'),
});

export type Requires = z.output<typeof requiresSchema>;
export type Retry = z.output<typeof retrySchema>;
export type Step = z.output<typeof stepSchema>;
export type Workflow = z.output<typeof workflowSchema>;

/** A submitted workflow that is not one. `details.problems` lists what is wrong as `{ path, message }`. */
export class InvalidWorkflowError extends FlowmeshError {
  readonly problems: Problem[];

  constructor(problems: Problem[], code = 'INVALID_WORKFLOW', details: { [key: string]: JsonValue } = {}) {
    const lines = problems.map((problem) => (problem.path ? `${problem.path}: ${problem.message}` : problem.message));
    const [first = 'is invalid', ...more] = lines;
    const text = more.length === 0 ? first : `${lines.length} problems:\n  ${lines.join('\n  ')}`;
    super(code, `The workflow is not valid: ${text}`, {
      details: { ...details, problems: problems.map(({ path, message }) => ({ path, message })) },
    });
    this.problems = problems;
  }
}

/**
 * Checks the shape of a workflow and fills in the defaults. The graph and the expressions are checked by
 * `WorkflowGraph` and `referenceProblems`.
 *
 * @throws InvalidWorkflowError naming each place, and the nearest known name for an unknown one
 * @throws LimitError for a workflow that is larger than flowmesh carries
 */
export function parseWorkflow(value: unknown): Workflow {
  checkSize(value);
  const parsed = workflowSchema.safeParse(value);
  if (!parsed.success) throw new InvalidWorkflowError(describeProblems(parsed.error, workflowSchema, value));
  checkLimits(parsed.data);
  return parsed.data;
}

/** Checks what the schema cannot express. @throws LimitError for a workflow that is larger than flowmesh carries */
export function checkLimits({ steps }: Workflow): void {
  checkSteps(steps);
  const edges = steps.reduce((sum, step) => sum + step.depends_on.length, 0);
  if (edges > EDGES_MAX) {
    throw new LimitError('EDGES_MAX', edges, EDGES_MAX, 'Too many dependencies between steps', 'Join steps first.');
  }
  for (const step of steps) checkStep(step);
}

/** The JSON Schema (2020-12) of a workflow file, for editors: defaults may be left out. */
export function workflowJsonSchema(): z.core.JSONSchema.JSONSchema {
  return { title: 'flowmesh workflow', ...z.toJSONSchema(workflowSchema, { io: 'input' }) };
}

/** Everything that could make the checks themselves expensive is bounded before they start. */
function checkSize(value: unknown): void {
  const what = 'The workflow';
  checkJson(value, what, (fault) => new InvalidWorkflowError([fault]));
  if (value === null || typeof value !== 'object') return;
  const steps = (value as { steps?: unknown }).steps;
  if (Array.isArray(steps)) checkSteps(steps);
  const advice = 'Pass references to large data, not the data.';
  checkBytes(value as JsonValue, 'SUBMISSION_BYTES_MAX', SUBMISSION_BYTES_MAX, what, advice);
}

function checkSteps({ length }: readonly unknown[]): void {
  if (length <= STEPS_MAX) return;
  const advice = 'Use foreach, or split it into workflows that depend on each other.';
  throw new LimitError('STEPS_MAX', length, STEPS_MAX, 'Too many steps in the workflow', advice);
}

function checkStep(step: Step): void {
  for (const field of ['when', 'foreach'] as const) {
    const text = step[field];
    if (typeof text === 'string' && text.length > EXPRESSION_CHARS_MAX) {
      throw new LimitError(
        'EXPRESSION_CHARS_MAX',
        text.length,
        EXPRESSION_CHARS_MAX,
        `${field} of step "${step.step_id}" is too long, in characters`,
        'Move the work into a step.',
      );
    }
  }
}
