/** What is not the work of one part: workers that come and go, peers that part, a stop. */
import { describe, expect, test } from 'vitest';
import { requiresSchema } from '../../dag/schema.ts';
import { HandPeer, tokenOf } from './hand-peer.ts';
import { type Gate, gate, Scene, task } from './scene.ts';

const registration = (worker_id: string, slots = 2) => ({
  worker_id,
  capabilities: ['fn:held', 'held'],
  max_concurrent_tasks: slots,
  resource_limits: { cpu_cores: null, memory_gb: null },
  metadata: {},
});
const held = () => task({ task_type: 'fn:held', requires: requiresSchema.parse({ labels: ['held'] }) });
const GRACEFUL = { graceful: true, timeout_ms: 60_000 };

/** A peer whose action `fn:held` ends when the gate is opened. */
async function open(): Promise<{ scene: Scene; end: Gate }> {
  const end = gate();
  const scene = await Scene.of(['a'], {
    actions: {
      'fn:held': (_request, { signal }) => {
        const aborted = new Promise<never>((_resolve, reject) => {
          signal.addEventListener('abort', () => reject(new Error('aborted')));
        });
        return Promise.race([end.opened.then(() => 'held'), aborted]);
      },
    },
  });
  return { scene, end };
}

const workers = (scene: Scene) =>
  scene
    .scheduler('a')
    .parts.pool.states(null)
    .map(({ worker_id, status }) => [worker_id, status]);

describe('a worker', () => {
  test('is registered for good, and given up for good', async () => {
    const { scene } = await open();
    await scene.run(scene.scheduler('a').api.registerWorker(registration('w')));
    await scene.restart('a');
    expect(workers(scene)).toContainEqual(['w', 'active']);
    await scene.run(scene.scheduler('a').api.unregisterWorker('w', GRACEFUL));
    await scene.restart('a');
    expect(workers(scene).map(([id]) => id)).not.toContain('w');
    await expect(scene.run(scene.scheduler('a').api.unregisterWorker('w', GRACEFUL))).rejects.toMatchObject({
      code: 'INVALID_STATE',
    });
  });

  test('given up gracefully ends what it runs first', async () => {
    const { scene, end } = await open();
    const { scheduler } = scene.peer('a');
    await scene.run(scheduler.api.registerWorker(registration('w')));
    const { uid } = await scene.submit('a', held());
    await scene.until('it runs', () => scheduler.parts.pool.running === 1);
    const given_up = scheduler.api.unregisterWorker('w', GRACEFUL);
    await scene.pass(1_000);
    expect(workers(scene)).toContainEqual(['w', 'draining']);
    end.open();
    expect(await scene.run(given_up)).toEqual({ completed_tasks: 1, abandoned_tasks: 0 });
    expect((await scene.ended('a', uid)).status).toBe('completed');
  });

  test('given up at once hands back what it runs, of other owners too', async () => {
    const { scene } = await open();
    const owner = await HandPeer.joins(scene, 'h', ['a']);
    const { scheduler } = scene.peer('a');
    await scene.run(scheduler.api.registerWorker(registration('w')));
    const { uid } = await scene.submit('a', held());
    const token = { uid: 'theirs', feed_id: 'f', epoch: 1, attempt: 1 };
    const theirs = { ...token, worker_id: 'w', action: 'fn:held', payload: {}, timeout_ms: null };
    await owner.ask('a', 'lease', { leases: [{ ...theirs, requires: requiresSchema.parse({}) }], heirs: [] });
    expect(await scene.run(scheduler.api.unregisterWorker('w', { graceful: false, timeout_ms: 0 }))).toEqual({
      completed_tasks: 0,
      abandoned_tasks: 2,
    });
    await scene.pass(100);
    expect((await scene.task('a', uid)).status).toBe('queued');
    expect(owner.messages.filter(({ method }) => method === 'refuse')).toMatchObject([
      { params: { items: [{ ...token, reason: 'handed_back' }] } },
    ]);
  });

  test('given up by two calls at once is given up, and both are told when nothing runs', async () => {
    const { scene, end } = await open();
    const { scheduler } = scene.peer('a');
    await scene.run(scheduler.api.registerWorker(registration('w')));
    await scene.submit('a', held());
    await scene.until('it runs', () => scheduler.parts.pool.running === 1);
    const both = Promise.all([
      scheduler.api.unregisterWorker('w', GRACEFUL),
      scheduler.api.unregisterWorker('w', GRACEFUL),
    ]);
    await scene.pass(100);
    end.open();
    const before = scene.world.now;
    await scene.run(both);
    expect(scene.world.now - before).toBeLessThan(1_000);
    expect(workers(scene).map(([id]) => id)).not.toContain('w');
  });

  test('registered anew while it is being given up stays', async () => {
    const { scene, end } = await open();
    const { scheduler } = scene.peer('a');
    await scene.run(scheduler.api.registerWorker(registration('w')));
    await scene.submit('a', held());
    await scene.until('it runs', () => scheduler.parts.pool.running === 1);
    const given_up = scheduler.api.unregisterWorker('w', GRACEFUL);
    await scene.pass(100);
    await scene.run(scheduler.api.registerWorker(registration('w', 7)));
    end.open();
    await scene.run(given_up);
    expect(workers(scene)).toContainEqual(['w', 'active']);
    await scene.restart('a');
    expect(workers(scene)).toContainEqual(['w', 'active']);
  });

  test('is one of a bounded number', async () => {
    const { scene } = await open();
    const { scheduler } = scene.peer('a');
    const outcomes = await scene.run(
      Promise.allSettled(
        Array.from({ length: 70 }, (_, index) => scheduler.api.registerWorker(registration(`w${index}`))),
      ),
    );
    expect(scheduler.parts.pool.count).toBe(64);
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(63);
  });
});

