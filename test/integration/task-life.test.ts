/**
 * The life of tasks on a mesh of three, seen from outside: what MCP says, what is on the disk, and which processes run.
 * Tasks are submitted to A, run on B or C, and are asked for at a third.
 */
import { stat, writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { JsonObject } from '../../dag/errors.ts';
import { waitUntilGone } from '../executors/processes.ts';
import { eventually } from '../harness/eventually.ts';
import { type ToolPeer, toolMesh } from './tool-mesh.ts';

const FUNCTIONS = resolve(import.meta.dirname, 'life-functions.ts');
const mesh = toolMesh({ args: ['--allow-shell', '*', '--slots', '4', '--functions', FUNCTIONS] });

/** File times are those of the kernel's last tick. */
const CLOCK_GRAIN_MS = 10;

const at = (peer: ToolPeer) => ({ requires: { peers: [peer.peer_id] } });
const shell = (command: string[]) => ({ task_type: 'shell', payload: { command } });
const script = (text: string, ...words: string[]) => shell(['sh', '-c', text, 'sh', ...words]);
const append = (file: string, line: string) => shell(mesh.append(file, line));
const fails = shell(['false']);
const submit = (task_id: string, ...parts: JsonObject[]) =>
  mesh.a.call('task_submit', Object.assign({ task_id }, ...parts));
const time = (value: unknown) => Date.parse(String(value));

describe('retries', () => {
  it('a failing task is tried again after growing waits up to the largest, and is a dead letter in the end', async () => {
    const { b, c } = mesh;
    const retry_policy = { max_retries: 3, initial_delay_ms: 100, backoff_factor: 4, max_delay_ms: 200, jitter: false };
    await submit('backoff', script('touch "$1.$FLOWMESH_ATTEMPT"; exit 3', mesh.path('tried')), at(b), {
      retry_policy,
    });
    const ended = await c.taskEnds('backoff');
    expect(ended).toMatchObject({ status: 'failed', dead_letter: true, attempt: 4, error: { code: 'EXIT_CODE' } });
    const history = (ended['metrics'] as { attempt_history: JsonObject[] }).attempt_history;
    expect(history.map(({ attempt, peer_id }) => [attempt, peer_id])).toEqual(
      [1, 2, 3, 4].map((attempt) => [attempt, b.peer_id]),
    );

    const tries = [1, 2, 3, 4].map(async (attempt) => (await stat(mesh.path(`tried.${attempt}`))).mtimeMs);
    const [first, second, third, fourth] = (await Promise.all(tries)) as [number, number, number, number];
    const waits = [second - first, third - second, fourth - third];
    // Without max_delay_ms the last one would be 1,600 ms.
    for (const [index, least] of [100, 200, 200].entries()) {
      expect(waits[index]).toBeGreaterThanOrEqual(least - CLOCK_GRAIN_MS);
    }
    expect(waits[2]).toBeLessThan(1_600);
    const dead = await c.call('task_list', { scope: 'mesh', dead_letter: true });
    expect(dead['tasks']).toContainEqual(
      expect.objectContaining({ task_id: 'backoff', owner_peer_id: mesh.a.peer_id }),
    );
  });

  it('a task that succeeds at its second attempt has not failed', async () => {
    const retry_policy = { max_retries: 5, initial_delay_ms: 1 };
    await submit('second', script('test "$FLOWMESH_ATTEMPT" = 2'), at(mesh.b), { retry_policy });
    expect(await mesh.c.taskEnds('second')).toMatchObject({
      ...{ status: 'completed', attempt: 2, dead_letter: false, error: null },
      metrics: { failures: 1, retries_left: 4, attempt_history: [{ attempt: 1, error: { code: 'EXIT_CODE' } }] },
    });
  });

  it('what cannot succeed is not tried again', async () => {
    const hopeless = { task_type: 'shell', payload: { command: ['echo', 'text'], parse: 'json' } };
    await submit('hopeless', hopeless, at(mesh.b), { retry_policy: { max_retries: 5, initial_delay_ms: 1 } });
    expect(await mesh.c.taskEnds('hopeless')).toMatchObject({
      ...{ status: 'failed', attempt: 1, dead_letter: true, error: { code: 'INVALID_OUTPUT', retryable: false } },
    });
  });

  it('an attempt that takes too long is ended with its process, and is a failure like any other', async () => {
    const hangs = script('echo $$ >>"$1"; sleep 300; true', mesh.path('hangs'));
    await submit('timeout', hangs, at(mesh.b), {
      ...{ timeout_ms: 200, retry_policy: { max_retries: 1, initial_delay_ms: 1 } },
    });
    const ended = await mesh.c.taskEnds('timeout');
    expect(ended).toMatchObject({ status: 'failed', dead_letter: true, attempt: 2, error: { code: 'TIMEOUT' } });
    expect((await mesh.c.call('task_result', { task_id: 'timeout' }))['execution_time_ms']).toBeGreaterThanOrEqual(200);
    const pids = (await mesh.lines('hangs')).map(Number);
    expect(pids).toHaveLength(2);
    await waitUntilGone(pids);
  });

  it('task_retry makes a linked task of its own each time, and leaves the old one as it ended', async () => {
    const { a, b, c } = mesh;
    await submit('again', fails, at(b));
    await c.taskEnds('again');
    const retry_config = { max_retries: 1, timeout_ms: 60_000 };
    const first = await c.call('task_retry', { task_id: 'again', retry_config });
    expect(first).toMatchObject({ retry_task_id: 'again-retry-1', retry_count: 1 });
    expect(await c.taskEnds('again-retry-1')).toMatchObject({ status: 'failed', attempt: 2, retry_of: 'again' });
    const second = await b.call('task_retry', { task_id: 'again-retry-1' });
    expect(second).toMatchObject({ retry_task_id: 'again-retry-2', retry_count: 2 });
    expect(await a.taskEnds('again-retry-2')).toMatchObject({ retry_of: 'again', owner_peer_id: a.peer_id });
    expect(await c.call('task_status', { task_id: 'again' })).toMatchObject({ status: 'failed', attempt: 1 });

    await submit('cancelled-first', append('retried', 'ran'), { delay_ms: 600_000 });
    await b.call('task_cancel', { task_id: 'cancelled-first' });
    await c.call('task_retry', { task_id: 'cancelled-first' });
    expect(await c.taskEnds('cancelled-first-retry-1')).toMatchObject({ status: 'completed' });
    expect(await mesh.lines('retried')).toEqual(['ran']);
  });
});

describe('the queue', () => {
  const oneByOne = { requires: { labels: ['one'] } };

  it('starts the higher priority first and the older of two equal ones; boost and demote move a task', async () => {
    const { a, b, c } = mesh;
    await b.call('worker_register', { worker_id: 'w-one', capabilities: ['shell', 'one'], max_concurrent_tasks: 1 });
    await a.call('queue_pause');
    const priorities = { low: 1, five: 5, three: 3, 'three-later': 3, nine: 9 };
    for (const [id, priority] of Object.entries(priorities))
      await submit(id, append('order', id), oneByOne, { priority });
    await c.call('task_priority', { task_id: 'low', boost: 7 });
    await b.call('task_priority', { task_id: 'nine', demote: 8.5 });
    await a.call('queue_resume');
    for (const id of Object.keys(priorities)) expect(await c.taskEnds(id)).toMatchObject({ status: 'completed' });
    expect(await mesh.lines('order')).toEqual(['low', 'five', 'three', 'three-later', 'nine']);
  });

  it('without requeue a new priority counts when the queue is resumed and reordered', async () => {
    const { a, c } = mesh;
    await a.call('queue_pause');
    for (const id of ['early', 'late']) await submit(id, append('reordered', id), oneByOne);
    const changed = await c.call('task_priority', { task_id: 'late', new_priority: 9, requeue: false });
    const { queue_position } = await c.call('task_status', { task_id: 'early' });
    expect(changed['new_queue_position']).toBeGreaterThan(0);
    expect(queue_position).not.toBeNull();
    expect(await a.call('queue_resume')).toMatchObject({ reordered: true });
    for (const id of ['early', 'late']) await c.taskEnds(id);
    expect(await mesh.lines('reordered')).toEqual(['late', 'early']);
  });

  it('what is cleared never runs, and what runs goes on', async () => {
    const { a, b, c } = mesh;
    const gate = mesh.gate('uncleared');
    await submit('uncleared', shell(gate.command), at(b));
    await gate.pid();
    await a.call('queue_pause');
    for (const id of ['gone-1', 'gone-2']) await submit(id, append('cleared', id), at(b));
    const cleared = await a.call('queue_clear', { confirm: true, status_filter: 'queued' });
    expect(cleared['cleared_count']).toBeGreaterThanOrEqual(2);
    await a.call('queue_resume');
    await submit('after-clear', append('cleared', 'after'), at(b));
    await c.taskEnds('after-clear');
    for (const id of ['gone-1', 'gone-2']) {
      expect(await c.call('task_status', { task_id: id })).toMatchObject({ status: 'cancelled', attempt: 0 });
    }
    expect(await mesh.lines('cleared')).toEqual(['after']);
    expect(await c.call('task_status', { task_id: 'uncleared' })).toMatchObject({ status: 'running' });
    await gate.open();
    expect(await c.taskEnds('uncleared')).toMatchObject({ status: 'completed' });
  });

  it('a delayed task starts when its time has come', async () => {
    const before = Date.now();
    await submit('delayed', append('delayed', 'ran'), at(mesh.b), { delay_ms: 700 });
    const waiting = await mesh.c.call('task_status', { task_id: 'delayed' });
    expect(waiting).toMatchObject({ status: 'queued', attempt: 0 });
    expect(time(waiting['due_at'])).toBeGreaterThanOrEqual(before + 700);
    expect(await mesh.c.taskEnds('delayed')).toMatchObject({ status: 'completed' });
    expect((await stat(mesh.path('delayed'))).mtimeMs).toBeGreaterThanOrEqual(before + 700 - CLOCK_GRAIN_MS);
  });

  it('a task that has not started at its deadline fails then', async () => {
    const nobody = { requires: { labels: ['nobody-has-this'] } };
    const deadline = new Date(Date.now() + 400).toISOString();
    await submit('too-late', append('late', 'ran'), nobody, { deadline });
    const ended = await mesh.c.taskEnds('too-late');
    expect(ended).toMatchObject({ status: 'failed', attempt: 0, error: { code: 'DEADLINE_EXCEEDED' } });
    expect(time(ended['end_time'])).toBeGreaterThanOrEqual(time(deadline));
    await submit('past', append('late', 'ran'), { deadline: new Date(Date.now() - 1).toISOString() });
    expect(await mesh.b.taskEnds('past')).toMatchObject({ status: 'failed', error: { code: 'DEADLINE_EXCEEDED' } });
    expect(await mesh.lines('late')).toEqual([]);
  });

  it('a task waits for tasks of other peers, and fails when one of them did', async () => {
    const { a, b, c } = mesh;
    const gate = mesh.gate('parent');
    await submit('parent', shell(gate.command), at(b));
    await b.call('task_submit', { task_id: 'child', ...append('family', 'child'), ...at(c), depends_on: ['parent'] });
    await c.call('task_submit', {
      ...{ task_id: 'grandchild', ...append('family', 'grandchild'), ...at(a), depends_on: ['child', 'parent'] },
    });
    await gate.pid();
    for (const id of ['child', 'grandchild']) {
      expect(await a.call('task_status', { task_id: id })).toMatchObject({ status: 'queued', attempt: 0 });
    }
    await gate.open();
    const [parent, child] = [await c.taskEnds('parent'), await a.taskEnds('child')];
    expect(await b.taskEnds('grandchild')).toMatchObject({ status: 'completed' });
    expect(time(child['start_time'])).toBeGreaterThanOrEqual(time(parent['end_time']));
    expect(await mesh.lines('family')).toEqual(['child', 'grandchild']);

    await submit('bad-parent', fails, at(b));
    await c.call('task_submit', { task_id: 'orphan', ...append('family', 'orphan'), depends_on: ['bad-parent'] });
    const orphan = await a.taskEnds('orphan');
    expect(orphan).toMatchObject({ status: 'failed', attempt: 0, error: { code: 'DEPENDENCY_FAILED' } });
    expect((orphan['error'] as JsonObject)['message']).toContain('"bad-parent"');
    expect(await mesh.lines('family')).toHaveLength(2);
  });
});

describe('while a task runs', () => {
  it('progress and log of a function on another peer are seen at a third', async () => {
    const { b, c } = mesh;
    const path = mesh.path('may-go');
    await submit('tells', { task_type: 'fn:reportsAndWaits', payload: { path } }, at(b));
    const half = await eventually('it is nearly half done', async () => {
      const status = await c.call('task_status', { task_id: 'tells', include_logs: true });
      return status['progress'] === 40 && status;
    });
    expect(half).toMatchObject({
      ...{ status: 'running', progress_message: 'nearly half', peer_id: b.peer_id },
      logs: [{ attempt: 1, stream: 'log', line: 'attempt 1 has begun' }],
    });
    await writeFile(path, '');
    expect(await c.taskEnds('tells')).toMatchObject({ status: 'completed', progress: 100 });
    const result = await c.call('task_result', { task_id: 'tells', include_logs: true });
    expect(result).toMatchObject({
      output: { attempt: 1 },
      logs: [{ line: 'attempt 1 has begun' }, { line: 'let through' }],
    });
  });

  it.each([
    { stubborn: false, force: false },
    { stubborn: false, force: true },
    { stubborn: true, force: false },
    { stubborn: true, force: true },
  ])('a cancel ends the process on the other peer: %o', async ({ stubborn, force }) => {
    const task_id = `cancel-${stubborn}-${force}`;
    const gate = mesh.gate(task_id, { stubborn });
    await submit(task_id, shell(gate.command), at(mesh.b), { retry_policy: { max_retries: 3, initial_delay_ms: 1 } });
    const pid = await gate.pid();
    const cancelled = await mesh.c.call('task_cancel', { task_id, force, reason: 'enough' });
    expect(cancelled).toMatchObject({ status: 'cancelled', cleanup_required: true });
    await waitUntilGone([pid]);
    // Without `attempt`: a lease that came while the slot was not free yet was given back, and counts.
    expect(await mesh.c.taskEnds(task_id)).toMatchObject({
      ...{ status: 'cancelled', error: { code: 'CANCELLED', message: 'cancelled: enough' } },
    });
  });

  it('a worker that leaves hands back after its time what still runs, and another one finishes it', async () => {
    const { a, b, c } = mesh;
    const gate = mesh.gate('handed-on');
    const mortal = { requires: { labels: ['mortal'] } };
    await b.call('worker_register', { worker_id: 'w-mortal', capabilities: ['shell', 'mortal'] });
    await submit('handed-on', shell(gate.command), mortal);
    const once = script('echo $$ >>"$1"; sleep 300; true', mesh.path('once'));
    await submit('once', once, mortal, { at_most_once: true });
    const pid = await gate.pid();
    const [other] = await eventually('both run', async () => {
      const pids = await mesh.lines('once');
      return pids.length === 1 && pids;
    });
    const left = await a.call('worker_unregister', { worker_id: 'w-mortal', timeout_ms: 100 });
    expect(left).toMatchObject({ status: 'offline', completed_tasks: 0, abandoned_tasks: 2 });
    await waitUntilGone([pid, Number(other)]);
    await c.call('worker_register', { worker_id: 'w-heir', capabilities: ['shell', 'mortal'] });
    // It may not start again, so this was its end.
    expect(await b.taskEnds('once')).toMatchObject({ status: 'failed', attempt: 1, error: { code: 'WORKER_LOST' } });
    await gate.open();
    expect(await b.taskEnds('handed-on')).toMatchObject({ status: 'completed', attempt: 2, worker_id: 'w-heir' });
    expect(await mesh.lines('once')).toHaveLength(1);
  });
});
