import { describe, expect, test } from 'vitest';
import type { JsonObject } from '../../../dag/errors.ts';
import { type FeedRecord, type FlowRecord, LOCAL_FEED } from '../../../scheduler/records.ts';
import { currentLine, withFollowers } from '../../../scheduler/storage/feed-lines.ts';
import { feedUid } from '../../../scheduler/uids.ts';
import { filling, HandFeed } from '../hand-feed.ts';
import { HandPeer } from '../hand-peer.ts';
import { HeldDisk } from '../held-disk.ts';
import { taskRecord } from '../records.ts';
import { Scene, task } from '../scene.ts';

const FEED = 'feedfeedfeedfeedfeed';

/** A real peer that follows a feed of a peer by hand. */
async function open(): Promise<{ scene: Scene; disk: HeldDisk; owner: HandPeer; feed: HandFeed }> {
  const scene = new Scene();
  const disk = new HeldDisk();
  await scene.run(scene.mesh.start('f', { store: disk }));
  const owner = await HandPeer.joins(scene, 'o', ['f']);
  const feed = new HandFeed(owner, FEED, ['f']);
  await scene.run(feed.push('f', []));
  await scene.pass(100);
  feed.pulls.length = 0;
  return { scene, disk, owner, feed };
}

const copyOf = (scene: Scene) => scene.scheduler('f').parts.followed.find(FEED);
const headOf = (scene: Scene) => scene.peer('f').store.feeds.get(FEED)?.seq ?? 0;
const settledOf = (promise: Promise<unknown>) => {
  const state = { settled: false };
  const note = () => {
    state.settled = true;
  };
  promise.then(note, note);
  return state;
};

describe('a commit that comes', () => {
  test('next in order is kept as it is, without a question', async () => {
    const { scene, feed } = await open();
    const rows = feed.commit(filling('a'), filling('b'));
    expect(await scene.run(feed.push('f', rows))).toEqual({ seq: 2 });
    expect(headOf(scene)).toBe(2);
    const { reader } = scene.peer('f').store;
    expect(await reader.row('a')).toMatchObject({ feed_id: FEED, epoch: 1, seq: 2 });
    expect(feed.pulls).toEqual([]);
  });

  test('is acknowledged when it is on the disk, and not before (P1)', async () => {
    const { scene, disk, feed } = await open();
    disk.hold();
    const pushed = feed.push('f', feed.commit(filling('a')));
    const state = settledOf(pushed);
    await scene.pass(1_000);
    expect(state.settled).toBe(false);
    disk.release();
    expect(await scene.run(pushed)).toEqual({ seq: 2 });
  });

  test('again, or a question how far it is, is answered when it is on the disk, and not before (P1)', async () => {
    const { scene, disk, feed } = await open();
    disk.hold();
    const rows = feed.commit(filling('a'));
    const states = [feed.push('f', rows), feed.push('f', rows), feed.push('f', [])].map(settledOf);
    await scene.pass(1_000);
    expect(states.map(({ settled }) => settled)).toEqual([false, false, false]);
    disk.release();
    await scene.pass(100);
    expect(states.map(({ settled }) => settled)).toEqual([true, true, true]);
  });

  test('with a gap before it makes the follower pull what it lacks', async () => {
    const { scene, feed } = await open();
    feed.commit(filling('a'));
    feed.commit(filling('b'));
    const rows = feed.commit(filling('c'));
    expect(await scene.run(feed.push('f', rows))).toEqual({ seq: 4 });
    expect(feed.pulls.length).toBeGreaterThan(0);
    const { reader } = scene.peer('f').store;
    for (const uid of ['a', 'b', 'c']) expect(await reader.get('task', uid)).toBeDefined();
  });

  test('of somebody who is not its owner is refused (P9)', async () => {
    const { scene, feed } = await open();
    const rows = feed.commit(filling('a'));
    const other = await HandPeer.joins(scene, 'x', ['f']);
    await expect(other.ask('f', 'push', feed.message(rows))).rejects.toMatchObject({ code: 'INVALID_MESSAGE' });
    expect(headOf(scene)).toBe(1);
  });

  test('of a line that comes after the known one is refused (P2)', async () => {
    const { scene, feed } = await open();
    feed.commit({ ...feed.feed, lines: [...feed.feed.lines, { epoch: 2, base_seq: 1, owner: 'o', nonce: '' }] });
    await scene.run(feed.push('f', []));
    const before = headOf(scene);
    const stale = feed.message(feed.commit(filling('a')), { line: { epoch: 1, base_seq: 0, owner: 'o', nonce: '' } });
    await expect(feed.peer.ask('f', 'push', stale)).rejects.toMatchObject({ code: 'STALE_OWNER' });
    expect(headOf(scene)).toBe(before);
  });
});

