import { describe, expect, test } from 'vitest';
import type { JsonValue } from '../../../dag/errors.ts';
import {
  CUT_OFF_PATIENCE,
  IDLE_FEED_PATIENCE,
  LOST_SHARE,
  START_WAIT_MS,
  TAKEOVER_MS,
} from '../../../scheduler/limits.ts';
import { rendezvous } from '../../../scheduler/membership/rendezvous-hash.ts';
import { currentLine, openLine } from '../../../scheduler/storage/feed-lines.ts';
import { feedUid } from '../../../scheduler/uids.ts';
import { filling, HandFeed } from '../hand-feed.ts';
import { HandPeer } from '../hand-peer.ts';
import { HeldDisk } from '../held-disk.ts';
import { gate, Scene, task, workflow } from '../scene.ts';

const BEAT_MS = 1_000;
/** Clocks run at their own rates, and beats come when they come. */
const SLACK_MS = 2_500;
const APPROVAL = { name: 'w', steps: [{ step_id: 's', action: 'approve' }] };

const quietTask = () => task({ delay_ms: 3_600_000 });
const owns = (scene: Scene, name: string, feedId: string) => scene.scheduler(name).parts.feeds.has(feedId);
const followersOf = (scene: Scene, name: string) =>
  scene.feed(name).feed.followers.flatMap((each) => (each.synced ? [each.peer_id] : []));

/** Peers of which the first one's feed has as many synced followers. */
async function meshWith(names: string[], followers = 1): Promise<{ scene: Scene; feedId: string; members: string[] }> {
  const scene = await Scene.of(names);
  const submission = { ...workflow(APPROVAL), copies: followers + 1 };
  await scene.run(scene.scheduler(names[0]!).api.submitWorkflow(submission));
  await scene.until('all count', () => scene.feed(names[0]!).replicas.copies === followers + 1);
  return { scene, feedId: scene.feed(names[0]!).feed_id, members: followersOf(scene, names[0]!) };
}

/** Peers of which the first one's feed has a copy, and nothing that is open. */
async function idleMesh(): Promise<{ scene: Scene; feedId: string; names: string[] }> {
  const names = ['a', 'b', 'c'];
  const scene = await Scene.of(names);
  const { uid } = await scene.submit('a', task());
  await scene.ended('a', uid);
  await scene.until('it counts', () => scene.feed('a').replicas.copies === 2);
  await scene.pass(BEAT_MS);
  return { scene, feedId: scene.feed('a').feed_id, names };
}

function cutBetween(scene: Scene, left: readonly string[], right: readonly string[]): void {
  for (const a of left) for (const b of right) scene.mesh.board.cut(a, b);
}

function healBetween(scene: Scene, left: readonly string[], right: readonly string[]): void {
  for (const a of left) for (const b of right) scene.mesh.board.heal(a, b);
}

