import { describe, expect, test } from 'vitest';
import { requiresSchema } from '../../../dag/schema.ts';
import { DISPATCH_CLASSES_MAX, PROVIDERS_LOOK_UPS_MAX, TAKEOVER_MS } from '../../../scheduler/limits.ts';
import { HandPeer, tokenOf } from '../hand-peer.ts';
import { HeldDisk } from '../held-disk.ts';
import { Scene, task } from '../scene.ts';

const requires = (...labels: string[]) => requiresSchema.parse({ labels });
const hand = (over: Parameters<typeof task>[0] = {}) => task({ task_type: 'fn:hand', ...over });

async function open(): Promise<{ scene: Scene; peer: HandPeer }> {
  const scene = await Scene.of(['a']);
  return { scene, peer: await HandPeer.joins(scene, 'h', ['a']) };
}

/** One peer on a disk that the test holds, and a worker by hand. */
async function onHeldDisk(): Promise<{ scene: Scene; disk: HeldDisk; peer: HandPeer }> {
  const scene = new Scene();
  const disk = new HeldDisk();
  await scene.run(scene.mesh.start('a', { store: disk }));
  const peer = await HandPeer.joins(scene, 'h', ['a']);
  return { scene, disk, peer };
}

describe('a lease and the disk (P1)', () => {
  test('goes out not before its task is on the disk', async () => {
    const { scene, disk, peer } = await onHeldDisk();
    disk.hold();
    const submitted = scene.scheduler('a').api.submitTask(hand());
    await scene.pass(2_000);
    expect(peer.leases).toEqual([]);
    disk.release();
    await scene.run(submitted);
    await peer.leased(1);
  });

  test('of an ordinary task goes out before its own row is there', async () => {
    const { scene, disk, peer } = await onHeldDisk();
    peer.state.workers[0]!.slots = 0;
    await peer.beat('a');
    const { uid } = await scene.submit('a', hand());
    disk.hold();
    peer.state.workers[0]!.slots = 1;
    await peer.beat('a');
    await peer.leased(1);
    expect((await scene.task('a', uid)).status).toBe('queued');
  });

  test('of a task marked at_most_once goes out only after its own row', async () => {
    const { scene, disk, peer } = await onHeldDisk();
    peer.state.workers[0]!.slots = 0;
    await peer.beat('a');
    const { uid } = await scene.submit('a', hand({ at_most_once: true }));
    disk.hold();
    peer.state.workers[0]!.slots = 1;
    await peer.beat('a');
    await scene.pass(1_000);
    expect(peer.leases).toEqual([]);
    disk.release();
    await peer.leased(1);
    expect((await scene.task('a', uid)).status).toBe('running');
  });

  test('is not lost while a slow disk keeps it from being sent', async () => {
    const { scene, disk, peer } = await onHeldDisk();
    peer.state.workers[0]!.slots = 0;
    await peer.beat('a');
    const { uid } = await scene.submit('a', hand({ at_most_once: true }));
    disk.hold();
    peer.state.workers[0]!.slots = 1;
    await peer.beat('a');
    await scene.pass(3 * TAKEOVER_MS);
    expect(peer.leases).toEqual([]);
    disk.release();
    const lease = await peer.leased(1);
    await peer.result('a', lease);
    expect((await scene.task('a', uid)).status).toBe('completed');
  });

  test('is not sent when its row could not be written: the task is leased anew', async () => {
    const { scene, peer } = await open();
    peer.state.workers[0]!.slots = 0;
    await peer.beat('a');
    const { uid } = await scene.submit('a', hand({ at_most_once: true }));
    peer.state.workers[0]!.slots = 1;
    scene.mesh.failNextSync('a');
    await peer.beat('a');
    const lease = await peer.leased(1);
    expect(lease).toMatchObject({ uid, attempt: 1 });
    await scene.pass(3_000);
    expect(peer.leases).toHaveLength(1);
  });
});