describe('a pull', () => {
  test('cut short is begun anew when another peer has gone on from before it', async () => {
    const scene = await Scene.of(['f']);
    const owner = await HandPeer.joins(scene, 'o', ['f']);
    const feed = new HandFeed(owner, FEED, ['f']);
    for (const uid of ['x', 'y']) feed.commit(filling(uid));
    feed.commit({ ...feed.feed, version: 2 });
    feed.pageRows = 1;
    const pulled = owner.answers.get('pull')!;
    owner.answers.set('pull', (params, from) => {
      if (feed.pulls.length === 1) throw new Error('enough for now');
      return pulled(params, from);
    });
    await expect(scene.run(feed.push('f', []))).rejects.toThrow();
    expect(headOf(scene)).toBe(2);
    await scene.restart('f');
    const next = feed.goneOnBy(await HandPeer.joins(scene, 'p', ['f']), 1);
    next.commit(filling('z'));
    expect(await scene.run(next.push('f', []))).toEqual({ seq: 3 });
    const { reader } = scene.peer('f').store;
    expect(await Promise.all(['x', 'z'].map(async (uid) => (await reader.row(uid))?.seq))).toEqual([undefined, 3]);
    expect(currentLine(copyOf(scene)!.feed!)).toEqual(currentLine(next.feed));
  });

  test('in pages over the end of a line is not taken for another history before the line itself has come', async () => {
    const { scene, feed } = await open();
    const next = feed.goneOnBy(await HandPeer.joins(scene, 'p', ['f']), feed.head);
    for (const uid of ['x', 'y', 'z']) next.commit(filling(uid));
    next.commit({ ...next.feed, version: next.feed.version + 1 });
    next.pageRows = 1;
    const before = copyOf(scene);
    expect(await scene.run(next.push('f', []))).toEqual({ seq: next.head });
    expect(copyOf(scene)).toBe(before);
    expect(currentLine(copyOf(scene)!.feed!)).toEqual(currentLine(next.feed));
  });

  test('that a crash cut short leaves nothing behind when this peer is no follower any more', async () => {
    const scene = await Scene.of(['f']);
    const owner = await HandPeer.joins(scene, 'o', ['f']);
    const feed = new HandFeed(owner, FEED, ['f']);
    for (const uid of ['a', 'b']) feed.commit(filling(uid));
    feed.commit({ ...feed.feed, version: 2 });
    feed.pageRows = 1;
    const pulled = owner.answers.get('pull')!;
    owner.answers.set('pull', (params, from) => (feed.pulls.length < 2 ? pulled(params, from) : new Promise(() => {})));
    const cut = feed.push('f', []);
    cut.catch(() => {}); // its process ends
    await scene.until('a part is here', () => headOf(scene) > 0);
    await scene.restart('f');
    expect(headOf(scene)).toBeGreaterThan(0);
    feed.commit({ ...feed.feed, followers: [], former: ['f'], version: 3 });
    owner.answers.set('pull', pulled);
    await scene.run(owner.network.connect('f'));
    await expect(scene.run(feed.push('f', []))).rejects.toMatchObject({ code: 'NO_COPY' });
    expect(scene.peer('f').store.feeds.has(FEED)).toBe(false);
  });

  test.each([1, 2, 3, 5])('whose pages have %i rows never keeps a part of a commit', async (pageRows) => {
    const { scene, disk, feed } = await open();
    feed.pageRows = pageRows;
    for (let commit = 0; commit < 4; commit++) {
      feed.commit(...Array.from({ length: 3 }, (_, row) => filling(`${commit}-${row}`)));
    }
    const earlier = disk.commits.length;
    expect(await scene.run(feed.push('f', []))).toEqual({ seq: feed.head });
    const kept = disk.commits
      .slice(earlier)
      .flat()
      .filter(({ feed_id }) => feed_id === FEED);
    expect(kept.map(({ seq }) => seq)).toEqual([2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5]);
    for (const page of disk.commits.slice(earlier)) {
      for (const [seq, rows] of Map.groupBy(page, (row) => row.seq)) {
        if (page[0]!.feed_id === FEED) expect([seq, rows.length]).toEqual([seq, 3]);
      }
    }
  });

  test('in pages is a copy of one moment only when it has come to the head of its first page', async () => {
    const { scene, feed } = await open();
    feed.pageRows = 1;
    for (let commit = 0; commit < 3; commit++) feed.commit(filling(`${commit}`));
    let asked = 0;
    const answer = feed.peer.answers.get('pull')!;
    const seen: boolean[] = [];
    feed.peer.answers.set('pull', (params, from) => {
      const copy = copyOf(scene)!;
      if (asked++ > 0) seen.push(scene.scheduler('f').parts.followed.isComplete(copy));
      return answer(params, from);
    });
    await scene.run(feed.push('f', []));
    expect(seen).toEqual([false, false]);
    expect(scene.scheduler('f').parts.followed.isComplete(copyOf(scene)!)).toBe(true);
  });

  test('in one page is complete at once, though one in pages was given up before', async () => {
    const { scene, owner, feed } = await open();
    feed.pageRows = 1;
    for (let commit = 0; commit < 6; commit++) feed.commit(filling(`${commit}`));
    await scene.run(feed.push('f', []));
    const next = feed.goneOnBy(await HandPeer.joins(scene, 'p', ['f']), 1);
    next.commit({ ...next.feed, followers: [], former: ['f'], version: next.feed.version + 1 });
    next.peer.answers.set('handover', () => ({}));
    await expect(scene.run(next.push('f', []))).rejects.toMatchObject({ code: 'DIVERGED' });
    await scene.until('it is forgotten', () => headOf(scene) === 0);
    owner.network.kill();
    next.commit({ ...next.feed, followers: feed.feed.followers, former: [], version: next.feed.version + 1 });
    await scene.run(next.push('f', []));
    expect(headOf(scene)).toBeLessThan(feed.head);
    expect(scene.scheduler('f').parts.followed.isComplete(copyOf(scene)!)).toBe(true);
  });

  test('cut short goes on where it was, also after a restart', async () => {
    const { scene, feed } = await open();
    feed.pageRows = 1;
    for (let commit = 0; commit < 4; commit++) feed.commit(filling(`${commit}`));
    const answer = feed.peer.answers.get('pull')!;
    let asked = 0;
    feed.peer.answers.set('pull', (params, from) => {
      if (asked++ >= 2) throw new Error('enough for now');
      return answer(params, from);
    });
    await expect(scene.run(feed.push('f', []))).rejects.toThrow();
    expect(headOf(scene)).toBe(3);
    await scene.restart('f');
    expect(scene.scheduler('f').parts.followed.isComplete(copyOf(scene)!)).toBe(false);
    feed.peer.answers.set('pull', answer);
    feed.pulls.length = 0;
    await scene.run(feed.peer.network.connect('f'));
    expect(await scene.run(feed.push('f', []))).toEqual({ seq: 5 });
    const first = feed.pulls.find(({ seq }) => seq < Number.MAX_SAFE_INTEGER); // without questions how far it is
    expect(first!.seq).toBe(4);
    expect(scene.scheduler('f').parts.followed.isComplete(copyOf(scene)!)).toBe(true);
  });

  test('of a feed that was pruned beyond the copy makes it anew', async () => {
    const { scene, feed } = await open();
    await scene.run(feed.push('f', feed.commit(filling('gone'), filling('stays'))));
    feed.rows.delete('gone');
    feed.commit(filling('later'));
    feed.commit({ ...feed.feed, pruned_to_seq: 3 });
    await scene.run(feed.push('f', []));
    const { reader } = scene.peer('f').store;
    expect(await reader.get('task', 'gone')).toBeUndefined();
    expect(await reader.get('task', 'stays')).toBeDefined();
    expect(headOf(scene)).toBe(4);
  });

  test('whose owner names nothing of this peer is refused: nobody makes it keep what it was not asked to', async () => {
    const scene = await Scene.of(['f']);
    const owner = await HandPeer.joins(scene, 'o', ['f']);
    const feed = new HandFeed(owner, FEED, ['somebody']);
    await expect(scene.run(feed.push('f', []))).rejects.toMatchObject({ code: 'NO_COPY' });
    expect(copyOf(scene)).toBeUndefined();
    expect(headOf(scene)).toBe(0);
  });
});