describe('a feed whose owner is gone', () => {
  test('is taken over by the synced follower that comes first in the order, and by nobody else', async () => {
    const { scene, feedId, members } = await meshWith(['a', 'b', 'c', 'd'], 2);
    const [first, second] = rendezvous(feedId, members) as [string, string];
    scene.mesh.kill('a');
    await scene.pass(LOST_SHARE * TAKEOVER_MS - BEAT_MS);
    expect(owns(scene, first, feedId)).toBe(false);
    await scene.until('it is taken over', () => owns(scene, first, feedId));
    await scene.pass(4 * TAKEOVER_MS);
    expect(['b', 'c', 'd'].filter((name) => owns(scene, name, feedId))).toEqual([first]);
    const { feed } = scene.scheduler(first).parts.feeds.get(feedId)!;
    expect(feed.lines.map(({ epoch, owner }) => [epoch, owner])).toEqual([
      [1, 'a'],
      [2, first],
    ]);
    expect(feed.passed_on).toBe(true);
    expect(feed.followers.map(({ peer_id }) => peer_id)).toContain(second);
  });

  test('is taken over later while its connections are there: it may only be slow', async () => {
    const { scene, feedId, members } = await meshWith(['a', 'b', 'c', 'd'], 2);
    const [first] = rendezvous(feedId, members) as [string];
    for (const other of ['b', 'c', 'd']) scene.mesh.board.mute('a', other);
    await scene.pass(TAKEOVER_MS - BEAT_MS);
    expect(owns(scene, first, feedId)).toBe(false);
    await scene.until('it is taken over', () => owns(scene, first, feedId));
    expect(scene.peer(first).network.connected()).toContain('a');
  });

  test('is left to it for longer when nothing in it is open: it may come back', async () => {
    const { scene, feedId, names } = await idleMesh();
    const disk = scene.mesh.kill('a');
    await scene.pass(LOST_SHARE * TAKEOVER_MS + IDLE_FEED_PATIENCE * TAKEOVER_MS - BEAT_MS);
    expect([owns(scene, 'b', feedId), owns(scene, 'c', feedId)]).toEqual([false, false]);
    await scene.run(scene.mesh.restart('a', disk));
    await scene.until('a owns it again', () => owns(scene, 'a', feedId));
    await scene.pass(IDLE_FEED_PATIENCE * TAKEOVER_MS);
    expect(names.filter((name) => owns(scene, name, feedId))).toEqual(['a']);
    expect(scene.feed('a').feed_id).toBe(feedId);
  });

  test('is taken over in the end though nothing in it is open', async () => {
    const { scene, feedId } = await idleMesh();
    scene.mesh.kill('a');
    await scene.until('somebody has it', () => owns(scene, 'b', feedId) || owns(scene, 'c', feedId));
  });

  test('is taken over by the next one when the first one is gone too', async () => {
    const { scene, feedId, members } = await meshWith(['a', 'b', 'c', 'd'], 2);
    const [first, second] = rendezvous(feedId, members) as [string, string];
    scene.mesh.kill('a');
    scene.mesh.kill(first);
    await scene.until('the next one has it', () => owns(scene, second, feedId));
  });

  test('goes on from the furthest copy that can be reached', async () => {
    const { scene, feedId, members } = await meshWith(['a', 'b', 'c'], 2);
    const [first, second] = rendezvous(feedId, members) as [string, string];
    scene.mesh.board.cut('a', first);
    await scene.pass(100);
    const { uid } = await scene.submit('a', quietTask()); // only the second one has it
    expect(await scene.peer(second).store.reader.row(uid)).toBeDefined();
    expect(await scene.peer(first).store.reader.row(uid)).toBeUndefined();
    scene.mesh.kill('a');
    await scene.until('it is taken over', () => owns(scene, first, feedId));
    expect(await scene.peer(first).store.reader.row(uid)).toBeDefined();
  });

  test('goes on before a line of another history that nobody goes on with', async () => {
    const { scene, feedId } = await meshWith(['a', 'b']);
    const { feed } = scene.feed('a');
    const left = new HandFeed(await HandPeer.joins(scene, 'x', ['b']), feedId, []);
    const lines = [...feed.lines, { epoch: 2, base_seq: 1, owner: 'gone', nonce: 'n' }];
    left.commit({ ...feed, lines, followers: [{ peer_id: 'x', synced: false }] });
    scene.mesh.kill('a');
    await scene.until('b has it', () => owns(scene, 'b', feedId));
    expect(
      scene
        .scheduler('b')
        .parts.feeds.get(feedId)!
        .feed.lines.map(({ epoch, owner }) => [epoch, owner]),
    ).toEqual([
      [1, 'a'],
      [2, 'b'],
      [3, 'b'],
    ]);
  });

  test('goes back to an owner that gave way to a peer that is gone before it had everything', async () => {
    const scene = await Scene.of(['a']);
    const x = await HandPeer.joins(scene, 'x', ['a']);
    await scene.until('x counts', () => scene.feed('a').replicas.copies === 2);
    const { uid } = await scene.submit('a', task({ task_type: 'approve' }));
    const { feed_id: feedId, feed } = scene.feed('a');
    const line = { epoch: 2, base_seq: 1, nonce: 'n' };
    new HandFeed(x, feedId, []).commit({ ...feed, lines: [...feed.lines, { ...line, owner: 'x' }], followers: [] });
    x.answers.set('handover', () => new Promise(() => {}));
    x.state = { ...x.state, feeds: [{ feed_id: feedId, ...line }] };
    await scene.until('a gives way', () => !owns(scene, 'a', feedId));
    x.network.kill();
    await scene.until('a owns it again', () => owns(scene, 'a', feedId));
    expect((await scene.task('a', uid)).status).toBe('input_required');
  });

  test('is not taken over while others hear its owner', async () => {
    const { scene, feedId, members } = await meshWith(['a', 'b', 'c']);
    const [follower] = members as [string];
    scene.mesh.board.cut('a', follower);
    await scene.pass(10 * TAKEOVER_MS);
    expect(owns(scene, follower, feedId)).toBe(false);
    expect(owns(scene, 'a', feedId)).toBe(true);
  });

  test('is taken over while a peer that has just stood still has not heard its owner either', async () => {
    const names = ['a', 'b', 'c', 'd', 'e', 'f'];
    const { scene, feedId, members } = await meshWith(names);
    const [follower] = members as [string];
    const sleeper = names.find((name) => name !== 'a' && name !== follower)!;
    scene.peer(sleeper).clock.sleep(TAKEOVER_MS);
    await scene.pass(TAKEOVER_MS / 2);
    for (const other of names) if (other !== 'a') scene.mesh.board.mute('a', other);
    await scene.pass(TAKEOVER_MS + BEAT_MS);
    expect(owns(scene, follower, feedId)).toBe(true);
  });

  test('is left alone for longer by a peer that lost most of its peers at once (P11)', async () => {
    const { scene, feedId, members } = await meshWith(['a', 'b', 'c', 'd', 'e']);
    const [follower] = members as [string];
    const friend = ['b', 'c', 'd', 'e'].find((name) => name !== follower)!;
    const left = [follower, friend];
    cutBetween(
      scene,
      left,
      ['a', 'b', 'c', 'd', 'e'].filter((name) => !left.includes(name)),
    );
    await scene.pass((CUT_OFF_PATIENCE - 1) * TAKEOVER_MS);
    expect(owns(scene, follower, feedId)).toBe(false);
    await scene.until('it goes on', () => owns(scene, follower, feedId));
  });

  test('is not taken over by a follower whose copy was never brought to the head', async () => {
    const scene = await Scene.of(['f']);
    const owner = await HandPeer.joins(scene, 'o', ['f']);
    const feed = new HandFeed(owner, 'feedfeedfeedfeedfeed', ['f']);
    feed.commit({ ...feed.feed, followers: [{ peer_id: 'f', synced: false }] });
    await scene.run(feed.push('f', []));
    owner.network.kill();
    await scene.pass(10 * TAKEOVER_MS);
    expect(owns(scene, 'f', feed.feed.feed_id)).toBe(false);
  });

  test('has its waiting and lost work done by the next owner, and answers for it', async () => {
    const scene = await Scene.of(['a', 'b']);
    await scene.until('b counts', () => scene.feed('a').replicas.copies === 2);
    const feedId = scene.feed('a').feed_id;
    const running = await scene.submit('a', task({ payload: { ms: 30_000 } }));
    const waiting = await scene.submit('a', task({ delay_ms: 20_000 }));
    await scene.pass(1_000);
    scene.mesh.kill('a');
    await scene.until('b has it', () => owns(scene, 'b', feedId));
    for (const { uid } of [running, waiting]) {
      expect((await scene.ended('b', uid)).status).toBe('completed');
      expect(
        await scene.run(scene.scheduler('b').api.resolve({ kind: 'task', id: (await scene.task('b', uid)).task_id })),
      ).toEqual({
        here: true,
        uid,
      });
    }
  });

  test('has what a silent worker ran done elsewhere at once when that fell silent with the owner', async () => {
    const names = ['a', 'b', 'c', 'd', 'e', 'f'];
    const { scene, feedId, members } = await meshWith(names);
    const [follower] = members as [string];
    const peers = names.filter((name) => name !== 'a' && name !== follower).slice(0, 2);
    const requires = { labels: [], peers };
    const { uid } = await scene.submit('a', task({ payload: { ms: 30_000 }, requires }));
    await scene.until('it runs', async () => (await scene.task('a', uid)).status === 'running');
    const { peer_id: worker } = await scene.task('a', uid);
    for (const silent of ['a', worker!]) {
      for (const other of names) if (other !== silent) scene.mesh.board.mute(silent, other);
    }
    await scene.until('it is taken over', () => owns(scene, follower, feedId));
    await scene.pass(BEAT_MS);
    const again = await scene.task(follower, uid);
    expect([again.status, again.peer_id]).toEqual(['running', peers.find((name) => name !== worker)]);
  });

  test('has its waiting work done before what the next owner accepted later', async () => {
    const scene = await Scene.of(['a', 'b'], { slots: 1 });
    await scene.until('b counts', () => scene.feed('a').replicas.copies === 2);
    for (const peer of ['a', 'b']) await scene.submit(peer, task({ payload: { ms: 20_000 } }));
    const older = await scene.submit('a', task());
    const newer: string[] = [];
    for (let count = 0; count < 50; count++) {
      newer.push((await scene.submit('b', task({ payload: { ms: 2_000 } }))).uid);
    }
    scene.mesh.kill('a');
    expect((await scene.ended('b', older.uid)).status).toBe('completed');
    expect((await scene.task('b', newer.at(-1)!)).status).toBe('queued');
  });

  test('has no at_most_once task started again (P4)', async () => {
    const scene = await Scene.of(['a', 'b']);
    await scene.until('b counts', () => scene.feed('a').replicas.copies === 2);
    const feedId = scene.feed('a').feed_id;
    const once = { at_most_once: true, payload: { once: true, ms: 30_000 } };
    const uids: string[] = [];
    for (let index = 0; index < 6; index++) uids.push((await scene.submit('a', task(once))).uid);
    uids.push((await scene.submit('a', task({ ...once, delay_ms: 20_000 }))).uid);
    await scene.pass(1_000);
    scene.mesh.kill('a');
    await scene.until('b has it', () => owns(scene, 'b', feedId));
    for (const uid of uids) {
      const { status, error } = await scene.ended('b', uid);
      if (status === 'failed') expect(error!.code).toBe('OWNER_LOST');
    }
    expect(scene.mesh.failures).toEqual([]);
  });
});

