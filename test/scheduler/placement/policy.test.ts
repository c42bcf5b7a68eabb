/** Tasks go to peers whose policy allows them, and fail only when no peer may run them. */
import { describe, expect, test } from 'vitest';
import { requiresSchema } from '../../../dag/schema.ts';
import { ActionNotAllowedError } from '../../../node/executors/errors.ts';
import { NOT_ALLOWED_WAIT_MS } from '../../../scheduler/limits.ts';
import { HandPeer } from '../hand-peer.ts';
import { Scene, task } from '../scene.ts';

const NAMES = ['a', 'b', 'c'];
/** A dispatch looks again with every beat. */
const BEATS_MS = 3_000;

const shell = (program: string, over: Parameters<typeof task>[0] = {}) =>
  task({ task_type: 'shell', payload: { command: [program] }, ...over });
const get = (url: string, over: Parameters<typeof task>[0] = {}) =>
  task({ task_type: 'http', payload: { url }, ...over });

/** Peers that say what they allow, and refuse what `refuses` names when it runs there. */
async function mesh(
  allows: Record<string, string[]>,
  refuses: (peer: string) => boolean = () => false,
): Promise<Scene> {
  const run = async (_request: unknown, _io: unknown, peer: string) => {
    if (refuses(peer)) throw new ActionNotAllowedError(`not at ${peer}`, { host: 'inside.example.org' });
    return { peer };
  };
  return await Scene.of(NAMES, { actions: { shell: run, http: run }, allows });
}

describe('a program that one of three peers allows', () => {
  const ALLOWS = { a: ['shell:echo'], b: ['shell:date', 'http:*'], c: ['shell:echo', 'shell:ls'] };

  test('runs there, whoever was asked, and was never begun elsewhere', async () => {
    const scene = await mesh(ALLOWS);
    const uids: string[] = [];
    for (const name of [...NAMES, ...NAMES]) uids.push((await scene.submit(name, shell('date'))).uid);
    for (const [at, uid] of uids.entries()) {
      expect(await scene.ended(NAMES[at % 3]!, uid)).toMatchObject({ status: 'completed', output: { peer: 'b' } });
    }
    expect(scene.mesh.ledger.map(({ peer }) => peer)).toEqual(Array(6).fill('b'));
  });

  test('is found in the DHT where no connected peer allows it', async () => {
    const scene = await mesh({ ...ALLOWS, b: ['shell:ls'] });
    const far = new HandPeer(scene, 'far');
    far.state.workers[0]!.actions = ['shell'];
    far.state.workers[0]!.allows = ['shell:date'];
    far.network.provide(['action:shell:date']);
    const { uid } = await scene.submit('a', shell('date'));
    expect((await far.leased(1)).uid).toBe(uid);
  });
});

