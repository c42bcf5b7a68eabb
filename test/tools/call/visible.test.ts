import { describe, expect, it } from 'vitest';
import { type Caller, EVERYBODY } from '../../../scheduler/caller.ts';
import { parseInput } from '../../../tools/call/envelope.ts';
import { callTool, readLocally } from '../../../tools/call/route.ts';
import { tools } from '../../../tools/registry.ts';
import { answerOperation } from '../../../tools/task/answer.ts';
import { task, workflow } from '../../store/sample-rows.ts';
import { MeshOfDoubles, workerView } from '../mesh-of-doubles.ts';

const ann: Caller = { id: 'key:ann', others: 'none' };
const ben: Caller = { id: 'key:ben', others: 'none' };
const reader: Caller = { id: 'key:watch', others: 'read' };
const admin: Caller = { id: 'key:admin', others: 'write' };

/** A peer that owns a task and a workflow of Ann, as each caller asks it, directly and through another peer. */
function mesh() {
  const doubles = new MeshOfDoubles();
  const [a, b] = [doubles.peer('a'), doubles.peer('b')];
  b.put(task('t', { status: 'running', submitted_by: 'key:ann' }));
  b.put(workflow('w', { status: 'running', submitted_by: 'key:ann' }));
  const changed: string[] = [];
  b.scheduler.cancelTask = async () => {
    changed.push('task');
    return { record: task('t', { status: 'cancelled' }), cleanup_required: false };
  };
  b.scheduler.cancelWorkflow = async () => {
    changed.push('workflow');
    return { record: workflow('w', { status: 'cancelled' }), cancelled_steps: [] };
  };
  b.scheduler.answerTask = async () => {
    changed.push('answer');
    return task('t');
  };
  b.scheduler.setPriority = async () => {
    changed.push('priority');
    return { old_priority: 1, new_priority: 2, new_queue_position: null };
  };
  const at = { owner: b, other: a };
  const call = (where: keyof typeof at, caller: Caller, name: string, input: object) => {
    const tool = name === answerOperation.name ? answerOperation : tools.get(name)!;
    return callTool(tool, input, at[where].as(caller), 0);
  };
  return { a, b, call, changed };
}

const READS = [
  ['task_status', { task_id: 't-id' }],
  ['task_result', { task_id: 't-id' }],
  ['workflow_status', { workflow_id: 'w-id' }],
  ['workflow_dependencies', { workflow_id: 'w-id' }],
  ['workflow_result', { workflow_id: 'w-id' }],
] as const;
const CHANGES = [
  ['task_cancel', { task_id: 't-id' }],
  ['workflow_cancel', { workflow_id: 'w-id' }],
  ['task_priority', { task_id: 't-id', new_priority: 2 }],
  ['task_retry', { task_id: 't-id' }],
  [answerOperation.name, { task_id: 't-id', approve: true, data: null }],
] as const;

