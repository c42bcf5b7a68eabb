import { afterEach, expect, it } from 'vitest';
import type { JsonObject } from '../../dag/errors.ts';
import { configSchema } from '../../node/config/settings.ts';
import { silentLog } from '../../node/log.ts';
import { MESH_RESTARTS_MAX } from '../../node/runtimes/limits.ts';
import { MeshSupervisor } from '../../node/runtimes/mesh-supervisor.ts';
import { EVERYBODY } from '../../scheduler/caller.ts';
import type { Script } from './scripted-mesh-thread.ts';

const ENTRY = new URL('./scripted-mesh-thread.ts', import.meta.url);
const NEVER = new AbortController().signal;
const running: MeshSupervisor[] = [];

afterEach(async () => {
  await Promise.all(running.splice(0).map((each) => each.stop()));
});

async function start(name = 'scripted'): Promise<MeshSupervisor> {
  const config = configSchema.parse({ data_dir: '/nowhere', name });
  const supervisor = await MeshSupervisor.start({ config, log: silentLog, entry: ENTRY });
  running.push(supervisor);
  return supervisor;
}

function call(to: MeshSupervisor, script: Script, signal = NEVER, deadlineMs = 30_000): Promise<JsonObject> {
  return to.call('task_submit', script, { signal, deadlineMs, caller: EVERYBODY });
}

it('answers of a call and its errors cross as they are', async () => {
  const mesh = await start();
  expect(mesh.info.peer_id).toBe('scripted');
  expect(await call(mesh, { do: 'echo', value: 'x' })).toEqual({ success: true, value: 'x' });
  await expect(call(mesh, { do: 'fail' })).rejects.toMatchObject({
    code: 'SCRIPTED',
    retryable: true,
    message: 'as the script says',
    details: { n: 1 },
  });
});

it('calls of one turn are one message, and each gets its own answer', async () => {
  const mesh = await start();
  const values = Array.from({ length: 100 }, (_, index) => `v${index}`);
  const answers = await Promise.all(values.map((value) => call(mesh, { do: 'echo', value })));
  expect(answers.map((answer) => answer['value'])).toEqual(values);
  const { batches } = (await call(mesh, { do: 'report' })) as { batches: number[] };
  expect(batches).toEqual([100, 1]);
});

it('an output that is no plain data fails its own call and no other', async () => {
  const mesh = await start();
  const [bad, good] = await Promise.allSettled([
    call(mesh, { do: 'unclonable' }),
    call(mesh, { do: 'echo', value: 'x' }),
  ]);
  expect(bad).toMatchObject({ status: 'rejected', reason: { code: 'INTERNAL' } });
  expect(good).toMatchObject({ status: 'fulfilled', value: { value: 'x' } });
  const input = { do: 'echo', value: () => {} } as unknown as Script;
  await expect(call(mesh, input)).rejects.toMatchObject({ code: 'INTERNAL' });
});

it('an abort reaches the signal of the call on the other loop', async () => {
  const mesh = await start();
  const caller = new AbortController();
  const waiting = call(mesh, { do: 'wait' }, caller.signal);
  await call(mesh, { do: 'echo', value: 'the wait has begun' });
  caller.abort(new Error('gone'));
  await expect(waiting).rejects.toMatchObject({ message: 'gone' });
  expect((await call(mesh, { do: 'report' }))['aborted']).toHaveLength(1);
});

it('a crash fails what was posted, keeps what was not, and the loop comes back on the same port', async () => {
  const mesh = await start();
  const posted = call(mesh, { do: 'wait' });
  const crashing = call(mesh, { do: 'crash' });
  await expect(posted).rejects.toMatchObject({ code: 'MESH_RESTARTED', retryable: true });
  await expect(crashing).rejects.toMatchObject({ code: 'MESH_RESTARTED' });
  // Made before the next thread is up: it waits for it and is executed there, once.
  const report = await call(mesh, { do: 'report' });
  expect(report).toMatchObject({ executed: 1, listen: ['/ip4/127.0.0.1/tcp/45678'] });
  expect(mesh.restarts).toBe(1);
});

it('a call that waits for the next thread can be given up', async () => {
  const mesh = await start();
  await expect(call(mesh, { do: 'crash' })).rejects.toMatchObject({ code: 'MESH_RESTARTED' });
  const caller = new AbortController();
  const waiting = call(mesh, { do: 'echo', value: 'x' }, caller.signal);
  caller.abort(new Error('gone'));
  await expect(waiting).rejects.toThrow('gone');
  expect(await call(mesh, { do: 'report' })).toMatchObject({ executed: 1 });
});

it('a loop that crashes again and again is given up, and says so', async () => {
  const mesh = await start();
  for (let crash = 0; crash <= MESH_RESTARTS_MAX; crash++) {
    await expect(call(mesh, { do: 'crash' })).rejects.toMatchObject({ code: 'MESH_RESTARTED' });
  }
  await expect(mesh.failed).resolves.toMatchObject({ code: 'MESH_DOWN' });
  await expect(call(mesh, { do: 'echo', value: 'x' })).rejects.toMatchObject({ code: 'MESH_DOWN' });
  await expect(mesh.state()).rejects.toMatchObject({ code: 'MESH_DOWN' });
  expect(mesh.restarts).toBe(MESH_RESTARTS_MAX);
});

it('a first start that fails is the answer and is not tried again', async () => {
  await expect(start('cannot-start')).rejects.toMatchObject({
    code: 'SCRIPTED_START',
    message: 'this one never starts',
  });
});

it('after stop no call is taken, and stopping while it restarts ends it too', async () => {
  const mesh = await start();
  await expect(call(mesh, { do: 'crash' })).rejects.toMatchObject({ code: 'MESH_RESTARTED' });
  await mesh.stop();
  await expect(call(mesh, { do: 'echo', value: 'x' })).rejects.toMatchObject({ code: 'PEER_STOPPED' });
  const other = await start();
  await other.stop();
  await expect(call(other, { do: 'echo', value: 'x' })).rejects.toMatchObject({ code: 'PEER_STOPPED' });
});
