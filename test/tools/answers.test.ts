import { describe, expect, it } from 'vitest';
import { FlowmeshError, type JsonObject } from '../../dag/errors.ts';
import { parseWorkflow } from '../../dag/schema.ts';
import type { Warning } from '../../scheduler/api.ts';
import { callTool } from '../../tools/call/route.ts';
import { tools } from '../../tools/registry.ts';
import { log, step, task, workflow } from '../store/sample-rows.ts';
import { connection, MeshOfDoubles, NOW_MS, type PeerDouble, peerView, workerView } from './mesh-of-doubles.ts';

/** Calls a tool and holds the answer against its published output schema. */
async function answer(peer: PeerDouble, name: string, input: JsonObject) {
  const tool = tools.get(name)!;
  const output = await callTool(tool, input, peer.context, 0);
  const { success, ...fields } = output;
  expect(success).toBe(true);
  tool.output.strict().parse(fields);
  return output;
}

const at = (ms: number) => new Date(NOW_MS + ms).toISOString();

/** A diamond: `load`, then `left` (three items) and `right`, then `join` that waits. */
function withRun(peer: PeerDouble): void {
  const definition = parseWorkflow({
    name: 'diamond',
    steps: [
      { step_id: 'load', action: 'echo' },
      { step_id: 'left', action: 'shell', depends_on: ['load'], foreach: [1, 2, 3] },
      { step_id: 'right', action: 'approve', depends_on: ['load'] },
      { step_id: 'join', action: 'echo', depends_on: ['left', 'right'] },
    ],
  });
  const of = (step_id: string, index: number, fields: object) =>
    task(`w/${step_id}/${index}`, { workflow_uid: 'w', workflow_id: 'w-id', step_id, index, attempt: 1, ...fields });
  const done = { status: 'completed', wait_ms: 5 } as const;
  peer.put(
    workflow('w', { started_at: at(-1_000), steps_total: 4, steps_ended: 2, progress: 50, current_step: 'right' }),
    { kind: 'definition', uid: 'w:definition', workflow: definition },
    step('w', 'load', { status: 'completed', started_at: at(-1_000), ended_at: at(-900) }),
    step('w', 'left', { status: 'completed', items: [1, 2, 3] }),
    step('w', 'right'),
    of('load', 0, { ...done, peer_id: 'a', output: 'data', execution_time_ms: 100 }),
    of('left', 2, {
      ...done,
      peer_id: 'c',
      output: 'L2',
      execution_time_ms: 40,
      started_at: at(-850),
      ended_at: at(-500),
    }),
    of('left', 0, {
      ...done,
      peer_id: 'b',
      output: 'L0',
      execution_time_ms: 30,
      started_at: at(-900),
      ended_at: at(-870),
    }),
    of('left', 1, { ...done, attempt: 2, peer_id: 'b', output: 'L1', execution_time_ms: 30 }),
    of('right', 0, { status: 'input_required' }),
    log('w/load/0', 'loaded'),
    log('w/left/1', 'worked'),
  );
}