describe('a follower that is asked no more', () => {
  test('forgets its copy, and what it kept about it', async () => {
    const { scene, feed } = await open();
    await scene.run(feed.push('f', feed.commit(filling('a'))));
    const { reader, feeds } = scene.peer('f').store;
    expect(await reader.get('copy', `copy/${FEED}`)).toBeDefined();
    const rows = feed.commit(withFollowers(feed.feed, []));
    await scene.run(feed.push('f', rows));
    expect(copyOf(scene)).toBeUndefined();
    await scene.until('it is forgotten', () => !feeds.has(FEED));
    await scene.pass(1_000);
    expect(await reader.get('copy', `copy/${FEED}`)).toBeUndefined();
    expect(await reader.row('a')).toBeUndefined();
  });
});

test('what a peer remembers of itself is written by nobody else (P9)', async () => {
  const { scene, owner } = await open();
  const before = scene.peer('f').store.feeds.get(LOCAL_FEED);
  const feed = new HandFeed(owner, LOCAL_FEED, ['f']);
  await expect(scene.run(feed.push('f', feed.commit(filling('queue'))))).rejects.toMatchObject({
    code: 'INVALID_MESSAGE',
  });
  expect(scene.scheduler('f').parts.followed.find(LOCAL_FEED)).toBeUndefined();
  expect(scene.peer('f').store.feeds.get(LOCAL_FEED)).toEqual(before);
});

