/** P1 across event loops: what the serve loop may show of what it sees on the disk. */
import { describe, expect, it } from 'vitest';
import { MainFeedReader, mainFeedWriter, newMainFeedMemory } from '../../node/runtimes/main-feed.ts';
import { LOCAL_FEED } from '../../scheduler/records.ts';

const COPIES_BY_DEFAULT = 2;
const FEED = '0123456789abcdefghij';
const state = { feed_id: FEED, released: 5, copies: 2, alone: false };

function shared() {
  const memory = newMainFeedMemory();
  return { write: mainFeedWriter(memory), feed: new MainFeedReader(memory, COPIES_BY_DEFAULT) };
}

describe('of the main feed', () => {
  it('rows up to the last released commit may be shown, and later ones not yet', () => {
    const { write, feed } = shared();
    expect(feed.isReleased(FEED, 1)).toBe(false);
    write(state);
    expect([1, 5, 6].map((seq) => feed.isReleased(FEED, seq))).toEqual([true, true, false]);
    write({ ...state, released: 6 });
    expect(feed.isReleased(FEED, 6)).toBe(true);
  });

  it('nothing may be shown while another one, or none, is the main feed', () => {
    const { write, feed } = shared();
    write(state);
    write({ ...state, feed_id: 'vvvvvvvvvvvvvvvvvvvv', released: 100 });
    expect(feed.isReleased(FEED, 1)).toBe(false);
    write({ ...state, feed_id: '', released: 0 });
    expect(feed.isReleased(FEED, 1)).toBe(false);
    expect(feed.isReleased('', 0)).toBe(false);
  });

  it('the number of disks is told; a peer alone wants one by default', () => {
    const { write, feed } = shared();
    expect(feed.durabilityOf(FEED, 2)).toBeNull();
    write(state);
    expect(feed.durabilityOf(FEED, 2)).toEqual({ copies: 2, wanted: 2 });
    expect(feed.durabilityOf('another', 2)).toBeNull();
    write({ ...state, copies: 1, alone: true });
    expect(feed.durabilityOf(FEED, COPIES_BY_DEFAULT)).toEqual({ copies: 1, wanted: 1 });
    expect(feed.durabilityOf(FEED, 3)).toEqual({ copies: 1, wanted: 3 });
  });
});

it('what a peer keeps of itself alone may always be shown', () => {
  expect(shared().feed.isReleased(LOCAL_FEED, 1_000)).toBe(true);
});
