/** The part of the Store compliance suite about feeds: heads, copies, and what changes hands or is forgotten. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Store } from '../../scheduler/ports.ts';
import { type FlowRecord, LOCAL_FEED, type Row } from '../../scheduler/records.ts';
import { at, FEED, log, row, step, task, tombstone, unwritable, worker, workflow } from '../store/sample-rows.ts';
import type { StoreUnderTest } from './store-under-test.ts';

/** A feed that the store under test does not own at first; FEED it owns. */
const COPY = 'copycopycopycopycopy';

export function feedsCompliance(setup: () => Promise<StoreUnderTest>): void {
  describe('feeds', () => {
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

    const put = (...records: FlowRecord[]) => {
      seq += 1;
      return store.commit(records.map((record) => row(seq, record)));
    };
    const head = (feed_id = FEED) => store.feeds.get(feed_id);
    const uids = (records: { uid: string }[]) => records.map((record) => record.uid);
    const putCopy = (at_seq: number, ...records: FlowRecord[]) =>
      store.commit(records.map((record) => row(at_seq, record, { feed_id: COPY, epoch: 7 })));

    it('has no feeds at first, and those that were owned or have rows later', async () => {
      expect([...store.feeds]).toEqual([[FEED, { epoch: 0, seq: 0, owned: true }]]);
      await putCopy(900, task('t'));
      expect(head(COPY)).toEqual({ epoch: 7, seq: 900, owned: false });
      expect(head()).toEqual({ epoch: 0, seq: 0, owned: true });
      await store.own('never', false);
      expect(head('never')).toBeUndefined();
    });

    it('owns the feed of what the peer remembers of itself, from its first row on', async () => {
      expect(head(LOCAL_FEED)).toBeUndefined();
      await store.commit([row(1, worker('k'), { feed_id: LOCAL_FEED })]);
      expect(head(LOCAL_FEED)).toEqual({ epoch: 1, seq: 1, owned: true });
      expect((await store.reader.byAlias('worker', 'k-id'))?.uid).toBe('k');
      await expect(store.own(LOCAL_FEED, false)).rejects.toMatchObject({ code: 'STORE_FAILED', retryable: false });
    });

    it('puts the head where the highest row of a commit is', async () => {
      const rows = [row(3, task('a'), { epoch: 1 }), row(9, task('b'), { epoch: 2 }), row(5, task('c'), { epoch: 1 })];
      await store.commit(rows);
      expect(head()).toEqual({ epoch: 2, seq: 9, owned: true });
      await store.commit([row(9, task('d'), { epoch: 2 })]);
      expect(head()).toEqual({ epoch: 2, seq: 9, owned: true });
    });

    it.each([
      ['behind the head', () => [row(4, task('lost'))]],
      ['in part behind the head', () => [row(6, task('lost')), row(4, task('other'))]],
      ['of two feeds', () => [row(6, task('lost')), row(6, task('other'), { feed_id: COPY })]],
    ])('refuses a commit %s, also of one that is still queued', async (_, wrong) => {
      const queued = store.commit([row(5, task('kept'))]);
      await expect(store.commit(wrong())).rejects.toMatchObject({ code: 'STORE_FAILED', retryable: false });
      await queued;
      await store.recover();
      expect(await store.reader.get('task', 'lost')).toBeUndefined();
      await store.commit([row(5, task('next'))]);
      expect(uids(await store.reader.active('task', FEED))).toEqual(['kept', 'next']);
    });

    it('forgets a commit that failed when it judges the next one', async () => {
      await expect(store.commit([row(8, unwritable())])).rejects.toMatchObject({ code: 'STORE_FAILED' });
      await store.recover();
      await store.commit([row(2, task('t'))]);
      expect(head()?.seq).toBe(2);
    });

    it('shows only owned feeds in everything that does not ask for a feed', async () => {
      const done = { status: 'completed', ended_at: at(5), wait_ms: 100, execution_time_ms: 100 } as const;
      const mine = [task('t', { task_id: 'job' }), task('e', { ...done, wait_ms: 1, execution_time_ms: 2 })];
      await put(...mine, workflow('w'));
      const theirs = [task('ct', { task_id: 'job', priority: 5, created_at: at(9) }), task('ce', done)];
      await putCopy(3, ...theirs, workflow('cw'), step('cw', 'a'));
      const shown = async () => ({
        alias: (await store.reader.byAlias('task', 'job'))?.uid,
        tasks: uids((await store.reader.list({ kind: 'task', limit: 9, offset: 0 })).records),
        workflows: (await store.reader.list({ kind: 'workflow', limit: 9, offset: 0 })).total,
        position: await store.reader.queuePosition({ uid: 't', priority: 1, created_at: at(0) }),
        counts: await store.reader.taskCounts({ since: at(0) }),
        history: await store.reader.taskHistory({ since: at(0) }),
      });
      const onlyMine = {
        alias: 't',
        tasks: ['t', 'e'],
        workflows: 1,
        position: 0,
        counts: { queued: 1, completed: 1, average_wait_ms: 1, completed_since: 1 },
        history: [{ minute: at(0), completed: 1, failed: 0 }],
      };
      const both = {
        alias: 'ct',
        tasks: ['ct', 't', 'e', 'ce'],
        workflows: 2,
        position: 1,
        counts: { queued: 2, completed: 2, average_wait_ms: 50.5, completed_since: 2 },
        history: [{ minute: at(0), completed: 2, failed: 0 }],
      };
      expect(await shown()).toMatchObject(onlyMine);
      // Both at once: what comes after is judged by what was queued before.
      const owned = store.own(COPY, true);
      await putCopy(4, workflow('cw', { status: 'completed' }));
      await owned;
      expect(await shown()).toMatchObject(both);
      expect(head(COPY)).toEqual({ epoch: 7, seq: 4, owned: true });
      store = await under.restart();
      expect(await shown()).toMatchObject(both);
      await store.own(COPY, false);
      await putCopy(5, workflow('cv'));
      expect(await shown()).toMatchObject(onlyMine);
      expect((await store.reader.get('workflow', 'cw'))?.status).toBe('completed');
      expect(uids(await store.reader.children('step', 'cw'))).toEqual(['cw/a']);
    });

    it('finds the newest copy by alias, and none that is owned', async () => {
      await put(task('mine', { task_id: 'job', created_at: at(9) }));
      await putCopy(3, task('old', { task_id: 'job', created_at: at(1) }));
      await store.commit([row(2, task('new', { task_id: 'job', created_at: at(2) }), { feed_id: 'third' })]);
      const found = await store.reader.copyByAlias('task', 'job');
      expect(placed(found)).toEqual(row(2, task('new', { task_id: 'job', created_at: at(2) }), { feed_id: 'third' }));
      expect(await store.reader.copyByAlias('workflow', 'job')).toBeUndefined();
      await store.own('third', true);
      expect((await store.reader.copyByAlias('task', 'job'))?.uid).toBe('old');
    });

    it('finds a row with its place, whatever its kind', async () => {
      await putCopy(3, task('t'));
      expect(placed(await store.reader.row('t'))).toEqual(row(3, task('t'), { feed_id: COPY, epoch: 7 }));
      await putCopy(4, tombstone('t'));
      expect(placed(await store.reader.row('t'))).toEqual(row(4, tombstone('t'), { feed_id: COPY, epoch: 7 }));
      expect(await store.reader.get('task', 't')).toBeUndefined();
      expect(await store.reader.row('none')).toBeUndefined();
    });

    it('gives the newest roots of what it owns, as far back as is wanted', async () => {
      const owned = ['a', 'b', 'c'].map((uid, place) =>
        task(uid, { task_id: `job-${uid}`, created_at: at(place + 1) }),
      );
      await put(...owned, task('s', { workflow_uid: 'w', created_at: at(9) }), workflow('w', { created_at: at(5) }));
      await putCopy(3, task('copied', { task_id: 'job-copied', created_at: at(8) }));
      const roots = async (since: string, among: number, isWanted = (_alias: string) => true) =>
        uids(await store.reader.recentRoots('task', since, among, isWanted));
      expect(await roots(at(1), 9)).toEqual(['c', 'b', 'a']);
      expect(await roots(at(2), 9)).toEqual(['c', 'b']);
      expect(await roots(at(1), 2)).toEqual(['c']);
      expect(await roots(at(1), 9, (alias) => alias !== 'job-b')).toEqual(['c', 'a']);
      expect(uids(await store.reader.recentRoots('workflow', at(1), 9, () => true))).toEqual(['w']);
    });

    it('says whose rows are filed under uids', async () => {
      await put(task('mine'));
      await putCopy(3, tombstone('t'));
      expect(await store.reader.feedsOf(['t', 'none', 'mine'])).toEqual([COPY, null, FEED]);
      expect(await store.reader.feedsOf([])).toEqual([]);
    });

    it('gives what has not ended in one feed, owned or not', async () => {
      await put(task('mine'));
      await putCopy(3, task('b', { created_at: at(2) }), task('a', { created_at: at(3) }), workflow('w'));
      await putCopy(4, task('c', { status: 'completed' }));
      expect(uids(await store.reader.active('task', COPY))).toEqual(['b', 'a']);
      await store.own(COPY, true);
      expect(uids(await store.reader.active('task', COPY))).toEqual(['b', 'a']);
      expect(uids(await store.reader.active('task', FEED))).toEqual(['mine']);
      expect(await store.reader.active('task', 'none')).toEqual([]);
    });

    it('says whether anything is open in one feed, owned or not', async () => {
      expect(await store.reader.hasOpen(COPY)).toBe(false);
      await putCopy(3, task('t'), step('w', 'a'), log('t', 'a line'));
      await put(task('mine', { status: 'failed' }), workflow('w'));
      expect(await store.reader.hasOpen(COPY)).toBe(true);
      expect(await store.reader.hasOpen(FEED)).toBe(true);
      await putCopy(4, task('t', { status: 'cancelled' }));
      await put(workflow('w', { status: 'completed' }));
      // A step is open as long as its workflow is.
      expect(await store.reader.hasOpen(COPY)).toBe(false);
      expect(await store.reader.hasOpen(FEED)).toBe(false);
      await putCopy(5, task('other', { status: 'input_required' }));
      expect(await store.reader.hasOpen(COPY)).toBe(true);
    });

    it('moves a row whose uid another feed writes', async () => {
      await put(task('t'));
      await putCopy(3, task('t', { progress: 5 }));
      expect(await store.reader.row('t')).toMatchObject({ feed_id: COPY, seq: 3 });
      expect(await store.reader.active('task', FEED)).toEqual([]);
      expect(await store.reader.byAlias('task', 't-id')).toBeUndefined();
      expect((await store.reader.list({ kind: 'task', limit: 1, offset: 0 })).total).toBe(0);
    });

    describe('changes', () => {
      const START = { seq: 0, uid: '' };
      const places = async (after: { seq: number; uid: string }, bytes = 1e9) =>
        (await store.reader.changes(COPY, after, bytes)).map((found) => `${found.seq} ${found.uid}`);

      it('come by seq, then uid, each row once, at its latest place', async () => {
        await putCopy(1, task('b'), task('a'), task('moved'));
        await putCopy(2, task('c'), tombstone('d'));
        await put(task('mine'));
        await putCopy(3, task('moved', { progress: 1 }));
        expect(await places(START)).toEqual(['1 a', '1 b', '2 c', '2 d', '3 moved']);
        expect(await places({ seq: 1, uid: 'a' })).toEqual(['1 b', '2 c', '2 d', '3 moved']);
        expect(await places({ seq: 2, uid: 'd' })).toEqual(['3 moved']);
        expect(await places({ seq: 3, uid: 'moved' })).toEqual([]);
        const [moved] = await store.reader.changes(COPY, { seq: 2, uid: 'd' }, 1);
        expect(placed(moved)).toEqual(row(3, task('moved', { progress: 1 }), { feed_id: COPY, epoch: 7 }));
        await store.own(COPY, true);
        expect(await places({ seq: 2, uid: 'c' })).toEqual(['2 d', '3 moved']);
      });

      it('fit into the bytes of JSON that are asked for, to the byte, and are at least one', async () => {
        const message = (n: number) => ({ progress_message: 'ü'.repeat(n) });
        await putCopy(1, ...[1, 20, 300, 4000].map((n, i) => task(`t${i}`, message(n))));
        const all = await store.reader.changes(COPY, START, 1e9);
        expect(all).toHaveLength(4);
        for (let rows = 1; rows <= 4; rows += 1) {
          const bytes = Buffer.byteLength(JSON.stringify(all.slice(0, rows).map(placed)));
          expect(await store.reader.changes(COPY, START, bytes)).toEqual(all.slice(0, rows));
          expect(await store.reader.changes(COPY, START, bytes - 1)).toEqual(all.slice(0, Math.max(1, rows - 1)));
        }
        expect(await places(START, 0)).toEqual(['1 t0']);
      });

      it('can be read in pages of any size without losing a row', async () => {
        for (const n of [1, 2, 3]) await putCopy(n, ...[5, 4, 3, 2, 1].map((i) => task(`t${n}-${i}`)));
        const all = await places(START);
        expect(all).toHaveLength(15);
        for (const bytes of [1, 3000, 5000]) {
          const read: string[] = [];
          let after = START;
          for (;;) {
            const page = await store.reader.changes(COPY, after, bytes);
            if (page.length === 0) break;
            read.push(...page.map((found) => `${found.seq} ${found.uid}`));
            after = page.at(-1)!;
          }
          expect(read).toEqual(all);
        }
      });
    });

    it('gives the oldest ended records of a feed that belong to no other', async () => {
      const records = (prefix: string) => [
        task(`${prefix}3`, { status: 'failed', created_at: at(3) }),
        task(`${prefix}1b`, { status: 'completed', created_at: at(1) }),
        task(`${prefix}1a`, { status: 'cancelled', created_at: at(1) }),
        task(`${prefix}-runs`, { status: 'running', created_at: at(0) }),
        task(`${prefix}-of`, { status: 'completed', created_at: at(0), workflow_uid: 'w' }),
        workflow(`${prefix}w`, { status: 'completed', created_at: at(2) }),
        workflow(`${prefix}n`, { status: 'completed', created_at: at(0), parent_task_uid: `${prefix}1a` }),
      ];
      await put(...records('m'));
      await putCopy(3, ...records('c'));
      for (const [feed_id, prefix] of [[FEED, 'm'] as const, [COPY, 'c'] as const]) {
        const oldest = (before: number, limit: number) => store.reader.oldest('task', feed_id, at(before), limit);
        expect(await oldest(9, 9)).toEqual([`${prefix}1a`, `${prefix}1b`, `${prefix}3`]);
        expect(await oldest(3, 9)).toEqual([`${prefix}1a`, `${prefix}1b`]);
        expect(await oldest(9, 1)).toEqual([`${prefix}1a`]);
        expect(await oldest(1, 9)).toEqual([]);
        expect(await store.reader.oldest('workflow', feed_id, at(9), 9)).toEqual([`${prefix}w`]);
        expect(await store.reader.countRoots('task', feed_id)).toBe(3);
        expect(await store.reader.countRoots('workflow', feed_id)).toBe(1);
      }
      expect(await store.reader.countRoots('task', 'unknown')).toBe(0);
    });

    it('gives what belongs to a workflow by its uids, in order, without what was cleared', async () => {
      await put(workflow('w'), step('w', 'a'), step('w', 'b'), task('w/a/0'), task('w/a/10'), task('w/a/2'));
      await put(tombstone('w/a/2'), tombstone('w/b'), workflow('w0'), workflow('w-other'), step('w-other', 'a'));
      await putCopy(1, task('w/c/0'));
      const { reader } = store;
      expect(await reader.parts('w', '', 9)).toEqual(['w/a', 'w/a/0', 'w/a/10', 'w/c/0']);
      expect(await reader.parts('w', 'w/a/0', 1)).toEqual(['w/a/10']);
      expect(await reader.parts('w', 'w/c/0', 9)).toEqual([]);
      expect(await reader.parts('w/a', '', 9)).toEqual(['w/a/0', 'w/a/10']);
    });

    it('drops a feed with its head, which can begin again, as a copy', async () => {
      await put(task('mine'), tombstone('gone'));
      await putCopy(50, task('a'), workflow('w'));
      await store.own(COPY, true);
      const dropped = store.drop(COPY);
      const again = putCopy(3, task('b', { created_at: at(1) }));
      await dropped;
      await again;
      expect(head(COPY)).toEqual({ epoch: 7, seq: 3, owned: false });
      expect(await store.reader.row('a')).toBeUndefined();
      expect((await store.reader.changes(COPY, { seq: 0, uid: '' }, 1e9)).map(({ uid }) => uid)).toEqual(['b']);
      await store.drop(COPY);
      await store.drop('none');
      expect([...store.feeds.keys()]).toEqual([FEED]);
      store = await under.restart();
      expect([...store.feeds.keys()]).toEqual([FEED]);
      expect(await store.reader.get('task', 'b')).toBeUndefined();
      expect(await store.reader.get('task', 'mine')).toBeDefined();
    });

    it('sweeps the tombstones of a feed up to a seq, and nothing else', async () => {
      await putCopy(1, tombstone('x1'), task('t1'));
      await putCopy(2, tombstone('x2'));
      await putCopy(3, tombstone('x3'));
      await put(tombstone('mine'));
      await store.sweep(COPY, 2);
      await store.sweep('none', 9);
      const left = (await store.reader.changes(COPY, { seq: 0, uid: '' }, 1e9)).map(({ uid }) => uid);
      expect(left).toEqual(['t1', 'x3']);
      expect(await store.reader.row('mine')).toBeDefined();
      await store.sweep(COPY, 9);
      await store.drop(FEED);
      expect([...store.feeds]).toEqual([[COPY, { epoch: 7, seq: 3, owned: false }]]);
    });

    it('resolves in the order of the calls, whatever they are, and shows the heads with the answer', async () => {
      const order: string[] = [];
      const done = (name: string) => () => {
        order.push(`${name} ${head(COPY)?.seq}`);
      };
      const calls = [
        putCopy(1, task('a'), tombstone('x')).then(done('commit')),
        store.own(COPY, true).then(done('own')),
        store.sweep(COPY, 1).then(done('sweep')),
        store.drop(COPY).then(done('drop')),
      ];
      expect(head(COPY)).toBeUndefined();
      await Promise.all(calls);
      expect(order.map((line) => line.split(' ')[0])).toEqual(['commit', 'own', 'sweep', 'drop']);
      expect(order.at(-1)).toBe('drop undefined');
    });

    it.each([
      ['own', () => store.own(COPY, true)],
      ['drop', () => store.drop(COPY)],
      ['sweep', () => store.sweep(COPY, 9)],
    ])('rejects %s too after a rejection, without an effect, until it has recovered', async (_, call) => {
      await putCopy(1, task('a'), tombstone('x'));
      const before = new Map(store.feeds);
      await expect(put(unwritable())).rejects.toMatchObject({ code: 'STORE_FAILED' });
      await expect(call()).rejects.toMatchObject({ code: 'STORE_FAILED' });
      await store.recover();
      expect(new Map(store.feeds)).toEqual(before);
      expect(await store.reader.changes(COPY, { seq: 0, uid: '' }, 1e9)).toHaveLength(2);
      await call();
      await store.close();
      await expect(call()).rejects.toMatchObject({ code: 'STORE_FAILED' });
    });
  });
}

/** A row as it was put; where its text comes with it, that is the record's. */
function placed(found: Row | undefined): Row | undefined {
  if (found?.text === undefined) return found;
  const { text, ...row } = found;
  expect(JSON.parse(text)).toEqual(row.record);
  return row;
}
