/** What clients get while the owner of a record is away: real schedulers and tools on simulated time. */

import { expect, test } from 'vitest';
import type { JsonObject } from '../../dag/errors.ts';
import { operationNamed } from '../../node/runtimes/mesh-calls.ts';
import { EVERYBODY } from '../../scheduler/caller.ts';
import { OWNER_WAIT_MS, TAKEOVER_MS } from '../../scheduler/limits.ts';
import type { TaskRecord } from '../../scheduler/records.ts';
import { callTool } from '../../tools/call/route.ts';
import type { MeshContext } from '../../tools/definition.ts';
import type { PeerDirectory } from '../../tools/peers.ts';
import { HandPeer } from '../scheduler/hand-peer.ts';
import { Scene, task, workflow } from '../scheduler/scene.ts';

const A_DAY_MS = 86_400_000;

/** A mesh whose peers run tools, and a task of `owner` that waits for a day, with a copy at `follower`. */
class Outage {
  readonly scene: Scene;
  readonly owner = 'a';
  follower = '';
  /** Neither. */
  other = '';
  record!: TaskRecord;

  constructor(scene: Scene) {
    this.scene = scene;
  }

  static async begin(): Promise<Outage> {
    const names = ['a', 'b', 'c'];
    const outage = new Outage(await Scene.of(names));
    for (const name of names) outage.#serve(name);
    outage.record = await outage.scene.submit('a', task({ task_id: 'chosen', delay_ms: A_DAY_MS }));
    const { feed, replicas } = outage.scene.feed('a');
    expect(replicas.copies).toBe(2);
    outage.follower = feed.followers[0]!.peer_id;
    outage.other = names.find((name) => name !== 'a' && name !== outage.follower)!;
    return outage;
  }

  #serve(name: string): void {
    const { scheduler } = this.scene.peer(name);
    scheduler.serveCalls(({ tool, input, hops }) => {
      return callTool(operationNamed(tool), input, this.#contextOf(name), hops);
    });
  }

