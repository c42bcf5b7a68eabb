import { describe, expect, test } from 'vitest';
import { DURATION_MS_MAX } from '../../../dag/limits.ts';
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
import { HandPeer, resultOf, tokenOf } from '../hand-peer.ts';
import { HeldDisk } from '../held-disk.ts';
import { taskRecord } from '../records.ts';
import { Scene, task } from '../scene.ts';

const FAILED = { status: 'failed', output: null } as const;
const broken = (retryable: boolean) => ({ code: 'BROKEN', message: 'it broke', retryable });
const hand = (over: Parameters<typeof task>[0] = {}) => task({ task_type: 'fn:hand', ...over });
const QUICK_RETRY = { max_retries: 2, initial_delay_ms: 100, jitter: false };

async function open(hands = ['h']): Promise<{ scene: Scene; peers: HandPeer[] }> {
  const scene = await Scene.of(['a']);
  const peers: HandPeer[] = [];
  for (const name of hands) peers.push(await HandPeer.joins(scene, name, ['a'], { labels: [name] }));
  return { scene, peers };
}

/** A task whose first attempt was lost at `h` and whose second one runs at `i`. */
async function secondAttempt(over: Parameters<typeof task>[0] = {}) {
  const { scene, peers } = await open(['h', 'i']);
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
    const { scene, peers } = await open();
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
    const { scene, peers } = await open();
    const { uid } = await scene.submit('a', hand());
    const lease = await peers[0]!.leased(1);
    scene.mesh.failNextSync('a');
    await expect(peers[0]!.result('a', lease)).rejects.toMatchObject({ code: 'DISK_FULL' });
    expect((await scene.task('a', uid)).status).toBe('running');
    await scene.until('the store is open again', () => scene.scheduler('a').ready);
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
    const { scene, peers } = await open();
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
    const { scene, peers } = await open();
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
    const { scene, peers } = await open();
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
    const { scene, peers } = await open();
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
    const { scene, peers } = await open();
    const { uid } = await scene.submit('a', hand({ retry: retrySchema.parse({ max_retries: 0 }) }));
    const error = { code: 'ABORTED', message: 'ended before its time', retryable: true };
    await peers[0]!.result('a', await peers[0]!.leased(1), { status: 'cancelled', output: null, error });
    await peers[0]!.result('a', await peers[0]!.leased(2));
    expect(await scene.task('a', uid)).toMatchObject({ status: 'completed', attempt: 2, failures: 0 });
  });

  test('a task marked at_most_once fails with WORKER_LOST (P4)', async () => {
    const { scene, peers } = await open();
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
      const { scene, peers } = await open(['h', ...others]);
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
    const { scene, peers } = await open();
    const { uid } = await scene.submit('a', hand({ at_most_once: true }));
    peers[0]!.holding = [tokenOf(await peers[0]!.leased(1))];
    await scene.pass(10 * TAKEOVER_MS);
    expect((await scene.task('a', uid)).status).toBe('running');
  });

  test('a task whose workers are lost again and again becomes a dead letter, its history bounded', async () => {
    const { scene, peers } = await open();
    const { uid } = await scene.submit('a', hand());
    const record = await scene.ended('a', uid);
    expect(record).toMatchObject({ status: 'failed', dead_letter: true, error: { code: 'WORKER_LOST' } });
    expect(peers[0]!.leases).toHaveLength(LOST_ATTEMPTS_MAX + 1);
    expect(record.attempts).toHaveLength(ATTEMPT_HISTORY_MAX);
    expect(record.attempts.at(-1)!.attempt).toBe(LOST_ATTEMPTS_MAX);
  });

  test('only lost leases count against a peer, not cancelled ones', async () => {
    const { scene, peers } = await open();
    const { uid } = await scene.submit('a', hand());
    peers[0]!.holding = [tokenOf(await peers[0]!.leased(1))];
    await scene.run(scene.scheduler('a').cancelTask(uid, { reason: undefined, force: false }));
    expect(scene.scheduler('a').directory.find('h')).toMatchObject({ leases_kept: 0, leases_lost: 0 });
  });
});

