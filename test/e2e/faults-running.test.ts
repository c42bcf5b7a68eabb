/** What happens to a peer while it works: its disk fills up, its mesh loop crashes, it is told to stop. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { JsonObject } from '../../dag/errors.ts';
import { isRunning } from '../executors/processes.ts';
import { eventually } from '../harness/eventually.ts';
import { type PeerProcess, startProcesses } from '../harness/processes.ts';
import { crashMeshLoop } from './crash-on-demand.ts';
import { temporaryFolder } from './temporary-folder.ts';

const CRASH_ON_DEMAND = new URL('./crash-on-demand.ts', import.meta.url);
/** As `MESH_RESTARTS_MAX` of the runtimes. */
const RESTARTS_MAX = 5;
const DISK_BYTES = 8 * 2 ** 20;

const hasStatus = async (peer: PeerProcess, task_id: string, status: string) =>
  (await peer.call('task_status', { task_id }))['status'] === status;

function ended(peer: PeerProcess, task_id: string, status = 'completed'): Promise<unknown> {
  return eventually(`task ${task_id} is ${status}`, () => hasStatus(peer, task_id, status));
}

describe('a full disk', () => {
  const disk = mountSmallDisk();

  it.skipIf(disk === null)(
    'refuses new work, loses none, reads on, and goes on when there is room (skipped where none can be mounted)',
    async () => {
      await using folder = await temporaryFolder();
      const gate = join(folder.path, 'gate');
      const filler = join(disk!, 'filler');
      await using mesh = await startProcesses(2, {
        args: (index) => (index === 0 ? ['--data-dir', join(disk!, 'peer'), '--slots', '0'] : ['--allow-shell', '*']),
      });
      const [full, other] = [mesh.peers[0]!, mesh.peers[1]!];
      const steps: JsonObject[] = [
        {
          step_id: 'waits',
          action: 'shell',
          inputs: { command: ['sh', '-c', `until [ -e ${gate} ]; do sleep 0.05; done`] },
        },
        { step_id: 'after', action: 'echo', depends_on: ['waits'], inputs: { n: 7 } },
      ];
      await full.call('task_submit', { task_id: 'done', task_type: 'echo', payload: { n: 1 } });
      await ended(full, 'done');
      await full.call('workflow_submit', { workflow_id: 'w', name: 'w', steps });
      await full.call('task_submit', { task_id: 'asleep', task_type: 'sleep', payload: { duration_ms: 300 } });
      await ended(full, 'w:waits', 'running');

      fill(filler);
      const big = { task_id: 'big', task_type: 'echo', payload: { text: 'x'.repeat(200_000) } };
      const refused = { code: 'DISK_FULL', retryable: true, message: expect.stringContaining(join(disk!, 'peer')) };
      await expect(full.call('task_submit', big)).rejects.toMatchObject(refused);
      const changes: [string, JsonObject][] = [
        ['task_submit', { task_id: 'small', task_type: 'echo' }],
        ['workflow_submit', { workflow_id: 'v', name: 'v', steps: [{ step_id: 'a', action: 'echo' }] }],
        ['task_cancel', { task_id: 'asleep' }],
        ['workflow_cancel', { workflow_id: 'w' }],
        ['queue_pause', {}],
      ];
      for (const [tool, input] of changes) await expect(full.call(tool, input), tool).rejects.toMatchObject(refused);

      // The step ends meanwhile, and cannot be written down.
      writeFileSync(gate, '');
      // What was accepted can be read here and at the other peer, what was refused does not exist.
      for (const peer of [full, other]) {
        expect(await peer.call('task_result', { task_id: 'done' })).toMatchObject({ result: { n: 1 } });
        expect(await peer.call('workflow_status', { workflow_id: 'w' })).toMatchObject({ status: 'running' });
        await expect(peer.call('task_status', { task_id: 'big' })).rejects.toMatchObject({ code: 'NOT_FOUND' });
      }
      expect(await full.call('queue_stats', { scope: 'local' })).toMatchObject({ completed_count: 1, paused: false });
      expect(full.stderr).toContain('trying on');
      const { pid } = full;

      rmSync(filler);
      await ended(full, 'asleep');
      const isDone = async () => (await other.call('workflow_status', { workflow_id: 'w' }))['status'] === 'completed';
      await eventually('the workflow is done', isDone);
      expect(await other.call('workflow_result', { workflow_id: 'w' })).toMatchObject({ result: { after: { n: 7 } } });
      expect(await full.call('task_status', { task_id: 'w:waits' })).toMatchObject({ attempt: 1 });
      await full.call('task_submit', big);
      await ended(full, 'big');
      expect(full.stderr).toContain('work goes on');
      expect(full.pid).toBe(pid);
      expect(await full.call('queue_stats', { scope: 'local' })).toMatchObject({
        completed_count: 5,
        failed_count: 0,
        paused: false,
      });
    },
  );
});

