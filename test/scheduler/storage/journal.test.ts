import { describe, expect, test } from 'vitest';
import { FlowmeshError } from '../../../dag/errors.ts';
import { COPY_WAIT_MS, ROW_BYTES_MAX } from '../../../scheduler/limits.ts';
import type { QueueRecord, Row } from '../../../scheduler/records.ts';
import { type Copier, Journal } from '../../../scheduler/storage/journal.ts';
import { MemoryStore } from '../../simulation/memory-store.ts';
import { quiet, SimulatedClock, World } from '../../simulation/world.ts';
import { taskRecord } from '../records.ts';
import { type Gate, gate } from '../scene.ts';

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

/** Copies as the test says: how many disks have each commit, and whether more can come. */
class HandCopier implements Copier {
  readonly shipped: { seq: number; uids: string[] }[] = [];
  readonly landings: number[] = [];
  readonly disks = new Map<number, number>();
  growing = true;

  ship({ seq, rows }: { seq: number; rows: Row[] }): void {
    this.shipped.push({ seq, uids: uidsOf(rows) });
  }

  landed(): void {
    this.landings.push(this.shipped.length);
  }

  copiesOf(seq: number): number {
    return this.disks.get(seq) ?? 1;
  }

  mayGrow(): boolean {
    return this.growing;
  }
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

