/** Workers as tests speak for them, and what an owner makes of what they say. */
import { describe, expect, test } from 'vitest';
import { retrySchema } from '../../../dag/schema.ts';
import {
  ATTEMPT_HISTORY_MAX,
  BEAT_INTERVAL_MS,
  LOG_LINES_MAX,
  LOST_ATTEMPTS_MAX,
  LOST_SHARE,
  TAKEOVER_MS,
  TIMEOUT_GRACE_MS,
} from '../../../scheduler/limits.ts';
import { HandPeer, hand, openWithHands, resultOf, tokenOf } from '../hand-peer.ts';
import { HeldDisk } from '../held-disk.ts';
import { Scene, task } from '../scene.ts';

const FAILED = { status: 'failed', output: null } as const;
const broken = (retryable: boolean) => ({ code: 'BROKEN', message: 'it broke', retryable });
const QUICK_RETRY = { max_retries: 2, initial_delay_ms: 100, jitter: false };

/** A task whose first attempt was lost at `h` and whose second one runs at `i`. */
async function secondAttempt(over: Parameters<typeof task>[0] = {}) {
  const { scene, peers } = await openWithHands(['h', 'i']);
  const [first, second] = peers as [HandPeer, HandPeer];
  second.state.workers[0]!.slots = 0;
  await second.beat('a');
  const { uid } = await scene.submit('a', hand(over));
  const earlier = await first.leased(1);
  first.beating = false;
  second.state.workers[0]!.slots = 4;
  await scene.pass(TAKEOVER_MS + 2_000);
  const current = await second.leased(1);
  second.holding = [tokenOf(current)];
  return { scene, uid, first, second, earlier, current };
}

describe('results (P3)', () => {
  test('the current lease commits a success', async () => {
    const { scene, peers } = await openWithHands();
    const { uid } = await scene.submit('a', hand());
    const lease = await peers[0]!.leased(1);
    expect(lease.attempt).toBe(1);
    await peers[0]!.result('a', lease);
    expect(await scene.task('a', uid)).toMatchObject({
      status: 'completed',
      output: { attempt: 1 },
      attempt: 1,
      peer_id: 'h',
      progress: 100,
    });
  });

  test('it is acknowledged only when its row is on the disk', async () => {
    const { scene, peers } = await openWithHands();
    const { uid } = await scene.submit('a', hand());
    const lease = await peers[0]!.leased(1);
    scene.mesh.failNextSync('a');
    await expect(peers[0]!.result('a', lease)).rejects.toMatchObject({ code: 'DISK_FULL' });
    expect((await scene.task('a', uid)).status).toBe('running');
    await scene.until('the store is open again', () => scene.scheduler('a').parts.lifecycle.ready);
    await scene.ownsAgain('a');
    await peers[0]!.result('a', lease);
    expect((await scene.task('a', uid)).status).toBe('completed');
  });

  test('it is not called back by a beat while its end is not on the disk', async () => {
    const scene = new Scene();
    const disk = new HeldDisk();
    await scene.run(scene.mesh.start('a', { store: disk }));
    const peer = await HandPeer.joins(scene, 'h', ['a']);
    await scene.submit('a', hand());
    const lease = await peer.leased(1);
    await scene.pass(100);
    disk.hold();
    void peer.network.request('a', 'result', { results: [resultOf(lease)] } as never, 60_000);
    peer.holding = [tokenOf(lease)];
    await scene.pass(3_000);
    expect(peer.cancels).toEqual([]);
    disk.release();
    await scene.until('it is called back', () => peer.cancels.length > 0);
  });

  test('an earlier lease commits a success, and the current one is cancelled', async () => {
    const { scene, uid, first, second, earlier, current } = await secondAttempt();
    expect([earlier.attempt, current.attempt]).toEqual([1, 2]);
    await first.result('a', earlier);
    expect(await scene.task('a', uid)).toMatchObject({ status: 'completed', output: { attempt: 1 }, peer_id: 'h' });
    await scene.until('the current lease is cancelled', () => second.cancels.length > 0);
    expect(second.cancels[0]).toMatchObject({ uid, attempt: 2, force: true });
  });

  test('an earlier lease commits no failure; it may forget it', async () => {
    const { scene, uid, first, second, earlier, current } = await secondAttempt();
    await first.result('a', earlier, { ...FAILED, error: broken(false) });
    expect((await scene.task('a', uid)).status).toBe('running');
    await second.result('a', current);
    expect(await scene.task('a', uid)).toMatchObject({ status: 'completed', output: { attempt: 2 } });
    expect(second.cancels).toEqual([]);
  });

  test('an earlier lease commits a success while the task waits for its next attempt', async () => {
    const { scene, peers } = await openWithHands();
    const [peer] = peers as [HandPeer];
    const { uid } = await scene.submit('a', hand());
    const lease = await peer.leased(1);
    peer.state.workers[0]!.slots = 0;
    await scene.pass(TAKEOVER_MS + 2_000); // its beats do not name it
    expect((await scene.task('a', uid)).status).toBe('queued');
    await peer.result('a', lease);
    expect((await scene.task('a', uid)).status).toBe('completed');
    peer.state.workers[0]!.slots = 4;
    await scene.pass(5_000);
    expect(peer.leases).toHaveLength(1);
  });

  test('a repeated result changes nothing, and is acknowledged', async () => {
    const { scene, peers } = await openWithHands();
    const { uid } = await scene.submit('a', hand());
    const lease = await peers[0]!.leased(1);
    await peers[0]!.result('a', lease);
    await peers[0]!.result('a', lease, { output: 'other' });
    await peers[0]!.result('a', lease, { ...FAILED, error: broken(true) });
    expect(await scene.task('a', uid)).toMatchObject({ status: 'completed', output: { attempt: 1 } });
  });

  test.each([
    ['of an attempt that was never made', 2],
    ['of no attempt', 0],
  ])('a result %s changes nothing', async (_what, attempt) => {
    const { scene, peers } = await openWithHands();
    const { uid } = await scene.submit('a', hand());
    const lease = await peers[0]!.leased(1);
    peers[0]!.holding = [tokenOf(lease)];
    await peers[0]!.result('a', { ...lease, attempt });
    expect((await scene.task('a', uid)).status).toBe('running');
  });

  test.each([
    ['sleep', { duration_ms: 60_000 }],
    ['approve', {}],
  ])('nobody can bring the result of a task that is a state of its record: %s', async (task_type, payload) => {
    const { scene, peers } = await openWithHands();
    const { uid } = await scene.submit('a', task({ task_type, payload }));
    await scene.pass(100);
    const { status } = await scene.task('a', uid);
    await peers[0]!.result('a', { uid, feed_id: scene.feed('a').feed_id, epoch: 1, attempt: 1 });
    expect((await scene.task('a', uid)).status).toBe(status);
  });
});

