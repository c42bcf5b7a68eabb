import { describe, expect, test } from 'vitest';
import type { JsonObject } from '../../../dag/errors.ts';
import { BEAT_INTERVAL_MS, RESERVATION_MS, RESERVATIONS_PER_PEER_MAX, TAKEOVER_MS } from '../../../scheduler/limits.ts';
import { currentLine } from '../../../scheduler/storage/feed-lines.ts';
import { HandFeed } from '../hand-feed.ts';
import { grantedTo, HandPeer } from '../hand-peer.ts';
import { gate, Scene, task } from '../scene.ts';
import { alias, asked, found } from './answers.ts';

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

  test('are released by the peer that has them, with the content that they are for', async () => {
    const scene = await Scene.of(['a']);
    const h = await HandPeer.joins(scene, 'h', ['a']);
    const i = await HandPeer.joins(scene, 'i', ['a']);
    const release = (peer: HandPeer, content_hash: string) =>
      peer.ask('a', 'reserve', { items: [{ ...item(content_hash), release: true }] }) as Promise<unknown>;
    await reserve(h, 'x');
    await release(i, 'x');
    await release(h, 'y');
    expect(await reserve(i, 'y')).toEqual({ holders: [{ peer_id: 'h', content_hash: 'x' }] });
    expect(await release(h, 'x')).toEqual({ holders: [{ peer_id: 'h', content_hash: 'x' }] });
    expect(await reserve(i, 'y')).toEqual({ holders: [{ peer_id: 'i', content_hash: 'y' }] });
  });

  test('of one peer are bounded: the oldest of its own is forgotten, and nobody else’s (P7)', async () => {
    const scene = await Scene.of(['a']);
    const { idClaims } = scene.scheduler('a').parts;
    const take = (peer: string, id: string) => idClaims.answerReserve(peer, [{ ...alias(id), content_hash: 'x' }]);
    take('i', 'of-another');
    for (let at = 0; at <= RESERVATIONS_PER_PEER_MAX; at++) take('h', `id-${at}`);
    const holderOf = (id: string) => take('z', id)[0]!.peer_id;
    expect(['of-another', 'id-0', 'id-1', `id-${RESERVATIONS_PER_PEER_MAX}`].map(holderOf)).toEqual([
      'i',
      'z',
      'h',
      'h',
    ]);
  });

  test('are released by a submit that is refused: other content may have the id at once', async () => {
    const scene = await Scene.of(['a', 'b', 'c']);
    for (let round = 0; round < 6; round++) {
      const task_id = `id-${round}`; // each has another arbiter
      const refused = scene.submit('a', task({ task_id, depends_on: ['nowhere'] }));
      await expect(refused).rejects.toMatchObject({ code: 'UNKNOWN_DEPENDENCY' });
      await scene.pass(100);
      expect(await scene.submit('b', task({ task_id, delay_ms: 60_000 }))).toMatchObject({ task_id });
    }
  });

  test('are released for workflows, too, and the refusal does not wait for that', async () => {
    const scene = await Scene.of(['a']);
    const h = await HandPeer.joins(scene, 'h', ['a']);
    const steps = [{ step_id: 's', action: 'echo' }];
    const ids = ['v', 'w', 'x', 'y'];
    h.answers.set('reserve', async (params) => {
      if ((params['items'] as JsonObject[])[0]!['release'] === true) await new Promise(() => {});
      return { holders: grantedTo('a', params) };
    });
    for (const workflow_id of ids) {
      const began = scene.world.now;
      const refused = scene.submitWorkflow('a', { workflow_id, name: 'w', steps, dependencies: ['nowhere'] });
      await expect(refused).rejects.toMatchObject({ code: 'UNKNOWN_DEPENDENCY' });
      expect(scene.world.now - began).toBeLessThan(500);
    }
    await scene.pass(100);
    const released = asked(h, 'reserve').flatMap(({ params }) => params['items'] as JsonObject[]);
    const [reserved, over] = [released.filter((each) => !each['release']), released.filter((each) => each['release'])];
    expect(reserved.length).toBeGreaterThan(0);
    expect(over).toEqual(reserved.map((each) => ({ ...each, release: true })));
    // The next submit of the id here begins once the arbiter was given up.
    expect(await scene.submitWorkflow('a', { workflow_id: 'v', name: 'w', steps })).toMatchObject({ workflow_id: 'v' });
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
      const submits = names.map((name) => scene.scheduler(name).api.submitTask(task({ task_id: `id-${round}` })));
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
    const submits = ['wanted', 'other'].map((task_id) => scene.scheduler('a').api.submitTask(task({ task_id })));
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
    const submitted = scene.scheduler('a').api.submitTask(task({ task_id: 'wanted', depends_on: ['far'] }));
    await scene.until('it asks what it waits for', () => asked(h, 'locate').some(({ params }) => isAwaited(params)));
    const held = { peer_id: 'h', uid: 'v'.repeat(20), status: 'queued', content_hash: 'other' };
    const items = [{ ...alias('wanted'), held }];
    expect(await h.ask('a', 'locate', { items, hops: 0, asked: [] })).toEqual({ found: [null] });
    answered.open();
    const { uid } = (await scene.run(submitted)).record;
    await scene.pass(100);
    expect(await scene.task('a', uid)).toMatchObject({ task_id: `wanted~${uid}`, status: 'queued' });
  });

  test('of an id that another peer asks for meanwhile are looked up again: it may have reserved it elsewhere', async () => {
    const scene = await Scene.of(['a']);
    const h = await HandPeer.joins(scene, 'h', ['a']);
    const asking = gate();
    h.messages.length = 0;
    h.answers.set('locate', async () => {
      await asking.opened;
      return { found: [null] };
    });
    const submitted = scene.scheduler('a').api.submitTask(task({ task_id: 'wanted', delay_ms: 60_000 }));
    await scene.until('it asks', () => asked(h, 'locate').length === 1);
    // The two do not know the same peers, so `h` was given the id by another arbiter.
    expect(await h.ask('a', 'locate', { items: [alias('wanted')], hops: 0, asked: [] })).toEqual({ found: [null] });
    asking.open();
    const { uid } = (await scene.run(submitted)).record;
    const held = { peer_id: 'h', uid: 'v'.repeat(20), status: 'queued', content_hash: 'other' };
    h.answers.set('locate', () => ({ found: [{ ...found('h'), ...held }] }));
    await scene.pass(1_000);
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
    await scene.until('a owns it', () => scene.scheduler('a').parts.feeds.has(feed.feed_id));
    const h = await HandPeer.joins(scene, 'h', ['a']);
    const answered = gate();
    h.messages.length = 0;
    h.answers.set('locate', async () => {
      await answered.opened;
      return { found: [null] };
    });
    const submitted = scene.scheduler('a').api.submitTask(task({ task_id: 'wanted', delay_ms: 3_600_000 }));
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
    const { record } = await scene.run(scene.scheduler('a').api.submitTask(task({ task_id: 'wanted' })));
    expect(record.task_id).toBe('wanted');
  });
});
