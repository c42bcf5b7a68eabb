import { describe, expect, test } from 'vitest';
import type { JsonObject } from '../../../dag/errors.ts';
import { BEAT_INTERVAL_MS, RESERVATION_MS, TAKEOVER_MS } from '../../../scheduler/limits.ts';
import { currentLine } from '../../../scheduler/storage/feed-lines.ts';
import { HandFeed } from '../hand-feed.ts';
import { HandPeer } from '../hand-peer.ts';
import { gate, Scene, task } from '../scene.ts';

const found = (peer_id: string, over: JsonObject = {}) => ({
  peer_id,
  addresses: [],
  status: 'running',
  content_hash: 'h',
  ...over,
});
const asked = (peer: HandPeer, method: string) => peer.messages.filter((message) => message.method === method);
const alias = (id: string) => ({ kind: 'task' as const, id });

describe('where a record is', () => {
  test('here, live or ended, without a question', async () => {
    const scene = await Scene.of(['a']);
    const peer = await HandPeer.joins(scene, 'h', ['a']);
    const { uid } = await scene.submit('a', task({ task_id: 'mine' }));
    peer.messages.length = 0;
    expect(await scene.run(scene.scheduler('a').resolve(alias('mine')))).toEqual({ here: true, uid });
    await scene.ended('a', uid);
    expect(await scene.run(scene.scheduler('a').resolve(alias('mine')))).toEqual({ here: true, uid });
    expect(asked(peer, 'locate')).toEqual([]);
  });

  test('at the connected peer whose feed a made id names, without a question', async () => {
    const scene = await Scene.of(['a']);
    const peer = await HandPeer.joins(scene, 'h', ['a']);
    peer.state.feeds = [{ feed_id: '0123456789abcdefghij', epoch: 1, base_seq: 0, nonce: '' }];
    await peer.beat('a');
    const located = await scene.run(scene.scheduler('a').resolve(alias('task-012345-abcdefghijkl')));
    expect(located).toMatchObject({ here: false, at: { peer_id: 'h' } });
    expect(asked(peer, 'locate')).toEqual([]);
  });

  test('kept by a peer that is away: that is said, and of a found record too', async () => {
    const scene = await Scene.of(['a']);
    const peer = await HandPeer.joins(scene, 'h', ['a']);
    peer.state.feeds = [{ feed_id: '0123456789abcdefghij', epoch: 1, base_seq: 0, nonce: '' }];
    peer.answers.set('locate', () => ({ found: [found('h')] }));
    await peer.beat('a');
    await scene.run(scene.scheduler('a').resolve(alias('theirs')));
    scene.mesh.board.cut('a', 'h');
    await scene.pass(100);
    for (const id of ['task-012345-abcdefghijkl', 'theirs']) {
      await expect(scene.run(scene.scheduler('a').resolve(alias(id)))).rejects.toMatchObject({
        code: 'OWNER_UNREACHABLE',
        retryable: true,
      });
    }
  });

  test('at the peer that says so, which is remembered while it is connected', async () => {
    const scene = await Scene.of(['a']);
    const h = await HandPeer.joins(scene, 'h', ['a']);
    const i = await HandPeer.joins(scene, 'i', ['a']);
    i.answers.set('locate', () => ({ found: [found('i')] }));
    for (let round = 0; round < 2; round++) {
      const located = await scene.run(scene.scheduler('a').resolve(alias('theirs')));
      expect(located).toMatchObject({ here: false, at: { peer_id: 'i' } });
    }
    expect([asked(h, 'locate').length, asked(i, 'locate').length]).toEqual([1, 1]);
  });

  test('of a worker is not remembered: it may be gone', async () => {
    const scene = await Scene.of(['a']);
    const peer = await HandPeer.joins(scene, 'h', ['a']);
    peer.answers.set('locate', () => ({ found: [found('h', { status: 'active' })] }));
    const { scheduler } = scene.peer('a');
    const registration = {
      worker_id: 'w1',
      capabilities: ['gpu'],
      max_concurrent_tasks: 1,
      resource_limits: { cpu_cores: null, memory_gb: null },
      metadata: {},
    };
    await expect(scene.run(scheduler.registerWorker(registration))).rejects.toMatchObject({ code: 'CONFLICT' });
    peer.answers.set('locate', () => ({ found: [found('h', { status: 'offline' })] }));
    expect(await scene.run(scheduler.registerWorker(registration))).toMatchObject({ status: 'active' });
  });

  test('nowhere, when nobody knows it or their answers cannot be read', async () => {
    const scene = await Scene.of(['a']);
    const h = await HandPeer.joins(scene, 'h', ['a']);
    const i = await HandPeer.joins(scene, 'i', ['a']);
    h.answers.set('locate', () => ({ found: 'here' }));
    i.answers.set('locate', () => Promise.reject(new Error('no')));
    expect(await scene.run(scene.scheduler('a').resolve(alias('unknown')))).toBeUndefined();
  });

  test('is answered for others: from here, or through the peers of this one that were not asked', async () => {
    const scene = await Scene.of(['a']);
    const h = await HandPeer.joins(scene, 'h', ['a']);
    const i = await HandPeer.joins(scene, 'i', ['a']);
    const j = await HandPeer.joins(scene, 'j', ['a']);
    await scene.submit('a', task({ task_id: 'mine', delay_ms: 60_000 }));
    for (const peer of [h, i, j]) peer.messages.length = 0;
    i.answers.set('locate', () => ({ found: [found('i')] }));
    const question = (hops: number, others: string[]) =>
      h.ask('a', 'locate', { items: [alias('mine'), alias('theirs')], hops, asked: others });
    expect(await question(0, [])).toMatchObject({ found: [{ peer_id: 'a', status: 'queued' }, null] });
    expect(await question(1, ['h', 'j'])).toMatchObject({ found: [{ peer_id: 'a' }, { peer_id: 'i' }] });
    expect([asked(h, 'locate').length, asked(j, 'locate').length]).toEqual([0, 0]);
    expect(asked(i, 'locate')[0]!.params).toMatchObject({ items: [alias('theirs')], hops: 0 });
    expect(await question(1, ['h', 'i', 'j'])).toMatchObject({ found: [{ peer_id: 'a' }, null] });
  });
});

