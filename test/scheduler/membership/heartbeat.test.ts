import { describe, expect, test } from 'vitest';
import { requiresSchema } from '../../../dag/schema.ts';
import { CLAIM_INTERVAL_MS, OFFER_CLASSES_MAX, TAKEOVER_MS } from '../../../scheduler/limits.ts';
import { HandPeer, tokenOf } from '../hand-peer.ts';
import { gate, Scene, task } from '../scene.ts';

const requires = (...labels: string[]) => requiresSchema.parse({ labels });
const hand = (over: Parameters<typeof task>[0] = {}) => task({ task_type: 'fn:hand', ...over });
const waiting = (action: string, count = 1) => [{ action, requires: requires(), count, max_priority: 1 }];

describe('a beat', () => {
  test('names the leases of its receiver, running and kept, and nobody else’s', async () => {
    const held = gate();
    const scene = await Scene.of(['a'], {
      actions: {
        'fn:held': async () => {
          await held.opened;
          return null;
        },
      },
    });
    const owner = await HandPeer.joins(scene, 'h', ['a']);
    const other = await HandPeer.joins(scene, 'i', ['a']);
    const worker_id = scene.scheduler('a').parts.pool.states(null)[0]!.worker_id;
    const token = { uid: 'u', feed_id: 'f', epoch: 1, attempt: 3 };
    const lease = { ...token, worker_id, action: 'fn:held', payload: {}, requires: requires(), timeout_ms: null };
    owner.answers.set('result', () => Promise.reject(new Error('not now')));
    expect(await owner.ask('a', 'lease', { leases: [lease], heirs: [] })).toEqual({ items: [] });
    await scene.pass(1_500);
    const holdingOf = (peer: HandPeer) => peer.messages.findLast(({ method }) => method === 'beat')!.params['holding'];
    expect(holdingOf(owner)).toEqual([token]);
    expect(holdingOf(other)).toEqual([]);
    held.open();
    await scene.pass(1_500);
    expect(holdingOf(owner)).toEqual([token]); // its owner has not acknowledged the result
    owner.answers.delete('result');
    await scene.pass(2_500);
    expect(holdingOf(owner)).toEqual([]);
  });

  test('names peers to each other, and they meet', async () => {
    const scene = await Scene.of(['a']);
    const h = await HandPeer.joins(scene, 'h', ['a']);
    const i = new HandPeer(scene, 'i');
    h.answers.set('beat', () => ({}));
    await h.ask('a', 'beat', { state: h.state, holding: [], knows: [{ peer_id: 'i', addresses: ['sim:i'] }] });
    await scene.until('they are connected', () => i.network.connected().includes('a'));
  });

  test('of a peer that is stopping or stopped has no lease called back', async () => {
    const scene = await Scene.of(['a']);
    const peer = await HandPeer.joins(scene, 'h', ['a']);
    const { uid } = await scene.submit('a', hand({ at_most_once: true }));
    const lease = await peer.leased(1);
    peer.holding = [tokenOf(lease)];
    await scene.run(scene.scheduler('a').stop());
    await peer.beat('a');
    await scene.pass(1_000);
    expect(peer.cancels).toEqual([]);
    await scene.restart('a');
    await scene.run(peer.network.connect('a'));
    await scene.ownsAgain('a');
    await peer.result('a', lease);
    expect((await scene.task('a', uid)).status).toBe('completed');
  });
});

describe('a peer that stood still (P11)', () => {
  test('does not take its own silence for that of its workers', async () => {
    const scene = await Scene.of(['a']);
    const peer = await HandPeer.joins(scene, 'h', ['a']);
    const { uid } = await scene.submit('a', hand({ at_most_once: true }));
    const lease = await peer.leased(1);
    peer.holding = [tokenOf(lease)];
    await scene.pass(2_000);
    // Everything that is said to it while it sleeps is lost.
    scene.mesh.board.faults = { loss: 1, delayMs: [0.1, 1] };
    const asleepMs = 4 * TAKEOVER_MS;
    scene.peer('a').clock.sleep(asleepMs);
    await scene.pass(asleepMs + 1);
    scene.mesh.board.faults = { loss: 0, delayMs: [0.1, 1] };
    await scene.pass(3_000);
    expect((await scene.task('a', uid)).status).toBe('running');
    await peer.result('a', lease);
    expect((await scene.task('a', uid)).status).toBe('completed');
  });

  test('still gives up a worker that stays silent after it', async () => {
    const scene = await Scene.of(['a']);
    const peer = await HandPeer.joins(scene, 'h', ['a']);
    const { uid } = await scene.submit('a', hand({ at_most_once: true }));
    await peer.leased(1);
    peer.beating = false;
    scene.peer('a').clock.sleep(4 * TAKEOVER_MS);
    await scene.pass(4 * TAKEOVER_MS + 2_000);
    expect((await scene.task('a', uid)).status).toBe('running');
    expect(await scene.ended('a', uid)).toMatchObject({ error: { code: 'WORKER_LOST' } });
  });
});

