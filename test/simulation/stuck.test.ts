/** A worker that beats on and never ends what it runs: its owner keeps the timeout. */
import { expect, it } from 'vitest';
import { TIMEOUT_GRACE_MS } from '../../scheduler/limits.ts';
import { Scene, task } from '../scheduler/scene.ts';

const TIMEOUT_MS = 1_500;
/** For a beat that names the lease after its grace, a look at it, the commit, and clocks that are 5 % apart. */
const SLACK_MS = 3_000;

it.each(['a', 'b'])(
  'an action that takes no notice of its end, at %s, has failed in time and is called back',
  async (worker) => {
    const scene = await Scene.of(['a', 'b', 'c'], { actions: { 'fn:stuck': () => new Promise(() => {}) } });
    const requires = { labels: [], peers: [worker] };
    const { uid } = await scene.submit('a', task({ task_type: 'fn:stuck', timeout_ms: TIMEOUT_MS, requires }));
    await scene.until('it has begun', () => scene.mesh.actions.startsOf(uid).length === 1);
    const began = scene.world.now;
    const ended = await scene.ended('a', uid);
    expect(ended).toMatchObject({ status: 'failed', attempt: 1, dead_letter: true, error: { code: 'TIMEOUT' } });
    expect(scene.world.now - began).toBeLessThan(TIMEOUT_MS + TIMEOUT_GRACE_MS + SLACK_MS);
    // What it holds is a slot of its own peer; everybody else works on.
    const other = await scene.submit('a', task({ payload: { ms: 10 }, requires }));
    expect(await scene.ended('a', other.uid)).toMatchObject({ status: 'completed' });
  },
);
