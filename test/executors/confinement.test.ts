/** Limits of one attempt: real processes that go over each of them, with cgroups and without. */
import { globSync } from 'node:fs';
import { mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { FlowmeshError, JsonObject, JsonValue } from '../../dag/errors.ts';
import { createExecutors } from '../../node/executors/executors.ts';
import { Functions } from '../../node/executors/functions.ts';
import { runShell } from '../../node/executors/shell.ts';
import { type AttemptLimits, LimitKeeper, limitsKeptHere } from '../../node/processes/confinement.ts';
import { WorkEnvironment } from '../../node/processes/environment.ts';
import { environmentOf } from '../../node/processes/process-table.ts';
import { findProcesses, MARK_VARIABLE } from '../../node/processes/process-tree.ts';
import type { Role } from '../../scheduler/roles.ts';
import { quietLog, RecordedIO, requestOf } from './recorded-io.ts';

const PLACE = 'policy[0].limits';
const HANDLERS = join(import.meta.dirname, 'greedy-handlers.ts');
const LIMITED_MS = 30_000;
/** What a function needs for itself. */
const NODE_MB = 128;
const NODE_THREADS = 24;

let folder: string;
beforeAll(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), 'flowmesh-limits-')));
});
afterAll(() => rm(folder, { recursive: true }));

const failureOf = (run: Promise<JsonValue>) =>
  run.then(
    (output) => {
      throw new Error(`an output: ${JSON.stringify(output).slice(0, 200)}`);
    },
    (error: FlowmeshError) => error,
  );

/** Processes of a user's work of this folder. */
const workers = () => {
  const [place] = new WorkEnvironment(folder, []).create().mark.split('.');
  return findProcesses((pid) => environmentOf(pid).includes(`${MARK_VARIABLE}=${place}.`));
};

