/** What the clients of a simulated mesh submit, and what must come of it. */
import type { JsonObject, JsonValue } from '../../dag/errors.ts';
import { parseWorkflow, requiresSchema, retrySchema } from '../../dag/schema.ts';
import type { TaskSubmission } from '../../scheduler/api.ts';
import type { SimulatedMesh } from './mesh.ts';
import type { SeededRandom } from './world.ts';

export interface Accepted {
  owner: string;
  kind: 'task' | 'workflow';
  uid: string;
  /** The output or result when it completes. */
  expected: JsonValue;
  /** Codes of the errors it may fail with; none: it must complete, unless it is cancelled. */
  mayFail: readonly string[];
}

/** Submits something at a peer. @param known ids of tasks that were submitted before, which may be waited for */
export async function submitTask(
  mesh: SimulatedMesh,
  owner: string,
  index: number,
  known: readonly string[],
): Promise<Accepted> {
  const { random } = mesh.world;
  const { scheduler } = mesh.peers.get(owner)!;
  const once = random.chance(0.1);
  const payload: JsonObject = { index, ms: random.below(800), failures: random.chance(0.1) ? 1 : 0, once };
  const depends_on = known.length > 0 && random.chance(0.15) ? [random.pick(known)] : [];
  const submission: TaskSubmission = {
    task_id: random.chance(0.5) ? `task-of-${index}` : undefined,
    task_type: payload['failures'] === 1 ? 'fn:flaky' : 'fn:work',
    payload,
    priority: random.below(3),
    tags: [],
    timeout_ms: undefined,
    retry: retrySchema.parse({ max_retries: 5, initial_delay_ms: 50 }),
    delay_ms: random.chance(0.1) ? 500 : undefined,
    deadline: undefined,
    requires: requiresSchema.parse(random.chance(0.1) ? { labels: ['gpu'] } : {}),
    depends_on,
    at_most_once: once,
    metadata: {},
  };
  const { record } = await scheduler.submitTask(submission);
  await mustBeStored(mesh, owner, 'task', record.uid);
  const mayFail = [...(once ? ['WORKER_LOST', 'OWNER_LOST', 'FLAKY'] : []), ...(depends_on.length > 0 ? ['DEPENDENCY_FAILED'] : [])];
  return { owner, kind: 'task', uid: record.uid, expected: payload, mayFail };
}

export async function submitWorkflow(mesh: SimulatedMesh, owner: string): Promise<Accepted> {
  const { random } = mesh.world;
  const { scheduler } = mesh.peers.get(owner)!;
  const { value, expected, mayFail = [] } = random.pick([diamond, diamond, nested, asking, forgiving])(random);
  const submission = { workflow: parseWorkflow(value), copies: undefined, require_copies: false };
  const { record } = await scheduler.submitWorkflow(submission);
  await mustBeStored(mesh, owner, 'workflow', record.uid);
  return { owner, kind: 'workflow', uid: record.uid, expected, mayFail };
}

/** P1: what was answered is on the disk. */
async function mustBeStored(mesh: SimulatedMesh, owner: string, kind: 'task' | 'workflow', uid: string): Promise<void> {
  const record = await mesh.peers.get(owner)!.store.reader.get(kind, uid);
  if (record === undefined) mesh.broken(`P1: ${kind} ${uid} was answered for and is not on the disk`);
}

interface Submitted {
  value: JsonObject;
  expected: JsonValue;
  mayFail?: string[];
}

/** `foreach`, and expressions of every kind. */
function diamond(random: SeededRandom): Submitted {
  const n = random.below(5);
  const step = (step_id: string, depends_on: string[], inputs: JsonObject) => ({
    step_id,
    action: 'fn:work',
    depends_on,
    inputs: { ms: 50 * n, ...inputs },
  });
  const value = {
    name: 'diamond',
    input: { n },
    steps: [
      step('top', [], { value: '${ input.n }' }),
      { ...step('sides', ['top'], { value: '${ item * steps.top.output.value }' }), foreach: [1, 2] },
      step('bottom', ['sides'], { sum: '${ $sum(steps.sides.output.value) }' }),
    ],
    output: { sum: '${ steps.bottom.output.sum }' },
  };
  return { value, expected: { sum: 3 * n } };
}

/** A workflow in a workflow, beside a sleep. */
function nested(random: SeededRandom): Submitted {
  const { value: inner, expected } = diamond(random);
  const steps: JsonObject[] = [
    { step_id: 'inner', action: 'workflow', inputs: { workflow: inner } },
    { step_id: 'rest', action: 'sleep', inputs: { duration_ms: random.below(2_000) } },
    { step_id: 'last', action: 'fn:work', depends_on: ['inner', 'rest'], inputs: { got: '${ steps.inner.output }' } },
  ];
  return { value: { name: 'nested', steps, output: '${ steps.last.output.got }' }, expected };
}

/** Waits for a person: `faults.ts` has one, who always agrees. */
function asking(random: SeededRandom): Submitted {
  const ms = random.below(300);
  const steps: JsonObject[] = [
    { step_id: 'work', action: 'fn:work', inputs: { ms } },
    { step_id: 'ask', action: 'approve', depends_on: ['work'] },
  ];
  return { value: { name: 'asking', steps, output: '${ steps.ask.output.approved }' }, expected: true };
}

/** Items that fail, in their action and in their inputs, and go on all the same. */
function forgiving(random: SeededRandom): Submitted {
  const value = {
    name: 'forgiving',
    input: { list: [1, 2, 3, 4] },
    steps: [
      {
        step_id: 'some',
        action: 'fn:work',
        foreach: '${ input.list }',
        max_parallel: 1 + random.below(3),
        on_failure: 'continue',
        inputs: { ms: random.below(100), value: '${ item = 2 ? $error("not this one") : item * 10 }' },
      },
    ],
    output: '${ steps.some.output.value }',
  };
  return { value, expected: [10, 30, 40] };
}
