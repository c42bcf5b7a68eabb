import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { appendFile, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it, test } from 'vitest';
import { TRAIL_LINE_BYTES_MAX } from '../../node/audit/limits.ts';
import { GENESIS, hashOf, trailFiles } from '../../node/audit/line.ts';
import { verifyTrail } from '../../node/audit/verify.ts';
import { eventually } from '../harness/eventually.ts';
import { callOf, openTrail, readLines, trailFolder, writeTrail } from './trail-folder.ts';

const newest = async (folder: string) => (await trailFiles(folder)).at(-1)!.path;

describe('a line', () => {
  it('says who did what from where to which record, when, and what came of it, and has the hash of the one before', async () => {
    await using folder = await trailFolder();
    const trail = await openTrail(folder.path);
    trail.record({ ...callOf(3), session: '1f0c7a52', outcome: 'FORBIDDEN' });
    trail.record({ event: 'refused', from: '10.0.0.7', route: 'POST /mcp', outcome: 'UNAUTHORIZED' });
    await trail.close();
    const text = await readFile(await newest(folder.path), 'utf8');
    const lines = text.split('\n').slice(0, -1);
    const read = lines.map((line) => JSON.parse(line));
    const at = expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
    expect(read).toEqual([
      { seq: 1, at, event: 'start', outcome: 'ok', prev: GENESIS },
      {
        seq: 2,
        at,
        event: 'call',
        who: { id: 'key:ci', name: 'ci' },
        from: '127.0.0.1',
        session: '1f0c7a52',
        tool: 'task_cancel',
        on: { kind: 'task', id: 'task-3' },
        outcome: 'FORBIDDEN',
        prev: hashOf(lines[0]!),
      },
      {
        seq: 3,
        at,
        event: 'refused',
        from: '10.0.0.7',
        route: 'POST /mcp',
        outcome: 'UNAUTHORIZED',
        prev: hashOf(lines[1]!),
      },
    ]);
    expect(JSON.parse(await readFile(join(folder.path, 'head.json'), 'utf8'))).toEqual({
      first: 1,
      seq: 3,
      hash: hashOf(lines[2]!),
    });
  });

  it('is one line of bounded length, whatever others call themselves', async () => {
    await using folder = await trailFolder();
    const trail = await openTrail(folder.path);
    const wild = '\n\u001b[2J\u2028\u202e\ud800"\\{}'.repeat(2_000);
    trail.record({
      event: 'call',
      who: { id: wild, name: wild },
      from: wild,
      session: wild,
      tool: wild,
      route: wild,
      on: { kind: wild, id: wild },
      outcome: wild,
    });
    await trail.close();
    const text = await readFile(await newest(folder.path), 'utf8');
    expect(text).toMatch(/^[ -~\n]*$/);
    expect(text.split('\n')).toHaveLength(3);
    expect(text.length).toBeLessThan(TRAIL_LINE_BYTES_MAX);
    const [, line] = await readLines(folder.path);
    expect(line!['outcome']).toBe(`${wild.slice(0, 256)}…`);
    expect(await verifyTrail(folder.path)).toMatchObject({ problem: null, lines: 2 });
  });

  it("is in a file that is its user's alone", async () => {
    await using folder = await trailFolder();
    await writeTrail(folder.path, 1);
    for (const file of [await newest(folder.path), join(folder.path, 'head.json')]) {
      expect(statSync(file).mode & 0o777).toBe(0o600);
    }
  });
});