describe('while the owner cannot be reached', () => {
  const asCopy = (peer_id: string) => found(peer_id, { copy_of: 'owner' });
  const where = (scene: Scene, ...except: string[]) => scene.run(scene.scheduler('a').resolve(alias('theirs'), except));

  test('a record is where a copy is; an owner that somebody names comes first', async () => {
    const scene = await Scene.of(['a']);
    const h = await HandPeer.joins(scene, 'h', ['a']);
    const i = await HandPeer.joins(scene, 'i', ['a']);
    h.answers.set('locate', () => ({ found: [asCopy('h')] }));
    expect(await where(scene)).toMatchObject({ here: false, at: { peer_id: 'h', copy_of: 'owner' } });
    i.answers.set('locate', () => ({ found: [found('i')] }));
    expect(await where(scene)).toMatchObject({ at: { peer_id: 'i' } });
    expect(await where(scene, 'i')).toMatchObject({ at: { peer_id: 'h' } });
    expect(await where(scene, 'i', 'h')).toBeUndefined();
  });

  test('an owner that says nothing any more is not asked, and neither is it asked where things are', async () => {
    const scene = await Scene.of(['a']);
    const h = await HandPeer.joins(scene, 'h', ['a']);
    h.answers.set('locate', () => ({ found: [found('h')] }));
    expect(await where(scene)).toMatchObject({ at: { peer_id: 'h' } });
    h.beating = false;
    await scene.pass(5_000);
    const questions = asked(h, 'locate').length;
    await expect(where(scene)).rejects.toMatchObject({ code: 'OWNER_UNREACHABLE' });
    expect(asked(h, 'locate')).toHaveLength(questions);
  });

  test('others are told of a copy, and of its owner', async () => {
    const scene = await Scene.of(['a', 'b']);
    await scene.submit('a', task({ task_id: 'wanted', delay_ms: 600_000 }));
    const h = await HandPeer.joins(scene, 'h', ['b']);
    const question = { items: [alias('wanted')], hops: 0, asked: [] };
    expect(await h.ask('b', 'locate', question)).toMatchObject({
      found: [{ peer_id: 'b', copy_of: 'a', status: 'queued' }],
    });
    expect(await h.ask('b', 'locate', { ...question, hops: 1 })).toMatchObject({ found: [{ peer_id: 'a' }] });
  });
});