/** A disk in memory, or null when this user may not mount one; unmounted after the tests of this file. */
function mountSmallDisk(): string | null {
  const mounted = mkdtempSync(join(tmpdir(), 'flowmesh-disk-'));
  try {
    execFileSync('/bin/mount', ['-t', 'tmpfs', '-o', `size=${DISK_BYTES}`, 'tmpfs', mounted], { stdio: 'ignore' });
  } catch {
    // No right to mount here: the test that needs it is skipped, and says so.
    rmSync(mounted, { recursive: true });
    return null;
  }
  afterAll(() => {
    execFileSync('/bin/umount', [mounted]);
    rmSync(mounted, { recursive: true });
  });
  return mounted;
}

function fill(file: string): void {
  for (let bytes = DISK_BYTES; bytes >= 1_024; ) {
    try {
      writeFileSync(file, Buffer.alloc(bytes), { flag: 'a' });
    } catch {
      // Full at this size; smaller pieces fill the rest.
      bytes /= 2;
    }
  }
}

describe('a mesh loop that crashes', () => {
  it('is started again in the same process, and what was accepted finishes', async () => {
    await using folder = await temporaryFolder();
    await using mesh = await startProcesses(2, {
      args: ['--allow-shell', '*', '--takeover-ms', '1500', '--beat-interval-ms', '200'],
      env: { CRASH_SOCKETS: folder.path, NODE_OPTIONS: `--import=${CRASH_ON_DEMAND.href}` },
    });
    const [crashed, other] = [mesh.peers[0]!, mesh.peers[1]!];
    const { pid } = crashed;
    // The first attempt here would last for ever: its process has to be gone, and the second one to end.
    const script = `echo $$ >> ${folder.path}/pids; [ $FLOWMESH_ATTEMPT -gt 1 ] || sleep 1000`;
    const here = {
      task_type: 'shell',
      payload: { command: ['sh', '-c', script] },
      requires: { peers: [crashed.peer_id] },
    };
    const there = { task_type: 'shell', payload: { command: ['sleep', '1'] }, requires: { peers: [other.peer_id] } };
    await crashed.call('task_submit', { task_id: 'here', ...here });
    await crashed.call('task_submit', { task_id: 'there', ...there });
    await crashed.call('task_submit', { task_id: 'record', task_type: 'sleep', payload: { duration_ms: 500 } });
    await ended(crashed, 'there', 'running');
    const pids = async () => (await readFile(join(folder.path, 'pids'), 'utf8')).trim().split('\n').map(Number);
    const [first] = await eventually('the task runs here', pids);

    await crashMeshLoop(folder.path, pid);
    // Reads and the process do not notice; a change waits for the next loop or says that nobody knows what became of it.
    expect(await crashed.call('task_status', { task_id: 'here' })).toMatchObject({ status: 'running' });
    await eventually('a submit is accepted', async () => {
      return await crashed.call('task_submit', { task_id: 'next', task_type: 'echo' }).catch((error) => {
        if (error.code !== 'MESH_RESTARTED' || !error.retryable) throw error;
      });
    });
    await mesh.allConnected();
    for (const task_id of ['next', 'record', 'there', 'here']) await ended(other, task_id);
    expect(await crashed.call('task_status', { task_id: 'there' })).toMatchObject({ attempt: 1 });
    expect(await pids()).toHaveLength(2);
    expect(await isRunning(first!)).toBe(false);
    expect(crashed.pid).toBe(pid);
    expect(crashed.isRunning).toBe(true);
    for (const words of ['the mesh loop crashed', 'a crash that a test asked for', 'the mesh loop is up again']) {
      expect(crashed.stderr).toContain(words);
    }
  });

  it('again and again ends the process, which says so; started anew, it has everything', async () => {
    await using folder = await temporaryFolder();
    await using mesh = await startProcesses(1, {
      env: { CRASH_SOCKETS: folder.path, NODE_OPTIONS: `--import=${CRASH_ON_DEMAND.href}` },
    });
    const [peer] = mesh.peers;
    await peer!.call('task_submit', { task_id: 'kept', task_type: 'sleep', payload: { duration_ms: 10 } });
    const { pid } = peer!;
    for (let crashes = 0; crashes <= RESTARTS_MAX; crashes++) {
      if (crashes > 0) {
        const isUp = () => peer!.stderr.includes(`"restarts":${crashes},`);
        await eventually(`the loop is up for the ${crashes}. time`, isUp);
      }
      await crashMeshLoop(folder.path, pid);
    }
    await peer!.ended;
    expect(peer!.exitCode).toBe(1);
    expect(peer!.stderr).toContain('the peer cannot go on');
    expect(peer!.stderr).toMatch(/MESH_DOWN.*everything accepted is in its data folder|everything accepted.*MESH_DOWN/);
    await peer!.start();
    await ended(peer!, 'kept');
  });
});