describe('what no peer may run', () => {
  test('fails after a short wait, and names the program, the peers and what would allow it', async () => {
    const scene = await mesh({ a: ['shell:echo'], b: ['shell:date'], c: [] });
    const { uid } = await scene.submit('a', shell('rsync', { retry: { ...task().retry, max_retries: 3 } }));
    await scene.pass(NOT_ALLOWED_WAIT_MS - 1_000);
    expect(await scene.task('a', uid)).toMatchObject({
      status: 'queued',
      placement: { chosen: null, reason: 'program rsync: not allowed on any of 3 peers' },
    });
    const { status, error, failures } = await scene.ended('a', uid);
    expect({ status, failures }).toEqual({ status: 'failed', failures: 0 });
    expect(error).toMatchObject({
      code: 'ACTION_NOT_ALLOWED',
      retryable: false,
      details: { needs: ['shell:rsync'], peers: ['a', 'b', 'c'] },
    });
    expect(error!.message).toContain('program rsync');
    expect(error!.message).toContain('--allow-shell rsync');
    expect(scene.mesh.ledger).toEqual([]);
  });

  test('waits as long as it says, when it says', async () => {
    const scene = await mesh({ a: ['shell:echo'], b: [], c: [] });
    const { uid } = await scene.submit('a', shell('rsync', { wait_timeout_ms: 60_000 }));
    await scene.pass(50_000);
    expect((await scene.task('a', uid)).status).toBe('queued');
    expect((await scene.ended('a', uid)).error).toMatchObject({
      code: 'NO_WORKER',
      retryable: true,
      details: { reason: 'program rsync: not allowed on any of 3 peers' },
    });
  });

  test('waits for a peer that may run it and is away, which is said, and runs there', async () => {
    const scene = await mesh({ a: ['shell:echo'], b: ['shell:echo'], c: ['shell:rsync'] });
    const disk = scene.mesh.kill('c');
    await scene.pass(20_000);
    const { uid } = await scene.submit('a', shell('rsync'));
    await scene.pass(2 * NOT_ALLOWED_WAIT_MS);
    expect(await scene.task('a', uid)).toMatchObject({
      status: 'queued',
      placement: {
        reason: 'program rsync: not allowed on any of 2 peers; c, not connected now, can run it',
      },
    });
    await scene.run(scene.mesh.restart('c', disk));
    expect(await scene.ended('a', uid)).toMatchObject({ status: 'completed', output: { peer: 'c' } });
  });

  test('is waited for while no peer has the action at all, as with any other', async () => {
    const scene = await Scene.of(NAMES);
    const { uid } = await scene.submit('a', shell('rsync'));
    await scene.pass(10 * NOT_ALLOWED_WAIT_MS);
    expect(await scene.task('a', uid)).toMatchObject({
      status: 'queued',
      placement: { reason: 'no connected peer offers shell' },
    });
  });
});

describe('a refusal that shows only where it runs', () => {
  const ALLOWS = { a: ['http:*'], b: ['http:*'], c: ['http:*'] };

  test('is no failure: the task is tried at another peer, and not again at the first one', async () => {
    const scene = await mesh(ALLOWS, (peer) => peer !== 'c');
    const { uid } = await scene.submit('a', get('http://inside.example.org/'));
    expect(await scene.ended('a', uid)).toMatchObject({
      ...{ status: 'completed', output: { peer: 'c' }, failures: 0, attempts: [] },
    });
    const tried = scene.mesh.ledger.map(({ peer }) => peer);
    expect(new Set(tried).size).toBe(tried.length);
  });

  test('everywhere fails it, with what the last one said', async () => {
    const scene = await mesh(ALLOWS, () => true);
    const { uid } = await scene.submit('a', get('http://inside.example.org/'));
    const { error } = await scene.ended('a', uid);
    expect(error).toMatchObject({ code: 'ACTION_NOT_ALLOWED', details: { peers: ['a', 'b', 'c'] } });
    expect(error!.message).toMatch(/none of 3 peers that could \(a, b, c\) lets it run; not at [abc]/);
    expect(scene.mesh.ledger).toHaveLength(3);
  });

  test('ends an at_most_once task, which is not started twice (P4)', async () => {
    const scene = await mesh(ALLOWS, () => true);
    const { uid } = await scene.submit('a', get('http://inside.example.org/', { at_most_once: true }));
    expect((await scene.ended('a', uid)).error!.code).toBe('ACTION_NOT_ALLOWED');
    expect(scene.mesh.ledger).toHaveLength(1);
  });

  test('holds until the peer is connected anew: it may have another policy then', async () => {
    const scene = await mesh(ALLOWS, (peer) => peer !== 'c' || scene.world.now < 30_000);
    const { uid } = await scene.submit('a', get('http://inside.example.org/', { wait_timeout_ms: 300_000 }));
    await scene.pass(30_000);
    expect(scene.mesh.ledger).toHaveLength(3);
    await scene.restart('c');
    expect(await scene.ended('a', uid)).toMatchObject({ status: 'completed', output: { peer: 'c' } });
  });
});

