/** What the clients of a simulated mesh ask for, and what must come of it. */
import type { JsonObject, JsonValue } from '../../dag/errors.ts';
import type { SeededRandom } from './world.ts';

export interface Work {
  kind: 'task' | 'workflow';
  /** Chosen by the client; undefined: the mesh makes one. */
  id: string | undefined;
  input: JsonObject;
  /** The output or result when it completes. */
  expected: JsonValue;
  /** Codes of the errors it may fail with, because of itself or, with `lost`, because a peer was lost. */
  mayFail: readonly string[];
  /** It may fail because a peer was lost: it, or a part of it, is never started twice. */
  atMostOnce: boolean;
}

export const LOST_CODES: readonly string[] = ['WORKER_LOST', 'OWNER_LOST'];

const PADDING_CHARS = 60_000;
const LONG_WORK_MS = 8_000;

export interface LoadOptions {
  /** A feed with some of the work takes several pages, and so may one commit. */
  large: boolean;
  /** Much of the work takes as long as it takes to take a feed over, or begins so late, or fails at the end of it. */
  long: boolean;
  /** How often, from 0 to 1, a workflow wants to be on three disks. */
  triple: number;
}

/** @param known ids of tasks that may be waited for */
export function someTask(random: SeededRandom, piece: number, known: readonly string[], options: LoadOptions): Work {
  const { large, long } = options;
  const atMostOnce = random.chance(0.15);
  const failures = random.chance(long ? 0.4 : 0.15) ? 1 : 0;
  const triesAgain = random.chance(0.7);
  const ms = random.below(random.chance(long ? 0.5 : 0.1) ? LONG_WORK_MS : 800);
  const padding = large && random.chance(0.7) ? 'x'.repeat(PADDING_CHARS) : '';
  const payload: JsonObject = { piece, ms, failures, once: atMostOnce, padding };
  const depends_on = known.length > 0 && random.chance(0.15) ? [random.pick(known)] : [];
  const id = random.chance(0.7) ? `task-of-${piece}` : undefined;
  const fails = failures > 0 && (atMostOnce || !triesAgain);
  return {
    kind: 'task',
    id,
    input: {
      ...(id !== undefined && { task_id: id }),
      task_type: failures > 0 ? 'fn:flaky' : 'fn:work',
      payload,
      priority: random.below(3),
      retry_policy: { max_retries: triesAgain && !atMostOnce ? 5 : 0, initial_delay_ms: 50 },
      ...(random.chance(long ? 0.3 : 0.1) && { delay_ms: long ? random.below(LONG_WORK_MS) : 500 }),
      ...(random.chance(0.1) && { requires: { labels: ['gpu'] } }),
      depends_on,
      at_most_once: atMostOnce,
    },
    expected: payload,
    mayFail: [...(fails ? ['FLAKY'] : []), ...(depends_on.length > 0 ? ['DEPENDENCY_FAILED'] : [])],
    atMostOnce,
  };
}

/** @param known ids of workflows that may be waited for */
export function someWorkflow(
  random: SeededRandom,
  piece: number,
  known: readonly string[],
  options: LoadOptions,
): Work {
  const { value, expected, atMostOnce = false } = random.pick(SHAPES)(random, piece, options);
  const id = random.chance(0.7) ? `workflow-of-${piece}` : undefined;
  const dependencies = known.length > 0 && random.chance(0.1) ? [random.pick(known)] : [];
  const copies: JsonObject = random.chance(options.triple) ? { copies: 3 } : {};
  return {
    kind: 'workflow',
    id,
    input: {
      ...(id !== undefined && { workflow_id: id }),
      ...value,
      priority: random.below(3),
      dependencies,
      ...copies,
    },
    expected,
    mayFail: dependencies.length > 0 ? ['DEPENDENCY_FAILED'] : [],
    atMostOnce,
  };
}

interface Shape {
  value: JsonObject;
  expected: JsonValue;
  atMostOnce?: boolean;
}