describe('SIGTERM', () => {
  it('hands running work back: it runs elsewhere at once, and the process ends soon, with nothing left', async () => {
    await using folder = await temporaryFolder();
    await using mesh = await startProcesses(3, {
      // The owner would wait a minute for a worker that says nothing.
      args: (index) => [
        ...['--allow-shell', '*'],
        ...(index === 0 ? ['--slots', '0', '--takeover-ms', '60000'] : ['--slots', '8']),
      ],
    });
    const [owner, leaving, staying] = [mesh.peers[0]!, mesh.peers[1]!, mesh.peers[2]!];
    const script = `echo $$ >> ${folder.path}/pids; [ $FLOWMESH_ATTEMPT -gt 1 ] || sleep 1000`;
    const shell = { task_type: 'shell', payload: { command: ['sh', '-c', script] } };
    const ids = ['a', 'b', 'c', 'd', 'e', 'f'];
    const once = { ...shell, at_most_once: true, requires: { peers: [leaving.peer_id] } };
    await owner.call('task_submit', { task_id: 'once', ...once });
    for (const task_id of ids) await owner.call('task_submit', { task_id, ...shell });
    const placed = async () => {
      const { tasks } = (await owner.call('task_list', { scope: 'local' })) as {
        tasks: { task_id: string; status: string; peer_id: string }[];
      };
      return tasks.every(({ status }) => status === 'running') && tasks;
    };
    const before = await eventually('all run', placed);
    const moved = before.filter(({ peer_id, task_id }) => peer_id === leaving.peer_id && task_id !== 'once');
    expect(moved.length).toBeGreaterThan(0);
    const count = before.filter(({ peer_id }) => peer_id === leaving.peer_id).length;
    const pids = async () => (await readFile(join(folder.path, 'pids'), 'utf8')).trim().split('\n').map(Number);
    await eventually('their processes run', async () => (await pids()).length === before.length);
    // A call that waits for something is not what the process waits for.
    await leaving.call('worker_register', { worker_id: 'extra', capabilities: ['shell', 'extra'] });
    await owner.call('task_submit', { task_id: 'held', ...shell, requires: { labels: ['extra'] } });
    await ended(owner, 'held', 'running');
    const waiting = leaving.call('worker_unregister', { worker_id: 'extra' });
    const told = expect(waiting).rejects.toMatchObject({ code: 'PEER_STOPPED', retryable: true });
    told.catch(() => {}); // It is awaited below; until then it must not end the run.
    const isDraining = async () =>
      (await leaving.call('worker_status', { worker_id: 'extra' }))['status'] === 'draining';
    await eventually('the call waits', isDraining);

    const gone = leaving.kill('SIGTERM');
    await Promise.all(moved.map(({ task_id }) => ended(owner, task_id)));
    await gone;
    await told;
    expect(leaving.exitCode).toBe(0);
    for (const { task_id } of moved) {
      expect(await owner.call('task_status', { task_id })).toMatchObject({ peer_id: staying.peer_id, attempt: 2 });
    }
    // P4: what may run once only is not run again.
    expect(await owner.call('task_status', { task_id: 'once' })).toMatchObject({ error: { code: 'WORKER_LOST' } });
    expect(await owner.call('task_status', { task_id: 'held' })).toMatchObject({ status: 'queued' });
    expect(leaving.stderr).not.toContain('could not be handed back');
    expect(count).toBe(moved.length + 1);
    const alive = await Promise.all((await pids()).map(isRunning));
    expect(alive.filter(Boolean)).toHaveLength(ids.length - moved.length);
  });
});
