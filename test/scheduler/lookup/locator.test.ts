import { describe, expect, test } from 'vitest';
import { HandPeer } from '../hand-peer.ts';
import { Scene, task } from '../scene.ts';
import { alias, asked, found } from './answers.ts';

describe('where a record is', () => {
  test('here, live or ended, without a question', async () => {
    const scene = await Scene.of(['a']);
    const peer = await HandPeer.joins(scene, 'h', ['a']);
    const { uid } = await scene.submit('a', task({ task_id: 'mine' }));
    peer.messages.length = 0;
    expect(await scene.run(scene.scheduler('a').api.resolve(alias('mine')))).toEqual({ here: true, uid });
    await scene.ended('a', uid);
    expect(await scene.run(scene.scheduler('a').api.resolve(alias('mine')))).toEqual({ here: true, uid });
    expect(asked(peer, 'locate')).toEqual([]);
  });

  test('at the connected peer whose feed a made id names, without a question', async () => {
    const scene = await Scene.of(['a']);
    const peer = await HandPeer.joins(scene, 'h', ['a']);
    peer.state.feeds = [{ feed_id: '0123456789abcdefghij', epoch: 1, base_seq: 0, nonce: '' }];
    await peer.beat('a');
    const located = await scene.run(scene.scheduler('a').api.resolve(alias('task-012345-abcdefghijkl')));
    expect(located).toMatchObject({ here: false, at: { peer_id: 'h' } });
    expect(asked(peer, 'locate')).toEqual([]);
  });

  test('kept by a peer that is away: that is said, and of a found record too', async () => {
    const scene = await Scene.of(['a']);
    const peer = await HandPeer.joins(scene, 'h', ['a']);
    peer.state.feeds = [{ feed_id: '0123456789abcdefghij', epoch: 1, base_seq: 0, nonce: '' }];
    peer.answers.set('locate', () => ({ found: [found('h')] }));
    await peer.beat('a');
    await scene.run(scene.scheduler('a').api.resolve(alias('theirs')));
    scene.mesh.board.cut('a', 'h');
    await scene.pass(100);
    for (const id of ['task-012345-abcdefghijkl', 'theirs']) {
      await expect(scene.run(scene.scheduler('a').api.resolve(alias(id)))).rejects.toMatchObject({
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
      const located = await scene.run(scene.scheduler('a').api.resolve(alias('theirs')));
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
    await expect(scene.run(scheduler.api.registerWorker(registration))).rejects.toMatchObject({ code: 'CONFLICT' });
    peer.answers.set('locate', () => ({ found: [found('h', { status: 'offline' })] }));
    expect(await scene.run(scheduler.api.registerWorker(registration))).toMatchObject({ status: 'active' });
  });

  test('nowhere, when nobody knows it or their answers cannot be read', async () => {
    const scene = await Scene.of(['a']);
    const h = await HandPeer.joins(scene, 'h', ['a']);
    const i = await HandPeer.joins(scene, 'i', ['a']);
    h.answers.set('locate', () => ({ found: 'here' }));
    i.answers.set('locate', () => Promise.reject(new Error('no')));
    expect(await scene.run(scene.scheduler('a').api.resolve(alias('unknown')))).toBeUndefined();
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
  const where = (scene: Scene, ...except: string[]) =>
    scene.run(scene.scheduler('a').api.resolve(alias('theirs'), except));

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
