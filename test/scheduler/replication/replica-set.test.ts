import { describe, expect, test } from 'vitest';
import { FlowmeshError, type JsonObject, type JsonValue } from '../../../dag/errors.ts';
import { COPY_WAIT_MS, FORMER_FOLLOWERS_MAX } from '../../../scheduler/limits.ts';
import { rendezvous } from '../../../scheduler/membership/rendezvous-hash.ts';
import { currentLine } from '../../../scheduler/storage/feed-lines.ts';
import { HandPeer } from '../hand-peer.ts';
import { HeldDisk } from '../held-disk.ts';
import { type Gate, gate, Scene, task, workflow } from '../scene.ts';

const BEAT_MS = 1_000;

/** A task whose feed is quiet from then on. */
const quietTask = () => task({ delay_ms: 3_600_000 });

/** A real owner and followers by hand. */
async function open(...names: string[]): Promise<{ scene: Scene; peers: HandPeer[] }> {
  const scene = await Scene.of(['a']);
  const peers: HandPeer[] = [];
  for (const name of names) peers.push(await HandPeer.joins(scene, name, ['a']));
  return { scene, peers };
}

const replicas = (scene: Scene) => scene.feed('a').replicas;
const followers = (scene: Scene) => replicas(scene).feed.followers;
const namesOf = (scene: Scene) =>
  followers(scene)
    .map(({ peer_id }) => peer_id)
    .join();
const synced = (scene: Scene) => followers(scene).flatMap((each) => (each.synced ? [each.peer_id] : []));
const pushes = (peer: HandPeer) => peer.messages.filter(({ method }) => method === 'push').map(({ params }) => params);
const headOf = (scene: Scene, name: string, feedId: string) => scene.peer(name).store.feeds.get(feedId)?.seq ?? 0;

/** The follower acknowledges nothing until the gate is open. */
function slow(peer: HandPeer): Gate {
  const held = gate();
  peer.answers.set('push', async (params) => {
    await held.opened;
    return { seq: params['head_seq']! };
  });
  return held;
}