describe('an owner that starts again', () => {
  test('goes on with its feed in a new line when its followers have nothing newer', async () => {
    const { scene, feedId } = await meshWith(['a', 'b']);
    await scene.restart('a');
    await scene.ownsAgain('a');
    expect(scene.feed('a').feed_id).toBe(feedId);
    expect(scene.feed('a').feed.lines.map(({ epoch, owner }) => [epoch, owner])).toEqual([
      [1, 'a'],
      [2, 'a'],
    ]);
    expect(scene.feed('a').feed.passed_on).toBe(false);
    await scene.until(
      'b follows',
      async () => (await scene.peer('b').store.reader.get('feed', feedUid(feedId)))!.lines.length === 2,
    );
  });

  test('follows who has taken it over meanwhile, and has a new feed for new work (P2)', async () => {
    const { scene, feedId } = await meshWith(['a', 'b']);
    const disk = scene.mesh.kill('a');
    await scene.until('b has it', () => owns(scene, 'b', feedId));
    await scene.run(scene.mesh.restart('a', disk));
    const { uid } = await scene.submit('a', task());
    expect(scene.feed('a').feed_id).not.toBe(feedId);
    expect((await scene.peer('a').store.reader.row(uid))!.feed_id).toBe(scene.feed('a').feed_id);
    await scene.pass(5 * BEAT_MS);
    expect([owns(scene, 'a', feedId), owns(scene, 'b', feedId)]).toEqual([false, true]);
    await scene.until('a has a copy again', () => followersOfFeed(scene, 'b', feedId).includes('a'));
  });

  test('that hears nothing of its followers reads its feed, writes it not, and takes new work in another one', async () => {
    const { scene, feedId } = await meshWith(['a', 'b']);
    const disk = scene.mesh.kill('a');
    scene.mesh.kill('b');
    await scene.run(scene.mesh.restart('a', disk));
    const before = scene.peer('a').store.feeds.get(feedId)!.seq;
    const began = scene.peer('a').clock.now();
    const { uid } = await scene.submit('a', task());
    expect(scene.peer('a').clock.now() - began).toBeLessThan(START_WAIT_MS + SLACK_MS);
    expect((await scene.peer('a').store.reader.row(uid))!.feed_id).not.toBe(feedId);
    expect(await scene.peer('a').store.reader.active('workflow', feedId)).toHaveLength(1);
    await scene.pass(10 * TAKEOVER_MS);
    expect([owns(scene, 'a', feedId), scene.peer('a').store.feeds.get(feedId)!.seq]).toEqual([false, before]);
  });

  test('and hears of the next owner by a commit that this one brings asks no more, and leaves it the feed (P2)', async () => {
    const scene = await Scene.of(['a']);
    const h = await HandPeer.joins(scene, 'h', ['a']);
    await scene.until('h counts', () => scene.feed('a').replicas.copies === 2);
    const { feed_id: feedId, feed } = scene.feed('a');
    const { seq } = scene.peer('a').store.feeds.get(feedId)!;
    const theirs = new HandFeed(h, feedId, []);
    theirs.rows.clear();
    theirs.head = seq;
    const followers = ['a', 'i'].map((peer_id) => ({ peer_id, synced: true }));
    theirs.commit({ ...openLine(feed, 'h', seq, ''), followers });
    // `h` brings its commits, and does not answer how far it is; `i` does, and has nothing newer.
    const pulled = h.answers.get('pull')!;
    let asked = 0;
    h.answers.set('pull', (params, from) => {
      if ((params['after'] as { seq: number }).seq < Number.MAX_SAFE_INTEGER) return pulled(params, from);
      asked++;
      throw new Error('no');
    });
    await scene.restart('a');
    await HandPeer.joins(scene, 'i', ['a']);
    await scene.run(h.network.connect('a'));
    await scene.run(theirs.push('a', []));
    const { owner, ...line } = currentLine(scene.scheduler('a').parts.followed.find(feedId)!.feed!);
    expect(owner).toBe('h');
    h.state.feeds = [{ feed_id: feedId, ...line }]; // else `a` would take it over one day
    await scene.pass(START_WAIT_MS + SLACK_MS);
    const before = asked;
    expect(before).toBeGreaterThan(0);
    await scene.pass(5 * BEAT_MS);
    expect(asked).toBe(before);
    expect(owns(scene, 'a', feedId)).toBe(false);
    expect(scene.peer('a').store.feeds.get(feedId)).toMatchObject({ seq: seq + 1, owned: false });
    expect(scene.feed('a').feed_id).not.toBe(feedId);
  });

  test('and is about to go on when a commit of the next owner is coming in leaves that one the feed (P2)', async () => {
    const scene = await Scene.of(['a']);
    const h = await HandPeer.joins(scene, 'h', ['a']);
    await scene.until('h counts', () => scene.feed('a').replicas.copies === 2);
    const { feed_id: feedId, feed } = scene.feed('a');
    const { seq } = scene.peer('a').store.feeds.get(feedId)!;
    const theirs = new HandFeed(h, feedId, []);
    theirs.rows.clear();
    theirs.head = seq;
    theirs.commit({ ...openLine(feed, 'h', seq, ''), followers: [{ peer_id: 'a', synced: true }] });
    // `h` has nothing newer when it is asked, and takes the feed over then; its commit comes before `a` goes on.
    const pulled = h.answers.get('pull')!;
    const coming = gate();
    let asks = 0;
    let isComing = false;
    h.answers.set('pull', async (params, from) => {
      const isAsked = (params['after'] as { seq: number }).seq === Number.MAX_SAFE_INTEGER;
      if (isAsked && asks++ === 0) throw new Error('again, so that `a` asks both at once');
      if (isAsked) return { feed, rows: [], whole: true, head_seq: seq, complete: true } as unknown as JsonValue;
      isComing = true;
      await coming.opened;
      return await pulled(params, from);
    });
    const i = new HandPeer(scene, 'i');
    const asked = gate();
    i.answers.set('pull', async () => {
      await asked.opened;
      return { feed: null, rows: [], whole: true, head_seq: 0, complete: true };
    });
    await scene.restart('a');
    for (const peer of [h, i]) await scene.run(peer.network.connect('a'));
    await scene.until('i is asked', () => i.messages.some(({ method }) => method === 'pull'));
    const brought = theirs.push('a', []);
    await scene.until('it is coming in', () => isComing);
    asked.open();
    await scene.until('a goes on', () => !scene.scheduler('a').parts.inquiry.isOpen(feedId));
    coming.open();
    await scene.run(brought);
    await scene.pass(BEAT_MS);
    expect(owns(scene, 'a', feedId)).toBe(false);
    expect(scene.peer('a').store.feeds.get(feedId)).toMatchObject({ seq: seq + 1, owned: false });
    expect(scene.feed('a').feed_id).not.toBe(feedId);
  });

  test('and hears, while it asks, that the next owner does not copy to it has no feed to ask about any more', async () => {
    const scene = await Scene.of(['a']);
    const h = await HandPeer.joins(scene, 'h', ['a']);
    await scene.until('h counts', () => scene.feed('a').replicas.copies === 2);
    const { feed_id: feedId, feed } = scene.feed('a');
    const { seq } = scene.peer('a').store.feeds.get(feedId)!;
    const theirs = new HandFeed(h, feedId, []);
    theirs.rows.clear();
    theirs.head = seq;
    theirs.commit({ ...openLine(feed, 'h', seq, ''), followers: [] });
    const pulled = h.answers.get('pull')!;
    h.answers.set('pull', async (params, from) => {
      const isAsked = (params['after'] as { seq: number }).seq === Number.MAX_SAFE_INTEGER;
      if (isAsked) throw new Error('it says nothing until it has committed');
      return await pulled(params, from);
    });
    const i = new HandPeer(scene, 'i');
    const asked = gate();
    i.answers.set('pull', async () => {
      await asked.opened;
      return { feed: null, rows: [], whole: true, head_seq: 0, complete: true };
    });
    await scene.restart('a');
    for (const peer of [h, i]) await scene.run(peer.network.connect('a'));
    await scene.until('i is asked', () => i.messages.some(({ method }) => method === 'pull'));
    await scene.run(theirs.push('a', []).catch(() => {}));
    const { followed, inquiry } = scene.scheduler('a').parts;
    await scene.until('the copy is forgotten', () => followed.find(feedId) === undefined);
    expect(inquiry.isOpen(feedId)).toBe(true);
    asked.open();
    await scene.until('nothing is asked any more', () => !inquiry.isOpen(feedId));
    await scene.pass(BEAT_MS);
    expect(scene.feed('a').feed_id).not.toBe(feedId);
    expect(scene.peer('a').store.feeds.has(feedId)).toBe(false);
  });

  test('goes on without followers that are said to be gone for good', async () => {
    const scene = await Scene.of(['a', 'b'], { gone: ['b'] });
    await scene.run(scene.scheduler('a').api.submitWorkflow({ ...workflow(APPROVAL), copies: 2 }));
    await scene.until('b counts', () => scene.feed('a').replicas.copies === 2);
    const { feed_id: feedId } = scene.feed('a');
    const disk = scene.mesh.kill('a');
    scene.mesh.kill('b');
    await scene.run(scene.mesh.restart('a', disk));
    await scene.until('a owns it again', () => owns(scene, 'a', feedId));
    // What only they knew may be missing: nothing that may start once is started in it (P4), and new work goes elsewhere.
    expect(scene.scheduler('a').parts.feeds.get(feedId)!.feed.passed_on).toBe(true);
    expect(scene.feed('a').feed_id).not.toBe(feedId);
  });

  test('goes on without followers that were put out of the mesh', async () => {
    const scene = await Scene.of(['a', 'b']);
    await scene.run(scene.scheduler('a').api.submitWorkflow({ ...workflow(APPROVAL), copies: 2 }));
    await scene.until('b counts', () => scene.feed('a').replicas.copies === 2);
    const { feed_id: feedId } = scene.feed('a');
    const disk = scene.mesh.kill('a');
    scene.mesh.kill('b');
    scene.mesh.board.memberships.set('b', null);
    await scene.run(scene.mesh.restart('a', disk));
    await scene.until('a owns it again', () => owns(scene, 'a', feedId));
    expect(scene.scheduler('a').parts.feeds.get(feedId)!.feed.passed_on).toBe(true);
  });

  test('goes on without a follower that was never synced, and is gone for good', async () => {
    const scene = await Scene.of(['a']);
    const h = new HandPeer(scene, 'h');
    h.answers.set('push', () => new Promise<never>(() => {}));
    await scene.run(h.network.connect('a'));
    await h.beat('a');
    await scene.until('h is a member', () => scene.feed('a').feed.followers.some(({ peer_id }) => peer_id === 'h'));
    const { uid } = await scene.submit('a', quietTask());
    const feedId = scene.feed('a').feed_id;
    h.network.kill();
    await scene.restart('a');
    await scene.pass(START_WAIT_MS + 2 * BEAT_MS);
    // Nobody has said that its disk is not one from the past, so nothing that may start once is started (P4).
    expect(scene.scheduler('a').parts.feeds.get(feedId)?.feed.passed_on).toBe(true);
    expect((await scene.task('a', uid)).status).toBe('queued');
  });

  test('dials its followers until it has heard one', async () => {
    const scene = await Scene.of(['a']);
    const x = await HandPeer.joins(scene, 'x', ['a']);
    await scene.until('x counts', () => scene.feed('a').replicas.copies === 2);
    const { feed_id: feedId } = scene.feed('a');
    const disk = scene.mesh.kill('a');
    scene.mesh.board.cut('a', 'x');
    await scene.run(scene.mesh.restart('a', disk));
    x.answers.set('pull', () => ({ feed: null, rows: [], whole: true, head_seq: 0, complete: true }));
    await scene.pass(2 * START_WAIT_MS);
    expect(owns(scene, 'a', feedId)).toBe(false);
    scene.mesh.board.heal('a', 'x');
    await scene.until('a owns it again', () => owns(scene, 'a', feedId));
  });

  test('goes on with its old feed as soon as its follower is back, beside the new one', async () => {
    const { scene, feedId } = await meshWith(['a', 'b']);
    const [diskA, diskB] = [scene.mesh.kill('a'), scene.mesh.kill('b')];
    await scene.run(scene.mesh.restart('a', diskA));
    await scene.submit('a', quietTask());
    const newFeed = scene.feed('a').feed_id;
    await scene.run(scene.mesh.restart('b', diskB));
    await scene.until('a owns it again', () => owns(scene, 'a', feedId));
    expect(scene.feed('a').feed_id).toBe(newFeed);
    expect(owns(scene, 'b', feedId)).toBe(false);
  });
});