  test('keeps to the reason that it was refused for first', async () => {
    const { journal } = open();
    const waiting = journal.turn((turn) => turn.put(record('a')));
    journal.refuse(DISK_FULL);
    journal.refuse(new FlowmeshError('PEER_STOPPED', 'stopping', { retryable: true }));
    await expect(waiting).rejects.toBe(DISK_FULL);
    expect(journal.refused).toBe(DISK_FULL);
    await expect(journal.turn(() => {})).rejects.toBe(DISK_FULL);
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

describe('copies', () => {
  /** A journal whose disk writes at once and whose copies are the test's. */
  function openWithCopies() {
    const scene = open();
    const copier = new HandCopier();
    scene.journal.copyBy(copier);
    /** A turn that wants its record on two disks, and notes on how many it is. */
    const writeTwice = (uid: string) => {
      void scene.journal
        .durably((turn) => turn.put(taskRecord(uid, { copies: 2 })))
        .then(
          ({ copies }) => scene.seen.push(`${uid} on ${copies}`),
          () => scene.seen.push(`${uid} refused`),
        );
    };
    /** The commits so far get to the own disk. */
    const land = async () => {
      await scene.world.run(scene.world.now + 1);
      for (const commit of scene.commits) commit.gate.open();
      await scene.world.run(scene.world.now + 1);
    };
    const copied = async (seq: number, disks: number) => {
      copier.disks.set(seq, disks);
      scene.journal.copied();
      await scene.world.run(scene.world.now + 1);
    };
    return { ...scene, copier, writeTwice, land, copied };
  }

  test('are not waited for by who asks for the own disk alone', async () => {
    const { journal, seen, writeTwice, land } = openWithCopies();
    writeTwice('a');
    void journal.whenWritten().then(() => seen.push('written'));
    await land();
    expect(seen).toEqual(['written']); // its copy is still waited for
    await journal.whenWritten(); // nothing is on its way
    writeTwice('b');
    const lost = journal.whenWritten();
    journal.refuse(DISK_FULL);
    await expect(lost).rejects.toThrow(DISK_FULL);
    await expect(journal.whenWritten()).rejects.toThrow(DISK_FULL);
  });

  test('are made of what the own disk has, and of nothing that it may still refuse', async () => {
    const { copier, writeTwice, land, world } = openWithCopies();
    writeTwice('a');
    await world.run(world.now + 1);
    expect(copier.shipped).toEqual([]);
    await land();
    expect(copier.shipped).toEqual([{ seq: 1, uids: ['a'] }]);
    expect(copier.landings).toEqual([1]);
  });

  test('are waited for, but not before the own disk has it (P1)', async () => {
    const { seen, writeTwice, land, copied, world } = openWithCopies();
    writeTwice('a');
    await world.run(world.now + 1);
    await copied(1, 2);
    expect(seen).toEqual([]);
    await land();
    expect(seen).toEqual(['a on 2']);
    writeTwice('b');
    await land();
    expect(seen).toEqual(['a on 2']);
    await copied(2, 2);
    expect(seen).toEqual(['a on 2', 'b on 2']);
  });

  test('of a later commit release nothing before the earlier ones', async () => {
    const { seen, writeTwice, land, copied } = openWithCopies();
    writeTwice('a');
    await land();
    writeTwice('b');
    await land();
    await copied(2, 2);
    expect(seen).toEqual([]);
    await copied(1, 2);
    expect(seen).toEqual(['a on 2', 'b on 2']);
  });

  test('that are not asked for are not waited for, but for those of the commits before', async () => {
    const { seen, write, writeTwice, land, copied } = openWithCopies();
    void write('alone', 'x');
    await land();
    expect(seen).toEqual(['effect of alone', 'answer of alone']);
    writeTwice('a');
    await land();
    void write('behind', 'y');
    void write('reads');
    await land();
    expect(seen).toHaveLength(2);
    await copied(1, 1);
    expect(seen).toHaveLength(2);
    await copied(2, 2);
    expect(seen.slice(2)).toEqual(expect.arrayContaining(['a on 2', 'answer of behind', 'answer of reads']));
  });

  test('are waited for no longer than COPY_WAIT_MS from the own disk on, each commit for itself', async () => {
    const { seen, writeTwice, land, world } = openWithCopies();
    writeTwice('a');
    await land();
    await world.run(world.now + COPY_WAIT_MS / 2);
    writeTwice('b');
    await land();
    await world.run(world.now + COPY_WAIT_MS / 2 - 10);
    expect(seen).toEqual([]);
    await world.run(world.now + 20);
    expect(seen).toEqual(['a on 1']);
    await world.run(world.now + COPY_WAIT_MS / 2);
    expect(seen).toEqual(['a on 1', 'b on 1']);
  });

  test('are not waited for when no more can come, also when that becomes so meanwhile', async () => {
    const { seen, copier, journal, writeTwice, land, world } = openWithCopies();
    writeTwice('a');
    await land();
    expect(seen).toEqual([]);
    copier.growing = false;
    journal.copied();
    await world.run(world.now + 1);
    expect(seen).toEqual(['a on 1']);
    writeTwice('b');
    await land();
    expect(seen).toEqual(['a on 1', 'b on 1']);
  });

  test('that come after a refusal release nothing', async () => {
    const { seen, journal, writeTwice, land, copied, settle } = openWithCopies();
    writeTwice('a');
    await land();
    journal.refuse(new FlowmeshError('NOT_OWNER', 'another one has it'));
    await copied(1, 2);
    await settle();
    expect(seen).toEqual(['a refused']);
  });
});

describe('while it is frozen (P11)', () => {
  test('a journal writes nothing; what waited is written when it is not', async () => {
    const { journal, commits, seen, write, settle } = open();
    journal.freeze();
    void write('one', 'a');
    void write('reads');
    await settle();
    expect(commits).toEqual([]);
    expect(seen).toEqual([]);
    journal.thaw();
    await settle();
    commits[0]!.gate.open();
    await settle();
    expect(seen.filter((line) => line.startsWith('answer'))).toEqual(['answer of one', 'answer of reads']);
  });

  test('what is on its way to the disk is the last that is written', async () => {
    const { journal, commits, write, settle } = open();
    void write('one', 'a');
    await settle();
    void write('two', 'b');
    journal.freeze();
    commits[0]!.gate.open();
    await settle();
    expect(commits).toHaveLength(1);
    journal.thaw();
    await settle();
    expect(commits).toHaveLength(2);
  });

  test('what waits is refused when another one has taken over', async () => {
    const { journal, commits, seen, write, settle } = open();
    journal.freeze();
    void write('one', 'a');
    journal.refuse(new FlowmeshError('NOT_OWNER', 'another one has it'));
    journal.thaw();
    await settle();
    expect(seen).toEqual(['refusal of one']);
    expect(commits).toEqual([]);
  });
});

describe('reads of what was written', () => {
  test('wait until it is released, and no longer (P1)', async () => {
    const { world, journal, commits, seen, write, settle } = open();
    void write('one', 'a');
    await world.run(world.now + 1);
    const note = (seq: number) => journal.whenReleased(seq).then(() => seen.push(`${seq} may be read`));
    await Promise.all([note(0), settle()]);
    expect(journal.released).toBe(0);
    void note(1);
    void write('two', 'b');
    await settle();
    expect(seen).toEqual(['0 may be read']);
    commits[0]!.gate.open();
    await settle();
    expect(new Set(seen.slice(1))).toEqual(new Set(['effect of one', 'answer of one', '1 may be read']));
    expect(journal.released).toBe(1);
    const second = expect(journal.whenReleased(2)).rejects.toMatchObject({ code: 'NOT_OWNER' });
    journal.refuse(new FlowmeshError('NOT_OWNER', 'another one has it'));
    await second;
    await expect(journal.whenReleased(2)).rejects.toMatchObject({ code: 'NOT_OWNER' });
    await journal.whenReleased(1);
  });
});

test('a row that no message carries is written nowhere: its turn is refused, and what is in memory is given up', async () => {
  const { journal, failures, commits, settle, write } = open();
  const large = record('large', 'x'.repeat(ROW_BYTES_MAX));
  const refused = expect(journal.turn((turn) => turn.put(large))).rejects.toMatchObject({ code: 'ROW_TOO_LARGE' });
  await settle();
  await refused;
  expect(failures).toMatchObject([{ code: 'ROW_TOO_LARGE' }]);
  expect(commits).toEqual([]);
  void write('a later one', 'later');
  await settle();
  expect(journal.refused).toBe(failures[0]);
});