describe('what a worker answers', () => {
  test.each([
    ['nothing', null],
    ['another shape', { items: 'none' }],
    ['refusals without a reason', { items: [{ uid: 'x' }] }],
  ])('%s does no harm: beats tell what became of the lease', async (_what, answer) => {
    const { scene, peer } = await open();
    peer.answers.set('lease', () => answer);
    const { uid } = await scene.submit('a', hand());
    const lease = await peer.leased(1);
    peer.holding = [tokenOf(lease)];
    await scene.pass(2 * TAKEOVER_MS);
    expect((await scene.task('a', uid)).status).toBe('running');
    await peer.result('a', lease);
    expect((await scene.task('a', uid)).status).toBe('completed');
  });

  test('a task that it is unable to run goes to another one, and waits when there is none', async () => {
    const { scene, peer } = await open();
    peer.answers.set('lease', (params) => ({
      items: (params['leases'] as never[]).map((lease) => ({ ...tokenOf(lease), reason: 'unable', message: '' })),
    }));
    const { uid } = await scene.submit('a', hand());
    await scene.pass(5_000);
    expect(peer.leases).toHaveLength(1);
    expect((await scene.task('a', uid)).placement).toMatchObject({
      considered: 0,
      chosen: null,
      reason: 'refused a moment ago by h',
    });
    const other = await HandPeer.joins(scene, 'i', ['a']);
    expect((await other.leased(1)).uid).toBe(uid);
  });
});

describe('the order of work', () => {
  test('higher priority first, then the older', async () => {
    const { scene, peer } = await open();
    peer.state.workers[0]!.slots = 0;
    await peer.beat('a');
    const uids: Record<string, string> = {};
    for (const [name, priority] of [
      ['low', 1],
      ['high', 9],
      ['later', 1],
    ] as const) {
      uids[name] = (await scene.submit('a', hand({ priority }))).uid;
      await scene.pass(5);
    }
    peer.state.workers[0]!.slots = 3;
    await peer.beat('a');
    await peer.leased(3);
    expect(peer.leases.map(({ uid }) => uid)).toEqual([uids['high'], uids['low'], uids['later']]);
  });

  test('what nobody can run never keeps others from being looked at, however much of it there is', async () => {
    const { scene, peer } = await open();
    const impossible = Array.from({ length: 2 * DISPATCH_CLASSES_MAX }, (_, index) =>
      scene.scheduler('a').api.submitTask(hand({ priority: 9, requires: requires(`nobody-${index}`) })),
    );
    await scene.run(Promise.all(impossible));
    const { uid } = await scene.submit('a', hand({ priority: 1 }));
    expect((await peer.leased(1)).uid).toBe(uid);
  });

  test('a paused queue starts nothing, not even what holds no slot; resumed, everything', async () => {
    const { scene, peer } = await open();
    const { scheduler } = scene.peer('a');
    await scene.run(scheduler.api.pauseQueue('maintenance'));
    const leased = await scene.submit('a', hand());
    const approve = await scene.submit('a', task({ task_type: 'approve' }));
    const sleep = await scene.submit('a', task({ task_type: 'sleep', payload: { duration_ms: 10 } }));
    const nested = await scene.submit(
      'a',
      task({
        task_type: 'workflow',
        payload: { workflow: { name: 'n', steps: [{ step_id: 's', action: 'echo' }] } as never },
      }),
    );
    await scene.restart('a');
    await scene.run(peer.network.connect('a'));
    await scene.pass(3_000);
    for (const { uid } of [leased, approve, sleep, nested]) {
      expect((await scene.task('a', uid)).status).toBe('queued');
    }
    await scene.run(scene.scheduler('a').api.resumeQueue());
    await peer.leased(1);
    expect((await scene.ended('a', sleep.uid)).status).toBe('completed');
    expect((await scene.ended('a', nested.uid)).status).toBe('completed');
    expect((await scene.task('a', approve.uid)).status).toBe('input_required');
  });

  test('resuming puts the queue in the order of the priorities of now', async () => {
    const { scene, peer } = await open();
    const { scheduler } = scene.peer('a');
    await scene.run(scheduler.api.pauseQueue(undefined));
    const first = await scene.submit('a', hand());
    await scene.pass(5);
    const second = await scene.submit('a', hand());
    const change = await scene.run(scheduler.api.setPriority(second.uid, { boost: 3 }, { requeue: false }));
    expect(change).toEqual({ old_priority: 1, new_priority: 4, new_queue_position: 1 });
    expect(await scene.run(scheduler.api.resumeQueue())).toMatchObject({ reordered: true });
    await peer.leased(2);
    expect(peer.leases.map(({ uid }) => uid)).toEqual([second.uid, first.uid]);
    expect(await scene.run(scheduler.api.resumeQueue())).toMatchObject({ reordered: false });
  });
});

