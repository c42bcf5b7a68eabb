import { describe, expect, test } from 'vitest';
import { FlowmeshError } from '../../dag/errors.ts';
import { Journal } from '../../scheduler/journal.ts';
import type { QueueRecord, Row } from '../../scheduler/records.ts';
import { MemoryStore } from '../simulation/memory-store.ts';
import { quiet, SimulatedClock, World } from '../simulation/world.ts';
import { type Gate, gate } from './scene.ts';

const DISK_FULL = new FlowmeshError('DISK_FULL', 'the simulated disk is full', { retryable: true });
const LONG_MS = 1_000;
const FEED = 'feed';

function record(uid: string, reason: string | null = null): QueueRecord {
  return { kind: 'queue', uid, paused: false, reason, paused_at: null };
}

/** A journal on a disk whose every commit waits until it is let through, or fails. */
function open(options: { beforeFlush?: (journal: Journal) => void } = {}) {
  const world = new World(1);
  const commits: { rows: Row[]; gate: Gate; fails: boolean }[] = [];
  const store = new MemoryStore({
    sync: async (operation) => {
      if (operation.type !== 'commit') return;
      const commit = { rows: operation.rows, gate: gate(), fails: false };
      commits.push(commit);
      await commit.gate.opened;
      if (commit.fails) throw DISK_FULL;
    },
  });
  const failures: unknown[] = [];
  const components = { store, clock: new SimulatedClock(world, 1), log: quiet, probe: () => {} };
  /** A journal that goes on where the disk is. */
  const begin = (): Journal => {
    const journal = new Journal(
      components,
      { feed_id: FEED, epoch: 1, seq: store.feeds.get(FEED)?.seq ?? 0 },
      { beforeFlush: () => options.beforeFlush?.(journal), onFailure: (error) => failures.push(error) },
    );
    return journal;
  };
  const journal = begin();
  const seen: string[] = [];
  /** A turn that writes `uids` and notes its release. */
  const write = (name: string, ...uids: string[]) => writeTo(journal, name, ...uids);
  const writeTo = (to: Journal, name: string, ...uids: string[]) =>
    to
      .turn((turn) => {
        for (const uid of uids) turn.put(record(uid));
        turn.after(() => seen.push(`effect of ${name}`));
        return name;
      })
      .then(
        (value) => seen.push(`answer of ${value}`),
        () => seen.push(`refusal of ${name}`),
      );
  const settle = () => world.run(world.now + LONG_MS);
  return { world, store, journal, begin, commits, failures, seen, write, writeTo, settle };
}

const uidsOf = (rows: readonly Row[]) => rows.map(({ uid }) => uid);

describe('group commit', () => {
  test('all turns of one event-loop turn are one commit with one seq', async () => {
    const { commits, write, settle, store } = open();
    void write('one', 'a', 'b');
    void write('two', 'c');
    await settle();
    expect(commits.map(({ rows }) => uidsOf(rows))).toEqual([['a', 'b', 'c']]);
    expect(new Set(commits[0]!.rows.map(({ seq }) => seq))).toEqual(new Set([1]));
    commits[0]!.gate.open();
    await settle();
    expect(store.feeds.get(FEED)!.seq).toBe(1);
  });

  test('the last state of a record in a commit is the one that is written', async () => {
    const { commits, journal, settle } = open();
    void journal.turn((turn) => turn.put(record('a', 'first')));
    void journal.turn((turn) => turn.put(record('a', 'second')));
    await settle();
    expect(commits[0]!.rows.map((row) => (row.record as QueueRecord).reason)).toEqual(['second']);
  });

  test('one commit is under way at a time, what comes meanwhile is the next one', async () => {
    const { commits, write, settle } = open();
    void write('one', 'a');
    await settle();
    void write('two', 'b');
    await settle();
    void write('three', 'c');
    await settle();
    expect(commits.map(({ rows }) => uidsOf(rows))).toEqual([['a']]);
    commits[0]!.gate.open();
    await settle();
    expect(commits.map(({ rows }) => uidsOf(rows))).toEqual([['a'], ['b', 'c']]);
    expect(commits[1]!.rows.map(({ seq }) => seq)).toEqual([2, 2]);
  });

  test('what dispatching writes before the flush is part of the same commit', async () => {
    let wanted = true;
    const { commits, write, settle } = open({
      beforeFlush: (journal) => {
        if (wanted) journal.put(record('dispatched'));
        wanted = false;
      },
    });
    void write('one', 'a');
    await settle();
    expect(uidsOf(commits[0]!.rows)).toEqual(['a', 'dispatched']);
  });
});

