import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { silentLog } from '../../node/log.ts';
import { CrashFile, noteCrash } from '../../node/runtimes/crash-file.ts';
import { CRASHED_LEASES_MAX } from '../../node/runtimes/limits.ts';
import { WorkedOnLeases } from '../../node/runtimes/worked-on.ts';
import { eventually } from '../harness/eventually.ts';

const lease = (uid: string) => ({ uid, feed_id: 'f', epoch: 1, attempt: 1, owner: 'o' });

describe('a crash is put down to', () => {
  const loop = new WorkedOnLeases();
  loop.began([lease('runs'), lease('ends'), lease('ended')]);
  loop.ending([lease('ends'), lease('ended')]);
  loop.over([lease('ended')]);

  test('what was just ending, and not to what ran beside it', () => {
    expect(loop.blamed(1)).toEqual([lease('ends')]);
    expect(loop.blamed(2)).toEqual([lease('ends')]);
  });

  test('everything, when it goes on all the same', () => {
    expect(loop.blamed(3)).toEqual([lease('runs'), lease('ends')]);
  });

  test('what ran, when nothing was ending', () => {
    const quiet = new WorkedOnLeases();
    quiet.began([lease('a'), lease('b')]);
    expect(quiet.blamed(1)).toEqual([lease('a'), lease('b')]);
  });
});

describe('what loops were at when they crashed', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'flowmesh-crashes-'));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  test('is there for the next one, crash by crash, until it is told', async () => {
    expect(new CrashFile(folder, silentLog).untold).toEqual([]);
    noteCrash(folder, [lease('a'), lease('b')], silentLog);
    noteCrash(folder, [lease('c')], silentLog);
    const next = new CrashFile(folder, silentLog);
    const names = next.untold.map(({ crash }) => crash);
    expect(next.untold.map(({ uid }) => uid)).toEqual(['a', 'b', 'c']);
    expect(names[0]).toBe(names[1]);
    expect(names[2]).not.toBe(names[0]);
    next.told(lease('a'));
    next.told(lease('c'));
    await eventually('they are gone from the disk', () => new CrashFile(folder, silentLog).untold.length === 1);
    expect(new CrashFile(folder, silentLog).untold).toMatchObject([{ uid: 'b' }]);
  });

  test('is bounded: the oldest are forgotten', () => {
    for (let at = 0; at < 3; at++) {
      const leases = Array.from({ length: CRASHED_LEASES_MAX / 2 }, (_, index) => lease(`${at}/${index}`));
      noteCrash(folder, leases, silentLog);
    }
    const { untold } = new CrashFile(folder, silentLog);
    expect(untold).toHaveLength(CRASHED_LEASES_MAX);
    expect(untold[0]?.uid).toBe('1/0');
  });

  test('that cannot be read is not counted, and stops nobody', async () => {
    await writeFile(join(folder, 'crashes.json'), '{"leases": [');
    expect(new CrashFile(folder, silentLog).untold).toEqual([]);
    noteCrash(folder, [lease('a')], silentLog);
    expect(JSON.parse(await readFile(join(folder, 'crashes.json'), 'utf8'))).toMatchObject({ leases: [{ uid: 'a' }] });
  });

  test('cannot be written: the loop starts again all the same', () => {
    expect(() => noteCrash(join(folder, 'nowhere'), [lease('a')], silentLog)).not.toThrow();
  });
});
