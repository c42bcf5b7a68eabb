import { describe, expect, test } from 'vitest';
import { START_WAIT_MS, SUBMITS_SETTLE_MS } from '../../../scheduler/limits.ts';
import { HandFeed } from '../hand-feed.ts';
import { HandPeer, tokenOf } from '../hand-peer.ts';
import { HeldDisk } from '../held-disk.ts';
import { taskRecord } from '../records.ts';
import { gate, Scene, task } from '../scene.ts';

const work = (task_id: string, ms: number, depends_on: string[] = []) => task({ task_id, payload: { ms }, depends_on });
const failing = (task_id: string) => task({ task_id, task_type: 'sleep', payload: { duration_ms: 10 }, timeout_ms: 1 });

interface Located {
  peer_id: string;
  addresses: string[];
  status: string;
  content_hash: string;
}

/** A peer that owns tasks, and how they stand. */
async function ownerByHand(scene: Scene, name: string, statuses: Map<string, string>): Promise<HandPeer> {
  const peer = await HandPeer.joins(scene, name, ['a']);
  peer.answers.set('locate', (params) => ({
    found: (params['items'] as { id: string }[]).map(({ id }): Located | null => {
      const status = statuses.get(id);
      return status === undefined ? null : { peer_id: name, addresses: [], status, content_hash: '' };
    }) as never,
  }));
  return peer;
}

describe('tasks that wait for tasks of this peer', () => {
  test('start when all of them have completed', async () => {
    const scene = await Scene.of(['a']);
    const first = await scene.submit('a', work('first', 500));
    await scene.submit('a', work('second', 900));
    const last = await scene.submit('a', work('last', 0, ['first', 'second']));
    await scene.ended('a', first.uid);
    expect((await scene.task('a', last.uid)).status).toBe('queued');
    expect((await scene.ended('a', last.uid)).status).toBe('completed');
    const started = scene.mesh.ledger.find(({ uid }) => uid === last.uid)!.at;
    expect(started).toBeGreaterThan(900);
    expect(scene.scheduler('a').parts.dependencies.size).toBe(0);
  });

  test('fail when one of them fails, and those that wait for them fail too', async () => {
    const scene = await Scene.of(['a']);
    await scene.run(scene.scheduler('a').api.pauseQueue(undefined));
    await scene.submit('a', failing('bad'));
    await scene.submit('a', work('other', 0));
    const middle = await scene.submit('a', work('middle', 0, ['bad', 'other']));
    const last = await scene.submit('a', work('last', 0, ['middle']));
    await scene.run(scene.scheduler('a').api.resumeQueue());
    expect((await scene.ended('a', middle.uid)).error).toMatchObject({ code: 'DEPENDENCY_FAILED' });
    expect((await scene.ended('a', last.uid)).error).toMatchObject({ code: 'DEPENDENCY_FAILED' });
    expect(scene.scheduler('a').parts.dependencies.size).toBe(0);
  });

  test('on ones that have ended already: completed does not hold up, failed fails at once', async () => {
    const scene = await Scene.of(['a']);
    const good = await scene.submit('a', work('good', 0));
    const bad = await scene.submit('a', failing('bad'));
    await scene.ended('a', good.uid);
    await scene.ended('a', bad.uid);
    const after = await scene.submit('a', work('after-good', 0, ['good']));
    expect((await scene.ended('a', after.uid)).status).toBe('completed');
    const doomed = await scene.submit('a', work('after-bad', 0, ['bad', 'good']));
    expect(await scene.task('a', doomed.uid)).toMatchObject({ status: 'failed', error: { code: 'DEPENDENCY_FAILED' } });
    expect(scene.scheduler('a').parts.dependencies.size).toBe(0);
  });

  test('wait on over a restart', async () => {
    const scene = await Scene.of(['a']);
    await scene.submit('a', task({ task_id: 'first', task_type: 'sleep', payload: { duration_ms: 5_000 } }));
    const last = await scene.submit('a', work('last', 0, ['first']));
    await scene.pass(100);
    await scene.restart('a');
    await scene.pass(1_000);
    expect((await scene.task('a', last.uid)).status).toBe('queued');
    expect((await scene.ended('a', last.uid)).status).toBe('completed');
  });

  test('that end between the look-up and the turn of the submit, and are not on the disk yet, are noticed', async () => {
    const scene = new Scene();
    const disk = new HeldDisk();
    await scene.run(scene.mesh.start('a', { store: disk }));
    const statuses = new Map([['remote', 'completed']]);
    const peer = await ownerByHand(scene, 'h', statuses);
    const answered = gate();
    const answer = peer.answers.get('locate')!;
    const first = await scene.submit('a', task({ task_id: 'first', task_type: 'approve' }));
    await scene.pass(100);
    peer.answers.set('locate', async (params, from) => {
      await answered.opened;
      return await answer(params, from);
    });
    const { scheduler } = scene.peer('a');
    // `first` is looked up and waits for a person; then `remote` is, which takes a while.
    const submitted = scheduler.api.submitTask(work('last', 0, ['first', 'remote']));
    await scene.pass(100);
    disk.hold();
    const approved = scheduler.api.answerTask(first.uid, { approve: true, data: null });
    await scene.pass(100);
    answered.open();
    await scene.pass(100);
    disk.release();
    await scene.run(approved);
    const { record } = await scene.run(submitted);
    expect((await scene.ended('a', record.uid)).status).toBe('completed');
  });

  test('on a workflow of another one that is cancelled: it fails, cancelled itself it is forgotten', async () => {
    const scene = await Scene.of(['a']);
    const { scheduler } = scene.peer('a');
    const steps = [{ step_id: 's', action: 'approve' }];
    const first = await scene.submitWorkflow('a', { workflow_id: 'first', name: 'first', steps });
    const doomed = await scene.submitWorkflow('a', { name: 'doomed', steps, dependencies: ['first'] });
    const given_up = await scene.submitWorkflow('a', { name: 'given-up', steps, dependencies: ['first'] });
    const options = { reason: undefined, force: false };
    await scene.run(scheduler.api.cancelWorkflow(given_up.uid, options));
    expect((await scene.workflow('a', given_up.uid)).status).toBe('cancelled');
    await scene.run(scheduler.api.cancelWorkflow(first.uid, options));
    expect(await scene.endedWorkflow('a', doomed.uid)).toMatchObject({
      status: 'failed',
      error: { code: 'DEPENDENCY_FAILED' },
    });
    expect(scheduler.parts.dependencies.size).toBe(0);
  });
});