describe('a commit', () => {
  test('is one frame to each follower, after the one before it', async () => {
    const { scene, peers } = await open('h');
    await scene.until('h counts', () => replicas(scene).copies === 2);
    peers[0]!.messages.length = 0;
    const before = scene.head('a');
    await scene.run(Promise.all([1, 2, 3].map(() => scene.scheduler('a').api.submitTask(task({ delay_ms: 60_000 })))));
    const [push, ...more] = pushes(peers[0]!);
    expect(more).toEqual([]);
    expect(push).toMatchObject({
      feed_id: scene.feed('a').feed_id,
      line: currentLine(scene.feed('a').feed),
      prev_seq: before,
      head_seq: before + 1,
    });
    expect((push!['rows'] as JsonValue[]).length).toBe(3);
  });

  test('is answered when its copy is there (P1)', async () => {
    const { scene, peers } = await open('h');
    await scene.until('h counts', () => replicas(scene).copies === 2);
    const held = slow(peers[0]!);
    let receipt: unknown;
    const submitted = scene.scheduler('a').api.submitTask(quietTask());
    void submitted.then((value) => {
      receipt = value;
    });
    await scene.pass(COPY_WAIT_MS - 500);
    expect(receipt).toBeUndefined();
    held.open();
    expect((await scene.run(submitted)).durability).toEqual({ copies: 2, wanted: 2 });
  });

  test('whose copy does not come is answered after COPY_WAIT_MS, with what there is (P1)', async () => {
    const { scene, peers } = await open('h');
    await scene.until('h counts', () => replicas(scene).copies === 2);
    slow(peers[0]!);
    const began = scene.peer('a').clock.now();
    const { durability } = await scene.run(scene.scheduler('a').api.submitTask(quietTask()));
    expect(durability).toEqual({ copies: 1, wanted: 2 });
    expect(scene.peer('a').clock.now() - began).toBeGreaterThanOrEqual(COPY_WAIT_MS);
  });

  test('gets its copies in time when a follower falls silent while another peer is there (P1)', async () => {
    const scene = await Scene.of(['a', 'b', 'c']);
    await scene.until('one counts', () => replicas(scene).copies === 2);
    const [silent] = synced(scene) as [string];
    scene.mesh.board.mute('a', silent);
    scene.mesh.board.mute(silent, 'a');
    const began = scene.peer('a').clock.now();
    const { durability } = await scene.run(scene.scheduler('a').api.submitTask(quietTask()));
    expect(durability).toEqual({ copies: 2, wanted: 2 });
    expect(scene.peer('a').clock.now() - began).toBeLessThan(2.5 * BEAT_MS);
  });

  test('does not wait when nobody is there who could keep a copy', async () => {
    const { scene, peers } = await open('h');
    await scene.until('h counts', () => replicas(scene).copies === 2);
    peers[0]!.network.kill();
    await scene.pass(100);
    const began = scene.peer('a').clock.now();
    const { durability } = await scene.run(scene.scheduler('a').api.submitTask(quietTask()));
    expect(durability.copies).toBe(1);
    expect(scene.peer('a').clock.now() - began).toBeLessThan(COPY_WAIT_MS / 2);
  });

  test('waits for a follower whose beats are late, when there is no other one', async () => {
    const { scene, peers } = await open('h');
    await scene.until('h counts', () => replicas(scene).copies === 2);
    slow(peers[0]!);
    peers[0]!.beating = false;
    await scene.pass(2.2 * BEAT_MS);
    const began = scene.peer('a').clock.now();
    await scene.run(scene.scheduler('a').api.submitTask(quietTask()));
    expect(scene.peer('a').clock.now() - began).toBeGreaterThan(BEAT_MS / 2);
  });

  test('does not wait for a follower that has to hand over first, when there is no other one', async () => {
    const { scene, peers } = await open('h');
    await scene.until('h counts', () => replicas(scene).copies === 2);
    peers[0]!.answers.set('push', () => Promise.reject(new FlowmeshError('DIVERGED', 'hands over first')));
    const began = scene.peer('a').clock.now();
    const { durability } = await scene.run(scene.scheduler('a').api.submitTask(quietTask()));
    expect(durability).toEqual({ copies: 1, wanted: 2 });
    expect(scene.peer('a').clock.now() - began).toBeLessThan(COPY_WAIT_MS / 2);
    peers[0]!.answers.delete('push');
    await scene.pass(2 * BEAT_MS);
    expect((await scene.run(scene.scheduler('a').api.submitTask(quietTask()))).durability.copies).toBe(2);
  });

  test('is brought to another peer at once while the follower has to hand over first', async () => {
    const { scene, peers } = await open('h');
    await scene.until('h counts', () => replicas(scene).copies === 2);
    await HandPeer.joins(scene, 'i', ['a']);
    peers[0]!.answers.set('push', () => Promise.reject(new FlowmeshError('DIVERGED', 'hands over first')));
    const { durability } = await scene.run(scene.scheduler('a').api.submitTask(quietTask()));
    expect(durability).toEqual({ copies: 2, wanted: 2 });
    await scene.until('i is the one', () => synced(scene).join() === 'i');
  });

  test('waits for no copy that nobody makes: the set is as large as what is open wants it to be', async () => {
    const { scene } = await open('h', 'i', 'j');
    const value = { name: 'w', steps: [{ step_id: 's', action: 'approve' }] };
    const { record } = await scene.run(scene.scheduler('a').api.submitWorkflow({ ...workflow(value), copies: 3 }));
    await scene.until('both count', () => replicas(scene).copies === 3);
    await scene.run(scene.scheduler('a').api.answerTask(`${record.uid}/s/0`, { approve: true, data: null }));
    await scene.until('one has left', () => replicas(scene).copies === 2);
    const ended = await scene.endedWorkflow('a', record.uid);
    const began = scene.peer('a').clock.now();
    await scene.run(scene.feed('a').journal.turn((turn) => turn.put({ ...ended, metadata: { changed: true } })));
    expect(scene.peer('a').clock.now() - began).toBeLessThan(COPY_WAIT_MS / 2);
  });

  test('that waits is answered at once when the last follower goes away', async () => {
    const { scene, peers } = await open('h');
    await scene.until('h counts', () => replicas(scene).copies === 2);
    slow(peers[0]!);
    const submitted = scene.scheduler('a').api.submitTask(quietTask());
    await scene.pass(100);
    const began = scene.peer('a').clock.now();
    peers[0]!.network.kill();
    expect((await scene.run(submitted)).durability.copies).toBe(1);
    expect(scene.peer('a').clock.now() - began).toBeLessThan(COPY_WAIT_MS / 2);
  });

  test.each([
    ['nothing', {}],
    ['another shape', { seq: 'far' }],
    ['null', null],
  ])('a follower that answers %s has no copy, and does no harm', async (_what, answer) => {
    const { scene, peers } = await open();
    const peer = await HandPeer.joins(scene, 'h', []);
    peer.answers.set('push', () => answer as JsonObject);
    await scene.run(peer.network.connect('a'));
    expect(peers).toEqual([]);
    await scene.pass(3 * BEAT_MS);
    const { durability } = await scene.run(scene.scheduler('a').api.submitTask(quietTask()));
    expect(durability.copies).toBe(1);
    expect(synced(scene)).toEqual([]);
  });
});

