/** An owner whose disk is one from the past: it was restored from a backup, or has lost what it wrote last (P2). */
import { describe, expect, test } from 'vitest';
import { TAKEOVER_MS } from '../../../scheduler/limits.ts';
import type { Line } from '../../../scheduler/records.ts';
import { compareLines, currentLine } from '../../../scheduler/storage/feed-lines.ts';
import { Histories } from '../../simulation/histories.ts';
import type { DiskImage } from '../../simulation/simulated-disk.ts';
import { Scene, task, workflow } from '../scene.ts';

const BEAT_MS = 1_000;

/** `a` owns a feed that the others follow, and has a backup of its disk. */
class Restored {
  readonly scene: Scene;
  readonly feedId: string;
  readonly backup: DiskImage;
  /** Tasks that wait for a person, on the backup too. */
  readonly asked: readonly string[];
  readonly #names: readonly string[];
  readonly #histories: Histories;

  private constructor(scene: Scene, names: readonly string[], histories: Histories, asked: readonly string[]) {
    this.scene = scene;
    this.asked = asked;
    this.#names = names;
    this.#histories = histories;
    this.feedId = scene.feed('a').feed_id;
    this.backup = scene.peer('a').disk.image();
  }

  static async open(names: readonly string[]): Promise<Restored> {
    const histories = new Histories((message) => scene.mesh.broken(message));
    const scene: Scene = new Scene({ watch: histories });
    histories.watch(scene.mesh);
    for (const name of names) await scene.mesh.start(name);
    const approval = workflow({ name: 'w', steps: [{ step_id: 's', action: 'approve' }] });
    await scene.run(scene.scheduler('a').api.submitWorkflow({ ...approval, copies: names.length }));
    await scene.until('all count', () => scene.feed('a').replicas.copies === names.length);
    const asked = [0, 1].map(() => scene.submit('a', task({ task_type: 'approve' })));
    const uids = (await Promise.all(asked)).map(({ uid }) => uid);
    await scene.pass(BEAT_MS);
    return new Restored(scene, names, histories, uids);
  }

  owned(name: string) {
    return this.scene.scheduler(name).parts.feeds.get(this.feedId);
  }

  seqAt(name: string): number {
    return this.scene.peer(name).disk.image().heads.get(this.feedId)!.seq;
  }

  get line(): Line {
    return currentLine(this.owned('a')!.feed);
  }

  /** The process of `a` ends, and starts again on the backup. It owns the feed again when this resolves. */
  async restore(): Promise<void> {
    const { scene } = this;
    if (scene.peer('a').alive) scene.mesh.kill('a');
    scene.peer('a').disk.restore(this.backup);
    await scene.run(scene.mesh.restart('a'));
    await scene.until('a owns it again', () => this.owned('a') !== undefined);
  }

  /** Lets everybody hear of everything. @returns who owns the feed then */
  async settle(): Promise<string> {
    await this.scene.pass(10 * TAKEOVER_MS);
    const owners = this.#names.filter((name) => this.owned(name) !== undefined);
    expect(owners).toHaveLength(1);
    return owners[0]!;
  }

  /** Each line has had one writer, and all copies are the same (P2). */
  async expectOneHistory(): Promise<void> {
    await this.scene.pass(BEAT_MS);
    this.#histories.judge();
    expect(this.scene.mesh.failures).toEqual([]);
  }
}

describe('what only a follower has', () => {
  test('is fetched before the owner writes, and its new line begins behind it', async () => {
    const restored = await Restored.open(['a', 'b']);
    const { scene } = restored;
    const { uid } = await scene.submit('a', task({ task_type: 'approve' }));
    await scene.pass(BEAT_MS);
    const [known, forgotten] = [restored.backup.heads.get(restored.feedId)!.seq, restored.seqAt('b')];
    expect(known).toBeLessThan(forgotten);
    await restored.restore();
    expect(restored.line).toMatchObject({ epoch: 2, base_seq: forgotten, owner: 'a' });
    // Another one may have come after `b`, and know more: nothing that may start once is started in it any more (P4).
    expect(restored.owned('a')!.feed.passed_on).toBe(true);
    expect(scene.feed('a').feed_id).not.toBe(restored.feedId);
    expect((await scene.task('a', uid)).status).toBe('input_required');
    await scene.run(scene.scheduler('a').api.answerTask(uid, { approve: true, data: 'yes' }));
    expect(await restored.settle()).toBe('a');
    expect((await scene.task('b', uid)).status).toBe('completed');
    await restored.expectOneHistory();
  });
});

