/** What a peer says of a lease counts only if that peer has the lease, or had it (P9). */
import { describe, expect, test } from 'vitest';
import { contentHash } from '../../../scheduler/ids.ts';
import { TAKEOVER_MS } from '../../../scheduler/limits.ts';
import type { AttemptResult, Lease } from '../../../scheduler/messages.ts';
import { HandPeer, hand, openWithHands, tokenOf } from '../hand-peer.ts';
import { Scene } from '../scene.ts';

const PAYLOAD = { n: 1 };
const HASH = contentHash(PAYLOAD);
const EVERYTHING = [
  { status: 'completed' },
  { status: 'completed', granted_by: 'a', payload_hash: HASH },
  { status: 'failed', output: null, error: { code: 'X', message: '', retryable: false } },
  { status: 'cancelled', output: null, error: { code: 'X', message: '', retryable: false } },
] as const;

/** Says all that can be said of a lease, and is answered as if it counted. */
async function saysAll(peer: HandPeer, to: string, lease: Lease, more: Partial<AttemptResult>[] = []): Promise<void> {
  const token = tokenOf(lease);
  const line = { at: '2026-01-01T00:00:00.000Z', attempt: 1, stream: 'log', text: 'x', line: 'x' };
  await peer.ask(to, 'progress', { items: [{ ...token, percent: 50, message: 'mine', lines: [line] }] });
  for (const reason of ['busy', 'unable', 'handed_back']) {
    await peer.ask(to, 'refuse', { items: [{ ...token, reason, message: '' }] });
  }
  for (const over of [...EVERYTHING, ...more]) expect(await peer.result(to, lease, over)).toEqual({});
  await peer.scene.pass(100);
}

async function idle(peer: HandPeer, to: string): Promise<void> {
  peer.state.workers[0]!.slots = 0;
  await peer.beat(to);
}

/** `h` is given a lease and falls silent; `i` has the second one; `x` never has one. */
async function secondAttempt() {
  const { scene, peers } = await openWithHands(['h', 'i', 'x']);
  const [h, i, x] = peers as [HandPeer, HandPeer, HandPeer];
  await idle(i, 'a');
  await idle(x, 'a');
  const { uid } = await scene.submit('a', hand({ payload: PAYLOAD }));
  const earlier = await h.leased(1);
  h.beating = false;
  i.state.workers[0]!.slots = 1;
  await scene.pass(TAKEOVER_MS + 2_000);
  const current = await i.leased(1);
  i.holding = [tokenOf(current)];
  return { scene, uid, h, i, x, earlier, current };
}

describe('a peer that never had a lease of the task', () => {
  test('says nothing of the current one, nor of an earlier one', async () => {
    const { scene, uid, i, x, earlier, current } = await secondAttempt();
    const before = await scene.task('a', uid);
    expect([earlier.attempt, current.attempt]).toEqual([1, 2]);
    // Nobody but `a` has owned the feed, so nobody else can have granted a lease in it.
    const granted = { status: 'completed', granted_by: 'nobody', payload_hash: HASH } as const;
    for (const lease of [earlier, current, { ...current, attempt: 3 }]) await saysAll(x, 'a', lease, [granted]);
    expect(await scene.task('a', uid)).toEqual(before);
    expect(i.cancels).toEqual([]);
    await i.result('a', current);
    expect(await scene.task('a', uid)).toMatchObject({ status: 'completed', attempt: 2, peer_id: 'i' });
  });

  test('does not take the place of the one that had it, whose late success counts', async () => {
    const { scene, uid, h, i, x, earlier } = await secondAttempt();
    await x.result('a', earlier, { output: 'of x' });
    await i.result('a', earlier, { output: 'of i' });
    await h.result('a', earlier, { output: 'of h' });
    expect(await scene.task('a', uid)).toMatchObject({ status: 'completed', output: 'of h', peer_id: 'h' });
  });
});

