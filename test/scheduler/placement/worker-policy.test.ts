/** What the policy of a worker's peer says of the peer whose work it is. */
import { describe, expect, test } from 'vitest';
import type { JsonObject } from '../../../dag/errors.ts';
import { NOT_ALLOWED_WAIT_MS } from '../../../scheduler/limits.ts';
import type { Lease } from '../../../scheduler/messages.ts';
import type { Caller } from '../../../scheduler/roles.ts';
import { tokenOf } from '../../../scheduler/worker/attempt-result.ts';
import { HandPeer } from '../hand-peer.ts';
import { lease, PoolScene } from '../pool.ts';
import { Scene, task } from '../scene.ts';

const NAMES = ['a', 'b', 'c'];

/** `fn:work` of others than these runs nowhere but at the peer whose work it is. */
const onlyFor = (...names: string[]) => ({
  refuses: (peer: string, { peer_id }: Caller, action: string) =>
    action !== 'fn:work' || names.includes(peer_id) ? null : `${peer}'s policy does not let ${peer_id} run ${action}`,
});

/** The answer of a worker whose policy lets nothing of the asker run. */
const notForA = ({ leases }: JsonObject): JsonObject => ({
  items: (leases as unknown as Lease[]).map((lease) => ({
    ...tokenOf(lease),
    ...{ reason: 'unable', message: 'unable here: not for a' },
  })),
});

describe('a policy that lets one peer run an action and others not', () => {
  test('is known from the beats: work of the others is never sent there', async () => {
    const scene = await Scene.of(NAMES, {
      refuses: (peer, { own }, action) => (peer === 'c' || action !== 'fn:work' || own ? null : 'not here'),
    });
    const uids: string[] = [];
    for (let count = 0; count < 12; count++) uids.push((await scene.submit('a', task({ payload: { ms: 500 } }))).uid);
    for (const uid of uids) expect((await scene.ended('a', uid)).status).toBe('completed');
    const ran = new Set(scene.mesh.ledger.map(({ peer }) => peer));
    expect(ran).toEqual(new Set(['a', 'c']));
    // Nor was it sent and refused.
    expect(scene.scheduler('a').parts.peers.find('b')!.unable.size).toBe(0);
  });

  test('fails soon what no peer lets its owner run, and says so while it waits', async () => {
    const scene = await Scene.of(NAMES, onlyFor('b'));
    const { uid } = await scene.submit('a', task());
    await scene.pass(NOT_ALLOWED_WAIT_MS - 1_000);
    expect((await scene.task('a', uid)).placement).toMatchObject({
      chosen: null,
      reason: 'fn:work: refused by the policy of a, b, c',
    });
    const { status, error } = await scene.ended('a', uid);
    expect({ status, code: error!.code }).toEqual({ status: 'failed', code: 'ACTION_NOT_ALLOWED' });
    expect(error!.message).toContain('let the policy of one of them allow it');
    const { uid: allowed } = await scene.submit('b', task());
    expect((await scene.ended('b', allowed)).status).toBe('completed');
    expect(scene.mesh.ledger.map(({ uid }) => uid)).toEqual([allowed]);
  });
});

describe('the last word is that of the worker, when the lease comes in', () => {
  test('a lease that its policy refuses is given back as unable, with who may not run what', async () => {
    const pools = new PoolScene({}, undefined, ({ peer_id }, action) =>
      peer_id === 'owner' ? `this policy does not let ${peer_id} run ${action}` : null,
    );
    pools.define();
    await pools.owner('owner');
    expect(pools.pool.accept('owner', [lease('a')])).toMatchObject([
      { uid: 'a', reason: 'unable', message: 'unable here: this policy does not let owner run fn:wait' },
    ]);
    expect(pools.pool.accept('another', [lease('b')])).toEqual([]);
    expect(pools.pool.states('owner')[0]!.denied).toContain('fn:wait');
    expect(pools.pool.states('another')[0]!.denied).toBeUndefined();
  });

  test('the task runs elsewhere, and its placement says who did not take it, and why', async () => {
    const scene = await Scene.of(['a']);
    const strict = await HandPeer.joins(scene, 's', ['a'], { labels: ['gpu'], slots: 1 });
    strict.answers.set('lease', notForA);
    const other = await HandPeer.joins(scene, 'o', ['a']);
    const { uid } = await scene.submit('a', task({ task_type: 'fn:hand', prefer: ['gpu'] }));
    expect((await other.leased(1)).uid).toBe(uid);
    await scene.pass(500);
    expect((await scene.task('a', uid)).placement).toMatchObject({
      chosen: { peer_id: 'o' },
      reason: expect.stringMatching(/; s did not take it \(unable here: not for a\)$/),
    });
    const asked = () => strict.messages.filter(({ method }) => method === 'lease').length;
    const { uid: another } = await scene.submit('a', task({ task_type: 'fn:hand', prefer: ['gpu'] }));
    expect((await other.leased(2)).uid).toBe(another);
    expect(asked()).toBe(1);
  });

  test('while only it could run the task, why nobody runs it is what it said', async () => {
    const scene = await Scene.of(['a']);
    const strict = await HandPeer.joins(scene, 's', ['a'], { slots: 1 });
    strict.answers.set('lease', notForA);
    const { uid } = await scene.submit('a', task({ task_type: 'fn:hand' }));
    await scene.pass(3_000);
    expect((await scene.task('a', uid)).placement!.reason).toBe('refused a moment ago by s: unable here: not for a');
  });
});
