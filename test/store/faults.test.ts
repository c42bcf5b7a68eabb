/** What happens to the data file when processes die, disks fill and files rot. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { DatabaseSync } from 'node:sqlite';
import type { Worker } from 'node:worker_threads';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openSqliteReader } from '../../node/store/reader.ts';
import { openSqliteStore } from '../../node/store/store.ts';
import { ROWS_PER_COMMIT } from './commit-for-ever.ts';
import { quiet } from './quiet-log.ts';
import { FEED, row, task } from './sample-rows.ts';

const IS_ROOT = process.getuid?.() === 0;

let folder: string;
let path: string;
const cleanups: (() => unknown)[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'flowmesh-faults-'));
  path = join(folder, 'feed.sqlite');
  cleanups.push(() => rmSync(folder, { recursive: true }));
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function open(options: { inline?: boolean; max_bytes?: number; path?: string } = {}) {
  const store = await openSqliteStore({ path, inline: true, log: quiet, ...options });
  cleanups.push(() => store.close());
  return store;
}

/** Makes the file with some records and closes it, so that all of it is in the file itself. */
async function filled(records = 50): Promise<void> {
  const store = await openSqliteStore({ path, inline: true, log: quiet });
  for (let n = 1; n <= records; n += 1)
    await store.commit([row(n, task(`task-${n}`, { progress_message: `mark-${n}-` }))]);
  await store.close();
}

describe('a process killed with SIGKILL', () => {
  for (const writer of ['thread', 'inline']) {
    it(`in the middle of commits loses nothing that it acknowledged (${writer})`, async () => {
      let acknowledged: number[] = [];
      for (let round = 1; round <= 3; round += 1) {
        acknowledged = acknowledged.concat(await killedAfter(300, writer));
        const store = await openSqliteStore({ path, inline: true, log: quiet });
        const { seq: last } = store.feeds.get(FEED)!;
        expect(last).toBeGreaterThanOrEqual(Math.max(...acknowledged));
        for (const seq of acknowledged) {
          for (let n = 0; n < ROWS_PER_COMMIT; n += 1)
            expect(await store.reader.get('task', `${seq}-${n}`)).toBeDefined();
        }
        const { total } = await store.reader.list({ kind: 'task', limit: 1, offset: 0 });
        // Every commit is there as a whole or not at all, with the shared record in the state of the last one.
        expect(total).toBe(last * ROWS_PER_COMMIT + 1);
        expect((await store.reader.get('task', 'shared'))?.progress).toBe(last);
        await store.close();
      }
    });
  }

  it('while the file was being made leaves no half-made one', async () => {
    writeFileSync(`${path}.new`, 'the beginning of a file');
    const store = await open();
    expect(store.feeds.size).toBe(0);
    expect(existsSync(`${path}.new`)).toBe(false);
  });
});

