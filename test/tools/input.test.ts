import { describe, expect, it } from 'vitest';
import { JSON_DEPTH_MAX, SUBMISSION_BYTES_MAX } from '../../dag/limits.ts';
import { failure, parseInput } from '../../tools/call/envelope.ts';
import { callTool, runTool } from '../../tools/call/route.ts';
import { InvalidInputError } from '../../tools/errors.ts';
import { tools } from '../../tools/registry.ts';
import { answerOperation } from '../../tools/task/answer.ts';
import { MeshOfDoubles } from './mesh-of-doubles.ts';

const STEP = { step_id: 'a', action: 'echo' };

/** At least two per tool: the input, and the place or words that the answer names. */
const BAD: [tool: string, input: unknown, says: string][] = [
  ['workflow_submit', { steps: [STEP] }, 'name: is missing'],
  ['workflow_submit', { name: 'x', steps: [] }, 'steps: must have at least one step'],
  [
    'workflow_submit',
    { name: 'x', steps: [{ ...STEP, depend_on: [] }] },
    'steps[0].depend_on: is not a known field (did you mean "depends_on"?)',
  ],
  ['workflow_submit', { name: 'x', steps: [STEP], require_copys: true }, 'did you mean "require_copies"?'],
  ['workflow_submit', { name: 'x', steps: [STEP], priority: 11 }, 'priority'],
  ['workflow_status', {}, 'workflow_id: is missing'],
  ['workflow_status', { workflow_id: 'a', include_step: true }, 'did you mean "include_steps"?'],
  ['workflow_cancel', { workflow_id: 'not an id' }, 'workflow_id: must be 1 to 128 characters'],
  ['workflow_cancel', { workflow_id: 'a', force: 'yes' }, 'force: must be true or false, not "yes"'],
  ['workflow_list', { limit: 0 }, 'limit'],
  ['workflow_list', { status_filter: 'runing' }, 'did you mean "running"?'],
  ['workflow_list', { limit: 1001 }, 'limit'],
  ['workflow_dependencies', { workflow_id: 'a', format: 'svg' }, 'format: must be one of "json", "dot", "mermaid"'],
  ['workflow_dependencies', { workflow_id: 'a', format: 'dot', fmt: 'json' }, 'fmt: is another name for format'],
  ['workflow_result', { workflow_id: 7 }, 'workflow_id: must be a string, not 7'],
  ['workflow_result', { workflow_id: 'a', include_output: true }, 'did you mean "include_outputs"?'],
  ['task_submit', {}, 'task_type: is missing'],
  ['task_submit', { task_type: 'echo', deadline: 'tomorrow' }, 'deadline: must be a time such as'],
  ['task_submit', { task_type: 'echo', retry_policy: { max_retry: 1 } }, 'did you mean "max_retries"?'],
  ['task_submit', { task_type: 'echo', payload: [] }, 'payload'],
  ['task_status', { task_id: '' }, 'task_id'],
  ['task_status', { taskid: 'a' }, 'did you mean "task_id"?'],
  ['task_cancel', {}, 'task_id: is missing'],
  ['task_cancel', { task_id: 'a', reason: 5 }, 'reason: must be a string'],
  ['task_list', { priority_min: -1 }, 'priority_min'],
  ['task_list', { scope: 'global' }, 'scope: must be one of "local", "mesh"'],
  ['task_priority', { task_id: 'a' }, 'give exactly one of new_priority, boost and demote'],
  ['task_priority', { task_id: 'a', boost: 1, demote: 1 }, 'give exactly one of new_priority, boost and demote'],
  ['task_priority', { task_id: 'a', new_priority: 10.5 }, 'new_priority'],
  ['task_retry', { task_id: 'a', retry_config: { max_retries: -1 } }, 'retry_config.max_retries'],
  ['task_retry', { retry_config: {} }, 'task_id: is missing'],
  ['task_result', { task_id: ['a'] }, 'task_id: must be a string, not a list'],
  ['task_result', { task_id: 'a', include_outputs: true }, 'did you mean "include_output"?'],
  ['queue_stats', { scope: 'all' }, 'scope'],
  ['queue_stats', { include_workers: true }, 'include_workers: is not a known field'],
  ['queue_pause', { reason: ['x'] }, 'reason'],
  ['queue_pause', { scop: 'mesh' }, 'did you mean "scope"?'],
  ['queue_resume', { reorder_by_priority: 1 }, 'reorder_by_priority'],
  ['queue_resume', { reorder: true }, 'reorder: is not a known field'],
  ['queue_clear', {}, 'confirm: is missing'],
  ['queue_clear', { confirm: true, status_filter: 'running' }, 'status_filter: must be one of'],
  ['worker_register', { worker_id: 'w', capabilities: [] }, 'must name at least one action or label'],
  ['worker_register', { worker_id: 'w', capabilities: ['gpu'], max_concurrent_tasks: 0 }, 'max_concurrent_tasks'],
  ['worker_unregister', { worker_id: 'w', timeout_ms: -1 }, 'timeout_ms'],
  ['worker_unregister', {}, 'worker_id: is missing'],
  ['worker_status', { worker_id: 'w w' }, 'worker_id'],
  ['worker_status', { worker_id: 'w', include_task: true }, 'did you mean "include_tasks"?'],
  ['peer_discover', { max_peers: 0 }, 'max_peers'],
  ['peer_discover', { capability_filter: 'gpu' }, 'capability_filter: must be a list, not "gpu"'],
  ['peer_connect', {}, 'give peer_id, multiaddr, or both'],
  ['peer_connect', { multiaddr: '127.0.0.1:7600' }, 'multiaddr: must be a multiaddr such as'],
  ['peer_disconnect', {}, 'peer_id: is missing'],
  ['peer_disconnect', { peer_id: 'a\nb' }, 'peer_id: must be a peer id or a name'],
  ['peer_list', { sort_by: 'latncy' }, 'did you mean "latency"?'],
  ['peer_list', { offset: -1 }, 'offset'],
  ['peer_metrics', { peer_id: 'a', history_hours: 25 }, 'history_hours'],
  ['peer_metrics', { include_history: true }, 'peer_id: is missing'],
  ['bootstrap_network', { bootstrap_nodes: ['localhost:7600'] }, 'bootstrap_nodes[0]: must be a multiaddr such as'],
  ['bootstrap_network', { min_connections: 5, max_connections: 2 }, 'min_connections: must not be larger'],
];