describe('a host', () => {
  test('that one peer allows is reached from there', async () => {
    const scene = await mesh({ a: ['http:example.org'], b: ['http:*.example.net'], c: ['http:*'] });
    const private_ = await scene.submit('a', get('http://10.0.0.1/'));
    const below = await scene.submit(
      'a',
      get('https://x.example.net/', { requires: requiresSchema.parse({ peers: ['b', 'a'] }) }),
    );
    expect((await scene.ended('a', below.uid)).output).toEqual({ peer: 'b' });
    const { error } = await scene.ended('a', private_.uid);
    expect(error).toMatchObject({ code: 'ACTION_NOT_ALLOWED', details: { needs: ['http:10.0.0.1', 'http-private'] } });
    expect(error!.message).toContain('private addresses');
    expect(error!.message).toContain('--http-private');
  });
});

describe('wait_timeout_ms', () => {
  const gpu = requiresSchema.parse({ labels: ['gpu'] });

  test('fails what nobody can run for so long, and says what is missing', async () => {
    const scene = await Scene.of(NAMES);
    const { uid } = await scene.submit('a', task({ requires: gpu, wait_timeout_ms: 10_000 }));
    await scene.pass(9_000);
    expect((await scene.task('a', uid)).status).toBe('queued');
    await scene.pass(BEATS_MS);
    const { status, error, dead_letter } = await scene.task('a', uid);
    expect({ status, dead_letter }).toEqual({ status: 'failed', dead_letter: false });
    expect(error).toMatchObject({ code: 'NO_WORKER', details: { reason: 'label gpu: none of 3 peers' } });
  });

  test('of many that wait together is that of each', async () => {
    const scene = await Scene.of(['a']);
    const soon = await scene.submit('a', task({ requires: gpu, wait_timeout_ms: 5_000 }));
    const never = await scene.submit('a', task({ requires: gpu }));
    expect((await scene.ended('a', soon.uid)).error!.code).toBe('NO_WORKER');
    await scene.pass(20_000);
    const late = await scene.submit('a', task({ requires: gpu, wait_timeout_ms: 5_000, priority: 9 }));
    await scene.pass(4_000);
    expect((await scene.task('a', late.uid)).status).toBe('queued');
    expect((await scene.ended('a', late.uid)).error!.code).toBe('NO_WORKER');
    expect((await scene.task('a', never.uid)).status).toBe('queued');
  });

  test('does not count while a worker that can run it is busy', async () => {
    const scene = await Scene.of(['a'], { slots: 1 });
    const long = await scene.submit('a', task({ payload: { ms: 20_000 } }));
    const { uid } = await scene.submit('a', task({ wait_timeout_ms: 2_000 }));
    expect((await scene.ended('a', uid)).status).toBe('completed');
    expect((await scene.task('a', long.uid)).status).toBe('completed');
  });

  test('of a step fails the step, whose dependents see it', async () => {
    const scene = await Scene.of(['a']);
    const { uid } = await scene.submitWorkflow('a', {
      name: 'gpu, else cpu',
      steps: [
        {
          ...{ step_id: 'gpu', action: 'fn:work', requires: { labels: ['gpu'] } },
          ...{ wait_timeout_ms: 3_000, on_failure: 'continue' },
        },
        { step_id: 'cpu', action: 'fn:work', depends_on: ['gpu'], when: '${ steps.gpu.status = "failed" }' },
      ],
    });
    expect((await scene.endedWorkflow('a', uid)).status).toBe('completed');
    expect((await scene.task('a', `${uid}/gpu/0`)).error!.code).toBe('NO_WORKER');
    expect((await scene.task('a', `${uid}/cpu/0`)).status).toBe('completed');
  });
});

describe('prefer', () => {
  test('takes a worker with the label while it has a slot, else another one at once', async () => {
    const scene = await Scene.of(['a']);
    const gpu = await HandPeer.joins(scene, 'g', ['a'], { labels: ['gpu'], slots: 1 });
    const other = await HandPeer.joins(scene, 'o', ['a']);
    const submit = () => scene.submit('a', task({ task_type: 'fn:hand', prefer: ['gpu'] }));
    const first = await submit();
    expect((await gpu.leased(1)).uid).toBe(first.uid);
    const second = await submit();
    expect((await other.leased(1)).uid).toBe(second.uid);
  });
});
