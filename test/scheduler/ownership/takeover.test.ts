import { expect, test } from 'vitest';
import { silentLog } from '../../../node/log.ts';
import { BEAT_INTERVAL_MS, CUT_OFF_PATIENCE, TAKEOVER_MS, WATCHES_PER_BEAT } from '../../../scheduler/limits.ts';
import { PeerTable } from '../../../scheduler/membership/peer-table.ts';
import { Takeover } from '../../../scheduler/ownership/takeover.ts';
import type { Network } from '../../../scheduler/ports.ts';
import type { Copy, FollowedFeeds } from '../../../scheduler/replication/follower.ts';
import { FULL_MEMBER } from '../../../scheduler/roles.ts';
import { newFeed, withFollowers } from '../../../scheduler/storage/feed-lines.ts';

const WATCH_MS = BEAT_INTERVAL_MS / WATCHES_PER_BEAT;
const STATE = {
  ...{ name: '', version: '', feeds: [], workers: [], queued: 0, running: 0, paused: false, waiting: [] },
  addresses: [],
};

/** When `f`, which hears nobody from 1 s on, finds that the feed of `o` is for it to take over, in ms. */
function dueAt(heard: { o: number; g: number }, firstWatch: number): number {
  let now = 0;
  const peers = new PeerTable('f', () => FULL_MEMBER);
  const takeover = new Takeover({
    clock: { now: () => now, wall: () => now, after: () => () => {}, defer: () => {} },
    network: { self: 'f' } as Network,
    peers,
    followed: {} as FollowedFeeds,
    log: silentLog,
    probe: () => {},
    hasOpen: async () => true,
    own: async () => {},
    options: { takeover_ms: TAKEOVER_MS, beat_interval_ms: BEAT_INTERVAL_MS },
  });
  for (const [peer, at] of Object.entries(heard)) {
    peers.turn(peer, true, 0);
    peers.heard(peer, STATE, null, at);
  }
  const copy = {
    ...{
      feed_id: 'x',
      cursor: 1,
      madeFrom: null,
      wholeFrom: 0,
      pagesOf: [],
      announcedAt: 0,
      triedAt: 0,
      wantedAt: 0,
      durable: Promise.resolve(),
    },
    feed: withFollowers(newFeed('x', 'o'), [{ peer_id: 'f', synced: true }]),
  } satisfies Copy;
  for (now = firstWatch; ; now += WATCH_MS) {
    takeover.noticeCut();
    if (takeover.isDue(copy)) return now;
  }
}

test('a peer whose cable is silent takes nothing over before it knows that it is the one that is cut off (P11)', () => {
  for (let firstWatch = 0; firstWatch < WATCH_MS; firstWatch += 50) {
    for (const heard of [
      { o: 50, g: 950 },
      { o: 950, g: 50 },
      { o: 500, g: 500 },
    ]) {
      expect(dueAt(heard, firstWatch)).toBeGreaterThan(CUT_OFF_PATIENCE * TAKEOVER_MS);
    }
  }
});
