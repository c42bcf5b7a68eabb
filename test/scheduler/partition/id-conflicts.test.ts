/** Two records of one id that meet at a take-up or with a hand-over: the one that was accepted later keeps it (P5). */
import { describe, expect, test } from 'vitest';
import { LOCATE_ITEMS_MAX, SUBMITS_SETTLE_MS } from '../../../scheduler/limits.ts';
import { rendezvous } from '../../../scheduler/membership/rendezvous-hash.ts';
import type { TaskRecord, WorkflowRecord } from '../../../scheduler/records.ts';
import { currentLine } from '../../../scheduler/storage/feed-lines.ts';
import { HandFeed } from '../hand-feed.ts';
import { grantedTo, HandPeer } from '../hand-peer.ts';
import { taskRecord } from '../records.ts';
import { Scene, task, workflow } from '../scene.ts';

const BEAT_MS = 1_000;
const FEED = 'feedfeedfeedfeedfeed';
const ID = 'chosen-by-its-user';
/** Uids begin with the time. */
const UIDS = { earlier: '0'.repeat(20), later: 'v'.repeat(20) };

/** `b` follows a feed of `h`; it, or its peer `c`, accepts a task in its own feed. */
class Accepted {
  readonly scene: Scene;
  readonly #h: HandPeer;
  readonly #feed: HandFeed;
  readonly #at: string;
  readonly record: TaskRecord;

  private constructor(scene: Scene, h: HandPeer, feed: HandFeed, at: string, record: TaskRecord) {
    this.scene = scene;
    this.#h = h;
    this.#feed = feed;
    this.#at = at;
    this.record = record;
  }

  static async by(at: 'b' | 'c'): Promise<Accepted> {
    const scene = await Scene.of(['b', 'c']);
    const h = await HandPeer.joins(scene, 'h', ['b']);
    const feed = new HandFeed(h, FEED, ['b']);
    await scene.run(feed.push('b', []));
    const record = await scene.submit(at, task({ task_id: ID, delay_ms: 3_600_000 }));
    return new Accepted(scene, h, feed, at, record);
  }

