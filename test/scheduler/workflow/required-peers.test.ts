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
      message:
        'requires.peers[1]: "gpu-box" is the name of 2 peers (one, connected; two, connected); write the id of the one that is meant',
      details: { peers: ['one', 'two'] },
    });
    await expect(
      scene.submitWorkflow('a', {
        ...{ name: 'w', steps: [{ step_id: 's', action: 'echo', requires: { peers: ['gpu-box'] } }] },
      }),
    ).rejects.toMatchObject({ code: 'AMBIGUOUS', details: { place: 'steps[0].requires.peers[0]' } });
    expect(scene.head('a')).toBe(head);
  });

  test('by the name of one that is away, which another one has taken, is refused', async () => {
    const scene = await Scene.of(['a']);
    const gpu = await named(scene, 'one', 'gpu-box');
    gpu.beating = false;
    scene.mesh.board.cut('a', 'one');
    const other = await named(scene, 'two', 'gpu-box');
    const head = scene.head('a');
    await expect(scene.submit('a', on('gpu-box'))).rejects.toMatchObject({
      code: 'AMBIGUOUS',
      message: expect.stringContaining('(one, not connected now; two, connected)'),
    });
    expect(scene.head('a')).toBe(head);
    await scene.submit('a', on('two'));
    expect((await other.leased(1)).requires.peers).toEqual(['two']);
  });

  test('by a name that nobody has is refused, with the nearest one, and nothing is written', async () => {
    const scene = await Scene.of(['a']);
    await named(scene, 'one', 'gpu-box');
    const head = scene.head('a');
    await expect(scene.submit('a', on('gpu-bix'))).rejects.toMatchObject({
      code: 'UNKNOWN_PEER',
      retryable: false,
      message: expect.stringMatching(/^requires\.peers\[0\]: .*"gpu-bix".*\(did you mean "gpu-box"\?\)/),
      details: { place: 'requires.peers[0]', name: 'gpu-bix', nearest: 'gpu-box' },
    });
    expect(scene.head('a')).toBe(head);
  });

  test('in a nested workflow becomes an id when that begins, or fails its step', async () => {
    const scene = await Scene.of(['a']);
    const gpu = await named(scene, 'one', 'gpu-box');
    const nested = (peer: string) => {
      const steps = [{ step_id: 's', action: 'fn:hand', requires: { peers: [peer] } }];
      const inner = { step_id: 'inner', action: 'workflow', inputs: { workflow: { name: 'inner', steps } } };
      return scene.submitWorkflow('a', { name: 'outer', steps: [inner] });
    };
    await nested('gpu-box');
    expect((await gpu.leased(1)).requires.peers).toEqual(['one']);
    const { uid } = await nested('other-box');
    expect(await scene.endedWorkflow('a', uid)).toMatchObject({
      status: 'failed',
      error: { message: expect.stringContaining('other-box') },
    });
  });

  test('by an id that nobody knows yet is waited for', async () => {
    const scene = await Scene.of(['a']);
    const id = '12D3KooWGRUVh7ksQ7VFFUfPXUwLXbLqFqKkXG4hVLr6cGSXQhSv';
    const { task_id } = await scene.submit('a', on(id));
    await named(scene, 'one', 'other');
    await scene.pass(1_000);
    expect(await whyWaits(scene, task_id)).toBe(`peer ${id}: no worker of a peer with this id is known here`);
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