describe('a line that leaves the known history', () => {
  /** `o` and `h` both went on after seq 2; the copy has what `o` wrote there, `h` comes first (P2). */
  async function forked(heir: 'follower' | 'stranger') {
    const { scene, disk, owner, feed } = await open();
    const peer = await HandPeer.joins(scene, 'h', ['f']);
    const set = heir === 'follower' ? ['f', 'h'] : ['f'];
    const record: FeedRecord = withFollowers(
      feed.feed,
      set.map((peer_id) => ({ peer_id, synced: true })),
    );
    await scene.run(feed.push('f', feed.commit(record)));
    await scene.run(feed.push('f', feed.commit(filling('mine'))));
    const theirs = feed.goneOnBy(peer, 2);
    return { scene, disk, owner, feed, peer, theirs };
  }

  test('is followed after what is here beyond the fork was handed over (P5)', async () => {
    const { scene, peer, theirs } = await forked('follower');
    const order: string[] = [];
    peer.answers.set('handover', async (params) => {
      const here = await scene.peer('f').store.reader.row('mine');
      order.push(`${params['root_uid']} ${here === undefined ? 'is gone' : 'is here'}`);
      return {};
    });
    await expect(scene.run(theirs.push('f', []))).rejects.toMatchObject({ code: 'DIVERGED' });
    await scene.until('it is forgotten', async () => (await scene.peer('f').store.reader.row('mine')) === undefined);
    expect(order).toEqual(['mine is here']);
    await scene.run(theirs.push('f', []));
    const copy = copyOf(scene)!;
    expect([copy.cursor, currentLine(copy.feed!)]).toEqual([3, { epoch: 2, base_seq: 2, owner: 'h', nonce: '' }]);
  });

  test('is followed after what was on its way to the disk was handed over, too (P1)', async () => {
    const { scene, disk, feed, peer, theirs } = await forked('follower');
    const handedOver: unknown[] = [];
    peer.answers.set('handover', async (params) => {
      handedOver.push(params['root_uid']);
      return {};
    });
    disk.hold();
    const late = feed.push('f', feed.commit(filling('late')));
    await expect(scene.run(theirs.push('f', []))).rejects.toMatchObject({ code: 'DIVERGED' });
    await scene.pass(500);
    expect(handedOver).toEqual([]);
    disk.release();
    await scene.run(late);
    await scene.until('it is forgotten', async () => (await scene.peer('f').store.reader.row('mine')) === undefined);
    expect(handedOver).toEqual(['mine', 'late']);
  });

  test('does not take the copy away that follows the next line while its owner takes what is here', async () => {
    const { scene, feed, peer, theirs } = await forked('follower');
    const asked = Promise.withResolvers<void>();
    const taken = Promise.withResolvers<JsonObject>();
    peer.answers.set('handover', () => {
      asked.resolve();
      return taken.promise;
    });
    await expect(scene.run(theirs.push('f', []))).rejects.toMatchObject({ code: 'DIVERGED' });
    await scene.run(asked.promise);
    const [line] = feed.feed.lines;
    const lines = [line!, ...[2, 3].map((epoch) => ({ ...line!, epoch, base_seq: feed.head, nonce: 'n' }))];
    feed.commit({ ...feed.feed, lines });
    expect(await scene.run(feed.push('f', []))).toEqual({ seq: feed.head });
    taken.resolve({});
    await scene.pass(1_000);
    expect(headOf(scene)).toBe(feed.head);
    expect(copyOf(scene)!.feed!.lines).toEqual(lines);
  });

  test('is not followed while its owner cannot take what is here', async () => {
    const { scene, peer, theirs } = await forked('follower');
    peer.answers.set('handover', () => Promise.reject(new Error('not now')));
    await expect(scene.run(theirs.push('f', []))).rejects.toThrow();
    await scene.pass(1_000);
    expect(await scene.peer('f').store.reader.row('mine')).toBeDefined();
    expect(currentLine(copyOf(scene)!.feed!).owner).toBe('o');
  });

  test('of a peer that was no member of the replica set is refused (P9)', async () => {
    const { scene, owner, theirs } = await forked('stranger');
    owner.state = { ...owner.state, feeds: [{ feed_id: FEED, epoch: 1, base_seq: 0, nonce: '' }] };
    await scene.run(owner.beat('f'));
    await expect(scene.run(theirs.push('f', []))).rejects.toMatchObject({ code: 'NO_COPY' });
    expect(await scene.peer('f').store.reader.row('mine')).toBeDefined();
    expect((await scene.peer('f').store.reader.get('feed', feedUid(FEED)))!.lines).toHaveLength(1);
  });
});

