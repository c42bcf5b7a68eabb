/** P7: history is cut back, whole, on every copy, and never under something that is open. */
import { describe, expect, test } from 'vitest';
import type { RetentionOptions } from '../../../scheduler/feed/retention.ts';
import {
  HISTORY_GRACE_MS,
  OFFLINE_WORKERS_MAX,
  PRUNED_ROWS_MAX,
  RETENTION_INTERVAL_MS,
  TOMBSTONES_KEPT_MS,
} from '../../../scheduler/limits.ts';
import type { Row } from '../../../scheduler/records.ts';
import { LOCAL_FEED } from '../../../scheduler/records.ts';
import { Scene, task } from '../scene.ts';

const DAY_MS = 24 * 3_600_000;
/** As soon as the grace is over. */
const AT_ONCE: RetentionOptions = { history_days: 0, history_max: 1_000 };
/** By then what has ended is old enough, and was looked at. */
const LOOKED_MS = HISTORY_GRACE_MS + 2 * RETENTION_INTERVAL_MS;
const ALL_BYTES = 1e9;
const NO_NAMES = ['a'];

async function keeping(options: RetentionOptions, names: readonly string[] = NO_NAMES): Promise<Scene> {
  const scene = await Scene.of(names, {
    actions: {
      'fn:talk': async (request, io) => {
        io.log('stdout', 'a line');
        return request.payload;
      },
    },
  });
  for (const name of names) Object.assign(scene.scheduler(name).parts.options, options);
  return scene;
}

/** Everything of the main feed of `owner` on the disk of a peer, but the feed itself. */
async function rows(scene: Scene, owner: string, name = owner): Promise<Row[]> {
  const { feed_id } = scene.feed(owner);
  const all = await scene.peer(name).store.reader.changes(feed_id, { seq: 0, uid: '' }, ALL_BYTES);
  return all.filter(({ record }) => record.kind !== 'feed');
}

const kinds = (found: readonly Row[]) => new Set(found.map(({ record }) => record.kind));

async function status(scene: Scene, uid: string): Promise<string | undefined> {
  return (await scene.peer('a').store.reader.get('task', uid))?.status;
}

/** Tasks that end one after the other, the oldest first. */
async function echoes(scene: Scene, count: number): Promise<string[]> {
  const uids: string[] = [];
  for (let at = 0; at < count; at++) {
    const { uid } = await scene.submit('a', task({ task_type: 'echo' }));
    await scene.ended('a', uid);
    uids.push(uid);
  }
  return uids;
}

const NESTED = { name: 'inner', steps: [{ step_id: 'in', action: 'fn:talk', cache: true, inputs: { of: 'inner' } }] };

describe('what has ended', () => {
  test('is forgotten with all its parts when it is old, here and on the copy; before, nothing is', async () => {
    const scene = await keeping({ history_days: (10 * LOOKED_MS) / DAY_MS, history_max: 1_000 }, ['a', 'b']);
    const { uid } = await scene.submitWorkflow('a', {
      name: 'outer',
      input: { items: [1, 2, 3] },
      steps: [
        { step_id: 'each', action: 'fn:talk', foreach: '${ input.items }', inputs: { item: '${ item }' } },
        { step_id: 'cached', action: 'fn:talk', cache: true, depends_on: ['each'] },
        { step_id: 'nested', action: 'workflow', inputs: { workflow: NESTED }, depends_on: ['each'] },
      ],
    });
    expect((await scene.endedWorkflow('a', uid)).status).toBe('completed');
    const single = await scene.submit('a', task({ task_type: 'fn:talk' }));
    await scene.ended('a', single.uid);
    await scene.pass(5 * LOOKED_MS);
    const whole = new Set(['workflow', 'definition', 'step', 'task', 'log', 'cache']);
    for (const name of ['a', 'b']) expect(kinds(await rows(scene, 'a', name))).toEqual(whole);
    await scene.pass(10 * LOOKED_MS);
    const left = await rows(scene, 'a');
    expect(left.filter(({ record }) => record.kind !== 'tombstone')).toEqual([]);
    expect(await rows(scene, 'a', 'b')).toEqual(left);
  });

  test('beyond as many as are to be kept, the oldest go, once they have been there for a while', async () => {
    const scene = await keeping({ history_days: 30, history_max: 2 });
    const uids = await echoes(scene, 5);
    await scene.pass(HISTORY_GRACE_MS / 2);
    for (const uid of uids) expect(await status(scene, uid)).toBe('completed');
    await scene.pass(LOOKED_MS);
    const left = await Promise.all(uids.map((uid) => status(scene, uid)));
    expect(left).toEqual([undefined, undefined, undefined, 'completed', 'completed']);
  });

  test('counts from its end, not from its beginning', async () => {
    const scene = await keeping({ history_days: (3 * LOOKED_MS) / DAY_MS, history_max: 1_000 });
    const slow = await scene.submit('a', task({ payload: { ms: 4 * LOOKED_MS } }));
    const [quick] = await echoes(scene, 1);
    await scene.ended('a', slow.uid);
    await scene.pass(LOOKED_MS);
    expect(await status(scene, quick!)).toBeUndefined();
    expect(await status(scene, slow.uid)).toBe('completed');
    await scene.pass(3 * LOOKED_MS);
    expect(await status(scene, slow.uid)).toBeUndefined();
  });
});