describe('a timeout that the worker does not keep', () => {
  const TIMEOUT_MS = 1_500;
  /** Its grace, a beat that names the lease after that, and a look for it. */
  const ENDED_WITHIN_MS = TIMEOUT_MS + TIMEOUT_GRACE_MS + 2 * BEAT_INTERVAL_MS;

  async function held(over: Parameters<typeof task>[0] = {}) {
    const { scene, peers } = await open();
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
    const { scene, peers } = await open();
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
    const { scene, peers } = await open();
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
    const { scene, peers } = await open();
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
    const { scene, peers } = await open();
    const { uid } = await scene.submit('a', hand({ retry: retrySchema.parse(QUICK_RETRY) }));
    await peers[0]!.result('a', await peers[0]!.leased(1), { ...FAILED, error: broken(false) });
    expect(await scene.task('a', uid)).toMatchObject({ status: 'failed', failures: 1, dead_letter: true });
  });

  test('of a task marked at_most_once are not repeated, whatever its retries say (P4)', async () => {
    const { scene, peers } = await open();
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
    const { scene, peers } = await open();
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
    const { scene, peers } = await open();
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
    const { scene, peers } = await open(['h', 'i']);
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
    const { scene, peers } = await open(['h', 'i']);
    const { uid } = await scene.submit('a', hand({ requires: { labels: ['h'], peers: [] } }));
    const lease = await peers[0]!.leased(1);
    peers[0]!.holding = [tokenOf(lease)];
    await peers[1]!.ask('a', 'refuse', { items: [{ ...tokenOf(lease), reason: 'handed_back', message: '' }] });
    await scene.pass(100);
    expect((await scene.task('a', uid)).status).toBe('running');
  });
});

describe('cancel', () => {
  test('ends a task at once and tells its worker when that is durable', async () => {
    const { scene, peers } = await open();
    const { uid } = await scene.submit('a', hand());
    const lease = await peers[0]!.leased(1);
    const { record, cleanup_required } = await scene.run(
      scene.scheduler('a').cancelTask(uid, { reason: 'not wanted', force: true }),
    );
    expect(record).toMatchObject({ status: 'cancelled', error: { code: 'CANCELLED' } });
    expect(cleanup_required).toBe(true);
    await scene.until('the worker is told', () => peers[0]!.cancels.length > 0);
    expect(peers[0]!.cancels).toMatchObject([{ uid, attempt: lease.attempt, force: true, reason: 'not wanted' }]);
    await peers[0]!.result('a', lease);
    expect((await scene.task('a', uid)).status).toBe('cancelled');
  });

  test('a cancel that got lost is told again when a beat names the lease', async () => {
    const { scene, peers } = await open();
    const { uid } = await scene.submit('a', hand());
    const lease = await peers[0]!.leased(1);
    scene.mesh.board.faults = { loss: 1, delayMs: [0.1, 1] };
    await scene.run(scene.scheduler('a').cancelTask(uid, { reason: undefined, force: false }));
    await scene.pass(100);
    expect(peers[0]!.cancels).toEqual([]);
    scene.mesh.board.faults = { loss: 0, delayMs: [0.1, 1] };
    peers[0]!.holding = [tokenOf(lease)];
    await scene.until('the worker is told', () => peers[0]!.cancels.length > 0);
    expect(peers[0]!.cancels[0]).toMatchObject({ uid, attempt: 1, reason: 'the task has ended' });
  });

  test('a beat that names thousands of leases of ended tasks has all of them cancelled', async () => {
    const { scene, peers } = await open();
    const count = 3_000;
    const { feed_id, journal } = scene.feed('a');
    const ended = Array.from({ length: count }, (_, index) => taskRecord(`ended-${index}`, { status: 'completed' }));
    await scene.run(
      journal.turn((turn) => {
        for (const record of ended) turn.put(record);
      }),
    );
    peers[0]!.holding = ended.map(({ uid }) => ({ uid, feed_id, epoch: 1, attempt: 1 }));
    await peers[0]!.beat('a');
    await scene.pass(10);
    const messages = peers[0]!.messages.filter(({ method }) => method === 'cancel');
    expect(messages.every(({ params }) => (params['items'] as unknown[]).length <= 1_024)).toBe(true);
    expect(peers[0]!.cancels).toHaveLength(count);
  });
});

