import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { requiresSchema } from '../../../dag/schema.ts';
import { allows, announcedAs, canRun, capabilitiesToLookUp, capabilityNames } from '../../../scheduler/capabilities.ts';
import type { Candidate } from '../../../scheduler/membership/peer-table.ts';
import type { WorkerState } from '../../../scheduler/messages.ts';
import { choose, score } from '../../../scheduler/placement/choose-worker.ts';
import { SeededRandom } from '../../simulation/world.ts';

const PEER = 'peer-a';

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
    ['another peer', worker(), { peers: ['peer-b'] }, false],
  ])('a task that requires %s', (_what, state, wanted, expected) => {
    expect(canRun(state, PEER, { action: 'echo', requires: requires(wanted), needs: [] })).toBe(expected);
  });

  test('only actions it offers, only while it is active', () => {
    expect(canRun(worker(), PEER, { action: 'fn:x', requires: requires(), needs: [] })).toBe(false);
    expect(canRun(worker({ status: 'draining' }), PEER, { action: 'echo', requires: requires(), needs: [] })).toBe(
      false,
    );
    expect(canRun(worker({ status: 'offline' }), PEER, { action: 'echo', requires: requires(), needs: [] })).toBe(
      false,
    );
  });
});

describe('what a peer allows', () => {
  test.each([
    ['the program by its name', ['shell:wc'], 'shell:wc', true],
    ['another program', ['shell:wc'], 'shell:rsync', false],
    ['a program with that beginning', ['shell:wc'], 'shell:wc2', false],
    ['every program', ['shell:*'], 'shell:rsync', true],
    ['every program says nothing of hosts', ['shell:*'], 'http:example.org', false],
    ['a host below a name', ['http:*.example.org'], 'http:a.b.example.org', true],
    ['the name itself is not below it', ['http:*.example.org'], 'http:example.org', false],
    ['every host says nothing of private addresses', ['http:*'], 'http-private', false],
    ['private addresses', ['http:*', 'http-private'], 'http-private', true],
    ['whatever a peer of an older version may allow', undefined, 'shell:rsync', true],
  ])('%s', (_what, allowed, need, expected) => {
    expect(allows(worker({ allows: allowed }), need)).toBe(expected);
    const task = { action: 'shell', requires: requires(), needs: [need] };
    expect(canRun(worker({ allows: allowed }), PEER, task)).toBe(expected);
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
    wishes: 0,
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

  test('one with more of the labels that are preferred comes first while it has a free slot', () => {
    const plain = candidate({ peer_id: 'here', local: true });
    const one = candidate({ peer_id: 'one', wishes: 1, free: 1 });
    const two = candidate({ peer_id: 'two', wishes: 2, free: 1, rtt_ms: 200 });
    expect(choose([plain, two, one], () => 0)).toMatchObject({ chosen: two });
    expect(choose([plain, one, { ...two, free: 0 }], () => 0)).toMatchObject({
      chosen: one,
      reason: 'the least loaded of those it prefers',
    });
    expect(choose([plain, { ...one, free: 0 }], () => 0).chosen).toBe(plain);
  });

  test('says whether nobody can run it or everybody is full', () => {
    expect(choose([], () => 0)).toEqual({ chosen: null, reason: 'no connected worker can run it' });
    expect(choose([candidate({ free: 0 }), candidate({ free: -1 })], () => 0)).toEqual({
      chosen: null,
      reason: 'all 8 slots are taken',
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

  test('what a peer allows of its actions comes after them', () => {
    const workers = [worker({ allows: ['shell:wc', 'http:*'] })];
    expect(capabilityNames(workers).slice(-2)).toEqual(['action:http:*', 'action:shell:wc']);
  });

  test('a task is looked up by its label, else by what it needs, else by its action, as it is announced', () => {
    const wanted = (over: object, needs: string[] = []) => ({
      ...{ action: 'shell', requires: requires(over), needs, prefer: [], barred: [] },
    });
    expect(capabilitiesToLookUp(wanted({ labels: ['gpu'] }, ['shell:wc']))).toEqual(['label:gpu']);
    expect(capabilitiesToLookUp(wanted({}, ['shell:wc']))).toEqual(['action:shell:wc', 'action:shell:*']);
    expect(capabilitiesToLookUp(wanted({}))).toEqual(['action:shell']);
    expect(announcedAs('gpu')).toEqual(expect.arrayContaining(['label:gpu', 'action:gpu']));
    expect(announcedAs('shell:wc')).toEqual(expect.arrayContaining(['action:shell:wc', 'action:shell:*']));
  });
});