describe('workflows', () => {
  it('status says of a step what is tried again, when and why, and what failed first', async () => {
    const a = new MeshOfDoubles().peer('a');
    const definition = parseWorkflow({ name: 'x', steps: [{ step_id: 's', action: 'shell', foreach: [1, 2, 3, 4] }] });
    const error = { code: 'EXIT_CODE', message: 'it ended with 1', retryable: true };
    const attempts = [{ attempt: 1, peer_id: 'b', ended_at: at(-50), error }];
    const again = {
      status: 'queued',
      attempt: 1,
      failures: 1,
      attempts,
      retry: { ...task('t').retry, max_retries: 2 },
    } as const;
    const of = (index: number, fields: object) =>
      task(`w/s/${index}`, { workflow_uid: 'w', workflow_id: 'w-id', step_id: 's', index, ...fields });
    a.put(
      workflow('w', { steps_total: 1 }),
      { kind: 'definition', uid: 'w:definition', workflow: definition },
      step('w', 's', { items: [1, 2, 3, 4] }),
      of(0, { ...again, due_at: at(9_000) }),
      of(1, { ...again, due_at: at(2_000) }),
      of(2, { status: 'failed', peer_id: 'b', error }),
      of(3, { status: 'failed', peer_id: 'c', error }),
    );
    const { steps } = (await answer(a, 'workflow_status', { workflow_id: 'w-id' })) as unknown as {
      steps: JsonObject[];
    };
    expect(steps[0]).toMatchObject({
      items: { total: 4, completed: 0, failed: 2, running: 0 },
      retrying: { task_id: 'w/s/1-id', index: 1, attempt: 2, attempts_max: 3, next_at: at(2_000), error },
      failed_task: { task_id: 'w/s/2-id', index: 2, peer_id: 'b', error },
    });
  });

  it('submit hands the workflow over without the fields of the call, and says what happened', async () => {
    const a = new MeshOfDoubles().peer('a');
    const submissions: unknown[] = [];
    let duplicate = false;
    let warnings: Warning[] = [];
    a.scheduler.submitWorkflow = async (submission) => {
      submissions.push(submission);
      const durability = { copies: 1, wanted: 2 };
      return { record: workflow('w'), duplicate, durability, estimated_start_time: at(0), warnings };
    };
    const input = { name: 'x', steps: [{ step_id: 's', action: 'echo' }], copies: 2 };
    expect(await answer(a, 'workflow_submit', input)).toEqual({
      success: true,
      workflow_id: 'w-id',
      status: 'running',
      peer_assigned: 'a',
      estimated_start_time: at(0),
      durability: { copies: 1, wanted: 2 },
      message: expect.stringContaining('w-id is accepted'),
    });
    const { copies: _, ...file } = input;
    expect(submissions).toEqual([{ workflow: parseWorkflow(file), copies: 2, require_copies: false }]);
    duplicate = true;
    warnings = [{ at: 'steps[0].inputs.v', message: 'perhaps not' }];
    expect(await answer(a, 'workflow_submit', input)).toMatchObject({ duplicate: true, warnings });
  });

  it('submit passes on what the check of the graph says', async () => {
    const a = new MeshOfDoubles().peer('a');
    a.scheduler.submitWorkflow = async () => {
      throw new FlowmeshError('CYCLE', 'a -> b -> a');
    };
    const steps = [{ step_id: 's', action: 'echo' }];
    await expect(answer(a, 'workflow_submit', { name: 'x', steps })).rejects.toMatchObject({ code: 'CYCLE' });
  });

  it('submit refuses more steps than a workflow may have', async () => {
    const a = new MeshOfDoubles().peer('a');
    const steps = Array.from({ length: 10_001 }, (_, n) => ({ step_id: `s${n}`, action: 'echo' }));
    await expect(answer(a, 'workflow_submit', { name: 'x', steps })).rejects.toMatchObject({
      code: 'LIMIT_EXCEEDED',
      details: { limit: 'STEPS_MAX' },
    });
  });

  it('status shows each step with its tasks and peers, also those that did not start', async () => {
    const a = new MeshOfDoubles().peer('a');
    withRun(a);
    const status = await answer(a, 'workflow_status', { workflow_id: 'w-id', include_metrics: true });
    expect(status).toMatchObject({
      status: 'running',
      progress: 50,
      current_step: 'right',
      peer_id: 'a',
      end_time: null,
    });
    expect(status['steps']).toMatchObject([
      { step_id: 'load', action: 'echo', status: 'completed', tasks: 1, peers: ['a'] },
      { step_id: 'left', status: 'completed', tasks: 3, peers: ['b', 'c'] },
      { step_id: 'right', status: 'input_required', tasks: 1, peers: [] },
      { step_id: 'join', status: 'pending', tasks: 0, peers: [], started_at: null },
    ]);
    expect(status['metrics']).toEqual({
      tasks_total: 5,
      tasks_by_status: { completed: 4, input_required: 1 },
      attempts: 6,
      retries: 1,
      elapsed_ms: 1_000,
      execution_ms: 200,
      wait_ms: 20,
      parallelism: 0.2,
      peers: [
        { peer_id: 'b', tasks: 2, execution_ms: 60 },
        { peer_id: 'a', tasks: 1, execution_ms: 100 },
        { peer_id: 'c', tasks: 1, execution_ms: 40 },
      ],
    });
    const steps = (await answer(a, 'workflow_status', { workflow_id: 'w-id' }))['steps'] as JsonObject[];
    expect(steps[1]).toMatchObject({
      items: {
        ...{ total: 3, completed: 3, failed: 0, running: 0 },
        by_peer: [
          { peer_id: 'b', tasks: 2 },
          { peer_id: 'c', tasks: 1 },
        ],
      },
    });
    expect(steps[2]).toMatchObject({ asking_task: 'w/right/0-id' });
    for (const field of ['items', 'retrying', 'failed_task']) expect(steps[0]).not.toHaveProperty(field);
    expect(await answer(a, 'workflow_status', { workflow_id: 'w-id', include_steps: false })).not.toHaveProperty(
      'steps',
    );
  });

  it('result has outputs by step, items in their order, and logs with where they are from', async () => {
    const a = new MeshOfDoubles().peer('a');
    withRun(a);
    const result = await answer(a, 'workflow_result', { workflow_id: 'w-id', include_logs: true });
    expect(result).toMatchObject({ status: 'running', result: null, execution_time_ms: null, logs_dropped: 0 });
    expect(result['outputs']).toEqual({ load: 'data', left: ['L0', 'L1', 'L2'] });
    expect(result['logs']).toMatchObject([
      { step_id: 'load', index: 0, line: 'loaded', stream: 'stdout' },
      { step_id: 'left', index: 1, line: 'worked' },
    ]);
    const bare = await answer(a, 'workflow_result', { workflow_id: 'w-id', include_outputs: false });
    expect(bare).not.toHaveProperty('outputs');
    expect(bare).not.toHaveProperty('logs');
  });

  it('dependencies give the critical path by measured times, and say what is estimated', async () => {
    const a = new MeshOfDoubles().peer('a');
    withRun(a);
    const shown = await answer(a, 'workflow_dependencies', { workflow_id: 'w-id' });
    expect(shown['edges']).toEqual(
      expect.arrayContaining([
        { from: 'load', to: 'left' },
        { from: 'right', to: 'join' },
      ]),
    );
    expect(shown['nodes']).toContainEqual({ id: 'right', action: 'approve', status: 'input_required' });
    expect(shown['dag']).toMatchObject({ roots: ['load'], sinks: ['join'], depends_on: { join: ['left', 'right'] } });
    // left: from the first start to the last end, 400 ms; join: like the other echo step, 100 ms.
    expect(shown['critical_path']).toEqual({
      steps: ['load', 'left', 'join'],
      duration_ms: 600,
      basis: 'mixed',
      measured: ['load', 'left'],
      estimated: ['join'],
    });
    const drawn = await answer(a, 'workflow_dependencies', { workflow_id: 'w-id', fmt: 'mermaid' });
    expect(drawn).toMatchObject({ format: 'mermaid', dag: expect.stringContaining('load') });
    const dot = await answer(a, 'workflow_dependencies', { workflow_id: 'w-id', format: 'dot', fmt: 'dot' });
    expect(dot['dag']).toContain('digraph');
  });

  it('cancel says which steps it cut short', async () => {
    const a = new MeshOfDoubles().peer('a');
    withRun(a);
    a.scheduler.cancelWorkflow = async (uid, options) => {
      expect([uid, options]).toEqual(['w', { reason: undefined, force: true }]);
      return { record: workflow('w', { status: 'cancelled', steps_total: 4 }), cancelled_steps: ['right', 'join'] };
    };
    expect(await answer(a, 'workflow_cancel', { workflow_id: 'w-id', force: true })).toMatchObject({
      status: 'cancelled',
      cancelled_steps: ['right', 'join'],
    });
  });
});

