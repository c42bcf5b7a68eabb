/** Whose word counts for a worker about who owns a feed (P9): that of who gave the leases, and of who it named. */
import { describe, expect, test } from 'vitest';
import { newFeed } from '../../../scheduler/storage/feed-lines.ts';
import { HandPeer, hand, tokenOf } from '../hand-peer.ts';
import { Scene, task } from '../scene.ts';

const HELD = { force: true, reason: 'mine now' };

/** A real worker `w` that holds a lease of a peer by hand, `o`, of which `h` is an heir, and `x` is nothing. */
async function open() {
  const scene = await Scene.of(['w'], options);
  const [o, h, x] = (await Promise.all(['o', 'h', 'x'].map((name) => HandPeer.joins(scene, name, ['w'])))) as [
    HandPeer,
    HandPeer,
    HandPeer,
  ];
  const { worker_id } = scene.scheduler('w').api.workers()[0]!;
  const line = { feed_id: 'feed-of-o', epoch: 1, base_seq: 0, nonce: '' };
  const lease = {
    ...{ uid: 'u', feed_id: 'feed-of-o', epoch: 1, attempt: 1, worker_id, action: 'fn:hang', payload: {} },
    ...{ requires: { labels: [], peers: [] }, timeout_ms: null },
  };
  const holds = (peer: string) => scene.scheduler('w').parts.pool.holding(peer).length === 1;
  /** A peer says that it owns the feed, in a line that comes before all that were known. */
  const claims = async (peer: HandPeer, epoch: number, heirs: string[] = []) => {
    peer.state = { ...peer.state, feeds: [{ ...line, epoch, heirs }] };
    await peer.beat('w');
    const own = { epoch, base_seq: 0, owner: peer.network.self, nonce: '' };
    await peer.ask('w', 'takeover', { feed_id: line.feed_id, line: own });
    await scene.pass(2_000);
  };
  const answer = await o.ask('w', 'lease', { leases: [lease], heirs: ['h'] });
  expect(answer).toEqual({ items: [] });
  return { scene, o, h, x, lease, holds, claims };
}

const options = { actions: { 'fn:hang': () => new Promise<never>(() => {}) } };

describe('a worker', () => {
  test('keeps its leases for who gave them when a stranger says that it owns the feed', async () => {
    const { x, lease, holds, claims } = await open();
    await claims(x, 9);
    expect([holds('o'), holds('x')]).toEqual([true, false]);
    await x.ask('w', 'cancel', { items: [{ ...tokenOf(lease), ...HELD }] });
    expect(holds('o')).toBe(true);
  });

  test('is not told by a stranger who the heirs are, neither with a lease of its own nor in a beat', async () => {
    const { x, lease, holds, claims } = await open();
    await x.ask('w', 'lease', { leases: [{ ...lease, uid: 'v', action: 'fn:nope' }], heirs: ['x'] });
    await claims(x, 9, ['x']);
    expect([holds('o'), holds('x')]).toEqual([true, false]);
  });

  test('holds them for the heir that owns the feed now, for an heir of that one, and for no stranger beside it', async () => {
    const { o, h, x, holds, claims } = await open();
    o.network.kill();
    await claims(x, 9);
    await claims(h, 2, ['i']);
    expect([holds('h'), holds('x')]).toEqual([true, false]);
    h.network.kill();
    const i = await HandPeer.joins(h.scene, 'i', ['w']);
    await claims(i, 3);
    expect([holds('i'), holds('x')]).toEqual([true, false]);
  });
});

test('a worker asks for the history of a feed when its owner was gone before the next one was named', async () => {
  const { scene, o, x, holds, claims } = await open();
  o.network.kill();
  const lines = [
    { epoch: 1, base_seq: 0, owner: 'o', nonce: '' },
    { epoch: 2, base_seq: 0, owner: 'x', nonce: '' },
  ];
  const feed = { ...newFeed('feed-of-o', 'o'), lines };
  const history = (of: object) =>
    ({ feed: { ...feed, ...of }, rows: [], whole: true, head_seq: 0, complete: true }) as never;
  x.answers.set('pull', () => history({ lines: [{ ...lines[1], epoch: 1 }] })); // of another feed
  await claims(x, 2);
  expect(holds('o')).toBe(true);
  x.answers.set('pull', () => history({}));
  await scene.until('it has', () => holds('x'));
});

test('a peer has a record only if it says so itself: nobody makes another one give its id away', async () => {
  const scene = await Scene.of(['a', 'b']);
  const x = await HandPeer.joins(scene, 'x', ['a', 'b']);
  const record = await scene.submit('a', hand({ task_id: 't' }));
  const held = { peer_id: 'b', uid: 'z'.repeat(20), status: 'queued', content_hash: record.content_hash };
  const items = [{ kind: 'task', id: 't', held }];
  for (const hops of [0, 2]) await x.ask('a', 'locate', { items, hops, asked: [] });
  await x.ask('b', 'locate', { items, hops: 2, asked: [] });
  await scene.pass(5_000);
  expect((await scene.task('a', record.uid)).task_id).toBe('t');
  await x.ask('a', 'locate', { items: [{ ...items[0], held: { ...held, peer_id: 'x' } }], hops: 0, asked: [] });
  await scene.pass(5_000);
  expect((await scene.task('a', record.uid)).task_id).toBe(`t~${record.uid}`); // of itself it is believed
});

test('an offer counts only from its author', async () => {
  const scene = await Scene.of(['a']);
  const far = new HandPeer(scene, 'far');
  const other = new HandPeer(scene, 'other');
  const offered = (owner: string) => ({
    ...{ owner, addresses: [] },
    classes: [{ action: 'echo', requires: task({}).requires, count: 1, max_priority: 1 }],
  });
  other.network.publish(offered('far') as never);
  await scene.pass(2_000);
  expect(far.network.connected()).toEqual([]);
  far.network.publish(offered('far') as never);
  await scene.until('it is asked', () => far.messages.some(({ method }) => method === 'claim'));
});
