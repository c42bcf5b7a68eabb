/** Records as the scheduler writes them, for tests and measurements of the stores. */
import type {
  FlowRecord,
  LogRecord,
  Row,
  StepRecord,
  TaskRecord,
  WorkerRecord,
  WorkflowRecord,
} from '../../scheduler/records.ts';

/** 2026-01-01 plus `ms`, as records keep times. */
export function at(ms: number): string {
  return new Date(Date.UTC(2026, 0, 1) + ms).toISOString();
}

/** The feed of most rows in tests. */
export const FEED = '0123456789abcdefghij';

export function row(seq: number, record: FlowRecord, { feed_id = FEED, epoch = 1 } = {}): Row {
  return { uid: record.uid, feed_id, epoch, seq, record };
}

export function task(uid: string, fields: Partial<TaskRecord> = {}): TaskRecord {
  return {
    kind: 'task',
    uid,
    task_id: `${uid}-id`,
    task_type: 'shell',
    payload: { command: ['wc', '-w', 'README.md'] },
    workflow_uid: null,
    workflow_id: null,
    step_id: null,
    index: null,
    priority: 1,
    tags: [],
    metadata: {},
    requires: { labels: [], peers: [] },
    retry: { max_retries: 0, initial_delay_ms: 1000, backoff_factor: 2, max_delay_ms: 60_000, jitter: true },
    timeout_ms: null,
    depends_on: [],
    at_most_once: false,
    cache_key: null,
    content_hash: 'c'.repeat(43),
    copies: 1,
    status: 'queued',
    progress: 0,
    progress_message: null,
    attempt: 0,
    lease_epoch: null,
    failures: 0,
    worker_id: null,
    peer_id: null,
    placement: null,
    due_at: null,
    deadline_at: null,
    output: null,
    error: null,
    attempts: [],
    dead_letter: false,
    retry_of: null,
    retry_count: 0,
    created_at: at(0),
    queued_at: at(0),
    started_at: null,
    ended_at: null,
    wait_ms: null,
    execution_time_ms: null,
    ...fields,
  };
}

export function workflow(uid: string, fields: Partial<WorkflowRecord> = {}): WorkflowRecord {
  return {
    kind: 'workflow',
    uid,
    workflow_id: `${uid}-id`,
    name: uid,
    status: 'running',
    priority: 1,
    tags: [],
    metadata: {},
    dependencies: [],
    content_hash: 'c'.repeat(43),
    parent_task_uid: null,
    copies: 1,
    awaits_copies: false,
    steps_total: 2,
    steps_ended: 0,
    progress: 0,
    current_step: null,
    result: null,
    error: null,
    created_at: at(0),
    started_at: null,
    ended_at: null,
    execution_time_ms: null,
    ...fields,
  };
}

export function step(workflow_uid: string, step_id: string, fields: Partial<StepRecord> = {}): StepRecord {
  return {
    kind: 'step',
    uid: `${workflow_uid}/${step_id}`,
    workflow_uid,
    step_id,
    status: 'running',
    items: null,
    reason: null,
    error: null,
    started_at: at(0),
    ended_at: null,
    ...fields,
  };
}

export function log(task_uid: string, line: string): LogRecord {
  return {
    kind: 'log',
    uid: `${task_uid}/log`,
    task_uid,
    lines: [{ at: at(0), attempt: 1, stream: 'stdout', line }],
    dropped_lines: 0,
  };
}

export function worker(uid: string, fields: Partial<WorkerRecord> = {}): WorkerRecord {
  return {
    kind: 'worker',
    uid,
    worker_id: `${uid}-id`,
    capabilities: ['shell'],
    max_concurrent_tasks: 2,
    resource_limits: { cpu_cores: null, memory_gb: null },
    metadata: {},
    status: 'active',
    registered_at: at(0),
    ...fields,
  };
}

export function tombstone(uid: string): FlowRecord {
  return { kind: 'tombstone', uid, cleared_at: at(0) };
}

/** JSON has no such value, so no store can keep it. */
export function unwritable(): TaskRecord {
  return task('unwritable', { output: 1n as never });
}
