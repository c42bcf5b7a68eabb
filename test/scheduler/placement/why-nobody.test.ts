import { describe, expect, test } from 'vitest';
import { requiresSchema } from '../../../dag/schema.ts';
import type { SeenWorker, Wanted } from '../../../scheduler/capabilities.ts';
import type { WorkerState } from '../../../scheduler/messages.ts';
import { whyNobody } from '../../../scheduler/placement/why-nobody.ts';

function seen(name: string, over: Partial<WorkerState> = {}, how: Partial<SeenWorker> = {}): SeenWorker {
  const worker: WorkerState = {
    ...{ worker_id: `of-${name}`, actions: ['shell', 'fn:x'], labels: ['linux'], allows: ['shell:date'] },
    ...{ cpu_cores: 8, memory_gb: 16, slots: 4, running: 0, completed: 0, failed: 0, status: 'active' },
    ...{ registered_at: '2026-01-01T00:00:00.000Z', metadata: {} },
    ...over,
  };
  return { peer_id: `id-${name}`, name, worker, there: true, refused: false, unable: null, ...how };
}

const wanted = (over: Partial<Wanted> = {}, requires: object = {}): Wanted => ({
  ...{ action: 'shell', requires: requiresSchema.parse(requires), needs: [], prefer: [], barred: [] },
  ...over,
});
const THREE = [seen('a'), seen('b'), seen('c')];

describe('why nobody can run a task', () => {
  test.each<[reason: string, task: Wanted, workers: SeenWorker[]]>([
    ['no connected peer offers fn:nope', wanted({ action: 'fn:nope' }), THREE],
    ['no connected peer offers shell', wanted(), []],
    ['the worker that offers shell is leaving', wanted(), [seen('a', { status: 'draining' })]],
    ['label h100: none of 3 peers', wanted({}, { labels: ['linux', 'h100'] }), THREE],
    ['label h100: none of 1 peer', wanted({}, { labels: ['h100'] }), [seen('a'), seen('b', { actions: [] })]],
    ['program rsync: not allowed on any of 3 peers', wanted({ needs: ['shell:rsync'] }), THREE],
    ['cpu_cores 64: at most 8 on 3 peers', wanted({}, { cpu_cores: 64 }), THREE],
    ['memory_gb 17: at most 16 on 3 peers', wanted({}, { memory_gb: 17 }), THREE],
    ['peer id-z: no worker of a peer with this id is known here', wanted({}, { peers: ['id-z'] }), THREE],
    [
      'peer b: not connected, or does not offer shell; b, not connected now, can run it',
      wanted({}, { peers: ['id-b'] }),
      [seen('a'), seen('b', {}, { there: false })],
    ],
    [
      'program rsync: not allowed on any of 2 peers; label h100: none of 2 peers',
      wanted({ needs: ['shell:rsync'] }, { labels: ['h100'] }),
      [seen('a'), seen('b')],
    ],
    [
      'none of 2 peers has all that it requires',
      wanted({}, { labels: ['linux'], cpu_cores: 32 }),
      [seen('a'), seen('b', { labels: [], cpu_cores: 64 })],
    ],
    ['refused a moment ago by b: no', wanted(), [seen('b', {}, { unable: 'no' })]],
    [
      'shell: refused by the policy of a, b',
      wanted(),
      [seen('a', {}, { refused: true }), seen('b', {}, { refused: true })],
    ],
  ])('%s', (reason, task, workers) => {
    expect(whyNobody(task, workers).reason).toBe(reason);
  });

  test('it is for policy alone when every worker that has all else refuses, and nobody who is away may run it', () => {
    const task = wanted({ needs: ['shell:rsync'] });
    expect(whyNobody(task, THREE).refused_by).toEqual(['a', 'b', 'c']);
    expect(whyNobody(wanted({ needs: ['shell:rsync'] }, { labels: ['h100'] }), THREE).refused_by).toEqual([]);
    const away = seen('d', { allows: ['shell:*'] }, { there: false });
    expect(whyNobody(task, [...THREE, away])).toEqual({
      reason: 'program rsync: not allowed on any of 3 peers; d, not connected now, can run it',
      refused_by: [],
    });
    const unable = seen('d', { allows: ['shell:*'] }, { unable: 'no' });
    expect(whyNobody(task, [...THREE, unable]).refused_by).toEqual([]);
  });

  test('a long reason is cut, and many peers are counted', () => {
    const many = Array.from({ length: 300 }, (_, at) => seen(`peer-${at}`, {}, { refused: true }));
    expect(whyNobody(wanted(), many).reason).toMatch(/^shell: refused by the policy of peer-0, .* and 295 more$/);
    const labels = Array.from({ length: 60 }, (_, at) => `label-number-${at}`);
    expect(whyNobody(wanted({}, { labels }), THREE).reason.length).toBeLessThanOrEqual(500);
  });
});