describe('tasks that wait for tasks of other peers', () => {
  test('start when their owner says that they have completed', async () => {
    const scene = await Scene.of(['a']);
    const statuses = new Map([['far', 'running']]);
    const peer = await ownerByHand(scene, 'h', statuses);
    const { uid } = await scene.submit('a', work('near', 0, ['far']));
    await scene.pass(3_000);
    expect((await scene.task('a', uid)).status).toBe('queued');
    statuses.delete('far'); // nobody knows it for a while: that is not its end
    await scene.pass(3_000);
    expect((await scene.task('a', uid)).status).toBe('queued');
    statuses.set('far', 'completed');
    expect((await scene.ended('a', uid)).status).toBe('completed');
    await scene.pass(SUBMITS_SETTLE_MS); // then ids are compared once more
    const asked = peer.messages.length;
    await scene.pass(5_000);
    expect(peer.messages.slice(asked).map(({ method }) => method)).not.toContain('locate');
  });

  test('run once, although their owner restarts while they run and asks for what they waited for again', async () => {
    const scene = await Scene.of(['a']);
    const peer = await ownerByHand(scene, 'h', new Map([['far', 'completed']]));
    const waits = task({ task_type: 'fn:hand', depends_on: ['far'], at_most_once: true });
    const { uid } = await scene.submit('a', waits);
    peer.holding = [tokenOf(await peer.leased(1))];
    await scene.pass(100);
    await scene.restart('a');
    await scene.run(peer.network.connect('a'));
    await scene.pass(5_000);
    expect((await scene.task('a', uid)).status).toBe('running');
    expect(peer.leases).toHaveLength(1);
  });

  test('are asked for no more once nobody waits for them', async () => {
    const scene = await Scene.of(['a']);
    const peer = await ownerByHand(scene, 'h', new Map([['far', 'running']]));
    const { scheduler } = scene.peer('a');
    for (let round = 0; round < 3; round++) {
      const { uid } = await scene.submit('a', work(`near-${round}`, 0, ['far']));
      await scene.run(scheduler.api.cancelTask(uid, { reason: undefined, force: false }));
    }
    expect(scheduler.parts.dependencies.size).toBe(0);
    await scene.pass(SUBMITS_SETTLE_MS + 2_000); // then ids are compared once more
    const asked = peer.messages.length;
    await scene.pass(10_000);
    expect(peer.messages.slice(asked).map(({ method }) => method)).not.toContain('locate');
  });

  test('are all asked for in turn, however many there are', async () => {
    const scene = await Scene.of(['a']);
    const count = 1_500;
    const statuses = new Map(Array.from({ length: count }, (_, index) => [`far-${index}`, 'running']));
    await ownerByHand(scene, 'h', statuses);
    const submits = Array.from({ length: count }, (_, index) =>
      scene.scheduler('a').api.submitTask(work(`near-${index}`, 0, [`far-${index}`])),
    );
    const receipts = await scene.run(Promise.all(submits));
    // Those asked for first never end.
    statuses.set(`far-${count - 1}`, 'completed');
    expect((await scene.ended('a', receipts.at(-1)!.record.uid)).status).toBe('completed');
  });

  test('are asked for one question at a time, also while a peer does not answer', async () => {
    const scene = await Scene.of(['a']);
    const statuses = new Map([['far', 'running']]);
    const peer = await ownerByHand(scene, 'h', statuses);
    await scene.submit('a', work('near', 0, ['far']));
    let open = 0;
    let most = 0;
    peer.answers.set('locate', async () => {
      open++;
      most = Math.max(most, open);
      await new Promise<void>((resolve) => scene.world.at(4_000, resolve));
      open--;
      return { found: [null] };
    });
    for (let index = 0; index < 5; index++) {
      await scene.pass(700);
      scene.scheduler('a').parts.dependencies.add({ kind: 'task', id: `other-${index}` }, 'nobody');
    }
    expect(most).toBe(1);
  });

  test('of an unknown id is refused', async () => {
    const scene = await Scene.of(['a']);
    await expect(scene.submit('a', work('near', 0, ['nowhere']))).rejects.toMatchObject({ code: 'UNKNOWN_DEPENDENCY' });
    await expect(
      scene.submitWorkflow('a', { name: 'w', steps: [{ step_id: 's', action: 'echo' }], dependencies: ['nowhere'] }),
    ).rejects.toMatchObject({ code: 'UNKNOWN_DEPENDENCY' });
  });
});