test('a lease that was taken back still brings a success of the peer that had it, and of no other', async () => {
  const { scene, peers } = await openWithHands(['h', 'x']);
  const [h, x] = peers as [HandPeer, HandPeer];
  await idle(x, 'a');
  const { uid } = await scene.submit('a', hand());
  const lease = await h.leased(1);
  await scene.run(scene.feed('a').journal.turn((turn) => scene.feed('a').attempts.takeBack(turn, 'h')));
  await x.result('a', lease, { output: 'of x' });
  expect((await scene.task('a', uid)).status).not.toBe('completed');
  await h.result('a', lease, { output: 'of h' });
  expect(await scene.task('a', uid)).toMatchObject({ status: 'completed', output: 'of h', peer_id: 'h' });
});

test('an owner that has started again knows who had the earlier leases', async () => {
  const { scene, uid, h, i, x, earlier, current } = await secondAttempt();
  await scene.restart('a');
  for (const peer of [h, i, x]) await scene.run(peer.network.connect('a'));
  await scene.ownsAgain('a');
  await i.beat('a');
  for (const lease of [earlier, current]) await saysAll(x, 'a', lease);
  expect(await scene.task('a', uid)).toMatchObject({ status: 'running', peer_id: 'i' });
  await h.result('a', earlier, { output: 'of h' });
  expect(await scene.task('a', uid)).toMatchObject({ status: 'completed', output: 'of h', peer_id: 'h' });
});

test('a task that is asked for again has no earlier leases', async () => {
  const { scene, uid, h, earlier } = await secondAttempt();
  const { api } = scene.scheduler('a');
  await scene.run(api.cancelTask(uid, { reason: undefined, force: true }));
  const { record } = await scene.run(api.retryTask(uid, { max_retries: undefined, timeout_ms: undefined }));
  await h.result('a', { ...earlier, uid: record.uid });
  expect((await scene.task('a', record.uid)).status).not.toBe('completed');
});

describe('an owner that has taken the feed over', () => {
  /** `h` has a lease that `a` gave; `b` owns the feed now. */
  async function takenOver() {
    const scene = await Scene.of(['a', 'b']);
    const h = await HandPeer.joins(scene, 'h', ['a', 'b']);
    const x = await HandPeer.joins(scene, 'x', ['a', 'b']);
    for (const to of ['a', 'b']) await idle(x, to);
    const { uid, peer_id } = await scene.submit('a', hand({ payload: PAYLOAD }));
    const lease = await h.leased(1);
    h.holding = [tokenOf(lease)];
    await scene.pass(2_000);
    scene.mesh.kill('a');
    await scene.until('b owns it', () => scene.scheduler('b').parts.feeds.has(lease.feed_id));
    await h.beat('b');
    return { scene, h, x, uid, peer_id, lease, ofA: { granted_by: 'a', payload_hash: HASH } };
  }

  test('believes only the peer that its copy names', async () => {
    const { scene, h, x, uid, lease, ofA } = await takenOver();
    await saysAll(x, 'b', lease);
    expect(await scene.task('b', uid)).toMatchObject({ status: 'running', peer_id: 'h', progress: 0 });
    await h.result('b', lease, { output: 'of h', ...ofA });
    expect(await scene.task('b', uid)).toMatchObject({ status: 'completed', output: 'of h', peer_id: 'h' });
  });

  test('takes a success of a lease that its copy knows nothing of, if it ran with the same inputs', async () => {
    const { scene, h, x, uid, lease, ofA } = await takenOver();
    const unknown = { ...lease, attempt: 2 };
    await x.result('b', unknown, { ...ofA, payload_hash: 'other' });
    expect(await scene.task('b', uid)).toMatchObject({ status: 'running', peer_id: 'h' });
    await x.result('b', unknown, { output: 'of x', ...ofA });
    expect(await scene.task('b', uid)).toMatchObject({ status: 'completed', output: 'of x', peer_id: 'x' });
    await scene.until('the lease of h is called back', () => h.cancels.length > 0);
  });
});
