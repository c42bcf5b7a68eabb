/** Runs of 500 items, and values that no model reads: what is answered by default stays below 25,000 tokens. */
import { describe, expect, it } from 'vitest';
import type { JsonObject, JsonValue } from '../../dag/errors.ts';
import { parseWorkflow } from '../../dag/schema.ts';
import type { LogRecord } from '../../scheduler/records.ts';
import { callTool } from '../../tools/call/route.ts';
import { ANSWER_BYTES_MAX } from '../../tools/cut.ts';
import { tools } from '../../tools/registry.ts';
import { LOG_LINES_ANSWER_MAX } from '../../tools/task/logs.ts';
import { log, step, task, workflow } from '../store/sample-rows.ts';
import { MeshOfDoubles, type PeerDouble } from './mesh-of-doubles.ts';

const ITEMS = 500;
const TOKENS_MAX = 25_000;
const CHARS_PER_TOKEN = 4;

async function ask(peer: PeerDouble, name: string, input: JsonObject = {}): Promise<JsonObject> {
  const tool = tools.get(name)!;
  const id = name.startsWith('task') ? { task_id: 't' } : { workflow_id: 'w-id' };
  const output = await callTool(tool, { ...id, ...input }, peer.context, 0);
  const { success: _, ...fields } = output;
  tool.output.strict().parse(fields);
  return output;
}

const tokensOf = (output: JsonObject) => JSON.stringify(output).length / CHARS_PER_TOKEN;
const name = (n: number) => `a-step-with-a-long-name-number-${n}`;

/** Steps in a row, each of which waits for the ten before it, and says much. */
function withSteps(peer: PeerDouble, failed: number[] = []): void {
  const steps = Array.from({ length: ITEMS }, (_, n) => {
    const depends_on = Array.from({ length: Math.min(n, 10) }, (_, back) => name(n - 1 - back));
    return { step_id: name(n), action: 'shell', depends_on };
  });
  const error = {
    code: 'EXIT_CODE',
    message: 'x'.repeat(3_000),
    retryable: true,
    details: { stderr: 'y'.repeat(9_000) },
  };
  peer.put(
    workflow('w', {
      steps_total: ITEMS,
      result: { all: Array.from({ length: ITEMS }, (_, n) => `${n} ${'z'.repeat(900)}`) },
    }),
    { kind: 'definition', uid: 'w:definition', workflow: parseWorkflow({ name: 'many', steps }) },
    ...steps.flatMap(({ step_id }, n) => [
      step('w', step_id, failed.includes(n) ? { status: 'failed', error } : { status: 'completed' }),
      task(`w/${step_id}/0`, {
        ...of(step_id, 0),
        status: 'completed',
        peer_id: 'b',
        output: { n, text: 't'.repeat(800) },
      }),
      logOf(
        `w/${step_id}/0`,
        Array.from({ length: 20 }, (_, line) => `line ${line} of step ${n}`),
      ),
    ]),
  );
}

/** One step of 500 items. */
function withItems(peer: PeerDouble): void {
  const items = Array.from({ length: ITEMS }, (_, n) => n);
  const output = (n: number) => ({ n, lines: Array.from({ length: 30 }, () => `some line of item ${n}`) });
  const steps = [{ step_id: 's', action: 'echo', foreach: items }];
  peer.put(
    workflow('w', { steps_total: 1, status: 'completed', result: items.map(output) }),
    { kind: 'definition', uid: 'w:definition', workflow: parseWorkflow({ name: 'fan-out', steps }) },
    step('w', 's', { status: 'completed', items }),
    ...items.map((n) => task(`w/s/${n}`, { ...of('s', n), status: 'completed', output: output(n) })),
  );
}

function logOf(task_uid: string, lines: string[]): LogRecord {
  const record = log(task_uid, '');
  return { ...record, lines: lines.map((line) => ({ ...record.lines[0]!, line })) };
}