describe('written', () => {
  it('at the end of the turn, and the head when it is quiet, without an end of the peer', async () => {
    await using folder = await trailFolder();
    const trail = await openTrail(folder.path);
    trail.record(callOf(1));
    await eventually('the head knows both lines', async () => {
      const { seq } = JSON.parse(await readFile(join(folder.path, 'head.json'), 'utf8'));
      return seq === 2;
    });
    expect(await verifyTrail(folder.path)).toMatchObject({ problem: null, lines: 2 });
    await trail.close();
  });

  it('goes on over files and starts, and forgets the oldest files', async () => {
    await using folder = await trailFolder();
    await writeTrail(folder.path, 20, { files_max: 3 });
    const files = await trailFiles(folder.path);
    expect(files).toHaveLength(3);
    expect(files[0]!.first).toBeGreaterThan(1);
    expect(await verifyTrail(folder.path)).toMatchObject({ problem: null, first_seq: files[0]!.first, last_seq: 80 });
    expect((await readLines(folder.path))[0]).toMatchObject({ seq: files[0]!.first });
  });

  it('a line of which a killed peer wrote only a part is no line', async () => {
    await using folder = await trailFolder();
    await writeTrail(folder.path, 1);
    await appendFile(await newest(folder.path), '{"seq":5,"at":"2026-');
    expect(await verifyTrail(folder.path)).toMatchObject({ problem: null, lines: 4 });
    await writeTrail(folder.path, 1);
    expect(await verifyTrail(folder.path)).toMatchObject({ problem: null, lines: 8 });
  });

  it('goes on after the lines of a killed peer that its head does not know', async () => {
    await using folder = await trailFolder();
    await writeTrail(folder.path, 1);
    const head = await readFile(join(folder.path, 'head.json'));
    await writeTrail(folder.path, 1);
    await writeFile(join(folder.path, 'head.json'), head);
    expect(await verifyTrail(folder.path)).toMatchObject({ problem: null, lines: 8 });
    await writeTrail(folder.path, 1);
    expect(await verifyTrail(folder.path)).toMatchObject({ problem: null, lines: 12 });
  });
});

describe('a peer that starts again does not cover up', () => {
  test('a tail that was cut off', async () => {
    await using folder = await trailFolder();
    await writeTrail(folder.path, 1);
    const file = await newest(folder.path);
    const lines = (await readFile(file, 'utf8')).split('\n');
    await writeFile(file, `${lines.slice(0, 2).join('\n')}\n`);
    expect((await verifyTrail(folder.path)).problem).toMatchObject({ kind: 'cut', seq: 3 });
    await writeTrail(folder.path, 1);
    expect((await verifyTrail(folder.path)).problem).toMatchObject({ kind: 'missing', seq: 3 });
  });

  test('a last line that was altered', async () => {
    await using folder = await trailFolder();
    await writeTrail(folder.path, 1);
    const file = await newest(folder.path);
    const text = await readFile(file, 'utf8');
    await writeFile(file, text.replace('"task-3"', '"task-9"'));
    await writeTrail(folder.path, 1);
    expect((await verifyTrail(folder.path)).problem).toMatchObject({ kind: 'altered', seq: 4 });
  });

  test('all files removed', async () => {
    await using folder = await trailFolder();
    await writeTrail(folder.path, 2);
    for (const { path } of await trailFiles(folder.path)) await rm(path);
    await writeTrail(folder.path, 1);
    expect((await verifyTrail(folder.path)).problem).toMatchObject({ kind: 'missing', seq: 1 });
  });

  test('a head that was removed', async () => {
    await using folder = await trailFolder();
    await writeTrail(folder.path, 1);
    await rm(join(folder.path, 'head.json'));
    expect((await verifyTrail(folder.path)).problem).toMatchObject({ kind: 'no_head' });
    await writeTrail(folder.path, 1);
    expect((await verifyTrail(folder.path)).problem).toMatchObject({ kind: 'no_head', seq: 5 });
  });
});

test('a trail that was written anew as a whole is found by a line that was noted elsewhere', async () => {
  await using folder = await trailFolder();
  await writeTrail(folder.path, 2);
  const { last_seq, last_hash } = await verifyTrail(folder.path);
  const noted = { seq: last_seq!, hash: last_hash! };
  await writeTrail(folder.path, 1);
  expect((await verifyTrail(folder.path, noted)).problem).toBeNull();
  for (const { path } of await trailFiles(folder.path)) await rm(path);
  await rm(join(folder.path, 'head.json'));
  await writeTrail(folder.path, 3);
  expect((await verifyTrail(folder.path)).problem).toBeNull();
  expect((await verifyTrail(folder.path, noted)).problem).toMatchObject({ kind: 'altered', seq: noted.seq });
});