describe('lost attempts', () => {
  test('an ordinary task is tried again and tells of it', async () => {
    const { scene, uid, current } = await secondAttempt();
    expect(current.attempt).toBe(2);
    expect((await scene.task('a', uid)).attempts).toMatchObject([
      { attempt: 1, peer_id: 'h', error: { code: 'WORKER_LOST' } },
    ]);
  });

  test('one that its worker ended although its owner did not ask for that is lost, not failed', async () => {
    const { scene, peers } = await openWithHands();
    const { uid } = await scene.submit('a', hand({ retry: retrySchema.parse({ max_retries: 0 }) }));
    const error = { code: 'ABORTED', message: 'ended before its time', retryable: true };
    await peers[0]!.result('a', await peers[0]!.leased(1), { status: 'cancelled', output: null, error });
    await peers[0]!.result('a', await peers[0]!.leased(2));
    expect(await scene.task('a', uid)).toMatchObject({ status: 'completed', attempt: 2, failures: 0 });
  });

  test('a task marked at_most_once fails with WORKER_LOST (P4)', async () => {
    const { scene, peers } = await openWithHands();
    const { uid } = await scene.submit('a', hand({ at_most_once: true }));
    await peers[0]!.leased(1);
    expect(await scene.ended('a', uid)).toMatchObject({
      status: 'failed',
      error: { code: 'WORKER_LOST', retryable: false, message: expect.stringContaining('task_retry') },
    });
    await scene.pass(10_000);
    expect(peers[0]!.leases).toHaveLength(1);
  });

  test('one that cannot be dialled is not waited for as long as one that is silent, while others are there', async () => {
    for (const others of [['i'], []]) {
      const { scene, peers } = await openWithHands(['h', ...others]);
      for (const other of peers.slice(1)) other.state.workers[0]!.slots = 0;
      for (const other of peers.slice(1)) await other.beat('a');
      const { uid } = await scene.submit('a', hand({ at_most_once: true }));
      await peers[0]!.leased(1);
      scene.mesh.board.cut('a', 'h');
      await scene.pass(LOST_SHARE * TAKEOVER_MS - 100);
      expect((await scene.task('a', uid)).status).toBe('running');
      await scene.pass(BEAT_INTERVAL_MS);
      const isGone = others.length > 0; // else `a` may be the one that is cut off
      expect((await scene.task('a', uid)).error?.code).toBe(isGone ? 'WORKER_LOST' : undefined);
      expect((await scene.ended('a', uid)).error?.code).toBe('WORKER_LOST');
    }
  });

  test('a lease that its beats name is not lost, however long it runs', async () => {
    const { scene, peers } = await openWithHands();
    const { uid } = await scene.submit('a', hand({ at_most_once: true }));
    peers[0]!.holding = [tokenOf(await peers[0]!.leased(1))];
    await scene.pass(10 * TAKEOVER_MS);
    expect((await scene.task('a', uid)).status).toBe('running');
  });

  test('a task whose workers are lost again and again becomes a dead letter, its history bounded', async () => {
    const { scene, peers } = await openWithHands();
    const { uid } = await scene.submit('a', hand());
    const record = await scene.ended('a', uid);
    expect(record).toMatchObject({ status: 'failed', dead_letter: true, error: { code: 'WORKER_LOST' } });
    expect(peers[0]!.leases).toHaveLength(LOST_ATTEMPTS_MAX + 1);
    expect(record.attempts).toHaveLength(ATTEMPT_HISTORY_MAX);
    expect(record.attempts.at(-1)!.attempt).toBe(LOST_ATTEMPTS_MAX);
  });

  test('only lost leases count against a peer, not cancelled ones', async () => {
    const { scene, peers } = await openWithHands();
    const { uid } = await scene.submit('a', hand());
    peers[0]!.holding = [tokenOf(await peers[0]!.leased(1))];
    await scene.run(scene.scheduler('a').api.cancelTask(uid, { reason: undefined, force: false }));
    expect(scene.scheduler('a').parts.peers.find('h')).toMatchObject({ leases_kept: 0, leases_lost: 0 });
  });
});