describe('a call', () => {
  test('goes to the peer itself, else through the one that named it', async () => {
    const scene = await Scene.of(['a']);
    const via = await HandPeer.joins(scene, 'via', ['a']);
    via.answers.set('locate', () => ({ found: [found('far')] }));
    via.answers.set('call', (params) => ({ output: { tool: params['tool']! } }));
    const { scheduler } = scene.peer('a');
    await scene.run(scheduler.resolve(alias('theirs')));
    scene.mesh.board.cut('a', 'far');
    expect(await scene.run(scheduler.call('far', [], 'task_status', {}, 1))).toEqual({ tool: 'task_status' });
    await expect(scene.run(scheduler.call('nobody', [], 'task_status', {}, 1))).rejects.toMatchObject({
      code: 'PEER_UNREACHABLE',
    });
    const far = new HandPeer(scene, 'far');
    far.answers.set('call', () => ({ output: { from: 'far' } }));
    scene.mesh.board.heal('a', 'far');
    expect(await scene.run(scheduler.call('far', [], 'task_status', {}, 1))).toEqual({ from: 'far' });
  });

  test.each([
    ['an error', { error: { code: 'NOT_FOUND', message: 'no such task', retryable: false } }, 'NOT_FOUND'],
    ['nothing', null, 'BAD_ANSWER'],
    ['something else', { result: 1 }, 'BAD_ANSWER'],
  ])('that is answered with %s rejects', async (_what, answer, code) => {
    const scene = await Scene.of(['a']);
    const peer = await HandPeer.joins(scene, 'h', ['a']);
    peer.answers.set('call', () => answer);
    await expect(scene.run(scene.scheduler('a').call('h', [], 'x', {}, 0))).rejects.toMatchObject({ code });
  });

  test('that a silent peer does not answer is given up, long before its deadline', async () => {
    const scene = await Scene.of(['a']);
    const peer = await HandPeer.joins(scene, 'h', ['a']);
    peer.answers.set('call', () => new Promise(() => {}));
    const call = () => scene.run(scene.scheduler('a').call('h', [], 'x', {}, 0));
    await expect(call()).rejects.toMatchObject({ code: 'DEADLINE_EXCEEDED' });
    peer.beating = false;
    const before = scene.world.now;
    await expect(call()).rejects.toMatchObject({ code: 'PEER_SILENT' });
    expect(scene.world.now - before).toBeLessThan(5_000);
  });

  test('is not handed on for ever', async () => {
    const scene = await Scene.of(['a']);
    const call = () => scene.run(scene.scheduler('a').call('h', [], 'x', {}, 4));
    await expect(call()).rejects.toMatchObject({ code: 'HOPS_EXCEEDED' });
  });
});