describe('a peer that stood still (P11)', () => {
  test('writes nothing in a feed that another one has by now', async () => {
    const scene = new Scene();
    const disk = new HeldDisk();
    await scene.run(scene.mesh.start('a', { store: disk }));
    await scene.mesh.start('b');
    await scene.until('b counts', () => scene.feed('a').replicas.copies === 2);
    const { feed_id: feedId, journal } = scene.feed('a');
    scene.mesh.board.cut('a', 'b');
    const wakesAt = scene.world.now + 4 * TAKEOVER_MS;
    scene.peer('a').clock.sleep(4 * TAKEOVER_MS);
    await scene.until('b has it', () => owns(scene, 'b', feedId));
    // Nobody tells it before it asks.
    await scene.world.run(wakesAt - 1);
    scene.mesh.board.heal('a', 'b');
    expect(owns(scene, 'a', feedId)).toBe(true);
    const write = journal.turn((turn) => turn.put(filling('late'))); // what it does first when it wakes
    await expect(scene.run(write)).rejects.toMatchObject({ code: 'NOT_OWNER' });
    expect(disk.commits.flat().map(({ uid }) => uid)).not.toContain('late');
  });

  test('goes on when its followers say that it is still the owner', async () => {
    const { scene, feedId } = await meshWith(['a', 'b']);
    scene.peer('a').clock.sleep(3 * BEAT_MS);
    await scene.pass(4 * BEAT_MS);
    await scene.submit('a', quietTask());
    expect(owns(scene, 'a', feedId)).toBe(true);
    expect(scene.feed('a').feed_id).toBe(feedId);
  });

  test('goes on after a bounded wait when nobody answers', async () => {
    const { scene, feedId } = await meshWith(['a', 'b']);
    scene.mesh.kill('b');
    scene.peer('a').clock.sleep(3 * BEAT_MS);
    await scene.pass(4 * BEAT_MS);
    await scene.submit('a', quietTask());
    expect(scene.feed('a').feed_id).toBe(feedId);
  });
});