describe('a bad input', () => {
  it.each(BAD)('of %s, %j, is INVALID_INPUT and says where', async (name, input, says) => {
    // A double without any method set: whatever a tool did before the check would fail the test.
    const { context } = new MeshOfDoubles().peer('a');
    const error = await callTool(tools.get(name)!, input, context, 0).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(InvalidInputError);
    const { code, message, retryable, details } = (error as InvalidInputError).toShape();
    expect(code).toBe('INVALID_INPUT');
    expect(retryable).toBe(false);
    expect(message).toContain(`${name}: `);
    expect(message).toContain(says);
    expect(details!['problems']).toContainEqual({ path: expect.any(String), message: expect.any(String) });
  });

  it('is tested twice or more for every tool', () => {
    for (const name of tools.keys())
      expect(BAD.filter(([tool]) => tool === name).length, name).toBeGreaterThanOrEqual(2);
  });

  it('lists every problem with its place', () => {
    const submit = tools.get('task_submit')!;
    let error: unknown;
    try {
      parseInput(submit, { priority: 'high', timeout_ms: 0, tag: ['x'] });
    } catch (thrown) {
      error = thrown;
    }
    const paths = ((error as InvalidInputError).details!['problems'] as { path: string }[]).map(({ path }) => path);
    expect(paths.sort()).toEqual(['priority', 'tag', 'task_type', 'timeout_ms']);
  });

  it.each([['text'], [7], [[]], [true]])('that is %j and not an object is refused', (input) => {
    expect(() => parseInput(tools.get('queue_stats')!, input)).toThrow(InvalidInputError);
  });

  it('that is nested too deep or too large is LIMIT_EXCEEDED before it is looked at', () => {
    const submit = tools.get('task_submit')!;
    let deep: unknown = 1;
    for (let level = 0; level < 200_000; level++) deep = [deep];
    expect(() => parseInput(submit, { task_type: 'echo', payload: { deep } })).toThrow(
      expect.objectContaining({
        code: 'LIMIT_EXCEEDED',
        details: expect.objectContaining({ maximum: JSON_DEPTH_MAX }),
      }),
    );
    const text = 'x'.repeat(SUBMISSION_BYTES_MAX);
    expect(() => parseInput(submit, { task_type: 'echo', payload: { text } })).toThrow(
      expect.objectContaining({
        code: 'LIMIT_EXCEEDED',
        details: expect.objectContaining({ limit: 'SUBMISSION_BYTES_MAX' }),
      }),
    );
  });

  it('of the answer to a waiting task is refused too', () => {
    expect(() => parseInput(answerOperation, { task_id: 'a' })).toThrow('approve: is missing');
    expect(parseInput(answerOperation, { task_id: 'a', approve: false })).toEqual({
      task_id: 'a',
      approve: false,
      data: null,
    });
  });
});

describe('the shape of a failure', () => {
  it('is the same for our errors and for others', async () => {
    const { context } = new MeshOfDoubles().peer('a');
    expect(await runTool(tools.get('queue_clear')!, { confirm: false }, context)).toEqual({
      success: false,
      error: { code: 'CONFIRM_REQUIRED', message: expect.stringContaining('confirm: true'), retryable: false },
    });
    expect(failure(new TypeError('odd'))).toEqual({
      success: false,
      error: { code: 'INTERNAL', message: 'odd', retryable: false },
    });
  });
});

describe('the id of a record that gave way to another one (P5)', () => {
  const given = 'job~1jdrdli6jqsm1mvfc6gl';

  it('is one to read by', () => {
    expect(parseInput(tools.get('task_status')!, { task_id: given })).toMatchObject({ task_id: given });
    expect(parseInput(tools.get('workflow_result')!, { workflow_id: given })).toMatchObject({ workflow_id: given });
  });

  it.each(['job~', 'job~a~b', '~a', `${'j'.repeat(129)}~a`, `job~${'a'.repeat(2_000)}`])('is not %j', (id) => {
    expect(() => parseInput(tools.get('task_status')!, { task_id: id })).toThrow('task_id: ');
  });

  it('is none to submit under', () => {
    expect(() => parseInput(tools.get('task_submit')!, { task_id: given, task_type: 'echo' })).toThrow('task_id: ');
  });
});

it('an integer that is not exact is refused with its place, however it came', () => {
  const payload = { ids: [1, 3544790567247868102n] };
  expect(() => parseInput(tools.get('task_submit')!, { task_type: 'echo', payload })).toThrow(
    /payload\.ids\[1\].*3544790567247868102/,
  );
});