const SHAPES: readonly ((random: SeededRandom, piece: number, options: LoadOptions) => Shape)[] = [
  chain,
  chain,
  diamond,
  nested,
  asking,
  forgiving,
  once,
];

/** Two steps, the plainest run there is. */
function chain(random: SeededRandom, piece: number, { long }: LoadOptions): Shape {
  const ms = random.below(long ? LONG_WORK_MS : 400);
  const steps: JsonObject[] = [
    { step_id: 'first', action: 'fn:work', inputs: { ms, value: piece } },
    { step_id: 'second', action: 'echo', depends_on: ['first'], inputs: { got: '${ steps.first.output.value }' } },
  ];
  return { value: { name: 'chain', steps, output: '${ steps.second.output.got }' }, expected: piece };
}

/** `foreach`, and expressions of every kind. */
function diamond(random: SeededRandom): Shape {
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
function nested(random: SeededRandom, piece: number, options: LoadOptions): Shape {
  const { value, expected } = chain(random, piece, options);
  const inner = JSON.parse(JSON.stringify(value).replaceAll('${', '$$${')); // its expressions are left for its own run
  const steps: JsonObject[] = [
    { step_id: 'inner', action: 'workflow', inputs: { workflow: inner } },
    { step_id: 'rest', action: 'sleep', inputs: { duration_ms: random.below(2_000) } },
    { step_id: 'last', action: 'fn:work', depends_on: ['inner', 'rest'], inputs: { got: '${ steps.inner.output }' } },
  ];
  return { value: { name: 'nested', steps, output: '${ steps.last.output.got }' }, expected };
}

/** Waits for a person, who always agrees (`clients.ts`). */
function asking(random: SeededRandom): Shape {
  const ms = random.below(300);
  const steps: JsonObject[] = [
    { step_id: 'work', action: 'fn:work', inputs: { ms } },
    { step_id: 'ask', action: 'approve', depends_on: ['work'] },
  ];
  return { value: { name: 'asking', steps, output: '${ steps.ask.output.approved }' }, expected: true };
}

/** Items that are left out, and that fail in their inputs, and go on all the same. */
function forgiving(random: SeededRandom, _piece: number, { large }: LoadOptions): Shape {
  const padding = large ? 'x'.repeat(PADDING_CHARS) : '';
  const value = {
    name: 'forgiving',
    input: { list: [0, 1, 2, 3, 4, 5] },
    steps: [
      {
        step_id: 'some',
        action: 'fn:work',
        foreach: '${ input.list }',
        when: '${ item > 0 and index < 5 }',
        max_parallel: 1 + random.below(3),
        on_failure: 'continue',
        inputs: { ms: random.below(100), padding, value: '${ item = 2 ? $error("not this one") : item * 10 }' },
      },
    ],
    output: '${ steps.some.output.value }',
  };
  return { value, expected: [10, 30, 40] };
}

/** A step that is never started twice. */
function once(random: SeededRandom, piece: number, { long }: LoadOptions): Shape {
  const inputs = { ms: random.below(500), piece: `step of ${piece}`, once: true, value: piece };
  const only: JsonObject = { step_id: 'only', action: 'fn:work', at_most_once: true, inputs };
  const wait: JsonObject = {
    step_id: 'wait',
    action: 'sleep',
    inputs: { duration_ms: random.below(LONG_WORK_MS) },
  };
  const steps = long ? [wait, { ...only, depends_on: ['wait'] }] : [only];
  return {
    value: { name: 'once', steps, output: '${ steps.only.output.value }' },
    expected: piece,
    atMostOnce: true,
  };
}

/** A submit that was answered: the client holds this and its id. */
export interface Handle {
  work: Work;
  id: string;
  /** It was submitted more than once: each time may have been accepted. */
  repeated: boolean;
  cancel: 'no' | 'asked' | 'confirmed';
}
