/** What a member may do follows from its certificate, in every method, and may change at any time. */
import { describe, expect, test } from 'vitest';
import { requiresSchema } from '../../dag/schema.ts';
import { METHODS } from '../../scheduler/inbound.ts';
import { FULL_MEMBER, METHOD_ROLES, type Membership, type Method, ROLES, type Role } from '../../scheduler/roles.ts';
import { HandFeed } from './hand-feed.ts';
import { HandPeer, hand, resultOf, tokenOf } from './hand-peer.ts';
import { Scene, task, workflow } from './scene.ts';

const BEAT_MS = 1_000;

function member(roles: readonly Role[], offers: readonly string[] | null = null): Membership {
  return { roles: new Set(roles), offers };
}

const without = (...roles: readonly Role[]) => member(ROLES.filter((role) => !roles.includes(role)));

/** Started peers with these certificates. */
async function open(certificates: Record<string, Membership>): Promise<Scene> {
  const scene = new Scene();
  for (const [name, membership] of Object.entries(certificates)) {
    scene.mesh.board.memberships.set(name, membership);
    await scene.mesh.start(name, { slots: 4, labels: [`on-${name}`] });
  }
  await scene.pass(2 * BEAT_MS);
  return scene;
}

const certify = (scene: Scene, name: string, membership: Membership | null) =>
  scene.mesh.board.memberships.set(name, membership);
const owns = (scene: Scene, name: string, feedId: string) => scene.scheduler(name).parts.feeds.has(feedId);
const followersOf = (scene: Scene, name: string) => scene.feed(name).feed.followers.map(({ peer_id }) => peer_id);

async function whyWaits(scene: Scene, uid: string): Promise<string | undefined> {
  await scene.pass(2 * BEAT_MS);
  return scene.scheduler('a').api.whyWaiting([uid])[uid]?.reason;
}

describe('the table of roles', () => {
  test('has a line for every method, and no other', () => {
    expect(Object.keys(METHOD_ROLES).sort()).toEqual([...METHODS].sort());
  });

  const NEEDING = (as: 'caller' | 'callee') =>
    (Object.keys(METHOD_ROLES) as Method[]).filter((method) => METHOD_ROLES[method][as].length > 0);

  /** A peer `a` at rest, and a peer by hand with a lease of it and a feed that `a` follows. */
  async function atRest() {
    const scene = await open({ a: FULL_MEMBER });
    const h = await HandPeer.joins(scene, 'h', ['a']);
    const feed = new HandFeed(h, 'feedfeedfeedfeedfeed', ['a']);
    await scene.run(feed.push('a', []));
    const { uid } = await scene.submit('a', hand());
    const lease = await h.leased(1);
    h.holding = [tokenOf(lease)];
    await h.beat('a');
    h.beating = false;
    await scene.pass(100);
    const { worker_id } = scene.scheduler('a').parts.pool.states(null)[0]!;
    const line = { epoch: 9, base_seq: 9, owner: 'h', nonce: 'x' };
    const mine = { ...tokenOf(lease), uid: 'u', feed_id: 'f' };
    const messages: Record<Method, unknown> = {
      hello: h.state,
      beat: { state: h.state, holding: [], knows: [] },
      describe: {},
      lease: { leases: [{ ...lease, ...mine, worker_id, action: 'fn:work' }], heirs: [] },
      refuse: { items: [{ ...tokenOf(lease), reason: 'handed_back', message: '' }] },
      progress: { items: [{ ...tokenOf(lease), percent: 50, message: 'x', lines: [] }] },
      result: { results: [resultOf(lease)] },
      cancel: { items: [{ ...mine, force: true, reason: '' }] },
      claim: { found_by: 'connected', state: { ...h.state, name: 'claimed' } },
      push: feed.message(feed.commit(feed.feed)),
      pull: { feed_id: scene.feed('a').feed_id, after: { seq: 0, uid: '' } },
      takeover: { feed_id: scene.feed('a').feed_id, line },
      handover: { feed_id: scene.feed('a').feed_id, line, root_uid: 'u', part: 0, last: true, records: [] },
      reserve: { items: [{ kind: 'task', id: 'x', content_hash: '' }] },
      locate: { items: [], hops: 0, asked: [] },
      call: { tool: 'echo', input: {}, hops: 0 },
    };
    const known = async () => {
      const { parts } = scene.scheduler('a');
      const { peers, pool, feeds, followed } = parts;
      return JSON.stringify([
        ...[peers.find('h'), pool.running, feeds.counts, [...scene.peer('a').store.feeds]],
        ...[followed.find(feed.feed.feed_id)?.cursor, await scene.task('a', uid)],
      ]);
    };
    return { scene, h, messages, known };
  }

  test.each(NEEDING('caller'))('%s from a peer without the role is FORBIDDEN, and changes nothing', async (method) => {
    const { scene, h, messages, known } = await atRest();
    certify(scene, 'h', without(...METHOD_ROLES[method].caller));
    const before = await known();
    const asked = h.ask('a', method, messages[method]);
    await expect(asked).rejects.toMatchObject({ code: 'FORBIDDEN', retryable: false });
    await expect(asked).rejects.toThrow(
      new RegExp(`"${method}" from peer h: it needs the role "${METHOD_ROLES[method].caller[0]}".*certificate`),
    );
    expect(await known()).toBe(before);
  });

  test.each(NEEDING('callee'))('%s at a peer without the role is FORBIDDEN, and changes nothing', async (method) => {
    const { scene, h, messages, known } = await atRest();
    certify(scene, 'a', without(...METHOD_ROLES[method].callee));
    const before = await known();
    const asked = h.ask('a', method, messages[method]);
    await expect(asked).rejects.toMatchObject({ code: 'FORBIDDEN', details: { peer: 'a' } });
    expect(await known()).toBe(before);
  });

  test.each(METHODS)(
    '%s from who is no member (any more) is NOT_A_MEMBER, and leaves nothing behind',
    async (method) => {
      const { scene, h, messages, known } = await atRest();
      certify(scene, 'h', null);
      const before = await known();
      await expect(h.ask('a', method, messages[method as Method])).rejects.toMatchObject({
        code: 'NOT_A_MEMBER',
        retryable: false,
      });
      expect(await known()).toBe(before);
    },
  );
});

