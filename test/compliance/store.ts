/** What every Store and its Reader promise (scheduler/ports.ts), whichever way they keep their rows. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Store } from '../../scheduler/ports.ts';
import type { FlowRecord, TaskRecord } from '../../scheduler/records.ts';
import { at, FEED, log, row, step, task, unwritable, worker, workflow } from '../store/sample-rows.ts';
import { feedsCompliance } from './store-feeds.ts';
import type { StoreUnderTest } from './store-under-test.ts';

export function storeCompliance(name: string, setup: () => Promise<StoreUnderTest>): void {
  describe(name, () => {
    let under: StoreUnderTest;
    let store: Store;
    let seq = 0;

    beforeEach(async () => {
      under = await setup();
      store = under.store;
      seq = 0;
      await store.own(FEED, true);
    });
    afterEach(() => under.cleanup());

    const rowsOf = (records: FlowRecord[]) => {
      seq += 1;
      return records.map((record) => row(seq, record));
    };
    const put = (...records: FlowRecord[]) => store.commit(rowsOf(records));
    const head = () => store.feeds.get(FEED);
    const uids = (records: { uid: string }[]) => records.map((record) => record.uid);

    describe('commit', () => {
      it('shows rows when it has resolved, and all of them or none before', async () => {
        const done = put(task('t1'), task('t2'));
        // They are on the disk some time before whoever committed them hears of it, on another thread.
        const early = await store.reader.atOnce(async (still) => [
          await still.get('task', 't1'),
          await still.get('task', 't2'),
        ]);
        expect([
          [undefined, undefined],
          [task('t1'), task('t2')],
        ]).toContainEqual(early);
        await done;
        expect(await store.reader.get('task', 't1')).toEqual(task('t1'));
        expect(head()).toEqual({ epoch: 1, seq, owned: true });
      });

      it('resolves in the order of the calls and moves seq with each', async () => {
        const order: number[] = [];
        const seen: number[] = [];
        const commits = [1, 2, 3, 4, 5].map((n) =>
          put(task('same', { progress: n })).then(() => {
            order.push(n);
            seen.push(head()!.seq);
          }),
        );
        await Promise.all(commits);
        expect(order).toEqual([1, 2, 3, 4, 5]);
        expect(seen.every((value, i) => value >= i + 1)).toBe(true);
        expect((await store.reader.get('task', 'same'))?.progress).toBe(5);
      });

      it('accepts a commit without rows, after the ones before it', async () => {
        const first = put(task('t1'));
        await store.commit([]);
        expect(await store.reader.get('task', 't1')).toBeDefined();
        await first;
      });

      it('keeps everything that it acknowledged over a restart, with the heads', async () => {
        await put(workflow('w'), step('w', 'a'), task('w/a/0', { workflow_uid: 'w' }));
        await put(task('w/a/0', { workflow_uid: 'w', status: 'completed', output: { text: 'ü \u0000 \u{1f600}' } }));
        const before = new Map(store.feeds);
        store = await under.restart();
        expect(new Map(store.feeds)).toEqual(before);
        expect((await store.reader.get('task', 'w/a/0'))?.output).toEqual({ text: 'ü \u0000 \u{1f600}' });
        expect(await store.reader.get('workflow', 'w')).toEqual(workflow('w'));
      });

      it('takes copies: what the caller changes afterwards is not in the store', async () => {
        const record = task('t1');
        const done = put(record);
        record.progress = 99;
        await done;
        const found = await store.reader.get('task', 't1');
        found!.progress = 50;
        expect((await store.reader.get('task', 't1'))?.progress).toBe(0);
      });

      it('keeps no row of a rejected commit, and those of the commits before it', async () => {
        const earlier = put(task('kept'));
        await expect(put(task('lost'), unwritable())).rejects.toMatchObject({ code: 'STORE_FAILED' });
        await earlier;
        expect(await store.reader.get('task', 'kept')).toBeDefined();
        expect(await store.reader.get('task', 'lost')).toBeUndefined();
      });

      it('rejects every commit after a rejection until it has recovered', async () => {
        await put(task('t1'));
        const known = head();
        await expect(put(unwritable())).rejects.toMatchObject({ code: 'STORE_FAILED' });
        await expect(put(task('t2'))).rejects.toMatchObject({ code: 'STORE_FAILED' });
        expect(head()).toEqual(known);
        await Promise.all([store.recover(), store.recover()]);
        expect(head()).toEqual(known);
        await put(task('t3'));
        expect(await store.reader.get('task', 't1')).toBeDefined();
        expect(await store.reader.get('task', 't2')).toBeUndefined();
        expect(await store.reader.get('task', 't3')).toBeDefined();
      });

      it('finishes what is queued when it is closed, then rejects', async () => {
        const queued = put(task('t1'));
        const closed = store.close();
        await expect(put(task('t2'))).rejects.toMatchObject({ code: 'STORE_FAILED' });
        await queued;
        await closed;
        await store.close();
        store = await under.restart();
        expect(await store.reader.get('task', 't1')).toBeDefined();
      });
    });

    feedsCompliance(setup);

    describe('reader', () => {
      it('finds by kind and uid', async () => {
        await put(workflow('x'), log('x', 'hello'));
        expect(await store.reader.get('workflow', 'x')).toEqual(workflow('x'));
        expect(await store.reader.get('task', 'x')).toBeUndefined();
        expect(await store.reader.get('log', 'x/log')).toEqual(log('x', 'hello'));
        expect(await store.reader.get('workflow', 'y')).toBeUndefined();
      });

      it('finds the newest of a kind by alias', async () => {
        await put(task('t2', { task_id: 'job', created_at: at(2) }), task('t1', { task_id: 'job', created_at: at(1) }));
        await put(workflow('w', { workflow_id: 'job', created_at: at(3) }), worker('k', { worker_id: 'job' }));
        expect((await store.reader.byAlias('task', 'job'))?.uid).toBe('t2');
        expect((await store.reader.byAlias('workflow', 'job'))?.uid).toBe('w');
        expect((await store.reader.byAlias('worker', 'job'))?.uid).toBe('k');
        expect(await store.reader.byAlias('task', 'other')).toBeUndefined();
      });

      it('follows a record whose alias, parent or time of creation changes', async () => {
        await put(worker('k', { worker_id: 'old' }), task('t', { workflow_uid: 'w1' }));
        await put(worker('k', { worker_id: 'new', registered_at: at(9) }), task('t', { workflow_uid: 'w2' }));
        expect(await store.reader.byAlias('worker', 'old')).toBeUndefined();
        expect((await store.reader.byAlias('worker', 'new'))?.registered_at).toBe(at(9));
        expect(await store.reader.children('task', 'w1')).toEqual([]);
        expect(uids(await store.reader.children('task', 'w2'))).toEqual(['t']);
      });

      it('lists children by seq, then uid', async () => {
        await put(workflow('w'), step('w', 'b'), step('w', 'a'), task('w/b/0', { workflow_uid: 'w' }));
        await put(step('w', 'c'), step('v', 'a'));
        await put(step('w', 'a', { status: 'completed' }));
        expect(uids(await store.reader.children('step', 'w'))).toEqual(['w/b', 'w/c', 'w/a']);
        expect(uids(await store.reader.children('task', 'w'))).toEqual(['w/b/0']);
        expect(await store.reader.children('step', 'none')).toEqual([]);
      });

      it('lists what has not ended, oldest first', async () => {
        await put(
          task('t3', { created_at: at(3), status: 'running' }),
          task('t1', { created_at: at(1) }),
          task('t2', { created_at: at(1), status: 'input_required' }),
          task('t0', { created_at: at(0), status: 'completed' }),
        );
        await put(step('w', 'b'), step('w', 'z', { status: 'skipped' }), worker('k', { status: 'offline' }));
        await put(step('w', 'a'));
        await put(task('t4', { status: 'failed' }), task('t5', { status: 'cancelled' }));
        expect(uids(await store.reader.active('task', FEED))).toEqual(['t1', 't2', 't3']);
        expect(uids(await store.reader.active('step', FEED))).toEqual(['w/b', 'w/a']);
        expect(uids(await store.reader.active('worker', FEED))).toEqual(['k']);
        await put({ kind: 'queue', uid: 'queue', paused: true, reason: null, paused_at: at(0) });
        expect(uids(await store.reader.active('queue', FEED))).toEqual(['queue']);
      });

      it('lists newest first, in pages, with the total', async () => {
        await put(...[1, 2, 3, 4, 5].map((n) => task(`t${n}`, { created_at: at(n - (n % 2)) })));
        const page = await store.reader.list({ kind: 'task', limit: 2, offset: 1 });
        expect(uids(page.records)).toEqual(['t4', 't3']);
        expect(page.total).toBe(5);
        const beyond = await store.reader.list({ kind: 'task', limit: 2, offset: 10 });
        expect(beyond).toEqual({ records: [], total: 5 });
        expect(await store.reader.list({ kind: 'workflow', limit: 2, offset: 0 })).toEqual({ records: [], total: 0 });
      });

      it('filters lists by each field, and by all of them', async () => {
        const fields: Partial<TaskRecord>[] = [
          { status: 'failed', tags: ['a', 'b'], worker_id: 'k1', peer_id: 'p1', priority: 5, dead_letter: true },
          {
            status: 'failed',
            submitted_by: 'key:ann',
            tags: ['a'],
            worker_id: 'k1',
            peer_id: 'p2',
            priority: 4,
            workflow_uid: 'w1',
          },
          { status: 'queued', tags: ['b', 'a', 'c'], priority: 5, workflow_uid: 'w1' },
          { status: 'running', tags: ['x"a'], worker_id: 'k2', peer_id: 'p1', priority: 0.5 },
        ];
        await put(...fields.map((values, n) => task(`t${n}`, { created_at: at(n), ...values })));
        const found = async (filter: object) => {
          const { records, total } = await store.reader.list({ kind: 'task', limit: 10, offset: 0, ...filter });
          expect(total).toBe(records.length);
          return uids(records);
        };
        expect(await found({ status: 'failed' })).toEqual(['t1', 't0']);
        expect(await found({ tags: ['a'] })).toEqual(['t2', 't1', 't0']);
        expect(await found({ tags: ['a', 'b'] })).toEqual(['t2', 't0']);
        expect(await found({ tags: ['x"a'] })).toEqual(['t3']);
        expect(await found({ tags: ['a","b'] })).toEqual([]);
        expect(await found({ tags: [] })).toHaveLength(4);
        expect(await found({ worker_id: 'k1' })).toEqual(['t1', 't0']);
        expect(await found({ parent: 'w1' })).toEqual(['t2', 't1']);
        expect(await found({ parent: 'w1', status: 'queued' })).toEqual(['t2']);
        expect(await found({ peer_id: 'p1' })).toEqual(['t3', 't0']);
        expect(await found({ submitted_by: 'key:ann' })).toEqual(['t1']);
        expect(await found({ submitted_by: '' })).toEqual([]);
        expect(await found({ priority_min: 4.5 })).toEqual(['t2', 't0']);
        expect(await found({ dead_letter: true })).toEqual(['t0']);
        expect(await found({ dead_letter: false })).toEqual(['t3', 't2', 't1']);
        expect(await found({ status: 'failed', tags: ['b'], worker_id: 'k1', peer_id: 'p1', priority_min: 5 })).toEqual(
          ['t0'],
        );
        await put(workflow('w', { tags: ['a'], status: 'failed' }), workflow('v'));
        const { records } = await store.reader.list({
          kind: 'workflow',
          tags: ['a'],
          status: 'failed',
          limit: 5,
          offset: 0,
        });
        expect(uids(records)).toEqual(['w']);
      });

      it('counts the queued tasks before one: priority, then age, then uid', async () => {
        await put(
          task('high', { priority: 9, created_at: at(5) }),
          task('a', { created_at: at(1) }),
          task('b', { created_at: at(1) }),
          task('c', { created_at: at(2) }),
          task('low', { priority: 0, created_at: at(0) }),
          task('running', { priority: 9, status: 'running' }),
        );
        const position = (uid: string, priority: number, ms: number) =>
          store.reader.queuePosition({ uid, priority, created_at: at(ms) });
        expect(await position('high', 9, 5)).toBe(0);
        expect(await position('a', 1, 1)).toBe(1);
        expect(await position('b', 1, 1)).toBe(2);
        expect(await position('c', 1, 2)).toBe(3);
        expect(await position('low', 0, 0)).toBe(4);
      });

      it('counts tasks by status, with averages over those that ended since', async () => {
        const ended = (status: TaskRecord['status'], ms: number, wait: number | null, took: number | null) =>
          ({ status, ended_at: at(ms), wait_ms: wait, execution_time_ms: took }) as const;
        const empty = await store.reader.taskCounts({ since: at(0) });
        expect(empty).toMatchObject({
          queued: 0,
          average_wait_ms: null,
          average_execution_ms: null,
          completed_since: 0,
        });
        await put(
          task('q'),
          task('r', { status: 'running' }),
          task('i', { status: 'input_required' }),
          task('old', ended('completed', 10, 1000, 1000)),
          task('c1', ended('completed', 100, 10, 5)),
          task('c2', ended('completed', 200, 20, 6)),
          task('f', ended('failed', 200, 30, 7)),
          task('d', { ...ended('failed', 200, 40, 8), dead_letter: true }),
          task('x', ended('cancelled', 200, null, null)),
        );
        expect(await store.reader.taskCounts({ since: at(100) })).toEqual({
          queued: 1,
          running: 1,
          input_required: 1,
          completed: 3,
          failed: 1,
          cancelled: 1,
          dead_letter: 1,
          average_wait_ms: 25,
          average_execution_ms: 6.5,
          completed_since: 2,
        });
      });

      it('counts a task in its last status only', async () => {
        await put(task('t'));
        await put(task('t', { status: 'running' }));
        await put(task('t', { status: 'completed', ended_at: at(1), wait_ms: 3, execution_time_ms: 4 }));
        expect(await store.reader.taskCounts({ since: at(0) })).toMatchObject({ queued: 0, running: 0, completed: 1 });
        expect(await store.reader.active('task', FEED)).toEqual([]);
      });

      it('gives ended tasks per minute, oldest first', async () => {
        const minute = 60_000;
        const ended = (uid: string, status: TaskRecord['status'], ms: number) =>
          task(uid, { status, ended_at: at(ms) });
        await put(
          ended('b1', 'completed', 2 * minute),
          ended('b2', 'failed', 2 * minute + 59_999),
          ended('a1', 'completed', minute),
          ended('a2', 'cancelled', minute),
          ended('old', 'completed', minute - 1),
        );
        expect(await store.reader.taskHistory({ since: at(minute) })).toEqual([
          { minute: at(minute), completed: 1, failed: 0 },
          { minute: at(2 * minute), completed: 1, failed: 1 },
        ]);
      });
    });
  });
}
