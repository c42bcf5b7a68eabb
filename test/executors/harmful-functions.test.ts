/** What a handler may do to its peer and to runs beside and after its own: nothing. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ERROR_MESSAGE_CHARS_MAX, type FlowmeshError, type JsonObject } from '../../dag/errors.ts';
import { type ClosableExecutors, createExecutors } from '../../node/executors/executors.ts';
import { REPORT_INTERVAL_MS } from '../../node/executors/limits.ts';
import {
  CHILD_INTERVAL_MS,
  CHILD_MESSAGES_PER_INTERVAL,
  PRINTED_BYTES_PER_INTERVAL,
} from '../../node/processes/limits.ts';
import { LOG_LINE_CHARS_MAX, LOG_LINES_MAX } from '../../scheduler/limits.ts';
import type { Log } from '../../scheduler/ports.ts';
import * as harmful from './harmful-handlers.ts';
import { waitUntilGone } from './processes.ts';
import { quietLog, RecordedIO, requestOf } from './recorded-io.ts';

const HANDLERS = join(import.meta.dirname, 'harmful-handlers.ts');

let dataDir: string;
let executors: ClosableExecutors;
let warnings: { fields: Record<string, unknown>; message: string }[];
let printed: Record<string, unknown>[];
beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'flowmesh-harmful-'));
  warnings = [];
  printed = [];
  const log: Log = {
    ...quietLog,
    info: (fields) => printed.push(fields as Record<string, unknown>),
    warn: (fields, message) => warnings.push({ fields: fields as Record<string, unknown>, message }),
  };
  executors = await createExecutors(
    {
      data_dir: dataDir,
      pass_env: [],
      shell: { allow: [], step_env: [] },
      http_action: { private: false, allow: [] },
      functions: [HANDLERS],
    },
    log,
  );
});
afterEach(async () => {
  await executors.close();
  await rm(dataDir, { recursive: true });
});

const run = (name: string, payload: JsonObject = {}, io = new RecordedIO()) =>
  executors.run(requestOf(`fn:${name}`, payload), io);
const failureOf = (promise: Promise<unknown>): Promise<FlowmeshError> =>
  promise.then(
    (output) => {
      throw new Error(`an output: ${JSON.stringify(output)}`);
    },
    (error: FlowmeshError) => error,
  );

describe('what a handler writes to the peer', () => {
  it('has no way of its own: nothing in the process sends', async () => {
    expect(await run('hasChannel')).toEqual({ send: 'undefined', connected: false });
  });

  it('is not open to what it starts', async () => {
    expect(await run('pipesOfAChild')).toEqual([]);
  });

  it.each(harmful.messages)('fails its own run when it is not what is said between them: %s', async (message) => {
    expect(await failureOf(run('forges', { message }))).toMatchObject({
      code: 'FUNCTION_EXITED',
      retryable: true,
      message: expect.stringMatching(/what it sent cannot be used: [^\n]+\)$/),
    });
    expect(await run('pid')).toEqual(expect.any(Number));
  });

  it.each([
    ['a length that nothing has', [0xff, 0xff, 0xff, 0xff]],
    ['a message of nothing', [0, 0, 0, 0]],
    ['bytes that V8 cannot read', [0, 0, 0, 4, 1, 2, 3, 4]],
  ])('fails its own run when it is no message: %s', async (_what, bytes) => {
    expect(await failureOf(run('scribbles', { bytes }))).toMatchObject({ code: 'FUNCTION_EXITED', retryable: true });
    expect(await run('pid')).toEqual(expect.any(Number));
  });

  it('is read at a walk', async () => {
    const intervals = 12;
    const ms = await run('saysTooMuch', { messages: intervals * CHILD_MESSAGES_PER_INTERVAL });
    // Less what the pipe holds, and what is read before it is noticed.
    expect(ms).toBeGreaterThan((intervals / 3) * CHILD_INTERVAL_MS);
  });

  it('is nothing when it is about another run', async () => {
    expect(await run('forgesAnother')).toBe('mine');
  });
});

describe('what a handler throws', () => {
  it.each(harmful.thrown)('is described, and its process goes on: %s', async (what) => {
    const pid = await run('pid');
    const error = await failureOf(run('throws', { what }));
    expect(error).toMatchObject({ code: 'FUNCTION_FAILED', retryable: true });
    expect(error.message).toMatch(/^fn:throws failed: ./);
    expect(error.message.length).toBeLessThanOrEqual(ERROR_MESSAGE_CHARS_MAX);
    expect(await run('pid')).toBe(pid);
  });

  it('names what a plain object holds, and how much of a text is left out', async () => {
    const plain = await failureOf(run('throws', { what: 'an object without a prototype' }));
    expect(plain.message).toContain('status: 404');
    const long = await failureOf(run('throws', { what: 'a long text' }));
    expect(long.message).toMatch(/x… \(9,99\d,\d{3} characters left out\)$/);
  });

  it('may be thrown by its output too', async () => {
    expect(await failureOf(run('givesWhatThrows'))).toMatchObject({ code: 'INVALID_OUTPUT', retryable: false });
  });
});

describe('what a handler leaves behind', () => {
  it.each([
    ['a rejection', 'stray of another run'],
    ['an exception', 'stray of another run'],
    ['an exit', 'process.exit(3)'],
  ])('fails no other run in its process, which is replaced then: %s', async (what, words) => {
    const pid = await run('leaves', { what });
    const io = new RecordedIO();
    expect(await run('trips', {}, io)).toBe(pid);
    expect(io.lines).toEqual([['log', 'still here']]);
    expect(await run('pid')).not.toBe(pid);
    await waitUntilGone([pid as number]);
    const stray = warnings.filter(({ fields }) => String(fields['error']).includes(words));
    expect(stray).toMatchObject([{ fields: { task: 'w1/step/0' } }]);
  });

  it('is not in the log of another run', async () => {
    const pid = await run('leaves', { what: 'a line' });
    const io = new RecordedIO();
    expect(await run('trips', {}, io)).toBe(pid);
    expect(io.lines).toEqual([['log', 'still here']]);
    expect(printed).toEqual([
      { stream: 'log', line: 'of another run' },
      { stream: 'stdout', line: 'of another run too' },
    ]);
    expect(await run('pid')).toBe(pid);
  });

  it('ends an idle process and fails nobody', async () => {
    const pid = await run('throwsWhenIdle');
    await waitUntilGone([pid as number]);
    expect(await run('pid')).not.toBe(pid);
    expect(warnings).toMatchObject([{ fields: { error: 'stray of nobody' } }]);
  });

  it('may go wrong again and again: the run under way ends as it would, and one warning says why', async () => {
    const pid = await run('throwsOnAndOn');
    const after = await run('lasts');
    await waitUntilGone([pid as number]);
    expect(warnings).toMatchObject([{ fields: { error: 'on and on', task: 'w1/step/0' } }]);
    expect(after).toEqual(expect.any(Number));
  });

  it('may keep its process from beginning the next run: another one does', async () => {
    const pid = await run('diesBeforeTheNext');
    expect(await run('pid')).not.toBe(pid);
  });
});

it.runIf(process.platform === 'linux')('a machine without memory ends functions before the peer', async () => {
  expect(await run('killedFirst')).toBe('1000');
});

describe('what a handler prints', () => {
  it('is cut where it is written', async () => {
    const io = new RecordedIO();
    await run('logsLongLines', {}, io);
    expect(io.lines.at(-1)).toEqual(['log', 'end']);
    for (const [, line] of io.lines) expect(line.length).toBeLessThanOrEqual(LOG_LINE_CHARS_MAX);
    expect(io.lines.filter(([, line]) => line.endsWith('x…') || line.endsWith('y…'))).toHaveLength(2);
    expect(io.progresses).toEqual([[50, expect.stringMatching(/^x+… \(99,99\d,\d{3} characters left out\)$/)]]);
  });

  it('may be anything', async () => {
    const io = new RecordedIO();
    await run('logsAnything', {}, io);
    expect(io.lines.map(([, line]) => line)).toEqual([
      '[Object: null prototype] {}',
      'Symbol(paper)',
      'undefined',
      '{ status: 404 }',
    ]);
    expect(io.progresses.at(-1)![0]).toBe(0);
  });

  it('comes in bounded portions, however much it is, with a line that says what is missing', async () => {
    const io = new RecordedIO();
    const start = performance.now();
    const flood = failureOf(run('logsWithoutEnd', {}, io));
    await io.logged('…');
    io.abort(false);
    expect(await flood).toMatchObject({ code: 'ABORTED' });
    // The first portion, one for each interval, the last one.
    const portions = 2 + (performance.now() - start) / REPORT_INTERVAL_MS;
    expect(io.lines.length).toBeLessThanOrEqual(portions * LOG_LINES_MAX);
    expect(io.lines.find(([, line]) => line.startsWith('…'))![1]).toMatch(/^… \(\d+ lines left out\)$/);
  });

  it.each([1, 2])('past its log is read at a walk: descriptor %i', async (descriptor) => {
    const portions = 8;
    const start = performance.now();
    await run('writes', { descriptor, bytes: portions * PRINTED_BYTES_PER_INTERVAL });
    // The first one at once; what the pipe holds is not waited for.
    expect(performance.now() - start).toBeGreaterThan((portions - 2) * CHILD_INTERVAL_MS);
  });
});
