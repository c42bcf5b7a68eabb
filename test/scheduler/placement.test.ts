import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { requiresSchema } from '../../dag/schema.ts';
import type { WorkerState } from '../../scheduler/messages.ts';
import {
  announcedAs,
  type Candidate,
  canRun,
  capabilityNames,
  capabilityToLookUp,
  choose,
  score,
} from '../../scheduler/placement.ts';
import { SeededRandom } from '../simulation/world.ts';

const PEER = { peer_id: 'peer-a', name: 'alpha' };

function worker(over: Partial<WorkerState> = {}): WorkerState {
  return {
    worker_id: 'w',
    actions: ['echo', 'shell'],
    labels: ['gpu', 'linux'],
    cpu_cores: 4,
    memory_gb: 8,
    slots: 4,
    running: 0,
    completed: 0,
    failed: 0,
    status: 'active',
    registered_at: '2026-01-01T00:00:00.000Z',
    metadata: {},
    ...over,
  };
}

const requires = (over: object = {}) => requiresSchema.parse(over);

describe('canRun', () => {
  test.each([
    ['nothing', worker(), {}, true],
    ['its labels', worker(), { labels: ['gpu', 'linux'] }, true],
    ['a label it lacks', worker(), { labels: ['gpu', 'arm'] }, false],
    ['as many cores as it has', worker(), { cpu_cores: 4 }, true],
    ['more cores than it has', worker(), { cpu_cores: 4.5 }, false],
    ['cores of a worker that states none', worker({ cpu_cores: null }), { cpu_cores: 0.1 }, false],
    ['more memory than it has', worker(), { memory_gb: 9 }, false],
    ['its peer by id', worker(), { peers: ['peer-b', 'peer-a'] }, true],
    ['its peer by name', worker(), { peers: ['alpha'] }, true],
    ['another peer', worker(), { peers: ['peer-b'] }, false],
  ])('a task that requires %s', (_what, state, wanted, expected) => {
    expect(canRun(state, PEER, 'echo', requires(wanted))).toBe(expected);
  });

  test('only actions it offers, only while it is active', () => {
    expect(canRun(worker(), PEER, 'fn:x', requires())).toBe(false);
    expect(canRun(worker({ status: 'draining' }), PEER, 'echo', requires())).toBe(false);
    expect(canRun(worker({ status: 'offline' }), PEER, 'echo', requires())).toBe(false);
  });
});

function candidate(over: Partial<Candidate> = {}): Candidate {
  return {
    peer_id: 'p',
    worker_id: 'w',
    local: false,
    slots: 4,
    free: 4,
    queued: 0,
    rtt_ms: 1,
    loss_rate: 0,
    found_by: 'connected',
    ...over,
  };
}

const candidates = fc.array(
  fc.record({
    peer_id: fc.string({ minLength: 1, maxLength: 3 }),
    local: fc.boolean(),
    slots: fc.integer({ min: 1, max: 8 }),
    free: fc.integer({ min: -2, max: 8 }),
    queued: fc.nat(100),
    rtt_ms: fc.integer({ min: 0, max: 500 }),
    loss_rate: fc.float({ min: 0, max: 1, noNaN: true }),
  }),
  { maxLength: 12 },
);

describe('choose', () => {
  test('takes one with a free slot that is nearly as good as the best, whenever there is one', () => {
    fc.assert(
      fc.property(candidates, fc.integer(), (list, seed) => {
        const random = new SeededRandom(seed);
        const all = list.map((each) => candidate(each));
        const { chosen } = choose(all, () => random.next());
        const free = all.filter((each) => each.free > 0);
        if (free.length === 0) {
          expect(chosen).toBeNull();
          return;
        }
        const best = Math.min(...free.map(score));
        expect(chosen!.free).toBeGreaterThan(0);
        expect(score(chosen!)).toBeLessThanOrEqual(best + 0.15);
      }),
    );
  });

  test('a tie goes to the local worker', () => {
    const local = candidate({ peer_id: 'here', local: true });
    for (const random of [0, 0.5, 0.99]) {
      const { chosen, reason } = choose([candidate(), local, candidate({ peer_id: 'q' })], () => random);
      expect(chosen).toBe(local);
      expect(reason).toBe('local and no worse');
    }
  });

  test('a loaded local worker is passed over for an idle one elsewhere', () => {
    const local = candidate({ peer_id: 'here', local: true, free: 1 });
    const other = candidate({ peer_id: 'idle' });
    expect(choose([local, other], () => 0).chosen).toBe(other);
  });

  test('takes the better of two random ones among the best', () => {
    const good = candidate({ peer_id: 'good' });
    const better = candidate({ peer_id: 'better', rtt_ms: 0 });
    const worst = candidate({ peer_id: 'worst', free: 1 });
    const draws = [0.1, 0.9];
    expect(choose([good, better, worst], () => draws.shift()!).chosen).toBe(better);
    expect(choose([good, better, worst], () => 0.1).chosen).toBe(good);
  });

  test('says whether nobody can run it or everybody is full', () => {
    expect(choose([], () => 0)).toEqual({ chosen: null, reason: 'no connected worker can run it' });
    expect(choose([candidate({ free: 0 }), candidate({ free: -1 })], () => 0)).toEqual({
      chosen: null,
      reason: 'every worker that can run it is full',
    });
  });

  test('load, distance, queue and losses make a worker less wanted', () => {
    const best = score(candidate({ local: true }));
    expect(best).toBe(0);
    for (const worse of [{ free: 1 }, { rtt_ms: 100 }, { queued: 40 }, { loss_rate: 0.5 }]) {
      expect(score(candidate(worse))).toBeGreaterThan(score(candidate()));
    }
  });
});

describe('capabilities in the DHT', () => {
  test('actions and labels of active workers, each once, sorted', () => {
    const workers = [
      worker(),
      worker({ worker_id: 'v', labels: ['gpu'] }),
      worker({ labels: ['x'], status: 'draining' }),
    ];
    expect(capabilityNames(workers)).toEqual(['action:echo', 'action:shell', 'label:gpu', 'label:linux']);
  });

  test('a task is looked up by its label, else by its action, as it is announced', () => {
    expect(capabilityToLookUp('echo', requires({ labels: ['gpu'] }))).toBe('label:gpu');
    expect(capabilityToLookUp('echo', requires())).toBe('action:echo');
    expect(announcedAs('gpu')).toContain(capabilityToLookUp('x', requires({ labels: ['gpu'] })));
  });
});