describe('release (P1)', () => {
  test('nothing is said before the rows are on the disk, then in the order of the turns', async () => {
    const { commits, seen, write, settle } = open();
    void write('one', 'a');
    void write('two', 'b');
    await settle();
    expect(seen).toEqual([]);
    commits[0]!.gate.open();
    await settle();
    expect(seen.filter((line) => line.startsWith('effect'))).toEqual(['effect of one', 'effect of two']);
    expect(seen.filter((line) => line.startsWith('answer'))).toEqual(['answer of one', 'answer of two']);
  });

  test('a turn without rows waits for the commits before it', async () => {
    const { commits, seen, write, settle } = open();
    void write('writes', 'a');
    await settle();
    void write('reads');
    await settle();
    expect(seen).toEqual([]);
    commits[0]!.gate.open();
    await settle();
    expect(seen.filter((line) => line.startsWith('effect'))).toEqual(['effect of writes', 'effect of reads']);
    expect(seen.filter((line) => line.startsWith('answer'))).toEqual(['answer of writes', 'answer of reads']);
  });

  test('a turn without rows is released without a commit when none is under way', async () => {
    const { commits, seen, write, settle } = open();
    void write('reads');
    await settle();
    expect(seen).toEqual(['effect of reads', 'answer of reads']);
    expect(commits).toEqual([]);
  });

  test('an effect that throws keeps no other one from being released', async () => {
    const { journal, commits, seen, write, settle } = open();
    const thrown = journal.turn((turn) => {
      turn.put(record('a'));
      turn.after(() => {
        throw new Error('an effect');
      });
    });
    void write('two', 'b');
    await settle();
    commits[0]!.gate.open();
    await settle();
    await thrown;
    expect(seen).toEqual(['effect of two', 'answer of two']);
    void write('three', 'c');
    await settle();
    expect(commits).toHaveLength(2);
  });

  test('what a turn throws is thrown to its caller, the turns beside it are committed', async () => {
    const { journal, commits, seen, write, settle } = open();
    const thrown = journal.turn(() => {
      throw new FlowmeshError('INVALID_STATE', 'checked first');
    });
    await expect(thrown).rejects.toMatchObject({ code: 'INVALID_STATE' });
    void write('two', 'b');
    await settle();
    commits[0]!.gate.open();
    await settle();
    expect(seen).toEqual(['effect of two', 'answer of two']);
  });
});

describe('a commit that fails', () => {
  test('rejects its turns and those behind it, and releases no effect of either', async () => {
    const { commits, failures, seen, write, settle } = open();
    void write('failing', 'a');
    await settle();
    void write('behind', 'b');
    void write('reading');
    await settle();
    commits[0]!.fails = true;
    commits[0]!.gate.open();
    await settle();
    expect(seen).toEqual(['refusal of failing', 'refusal of behind', 'refusal of reading']);
    expect(failures).toEqual([DISK_FULL]);
    expect(commits).toHaveLength(1);
  });

  test('refuses every turn with its error for good; the next journal goes on with the seq of the store', async () => {
    const { journal, begin, store, commits, seen, write, writeTo, settle } = open();
    void write('failing', 'a');
    await settle();
    commits[0]!.fails = true;
    commits[0]!.gate.open();
    await settle();
    expect(journal.refused).toBe(DISK_FULL);
    await expect(journal.turn(() => 1)).rejects.toBe(DISK_FULL);
    await store.recover();
    expect(journal.refused).toBe(DISK_FULL);
    void writeTo(begin(), 'again', 'b');
    await settle();
    commits[1]!.gate.open();
    await settle();
    expect(commits[1]!.rows.map(({ uid, seq }) => [uid, seq])).toEqual([['b', 1]]);
    expect(seen.at(-1)).toBe('answer of again');
  });

  test('a refusal from outside drops the commit under way: its success releases nothing any more', async () => {
    const { journal, commits, seen, write, settle } = open();
    void write('one', 'a');
    await settle();
    journal.refuse(new FlowmeshError('PEER_STOPPED', 'stopping', { retryable: true }));
    commits[0]!.gate.open();
    await settle();
    expect(seen).toEqual(['refusal of one']);
  });
});