describe('reservations', () => {
  const item = (content_hash: string) => ({ ...alias('wanted'), content_hash });
  const reserve = (peer: HandPeer, content_hash: string) =>
    peer.ask('a', 'reserve', { items: [item(content_hash)] }) as Promise<unknown>;

  test('are given to the first that asks, for a while', async () => {
    const scene = await Scene.of(['a']);
    const h = await HandPeer.joins(scene, 'h', ['a']);
    const i = await HandPeer.joins(scene, 'i', ['a']);
    expect(await reserve(h, 'x')).toEqual({ holders: [{ peer_id: 'h', content_hash: 'x' }] });
    expect(await reserve(i, 'y')).toEqual({ holders: [{ peer_id: 'h', content_hash: 'x' }] });
    expect(await reserve(h, 'z')).toEqual({ holders: [{ peer_id: 'h', content_hash: 'z' }] });
    await scene.pass(RESERVATION_MS + 1_000 + RESERVATION_MS * 0.1);
    expect(await reserve(i, 'y')).toEqual({ holders: [{ peer_id: 'i', content_hash: 'y' }] });
  });

  test('of a peer that is gone are void: what it wrote is in a copy, or nowhere', async () => {
    const scene = await Scene.of(['a']);
    const h = await HandPeer.joins(scene, 'h', ['a']);
    const i = await HandPeer.joins(scene, 'i', ['a']);
    await reserve(h, 'x');
    scene.mesh.board.cut('a', 'h');
    await scene.pass(TAKEOVER_MS - BEAT_INTERVAL_MS);
    expect(await reserve(i, 'y')).toMatchObject({ holders: [{ peer_id: 'h' }] });
    await scene.pass(2 * BEAT_INTERVAL_MS);
    expect(await reserve(i, 'y')).toMatchObject({ holders: [{ peer_id: 'i' }] });
  });

  test('make submits of one id at several peers at once meet', async () => {
    const names = ['a', 'b', 'c'];
    for (let round = 0; round < 5; round++) {
      const scene = await Scene.of(names);
      const submits = names.map((name) => scene.scheduler(name).submitTask(task({ task_id: `id-${round}` })));
      const outcomes = await scene.run(Promise.allSettled(submits));
      const accepted = outcomes.filter(({ status }) => status === 'fulfilled');
      const refusals = outcomes.flatMap((each) => (each.status === 'rejected' ? [each.reason.code] : []));
      expect(accepted).toHaveLength(1);
      expect(refusals).toEqual(['ELSEWHERE', 'ELSEWHERE']);
    }
  });

  test('of an id with other content are a conflict that names the peer', async () => {
    const scene = await Scene.of(['a', 'b']);
    await scene.submit('b', task({ task_id: 'wanted', delay_ms: 60_000 }));
    await expect(scene.submit('a', task({ task_id: 'wanted', priority: 3 }))).rejects.toMatchObject({
      code: 'CONFLICT',
      message: expect.stringContaining('on peer b'),
    });
  });

  test('of an id that a peer says meanwhile it has are not used: the submit is answered as that peer’s', async () => {
    const scene = await Scene.of(['a']);
    const { content_hash } = await scene.submit('a', task({ task_id: 'same' }));
    const h = await HandPeer.joins(scene, 'h', ['a']);
    const answered = gate();
    h.messages.length = 0;
    h.answers.set('locate', async () => {
      await answered.opened;
      return { found: [null] };
    });
    const submits = ['wanted', 'other'].map((task_id) => scene.scheduler('a').submitTask(task({ task_id })));
    const settled = Promise.allSettled(submits);
    await scene.until('it asks', () => asked(h, 'locate').length === 2);
    // It did not know them when it was asked, and has read its disk since.
    const held = { peer_id: 'h', uid: '0'.repeat(20), status: 'queued' };
    const items = [
      { ...alias('wanted'), held: { ...held, content_hash } },
      { ...alias('other'), held: { ...held, content_hash: 'other' } },
    ];
    expect(await h.ask('a', 'locate', { items, hops: 0, asked: [] })).toEqual({ found: [null, null] });
    answered.open();
    expect(await scene.run(settled)).toMatchObject([
      { status: 'rejected', reason: { code: 'ELSEWHERE', at: { peer_id: 'h' } } },
      { status: 'rejected', reason: { code: 'CONFLICT' } },
    ]);
    expect(await h.ask('a', 'locate', { items, hops: 0, asked: [] })).toEqual({ found: [null, null] });
  });

  test('of an id that a peer says it has after it was reserved here make one of the two records give way', async () => {
    const scene = await Scene.of(['a']);
    const h = await HandPeer.joins(scene, 'h', ['a']);
    const answered = gate();
    const isAwaited = (params: JsonObject) => (params['items'] as { id: string }[])[0]!.id === 'far';
    h.answers.set('locate', async (params) => {
      if (!isAwaited(params)) return { found: [null] };
      await answered.opened;
      return { found: [found('h')] };
    });
    const submitted = scene.scheduler('a').submitTask(task({ task_id: 'wanted', depends_on: ['far'] }));
    await scene.until('it asks what it waits for', () => asked(h, 'locate').some(({ params }) => isAwaited(params)));
    const held = { peer_id: 'h', uid: 'v'.repeat(20), status: 'queued', content_hash: 'other' };
    const items = [{ ...alias('wanted'), held }];
    expect(await h.ask('a', 'locate', { items, hops: 0, asked: [] })).toEqual({ found: [null] });
    answered.open();
    const { uid } = (await scene.run(submitted)).record;
    await scene.pass(100);
    expect(await scene.task('a', uid)).toMatchObject({ task_id: `wanted~${uid}`, status: 'queued' });
  });

  test('of an id that comes to this peer with a hand-over meanwhile are not used: it is the same record', async () => {
    const scene = await Scene.of(['a']);
    const record = await scene.submit('a', task({ task_id: 'same', delay_ms: 3_600_000 }));
    const o = await HandPeer.joins(scene, 'o', ['a']);
    const theirs = new HandFeed(o, 'feedfeedfeedfeedfeed', ['a']);
    const { feed } = theirs;
    await scene.run(theirs.push('a', []));
    o.beating = false;
    await scene.until('a owns it', () => scene.scheduler('a').feeds.owned.has(feed.feed_id));
    const h = await HandPeer.joins(scene, 'h', ['a']);
    const answered = gate();
    h.messages.length = 0;
    h.answers.set('locate', async () => {
      await answered.opened;
      return { found: [null] };
    });
    const submitted = scene.scheduler('a').submitTask(task({ task_id: 'wanted', delay_ms: 3_600_000 }));
    await scene.until('it asks', () => asked(h, 'locate').length > 0);
    const root_uid = '0'.repeat(20);
    const records = [{ ...record, uid: root_uid, task_id: 'wanted' }];
    await o.ask('a', 'handover', {
      feed_id: feed.feed_id,
      line: currentLine(feed),
      root_uid,
      records,
      part: 0,
      last: true,
    });
    answered.open();
    expect(await scene.run(submitted)).toMatchObject({ duplicate: true, record: { uid: root_uid } });
  });

  test('go to the next peer in the order when one does not answer', async () => {
    const scene = await Scene.of(['a']);
    const peers = [await HandPeer.joins(scene, 'h', ['a']), await HandPeer.joins(scene, 'i', ['a'])];
    for (const peer of peers) peer.answers.set('reserve', () => Promise.reject(new Error('no')));
    const { record } = await scene.run(scene.scheduler('a').submitTask(task({ task_id: 'wanted' })));
    expect(record.task_id).toBe('wanted');
  });
});