test('a head that does not fit is told from a line that does not', async () => {
  await using folder = await trailFolder();
  await writeTrail(folder.path, 1);
  const head = JSON.parse(await readFile(join(folder.path, 'head.json'), 'utf8'));
  await writeFile(join(folder.path, 'head.json'), JSON.stringify({ ...head, seq: 3 }));
  expect((await verifyTrail(folder.path)).problem).toMatchObject({ kind: 'altered', at: 'head.json' });
});

describe('a disk that cannot be written', () => {
  it('stops nothing: what waits is written later, and a line says how much found no room', async () => {
    await using folder = await trailFolder();
    const trail = await openTrail(folder.path, { lines_waiting_max: 5 });
    await eventually('the start is written', () => trail.figures().written === 1);
    const away = `${folder.path}-away`;
    await rename(folder.path, away);
    await writeFile(folder.path, '');
    trail.record(callOf(1));
    await eventually('the failure is seen', () => trail.figures().failing);
    for (let number = 2; number <= 20; number++) trail.record(callOf(number));
    await rm(folder.path);
    await rename(away, folder.path);
    await eventually('it is written again', () => !trail.figures().failing);
    const { written, lost } = trail.figures();
    trail.record(callOf(21));
    await trail.close();
    expect(lost).toBeGreaterThan(0);
    // The start, the calls that found room, and the line about the others.
    expect(written).toBe(1 + (20 - lost) + 1);
    const { problem, lines, lost: missing } = await verifyTrail(folder.path);
    expect({ problem, lines }).toEqual({ problem: null, lines: written + 1 });
    expect(missing).toEqual([{ seq: written - 1, lines: lost, why: expect.stringMatching(/^ENOTDIR|ENOENT$/) }]);
  });

  const disk = mountSmallDisk();
  it.skipIf(disk === null)('because it is full leaves whole lines (skipped where no disk can be mounted)', async () => {
    const folder = join(disk!, 'audit');
    mkdirSync(folder);
    const trail = await openTrail(folder, { lines_waiting_max: 50 });
    let recorded = 0;
    while (!trail.figures().failing) {
      for (let count = 0; count < 50; count++) trail.record(callOf(++recorded));
      await eventually('they are written, or not', () => trail.figures().failing || isSettled(recorded));
    }
    for (let count = 0; count < 60; count++) trail.record(callOf(++recorded));
    expect((await verifyTrail(folder)).problem).toBeNull();
    // The file of the full disk is made smaller by nobody: another file makes room.
    rmSync(join(disk!, 'filler'));
    await eventually('it is written again', () => !trail.figures().failing);
    await trail.close();
    const { written, lost } = trail.figures();
    const verdict = await verifyTrail(folder);
    expect(verdict).toMatchObject({ problem: null, lines: written });
    expect(verdict.lost.reduce((sum, { lines }) => sum + lines, 0)).toBe(lost);
    expect(verdict.lost.some(({ why }) => why === 'ENOSPC')).toBe(true);
    expect(written).toBe(1 + recorded - lost + verdict.lost.length);

    function isSettled(calls: number): boolean {
      const { written: done, lost: missing } = trail.figures();
      return done + missing >= calls;
    }
  });
});

/** A disk of 256 KiB in memory that has a filler of half of it, or null when this user may not mount one. */
function mountSmallDisk(): string | null {
  const mounted = mkdtempSync(join(tmpdir(), 'flowmesh-trail-disk-'));
  try {
    execFileSync('/bin/mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', mounted], { stdio: 'ignore' });
  } catch {
    // No right to mount here: the test that needs it is skipped, and says so.
    rmSync(mounted, { recursive: true });
    return null;
  }
  afterAll(() => {
    execFileSync('/bin/umount', [mounted]);
    rmSync(mounted, { recursive: true });
  });
  writeFileSync(join(mounted, 'filler'), Buffer.alloc(128 * 1024));
  return mounted;
}

test('a folder that is no folder is named at the start', async () => {
  await using folder = await trailFolder();
  await writeFile(join(folder.path, 'audit'), '');
  await expect(openTrail(join(folder.path, 'audit'))).rejects.toMatchObject({ code: 'AUDIT_UNUSABLE' });
});
