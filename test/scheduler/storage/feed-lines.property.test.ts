/**
 * What two copies of a feed share, told from their lines alone, against histories that really forked: every commit of a
 * history is one of its own, and what two of them share is how far they are the same.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { FEED_LINES_MAX } from '../../../scheduler/limits.ts';
import type { FeedRecord, Line } from '../../../scheduler/records.ts';
import {
  compareLines,
  currentLine,
  forkSeq,
  isHeir,
  newFeed,
  openLine,
} from '../../../scheduler/storage/feed-lines.ts';

const RUNS = 2_000;
let nonces = 0;

/** The commits of a feed at one disk, and the feed's record as of each of them. */
class History {
  readonly commits: string[];
  readonly records: FeedRecord[];

  constructor(commits: string[], records: FeedRecord[]) {
    this.commits = commits;
    this.records = records;
  }

  static of(owner: string): History {
    const history = new History([], []);
    history.#commit(newFeed('feed', owner));
    return history;
  }

  get feed(): FeedRecord {
    return this.records.at(-1)!;
  }

  get lines(): readonly Line[] {
    return this.feed.lines;
  }

  #commit(record: FeedRecord): void {
    const { epoch, base_seq, owner, nonce } = currentLine(record);
    this.commits.push(`${epoch} ${base_seq} ${owner} ${nonce} ${this.commits.length + 1}`);
    this.records.push(record);
  }

  write(count: number): void {
    for (let written = 0; written < count; written++) this.#commit(this.feed);
  }

  /** A restart of its owner, or another peer that takes it over: the line is in its own first commit. */
  goOn(owner: string, above = 0): void {
    this.#commit(openLine(this.feed, owner, this.commits.length, String(nonces++), above));
  }

  /** A disk that has come less far. */
  upTo(seq: number): History {
    return new History(this.commits.slice(0, seq), this.records.slice(0, seq));
  }

  sharedWith(other: History): number {
    const at = this.commits.findIndex((commit, index) => commit !== other.commits[index]);
    return at < 0 ? this.commits.length : at;
  }
}

interface Move {
  writes: number;
  /** Who goes on after them; null: nobody new. */
  by: number | null;
  /** Epochs of other histories that the new line leaves behind. */
  skips: number;
}

const moves = (maxLength: number) =>
  fc.array(fc.record({ writes: fc.nat(4), by: fc.option(fc.nat(2)), skips: fc.nat(2) }), { maxLength });

function play(history: History, side: string, moves: readonly Move[]): void {
  for (const { writes, by, skips } of moves) {
    if (by !== null) history.goOn(`${side}${by}`, currentLine(history.feed).epoch + skips);
    history.write(writes);
  }
}

/** Two disks: one goes on with the owner of the fork, the other one with peers of its own side. */
const forks = (maxMoves: number) =>
  fc
    .record({ before: moves(maxMoves), kept: fc.nat(60), left: moves(maxMoves), right: moves(maxMoves) })
    .map(({ before, kept, left, right }) => {
      const mine = History.of('a0');
      play(mine, 'a', before);
      const theirs = mine.upTo(1 + (kept % mine.commits.length));
      play(mine, 'a', left);
      if (right.length > 0) theirs.goOn('b0'); // nobody writes in a line that another peer owns
      play(theirs, 'b', right);
      return { mine, theirs };
    });

/** What a peer that follows `theirs` needs to know. */
function check(mine: History, theirs: History): void {
  const fork = forkSeq(mine.lines, theirs.lines);
  const shared = mine.sharedWith(theirs);
  const beyond = mine.commits.length > shared && theirs.commits.length > shared;
  // Whatever is said to be shared is.
  expect(Math.min(fork, mine.commits.length, theirs.commits.length)).toBeLessThanOrEqual(shared);
  if (beyond) expect(fork).toBe(shared);
  else expect(fork).toBeGreaterThanOrEqual(Math.min(mine.commits.length, theirs.commits.length));
}

describe('the fork of two histories', () => {
  test('is where they are the same for the last time, seen from both sides', () => {
    fc.assert(
      fc.property(forks(6), ({ mine, theirs }) => {
        check(mine, theirs);
        check(theirs, mine);
      }),
      { numRuns: RUNS },
    );
  });

  test('is never told too late, also when lines between were forgotten', () => {
    fc.assert(
      fc.property(
        forks(3),
        fc.integer({ min: 0, max: 2 * FEED_LINES_MAX }),
        fc.boolean(),
        ({ mine, theirs }, more, ours) => {
          const long = ours ? mine : theirs;
          for (let line = 0; line < more; line++) long.goOn(ours ? 'a1' : 'b1');
          expect(long.lines.length).toBeLessThanOrEqual(FEED_LINES_MAX);
          const fork = forkSeq(mine.lines, theirs.lines);
          const shared = mine.sharedWith(theirs);
          expect(Math.min(fork, mine.commits.length, theirs.commits.length)).toBeLessThanOrEqual(shared);
        },
      ),
      { numRuns: 300 },
    );
  });
});

describe('the order of lines (P2)', () => {
  const lines = fc.record({
    epoch: fc.nat(3),
    base_seq: fc.nat(3),
    owner: fc.constantFrom('a', 'b', 'c'),
    nonce: fc.constantFrom('', 'n'),
  });

  test('is total: of two different ones the same one stays, whoever asks', () => {
    fc.assert(
      fc.property(lines, lines, lines, (a, b, c) => {
        expect(Math.sign(compareLines(a, b))).toBe(-Math.sign(compareLines(b, a)) + 0);
        expect(compareLines(a, b) === 0).toBe(JSON.stringify(a) === JSON.stringify(b));
        if (compareLines(a, b) >= 0 && compareLines(b, c) >= 0) expect(compareLines(a, c)).toBeGreaterThanOrEqual(0);
      }),
      { numRuns: RUNS },
    );
  });

  test('puts the one that goes on before the one that it goes on from', () => {
    fc.assert(
      fc.property(forks(6), ({ mine }) => {
        for (const [at, line] of mine.lines.slice(1).entries()) {
          expect(compareLines(line, mine.lines[at]!)).toBeGreaterThan(0);
        }
      }),
    );
  });
});

describe('the heir of a fork', () => {
  test('is one that this side knows among those that went on where it did not (P9)', () => {
    const mine = History.of('a');
    mine.write(3);
    const theirs = mine.upTo(2);
    const recordOf = (lines: readonly Line[], follower: string): FeedRecord => {
      return { ...newFeed('feed', 'a'), lines: [...lines], followers: [{ peer_id: follower, synced: true }] };
    };
    expect(isHeir(recordOf(mine.lines, 'x'), recordOf(theirs.lines, 'x'))).toBe(true);
    theirs.goOn('b');
    theirs.goOn('c');
    mine.goOn('a');
    const heirOf = (follower: string) => isHeir(recordOf(mine.lines, follower), recordOf(theirs.lines, 'x'));
    expect(['b', 'c', 'x'].map(heirOf)).toEqual([true, true, false]);
  });

  test('who was a follower is none any more, and a feed that had another owner says so', () => {
    const feed = { ...newFeed('feed', 'a'), followers: [{ peer_id: 'b', synced: true }] };
    expect(openLine(feed, 'a', 3, 'n')).toMatchObject({ passed_on: false, followers: feed.followers });
    const taken = openLine(feed, 'b', 3, 'n');
    expect(taken).toMatchObject({ passed_on: true, followers: [], version: feed.version + 1 });
    expect(openLine(taken, 'a', 4, 'n').passed_on).toBe(true);
  });
});
