/** A task that is worked on whenever the mesh loop of a real peer crashes: found out by its second time. */

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { JsonObject } from '../../dag/errors.ts';
import { configSchema } from '../../node/config/settings.ts';
import { silentLog } from '../../node/log.ts';
import { MESH_RESTARTS_MAX } from '../../node/runtimes/limits.ts';
import { MeshSupervisor } from '../../node/runtimes/mesh-supervisor.ts';
import { EVERYBODY } from '../../scheduler/caller.ts';
import { eventually } from '../harness/eventually.ts';

const FUNCTIONS = resolve(import.meta.dirname, '../integration/life-functions.ts');
const NEVER = new AbortController().signal;
const TIMEOUT_MS = 120_000;
const PATIENCE = { timeoutMs: 60_000 };

let folder: string;
let running: MeshSupervisor | undefined;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'flowmesh-poison-'));
});
afterEach(async () => {
  await running?.stop();
  await rm(folder, { recursive: true, force: true });
});

async function start(): Promise<MeshSupervisor> {
  const config = configSchema.parse({
    data_dir: folder,
    functions: [FUNCTIONS],
    listen: ['/ip4/127.0.0.1/tcp/0'],
    mdns: false,
    log_level: 'silent',
  });
  running = await MeshSupervisor.start({ config, log: silentLog });
  return running;
}

const call = (mesh: MeshSupervisor, tool: string, input: JsonObject) =>
  mesh.call(tool, input, { signal: NEVER, deadlineMs: PATIENCE.timeoutMs, caller: EVERYBODY });

const attemptThatRuns = (mesh: MeshSupervisor, task_id: string, after: number) =>
  eventually(`attempt after ${after} runs`, async () => {
    const task = await call(mesh, 'task_status', { task_id });
    const attempt = Number(task['attempt']);
    // It has logged: its action has begun.
    return task['status'] === 'running' && attempt > after && task['progress'] === 40 && attempt;
  }, PATIENCE); // biome-ignore format: one thing

it('it is quarantined, the peer lives, and so does its next start', { timeout: TIMEOUT_MS }, async () => {
  let mesh = await start();
  const submit = (task_id: string, path: string) =>
    call(mesh, 'task_submit', { task_id, task_type: 'fn:reportsAndWaits', payload: { path: join(folder, path) } });
  await submit('poison', 'never');
  let attempt = 0;
  for (let crash = 1; crash <= 2; crash++) {
    attempt = await attemptThatRuns(mesh, 'poison', attempt);
    await mesh.crash();
  }
  const ended = await eventually('it has ended', async () => {
    const task = await call(mesh, 'task_status', { task_id: 'poison' });
    return task['status'] === 'failed' && task;
  }, PATIENCE); // biome-ignore format: one thing
  expect(ended).toMatchObject({ dead_letter: true, error: { code: 'POISON_TASK', retryable: false } });
  expect(mesh.restarts).toBe(2);
  expect(mesh.restarts).toBeLessThan(MESH_RESTARTS_MAX);

  // One that merely ran during one of them goes on, also over a start of the process.
  await submit('innocent', 'open');
  await attemptThatRuns(mesh, 'innocent', 0);
  await mesh.crash();
  await mesh.stop();
  mesh = await start();
  await attemptThatRuns(mesh, 'innocent', 1);
  await writeFile(join(folder, 'open'), '');
  const done = await eventually('it is done', async () => {
    const task = await call(mesh, 'task_status', { task_id: 'innocent' });
    return task['status'] !== 'running' && task['status'] !== 'queued' && task;
  }, PATIENCE); // biome-ignore format: one thing
  expect(done).toMatchObject({ status: 'completed' });
  const list = await call(mesh, 'task_list', { dead_letter: true, scope: 'local' });
  expect(list['tasks']).toMatchObject([{ task_id: 'poison' }]);
});