  /** The same task, as `h` has accepted it. */
  #like(uid: string): TaskRecord {
    return { ...this.record, uid };
  }

  async followed(uid: string, ...more: TaskRecord[]): Promise<void> {
    await this.scene.run(this.#feed.push('b', this.#feed.commit(...more, this.#like(uid))));
  }

  async takeOver(): Promise<void> {
    this.#h.beating = false;
    await this.scene.until('b has taken over', () => this.scene.scheduler('b').parts.feeds.has(FEED));
    await this.scene.pass(2 * BEAT_MS);
  }

  /** What `h` accepted in its line comes to `b`, the owner of the next one. */
  async handOver(uid: string, changes: Partial<TaskRecord> = {}): Promise<void> {
    const records = [{ ...this.#like(uid), ...changes }];
    const root = { feed_id: FEED, line: currentLine(this.#feed.feed), root_uid: uid, records };
    await this.#h.ask('b', 'handover', { ...root, part: 0, last: true });
    await this.scene.pass(BEAT_MS);
  }

  /** Everybody finds one record, and the other one is set aside. `uid` is that of the record from `h`. */
  async expectOneKept(uid: string): Promise<void> {
    const { scene, record } = this;
    const at = this.#at;
    const all = [
      { uid, at: 'b' },
      { uid: record.uid, at },
    ];
    const [lost, kept] = all.sort((one, other) => (one.uid < other.uid ? -1 : 1)) as [(typeof all)[0], (typeof all)[0]];
    expect(await scene.task(lost.at, lost.uid)).toMatchObject({
      task_id: `${ID}~${lost.uid}`,
      status: 'cancelled',
      error: { code: 'SUPERSEDED' },
    });
    expect(await scene.task(kept.at, kept.uid)).toMatchObject({ task_id: ID, status: 'queued' });
    for (const name of ['b', 'c']) {
      const place = await scene.run(scene.scheduler(name).api.resolve({ kind: 'task', id: ID }));
      if (name === kept.at) expect(place).toEqual({ here: true, uid: kept.uid });
      else expect(place).toMatchObject({ here: false, at: { peer_id: kept.at } });
    }
    expect(scene.mesh.failures).toEqual([]);
  }
}

test('a refused workflow has no end: one that its client had accepted at the other side of a partition goes on', async () => {
  const scene = await Scene.of(['a', 'b', 'c']);
  for (const other of ['b', 'c']) scene.mesh.board.cut('a', other);
  await scene.until('a is alone', () => scene.scheduler('a').parts.peers.isAlone());
  const steps = [{ step_id: 's', action: 'approve' }];
  const submission = { ...workflow({ workflow_id: ID, name: 'w', steps }), copies: 2, require_copies: true };
  const submitTo = (name: string) => scene.run(scene.scheduler(name).api.submitWorkflow(submission));
  await expect(submitTo('a')).rejects.toMatchObject({ code: 'TOO_FEW_COPIES' });
  const { record } = await submitTo('b');
  for (const other of ['b', 'c']) scene.mesh.board.heal('a', other);
  await scene.until('the refused one has given way', async () => {
    const { records } = await scene.peer('a').store.reader.list({ kind: 'workflow', limit: 1, offset: 0 });
    return (records as WorkflowRecord[]).some(({ uid, workflow_id }) => workflow_id === `${ID}~${uid}`);
  });
  await scene.pass(2 * BEAT_MS);
  expect(await scene.workflow('b', record.uid)).toMatchObject({ workflow_id: ID, status: 'input_required' });
  await expect(submitTo('a')).rejects.toMatchObject({ code: 'ELSEWHERE' });
});

test('a feed with more such records than fit in one question is told apart too', async () => {
  const accepted = await Accepted.by('c');
  const more = Array.from({ length: LOCATE_ITEMS_MAX }, (_, index) => taskRecord(`${index}`.padStart(20, '0')));
  await accepted.followed(UIDS.later, ...more);
  await accepted.takeOver();
  await accepted.expectOneKept(UIDS.later);
});

describe.each([
  ['the receiver has in another feed', 'b'],
  ['a third peer has', 'c'],
] as const)('a record whose id %s', (_where, at) => {
  test.each(['earlier', 'later'] as const)(
    'and that comes with a hand-over, accepted %s, is told apart',
    async (when) => {
      const accepted = await Accepted.by(at);
      await accepted.takeOver();
      await accepted.handOver(UIDS[when]);
      await accepted.expectOneKept(UIDS[when]);
    },
  );

  test.each(['earlier', 'later'] as const)('and whose feed is taken up, accepted %s, is told apart', async (when) => {
    const accepted = await Accepted.by(at);
    await accepted.followed(UIDS[when]);
    await accepted.takeOver();
    await accepted.expectOneKept(UIDS[when]);
  });
});

test('feeds that are taken up together are compared together', async () => {
  const scene = await Scene.of(['b']);
  const h = await HandPeer.joins(scene, 'h', ['b']);
  const other = await HandPeer.joins(scene, 'i', ['b']);
  const feeds = [0, 1, 2, 3, 4].map((place) => `${place}`.repeat(FEED.length));
  await scene.submit('b', task({ task_id: ID, delay_ms: 3_600_000 }));
  await scene.pass(2 * SUBMITS_SETTLE_MS);
  for (const feedId of feeds) await scene.run(new HandFeed(h, feedId, ['b']).push('b', []));
  other.messages.length = 0;
  h.beating = false;
  await scene.until('b has them', () => feeds.every((feedId) => scene.scheduler('b').parts.feeds.has(feedId)));
  await scene.pass(5 * BEAT_MS);
  const asked = other.messages.filter(
    ({ method, params }) => method === 'locate' && JSON.stringify(params).includes(ID),
  );
  expect(asked).toHaveLength(1);
});

describe('a record that gave way in the line that stays, and ended in the other one', () => {
  /** `c` has done the first of two records; the second, of `h`, gives way at `b` and is done at `h` as well. */
  async function givenWay(): Promise<{
    scene: Scene;
    h: HandPeer;
    feed: HandFeed;
    first: TaskRecord;
    second: TaskRecord;
  }> {
    const scene = await Scene.of(['b', 'c']);
    const h = await HandPeer.joins(scene, 'h', ['b', 'c']);
    const feed = new HandFeed(h, FEED, ['b']);
    const { uid } = await scene.submit('c', task({ task_id: ID }));
    const first = await scene.ended('c', uid);
    const open = taskRecord(UIDS.later, { task_id: ID, content_hash: first.content_hash });
    await scene.run(feed.push('b', feed.commit(open)));
    h.beating = false;
    await scene.until('b has taken over', () => scene.scheduler('b').parts.feeds.has(FEED));
    expect(await scene.ended('b', UIDS.later)).toMatchObject({ task_id: `${ID}~${UIDS.later}`, status: 'cancelled' });
    const second = { ...open, status: 'completed', output: { by: 'h' }, ended_at: first.ended_at } as TaskRecord;
    return { scene, h, feed, first, second };
  }

  async function handOver(h: HandPeer, feed: HandFeed, record: TaskRecord): Promise<void> {
    const root = { feed_id: FEED, line: currentLine(feed.feed), root_uid: record.uid, records: [record] };
    await h.ask('b', 'handover', { ...root, part: 0, last: true });
    await h.scene.pass(BEAT_MS);
  }

  async function expectSecondKept(scene: Scene, first: TaskRecord): Promise<void> {
    expect(await scene.task('b', UIDS.later)).toMatchObject({ task_id: ID, status: 'completed', output: { by: 'h' } });
    expect(await scene.task('c', first.uid)).toMatchObject({ task_id: `${ID}~${first.uid}`, status: 'completed' });
    for (const name of ['b', 'c']) {
      const place = await scene.run(scene.scheduler(name).api.resolve({ kind: 'task', id: ID }));
      expect(place).toMatchObject(name === 'b' ? { here: true, uid: UIDS.later } : { at: { peer_id: 'b' } });
    }
    expect(scene.mesh.failures).toEqual([]);
  }

  test('has ended, and keeps the id when it was accepted later', async () => {
    const { scene, h, feed, first, second } = await givenWay();
    await handOver(h, feed, second);
    await expectSecondKept(scene, first);
  });

  test('keeps the id also when the other record gave way to it in turn: one of the two is always found', async () => {
    const { scene, h, feed, first, second } = await givenWay();
    const { uid, content_hash, status } = second;
    const items = [{ kind: 'task', id: ID, held: { peer_id: 'h', uid, status, content_hash } }];
    await h.ask('c', 'locate', { items, hops: 0, asked: [] });
    await scene.until('it gives way', async () => (await scene.task('c', first.uid)).task_id !== ID);
    await handOver(h, feed, second);
    await expectSecondKept(scene, first);
  });
});

test('a record that gave way in the line that lost goes on in the one that stays', async () => {
  const scene = await Scene.of(['b', 'c']);
  const h = await HandPeer.joins(scene, 'h', ['b', 'c']);
  const feed = new HandFeed(h, FEED, ['b']);
  const open = taskRecord(UIDS.later, { task_id: ID, due_at: '2027-01-01T00:00:00.000Z' });
  await scene.run(feed.push('b', feed.commit(open)));
  h.beating = false;
  await scene.until('b has taken over', () => scene.scheduler('b').parts.feeds.has(FEED));
  const error = { code: 'SUPERSEDED', message: 'another one does it', retryable: false };
  const gone = { ...open, task_id: `${ID}~${open.uid}`, status: 'cancelled', error, ended_at: open.created_at };
  const root = { feed_id: FEED, line: currentLine(feed.feed), root_uid: open.uid, records: [gone] };
  await h.ask('b', 'handover', { ...root, part: 0, last: true });
  await scene.pass(BEAT_MS);
  expect(await scene.task('b', open.uid)).toMatchObject({ task_id: ID, status: 'queued' });
});

test('a record that gave way and comes with a hand-over takes the id from nobody', async () => {
  const accepted = await Accepted.by('b');
  await accepted.takeOver();
  const { scene, record } = accepted;
  await accepted.handOver(UIDS.later, { task_id: `${ID}~${UIDS.later}`, status: 'cancelled' });
  expect(await scene.task('b', record.uid)).toMatchObject({ task_id: ID, status: 'queued' });
});

describe('a record that is just being accepted, and never comes to the disk (P1)', () => {
  /** `b`, which has just slept, accepts the id, and another peer turns out to own its feed. */
  async function acceptedInVain(scene: Scene, meet: () => Promise<unknown>): Promise<void> {
    const feed = scene.feed('b');
    feed.journal.freeze();
    const submitted = scene.scheduler('b').api.submitTask(task({ task_id: ID, delay_ms: 3_600_000 }));
    submitted.catch(() => {});
    await scene.until(
      'it is in memory',
      () => scene.scheduler('b').parts.feeds.byAlias({ kind: 'task', id: ID }) !== undefined,
    );
    await meet();
    feed.abandon();
    await expect(scene.run(submitted)).rejects.toMatchObject({ code: 'NOT_OWNER' });
    await scene.pass(2 * BEAT_MS);
  }

  async function following(): Promise<{ scene: Scene; h: HandPeer; feed: HandFeed; older: TaskRecord }> {
    const scene = await Scene.of(['b', 'c']);
    const h = await HandPeer.joins(scene, 'h', ['b']);
    const feed = new HandFeed(h, FEED, ['b']);
    await scene.run(feed.push('b', []));
    return { scene, h, feed, older: taskRecord(UIDS.earlier, { task_id: ID, due_at: '2027-01-01T00:00:00.000Z' }) };
  }

  test('keeps the id from no record that comes with a hand-over', async () => {
    const { scene, h, feed, older } = await following();
    h.beating = false;
    await scene.until('b has taken over', () => scene.scheduler('b').parts.feeds.has(FEED));
    const root = { feed_id: FEED, line: currentLine(feed.feed), root_uid: older.uid, records: [older] };
    await acceptedInVain(scene, () => h.ask('b', 'handover', { ...root, part: 0, last: true }));
    expect(await scene.task('b', older.uid)).toMatchObject({ task_id: ID, status: 'queued' });
  });

  test('keeps the id from no record of a feed that is taken up', async () => {
    const { scene, h, feed, older } = await following();
    await acceptedInVain(scene, async () => {
      await scene.run(feed.push('b', feed.commit(older)));
      h.beating = false;
      await scene.until('b has taken over', () => scene.scheduler('b').parts.feeds.has(FEED));
    });
    expect(await scene.task('b', older.uid)).toMatchObject({ task_id: ID, status: 'queued' });
  });
});

test.each(['task', 'workflow'] as const)('another peer is told of a %s once it is accepted (P1)', async (kind) => {
  const scene = await Scene.of(['b', 'c']);
  const h = await HandPeer.joins(scene, 'h', ['b']);
  const located = () => h.ask('b', 'locate', { items: [{ kind, id: ID }], hops: 0, asked: [] });
  scene.feed('b').journal.freeze();
  const steps = [{ step_id: 's', action: 'approve' }];
  const submitted: Promise<{ record: TaskRecord | WorkflowRecord }> =
    kind === 'task'
      ? scene.scheduler('b').api.submitTask(task({ task_id: ID, delay_ms: 3_600_000 }))
      : scene.scheduler('b').api.submitWorkflow(workflow({ workflow_id: ID, name: 'w', steps }));
  await scene.until('it is in memory', () => scene.scheduler('b').parts.feeds.byAlias({ kind, id: ID }) !== undefined);
  expect(await located()).toEqual({ found: [null] });
  scene.feed('b').journal.thaw();
  const { uid } = (await scene.run(submitted)).record;
  expect(await located()).toMatchObject({ found: [{ uid }] });
});

test('what waits for a record of this peer that gives way waits for the one that keeps the id', async () => {
  const scene = await Scene.of(['b', 'c']);
  const h = await HandPeer.joins(scene, 'h', ['b', 'c']);
  const feed = new HandFeed(h, FEED, ['c']);
  const first = await scene.submit('b', task({ task_id: ID, delay_ms: 3_600_000 }));
  const waiting = await scene.submit('b', task({ task_id: 'waiting', payload: { ms: 0 }, depends_on: [ID] }));
  const ended: TaskRecord = { ...first, uid: UIDS.later, status: 'completed', output: { result: 1 } } as never;
  await scene.run(feed.push('c', feed.commit(ended)));
  h.beating = false;
  await scene.until('c has taken over', () => scene.scheduler('c').parts.feeds.has(FEED));
  expect((await scene.ended('b', first.uid)).error).toMatchObject({ code: 'SUPERSEDED' });
  expect((await scene.ended('b', waiting.uid)).status).toBe('completed');
  expect(scene.scheduler('b').parts.dependencies.size).toBe(0);
});

test('two peers that meet while both just accept one id find out', async () => {
  const scene = await Scene.of(['b', 'c']);
  scene.mesh.board.cut('b', 'c');
  const acceptedMs = 3 * BEAT_MS; // on the disk only after they have met and compared what was there
  for (const name of ['b', 'c']) scene.peer(name).disk.delayMs = [acceptedMs, acceptedMs];
  const submits = ['b', 'c'].map((name) =>
    scene.scheduler(name).api.submitTask(task({ task_id: ID, delay_ms: 3_600_000 })),
  );
  await scene.pass(100);
  scene.mesh.board.heal('b', 'c');
  const accepted = (await scene.run(Promise.all(submits))).map(({ record }) => record);
  expect(scene.peer('b').network.connected()).toEqual(['c']);
  await scene.pass(SUBMITS_SETTLE_MS + 3 * acceptedMs);
  const [lost, kept] = accepted[0]!.uid < accepted[1]!.uid ? [0, 1] : [1, 0];
  expect((await scene.task(['b', 'c'][lost]!, accepted[lost]!.uid)).error?.code).toBe('SUPERSEDED');
  expect((await scene.task(['b', 'c'][kept]!, accepted[kept]!.uid)).status).toBe('queued');
});

test('a submit whose arbiter was silent hears of the record that was made meanwhile', async () => {
  const scene = await Scene.of(['a', 'b']);
  const h = await HandPeer.joins(scene, 'h', ['a', 'b']);
  const id = ['w', 'x', 'y', 'z', 'wanted', 'chosen'].find((each) => rendezvous(each, ['a', 'b', 'h'])[0] === 'h')!;
  const content = task({ task_id: id, delay_ms: 3_600_000 });
  const never = new Promise<never>(() => {});
  h.answers.set('reserve', (params, from) => (from === 'a' ? never : { holders: grantedTo(from, params) }));
  const slow = scene.scheduler('a').api.submitTask(content);
  await scene.pass(BEAT_MS);
  const { record: kept } = await scene.run(scene.scheduler('b').api.submitTask(content));
  const { record: lost } = await scene.run(slow);
  const [first, second] = kept.uid < lost.uid ? [kept, lost] : [lost, kept];
  const at = (uid: string) => (uid === kept.uid ? 'b' : 'a');
  await scene.pass(BEAT_MS);
  expect((await scene.task(at(first.uid), first.uid)).error?.code).toBe('SUPERSEDED');
  expect((await scene.task(at(second.uid), second.uid)).status).toBe('queued');
});