describe('tasks', () => {
  it('submit hands every field over under the scheduler’s names', async () => {
    const a = new MeshOfDoubles().peer('a');
    a.scheduler.submitTask = async (submission) => {
      expect(submission).toEqual({
        task_id: undefined,
        task_type: 'echo',
        payload: { a: 1 },
        priority: 1,
        tags: [],
        timeout_ms: 50,
        retry: { max_retries: 2, initial_delay_ms: 1_000, backoff_factor: 2, max_delay_ms: 60_000, jitter: true },
        delay_ms: undefined,
        deadline: '2027-01-01T00:00:00+01:00',
        requires: { labels: ['gpu'], peers: [] },
        depends_on: [],
        at_most_once: false,
        metadata: {},
      });
      const durability = { copies: 1, wanted: 1 };
      const place = { queue_position: 3, estimated_start_time: at(0) };
      return { record: task('t'), duplicate: false, durability, ...place, warnings: [] };
    };
    const input = {
      task_type: 'echo',
      payload: { a: 1 },
      timeout_ms: 50,
      retry_policy: { max_retries: 2 },
      deadline: '2027-01-01T00:00:00+01:00',
      requires: { labels: ['gpu'] },
    };
    const output = await answer(a, 'task_submit', input);
    expect(output).toMatchObject({ task_id: 't-id', status: 'queued', queue_position: 3, assigned_worker: null });
    expect(output).not.toHaveProperty('duplicate');
  });

  it('status gives the place in the queue, the placement, logs and metrics', async () => {
    const a = new MeshOfDoubles().peer('a');
    const placement = { considered: 2, chosen: null, reason: 'no free slot', found_by: null };
    a.put(task('first', { priority: 5 }), task('t', { placement }), log('t', 'hello'));
    const status = await answer(a, 'task_status', { task_id: 't-id', include_logs: true, include_metrics: true });
    expect(status).toMatchObject({
      queue_position: 1,
      placement,
      logs: [{ line: 'hello' }],
      metrics: { attempts: 0, execution_time_ms: null },
    });
    a.put(task('t', { status: 'running', started_at: at(-250) }));
    expect(await answer(a, 'task_status', { task_id: 't-id', include_metrics: true })).toMatchObject({
      queue_position: null,
      metrics: { execution_time_ms: 250 },
    });
  });

  it('result has the value, or the error of a dead letter', async () => {
    const a = new MeshOfDoubles().peer('a');
    a.put(task('ok', { status: 'completed', output: [1], attempt: 1, execution_time_ms: 4 }));
    const error = { code: 'EXIT', message: 'exit 1', retryable: true };
    a.put(task('bad', { status: 'failed', dead_letter: true, error, attempt: 3 }));
    expect(await answer(a, 'task_result', { task_id: 'ok-id' })).toMatchObject({
      result: [1],
      output: [1],
      attempts: 1,
      execution_time_ms: 4,
    });
    const bad = await answer(a, 'task_result', { task_id: 'bad-id', include_output: false });
    expect(bad).toMatchObject({ status: 'failed', result: null, error, dead_letter: true, attempts: 3 });
    expect(bad).not.toHaveProperty('output');
  });

  it('list filters by worker, tags, priority and dead letters', async () => {
    const a = new MeshOfDoubles().peer('a');
    a.put(
      task('t1', { worker_id: 'w1', priority: 5, tags: ['x', 'y'] }),
      task('t2', { worker_id: 'w2', priority: 1, tags: ['x'] }),
      task('t3', { status: 'failed', dead_letter: true }),
    );
    const ids = async (input: JsonObject) =>
      ((await answer(a, 'task_list', input))['tasks'] as { task_id: string }[]).map(({ task_id }) => task_id).sort();
    expect(await ids({})).toEqual(['t1-id', 't2-id', 't3-id']);
    expect(await ids({ worker_filter: 'w2' })).toEqual(['t2-id']);
    expect(await ids({ tag_filter: ['x', 'y'] })).toEqual(['t1-id']);
    expect(await ids({ priority_min: 2 })).toEqual(['t1-id']);
    expect(await ids({ dead_letter: true })).toEqual(['t3-id']);
  });

  it.each([
    [{ new_priority: 0 }, { new_priority: 0 }],
    [{ boost: 2 }, { boost: 2 }],
    [{ demote: 0.5, requeue: false }, { demote: 0.5 }],
  ])('priority %j asks for that one change', async (input, change) => {
    const a = new MeshOfDoubles().peer('a');
    a.put(task('t'));
    a.scheduler.setPriority = async (uid, asked, { requeue }) => {
      expect([uid, asked, requeue]).toEqual(['t', change, !('requeue' in input)]);
      return { old_priority: 1, new_priority: 3, new_queue_position: 0 };
    };
    expect(await answer(a, 'task_priority', { task_id: 't-id', ...input })).toMatchObject({ new_priority: 3 });
  });

  it('retry names the new task', async () => {
    const a = new MeshOfDoubles().peer('a');
    a.put(task('t', { status: 'failed' }));
    a.scheduler.retryTask = async (uid, config) => {
      expect([uid, config]).toEqual(['t', { max_retries: 1, timeout_ms: undefined }]);
      return { record: task('r', { task_id: 't-id-retry-1', retry_count: 1 }), queue_position: 0 };
    };
    expect(await answer(a, 'task_retry', { task_id: 't-id', retry_config: { max_retries: 1 } })).toEqual({
      success: true,
      task_id: 't-id',
      retry_task_id: 't-id-retry-1',
      retry_count: 1,
      queue_position: 0,
    });
  });
});

