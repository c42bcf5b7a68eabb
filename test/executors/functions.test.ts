/** `fn:` handlers, good ones and those that spin, crash, exit, fill the memory or leave processes behind. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { FlowmeshError, JsonObject } from '../../dag/errors.ts';
import { type ClosableExecutors, createExecutors } from '../../node/executors/executors.ts';
import { FUNCTION_PROCESSES_MAX } from '../../node/executors/limits.ts';
import { LOG_LINES_MAX } from '../../scheduler/limits.ts';
import { childPids, isRunning, waitUntilGone } from './processes.ts';
import { quietLog, RecordedIO, requestOf } from './recorded-io.ts';

const HANDLERS = join(import.meta.dirname, 'handlers.ts');

let dataDir: string;
beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'flowmesh-functions-'));
});
afterAll(() => rm(dataDir, { recursive: true }));

const withFunctions = (...functions: string[]) =>
  createExecutors(
    {
      data_dir: dataDir,
      pass_env: [],
      shell: { allow: [], step_env: [] },
      http_action: { private: false, allow: [] },
      functions,
    },
    quietLog,
  );

describe('handlers', () => {
  let executors: ClosableExecutors;
  beforeAll(async () => {
    executors = await withFunctions(HANDLERS);
  });
  afterAll(() => executors.close());

  const run = (name: string, io = new RecordedIO(), payload: JsonObject = {}) =>
    executors.run(requestOf(`fn:${name}`, payload), io);
  const failureOf = (name: string, io?: RecordedIO) =>
    run(name, io).then(
      (output) => {
        throw new Error(`an output: ${JSON.stringify(output)}`);
      },
      (error: FlowmeshError) => error,
    );

  it('are the named functions of the modules', () => {
    const actions = executors.actions().filter((action) => action.startsWith('fn:'));
    expect(actions).toContain('fn:reports');
    expect(actions).not.toContain('fn:NotAHandler');
    expect(actions).not.toContain('fn:default');
  });

  it('print into the log of their task, also a line without its end', async () => {
    const io = new RecordedIO();
    expect(await run('prints', io)).toBeNull();
    expect(io.lines).toEqual([
      ['stdout', 'to stdout'],
      ['stderr', 'to stderr'],
      ['stdout', 'no newline'],
    ]);
  });

  it('keep the last lines of a flood', async () => {
    const io = new RecordedIO();
    await run('floods', io);
    expect(io.lines.at(-1)).toEqual(['log', 'line 49999']);
    const end = io.lines.slice(1 - LOG_LINES_MAX).map(([, line]) => line);
    expect(end).toEqual(Array.from({ length: LOG_LINES_MAX - 1 }, (_, n) => `line ${50_001 - LOG_LINES_MAX + n}`));
  });

  it('give null for undefined', async () => {
    expect(await run('nothing')).toBeNull();
  });

  it('say what was thrown, and are retried unless it says otherwise', async () => {
    const error = await run('fails', undefined, { message: 'no paper' }).catch((cause: FlowmeshError) => cause);
    expect(error).toMatchObject({
      code: 'FUNCTION_FAILED',
      message: 'fn:fails failed: no paper',
      retryable: true,
      details: { error_name: 'TypeError', error_code: 'E_PAPER', stack: expect.stringContaining('handlers.ts') },
    });
  });

  it.each([
    [
      'notJson',
      { code: 'INVALID_OUTPUT', retryable: false, message: expect.stringMatching(/at inner\.f is a function/) },
    ],
    [
      'infinite',
      { code: 'INVALID_OUTPUT', retryable: false, message: expect.stringMatching(/at a\[1\]\.b is Infinity/) },
    ],
    ['deep', { code: 'INVALID_OUTPUT', retryable: false, message: expect.stringMatching(/JSON_DEPTH_MAX/) }],
    [
      'oddName',
      { code: 'INVALID_OUTPUT', retryable: false, message: expect.stringMatching(/at a\.__proto__ has a name/) },
    ],
    ['large', { code: 'OUTPUT_TOO_LARGE', retryable: false }],
    ['exits', { code: 'FUNCTION_EXITED', retryable: true, message: expect.stringMatching(/exit code 7/) }],
    ['crashes', { code: 'FUNCTION_EXITED', retryable: true, message: expect.stringMatching(/nobody caught this/) }],
    ['fillsMemory', { code: 'FUNCTION_OUT_OF_MEMORY', retryable: true, message: expect.stringMatching(/512 MB/) }],
    ['allocatesAtOnce', { code: 'FUNCTION_OUT_OF_MEMORY' }],
  ])('fail alone when they end badly: %s', async (name, expected) => {
    const beside = new RecordedIO();
    const waiting = run('waits', beside);
    await beside.logged('waiting');
    expect(await failureOf(name)).toMatchObject(expected);
    expect(await run('reports')).toMatchObject({ attempt: 3 });
    beside.abort(false);
    await expect(waiting).rejects.toMatchObject({ code: 'ABORTED' });
  });

  it.each([false, true])('that spin for ever are killed after an abort (force: %s)', async (force) => {
    const io = new RecordedIO();
    const ended = failureOf('ignores', io);
    const pid = Number((await io.logged('waiting in')).split(' ').at(-1));
    io.abort(force);
    expect(await ended).toMatchObject({ code: 'ABORTED' });
    await waitUntilGone([pid]);
    expect(await run('reports')).toMatchObject({ attempt: 3 });
  });

  it('are not called when the abort comes while a process is chosen', async () => {
    await run('reports');
    const io = new RecordedIO();
    const ended = failureOf('waits', io);
    io.abort(false);
    expect(await ended).toMatchObject({ code: 'ABORTED' });
    expect(io.lines).toEqual([]);
  });

  it('that end while their process is killed leave no dying process to the next run', async () => {
    const io = new RecordedIO();
    const ended = failureOf('hurries', io);
    await io.logged('hurrying');
    // As after a SIGSTOP: the end of the handler waits to be read, and the abort comes first.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300);
    io.abort(true);
    expect(await ended).toMatchObject({ code: 'ABORTED' });
    expect(await run('reports')).toMatchObject({ attempt: 3 });
  });

  it('take the processes they started along', async () => {
    const io = new RecordedIO();
    const ended = failureOf('spawns', io);
    const pid = Number((await io.logged('sleep ')).split(' ')[1]);
    expect(await isRunning(pid)).toBe(true);
    io.abort(true);
    expect(await ended).toMatchObject({ code: 'ABORTED' });
    await waitUntilGone([pid]);
  });

  it('have ended when what they started in a session of its own has', async () => {
    const io = new RecordedIO();
    const ended = failureOf('spawnsAway', io);
    const pid = Number((await io.logged('sleep ')).split(' ')[1]);
    expect(await isRunning(pid)).toBe(true);
    io.abort(true);
    expect(await ended).toMatchObject({ code: 'ABORTED' });
    expect(await isRunning(pid)).toBe(false);
  });

  it('wait for a process when all are taken, and run then', async () => {
    const ios = Array.from({ length: FUNCTION_PROCESSES_MAX }, () => new RecordedIO());
    const taken = ios.map((io) => failureOf('waits', io));
    await Promise.all(ios.map((io) => io.logged('waiting')));
    const impatient = new RecordedIO();
    const aborted = failureOf('reports', impatient);
    const late = run('reports');
    impatient.abort(false);
    expect(await aborted).toMatchObject({ code: 'ABORTED' });
    for (const io of ios) io.abort(true);
    expect(await late).toMatchObject({ attempt: 3 });
    await Promise.all(taken);
  });
});

describe('modules', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'flowmesh-functions-'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  const moduleOf = async (name: string, source: string) => {
    await writeFile(join(folder, name), source);
    return join(folder, name);
  };

  it.each([
    ['syntax.mjs', 'export function a( {', /syntax\.mjs: SyntaxError: Unexpected/],
    ['throws.mjs', 'throw new Error("no licence")', /throws\.mjs: Error: no licence/],
    ['imports.mjs', 'import "./missing.mjs"', /imports\.mjs: Error: Cannot find module/],
    ['empty.mjs', 'export const a = 1; export default () => 1', /empty\.mjs: exports no function by name/],
    ['exits.mjs', 'process.exit(4)', /ended their process \(exit code 4\)/],
  ])('that are broken stop the start, with the reason: %s', async (name, source, reason) => {
    const file = await moduleOf(name, source);
    await expect(withFunctions(HANDLERS, file)).rejects.toMatchObject({
      code: 'FUNCTIONS_INVALID',
      retryable: false,
      message: expect.stringMatching(reason),
    });
  });

  it('that are missing stop the start', async () => {
    const file = join(folder, 'missing.mjs');
    await expect(withFunctions(file)).rejects.toMatchObject({
      code: 'FUNCTIONS_INVALID',
      message: expect.stringContaining(file),
    });
  });

  it('may not export the same name twice', async () => {
    const [one, two] = [
      await moduleOf('one.mjs', 'export const same = () => 1'),
      await moduleOf('two.mjs', 'export const same = () => 2'),
    ];
    await expect(withFunctions(one, two)).rejects.toMatchObject({
      message: expect.stringMatching(/two\.mjs: exports "same", which .*one\.mjs exports too/),
    });
  });

  it('are JavaScript or TypeScript, and leave no process when the executors close', async () => {
    const before = await childPids(process.pid);
    const executors = await withFunctions(await moduleOf('plain.cjs', 'exports.twice = ({ n }) => 2 * n'), HANDLERS);
    expect(await executors.run(requestOf('fn:twice', { n: 21 }), new RecordedIO())).toBe(42);
    const io = new RecordedIO();
    const spinning = executors.run(requestOf('fn:ignores', {}), io);
    await io.logged('waiting');
    const started = (await childPids(process.pid)).filter((pid) => !before.includes(pid));
    expect(started.length).toBeGreaterThan(0);
    const closed = executors.close();
    await expect(spinning).rejects.toMatchObject({ code: 'EXECUTORS_CLOSED', retryable: true });
    await closed;
    await waitUntilGone(started);
    await expect(executors.run(requestOf('echo', {}), new RecordedIO())).rejects.toMatchObject({
      code: 'EXECUTORS_CLOSED',
    });
  });
});
