import { describe, expect, test } from 'vitest';
import type { ToolCall } from '../../../scheduler/api.ts';
import { EVERYBODY } from '../../../scheduler/caller.ts';
import { HandPeer } from '../hand-peer.ts';
import { Scene } from '../scene.ts';
import { alias, found } from './answers.ts';

function call(peer_id: string, tool: string, hops: number): [{ peer_id: string; addresses: string[] }, ToolCall] {
  return [
    { peer_id, addresses: [] },
    { tool, input: {}, caller: EVERYBODY, hops },
  ];
}

describe('a call', () => {
  test('goes to the peer itself, else through the one that named it', async () => {
    const scene = await Scene.of(['a']);
    const via = await HandPeer.joins(scene, 'via', ['a']);
    via.answers.set('locate', () => ({ found: [found('far')] }));
    via.answers.set('call', (params) => ({ output: { tool: params['tool']! } }));
    const { scheduler } = scene.peer('a');
    await scene.run(scheduler.api.resolve(alias('theirs')));
    scene.mesh.board.cut('a', 'far');
    expect(await scene.run(scheduler.api.call(...call('far', 'task_status', 1)))).toEqual({ tool: 'task_status' });
    await expect(scene.run(scheduler.api.call(...call('nobody', 'task_status', 1)))).rejects.toMatchObject({
      code: 'PEER_UNREACHABLE',
    });
    const far = new HandPeer(scene, 'far');
    far.answers.set('call', () => ({ output: { from: 'far' } }));
    scene.mesh.board.heal('a', 'far');
    expect(await scene.run(scheduler.api.call(...call('far', 'task_status', 1)))).toEqual({ from: 'far' });
  });

  test.each([
    ['an error', { error: { code: 'NOT_FOUND', message: 'no such task', retryable: false } }, 'NOT_FOUND'],
    ['nothing', null, 'BAD_ANSWER'],
    ['something else', { result: 1 }, 'BAD_ANSWER'],
  ])('that is answered with %s rejects', async (_what, answer, code) => {
    const scene = await Scene.of(['a']);
    const peer = await HandPeer.joins(scene, 'h', ['a']);
    peer.answers.set('call', () => answer);
    await expect(scene.run(scene.scheduler('a').api.call(...call('h', 'x', 0)))).rejects.toMatchObject({ code });
  });

  test('that a silent peer does not answer is given up, long before its deadline', async () => {
    const scene = await Scene.of(['a']);
    const peer = await HandPeer.joins(scene, 'h', ['a']);
    peer.answers.set('call', () => new Promise(() => {}));
    const ask = () => scene.run(scene.scheduler('a').api.call(...call('h', 'x', 0)));
    await expect(ask()).rejects.toMatchObject({ code: 'DEADLINE_EXCEEDED' });
    peer.beating = false;
    const before = scene.world.now;
    await expect(ask()).rejects.toMatchObject({ code: 'PEER_SILENT' });
    expect(scene.world.now - before).toBeLessThan(5_000);
  });

  test('is not handed on for ever', async () => {
    const scene = await Scene.of(['a']);
    const ask = () => scene.run(scene.scheduler('a').api.call(...call('h', 'x', 4)));
    await expect(ask()).rejects.toMatchObject({ code: 'HOPS_EXCEEDED' });
  });
});
