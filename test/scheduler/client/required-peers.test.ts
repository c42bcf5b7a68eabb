/** `requires.peers`: ids, and names that one peer has, resolved once. */
import { describe, expect, test } from 'vitest';
import { requiresSchema } from '../../../dag/schema.ts';
import { operationNamed } from '../../../node/runtimes/mesh-calls.ts';
import { callTool } from '../../../tools/call/route.ts';
import { HandPeer } from '../hand-peer.ts';
import { Scene, task } from '../scene.ts';

const on = (...peers: string[]) => task({ task_type: 'fn:hand', requires: requiresSchema.parse({ peers }) });

/** A peer with a name that is not its id. */
async function named(scene: Scene, id: string, name: string): Promise<HandPeer> {
  const peer = new HandPeer(scene, id);
  peer.state.name = name;
  await scene.run(peer.network.connect('a'));
  peer.beatOn();
  await scene.pass(10);
  return peer;
}

async function whyWaits(scene: Scene, task_id: string): Promise<unknown> {
  const { context } = scene.peer('a');
  const status = await scene.run(callTool(operationNamed('task_status'), { task_id }, context, 0));
  return (status['waiting'] as { reason: string } | null)?.reason;
}

describe('a peer that a task requires', () => {
  test('by its name becomes its id when it is submitted: another one with the name later gets nothing', async () => {
    const scene = await Scene.of(['a']);
    const gpu = await named(scene, 'one', 'gpu-box');
    const { uid } = await scene.submit('a', on('gpu-box'));
    expect((await scene.task('a', uid)).requires.peers).toEqual(['one']);
    expect((await gpu.leased(1)).requires.peers).toEqual(['one']);
    gpu.beating = false;
    scene.mesh.board.cut('a', 'one');
    const later = await scene.submit('a', on('one'));
    const other = await named(scene, 'two', 'gpu-box');
    await scene.pass(20_000);
    expect(other.leases).toEqual([]);
    expect((await scene.task('a', later.uid)).status).toBe('queued');
    expect((await scene.task('a', uid)).status).toBe('queued');
  });

  test('by a name of two is refused, and nothing is written', async () => {
    const scene = await Scene.of(['a']);
    await named(scene, 'one', 'gpu-box');
    await named(scene, 'two', 'gpu-box');
    const head = scene.head('a');
    await expect(scene.submit('a', on('a', 'gpu-box'))).rejects.toMatchObject({
      code: 'AMBIGUOUS',
      message: 'requires.peers[1]: "gpu-box" is the name of 2 peers (one, two); write the id of one',
    });
    await expect(
      scene.submitWorkflow('a', {
        ...{ name: 'w', steps: [{ step_id: 's', action: 'echo', requires: { peers: ['gpu-box'] } }] },
      }),
    ).rejects.toMatchObject({ code: 'AMBIGUOUS', details: { place: 'steps[0].requires.peers[0]' } });
    expect(scene.head('a')).toBe(head);
  });

  test('that nobody knows is waited for, with that as the reason, and gets it when it comes', async () => {
    const scene = await Scene.of(['a']);
    await named(scene, 'one', 'other');
    const { task_id, uid } = await scene.submit('a', on('gpu-box'));
    await scene.pass(1_000);
    expect(await whyWaits(scene, task_id)).toBe('peer gpu-box: nobody here knows one with this id or name');
    const late = await named(scene, 'late', 'gpu-box');
    expect((await late.leased(1)).uid).toBe(uid);
  });

  test('that nobody knew, and that two have when they come, waits and says so', async () => {
    const scene = await Scene.of(['a']);
    const { task_id } = await scene.submit('a', on('gpu-box'));
    const peers = [new HandPeer(scene, 'one'), new HandPeer(scene, 'two')];
    for (const peer of peers) {
      peer.state.name = 'gpu-box';
      peer.state.workers[0]!.slots = 0;
      await scene.run(peer.network.connect('a'));
      peer.beatOn();
    }
    await scene.pass(2_000);
    expect(await whyWaits(scene, task_id)).toBe('peer gpu-box: 2 peers have this name, write an id');
  });

  test('by a whole id is that one, whatever name others give themselves', async () => {
    const scene = await Scene.of(['a']);
    const id = '12D3KooWGRUVh7ksQ7VFFUfPXUwLXbLqFqKkXG4hVLr6cGSXQhSv';
    const forger = await named(scene, 'forger', id);
    await scene.submit('a', on(id));
    await scene.pass(5_000);
    expect(forger.leases).toEqual([]);
  });

  test('is not part of what makes a repeated submit another one', async () => {
    const scene = await Scene.of(['a']);
    await named(scene, 'one', 'gpu-box');
    const submission = { ...on('gpu-box'), task_id: 't' };
    const first = await scene.submit('a', submission);
    await named(scene, 'two', 'gpu-box');
    const again = await scene.run(scene.scheduler('a').api.submitTask(submission));
    expect(again).toMatchObject({ duplicate: true, record: { uid: first.uid } });
  });
});