describe.each(['owner', 'other'] as const)('asked at the %s', (where) => {
  it.each([...READS, ...CHANGES])('%s of a record of another caller is NOT_FOUND', async (name, input) => {
    const { call, changed } = mesh();
    await expect(call(where, ben, name, input)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect(changed).toEqual([]);
  });

  it.each(CHANGES)('%s by one who may only see it is FORBIDDEN', async (name, input) => {
    const { call, changed } = mesh();
    await expect(call(where, reader, name, input)).rejects.toMatchObject({ code: 'FORBIDDEN', retryable: false });
    expect(changed).toEqual([]);
  });

  it('its own caller, an admin and everybody where nobody is asked see it and change it', async () => {
    for (const caller of [ann, admin, EVERYBODY]) {
      const { call, changed } = mesh();
      expect(await call(where, caller, 'task_status', { task_id: 't-id' })).toMatchObject({ status: 'running' });
      await call(where, caller, 'task_cancel', { task_id: 't-id' });
      await call(where, caller, 'workflow_cancel', { workflow_id: 'w-id' });
      expect(changed).toEqual(['task', 'workflow']);
    }
  });

  it('lists have what exists for the caller, and count that alone', async () => {
    const { call, b } = mesh();
    b.put(task('u', { submitted_by: 'key:ben' }), task('v'));
    const listed = async (caller: Caller) => {
      const { tasks, total_count } = await call(where, caller, 'task_list', {});
      return { ids: (tasks as { task_id: string }[]).map(({ task_id }) => task_id).sort(), total_count };
    };
    expect(await listed(ann)).toEqual({ ids: ['t-id'], total_count: 1 });
    expect(await listed(ben)).toEqual({ ids: ['u-id'], total_count: 1 });
    expect(await listed(reader)).toEqual({ ids: ['t-id', 'u-id', 'v-id'], total_count: 3 });
    expect(await call(where, ben, 'workflow_list', {})).toMatchObject({ total_count: 0 });
    expect(await call(where, ann, 'workflow_list', {})).toMatchObject({ total_count: 1 });
  });
});

it('a filter by a workflow of another caller finds none of its tasks, and not even that it exists', async () => {
  const { call, b } = mesh();
  b.put(task('w/s/0', { workflow_uid: 'w', workflow_id: 'w-id', submitted_by: 'key:ann' }));
  const asked = { workflow_filter: 'w-id' };
  b.put(workflow('x', { status: 'submitted', submitted_by: 'key:ben' }));
  for (const where of ['owner', 'other'] as const) {
    expect(await call(where, ann, 'task_list', asked)).toMatchObject({ total_count: 1 });
    await expect(call(where, ben, 'task_list', asked)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(call(where, ben, 'task_list', { workflow_filter: 'none' })).rejects.toMatchObject({
      code: 'NOT_FOUND',
    });
    expect(await call(where, ben, 'task_list', { workflow_filter: 'x-id' })).toMatchObject({ total_count: 0 });
  }
});

it('a read on the serve loop leaves what does not exist for the caller to the mesh, which says so', async () => {
  const { b } = mesh();
  const tool = tools.get('task_status')!;
  const input = parseInput(tool, { task_id: 't-id' });
  expect(await readLocally(tool, input, { ...b.context, caller: ann })).toMatchObject({ task_id: 't-id' });
  expect(await readLocally(tool, input, { ...b.context, caller: ben })).toBeUndefined();
});

it('a worker shows a caller those of its tasks that exist for that one', async () => {
  const { b } = mesh();
  b.scheduler.workers = () => [workerView('b', { worker_id: 'w1', tasks: ['t', 'of-another-owner'] })];
  const tasksFor = async (caller: Caller) => {
    const input = { worker_id: 'w1', include_tasks: true };
    const { tasks } = await callTool(tools.get('worker_status')!, input, b.as(caller), 0);
    return (tasks as { uid: string }[]).map(({ uid }) => uid);
  };
  b.scheduler.resolve = async () => ({ here: true, uid: 'w1' });
  expect(await tasksFor(ann)).toEqual(['t']);
  expect(await tasksFor(ben)).toEqual([]);
  expect(await tasksFor(admin)).toEqual(['t', 'of-another-owner']);
});

it('a right counts for the record that the call is about, not for a newer one with its id', async () => {
  const { b, call, changed } = mesh();
  b.put(
    task('z', {
      task_id: 't-id',
      submitted_by: 'key:ben',
      status: 'completed',
      created_at: '2030-01-01T00:00:00.000Z',
    }),
  );
  b.scheduler.resolve = async () => ({ here: true, uid: 't' });
  await expect(call('owner', ben, 'task_cancel', { task_id: 't-id' })).rejects.toMatchObject({ code: 'NOT_FOUND' });
  await expect(
    call('owner', ben, answerOperation.name, { task_id: 't-id', approve: true, data: null }),
  ).rejects.toMatchObject({ code: 'NOT_FOUND' });
  expect(changed).toEqual([]);
});

it('what a caller submits is theirs', async () => {
  const { a } = mesh();
  const submitted: unknown[] = [];
  a.scheduler.submitTask = async ({ submitted_by }) => {
    submitted.push(submitted_by);
    throw new Error('far enough');
  };
  for (const caller of [ann, EVERYBODY]) {
    const context = { ...a.context, caller };
    await callTool(tools.get('task_submit')!, { task_type: 'echo' }, context, 0).catch(() => {});
  }
  expect(submitted).toEqual(['key:ann', undefined]);
});