  #contextOf(name: string): MeshContext {
    const { scheduler, store, clock } = this.scene.peer(name);
    const { reader } = store;
    const signal = new AbortController().signal;
    const everywhere = async () => ({ outputs: [], missing: [] });
    const whyWaiting: MeshContext['whyWaiting'] = async (uids) => scheduler.api.whyWaiting(uids);
    const of = { scheduler: scheduler.api, feeds: scheduler.api, whyWaiting, peers: {} as PeerDirectory };
    return { ...of, caller: EVERYBODY, reader, clock, self: name, signal, everywhere };
  }

  /** A call of a client of that peer. */
  call(name: string, tool: string, input: JsonObject): Promise<JsonObject> {
    return this.scene.run(callTool(operationNamed(tool), input, this.#contextOf(name), 0));
  }

  status(name: string): Promise<JsonObject> {
    return this.call(name, 'task_status', { task_id: 'chosen' });
  }

  async restart(name: string, disk: ReturnType<Scene['mesh']['kill']>): Promise<void> {
    await this.scene.run(this.scene.mesh.restart(name, disk));
    this.#serve(name);
  }

  async ownedBy(name: string): Promise<void> {
    const { feeds } = this.scene.scheduler(name).parts;
    await this.scene.until(`${name} owns it`, async () => (await feeds.of(this.record.uid)) !== undefined);
  }
}

test('reads are answered from a copy, through any peer, and by the next owner when there is one', async () => {
  const outage = await Outage.begin();
  const { scene, follower, other } = outage;
  scene.mesh.kill('a');
  await scene.pass(100);
  for (const name of [follower, other]) {
    const read = await outage.status(name);
    expect(read).toMatchObject({ status: 'queued', owner_peer_id: 'a', queue_position: null });
    expect(read['stale_ms']).toBeGreaterThanOrEqual(90);
    expect(read['stale_ms']).toBeLessThan(3_000);
    expect(await outage.call(name, 'task_result', { task_id: 'chosen' })).toHaveProperty('stale_ms');
  }
  await outage.ownedBy(follower);
  for (const name of [follower, other]) {
    const read = await outage.status(name);
    expect(read).toMatchObject({ status: 'queued', owner_peer_id: follower });
    expect(read).not.toHaveProperty('stale_ms');
  }
});

test('what nobody has a copy of is said to be out of reach, and a change of it waits for its owner', async () => {
  const scene = await Scene.of(['b']);
  const outage = new Outage(scene);
  const owner = await HandPeer.joins(scene, 'owner', ['b']);
  owner.state.feeds = [{ feed_id: '0123456789abcdefghij', epoch: 1, base_seq: 0, nonce: '' }];
  await owner.beat('b');
  scene.mesh.board.cut('owner', 'b');
  await scene.pass(100);
  const input = { task_id: 'task-012345-abcdefghijkl' };
  const before = scene.world.now;
  await expect(outage.call('b', 'task_status', input)).rejects.toMatchObject({ code: 'OWNER_UNREACHABLE' });
  expect(scene.world.now - before).toBeLessThan(1_000);
  await expect(outage.call('b', 'task_cancel', input)).rejects.toMatchObject({ code: 'OWNER_UNREACHABLE' });
  expect(scene.world.now - before).toBeGreaterThan(OWNER_WAIT_MS * 0.9);

  owner.answers.set('call', () => ({ output: { success: true, status: 'cancelled' } }));
  const cancel = outage.call('b', 'task_cancel', input);
  scene.mesh.board.heal('owner', 'b');
  await scene.run(owner.network.connect('b'));
  expect(await cancel).toMatchObject({ status: 'cancelled' });
  expect(owner.messages.filter(({ method }) => method === 'call')).toHaveLength(1);
});

test('a change is sent once: when its answer is lost, that is said', async () => {
  const scene = await Scene.of(['b']);
  const outage = new Outage(scene);
  const owner = await HandPeer.joins(scene, 'owner', ['b']);
  owner.answers.set('locate', () => ({
    found: [{ peer_id: 'owner', addresses: [], uid: 'u', status: 'queued', content_hash: '' }],
  }));
  owner.answers.set('call', () => new Promise(() => {}));
  owner.beating = false; // its machine sleeps
  await expect(outage.call('b', 'task_cancel', { task_id: 'x' })).rejects.toMatchObject({ code: 'PEER_SILENT' });
  expect(owner.messages.filter(({ method }) => method === 'call')).toHaveLength(1);
});

test('a change waits for the next owner, and is made once', async () => {
  const outage = await Outage.begin();
  const { scene, follower, other } = outage;
  scene.mesh.kill('a');
  const before = scene.world.now;
  const raised = await outage.call(other, 'task_priority', { task_id: 'chosen', boost: 2 });
  expect(raised).toMatchObject({ old_priority: 1, new_priority: 3 });
  expect(scene.world.now - before).toBeLessThan(OWNER_WAIT_MS);
  expect(await scene.task(follower, outage.record.uid)).toMatchObject({ priority: 3 });
  expect(await outage.call(follower, 'task_cancel', { task_id: 'chosen' })).toMatchObject({ status: 'cancelled' });
});

test('a submit that comes again, and a change of what has ended, wait no longer than others', async () => {
  const submit = { task_id: 'ended', task_type: 'fn:work', delay_ms: A_DAY_MS };
  const calls: [tool: string, input: JsonObject][] = [
    ['task_submit', submit],
    ['task_retry', { task_id: 'ended' }],
  ];
  for (const [tool, input] of calls) {
    const outage = await Outage.begin();
    const { scene, follower, other } = outage;
    const { feed_id } = scene.feed('a');
    await outage.call('a', 'task_submit', submit);
    for (const task_id of ['ended', 'chosen']) await outage.call('a', 'task_cancel', { task_id });
    const { reader } = scene.peer(follower).store;
    await scene.until('nothing is open there', async () => !(await reader.hasOpen(feed_id)));
    scene.mesh.kill('a');
    const before = scene.world.now;
    await outage.call(other, tool, input);
    expect(scene.world.now - before).toBeLessThan(TAKEOVER_MS);
  }
});

test('a change that finds no owner in time: a cancel is kept and done later, another one is refused', async () => {
  const outage = await Outage.begin();
  const { scene, follower, other } = outage;
  scene.mesh.kill('a');
  scene.mesh.kill(other); // two at once: the last one takes itself for cut off, and takes over much later (P11)
  const input = { task_id: 'chosen' };
  const [cancel, priority] = await Promise.allSettled([
    outage.call(follower, 'task_cancel', input),
    outage.call(follower, 'task_priority', { ...input, boost: 1 }),
  ]);
  expect(cancel).toMatchObject({ value: { status: 'queued', cancelled_at: null, pending: true } });
  expect(priority).toMatchObject({ reason: { code: 'OWNER_UNREACHABLE' } });
  expect(await outage.status(follower)).toMatchObject({ status: 'queued', owner_peer_id: 'a' });
  await outage.ownedBy(follower);
  expect(await scene.ended(follower, outage.record.uid)).toMatchObject({ status: 'cancelled', priority: 1 });
});

test('what is kept is done after a restart, too, and by the owner that is back', async () => {
  const outage = await Outage.begin();
  const { scene, follower, other } = outage;
  const disk = scene.mesh.kill('a');
  scene.mesh.kill(other);
  await outage.call(follower, 'task_cancel', { task_id: 'chosen' });
  const copy = scene.mesh.kill(follower);
  await outage.restart('a', disk);
  expect(await outage.status('a')).toMatchObject({ status: 'queued', owner_peer_id: 'a' });
  await outage.restart(follower, copy);
  expect(await scene.ended('a', outage.record.uid)).toMatchObject({ status: 'cancelled' });
  await scene.until('the call is forgotten', async () => {
    const kept = await scene.peer(follower).store.reader.active('intent', 'local');
    return kept.length === 0;
  });
});

test('an owner that came back and hears nobody reads, says how old that may be, and keeps a cancel', async () => {
  const outage = await Outage.begin();
  const { scene, follower, other } = outage;
  scene.mesh.kill(other);
  await scene.pass(20_000); // no set of two is left in doubt
  const copy = scene.mesh.kill(follower);
  const disk = scene.mesh.kill('a');
  await outage.restart('a', disk);
  await scene.pass(1_000);
  const read = await outage.status('a');
  expect(read).toMatchObject({ status: 'queued', owner_peer_id: 'a' });
  expect(read['stale_ms']).toBeGreaterThanOrEqual(900);
  const cancel = await outage.call('a', 'task_cancel', { task_id: 'chosen' });
  expect(cancel).toMatchObject({ pending: true, status: 'queued' });
  await outage.restart(follower, copy);
  expect(await scene.ended('a', outage.record.uid)).toMatchObject({ status: 'cancelled' });
});

test('a submit that is sent again meets the record, at whichever peer', async () => {
  const outage = await Outage.begin();
  const { scene, follower, other } = outage;
  const submit = { workflow_id: 'flow', name: 'flow', steps: [{ step_id: 's', action: 'approve' }] };
  expect(await outage.call('a', 'workflow_submit', submit)).toMatchObject({ durability: { copies: 2, wanted: 2 } });
  scene.mesh.kill('a');
  const changed = { ...submit, name: 'another' };
  await expect(outage.call(follower, 'workflow_submit', changed)).rejects.toMatchObject({ code: 'CONFLICT' });
  const again = await Promise.all([follower, other].map((name) => outage.call(name, 'workflow_submit', submit)));
  for (const answer of again) expect(answer).toMatchObject({ duplicate: true, peer_assigned: follower });
  const { records } = await scene.peer(other).store.reader.list({ kind: 'workflow', limit: 10, offset: 0 });
  expect(records).toEqual([]);
});

test('a task that waits for what another peer has is told by a copy how that ended', async () => {
  const outage = await Outage.begin();
  const { scene, follower } = outage;
  const { uid } = await scene.submit('a', task({ task_id: 'first', payload: { ms: 10 } }));
  await scene.ended('a', uid);
  await scene.pass(100);
  scene.mesh.kill('a');
  await scene.pass(100);
  const { status } = await scene.submit(follower, task({ depends_on: ['first'], delay_ms: A_DAY_MS }));
  expect(status).toBe('queued');
});

test('status says on how many disks a workflow is', async () => {
  const outage = await Outage.begin();
  const { scene, follower, other } = outage;
  await scene.submitWorkflow(
    'a',
    workflow({ name: 'w', workflow_id: 'w', steps: [{ step_id: 's', action: 'approve' }] }).workflow as never,
  );
  const status = () => outage.call('a', 'workflow_status', { workflow_id: 'w' });
  expect(await status()).toMatchObject({ durability: { copies: 2, wanted: 2 } });
  scene.mesh.kill(follower);
  scene.mesh.kill(other);
  await scene.pass(5_000);
  expect(await status()).toMatchObject({ durability: { copies: 1 } });
});
