/** Records as the scheduler makes them, for tests of its parts. */
import { requiresSchema, retrySchema } from '../../dag/schema.ts';
import { EMPTY_TASK_STATE, type TaskRecord } from '../../scheduler/records.ts';

/** 2026-01-01, where the simulated wall clock begins. */
const CREATED_AT = '2026-01-01T00:00:00.000Z';

export function taskRecord(uid: string, over: Partial<TaskRecord> = {}): TaskRecord {
  return {
    kind: 'task',
    uid,
    task_id: `id-of-${uid}`,
    task_type: 'echo',
    payload: {},
    workflow_uid: null,
    workflow_id: null,
    step_id: null,
    index: null,
    priority: 1,
    tags: [],
    metadata: {},
    requires: requiresSchema.parse({}),
    retry: retrySchema.parse({}),
    timeout_ms: null,
    depends_on: [],
    at_most_once: false,
    cache_key: null,
    content_hash: '',
    copies: 1,
    ...EMPTY_TASK_STATE,
    created_at: CREATED_AT,
    queued_at: CREATED_AT,
    ...over,
  };
}