describe('a follower', () => {
  test('counts only when it has the commit that says it is synced', async () => {
    const { scene } = await open();
    const peer = new HandPeer(scene, 'h');
    const seen: { head: number; copies: number; synced: boolean }[] = [];
    peer.answers.set('push', (params) => {
      const { copies } = replicas(scene);
      seen.push({ head: params['head_seq'] as number, copies, synced: synced(scene).includes('h') });
      return { seq: params['head_seq']! };
    });
    await scene.run(peer.network.connect('a'));
    await scene.until('h counts', () => replicas(scene).copies === 2);
    // The commit that says so was on its way to it, and it did not count before it had it.
    expect(seen.some(({ synced, copies }) => synced && copies === 1)).toBe(true);
    expect(seen.every(({ copies }) => copies === 1)).toBe(true);
  });

  test('that was away is told how far the feed is, and gets what comes meanwhile', async () => {
    const { scene, peers } = await open('h');
    const [peer] = peers as [HandPeer];
    await scene.until('h counts', () => replicas(scene).copies === 2);
    scene.mesh.board.cut('a', 'h');
    await scene.pass(100);
    await scene.submit('a', quietTask());
    peer.messages.length = 0;
    scene.mesh.board.heal('a', 'h');
    await scene.run(peer.network.connect('a'));
    await scene.until('it is told', () => pushes(peer).length > 0);
    const head = scene.head('a');
    expect(pushes(peer)[0]).toMatchObject({ rows: [], prev_seq: head, head_seq: head });
    await scene.until('it counts again', () => replicas(scene).copies === 2);
  });

  test('that cannot take so large a commit in one message is told to pull it', async () => {
    const { scene, peers } = await open('h');
    const [peer] = peers as [HandPeer];
    await scene.until('h counts', () => replicas(scene).copies === 2);
    peer.messages.length = 0;
    peer.answers.set('push', (params) => {
      if ((params['rows'] as JsonValue[]).length > 0) throw new FlowmeshError('MESSAGE_TOO_LARGE', 'too large');
      return { seq: params['head_seq']! };
    });
    const { durability } = await scene.run(scene.scheduler('a').api.submitTask(quietTask()));
    expect(durability).toEqual({ copies: 2, wanted: 2 });
    expect(pushes(peer).map(({ rows }) => (rows as JsonValue[]).length > 0)).toEqual([true, false]);
  });

  test('that no message can bring a row does not count from there on, and is not asked all the time', async () => {
    const { scene, peers } = await open('h');
    const [peer] = peers as [HandPeer];
    await scene.until('h counts', () => replicas(scene).copies === 2);
    const before = scene.head('a');
    peer.answers.set('push', () => Promise.reject(new FlowmeshError('MESSAGE_TOO_LARGE', 'its pages are, too')));
    const submit = () => scene.run(scene.scheduler('a').api.submitTask(quietTask()));
    const { record, durability } = await submit();
    expect(durability).toEqual({ copies: 1, wanted: 2 });
    const asked = () => pushes(peer).length;
    const soFar = asked();
    await scene.pass(5 * BEAT_MS);
    expect(asked() - soFar).toBeLessThan(10);
    // What is said later is as true: of what it has, and of what it has not.
    const { feed_id } = scene.feed('a');
    const head = scene.head('a');
    expect(scene.scheduler('a').api.durabilityOf(feed_id, head, 2)).toEqual({ copies: 1, wanted: 2 });
    expect(scene.scheduler('a').api.durabilityOf(feed_id, before, 2)).toEqual({ copies: 2, wanted: 2 });
    const status = await scene.run(scene.mesh.call('a', 'task_status', { task_id: record.task_id }));
    expect(status['status']).toBe('queued');
    peer.answers.delete('push');
    await scene.until('it counts again', () => replicas(scene).copies === 2);
    expect((await submit()).durability).toEqual({ copies: 2, wanted: 2 });
  });

  test('real, is brought to the head whatever was on its way to the owner’s disk when it asked', async () => {
    const scene = new Scene();
    const disk = new HeldDisk();
    await scene.run(scene.mesh.start('a', { store: disk }));
    await scene.mesh.start('b');
    await scene.until('b counts', () => replicas(scene).copies === 2);
    const { feed_id } = scene.feed('a');
    scene.mesh.board.cut('a', 'b');
    await scene.pass(100);
    disk.hold();
    void scene.scheduler('a').api.submitTask(quietTask());
    await scene.pass(100);
    scene.mesh.board.heal('a', 'b'); // while the commit is on its way to the disk
    await scene.pass(2_000);
    disk.release();
    await scene.pass(10 * BEAT_MS);
    expect(headOf(scene, 'b', feed_id)).toBe(scene.head('a'));
  });
});