describe('an owner whose one follower was replaced since, and has not heard it', () => {
  test('starts no at_most_once task: it may have been started already (P4)', async () => {
    const scene = await Scene.of(['a', 'b']);
    await scene.until('b counts', () => scene.feed('a').replicas.copies === 2);
    const { feed_id: feedId } = scene.feed('a');
    const { disk } = scene.peer('a');
    scene.mesh.kill('b');
    const once = task({ payload: { once: true }, at_most_once: true, delay_ms: 4 * TAKEOVER_MS });
    const { uid } = await scene.submit('a', once);
    const backup = disk.image();
    await scene.mesh.start('c');
    const members = () => scene.feed('a').feed.followers.map(({ peer_id }) => peer_id);
    await scene.until('c has replaced b', () => members().join() === 'c');
    expect((await scene.ended('a', uid)).status).toBe('completed');
    scene.mesh.kill('c');
    scene.mesh.kill('a');
    disk.restore(backup);
    await scene.run(scene.mesh.restart('b')); // has not heard that it follows no more
    await scene.run(scene.mesh.restart('a'));
    await scene.until('a owns it again', () => scene.scheduler('a').parts.feeds.has(feedId));
    expect(await scene.ended('a', uid)).toMatchObject({ status: 'failed', error: { code: 'OWNER_LOST' } });
    expect(scene.mesh.ledger.filter((entry) => entry.uid === uid)).toHaveLength(1);
    expect(scene.mesh.failures).toEqual([]);
  });
});

describe('a follower on a disk from the past', () => {
  test('gets what it has forgotten when it is back before it was missed', async () => {
    const { scene, feedId } = await Restored.open(['a', 'b']);
    const { disk } = scene.peer('b');
    const past = disk.image();
    const { uid } = await scene.submit('a', task({ task_type: 'approve' }));
    await scene.pass(BEAT_MS);
    expect(disk.rows.has(uid)).toBe(true);
    scene.mesh.board.slow('b', 10 * BEAT_MS); // until the end of its connection is noticed
    scene.mesh.kill('b');
    scene.mesh.board.slow('b', 0);
    disk.restore(past);
    await scene.run(scene.mesh.restart('b'));
    expect(disk.rows.has(uid)).toBe(false);
    await scene.pass(BEAT_MS);
    expect(disk.image().heads.get(feedId)!.seq).toBe(scene.head('a'));
    expect(disk.rows.has(uid)).toBe(true);
  });
});

const TRIES_MAX = 30;

/**
 * `a` has gone on after the same commit twice: `c` was away the first time, and `b`, which knows of that line, is away
 * now. In each line another task was answered.
 *
 * @param draws another number leads to other nonces
 */
async function twoLines(draws: number) {
  const restored = await Restored.open(['a', 'b', 'c']);
  const { scene } = restored;
  const answer = async (uid: string) => {
    await scene.run(scene.scheduler('a').api.answerTask(uid, { approve: true, data: 'yes' }));
    await scene.ended('a', uid);
  };
  const [first, second] = restored.asked as [string, string];
  scene.mesh.kill('c');
  await restored.restore();
  const forgotten = restored.line;
  await answer(first);
  await scene.until('b has it', async () => (await scene.task('b', first)).status === 'completed');
  scene.mesh.kill('b');
  scene.mesh.kill('a');
  await scene.run(scene.mesh.restart('c'));
  for (let drawn = 0; drawn < draws; drawn++) scene.world.random.next();
  await restored.restore();
  expect((await scene.task('a', first)).status).toBe('input_required');
  await answer(second);
  return { restored, forgotten, later: restored.line };
}

describe('two lines that one owner has opened after the same commit', () => {
  test.each(['forgotten', 'later'] as const)(
    'are told apart, and nothing is lost when the %s one comes first',
    async (first) => {
      let lines = await twoLines(0);
      const isAsked = () => compareLines(lines[first], lines[first === 'later' ? 'forgotten' : 'later']) >= 0;
      for (let draws = 1; !isAsked() && draws < TRIES_MAX; draws++) lines = await twoLines(draws);
      expect(isAsked()).toBe(true);
      const { restored, forgotten, later } = lines;
      const { scene } = restored;
      const place = { epoch: 2, base_seq: restored.backup.heads.get(restored.feedId)!.seq, owner: 'a' };
      expect([forgotten, later]).toMatchObject([place, place]);
      await scene.run(scene.mesh.restart('b'));
      const owner = await restored.settle();
      for (const uid of restored.asked) expect((await scene.task(owner, uid)).status).toBe('completed');
      await restored.expectOneHistory();
    },
  );
});