describe('a timeout that the worker does not keep', () => {
  const TIMEOUT_MS = 1_500;
  /** Its grace, a beat that names the lease after that, and a look for it. */
  const ENDED_WITHIN_MS = TIMEOUT_MS + TIMEOUT_GRACE_MS + 2 * BEAT_INTERVAL_MS;

  async function held(over: Parameters<typeof task>[0] = {}) {
    const { scene, peers } = await openWithHands();
    const [h] = peers as [HandPeer];
    const { uid } = await scene.submit('a', hand({ timeout_ms: TIMEOUT_MS, ...over }));
    const lease = await h.leased(1);
    h.holding = [tokenOf(lease)];
    return { scene, h, uid, lease };
  }

  test('ends the attempt all the same, however long the worker goes on beating', async () => {
    const { scene, h, uid } = await held();
    await scene.pass(TIMEOUT_MS + TIMEOUT_GRACE_MS - BEAT_INTERVAL_MS);
    expect(await scene.task('a', uid)).toMatchObject({ status: 'running' });
    await scene.pass(ENDED_WITHIN_MS - TIMEOUT_MS - TIMEOUT_GRACE_MS + BEAT_INTERVAL_MS);
    expect(await scene.task('a', uid)).toMatchObject({
      status: 'failed',
      dead_letter: true,
      failures: 1,
      error: { code: 'TIMEOUT', retryable: true },
    });
    expect(h.cancels[0]).toMatchObject({ uid, attempt: 1, force: true });
  });

  test('uses one of the retries, and a late success of that attempt counts while the task is open (P3)', async () => {
    const { scene, h, uid, lease } = await held({ retry: retrySchema.parse(QUICK_RETRY) });
    await h.leased(2);
    expect(await scene.task('a', uid)).toMatchObject({ status: 'running', attempt: 2, failures: 1 });
    await h.result('a', lease);
    expect(await scene.task('a', uid)).toMatchObject({ status: 'completed', output: { attempt: 1 } });
  });

  test('is its end: a success that comes after that changes nothing (P5)', async () => {
    const { scene, h, uid, lease } = await held();
    await scene.pass(ENDED_WITHIN_MS);
    await h.result('a', lease);
    expect(await scene.task('a', uid)).toMatchObject({ status: 'failed', error: { code: 'TIMEOUT' } });
  });

  test('is measured anew by an owner that starts again', async () => {
    const { scene, h, uid } = await held();
    await scene.pass(TIMEOUT_MS);
    await scene.restart('a');
    await scene.run(h.network.connect('a'));
    await scene.pass(TIMEOUT_MS + TIMEOUT_GRACE_MS - BEAT_INTERVAL_MS);
    expect(await scene.task('a', uid)).toMatchObject({ status: 'running', attempt: 1 });
    await scene.pass(ENDED_WITHIN_MS);
    expect(await scene.task('a', uid)).toMatchObject({ status: 'failed', error: { code: 'TIMEOUT' } });
  });

  test('a result that waits for its connection is waited for, as long as any other', async () => {
    const { scene, h, uid, lease } = await held();
    await scene.pass(TIMEOUT_MS);
    h.beating = false;
    await scene.pass(TIMEOUT_GRACE_MS);
    expect(await scene.task('a', uid)).toMatchObject({ status: 'running' });
    await h.result('a', lease);
    expect(await scene.task('a', uid)).toMatchObject({ status: 'completed', attempt: 1 });
  });
});