describe('claims', () => {
  test('an idle peer asks the owner of waiting work for it, not more often than it may', async () => {
    const scene = await Scene.of(['a']);
    const owner = await HandPeer.joins(scene, 'h', ['a']);
    owner.state.waiting = waiting('echo');
    const claims = () => owner.messages.filter(({ method }) => method === 'claim');
    await owner.beat('a');
    await scene.until('it claims', () => claims().length > 0);
    expect(claims()[0]!.params).toMatchObject({ found_by: 'connected', state: { name: 'a' } });
    for (let beat = 0; beat < 20; beat++) await owner.beat('a');
    await scene.pass(1);
    expect(claims().length).toBeLessThanOrEqual(2 + Math.ceil((20 * 4) / CLAIM_INTERVAL_MS));
  });

  test('it does not claim what it cannot run', async () => {
    const scene = await Scene.of(['a']);
    const owner = await HandPeer.joins(scene, 'h', ['a']);
    owner.state.waiting = waiting('fn:nobody');
    await scene.pass(5_000);
    expect(owner.messages.map(({ method }) => method)).not.toContain('claim');
  });

  test('a claim shows the owner a free slot at once', async () => {
    const scene = await Scene.of(['a']);
    const peer = await HandPeer.joins(scene, 'h', ['a']);
    peer.state.workers[0]!.slots = 0;
    await peer.beat('a');
    await scene.submit('a', hand());
    await scene.pass(20);
    expect(peer.leases).toEqual([]);
    peer.state.workers[0]!.slots = 1;
    await peer.ask('a', 'claim', { found_by: 'connected', state: peer.state });
    await scene.pass(20);
    expect(peer.leases).toHaveLength(1);
  });
});

describe('offers', () => {
  test('of tasks that found no slot are gossiped, of bounded size, and end with them', async () => {
    const scene = await Scene.of(['a']);
    const offers: { classes: unknown[] }[] = [];
    const listener = new HandPeer(scene, 'far');
    listener.network.attach(
      {
        onMessage: async () => ({}),
        onOffer: (_from, offer) => offers.push(offer as { classes: unknown[] }),
        onConnected() {},
        onDisconnected() {},
      },
      () => listener.state,
    );
    const submits = Array.from({ length: 2 * OFFER_CLASSES_MAX }, (_, index) =>
      scene.scheduler('a').api.submitTask(hand({ requires: requires(`label-${index}`) })),
    );
    await scene.run(Promise.all(submits));
    await scene.until('an offer comes', () => offers.length > 0);
    for (const { classes } of offers) expect(classes.length).toBeLessThanOrEqual(OFFER_CLASSES_MAX);
    await scene.run(scene.scheduler('a').api.clearQueue('queued'));
    await scene.pass(1_000);
    const before = offers.length;
    await scene.pass(10_000);
    expect(offers.length).toBe(before);
  });

  test('a peer that hears of work it can run dials the owner and claims', async () => {
    const scene = await Scene.of(['a']);
    const far = new HandPeer(scene, 'far');
    far.network.publish({ owner: 'far', addresses: ['sim:far'], classes: waiting('echo') });
    await scene.until('it claims', () => far.messages.some(({ method }) => method === 'claim'));
    expect(far.messages.find(({ method }) => method === 'claim')!.params).toMatchObject({ found_by: 'offer' });
  });

  test('an owner that cannot be reached is not dialled for each of its offers', async () => {
    const scene = await Scene.of(['a']);
    const far = new HandPeer(scene, 'far');
    const { network } = scene.peer('a');
    let dials = 0;
    network.connect = async () => {
      dials++;
      throw new Error('it cannot be reached');
    };
    for (let offer = 0; offer < 20; offer++) {
      far.network.publish({ owner: 'far', addresses: [], classes: waiting('echo') });
      await scene.pass(500);
    }
    expect(dials).toBeGreaterThan(0);
    expect(dials).toBeLessThanOrEqual(3);
  });

  test('one in the name of another peer makes nobody dial that peer', async () => {
    const scene = await Scene.of(['a']);
    const far = new HandPeer(scene, 'far');
    const named = new HandPeer(scene, 'named');
    far.network.publish({ owner: 'named', addresses: ['sim:named'], classes: waiting('echo') });
    await scene.pass(5_000);
    expect(named.messages).toEqual([]);
    expect(scene.peer('a').network.connected()).toEqual([]);
  });

  test.each([[null], [{ owner: 'far' }], ['text'], [{ owner: 'far', addresses: [], classes: [{ action: 1 }] }]])(
    'one that cannot be read is ignored: %j',
    async (offer) => {
      const scene = await Scene.of(['a']);
      const far = new HandPeer(scene, 'far');
      far.network.publish(offer as never);
      await scene.pass(1_000);
      expect(far.messages).toEqual([]);
    },
  );
});

test('a stopped peer has no timers left but none of its own', async () => {
  const scene = await Scene.of(['a']);
  await scene.submit('a', task({ task_type: 'sleep', payload: { duration_ms: 60_000 } }));
  await scene.submit('a', hand());
  await scene.pass(1_000);
  await scene.run(scene.scheduler('a').stop());
  scene.peer('a').alive = false; // its network would dial others
  await scene.pass(10_000);
  const { steps } = scene.world;
  await scene.pass(600_000);
  expect(scene.world.steps - steps).toBe(0);
});