describe('after a partition', () => {
  test('one owner is left of each feed, and everybody knows it (P2)', async () => {
    const { scene, feedId } = await meshWith(['a', 'b', 'c', 'd'], 2);
    const follower = followersOf(scene, 'a')[0]!;
    const left = ['a', ...['b', 'c', 'd'].filter((name) => name !== follower).slice(0, 1)];
    const right = ['a', 'b', 'c', 'd'].filter((name) => !left.includes(name));
    cutBetween(scene, left, right);
    await scene.until(
      'both sides own it',
      () => owns(scene, 'a', feedId) && right.some((name) => owns(scene, name, feedId)),
    );
    await scene.submit('a', quietTask());
    healBetween(scene, left, right);
    await scene.until(
      'one gives way',
      () => ['a', 'b', 'c', 'd'].filter((name) => owns(scene, name, feedId)).length === 1,
    );
    await scene.pass(10 * BEAT_MS);
    const owners = ['a', 'b', 'c', 'd'].filter((name) => owns(scene, name, feedId));
    expect(owners).toHaveLength(1);
    const { feed } = scene.scheduler(owners[0]!).parts.feeds.get(feedId)!;
    for (const { peer_id } of feed.followers) {
      const copy = scene.scheduler(peer_id).parts.followed.find(feedId)!;
      expect(currentLine(copy.feed!)).toEqual(currentLine(feed));
    }
    expect(scene.mesh.failures).toEqual([]);
  });

  test('a claim of a peer that was never in the replica set is refused (P9)', async () => {
    const { scene, feedId } = await meshWith(['a', 'b']);
    const stranger = await HandPeer.joins(scene, 'x', ['a', 'b']);
    const theirs = new HandFeed(stranger, feedId, ['a', 'b']);
    theirs.commit({
      ...theirs.feed,
      lines: [...scene.feed('a').feed.lines, { epoch: 9, base_seq: 1, owner: 'x', nonce: '' }],
    });
    stranger.state.feeds = [{ feed_id: feedId, epoch: 9, base_seq: 1, nonce: '' }];
    await stranger.beat('a');
    await stranger.ask('a', 'takeover', { feed_id: feedId, line: { epoch: 9, base_seq: 1, owner: 'x', nonce: '' } });
    await scene.pass(10 * BEAT_MS);
    expect(owns(scene, 'a', feedId)).toBe(true);
  });
});

function followersOfFeed(scene: Scene, owner: string, feedId: string): string[] {
  return scene
    .scheduler(owner)
    .parts.feeds.get(feedId)!
    .feed.followers.map(({ peer_id }) => peer_id);
}
