import { describe, expect, test } from 'vitest';
import { requiresSchema } from '../../../dag/schema.ts';
import { PeerTable } from '../../../scheduler/membership/peer-table.ts';
import type { PeerState, WorkerState } from '../../../scheduler/messages.ts';
import { FULL_MEMBER } from '../../../scheduler/roles.ts';

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

/** A peers that is connected to one peer `p`. */
function open(of: PeerState = state()): PeerTable {
  const peers = new PeerTable('self', () => FULL_MEMBER);
  peers.entry('p', 0).connected = true;
  peers.heard('p', of, [], 0);
  return peers;
}

const free = (peers: PeerTable, now = 0) =>
  peers.candidates(ECHO, 'class', now, SILENT_MS).map((each) => [each.worker_id, each.free]);

describe('believed free slots', () => {
  test('fall with every lease given and rise with every one ended', () => {
    const peers = open();
    peers.leaseGiven('p', 'w', 'a');
    peers.leaseGiven('p', 'w', 'b');
    expect(free(peers)).toEqual([['w', 2]]);
    peers.leaseEnded('p', 'w', 'a', 'kept', 0);
    expect(free(peers)).toEqual([['w', 3]]);
  });

  test('count what the worker runs for others, and not ours twice', () => {
    const peers = open();
    peers.leaseGiven('p', 'w', 'a');
    // Three run there: ours and two of others.
    peers.heard('p', state({ workers: [worker({ running: 3 })] }), [{ uid: 'a' }], 0);
    expect(free(peers)).toEqual([['w', 1]]);
    peers.leaseGiven('p', 'w', 'b');
    expect(free(peers)).toEqual([['w', 0]]);
    peers.leaseEnded('p', 'w', 'a', 'kept', 0);
    expect(free(peers)).toEqual([['w', 1]]);
  });

  test('leave out leases of another worker of the same peer', () => {
    const peers = open(state({ workers: [worker(), worker({ worker_id: 'v' })] }));
    peers.leaseGiven('p', 'v', 'a');
    peers.heard('p', state({ workers: [worker(), worker({ worker_id: 'v', running: 1 })] }), [{ uid: 'a' }], 0);
    expect(free(peers)).toEqual([
      ['w', 4],
      ['v', 3],
    ]);
  });

  test('are none from a `busy` until the next sign of life', () => {
    const peers = open();
    peers.busy('p', 'w', 0);
    expect(free(peers)).toEqual([['w', 0]]);
    peers.heard('p', state(), null, 0);
    expect(free(peers)).toEqual([['w', 4]]);
  });
});

describe('candidates', () => {
  test('a worker that was `unable` is not asked for this class for a while, for others it is', () => {
    const peers = open();
    peers.unable('p', 'w', 'class', 'no', 0);
    expect(free(peers)).toEqual([]);
    expect(peers.candidates(ECHO, 'other', 0, SILENT_MS)).toHaveLength(1);
    peers.heard('p', state(), [], 30_001);
    expect(free(peers, 30_001)).toEqual([['w', 4]]);
  });

  test('how many refusals are remembered is bounded', () => {
    const peers = open();
    for (let index = 0; index < 5_000; index++) peers.unable('p', 'w', `class ${index}`, 'no', 0);
    expect(peers.find('p')!.unable.size).toBeLessThanOrEqual(1_024);
    expect(peers.candidates(ECHO, 'class 4999', 0, SILENT_MS)).toEqual([]);
  });

  test.each([
    ['is not connected', (peers: PeerTable) => (peers.find('p')!.connected = false)],
    ['is leaving', (peers: PeerTable) => (peers.find('p')!.leaving = true)],
    ['has not told anything', (peers: PeerTable) => (peers.find('p')!.state = null)],
  ])('not one of a peer that %s', (_what, change) => {
    const peers = open();
    change(peers);
    expect(free(peers)).toEqual([]);
  });

  test('not one of a peer that is silent, but the local one always', () => {
    const peers = open();
    peers.entry('self', 0).connected = true;
    peers.heard('self', state({ workers: [worker({ worker_id: 'mine' })] }), null, 0);
    expect(free(peers, SILENT_MS + 1)).toEqual([['mine', 4]]);
    expect(peers.candidates(ECHO, 'class', SILENT_MS + 1, SILENT_MS)[0]).toMatchObject({
      local: true,
      found_by: 'local',
    });
  });
});

describe('what a peer is worth', () => {
  test('only leases that were lost with their worker count against it', () => {
    const peers = open();
    for (const [uid, how] of [
      ['a', 'kept'],
      ['b', 'lost'],
      ['c', 'given_up'],
      ['d', 'kept'],
    ] as const) {
      peers.leaseGiven('p', 'w', uid);
      peers.leaseEnded('p', 'w', uid, how, 0);
    }
    expect(peers.find('p')).toMatchObject({ leases_kept: 2, leases_lost: 1 });
    expect(peers.candidates(ECHO, 'class', 0, SILENT_MS)[0]!.loss_rate).toBeCloseTo(1 / 3);
  });

  test('a lease ends once', () => {
    const peers = open();
    peers.leaseGiven('p', 'w', 'a');
    peers.leaseEnded('p', 'w', 'a', 'lost', 0);
    peers.leaseEnded('p', 'w', 'a', 'lost', 0);
    expect(peers.find('p')!.leases_lost).toBe(1);
    expect(peers.leasedTo('p', 'w').size).toBe(0);
  });

  test('round trips follow shorter ones quickly, longer ones slowly; jitter is their mean difference', () => {
    const peers = open();
    peers.roundTrip('p', 8);
    expect(peers.find('p')).toMatchObject({ rtt_ms: 8, jitter_ms: null });
    peers.roundTrip('p', 16);
    expect(peers.find('p')).toMatchObject({ rtt_ms: 9, jitter_ms: 8 });
    peers.roundTrip('p', 1);
    expect(peers.find('p')).toMatchObject({ rtt_ms: 5, jitter_ms: 8 });
    peers.roundTrip('unknown', 1);
  });
});

describe('how many peers are remembered', () => {
  test('is bounded: those not connected are forgotten, the oldest first', () => {
    const peers = open();
    peers.entry('self', 0).connected = true;
    for (let index = 0; index < 1_000; index++) peers.entry(`gone-${index}`, 0);
    expect(peers.peers().length).toBeLessThanOrEqual(256);
    expect(peers.find('p')).toBeDefined();
    expect(peers.find('self')).toBeDefined();
    expect(peers.find('gone-0')).toBeUndefined();
    expect(peers.find('gone-999')).toBeDefined();
  });

  test('a peer that connects is known, however many are connected', () => {
    const peers = open();
    for (let index = 0; index < 300; index++) {
      peers.entry(`peer-${index}`, 0).connected = true;
      expect(peers.find(`peer-${index}`)?.connected).toBe(true);
    }
  });

  test('the owner of a feed is named connected or away', () => {
    const peers = open();
    const mine = (feedId: string) => feedId === 'feed-of-p';
    expect(peers.ownerOfFeed(mine)?.peer_id).toBe('p');
    expect(peers.lastOwnerOfFeed(mine)?.peer_id).toBe('p');
    peers.find('p')!.connected = false;
    expect(peers.ownerOfFeed(mine)).toBeUndefined();
    expect(peers.lastOwnerOfFeed(mine)?.peer_id).toBe('p');
  });
});