const of = (step_id: string, index: number) => ({ workflow_uid: 'w', workflow_id: 'w-id', step_id, index });

function peer(fill: (peer: PeerDouble) => void): PeerDouble {
  const double = new MeshOfDoubles().peer('a');
  fill(double);
  return double;
}

describe('500 steps', () => {
  it.each<[string, JsonObject]>([
    ['workflow_status', {}],
    ['workflow_status', { include_metrics: true, limit: ITEMS }],
    ['workflow_result', {}],
    ['workflow_result', { include_logs: true }],
    ['workflow_dependencies', {}],
    ['workflow_dependencies', { limit: ITEMS }],
    ['workflow_dependencies', { format: 'mermaid', limit: ITEMS }],
    ['workflow_dependencies', { format: 'dot', limit: ITEMS }],
  ])('%s with %j is read by any model, and says that there is more', async (tool, input) => {
    const a = peer((each) =>
      withSteps(
        each,
        Array.from({ length: ITEMS }, (_, n) => n).filter((n) => n % 3 === 0),
      ),
    );
    const output = await ask(a, tool, input);
    expect(tokensOf(output)).toBeLessThan(TOKENS_MAX);
    expect(output['truncated']).toBe(true);
  });

  it('status gives a page, those that are asked for, and how many there are of each kind', async () => {
    const a = peer((each) => withSteps(each, [7, 450]));
    const ids = (output: JsonObject) => (output['steps'] as { step_id: string }[]).map(({ step_id }) => step_id);
    const first = await ask(a, 'workflow_status');
    expect(ids(first)).toEqual(Array.from({ length: 100 }, (_, n) => name(n)));
    expect(first).toMatchObject({ truncated: true, steps_by_status: { completed: 498, failed: 2 } });
    const last = await ask(a, 'workflow_status', { offset: 450 });
    expect(ids(last)).toHaveLength(50);
    expect(last['truncated']).toBe(false);
    expect(ids(await ask(a, 'workflow_status', { step_status_filter: ['failed'] }))).toEqual([name(7), name(450)]);
    expect(ids(await ask(a, 'workflow_status', { step_filter: [name(450), name(3)] }))).toEqual([name(3), name(450)]);
    await expect(ask(a, 'workflow_status', { step_filter: [`${name(3)}x`] })).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      message: expect.stringMatching(/step_filter\[0\]: the workflow has no step .*did you mean/),
    });
  });

  it('result gives the outputs of the steps that are asked for', async () => {
    const a = peer(withSteps);
    const some = await ask(a, 'workflow_result', { step_filter: [name(499)], include_logs: true });
    expect(some['outputs']).toEqual({ [name(499)]: { n: 499, text: 't'.repeat(800) } });
    expect(some['logs']).toHaveLength(20);
    const all = await ask(a, 'workflow_result');
    const shown = Object.keys(all['outputs'] as object);
    expect(shown.length).toBeGreaterThan(10);
    expect(all['outputs_omitted']).toHaveLength(100);
    expect(all['outputs_omitted']).not.toContain(shown[0]);
    expect(all['cuts']).toEqual([{ at: 'result.all', shown: expect.any(Number), total: ITEMS }]);
  });

  it('dependencies of some steps are whole, and a drawing of them can be drawn', async () => {
    const a = peer(withSteps);
    const some = await ask(a, 'workflow_dependencies', { step_filter: [name(20), name(21)] });
    expect(some['truncated']).toBe(true); // The critical path is that of the whole run.
    expect(some['edges']).toHaveLength(20);
    expect(some['dag']).toMatchObject({ order: [name(20), name(21)] });
    const drawn = await ask(a, 'workflow_dependencies', { limit: 3, format: 'dot' });
    expect(String(drawn['dag']).match(/->/g)).toHaveLength(3);
    expect(String(drawn['dag'])).toMatch(/\}\n$/);
  });

  it('the whole is there for who asks for it', async () => {
    const a = peer(withSteps);
    for (const tool of ['workflow_status', 'workflow_result', 'workflow_dependencies']) {
      const limit: JsonObject = tool === 'workflow_result' ? {} : { limit: ITEMS };
      const whole = await ask(a, tool, { ...limit, max_bytes: ANSWER_BYTES_MAX });
      expect(whole['truncated'], tool).toBe(false);
      expect(Object.keys((whole['steps'] ?? whole['outputs'] ?? whole['nodes']) as object)).toHaveLength(ITEMS);
      expect(tools.get(tool)!.cli?.whole).toMatchObject({ max_bytes: ANSWER_BYTES_MAX });
    }
  });
});

