/** P1 across event loops: what the serve loop may show of what it sees on the disk. */
import { describe, expect, it } from 'vitest';
import { MainFeedReader, mainFeedWriter, newMainFeedMemory } from '../../node/runtimes/main-feed.ts';
import { LOCAL_FEED } from '../../scheduler/records.ts';

const COPIES_BY_DEFAULT = 2;
const FEED = '0123456789abcdefghij';
const state = { feed_id: FEED, released: 5, copied: [5, 3], alone: false };

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

  it('it is told on how many disks a commit is; a peer alone wants one by default', () => {
    const { write, feed } = shared();
    expect(feed.durabilityOf(FEED, 1, 2)).toBeNull();
    write(state);
    expect([3, 4, 6].map((seq) => feed.durabilityOf(FEED, seq, 2)?.copies)).toEqual([3, 2, 1]);
    expect(feed.durabilityOf('another', 1, 2)).toBeNull();
    write({ ...state, copied: [], alone: true });
    expect(feed.durabilityOf(FEED, 1, COPIES_BY_DEFAULT)).toEqual({ copies: 1, wanted: 1 });
    expect(feed.durabilityOf(FEED, 1, 3)).toEqual({ copies: 1, wanted: 3 });
  });

  it('more followers than one record can want are told of by the best of them', () => {
    const { write, feed } = shared();
    write({ ...state, copied: Array.from({ length: 20 }, (_, at) => at) });
    expect(feed.durabilityOf(FEED, 19, 2)?.copies).toBe(2);
    expect(feed.durabilityOf(FEED, 0, 2)?.copies).toBe(9);
  });
});

it('what a peer keeps of itself alone may always be shown', () => {
  expect(shared().feed.isReleased(LOCAL_FEED, 1_000)).toBe(true);
});
