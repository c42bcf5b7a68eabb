import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { trailFiles } from '../../node/audit/line.ts';
import { trailFolder, writeTrail } from '../audit/trail-folder.ts';
import { runCli } from './run-cli.ts';

async function dataFolder() {
  const folder = await trailFolder();
  const audit = join(folder.path, 'audit');
  await mkdir(audit);
  await writeTrail(audit, 1);
  return Object.assign(folder, { audit });
}

test('verify says that a trail is whole, and what to keep elsewhere', async () => {
  await using folder = await dataFolder();
  const { exitCode, stdout } = await runCli(['audit', 'verify', '--data-dir', folder.path]);
  expect(exitCode).toBe(0);
  expect(stdout).toMatch(/^whole {2}4 lines in 1 files, from 1 to 4\nKeep .* --head: 4:[0-9a-f]{64}$/);
  const head = stdout.split(' ').at(-1)!;
  expect((await runCli(['audit', 'verify', '--data-dir', folder.path, '--head', head])).exitCode).toBe(0);
});

test('verify names the line that was altered, and ends with 1', async () => {
  await using folder = await dataFolder();
  const { path } = (await trailFiles(folder.audit))[0]!;
  await writeFile(path, (await readFile(path, 'utf8')).replace('"task-1"', '"task-7"'));
  const people = await runCli(['audit', 'verify'], { FLOWMESH_DATA_DIR: folder.path });
  expect(people).toMatchObject({
    exitCode: 1,
    stdout: 'altered  trail-000000000001.jsonl:2: line 2 was altered: it does not fit the lines beside it',
  });
  const scripts = await runCli(['audit', 'verify', '--data-dir', folder.path, '--json']);
  expect(scripts.exitCode).toBe(1);
  expect(JSON.parse(scripts.stdout)).toMatchObject({ success: false, problem: { kind: 'altered', seq: 2 } });
});

test('show prints the last lines', async () => {
  await using folder = await dataFolder();
  const { exitCode, stdout } = await runCli(['audit', 'show', '--data-dir', folder.path, '--limit', '2']);
  expect(exitCode).toBe(0);
  const [title, ...rows] = stdout.split('\n');
  expect(title).toMatch(/^SEQ +AT +WHO +FROM +WHAT +ON +OUTCOME/);
  expect(rows).toHaveLength(2);
  expect(rows[1]).toMatch(/^4 .* key:ci +127\.0\.0\.1 +task_cancel +task task-3 +FORBIDDEN/);
});

test('where there is no trail, that is said', async () => {
  await using folder = await trailFolder();
  const { exitCode, stderr } = await runCli(['audit', 'verify', '--data-dir', folder.path]);
  expect(exitCode).toBe(1);
  expect(stderr).toContain('NO_AUDIT_TRAIL');
  const nowhere = await runCli(['audit', 'show']);
  expect(nowhere.exitCode).toBe(2);
  expect(nowhere.stderr).toContain('--data-dir');
});