describe('a peer without the role "work"', () => {
  test('gets no lease, and the task says why', async () => {
    const scene = await open({ a: without('work'), w: without('work') });
    const { uid } = await scene.submit('a', task());
    const reason = await whyWaits(scene, uid);
    expect(reason).toMatch(/^fn:work: the certificate of .*w.* does not let it work/);
    expect(
      scene
        .scheduler('a')
        .api.workers()
        .map(({ actions }) => actions),
    ).toEqual([[], []]);
    certify(scene, 'w', FULL_MEMBER);
    expect(await scene.ended('a', uid)).toMatchObject({ status: 'completed', peer_id: 'w' });
  });

  test('that loses it while it runs something is done with: it runs elsewhere, long before the peer would be missed', async () => {
    const scene = await open({ a: FULL_MEMBER });
    const h = await HandPeer.joins(scene, 'h', ['a']);
    const { uid } = await scene.submit('a', hand());
    const lease = await h.leased(1);
    h.holding = [tokenOf(lease)];
    await h.beat('a');
    certify(scene, 'h', without('work'));
    const i = await HandPeer.joins(scene, 'i', ['a']);
    const other = await i.leased(1);
    expect(other.attempt).toBe(2);
    await expect(h.result('a', lease)).rejects.toMatchObject({ code: 'FORBIDDEN' });
    await i.result('a', other);
    expect(await scene.task('a', uid)).toMatchObject({ status: 'completed', peer_id: 'i' });
  });

  test('refuses a lease that was on its way: it has not begun, even where it may begin only once', async () => {
    const scene = await open({ a: without('work'), w: FULL_MEMBER });
    const sees = scene.peer('w').network;
    // The owner has not heard of the new certificate yet.
    const value = (peer: string) => (peer === 'w' ? without('work') : FULL_MEMBER);
    Object.defineProperty(sees, 'membership', { value, configurable: true });
    const { uid } = await scene.submit('a', task({ at_most_once: true }));
    await scene.pass(2 * BEAT_MS);
    expect(await scene.task('a', uid)).toMatchObject({ status: 'queued' });
    Reflect.deleteProperty(sees, 'membership');
    await scene.pass(60_000);
    expect(await scene.task('a', uid)).toMatchObject({ status: 'completed', peer_id: 'w' });
  });
});

describe('what a certificate does not let a peer offer', () => {
  test('is not believed: neither actions nor labels, but for those that a pattern names', async () => {
    const scene = await open({ a: without('work'), w: member(ROLES, ['echo', 'fn:w*', 'on-*']) });
    const worker = () =>
      scene
        .scheduler('a')
        .api.workers()
        .find(({ peer_id }) => peer_id === 'w')!;
    expect(worker()).toMatchObject({ actions: ['echo', 'fn:work'], labels: ['on-w'] });
    const there = await scene.submit('a', task());
    expect(await scene.ended('a', there.uid)).toMatchObject({ peer_id: 'w' });
    certify(scene, 'w', member(ROLES, ['fn:work']));
    const labelled = await scene.submit('a', task({ requires: requiresSchema.parse({ labels: ['on-w'] }) }));
    expect(await whyWaits(scene, labelled.uid)).toMatch(/^label on-w: the certificate of w does not let it work so/);
    const flaky = await scene.submit('a', task({ task_type: 'fn:flaky' }));
    expect(await whyWaits(scene, flaky.uid)).toMatch(/^fn:flaky: the certificate of a, w does not let it work so/);
  });

  test('is not announced, and the peer says so when it starts', async () => {
    const scene = new Scene({ trace: true });
    certify(scene, 'w', member(ROLES, ['echo']));
    await scene.mesh.start('w', { labels: ['gpu'] });
    expect([...scene.peer('w').network.capabilities]).toEqual(['action:echo']);
    expect(scene.scheduler('w').parts.selfState.withheld()).toEqual(['fn:flaky', 'fn:work', 'gpu']);
    expect(scene.world.trace!.join('\n')).toMatch(/certificate does not let it offer some capabilities/);
  });
});

