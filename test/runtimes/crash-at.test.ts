/** A process that is told to crash at a point of the scheduler ends there, at once and without a word. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { configSchema, RUNTIMES } from '../../node/config/settings.ts';
import { crashAt } from '../../node/runtimes/crash-at.ts';
import { CRASH_POINTS } from '../../scheduler/crash-points.ts';

const MESH = resolve(import.meta.dirname, '../../node/runtimes/mesh.ts');
const SUPERVISOR = resolve(import.meta.dirname, '../../node/runtimes/mesh-supervisor.ts');
const LOG = resolve(import.meta.dirname, '../../node/log.ts');
const CRASH_AT = resolve(import.meta.dirname, '../../node/runtimes/crash-at.ts');

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'flowmesh-crash-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

/** Runs a program; what it wrote until it ended, and how it ended. */
async function run(program: string, env: Record<string, string> = {}) {
  const file = join(folder, 'program.mjs');
  await writeFile(file, program);
  const child = spawn(process.execPath, [file], { env: { ...process.env, ...env } });
  let stdout = '';
  child.stdout.on('data', (chunk) => {
    stdout += chunk;
  });
  const [, signal] = await once(child, 'close');
  return { stdout, signal };
}

it('every point can be named, the n-th time too', () => {
  for (const point of CRASH_POINTS) {
    expect(crashAt(point)).toBeTypeOf('function');
    expect(crashAt(`${point}:12`)).toBeTypeOf('function');
  }
});

it('nothing asked for is no probe', () => {
  expect(crashAt(undefined)).toBeUndefined();
  expect(crashAt(' ')).toBeUndefined();
});

it.each(['commit', 'commit:later', 'commit:after:0', 'commit:after:x', ':1'])(
  '%s is refused with what there is',
  (at) => {
    expect(() => crashAt(at)).toThrow(expect.objectContaining({ code: 'INVALID_CONFIG' }));
    expect(() => crashAt(at)).toThrow(CRASH_POINTS.join(', '));
  },
);

it('the process ends at the n-th time, before anything else happens', async () => {
  const program = `
    import { crashAt } from ${JSON.stringify(CRASH_AT)};
    const probe = crashAt('commit:after:2');
    for (const point of ['commit:after', 'commit:before', 'commit:after', 'commit:after']) {
      probe(point);
      process.stdout.write(point + ' ');
    }`;
  expect(await run(program)).toEqual({ stdout: 'commit:after commit:before ', signal: 'SIGKILL' });
});

describe.each(RUNTIMES)('a peer with the %s runtime', (runtime) => {
  it('ends at the point of its environment', async () => {
    const config = configSchema.parse({ data_dir: join(folder, 'data'), runtime, log_level: 'silent' });
    const start =
      runtime === 'inline' ? `startMesh(config, silentLog)` : `MeshSupervisor.start({ config, log: silentLog })`;
    const program = `
      import { startMesh } from ${JSON.stringify(MESH)};
      import { MeshSupervisor } from ${JSON.stringify(SUPERVISOR)};
      import { silentLog } from ${JSON.stringify(LOG)};
      const config = ${JSON.stringify(config)};
      await ${start}.catch((error) => process.stdout.write(error.code));
      process.exit();`;
    expect(await run(program, { FLOWMESH_CRASH_AT: 'commit:after' })).toEqual({ stdout: '', signal: 'SIGKILL' });
    expect(await run(program, { FLOWMESH_CRASH_AT: 'nowhere' })).toEqual({ stdout: 'INVALID_CONFIG', signal: null });
  });
});