describe('logs', () => {
  test('keep the last lines of all attempts and count the others', async () => {
    const { scene, peers } = await open();
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

describe('times', () => {
  test('a delayed task starts not before its time', async () => {
    const { scene, peers } = await open();
    await scene.submit('a', hand({ delay_ms: 5_000 }));
    await scene.pass(4_900);
    expect(peers[0]!.leases).toEqual([]);
    await scene.pass(200);
    expect(peers[0]!.leases).toHaveLength(1);
  });

  test('a task that has not started at its deadline fails', async () => {
    const { scene } = await open([]);
    const wall = scene.peer('a').clock.wall();
    const deadline = new Date(wall + 5_000).toISOString();
    const { uid } = await scene.submit('a', hand({ deadline }));
    await scene.pass(4_500);
    expect((await scene.task('a', uid)).status).toBe('queued');
    expect(await scene.ended('a', uid)).toMatchObject({ status: 'failed', error: { code: 'DEADLINE_EXCEEDED' } });
  });

  test('a deadline does not end what has started', async () => {
    const { scene, peers } = await open();
    const deadline = new Date(scene.peer('a').clock.wall() + 2_000).toISOString();
    const { uid } = await scene.submit('a', hand({ deadline }));
    peers[0]!.holding = [tokenOf(await peers[0]!.leased(1))];
    await scene.pass(20_000);
    expect((await scene.task('a', uid)).status).toBe('running');
  });
});

describe('tasks that are states of their records', () => {
  const sleep = (duration_ms: number, over = {}) => task({ task_type: 'sleep', payload: { duration_ms }, ...over });

  test('sleep ends at its time and holds no slot, also over a restart', async () => {
    const scene = await Scene.of(['a'], { slots: 1 });
    const { uid } = await scene.submit('a', sleep(10_000));
    const other = await scene.submit('a', task({ task_type: 'echo' }));
    expect((await scene.ended('a', other.uid)).status).toBe('completed');
    await scene.restart('a');
    expect((await scene.task('a', uid)).status).toBe('running');
    const { output, started_at } = await scene.ended('a', uid);
    const slept = Date.parse((output as { slept_until: string }).slept_until) - Date.parse(started_at!);
    expect(slept).toBe(10_000);
  });

  test.each([
    ['too long to be a time', 1e300],
    ['longer than anything may take', DURATION_MS_MAX + 1],
    ['negative', -1],
    ['no number', 'a while'],
  ])('a sleep that is %s is refused, or fails when only its step makes it so', async (_what, duration_ms) => {
    const scene = await Scene.of(['a']);
    const payload = { duration_ms };
    await expect(scene.submit('a', task({ task_type: 'sleep', payload }))).rejects.toMatchObject({
      code: 'INVALID_PAYLOAD',
      message: expect.stringContaining('payload.duration_ms'),
    });
    const steps = [{ step_id: 's', action: 'sleep', inputs: { duration_ms: '${ input.duration_ms }' } }];
    const { uid } = await scene.submitWorkflow('a', { name: 'w', input: payload, steps });
    expect(await scene.endedWorkflow('a', uid)).toMatchObject({ status: 'failed', error: { code: 'INVALID_PAYLOAD' } });
    const { uid: next } = await scene.submit('a', task({ task_type: 'echo' }));
    expect((await scene.ended('a', next)).status).toBe('completed');
  });

  test('a sleep has a timeout like any action', async () => {
    const scene = await Scene.of(['a']);
    const long = await scene.submit('a', sleep(10_000, { timeout_ms: 1_000 }));
    const short = await scene.submit('a', sleep(1_000, { timeout_ms: 10_000 }));
    expect(await scene.ended('a', long.uid)).toMatchObject({ status: 'failed', error: { code: 'TIMEOUT' } });
    expect(await scene.ended('a', short.uid)).toMatchObject({ status: 'completed' });
  });

  test('approve waits for its answer, over a restart too', async () => {
    const scene = await Scene.of(['a']);
    const { uid } = await scene.submit('a', task({ task_type: 'approve', payload: { message: 'may I?' } }));
    await scene.until('it waits', async () => (await scene.task('a', uid)).status === 'input_required');
    expect(await scene.task('a', uid)).toMatchObject({ progress_message: 'may I?', worker_id: null });
    await scene.restart('a');
    const answer = { approve: true, data: { by: 'Ada' } };
    await scene.run(scene.scheduler('a').answerTask(uid, answer));
    expect(await scene.task('a', uid)).toMatchObject({
      status: 'completed',
      output: { approved: true, data: { by: 'Ada' } },
    });
    await expect(scene.run(scene.scheduler('a').answerTask(uid, answer))).rejects.toMatchObject({
      code: 'INVALID_STATE',
    });
  });

  test('of two answers at once one counts, the other is told so', async () => {
    const scene = await Scene.of(['a']);
    const { uid } = await scene.submit('a', task({ task_type: 'approve' }));
    await scene.pass(100);
    const { scheduler } = scene.peer('a');
    const both = await scene.run(
      Promise.allSettled([
        scheduler.answerTask(uid, { approve: true, data: null }),
        scheduler.answerTask(uid, { approve: false, data: null }),
      ]),
    );
    expect(both.map(({ status }) => status)).toEqual(['fulfilled', 'rejected']);
    expect((await scene.task('a', uid)).status).toBe('completed');
  });

  test('an approval that nobody gives in time has timed out, over a restart too', async () => {
    const scene = await Scene.of(['a']);
    const { uid } = await scene.submit('a', task({ task_type: 'approve', timeout_ms: 60_000 }));
    await scene.pass(1_000);
    await scene.restart('a');
    expect((await scene.task('a', uid)).status).toBe('input_required');
    expect(await scene.ended('a', uid)).toMatchObject({ status: 'failed', error: { code: 'TIMEOUT' } });
  });

  test('an approval that may be asked for again is asked for again', async () => {
    const scene = await Scene.of(['a']);
    const retry = retrySchema.parse({ max_retries: 1, initial_delay_ms: 1_000, jitter: false });
    const { uid } = await scene.submit('a', task({ task_type: 'approve', timeout_ms: 10_000, retry }));
    await scene.pass(10_500);
    expect((await scene.task('a', uid)).status).toBe('queued');
    await scene.pass(1_000);
    expect(await scene.task('a', uid)).toMatchObject({ status: 'input_required', attempt: 2 });
    expect((await scene.ended('a', uid)).failures).toBe(2);
  });
});

describe('counts', () => {
  test('tell queued and running tasks apart from those that wait for a person', async () => {
    const { scene } = await open([]);
    const { tasks } = scene.feed('a');
    await scene.submit('a', hand());
    await scene.submit('a', task({ task_type: 'approve' }));
    const { uid } = await scene.submit('a', task({ task_type: 'fn:work', payload: { ms: 5_000 } }));
    await scene.pass(100);
    expect(tasks.counts).toEqual({ queued: 1, running: 1 });
    await scene.ended('a', uid);
    expect(tasks.counts).toEqual({ queued: 1, running: 0 });
    await scene.restart('a');
    expect(scene.feed('a').tasks.counts).toEqual({ queued: 1, running: 0 });
  });
});
