import { describe, expect, test } from 'vitest';
import { requiresSchema } from '../../../dag/schema.ts';
import { PeerTable } from '../../../scheduler/membership/peer-table.ts';
import type { PeerState, WorkerState } from '../../../scheduler/messages.ts';

const SILENT_MS = 3_000;
const ECHO = { action: 'echo', requires: requiresSchema.parse({}), needs: [], prefer: [], barred: [] };

function worker(over: Partial<WorkerState> = {}): WorkerState {
  return {
    worker_id: 'w',
    actions: ['echo'],
    labels: [],
    cpu_cores: null,
    memory_gb: null,
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

function state(over: Partial<PeerState> = {}): PeerState {
  return {
    name: 'p',
    version: '0.0.0',
    feeds: [{ feed_id: 'feed-of-p', epoch: 1, base_seq: 0, nonce: '' }],
    workers: [worker()],
    queued: 0,
    running: 0,
    paused: false,
    waiting: [],
    addresses: [],
    ...over,
  };
}

/** A directory that is connected to one peer `p`. */
function open(of: PeerState = state()): PeerTable {
  const directory = new PeerTable('self');
  directory.entry('p', 0).connected = true;
  directory.heard('p', of, [], 0);
  return directory;
}

const free = (directory: PeerTable, now = 0) =>
  directory.candidates(ECHO, 'class', now, SILENT_MS).map((each) => [each.worker_id, each.free]);

describe('believed free slots', () => {
  test('fall with every lease given and rise with every one ended', () => {
    const directory = open();
    directory.leaseGiven('p', 'w', 'a');
    directory.leaseGiven('p', 'w', 'b');
    expect(free(directory)).toEqual([['w', 2]]);
    directory.leaseEnded('p', 'w', 'a', 'kept', 0);
    expect(free(directory)).toEqual([['w', 3]]);
  });

  test('count what the worker runs for others, and not ours twice', () => {
    const directory = open();
    directory.leaseGiven('p', 'w', 'a');
    // Three run there: ours and two of others.
    directory.heard('p', state({ workers: [worker({ running: 3 })] }), [{ uid: 'a' }], 0);
    expect(free(directory)).toEqual([['w', 1]]);
    directory.leaseGiven('p', 'w', 'b');
    expect(free(directory)).toEqual([['w', 0]]);
    directory.leaseEnded('p', 'w', 'a', 'kept', 0);
    expect(free(directory)).toEqual([['w', 1]]);
  });

  test('leave out leases of another worker of the same peer', () => {
    const directory = open(state({ workers: [worker(), worker({ worker_id: 'v' })] }));
    directory.leaseGiven('p', 'v', 'a');
    directory.heard('p', state({ workers: [worker(), worker({ worker_id: 'v', running: 1 })] }), [{ uid: 'a' }], 0);
    expect(free(directory)).toEqual([
      ['w', 4],
      ['v', 3],
    ]);
  });

  test('are none from a `busy` until the next sign of life', () => {
    const directory = open();
    directory.refused('p', 'w', 'class', 'busy', 0);
    expect(free(directory)).toEqual([['w', 0]]);
    directory.heard('p', state(), null, 0);
    expect(free(directory)).toEqual([['w', 4]]);
  });
});

describe('candidates', () => {
  test('a worker that was `unable` is not asked for this class for a while, for others it is', () => {
    const directory = open();
    directory.refused('p', 'w', 'class', 'unable', 0);
    expect(free(directory)).toEqual([]);
    expect(directory.candidates(ECHO, 'other', 0, SILENT_MS)).toHaveLength(1);
    directory.heard('p', state(), [], 30_001);
    expect(free(directory, 30_001)).toEqual([['w', 4]]);
  });

  test('how many refusals are remembered is bounded', () => {
    const directory = open();
    for (let index = 0; index < 5_000; index++) directory.refused('p', 'w', `class ${index}`, 'unable', 0);
    expect(directory.find('p')!.unable.size).toBeLessThanOrEqual(1_024);
    expect(directory.candidates(ECHO, 'class 4999', 0, SILENT_MS)).toEqual([]);
  });

  test.each([
    ['is not connected', (directory: PeerTable) => (directory.find('p')!.connected = false)],
    ['is leaving', (directory: PeerTable) => (directory.find('p')!.leaving = true)],
    ['has not told anything', (directory: PeerTable) => (directory.find('p')!.state = null)],
  ])('not one of a peer that %s', (_what, change) => {
    const directory = open();
    change(directory);
    expect(free(directory)).toEqual([]);
  });

  test('not one of a peer that is silent, but the local one always', () => {
    const directory = open();
    directory.entry('self', 0).connected = true;
    directory.heard('self', state({ workers: [worker({ worker_id: 'mine' })] }), null, 0);
    expect(free(directory, SILENT_MS + 1)).toEqual([['mine', 4]]);
    expect(directory.candidates(ECHO, 'class', SILENT_MS + 1, SILENT_MS)[0]).toMatchObject({
      local: true,
      found_by: 'local',
    });
  });
});

describe('what a peer is worth', () => {
  test('only leases that were lost with their worker count against it', () => {
    const directory = open();
    for (const [uid, how] of [
      ['a', 'kept'],
      ['b', 'lost'],
      ['c', 'given_up'],
      ['d', 'kept'],
    ] as const) {
      directory.leaseGiven('p', 'w', uid);
      directory.leaseEnded('p', 'w', uid, how, 0);
    }
    expect(directory.find('p')).toMatchObject({ leases_kept: 2, leases_lost: 1 });
    expect(directory.candidates(ECHO, 'class', 0, SILENT_MS)[0]!.loss_rate).toBeCloseTo(1 / 3);
  });

  test('a lease ends once', () => {
    const directory = open();
    directory.leaseGiven('p', 'w', 'a');
    directory.leaseEnded('p', 'w', 'a', 'lost', 0);
    directory.leaseEnded('p', 'w', 'a', 'lost', 0);
    expect(directory.find('p')!.leases_lost).toBe(1);
    expect(directory.leasedTo('p', 'w').size).toBe(0);
  });

  test('round trips follow shorter ones quickly, longer ones slowly; jitter is their mean difference', () => {
    const directory = open();
    directory.roundTrip('p', 8);
    expect(directory.find('p')).toMatchObject({ rtt_ms: 8, jitter_ms: null });
    directory.roundTrip('p', 16);
    expect(directory.find('p')).toMatchObject({ rtt_ms: 9, jitter_ms: 8 });
    directory.roundTrip('p', 1);
    expect(directory.find('p')).toMatchObject({ rtt_ms: 5, jitter_ms: 8 });
    directory.roundTrip('unknown', 1);
  });
});

describe('how many peers are remembered', () => {
  test('is bounded: those not connected are forgotten, the oldest first', () => {
    const directory = open();
    directory.entry('self', 0).connected = true;
    for (let index = 0; index < 1_000; index++) directory.entry(`gone-${index}`, 0);
    expect(directory.peers().length).toBeLessThanOrEqual(256);
    expect(directory.find('p')).toBeDefined();
    expect(directory.find('self')).toBeDefined();
    expect(directory.find('gone-0')).toBeUndefined();
    expect(directory.find('gone-999')).toBeDefined();
  });

  test('a peer that connects is known, however many are connected', () => {
    const directory = open();
    for (let index = 0; index < 300; index++) {
      directory.entry(`peer-${index}`, 0).connected = true;
      expect(directory.find(`peer-${index}`)?.connected).toBe(true);
    }
  });

  test('the owner of a feed is named connected or away', () => {
    const directory = open();
    const mine = (feedId: string) => feedId === 'feed-of-p';
    expect(directory.ownerOfFeed(mine)?.peer_id).toBe('p');
    expect(directory.lastOwnerOfFeed(mine)?.peer_id).toBe('p');
    directory.find('p')!.connected = false;
    expect(directory.ownerOfFeed(mine)).toBeUndefined();
    expect(directory.lastOwnerOfFeed(mine)?.peer_id).toBe('p');
  });
});