for (const mayUseCgroups of [false, true]) {
  const way = mayUseCgroups ? 'cgroups' : 'rlimits, and a look at the processes';
  const isHere = process.platform === 'linux' && (!mayUseCgroups || limitsKeptHere().memory_mb === 'cgroup');
  const why = isHere ? '' : ' (skipped: no cgroups with limits may be made here)';

  describe.skipIf(!isHere)(`limits that are kept by ${way}${why}`, () => {
    let keeper: LimitKeeper;
    let functions: Functions;
    /** Those that wait for functions without limits. */
    let kept: number[];
    beforeAll(async () => {
      keeper = await LimitKeeper.open({ mayUseCgroups });
      functions = await Functions.load([HANDLERS], new WorkEnvironment(folder, []), quietLog);
      kept = await workers();
    });
    afterAll(async () => {
      await functions.close();
      keeper.close();
    });

    const nothingIsLeft = async () => {
      expect(await workers()).toEqual(kept);
      expect(globSync(`/sys/fs/cgroup/**/flowmesh-attempts-${process.pid}-*/[0-9]*`)).toEqual([]);
    };
    const shell = (text: string, limits: AttemptLimits, io = new RecordedIO()) => {
      const request = requestOf('shell', { command: ['sh', '-c', text] });
      const environment = new WorkEnvironment(folder, []);
      return runShell(request, io, { allow: ['*'], step_env: [] }, environment, { keeper, limits, place: PLACE });
    };
    const fn = (name: string, limits: AttemptLimits, payload: JsonObject = {}, io = new RecordedIO()) =>
      functions.run(name, requestOf(`fn:${name}`, payload), io, { keeper, limits, place: PLACE });

    it('are kept that way', () => {
      expect(keeper.kept).toMatchObject({
        memory_mb: mayUseCgroups ? 'cgroup' : 'rlimit',
        processes: mayUseCgroups ? 'cgroup' : 'peer',
        wall_s: 'peer',
      });
    });

    it('let pass what stays below them', async () => {
      const limits = { memory_mb: 512, cpu_s: 20, processes: 64, output_mb: 1, wall_s: 20 };
      expect(await shell('echo "$FLOWMESH_ATTEMPT"; (exit 0); exit 0', limits)).toMatchObject({ stdout: '3' });
      expect(await fn('modest', limits, { a: 1 })).toEqual({ a: 1 });
      expect(await failureOf(shell('exit 3', limits))).toMatchObject({ code: 'EXIT_CODE', details: { exit_code: 3 } });
    });

    const setsid = 'setsid sh -c "while :; do :; done" & ';
    it.each<[string, string, AttemptLimits]>([
      ['one that fills the memory', 'exec tail /dev/zero', { memory_mb: 64 }],
      [
        'several that fill it together',
        'for i in 1 2 3 4; do (head -c 30000000 /dev/zero; sleep 600) | tail >/dev/null & done; wait',
        { memory_mb: 64 },
      ],
      ['one that spins', 'while :; do :; done', { cpu_s: 1 }],
      ['several that spin together, one of them away from the others', `${setsid} while :; do :; done`, { cpu_s: 2 }],
      ['one that starts many', 'for i in $(seq 60); do sleep 600 & done; wait', { processes: 20 }],
      ['one that starts without an end', 'f() { f | f & sleep 600; }; f', { processes: 50 }],
      ['a flood on stdout', 'exec yes', { output_mb: 1 }],
      ['a flood on stderr', 'exec yes >&2', { output_mb: 2 }],
      ['one that sleeps', 'sleep 600', { wall_s: 0.3 }],
    ])(
      'end a command: %s',
      async (_what, text, limits) => {
        const [limit] = Object.entries(limits)[0]!;
        expect(await failureOf(shell(text, limits))).toMatchObject({
          code: 'LIMIT_EXCEEDED',
          retryable: false,
          details: { limit, maximum: Object.values(limits)[0], setting: `${PLACE}.${limit}` },
        });
        await nothingIsLeft();
      },
      LIMITED_MS,
    );

    it('leave a program room that it reserves and does not use', async () => {
      const text = `exec '${process.execPath}' -e 'new Worker("0", { eval: true }).on("exit", () => console.log("well"))'`;
      const worker = text.replace('new Worker', 'new (require("worker_threads").Worker)');
      expect(await shell(worker, { memory_mb: 256 })).toMatchObject({ stdout: 'well' });
    });

    it.each<[string, AttemptLimits]>([
      ['fills', { memory_mb: NODE_MB }],
      ['spins', { cpu_s: 1 }],
      ['forks', { processes: NODE_THREADS }],
      ['prints', { output_mb: 1 }],
      ['sleeps', { wall_s: 1.5 }],
    ])(
      'end a function that %s too much',
      async (name, limits) => {
        const [limit] = Object.entries(limits)[0]!;
        const error = await failureOf(fn(name, limits));
        expect(error).toMatchObject({ code: 'LIMIT_EXCEEDED', retryable: false, details: { limit } });
        expect(error.message).toContain(`fn:${name} was ended`);
        await nothingIsLeft();
      },
      LIMITED_MS,
    );

    it(
      'end nobody else',
      async () => {
        const io = new RecordedIO();
        const other = shell('echo here; sleep 600', { wall_s: 600 }, io);
        await io.logged('here');
        const ended = [
          shell('exec tail /dev/zero', { memory_mb: 64 }),
          shell('while :; do :; done', { cpu_s: 1 }),
          fn('fills', { memory_mb: NODE_MB }),
        ];
        for (const error of await Promise.all(ended.map(failureOf)))
          expect(error).toMatchObject({ code: 'LIMIT_EXCEEDED' });
        expect(await functions.run('modest', requestOf('fn:modest', { b: 2 }), new RecordedIO())).toEqual({ b: 2 });
        io.abort(true);
        expect(await failureOf(other)).toMatchObject({ code: 'ABORTED' });
        await nothingIsLeft();
      },
      LIMITED_MS,
    );
  });
}

describe('the limits of a caller', () => {
  const ADA = '12D3KooWGRUVh7Jp5kcKjC3V7CgEuKyWBaNVTWYbYQh3MGYJyKjb';
  const as = (peer_id: string) => ({ caller: { peer_id, own: false, roles: new Set<Role>() } });

  it('are those of the rule that names it, and the log says at the start what keeps them', async () => {
    const said: object[] = [];
    const data_dir = await mkdtemp(join(folder, 'peer-'));
    const executors = await createExecutors(
      {
        ...{ data_dir, pass_env: [], functions: [], http_action: { private: false, allow: [] } },
        shell: { allow: ['sleep'], step_env: [] },
        policy: [
          { from: [ADA], allow: ['*'] },
          { from: ['*'], allow: ['*'], limits: { wall_s: 0.2 } },
        ],
      },
      { ...quietLog, info: (fields) => said.push(fields) },
    );
    expect(said).toEqual([{ wall_s: 'peer' }]);
    const nap = requestOf('shell', { command: ['sleep', '0.5'] });
    const ofOther = failureOf(executors.run({ ...nap, ...as('bob') }, new RecordedIO()));
    expect(await executors.run({ ...nap, ...as(ADA) }, new RecordedIO())).toMatchObject({ exit_code: 0 });
    expect(await ofOther).toMatchObject({ details: { setting: 'policy[1].limits.wall_s', kept_by: 'peer' } });
    await executors.close();
  });
});
