/** `npm run demo` as a user runs it: what it says, and what it leaves behind, which is nothing. */
import { readdir, readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { execa } from 'execa';
import { expect, it } from 'vitest';
import { isRunning } from '../executors/processes.ts';
import { temporaryFolder } from './temporary-folder.ts';

const ROOT = new URL('../../', import.meta.url);

/** Runs the demo, whose home and temporary files are in `folder`. `onLine` may interfere with it. */
async function runDemo(folder: string, onLine: (line: string, demo: { pid: number }) => void = () => {}) {
  const demo = execa(process.execPath, ['examples/demo.ts'], {
    cwd: ROOT,
    env: { PATH: process.env['PATH']!, HOME: folder, TMPDIR: folder },
    extendEnv: false,
    reject: false,
  });
  for await (const line of createInterface({ input: demo.stdout })) onLine(line, { pid: demo.pid! });
  const { exitCode, stdout, stderr } = await demo;
  const pids = [...stdout.matchAll(/process (\d+)/g)].map((match) => Number(match[1]));
  return { exitCode, stdout, stderr, pids };
}

/** The running processes whose environment mentions the folder: the demo's peers, and what they started. */
async function processesOf(folder: string): Promise<number[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  const found: number[] = [];
  for (const pid of pids) {
    // One that ended while this looked, or that belongs to somebody else, has no environment to read.
    const environment = await readFile(`/proc/${pid}/environ`, 'utf8').catch(() => '');
    if (environment.includes(folder) && (await isRunning(pid))) found.push(pid);
  }
  return found;
}

async function expectNothingLeft(folder: string, pids: number[]): Promise<void> {
  expect(await Promise.all(pids.map(isRunning))).toEqual(pids.map(() => false));
  expect(await processesOf(folder)).toEqual([]);
  expect(await readdir(folder)).toEqual([]);
}

it('counts right, on more than one peer, and leaves nothing behind', async () => {
  await using folder = await temporaryFolder();
  let processes: Promise<number[]> | undefined;
  const { exitCode, stdout, stderr, pids } = await runDemo(folder.path, (line) => {
    if (line.includes('The result')) processes = processesOf(folder.path);
  });
  expect(stderr).toBe('');
  expect(exitCode).toBe(0);
  expect(pids).toHaveLength(3);
  // The peers are among what is looked for: otherwise that none is found would say nothing.
  expect(await processes).toEqual(expect.arrayContaining(pids));

  const rows = [...stdout.matchAll(/│ (\w+) +│ +(\d+) │ +(\d+) │ +(\d+) │/g)].map(([, ...cells]) => cells);
  expect(rows.map(([name]) => name)).toEqual(['dag', 'scheduler', 'tools', 'node']);
  for (const [, files, words, counted] of rows) {
    expect(Number(files)).toBeGreaterThan(0);
    expect(Number(words)).toBeGreaterThan(1_000);
    expect(words).toBe(counted);
  }
  for (const [name] of rows) {
    expect(stdout).toMatch(new RegExp(`✔ count_${name} `));
    expect(stdout).toMatch(new RegExp(`✔ sum_${name} `));
  }
  expect(stdout).toContain('cleo, asked for the result of the workflow that ada took, gives the same');
  const ran = [...stdout.matchAll(/✔ (\w+) ran (\d+) tasks of (\d+) steps/g)].map((match) => match.slice(1));
  expect(ran.map(([name]) => name)).toEqual(['ada', 'ben', 'cleo']);
  expect(ran.filter(([, tasks]) => Number(tasks) > 0).length).toBeGreaterThanOrEqual(2);
  const files = rows.reduce((sum, [, count]) => sum + Number(count), 0);
  const steps = 2 * rows.length + 1;
  expect(ran.reduce((sum, [, tasks]) => sum + Number(tasks), 0)).toBe(files + steps - rows.length);
  await expectNothingLeft(folder.path, pids);
});

it('Ctrl-C in the middle ends it with everything it started', async () => {
  await using folder = await temporaryFolder();
  const { exitCode, stderr, stdout, pids } = await runDemo(folder.path, (line, demo) => {
    if (line.startsWith('A workflow for ada')) process.kill(demo.pid, 'SIGINT');
  });
  expect(stderr).toContain('stopped by SIGINT');
  expect(exitCode).toBe(130);
  expect(stdout).not.toContain('The result');
  expect(pids).toHaveLength(3);
  await expectNothingLeft(folder.path, pids);
});

it('a peer that dies ends it with a failure that names the peer', async () => {
  await using folder = await temporaryFolder();
  const { exitCode, stderr, pids } = await runDemo(folder.path, (line) => {
    const pid = /ada +process (\d+)/.exec(line)?.[1];
    if (pid !== undefined) process.kill(Number(pid), 'SIGKILL');
  });
  expect(stderr).toContain('ada ended before its time');
  expect(exitCode).toBe(1);
  await expectNothingLeft(folder.path, pids);
});