describe('a peer without the role "replicate"', () => {
  test('is never chosen as a follower, and is one no more when it loses the role', async () => {
    const scene = await open({ a: FULL_MEMBER, b: without('replicate'), c: FULL_MEMBER });
    await scene.until('one counts', () => scene.feed('a').replicas.copies === 2);
    expect(followersOf(scene, 'a')).toEqual(['c']);
    certify(scene, 'b', FULL_MEMBER);
    certify(scene, 'c', without('replicate'));
    await scene.until('the other one is', () => followersOf(scene, 'a').join() === 'b');
    await scene.until('and counts', () => scene.feed('a').replicas.copies === 2);
  });

  test('takes no feed over', async () => {
    const scene = await open({ a: FULL_MEMBER, b: FULL_MEMBER, c: without('replicate') });
    await scene.run(
      scene.scheduler('a').api.submitWorkflow(workflow({ name: 'w', steps: [{ step_id: 's', action: 'approve' }] })),
    );
    await scene.until('one counts', () => scene.feed('a').replicas.copies === 2);
    const { feed_id } = scene.feed('a');
    certify(scene, 'b', without('replicate'));
    scene.mesh.kill('a');
    await scene.pass(60_000);
    expect(['b', 'c'].filter((name) => owns(scene, name, feed_id))).toEqual([]);
    certify(scene, 'b', FULL_MEMBER);
    await scene.until('it may again', () => owns(scene, 'b', feed_id));
  });
});

test('a peer that may only work is shown the history of a feed, and no row of it', async () => {
  const scene = await open({ a: FULL_MEMBER });
  const h = await HandPeer.joins(scene, 'h', ['a']);
  await scene.submit('a', task());
  await scene.pass(BEAT_MS);
  const rowsFor = async (roles: readonly Role[]) => {
    certify(scene, 'h', member(roles));
    const { feed_id } = scene.feed('a');
    const answer = (await h.ask('a', 'pull', { feed_id, after: { seq: 0, uid: '' } })) as { feed: object; rows: [] };
    expect(answer.feed).toMatchObject({ feed_id });
    return answer.rows.length;
  };
  expect(await rowsFor(['work'])).toBe(0);
  expect(await rowsFor(['replicate'])).toBeGreaterThan(0);
});

describe('a peer without the role "submit"', () => {
  const refused = { code: 'FORBIDDEN', retryable: false, message: expect.stringContaining('may not submit') };

  test('refuses what its clients submit, and says what to do', async () => {
    const scene = await open({ a: without('submit'), b: FULL_MEMBER });
    const head = scene.head('a');
    await expect(scene.submit('a', task())).rejects.toMatchObject(refused);
    await expect(scene.submit('a', task({ task_id: 't' }))).rejects.toMatchObject(refused);
    await expect(
      scene.submitWorkflow('a', { name: 'w', steps: [{ step_id: 's', action: 'echo' }] }),
    ).rejects.toMatchObject(refused);
    await scene.pass(10 * BEAT_MS);
    expect(scene.head('a')).toBeLessThanOrEqual(head + 1); // its replica set may have been written
    expect(scene.scheduler('a').parts.feeds.counts).toEqual({ queued: 0, running: 0 });
  });

  test('goes on with what it has taken over, and answers for it', async () => {
    const scene = await open({ a: FULL_MEMBER, b: without('submit') });
    const { uid } = await scene.submit('a', task({ task_id: 't', delay_ms: 20_000 }));
    await scene.until('it counts', () => scene.feed('a').replicas.copies === 2);
    scene.mesh.kill('a');
    expect(await scene.ended('b', uid)).toMatchObject({ status: 'completed', peer_id: 'b' });
    const again = scene.scheduler('b').api.submitTask(task({ task_id: 't', delay_ms: 20_000 }));
    expect(await scene.run(again)).toMatchObject({ duplicate: true, record: { uid } });
    const retry = scene.scheduler('b').api.retryTask(uid, { max_retries: undefined, timeout_ms: undefined });
    await expect(scene.run(retry)).rejects.toMatchObject({ code: 'INVALID_STATE' });
  });
});

test('a peer that may own no feed any more is not believed to own one: what it has goes on elsewhere', async () => {
  const scene = await open({ a: FULL_MEMBER, b: FULL_MEMBER, c: FULL_MEMBER });
  const { uid } = await scene.submit('a', task({ delay_ms: 30_000 }));
  await scene.until('it counts', () => scene.feed('a').replicas.copies === 2);
  const { feed_id } = scene.feed('a');
  const [heir] = followersOf(scene, 'a') as [string];
  certify(scene, 'a', member(['work']));
  await scene.until('the follower owns it', () => owns(scene, heir, feed_id));
  expect(await scene.ended(heir, uid)).toMatchObject({ status: 'completed' });
});