describe('queue and workers', () => {
  it('clear does nothing without confirm', async () => {
    const a = new MeshOfDoubles().peer('a');
    await expect(answer(a, 'queue_clear', { confirm: false })).rejects.toMatchObject({ code: 'CONFIRM_REQUIRED' });
    a.scheduler.clearQueue = async (filter) => ({ cleared_count: filter === 'failed' ? 2 : 0, remaining_count: 5 });
    expect(await answer(a, 'queue_clear', { confirm: true, status_filter: 'failed' })).toMatchObject({
      cleared_count: 2,
      remaining_count: 5,
      cleared_at: at(0),
    });
  });

  it('register states limits as null when they are not given', async () => {
    const a = new MeshOfDoubles().peer('a');
    a.scheduler.registerWorker = async (registration) => {
      expect(registration).toEqual({
        worker_id: 'pool',
        capabilities: ['shell', 'gpu'],
        max_concurrent_tasks: 5,
        resource_limits: { cpu_cores: null, memory_gb: 2 },
        metadata: {},
      });
      return { kind: 'worker', uid: 'u', status: 'active', registered_at: at(0), ...registration };
    };
    const input = { worker_id: 'pool', capabilities: ['shell', 'gpu'], resource_limits: { memory_gb: 2 } };
    expect(await answer(a, 'worker_register', input)).toMatchObject({ status: 'active', assigned_peers: ['a'] });
  });

  const record = (worker_id: string) => ({
    kind: 'worker' as const,
    uid: `uid-${worker_id}`,
    worker_id,
    capabilities: ['gpu'],
    max_concurrent_tasks: 4,
    resource_limits: { cpu_cores: null, memory_gb: null },
    metadata: {},
    status: 'offline' as const,
    registered_at: at(-60_000),
  });

  it('unregister says what was put back', async () => {
    const a = new MeshOfDoubles().peer('a');
    a.put(record('pool'));
    a.scheduler.unregisterWorker = async () => ({ completed_tasks: 1, abandoned_tasks: 2 });
    expect(await answer(a, 'worker_unregister', { worker_id: 'pool', timeout_ms: 10 })).toMatchObject({
      status: 'offline',
      completed_tasks: 1,
      abandoned_tasks: 2,
    });
  });

  it.each([
    [{ running: 0 }, 'idle'],
    [{ running: 1 }, 'active'],
    [{ running: 4 }, 'busy'],
    [{ running: 4, status: 'draining' as const }, 'draining'],
  ])('status of a worker with %j is %s', async (fields, status) => {
    const a = new MeshOfDoubles().peer('a');
    a.put(record('pool'), task('t', { status: 'running' }));
    a.scheduler.workers = () => [workerView('a', { worker_id: 'pool', tasks: ['t', 'elsewhere'], ...fields })];
    const shown = await answer(a, 'worker_status', { worker_id: 'pool', include_tasks: true, include_metrics: true });
    expect(shown).toMatchObject({
      status,
      tasks: [{ task_id: 't-id' }, { uid: 'elsewhere', task_id: null }],
      metrics: { success_rate: 0.75, tasks_per_minute: 4, registered_ms: 60_000 },
    });
  });

  it('status of a worker that is out of service says so', async () => {
    const a = new MeshOfDoubles().peer('a');
    a.put(record('pool'));
    expect(await answer(a, 'worker_status', { worker_id: 'pool' })).toMatchObject({
      status: 'offline',
      completed_tasks: null,
      resource_usage: { slots: null, slots_used: 0 },
    });
  });
});