async function killedAfter(count: number, writer: string): Promise<number[]> {
  const entry = new URL('./commit-for-ever.ts', import.meta.url).pathname;
  const child: ChildProcess = spawn(process.execPath, [entry, path, writer], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  const acknowledged: number[] = [];
  for await (const line of createInterface({ input: child.stdout! })) {
    acknowledged.push(Number(line));
    if (acknowledged.length === count) child.kill('SIGKILL');
  }
  await ended;
  expect(child.signalCode).toBe('SIGKILL');
  return acknowledged;
}

describe('a file that is not what a peer wrote', () => {
  const corrupt = { code: 'DATA_FOLDER_CORRUPT', retryable: false, message: expect.stringContaining('feed.sqlite') };

  for (const inline of [true, false]) {
    it(`is refused when it is no database (${inline ? 'inline' : 'thread'})`, async () => {
      writeFileSync(path, 'not a database at all, but long enough to have a header of a hundred bytes'.repeat(20));
      await expect(open({ inline })).rejects.toMatchObject(corrupt);
      expect(readFileSync(path, 'utf8')).toContain('not a database');
    });
  }

  it('is refused when it is empty, instead of starting a new feed', async () => {
    await filled();
    truncateSync(path, 0);
    await expect(open()).rejects.toMatchObject(corrupt);
  });

  it('is refused when its end is missing', async () => {
    await filled();
    truncateSync(path, 5 * 4096);
    await expect(open()).rejects.toMatchObject(corrupt);
  });

  it('is refused when a page is damaged', async () => {
    await filled();
    const bytes = readFileSync(path);
    bytes.fill(0xa5, 4 * 4096, 12 * 4096);
    writeFileSync(path, bytes);
    await expect(open()).rejects.toMatchObject(corrupt);
  });

  it('is refused when it belongs to another program', async () => {
    const other = new DatabaseSync(path);
    other.exec('CREATE TABLE theirs (a)');
    other.close();
    await expect(open()).rejects.toMatchObject(corrupt);
  });

  it('is found by reading a record whose bytes changed, which names the record', async () => {
    await filled();
    const bytes = readFileSync(path);
    const mark = bytes.indexOf('mark-20-');
    expect(mark).toBeGreaterThan(0);
    bytes.write('M', mark);
    writeFileSync(path, bytes);
    const store = await open();
    expect(await store.reader.get('task', 'task-19')).toBeDefined();
    const damaged = {
      code: 'DATA_FOLDER_CORRUPT',
      details: { uid: 'task-20' },
      message: expect.stringContaining('task-20'),
    };
    await expect(store.reader.get('task', 'task-20')).rejects.toMatchObject(damaged);
    await expect(store.reader.active('task', FEED)).rejects.toMatchObject(damaged);
  });
});

it('a file of the format before the first release is refused, with what to do', async () => {
  await filled();
  const older = new DatabaseSync(path);
  older.exec('PRAGMA user_version = 1');
  older.close();
  const before = readFileSync(path);
  const refused = { code: 'DATA_FOLDER_OLDER', retryable: false, message: expect.stringContaining('Move it away') };
  await expect(open()).rejects.toMatchObject(refused);
  await expect(open({ inline: false })).rejects.toMatchObject(refused);
  expect(() => openSqliteReader(path)).toThrow(expect.objectContaining(refused));
  expect(readFileSync(path).equals(before)).toBe(true);
});

it('a file of the format before this one is brought to this one, with all that is in it', async () => {
  await filled();
  const older = new DatabaseSync(path);
  older.exec(`DROP INDEX listed; ALTER TABLE rows DROP COLUMN submitted_by; PRAGMA user_version = 2;
    CREATE INDEX listed ON rows (feed_id, kind, created_at, uid, status, priority, worker_id, peer_id, dead_letter, tags)
      WHERE created_at IS NOT NULL`);
  older.close();
  for (const again of [1, 2]) {
    const store = await openSqliteStore({ path, inline: again === 1, log: quiet });
    await store.own(FEED, true);
    await store.commit([row(50 + again, task(`new-${again}`, { submitted_by: 'key:ann' }))]);
    const count = async (filter: object) =>
      (await store.reader.list({ kind: 'task', limit: 1, offset: 0, ...filter })).total;
    expect([await count({}), await count({ submitted_by: 'key:ann' })]).toEqual([50 + again, again]);
    await store.close();
  }
});

it('a file of a newer format is refused by stores and readers, and left as it is', async () => {
  await filled();
  const newer = new DatabaseSync(path);
  newer.exec('PRAGMA user_version = 7');
  newer.close();
  const before = readFileSync(path);
  const refused = { code: 'DATA_FOLDER_NEWER', retryable: false, message: expect.stringContaining('format 7') };
  await expect(open()).rejects.toMatchObject(refused);
  await expect(open({ inline: false })).rejects.toMatchObject(refused);
  expect(() => openSqliteReader(path)).toThrow(expect.objectContaining(refused));
  expect(readFileSync(path).equals(before)).toBe(true);
});

describe('a file that another program changed while it was open is not taken up again', () => {
  const changed = async (sql: string) => {
    const store = await open();
    await store.commit([row(5, task('a'))]);
    const other = new DatabaseSync(path);
    other.exec(sql);
    other.close();
    return store;
  };

  it.each([
    ['less', 'UPDATE feeds SET seq = 4'],
    ['nothing', 'DELETE FROM feeds'],
  ])('with %s of what was acknowledged', async (_, sql) => {
    const store = await changed(sql);
    const gone = { code: 'DATA_FOLDER_CORRUPT', message: expect.stringContaining('up to seq 5') };
    await expect(store.recover()).rejects.toMatchObject(gone);
    await expect(store.commit([row(6, task('b'))])).rejects.toMatchObject({ code: 'STORE_FAILED' });
  });

  it.each([
    ['commits', 'UPDATE feeds SET seq = 6'],
    ['feeds', `INSERT INTO feeds VALUES ('new', 1, 1, 1)`],
    ['owners', 'UPDATE feeds SET owned = 1'],
  ])('with %s that were not acknowledged', async (_, sql) => {
    const store = await changed(sql);
    const more = { code: 'STORE_FAILED', retryable: false, message: expect.stringContaining('restart the peer') };
    await expect(store.recover()).rejects.toMatchObject(more);
  });
});

describe('a place that cannot be opened', () => {
  const unreadable = (problem: string) => ({
    code: 'DATA_FOLDER_UNREADABLE',
    retryable: false,
    message: expect.stringMatching(new RegExp(problem)),
  });

  for (const inline of [true, false]) {
    it(`because a file is where its folder should be (${inline ? 'inline' : 'thread'})`, async () => {
      writeFileSync(join(folder, 'file'), '');
      const inFile = join(folder, 'file', 'feed.sqlite');
      await expect(open({ inline, path: inFile })).rejects.toMatchObject(unreadable('not a folder'));
      const below = join(folder, 'file', 'below', 'feed.sqlite');
      await expect(open({ inline, path: below })).rejects.toMatchObject(unreadable('not a folder'));
    });
  }

  it('because a folder has its name', async () => {
    mkdirSync(path);
    await expect(open()).rejects.toMatchObject(unreadable('not a file'));
  });

  it('because there is nothing to read', () => {
    expect(() => openSqliteReader(path)).toThrow(expect.objectContaining(unreadable('no such file')));
  });

  it.skipIf(IS_ROOT)('because this user has no right to it (skipped for root, who has every right)', async () => {
    await filled();
    chmodSync(path, 0o000);
    await expect(open()).rejects.toMatchObject(unreadable('permission denied'));
    chmodSync(path, 0o600);
    chmodSync(folder, 0o500);
    cleanups.push(() => chmodSync(folder, 0o700));
    await expect(open()).rejects.toMatchObject(unreadable('permission denied'));
  });
});

describe('a full disk', () => {
  const big = { output: 'x'.repeat(300_000) };
  const full = { code: 'DISK_FULL', retryable: true, message: expect.stringContaining('feed.sqlite') };

  for (const inline of [true, false]) {
    it(`rejects the commits that met it and keeps those before (${inline ? 'inline' : 'thread'})`, async () => {
      const store = await open({ inline, max_bytes: 1_000_000 });
      await store.commit([row(1, task('a', big))]);
      const met = [2, 3, 4, 5].map((seq) => store.commit([row(seq, task(`b${seq}`, big))]));
      const outcomes = await Promise.allSettled(met);
      expect(outcomes.at(-1)).toMatchObject({ status: 'rejected', reason: full });
      const { seq } = store.feeds.get(FEED)!;
      await expect(store.commit([row(seq + 1, task('small'))])).rejects.toMatchObject(full);
      await store.recover();
      expect(store.feeds.get(FEED)?.seq).toBe(seq);
      await store.commit([row(seq + 1, task('small'))]);
      const kept = (await store.reader.active('task', FEED)).map((record) => record.uid);
      const expected = [2, 3, 4, 5].filter((_, n) => outcomes[n]?.status === 'fulfilled').map((n) => `b${n}`);
      expect(kept.sort()).toEqual(['a', ...expected, 'small']);
    });
  }

  const disk = mountSmallDisk();
  it.skipIf(disk === null)('of the operating system does the same (skipped where no disk can be mounted)', async () => {
    const mounted = disk!;
    const file = join(mounted, 'feed.sqlite');
    const filler = join(mounted, 'filler');
    const store = await open({ inline: false, path: file });
    await store.commit([row(1, task('a', big))]);
    fill(filler);
    await expect(store.commit([row(2, task('b', big))])).rejects.toMatchObject(full);
    await expect(store.commit([row(2, task('c'))])).rejects.toMatchObject(full);
    await expect(store.recover()).rejects.toMatchObject(full);
    await expect(store.commit([row(2, task('d'))])).rejects.toMatchObject(full);
    expect(await store.reader.get('task', 'a')).toBeDefined();
    rmSync(filler);
    await store.recover();
    await store.commit([row(2, task('e', big))]);
    await store.close();
    const again = await open({ path: file });
    expect((await again.reader.active('task', FEED)).map((record) => record.uid)).toEqual(['a', 'e']);
    await again.close();
  });

  it.skipIf(disk === null)('at the first start is named (skipped where no disk can be mounted)', async () => {
    const mounted = disk!;
    rmSync(join(mounted, 'feed.sqlite'), { force: true });
    fill(join(mounted, 'filler'));
    const failing = open({ path: join(mounted, 'new', 'feed.sqlite') });
    await expect(failing).rejects.toMatchObject(full);
    rmSync(join(mounted, 'filler'));
    expect((await open({ path: join(mounted, 'new', 'feed.sqlite') })).feeds.size).toBe(0);
  });
});

/** A disk of 2 MiB in memory, or null when this user may not mount one; unmounted after the tests of this file. */
function mountSmallDisk(): string | null {
  const mounted = mkdtempSync(join(tmpdir(), 'flowmesh-disk-'));
  try {
    execFileSync('/bin/mount', ['-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', mounted], { stdio: 'ignore' });
  } catch {
    // No right to mount here: the tests that need it are skipped, and say so.
    rmSync(mounted, { recursive: true });
    return null;
  }
  afterAll(() => {
    execFileSync('/bin/umount', [mounted]);
    rmSync(mounted, { recursive: true });
  });
  return mounted;
}

function fill(filler: string): void {
  let kilobytes = 2048;
  while (kilobytes >= 1) {
    try {
      writeFileSync(filler, Buffer.alloc(kilobytes * 1024), { flag: 'a' });
    } catch {
      // Full at this size; smaller pieces fill the rest.
      kilobytes = Math.floor(kilobytes / 2);
    }
  }
}

it('a store thread that dies rejects what it had not answered, and recover starts another', async () => {
  const started = new Promise<Worker>((resolve) => process.once('worker', resolve));
  const store = await open({ inline: false });
  const thread = await started;
  await store.commit([row(1, task('a'))]);
  const ended = new Promise((resolve) => thread.once('exit', resolve));
  void thread.terminate();
  await ended;
  await expect(store.commit([row(2, task('b'))])).rejects.toMatchObject({
    code: 'STORE_FAILED',
    retryable: true,
  });
  expect(await store.reader.get('task', 'a')).toBeDefined();
  await store.recover();
  await store.commit([row(2, task('c'))]);
  expect((await store.reader.active('task', FEED)).map((record) => record.uid)).toEqual(['a', 'c']);
});

it('readers of other threads see each commit and do not keep the log from being emptied', async () => {
  const store = await open({ inline: false });
  const reader = openSqliteReader(path);
  cleanups.push(() => reader.close());
  const big = { output: 'x'.repeat(200_000) };
  let seq = 0;
  for (; seq < 200; ) {
    seq += 1;
    await store.commit([row(seq, task('same', { ...big, progress: seq }))]);
    expect((await reader.get('task', 'same'))?.progress).toBe(seq);
  }
  // 40 MB were written; without checkpoints all of it would be in the log.
  expect(readFileSync(`${path}-wal`).length).toBeLessThan(20_000_000);
});