describe('what is open', () => {
  test('stays, and so does what it waits for and what it is a retry of', async () => {
    const scene = await keeping(AT_ONCE);
    const { uid: first, task_id } = await scene.submit('a', task({ task_type: 'fn:talk' }));
    await scene.ended('a', first);
    const [other] = await echoes(scene, 1);
    const waits = await scene.submit('a', task({ task_type: 'echo', depends_on: [task_id], delay_ms: 5 * LOOKED_MS }));
    const asks = await scene.submitWorkflow('a', { name: 'w', steps: [{ step_id: 's', action: 'approve' }] });
    await scene.pass(2 * LOOKED_MS);
    expect(await status(scene, other!)).toBeUndefined();
    expect(await status(scene, first)).toBe('completed');
    expect(await scene.peer('a').store.reader.parts(first, '', 9)).toEqual([`${first}/log`]);
    expect((await scene.workflow('a', asks.uid)).status).toBe('input_required');
    // What it waited for is looked up again when its owner starts again.
    await scene.restart('a');
    Object.assign(scene.scheduler('a').parts.options, AT_ONCE);
    expect((await scene.ended('a', waits.uid)).status).toBe('completed');
    await scene.pass(2 * LOOKED_MS);
    expect(await status(scene, first)).toBeUndefined();
  });
});

describe('a large workflow', () => {
  const ITEMS = 4 * PRUNED_ROWS_MAX;
  const large = {
    name: 'large',
    input: { items: Array.from({ length: ITEMS }, (_, item) => item) },
    steps: [{ step_id: 'each', action: 'echo', foreach: '${ input.items }' }],
  };

  test('goes in bounded commits, and goes on after a crash in between', async () => {
    const scene = await keeping(AT_ONCE);
    const { uid } = await scene.submitWorkflow('a', large);
    await scene.endedWorkflow('a', uid);
    const { journal } = scene.feed('a');
    const commits = new Set([journal.tombstones]);
    await scene.until('some of it is forgotten', () => commits.add(journal.tombstones).size > 1);
    const disk = scene.mesh.kill('a');
    expect((await disk.reader.get('workflow', uid))?.status).toBe('completed');
    expect((await disk.reader.parts(uid, '', ALL_BYTES)).length).toBeGreaterThan(0);
    await scene.run(scene.mesh.restart('a', disk));
    Object.assign(scene.scheduler('a').parts.options, AT_ONCE);
    await scene.pass(LOOKED_MS);
    const left = await rows(scene, 'a');
    expect(kinds(left)).toEqual(new Set(['tombstone']));
    for (const commit of Map.groupBy(left, ({ seq }) => seq).values())
      expect(commit.length).toBeLessThanOrEqual(PRUNED_ROWS_MAX);
    expect(left.length).toBeGreaterThan(ITEMS);
  });
});

describe('tombstones', () => {
  test('are forgotten once every copy has them', async () => {
    const scene = await keeping(AT_ONCE, ['a', 'b']);
    await echoes(scene, 1);
    const disk = scene.mesh.kill('b');
    await scene.pass(LOOKED_MS + 2 * TOMBSTONES_KEPT_MS);
    expect(kinds(await rows(scene, 'a'))).toEqual(new Set(['tombstone']));
    await scene.run(scene.mesh.restart('b', disk));
    await scene.pass(TOMBSTONES_KEPT_MS);
    for (const name of ['a', 'b']) expect(await rows(scene, 'a', name)).toEqual([]);
    const { feed, replicas } = scene.feed('a');
    expect(feed.pruned_to_seq).toBeGreaterThan(0);
    expect(replicas.copies).toBe(2);
  });

  test('that a copy has missed make it begin anew: nothing that was forgotten is left there', async () => {
    const scene = await keeping({ history_days: 30, history_max: 1_000 }, ['a', 'b']);
    const [uid] = await echoes(scene, 1);
    const disk = scene.mesh.kill('b');
    expect(await disk.reader.get('task', uid!)).toBeDefined();
    const feed = scene.feed('a');
    const cleared_at = '2026-01-01T00:00:00.000Z';
    await scene.run(feed.journal.turn((turn) => turn.put({ kind: 'tombstone', uid: uid!, cleared_at })));
    feed.replicas.change({ pruned_to_seq: feed.journal.head });
    await scene.run(feed.journal.turn(() => undefined));
    await scene.run(scene.peer('a').store.sweep(feed.feed_id, feed.feed.pruned_to_seq));
    const [newer] = await echoes(scene, 1);
    await scene.run(scene.mesh.restart('b', disk));
    const copy = scene.peer('b').store.reader;
    await scene.until('the copy is there', async () => (await copy.get('task', newer!)) !== undefined);
    expect(await copy.row(uid!)).toBeUndefined();
    await scene.until('it counts again', () => feed.replicas.copies === 2);
  });
});

test('of the workers that were given up only some are remembered, the last ones', async () => {
  const scene = await keeping(AT_ONCE);
  const { reader } = scene.peer('a').store;
  const scheduler = scene.scheduler('a');
  const offline = async () =>
    (await reader.active('worker', LOCAL_FEED)).filter((worker) => worker.status === 'offline');
  for (let at = 0; at < OFFLINE_WORKERS_MAX + 10; at++) {
    const worker = { worker_id: `w-${at}`, capabilities: ['*'], max_concurrent_tasks: 1, metadata: {} };
    const resource_limits = { cpu_cores: null, memory_gb: null };
    await scene.run(scheduler.api.registerWorker({ ...worker, resource_limits }));
    await scene.run(scheduler.api.unregisterWorker(worker.worker_id, { graceful: false, timeout_ms: 0 }));
  }
  await scene.pass(2 * RETENTION_INTERVAL_MS);
  const left = await offline();
  expect(left).toHaveLength(OFFLINE_WORKERS_MAX);
  expect(left.at(-1)?.worker_id).toBe(`w-${OFFLINE_WORKERS_MAX + 9}`);
  expect(await reader.active('tombstone', LOCAL_FEED)).toEqual([]);
});