describe('workers that are not connected', () => {
  test('are found in the DHT, dialled, and the placement says so', async () => {
    const { scene } = await open();
    const far = new HandPeer(scene, 'far', { labels: ['gpu'] });
    far.network.provide(['label:gpu']);
    const { uid } = await scene.submit('a', hand({ requires: requires('gpu') }));
    expect((await far.leased(1)).uid).toBe(uid);
    await scene.pass(100);
    expect((await scene.task('a', uid)).placement).toMatchObject({
      chosen: { peer_id: 'far' },
      found_by: 'dht',
    });
  });

  test('for many kinds of tasks are looked up a few at a time, and all of them', async () => {
    const { scene } = await open();
    const kinds = 100;
    const { network } = scene.peer('a');
    const asked = new Set<string>();
    let underWay = 0;
    let most = 0;
    network.findProviders = async (capability) => {
      asked.add(capability);
      most = Math.max(most, ++underWay);
      await new Promise<void>((resolve) => scene.world.at(50, resolve));
      underWay--;
      return [];
    };
    const submits = Array.from({ length: kinds }, (_, index) =>
      scene.scheduler('a').api.submitTask(hand({ requires: requires(`label-${index}`) })),
    );
    await scene.run(Promise.all(submits));
    await scene.until('all were looked up', () => asked.size === kinds);
    expect(most).toBe(PROVIDERS_LOOK_UPS_MAX);
  });

  test('that cannot be reached are asked for again, not all the time', async () => {
    const { scene } = await open();
    const far = new HandPeer(scene, 'far', { labels: ['gpu'] });
    far.network.provide(['label:gpu']);
    scene.mesh.board.cut('a', 'far');
    const { network } = scene.peer('a');
    const findProviders = network.findProviders.bind(network);
    let asked = 0;
    network.findProviders = async (...question) => {
      asked++;
      return await findProviders(...question);
    };
    await scene.submit('a', hand({ requires: requires('gpu') }));
    for (let other = 0; other < 200; other++) {
      await scene.submit('a', task({ task_type: 'echo' }));
      await scene.pass(20);
    }
    expect(far.leases).toEqual([]);
    expect(asked).toBeGreaterThan(1);
    expect(asked).toBeLessThan(10);
    scene.mesh.board.heal('a', 'far');
    await far.leased(1);
  });
});

describe('callers', () => {
  test('one with thousands of waiting tasks does not hold back the one task of another', async () => {
    const { scene, peer } = await open();
    peer.state.workers[0]!.slots = 1;
    await peer.beat('a');
    const submit = (submitted_by: string) => scene.scheduler('a').api.submitTask({ ...hand(), submitted_by });
    await scene.run(Promise.all(Array.from({ length: 10_000 }, () => submit('key:ann'))));
    const running = await peer.leased(1);
    const { record } = await scene.run(submit('key:ben'));
    await peer.result('a', running, { output: 1 });
    expect((await peer.leased(2)).uid).toBe(record.uid);
  });
});