describe('a record belongs to the feed that had it first (P9)', () => {
  const REFUSED = { code: 'INVALID_MESSAGE' };

  test.each(['pushed', 'pulled'] as const)('another feed does not take its place when it is %s', async (how) => {
    const { scene, owner, feed } = await open();
    await scene.run(feed.push('f', feed.commit(filling('a'))));
    const thief = new HandFeed(owner, 'another', ['f']);
    if (how === 'pushed') {
      await scene.run(thief.push('f', []));
      await expect(scene.run(thief.push('f', thief.commit(filling('a'))))).rejects.toMatchObject(REFUSED);
    } else {
      thief.commit(filling('a'));
      await expect(scene.run(thief.push('f', []))).rejects.toMatchObject(REFUSED);
    }
    expect((await scene.peer('f').store.reader.row('a'))?.feed_id).toBe(FEED);
  });

  test('nor does one that was handed over', async () => {
    const { scene, owner, feed } = await open();
    await scene.run(feed.push('f', feed.commit(filling('a'))));
    const mine = scene.feed('f').feed_id;
    const line = { epoch: 1, base_seq: 0, owner: 'o', nonce: '' };
    const over = {
      feed_id: mine,
      line,
      root_uid: 'a',
      records: [filling('a')],
      part: 0,
      last: true,
    } as unknown as JsonObject;
    await expect(scene.run(owner.network.request('f', 'handover', over, 60_000))).rejects.toMatchObject(REFUSED);
    expect((await scene.peer('f').store.reader.row('a'))?.feed_id).toBe(FEED);
  });

  test.each([
    ['itself', { uid: 'feed/another', feed_id: 'another' }],
    ['under its own uid', { feed_id: 'another', pruned_to_seq: 99 }],
  ])('a feed has no record of another feed %s', async (_how, over) => {
    const { scene, feed } = await open();
    const before = feed.feed;
    await expect(scene.run(feed.push('f', feed.commit({ ...before, ...over })))).rejects.toMatchObject(REFUSED);
    expect(await scene.peer('f').store.reader.row('feed/another')).toBeUndefined();
    expect(copyOf(scene)?.feed).toEqual(before);
  });

  test('nor anything where the record of another feed has its place', async () => {
    const { scene, feed } = await open();
    const forged = { kind: 'tombstone', uid: 'feed/another', cleared_at: '2026-01-01T00:00:00.000Z' } as const;
    await expect(scene.run(feed.push('f', feed.commit(forged)))).rejects.toMatchObject(REFUSED);
  });

  test.each<[string, (feed: HandFeed) => FlowRecord]>([
    ['the record of the feed', ({ feed }) => feed],
    ['a record of another root', () => filling('other')],
    [
      'superseded record in the place of another one',
      ({ feed }) => ({
        ...{ kind: 'superseded', uid: 'other', root_uid: 'r', line: currentLine(feed) },
        ...{ superseded_at: '2026-01-01T00:00:00.000Z', record: taskRecord('r', { status: 'completed' }) },
      }),
    ],
  ])('a hand-over of a root has no %s', async (_what, record) => {
    const { scene, owner } = await open();
    const own = scene.feed('f');
    const { uid } = await scene.submit('f', task({ task_type: 'approve' }));
    const line = { epoch: 9, base_seq: 0, owner: 'o', nonce: 'n' };
    const forgery = new HandFeed(owner, own.feed_id, []);
    const records = [filling('r'), record(forgery)];
    const over = { feed_id: own.feed_id, line, root_uid: 'r', records, part: 0, last: true } as unknown as JsonObject;
    await expect(scene.run(owner.network.request('f', 'handover', over, 60_000))).rejects.toMatchObject(REFUSED);
    expect(await scene.peer('f').store.reader.row('r')).toBeUndefined();
    expect((await scene.task('f', uid)).status).toBe('input_required');
  });
});