describe('peers that part', () => {
  test('hand back what each runs for the other, but at_most_once stays where it runs', async () => {
    const { scene } = await open();
    const peer = await HandPeer.joins(scene, 'h', ['a']);
    const ordinary = await scene.submit('a', task({ task_type: 'fn:hand' }));
    const once = await scene.submit('a', task({ task_type: 'fn:hand', at_most_once: true }));
    await peer.leased(2);
    peer.holding = peer.leases.map(tokenOf);
    const worker_id = scene.scheduler('a').parts.pool.states(null)[0]!.worker_id;
    const theirs = { uid: 'theirs', feed_id: 'f', epoch: 1, attempt: 1, worker_id, action: 'fn:held', payload: {} };
    const lease = { ...theirs, requires: requiresSchema.parse({}), timeout_ms: null };
    await peer.ask('a', 'lease', { leases: [lease], heirs: [] });
    const released = await scene.run(scene.scheduler('a').api.releasePeer('h'));
    expect(released).toEqual({ handed_back: 2 });
    expect((await scene.task('a', ordinary.uid)).status).toBe('queued');
    expect((await scene.task('a', once.uid)).status).toBe('running');
    // Neither side gives the other work on this connection any more.
    await scene.pass(5_000);
    expect(peer.leases).toHaveLength(2);
    expect(await peer.ask('a', 'lease', { leases: [{ ...lease, attempt: 2 }], heirs: [] })).toMatchObject({
      items: [{ reason: 'busy' }],
    });
  });

  test('by two calls at once part once', async () => {
    const { scene } = await open();
    const peer = await HandPeer.joins(scene, 'h', ['a']);
    await scene.submit('a', task({ task_type: 'fn:hand' }));
    await peer.leased(1);
    const { scheduler } = scene.peer('a');
    const both = await scene.run(Promise.all([scheduler.api.releasePeer('h'), scheduler.api.releasePeer('h')]));
    expect(both.map(({ handed_back }) => handed_back)).toEqual([1, 0]);
  });
});

describe('a stop', () => {
  test('refuses what comes after it, and says that another peer can be asked', async () => {
    const { scene } = await open();
    const { scheduler } = scene.peer('a');
    await scene.run(scheduler.stop());
    await scene.run(scheduler.stop());
    const stopped = { code: 'PEER_STOPPED', retryable: true };
    await expect(scene.run(scheduler.api.submitTask(task()))).rejects.toMatchObject(stopped);
    await expect(scene.run(scheduler.api.pauseQueue(undefined))).rejects.toMatchObject(stopped);
    await expect(scene.run(scheduler.api.cancelTask('u', { reason: undefined, force: false }))).rejects.toMatchObject(
      stopped,
    );
  });

  test('loses nothing: what ran runs again after the next start, at_most_once fails', async () => {
    const { scene, end } = await open();
    const ordinary = await scene.submit('a', task({ task_type: 'fn:held' }));
    const once = await scene.submit('a', task({ task_type: 'fn:held', at_most_once: true }));
    await scene.until('they run', () => scene.scheduler('a').parts.pool.running === 2);
    await scene.run(scene.scheduler('a').stop());
    expect((await scene.task('a', ordinary.uid)).status).toBe('queued');
    expect(await scene.task('a', once.uid)).toMatchObject({ status: 'failed', error: { code: 'WORKER_LOST' } });
    end.open();
    await scene.restart('a');
    expect((await scene.ended('a', ordinary.uid)).status).toBe('completed');
  });
});
