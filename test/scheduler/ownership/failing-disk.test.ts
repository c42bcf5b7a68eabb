/** A feed that is being taken up, or followed, while the disk fails: the store is read anew, and the feed with it. */
import { describe, expect, test } from 'vitest';
import type { Line, Row } from '../../../scheduler/records.ts';
import { currentLine } from '../../../scheduler/storage/feed-lines.ts';
import { Histories } from '../../simulation/histories.ts';
import { filling, HandFeed } from '../hand-feed.ts';
import { HandPeer } from '../hand-peer.ts';
import { taskRecord } from '../records.ts';
import { type Gate, gate, Scene, task } from '../scene.ts';

const BEAT_MS = 1_000;
const TASK_ID = 'chosen-by-its-user';

/** `a` starts again, has heard its follower `b`, and asks `h`, which keeps it waiting, who else has accepted an id. */
async function takingUp() {
  const histories = new Histories((message) => scene.mesh.broken(message));
  /** The lines in which `a` has gone on. */
  const opened: Line[] = [];
  const committing = (peer: string, rows: readonly Row[]) => {
    histories.committing(peer, rows);
    for (const { record } of rows) {
      const isNew = record.kind === 'feed' && peer === 'a' && currentLine(record).epoch > 1;
      if (isNew && opened.at(-1)?.nonce !== currentLine(record).nonce) opened.push(currentLine(record));
    }
  };
  const synced: Histories['synced'] = (peer, operation) => histories.synced(peer, operation);
  const scene: Scene = new Scene({ watch: { committing, synced } });
  histories.watch(scene.mesh);
  for (const name of ['a', 'b']) await scene.mesh.start(name);
  await scene.until('b counts', () => scene.feed('a').replicas.copies === 2);
  const feedId = scene.feed('a').feed_id;
  const { uid } = await scene.submit('a', task({ task_id: TASK_ID, task_type: 'approve' }));
  await scene.pass(BEAT_MS);

  scene.mesh.board.cut('a', 'b');
  await scene.restart('a');
  const h = await HandPeer.joins(scene, 'h', ['a']);
  const questions: Gate[] = [];
  h.answers.set('locate', async ({ items, hops }) => {
    if (Number(hops) > 0) {
      const question = gate();
      questions.push(question);
      await question.opened;
    }
    return { found: (items as unknown[]).map(() => null) };
  });
  const asked = (times: number) => scene.until(`h is asked ${times} times`, () => questions.length >= times);
  scene.mesh.board.heal('a', 'b');
  await asked(1);
  const owned = () => scene.scheduler('a').parts.feeds.get(feedId);
  expect(owned()).toBeUndefined();
  return { scene, histories, feedId, uid, opened, questions, asked, owned };
}

/** A write of `a` fails, and its store is read anew. */
async function failDisk(scene: Scene): Promise<void> {
  scene.mesh.failNextSync('a');
  await expect(scene.run(scene.scheduler('a').api.pauseQueue('it fails'))).rejects.toMatchObject({ code: 'DISK_FULL' });
  await scene.until('the store is read anew', () => scene.scheduler('a').parts.lifecycle.ready);
}

describe('a take-up that a failed disk interrupts', () => {
  test.each(['before', 'after'] as const)(
    'does not go on when its answer comes %s the next one has begun',
    async (when) => {
      const { scene, histories, feedId, uid, opened, questions, asked, owned } = await takingUp();
      const { seq } = scene.peer('a').store.feeds.get(feedId)!;
      await failDisk(scene);
      if (when === 'after') await asked(2);
      questions[0]!.open();
      await scene.pass(10);
      expect(opened).toEqual([]);
      await asked(2);
      questions[1]!.open();
      await scene.until('a owns it', () => owned() !== undefined);
      await scene.pass(10 * BEAT_MS);
      expect(opened).toMatchObject([{ epoch: 2, base_seq: seq, owner: 'a' }]);
      expect(questions).toHaveLength(3); // the last one for what has ended, once it owns the feed
      expect(currentLine(scene.scheduler('b').parts.followed.find(feedId)!.feed!)).toEqual(opened[0]);
      await scene.run(scene.scheduler('a').api.answerTask(uid, { approve: true, data: 'yes' }));
      expect((await scene.ended('b', uid)).status).toBe('completed');
      histories.judge();
      expect(scene.mesh.failures).toEqual([]);
    },
  );
});

describe('a take-over that a failed disk interrupts', () => {
  test('leaves a copy, as it was: it does not pass for a feed of this peer', async () => {
    const scene = await Scene.of(['a']);
    const o = await HandPeer.joins(scene, 'o', ['a']);
    const feed = new HandFeed(o, 'feedfeedfeedfeedfeed', ['a']);
    const { feed_id } = feed.feed;
    await scene.run(feed.push('a', feed.commit(taskRecord('open'))));
    const h = await HandPeer.joins(scene, 'h', ['a']);
    const question = gate();
    let asked = false;
    h.answers.set('locate', async () => {
      asked = true;
      await question.opened;
      return { found: [null] };
    });
    o.beating = false;
    await scene.until('h is asked', () => asked);
    await failDisk(scene);
    question.open();
    await scene.pass(100);
    expect(scene.scheduler('a').parts.feeds.has(feed_id)).toBe(false);
    expect(scene.peer('a').store.feeds.get(feed_id)).toMatchObject({ seq: feed.head, owned: false });
  });
});

describe('a copy that a failed disk interrupts', () => {
  test('is not brought to the head twice at once: the next pull waits until the one before has ended', async () => {
    const scene = await Scene.of(['a']);
    const h = await HandPeer.joins(scene, 'h', ['a']);
    const feed = new HandFeed(h, 'feedfeedfeedfeedfeed', ['a']);
    await scene.run(feed.push('a', []));
    for (const uid of ['x', 'y', 'z']) feed.commit(filling(uid));
    const pulled = h.answers.get('pull')!;
    const held = gate();
    let pulls = 0;
    h.answers.set('pull', async (params, from) => {
      const answer = pulled(params, from);
      if (++pulls === 1) await held.opened;
      return await answer;
    });
    const interrupted = feed.push('a', []);
    interrupted.catch(() => {}); // awaited below
    await scene.until('a pulls', () => pulls === 1);
    await failDisk(scene);
    const next = feed.push('a', []);
    await scene.pass(10);
    expect(pulls).toBe(1);
    held.open();
    await expect(scene.run(interrupted)).rejects.toMatchObject({ code: 'NO_COPY' });
    expect(await scene.run(next)).toEqual({ seq: feed.head });
    for (const uid of ['x', 'y', 'z']) expect(await scene.peer('a').store.reader.row(uid)).toBeDefined();
  });
});