describe('what waits for a task of a feed', () => {
  const person = (task_id: string) => task({ task_id, task_type: 'approve' });
  const approved = { approve: true, data: null };

  /** `a` owns a task that waits for a person, and `b` has a copy. */
  async function meshWithCopy(): Promise<{ scene: Scene; feedId: string; uid: string }> {
    const scene = await Scene.of(['a', 'b']);
    await scene.until('b counts', () => scene.feed('a').replicas.copies === 2);
    const { uid } = await scene.submit('a', person('first'));
    return { scene, feedId: scene.feed('a').feed_id, uid };
  }

  test('that this peer was about to take over when it went down asks its owner', async () => {
    const { scene, feedId, uid } = await meshWithCopy();
    const [diskA, diskB] = [scene.mesh.kill('a'), scene.mesh.kill('b')];
    // It ended before the line of its own was on the disk.
    await scene.run(diskB.own(feedId, true));
    await scene.run(scene.mesh.restart('b', diskB));
    expect(scene.peer('b').store.feeds.get(feedId)!.owned).toBe(false);
    await scene.run(scene.mesh.restart('a', diskA));
    await scene.ownsAgain('a');
    const last = await scene.submit('b', work('last', 0, ['first']));
    await scene.run(scene.scheduler('a').api.answerTask(uid, approved));
    expect((await scene.ended('b', last.uid)).status).toBe('completed');
  });

  test('that ends while what waits for it is being taken over from another peer goes on', async () => {
    const scene = await Scene.of(['a']);
    const { uid } = await scene.submit('a', person('first'));
    const h = await HandPeer.joins(scene, 'h', ['a']);
    const feed = new HandFeed(h, 'feedfeedfeedfeedfeed', ['a']);
    const last = taskRecord('last', { task_type: 'fn:work', depends_on: ['first'] });
    await scene.run(feed.push('a', feed.commit(last)));
    h.beating = false;
    // It has been read what is open, and is asked who else has it.
    const asked = await HandPeer.joins(scene, 'i', ['a']);
    const answered = gate();
    let questions = 0;
    asked.answers.set('locate', async () => {
      questions++;
      await answered.opened;
      return { found: [null] };
    });
    await scene.until('a asks', () => questions > 0);
    await scene.run(scene.scheduler('a').api.answerTask(uid, approved));
    expect((await scene.task('a', uid)).status).toBe('completed');
    expect(scene.scheduler('a').parts.feeds.has(feed.feed.feed_id)).toBe(false);
    answered.open();
    expect((await scene.ended('a', 'last')).status).toBe('completed');
  });

  test('that has ended in a feed whose commits wait is told when that is on the disk', async () => {
    const scene = await Scene.of(['a']);
    const h = await HandPeer.joins(scene, 'h', ['a']);
    const feed = new HandFeed(h, 'feedfeedfeedfeedfeed', ['a']);
    await scene.run(
      feed.push(
        'a',
        feed.commit(taskRecord('first', { task_id: 'first', task_type: 'approve', status: 'input_required' })),
      ),
    );
    h.beating = false;
    const { feeds } = scene.scheduler('a').parts;
    await scene.until('a has it', () => feeds.has(feed.feed.feed_id));
    const { journal } = feeds.get(feed.feed.feed_id)!;
    journal.freeze(); // as after a sleep, until its followers were heard
    const answered = scene.scheduler('a').api.answerTask('first', approved);
    const last = await scene.submit('a', work('last', 0, ['first']));
    journal.thaw();
    await scene.run(answered);
    expect((await scene.ended('a', last.uid)).status).toBe('completed');
  });

  test('that turns out to be another peer’s asks there', async () => {
    const { scene, feedId, uid } = await meshWithCopy();
    const disk = scene.mesh.kill('a');
    scene.mesh.board.cut('a', 'b');
    await scene.until('b has it', () => scene.scheduler('b').parts.feeds.has(feedId));
    await scene.run(scene.mesh.restart('a', disk));
    const last = await scene.submit('a', work('last', 0, ['first'])); // into a new feed: nobody has said whose that is
    scene.mesh.board.heal('a', 'b');
    await scene.run(scene.scheduler('b').api.answerTask(uid, approved));
    expect((await scene.ended('a', last.uid)).status).toBe('completed');
  });

  test('that turns out to have come further notices that it has ended', async () => {
    const { scene, feedId, uid } = await meshWithCopy();
    const old = scene.peer('a').disk.image();
    await scene.run(scene.scheduler('a').api.answerTask(uid, approved));
    await scene.ended('a', uid);
    await scene.until('b has a copy', async () => (await scene.task('b', uid)).status === 'completed');
    scene.mesh.kill('a');
    scene.peer('a').disk.restore(old);
    scene.peer('b').clock.sleep(START_WAIT_MS + 1_000, false); // it neither answers nor takes over meanwhile
    await scene.run(scene.mesh.restart('a'));
    const last = await scene.submit('a', work('last', 0, ['first']));
    await scene.until('a has it again', () => scene.scheduler('a').parts.feeds.has(feedId));
    expect((await scene.ended('a', last.uid)).status).toBe('completed');
  });
});