describe('failed attempts', () => {
  test('are repeated after their backoff, then the task is a dead letter', async () => {
    const { scene, peers } = await openWithHands();
    const [peer] = peers as [HandPeer];
    const { uid } = await scene.submit('a', hand({ retry: retrySchema.parse(QUICK_RETRY) }));
    const times: number[] = [];
    for (const attempt of [1, 2, 3]) {
      const lease = await peer.leased(attempt);
      expect(lease.attempt).toBe(attempt);
      times.push(scene.world.now);
      await peer.result('a', lease, { ...FAILED, error: broken(true) });
    }
    expect(times[1]! - times[0]!).toBeGreaterThanOrEqual(100);
    expect(times[2]! - times[1]!).toBeGreaterThanOrEqual(200);
    expect(await scene.task('a', uid)).toMatchObject({
      status: 'failed',
      dead_letter: true,
      failures: 3,
      error: { code: 'BROKEN' },
      attempts: [{ attempt: 1 }, { attempt: 2 }, { attempt: 3 }],
    });
  });

  test('are repeated no sooner than their server asked for, within max_delay_ms', async () => {
    const { scene, peers } = await openWithHands();
    const [peer] = peers as [HandPeer];
    const retry = retrySchema.parse({ ...QUICK_RETRY, max_delay_ms: 5_000 });
    const asked = (retry_after_ms: number) => ({ ...broken(true), details: { retry_after_ms } });
    const { uid } = await scene.submit('a', hand({ retry }));
    const times: number[] = [];
    for (const [index, wait] of [3_000, 3_600_000, 0].entries()) {
      const lease = await peer.leased(index + 1);
      times.push(scene.world.now);
      await peer.result('a', lease, { ...FAILED, error: asked(wait) });
    }
    expect(times[1]! - times[0]!).toBeGreaterThanOrEqual(3_000);
    expect(times[1]! - times[0]!).toBeLessThan(4_000);
    expect(times[2]! - times[1]!).toBeGreaterThanOrEqual(5_000);
    expect(times[2]! - times[1]!).toBeLessThan(6_000);
    expect(await scene.task('a', uid)).toMatchObject({ status: 'failed', failures: 3 });
  });

  test('are not waited with beyond the deadline, whatever their server asked for', async () => {
    const { scene, peers } = await openWithHands();
    const deadline = new Date(scene.peer('a').clock.wall() + 2_000).toISOString();
    const { uid } = await scene.submit('a', hand({ retry: retrySchema.parse(QUICK_RETRY), deadline }));
    const error = { ...broken(true), details: { retry_after_ms: 30_000 } };
    await peers[0]!.result('a', await peers[0]!.leased(1), { ...FAILED, error });
    await scene.pass(2_500);
    const ended = await scene.task('a', uid);
    expect(ended).toMatchObject({ status: 'failed', failures: 1, error: { code: 'DEADLINE_EXCEEDED' } });
    expect(ended.error!.message).toContain(`the last one failed: ${error.message}`);
  });

  test('that another attempt cannot help end the task', async () => {
    const { scene, peers } = await openWithHands();
    const { uid } = await scene.submit('a', hand({ retry: retrySchema.parse(QUICK_RETRY) }));
    await peers[0]!.result('a', await peers[0]!.leased(1), { ...FAILED, error: broken(false) });
    expect(await scene.task('a', uid)).toMatchObject({ status: 'failed', failures: 1, dead_letter: true });
  });

  test('of a task marked at_most_once are not repeated, whatever its retries say (P4)', async () => {
    const { scene, peers } = await openWithHands();
    const { uid } = await scene.submit('a', hand({ at_most_once: true }));
    // No submit is accepted with both: a record of an earlier version may have them.
    const live = scene.feed('a').tasks.live.get(uid)!;
    live.record = { ...live.record, retry: retrySchema.parse(QUICK_RETRY) };
    await peers[0]!.result('a', await peers[0]!.leased(1), { ...FAILED, error: broken(true) });
    expect(await scene.task('a', uid)).toMatchObject({ status: 'failed', error: { code: 'BROKEN' } });
    await scene.pass(10_000);
    expect(peers[0]!.leases).toHaveLength(1);
  });

  test('a new attempt begins without the progress of the last one', async () => {
    const { scene, peers } = await openWithHands();
    const [peer] = peers as [HandPeer];
    const { uid } = await scene.submit('a', hand({ retry: retrySchema.parse(QUICK_RETRY) }));
    const lease = await peer.leased(1);
    await peer.ask('a', 'progress', { items: [{ ...tokenOf(lease), percent: 80, message: 'nearly', lines: [] }] });
    await peer.result('a', lease, { ...FAILED, error: broken(true) });
    await peer.leased(2);
    await scene.pass(100);
    expect(await scene.task('a', uid)).toMatchObject({ status: 'running', progress: 0, progress_message: null });
  });
});