describe('the replica set', () => {
  test('is chosen by rendezvous of those that are there', async () => {
    const { scene } = await open('h', 'i', 'j', 'k');
    await scene.until('one counts', () => replicas(scene).copies === 2);
    await scene.pass(5 * BEAT_MS);
    expect(synced(scene)).toHaveLength(1);
  });

  test('is sticky: a peer that would come first in the order changes nothing', async () => {
    const { scene } = await open('h');
    await scene.until('h counts', () => replicas(scene).copies === 2);
    const { feed_id } = scene.feed('a');
    const better = Array.from({ length: 50 }, (_, n) => `p${n}`).find(
      (name) => rendezvous(feed_id, ['h', name])[0] === name,
    )!;
    await HandPeer.joins(scene, better, ['a']);
    await scene.pass(10 * BEAT_MS);
    expect(synced(scene)).toEqual(['h']);
  });

  test('replaces a member that is gone: first the new one counts, then the old one is removed', async () => {
    const { scene, peers } = await open('h');
    await scene.until('h counts', () => replicas(scene).copies === 2);
    peers[0]!.network.kill();
    const sets: string[][] = [];
    const next = new HandPeer(scene, 'i');
    next.answers.set('push', (params) => {
      sets.push(followers(scene).map(({ peer_id, synced }) => `${peer_id}${synced ? '' : '?'}`));
      return { seq: params['head_seq']! };
    });
    await scene.run(next.network.connect('a'));
    await scene.until('i is the one', () => synced(scene).join() === 'i');
    expect(sets.map((set) => set.join())).toEqual(expect.arrayContaining(['h,i?', 'h,i']));
    expect(replicas(scene).copies).toBe(2);
  });

  test('takes another one when the chosen one keeps no copies', async () => {
    const { scene } = await open();
    const { feed_id } = scene.feed('a');
    const [first, second] = rendezvous(feed_id, ['h', 'i']) as [string, string];
    const refusing = await HandPeer.joins(scene, first, []);
    refusing.answers.set('push', () => Promise.reject(new Error('no room')));
    await scene.run(refusing.network.connect('a'));
    await scene.pass(3 * BEAT_MS);
    await HandPeer.joins(scene, second, ['a']);
    await scene.pass(60 * BEAT_MS);
    expect(synced(scene)).toContain(second);
  });

  test('is told to a former member that was away when it left: it keeps no copy', async () => {
    const scene = await Scene.of(['a', 'b', 'c']);
    await scene.until('one counts', () => replicas(scene).copies === 2);
    const { feed_id } = scene.feed('a');
    const [former] = synced(scene) as [string];
    const other = former === 'b' ? 'c' : 'b';
    const disk = scene.mesh.kill(former);
    await scene.until('the other one is the only one', () => namesOf(scene) === other);
    await scene.pass(5 * BEAT_MS);
    expect(disk.feeds.has(feed_id)).toBe(true);
    await scene.run(scene.mesh.restart(former, disk));
    await scene.pass(5 * BEAT_MS);
    expect(followers(scene)).toEqual([{ peer_id: other, synced: true }]);
    expect(scene.peer(former).store.feeds.has(feed_id)).toBe(false);
    expect(scene.scheduler(former).parts.followed.find(feed_id)).toBeUndefined();
    expect(headOf(scene, other, feed_id)).toBe(scene.head('a'));
  });

  test('is told to as many former members as the feed remembers (P7)', async () => {
    const { scene, peers } = await open('h');
    const [h] = peers as [HandPeer];
    await scene.until('h counts', () => replicas(scene).copies === 2);
    scene.mesh.board.cut('a', 'h');
    await HandPeer.joins(scene, 'i', ['a']);
    await scene.until('i is the only one', () => namesOf(scene) === 'i');
    const others = Array.from({ length: FORMER_FOLLOWERS_MAX }, (_, index) => `former-${index}`);
    replicas(scene).change({ former: others });
    await scene.pass(BEAT_MS);
    h.messages.length = 0;
    scene.mesh.board.heal('a', 'h');
    await scene.run(h.network.connect('a'));
    await scene.pass(5 * BEAT_MS);
    expect(pushes(h)).toEqual([]);
  });

  test('is told to such a member also by an owner that started again meanwhile, until it has heard it', async () => {
    const { scene, peers } = await open('h');
    const [h] = peers as [HandPeer];
    await scene.until('h counts', () => replicas(scene).copies === 2);
    scene.mesh.board.cut('a', 'h');
    await scene.mesh.start('b');
    await scene.until('b is the only one', () => namesOf(scene) === 'b');
    await scene.pass(BEAT_MS); // the row that says so is on the disk
    await scene.restart('a');
    await scene.ownsAgain('a');
    h.answers.set('push', () => Promise.reject(new Error('not yet')));
    h.messages.length = 0;
    scene.mesh.board.heal('a', 'h');
    await scene.run(h.network.connect('a'));
    await scene.until('it is told twice', () => pushes(h).length === 2);
    const { feed_id } = scene.feed('a');
    const head_seq = scene.head('a');
    h.answers.set('push', () => Promise.reject(new FlowmeshError('NO_COPY', 'it is none of its followers')));
    await scene.until('it hears it', () => pushes(h).length === 3);
    for (const push of pushes(h)) expect(push).toMatchObject({ feed_id, prev_seq: head_seq, head_seq, rows: [] });
    await scene.pass(5 * BEAT_MS);
    expect(pushes(h)).toHaveLength(3);
  });

  test('grows for a submit that asks for more copies', async () => {
    const { scene } = await open('h', 'i');
    await scene.until('one counts', () => replicas(scene).copies === 2);
    const value = { name: 'w', steps: [{ step_id: 's', action: 'approve' }] };
    const submission = { ...workflow(value), copies: 3 };
    await scene.run(scene.scheduler('a').api.submitWorkflow(submission));
    await scene.until('both count', () => replicas(scene).copies === 3);
  });

  test('a peer that is about to leave is not chosen', async () => {
    const { scene, peers } = await open('h', 'i');
    await scene.until('one counts', () => replicas(scene).copies === 2);
    const [chosen] = synced(scene);
    const [member, other] = chosen === 'h' ? peers : peers.toReversed();
    scene.scheduler('a').parts.peers.find(other!.state.name)!.leaving = true;
    member!.network.kill();
    await scene.pass(5 * BEAT_MS);
    expect(synced(scene)).toEqual([chosen]);
  });

  test('of an owner that another one has come before: it stops and gives way (P2)', async () => {
    const scene = await Scene.of(['a', 'b']);
    await scene.until('b counts', () => replicas(scene).copies === 2);
    const { feed_id } = scene.feed('a');
    const old = scene.feed('a');
    scene.mesh.board.cut('a', 'b');
    await scene.until('b has taken over', () => scene.scheduler('b').parts.feeds.has(feed_id));
    scene.mesh.board.heal('a', 'b');
    await scene.until('a has given way', () => !scene.scheduler('a').parts.feeds.has(feed_id));
    expect(old.journal.refused).toMatchObject({ code: 'NOT_OWNER' });
    await scene.until('a has a feed for new work', () => scene.scheduler('a').parts.main.feed !== undefined);
    expect(scene.feed('a').feed_id).not.toBe(feed_id);
  });
});