describe('peers', () => {
  function withPeers(): PeerDouble {
    const a = new MeshOfDoubles().peer('a');
    a.peers.list = () => [
      connection('fast', { last_seen: at(-5_000) }),
      connection('slow', { bytes_sent: 9_000_000 }),
      connection('gone', { status: 'disconnected', connected_since: null, last_seen: null }),
    ];
    a.scheduler.peers = () => [
      peerView('fast', { rtt_ms: 0, jitter_ms: 0, leases_kept: 9, leases_lost: 0 }),
      peerView('slow', { rtt_ms: 100, jitter_ms: 50, leases_kept: 0, leases_lost: 0 }),
      peerView('gone', { state: null, rtt_ms: null, jitter_ms: null }),
    ];
    return a;
  }
  const ids = (output: JsonObject) => (output['peers'] as { peer_id: string }[]).map(({ peer_id }) => peer_id);

  it.each([
    ['last_seen', ['slow', 'fast', 'gone']],
    ['latency', ['fast', 'slow', 'gone']],
    ['bandwidth', ['slow', 'fast', 'gone']],
    ['peer_id', ['fast', 'gone', 'slow']],
  ])('list sorts by %s, unknown figures last', async (sort_by, order) => {
    expect(ids(await answer(withPeers(), 'peer_list', { sort_by }))).toEqual(order);
  });

  it('list filters by status and by what one worker offers, and counts pages', async () => {
    const a = withPeers();
    expect(ids(await answer(a, 'peer_list', { status_filter: 'disconnected' }))).toEqual(['gone']);
    expect(ids(await answer(a, 'peer_list', { capability_filter: ['gpu', 'shell'] }))).toEqual(['slow', 'fast']);
    expect(ids(await answer(a, 'peer_list', { capability_filter: ['gpu', 'fn:none'] }))).toEqual([]);
    expect(await answer(a, 'peer_list', { limit: 2 })).toMatchObject({
      total_count: 3,
      returned_count: 2,
      has_more: true,
    });
  });

  it('metrics are measured, and null where nothing was', async () => {
    const a = withPeers();
    a.peers.history = (peer_id, hours) => [
      { at: at(0), latency_ms: hours, bytes_sent: peer_id.length, bytes_received: 0 },
    ];
    const slow = await answer(a, 'peer_metrics', { peer_id: 'slow', include_history: true, history_hours: 2 });
    expect(slow['current_metrics']).toMatchObject({
      latency_ms: 100,
      // A round trip of 100 ms halves it, a jitter of 50 ms halves it again.
      connection_quality: 0.25,
      reliability_score: null,
      // (9,000,000 + 250,000) bytes in 10 s.
      bandwidth_mbps: 7.4,
      requests_served: 7,
    });
    expect(slow['history']).toEqual([{ at: at(0), latency_ms: 2, bytes_sent: 4, bytes_received: 0 }]);
    const gone = await answer(a, 'peer_metrics', { peer_id: 'gone' });
    expect(gone['current_metrics']).toMatchObject({
      latency_ms: null,
      bandwidth_mbps: null,
      connection_quality: null,
      reliability_score: 0.75,
      uptime_hours: null,
    });
    expect(await answer(a, 'peer_metrics', { peer_id: 'a' })).toMatchObject({
      connection_info: null,
      current_metrics: { latency_ms: null, bytes_received: 750_000, requests_served: 21 },
    });
    await expect(answer(a, 'peer_metrics', { peer_id: 'nobody' })).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  it('discover believes the DHT about strangers, and known peers about themselves', async () => {
    const a = withPeers();
    a.peers.discover = async ({ capabilities, max_peers }) => {
      // The two connected peers leave room for ten strangers.
      expect(max_peers).toBe(12);
      const stranger = connection('stranger', { source: 'dht', status: 'disconnected', connected_since: null });
      return [connection('fast'), ...(capabilities.includes('action:fn:resize') ? [stranger] : [])];
    };
    const found = await answer(a, 'peer_discover', { capability_filter: ['fn:resize'], include_metrics: true });
    expect(found).toMatchObject({
      discovered_count: 1,
      peers: [
        {
          peer_id: 'stranger',
          status: 'disconnected',
          source: 'dht',
          capabilities: null,
          metrics: { latency_ms: null },
        },
      ],
    });
    const both = await answer(a, 'peer_discover', { capability_filter: ['fn:resize', 'gpu'] });
    expect(both).toMatchObject({ discovered_count: 0, peers: [] });
  });

  it('connect gives what the greeting told', async () => {
    const a = withPeers();
    a.peers.connect = async ({ peer_id, multiaddr, retry_count, persist }) => {
      expect([peer_id, multiaddr, retry_count, persist]).toEqual([undefined, '/ip4/127.0.0.1/tcp/1', 0, true]);
      const result = { connection_id: 'c1', connection_time_ms: 1.23456, protocol_version: '1.0.0', attempts: 1 };
      return { peer_id: 'fast', ...result };
    };
    expect(await answer(a, 'peer_connect', { multiaddr: '/ip4/127.0.0.1/tcp/1', retry_count: 0 })).toMatchObject({
      peer_id: 'fast',
      connection_time_ms: 1.235,
      peer_capabilities: ['echo', 'gpu', 'shell'],
    });
  });

  it('disconnect hands work back first, when it is graceful and there is a connection', async () => {
    const a = withPeers();
    const done: string[] = [];
    a.scheduler.releasePeer = async (peer_id) => {
      done.push(`release ${peer_id}`);
      return { handed_back: 2 };
    };
    a.peers.disconnect = async (peer_id, reason) => {
      done.push(`disconnect ${peer_id} ${reason}`);
      return { was_connected: peer_id !== 'gone' };
    };
    expect(await answer(a, 'peer_disconnect', { peer_id: 'fast', reason: 'moved' })).toMatchObject({
      was_connected: true,
      graceful: true,
      reason: 'moved',
      cleanup_performed: true,
      handed_back: 2,
    });
    expect(await answer(a, 'peer_disconnect', { peer_id: 'slow', graceful: false })).toMatchObject({
      cleanup_performed: false,
    });
    expect(await answer(a, 'peer_disconnect', { peer_id: 'gone' })).toMatchObject({ was_connected: false });
    expect(done).toEqual([
      'release fast',
      'disconnect fast moved',
      'disconnect slow undefined',
      'disconnect gone undefined',
    ]);
    await expect(answer(a, 'peer_disconnect', { peer_id: 'nobody' })).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  it('bootstrap is ready with enough connections, and names what failed', async () => {
    const a = withPeers();
    const failed = [{ address: '/ip4/127.0.0.1/tcp/2', message: 'refused' }];
    a.peers.bootstrap = async ({ addresses }) => ({ used: addresses, connected: ['fast'], failed });
    const bootstrap_nodes = ['/ip4/127.0.0.1/tcp/1', '/ip4/127.0.0.1/tcp/2'];
    expect(await answer(a, 'bootstrap_network', { bootstrap_nodes })).toMatchObject({
      connected_count: 1,
      failed_count: 1,
      bootstrap_nodes_used: bootstrap_nodes,
      connected_peers: ['fast'],
      network_ready: true,
    });
    expect(await answer(a, 'bootstrap_network', { min_connections: 2 })).toMatchObject({ network_ready: false });
  });
});