describe('refused leases', () => {
  test('go back to the queue; an attempt that was refused did not start', async () => {
    const { scene, peers } = await openWithHands();
    const [peer] = peers as [HandPeer];
    peer.answers.set('lease', (params) => ({
      items: (params['leases'] as never[]).map((lease) => ({ ...tokenOf(lease), reason: 'busy', message: 'full' })),
    }));
    peer.beating = false;
    const { uid } = await scene.submit('a', hand());
    await peer.leased(1);
    await scene.pass(500);
    expect(await scene.task('a', uid)).toMatchObject({ status: 'queued', started_at: null, wait_ms: null });
    expect(peer.leases).toHaveLength(1); // not again before it tells that it has room
    peer.answers.delete('lease');
    await peer.beat('a');
    await peer.result('a', await peer.leased(2));
    expect(await scene.task('a', uid)).toMatchObject({ status: 'completed', attempt: 2 });
  });

  test('handed back, an ordinary task goes to another worker, one marked at_most_once fails', async () => {
    const { scene, peers } = await openWithHands(['h', 'i']);
    const ordinary = await scene.submit('a', hand({ requires: { labels: ['h'], peers: [] } }));
    const once = await scene.submit('a', hand({ requires: { labels: ['h'], peers: [] }, at_most_once: true }));
    await peers[0]!.leased(2);
    peers[0]!.state.workers[0]!.status = 'draining';
    const items = peers[0]!.leases.map((lease) => ({ ...tokenOf(lease), reason: 'handed_back', message: 'left' }));
    await peers[0]!.ask('a', 'refuse', { items });
    await scene.pass(100);
    expect((await scene.task('a', ordinary.uid)).status).toBe('queued');
    expect(await scene.task('a', once.uid)).toMatchObject({ status: 'failed', error: { code: 'WORKER_LOST' } });
  });

  test('nobody can refuse the lease of another', async () => {
    const { scene, peers } = await openWithHands(['h', 'i']);
    const { uid } = await scene.submit('a', hand({ requires: { labels: ['h'], peers: [] } }));
    const lease = await peers[0]!.leased(1);
    peers[0]!.holding = [tokenOf(lease)];
    await peers[1]!.ask('a', 'refuse', { items: [{ ...tokenOf(lease), reason: 'handed_back', message: '' }] });
    await scene.pass(100);
    expect((await scene.task('a', uid)).status).toBe('running');
  });
});

describe('logs', () => {
  test('keep the last lines of all attempts and count the others', async () => {
    const { scene, peers } = await openWithHands();
    const [peer] = peers as [HandPeer];
    const { uid } = await scene.submit('a', hand());
    const lease = await peer.leased(1);
    const line = (text: string) => ({ at: '2026-01-01T00:00:00.000Z', attempt: 1, stream: 'stdout', line: text });
    const lines = Array.from({ length: LOG_LINES_MAX }, (_, index) => line(`first ${index}`));
    await peer.ask('a', 'progress', { items: [{ ...tokenOf(lease), percent: null, message: null, lines }] });
    await peer.result('a', lease, { lines: [line('last') as never], dropped_lines: 3 });
    const log = (await scene.peer('a').store.reader.get('log', `${uid}/log`))!;
    expect(log.lines).toHaveLength(LOG_LINES_MAX);
    expect([log.lines[0]!.line, log.lines.at(-1)!.line]).toEqual(['first 1', 'last']);
    expect(log.dropped_lines).toBe(4);
  });
});