describe('a step of 500 items', () => {
  it('is a part of the list in the result and in the outputs', async () => {
    const output = await ask(peer(withItems), 'workflow_result');
    expect(tokensOf(output)).toBeLessThan(TOKENS_MAX);
    const shown = output['result'] as { n: number }[];
    expect(shown.slice(0, 20).map(({ n }) => n)).toEqual(Array.from({ length: 20 }, (_, n) => n));
    expect(output).toMatchObject({
      truncated: true,
      cuts: expect.arrayContaining([
        { at: 'result', shown: shown.length, total: ITEMS },
        { at: 'outputs.s', shown: expect.any(Number), total: ITEMS },
      ]),
    });
    expect(tokensOf(await ask(peer(withItems), 'workflow_status'))).toBeLessThan(TOKENS_MAX);
  });
});

it.each([
  [0, false],
  [1, true],
])('as many lines as an answer may hold and %i more: truncated %s', async (more, truncated) => {
  const a = peer((each) => {
    withItems(each);
    const lines = Array.from({ length: LOG_LINES_ANSWER_MAX / 10 }, (_, n) => `line ${n}`);
    for (let n = 0; n < 10; n += 1) each.put(logOf(`w/s/${n}`, lines));
    each.put(logOf('w/s/10', Array(more).fill('one more')));
  });
  const output = await ask(a, 'workflow_result', { include_logs: true, max_bytes: ANSWER_BYTES_MAX });
  expect(output).toMatchObject({ truncated, logs_dropped: more });
  expect(output['logs']).toHaveLength(LOG_LINES_ANSWER_MAX);
});

describe('a task', () => {
  const lines = Array.from({ length: 5_000 }, (_, n) => `line ${n} of what it said`);
  const large = (fields: { output: JsonValue }) =>
    peer((each) => each.put(task('w/s/0', { task_id: 't', status: 'completed', ...fields }), logOf('w/s/0', lines)));

  it('shows the front of a large output, and the end of many lines', async () => {
    const a = large({ output: { exit_code: 0, stdout: 'o'.repeat(1_000_000) } });
    const output = await ask(a, 'task_result', { include_logs: true });
    expect(tokensOf(output)).toBeLessThan(TOKENS_MAX);
    expect(output).toMatchObject({
      truncated: true,
      result: { exit_code: 0 },
      cuts: [{ at: 'result.stdout', shown: expect.any(Number), total: 1_000_000 }],
    });
    const logs = output['logs'] as { line: string }[];
    expect(logs.at(-1)!.line).toBe(lines.at(-1));
    expect(Number(output['logs_dropped']) + logs.length).toBe(lines.length);
    expect(tokensOf(await ask(a, 'task_status', { include_logs: true }))).toBeLessThan(TOKENS_MAX);
  });

  it('that is small is whole', async () => {
    const a = large({ output: [1, 2, 3] });
    expect(await ask(a, 'task_result')).toMatchObject({ truncated: false, result: [1, 2, 3], output: [1, 2, 3] });
    const whole = await ask(a, 'task_result', { include_logs: true, max_bytes: ANSWER_BYTES_MAX });
    expect(whole).toMatchObject({ truncated: false, logs_dropped: 0 });
    expect(whole['logs']).toHaveLength(lines.length);
  });
});
