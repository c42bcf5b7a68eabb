/** A disk that stays full for a while, under the real scheduler: recovery is tried in turn, and nothing accepted is lost. */
import { expect, it } from 'vitest';
import { FlowmeshError } from '../../dag/errors.ts';
import { requiresSchema, retrySchema } from '../../dag/schema.ts';
import type { TaskSubmission } from '../../scheduler/api.ts';
import { MemoryStore } from './memory-store.ts';
import { SimulatedMesh } from './mesh.ts';

const TASKS = 12;
const FULL_MS = 60_000;
/** Of the waits between two tries: at once, 0.2, 0.5, 1, 2 and then every 5 s. */
const TRIES_MAX = 5 + FULL_MS / 5_000 + 1;

/** A disk without room for a while, and a count of how often it was opened again. */
class FillingStore extends MemoryStore {
  recoveries = 0;
  readonly disk: { full: boolean };

  constructor(disk: { full: boolean }) {
    super({
      sync: async () => {
        if (disk.full) throw new FlowmeshError('DISK_FULL', 'the simulated disk is full', { retryable: true });
      },
    });
    this.disk = disk;
  }

  override async recover(): Promise<void> {
    this.recoveries++;
    await super.recover();
  }
}

const submission = (task_id: string, task_type: string, ms: number): TaskSubmission => ({
  task_id,
  task_type,
  payload: { ms },
  priority: 1,
  tags: [],
  timeout_ms: undefined,
  retry: retrySchema.parse({}),
  delay_ms: undefined,
  deadline: undefined,
  requires: requiresSchema.parse({}),
  depends_on: [],
  at_most_once: false,
  metadata: {},
});

it('a disk that is full for a minute is tried now and then, by one at a time, and everything accepted ends', async () => {
  const mesh = new SimulatedMesh(1);
  const { world } = mesh;
  const store = new FillingStore({ full: false });
  const run = async <T>(promise: Promise<T>): Promise<T> => {
    let settled = false;
    const note = () => {
      settled = true;
    };
    promise.then(note, note);
    await world.run(world.now + FULL_MS, () => settled);
    return await promise;
  };
  const { scheduler } = await run(mesh.start('a', { slots: 4, store }));
  // More than there are slots: what waits is given out by each recovery, which has to write that down and cannot.
  const accepted: { owner: string; kind: 'task'; uid: string }[] = [];
  for (let n = 0; n < TASKS; n++) {
    const { record } = await run(scheduler.api.submitTask(submission(`t${n}`, 'fn:work', 1_000)));
    accepted.push({ owner: 'a', kind: 'task', uid: record.uid });
  }
  await run(scheduler.api.pauseQueue('to be resumed').then(() => scheduler.api.resumeQueue()));

  store.disk.full = true;
  const full = { code: 'DISK_FULL', retryable: true };
  await expect(run(scheduler.api.pauseQueue('too late'))).rejects.toMatchObject(full);
  await expect(
    run(scheduler.api.cancelTask(accepted[0]!.uid, { reason: undefined, force: false })),
  ).rejects.toMatchObject(full);
  await world.run(world.now + FULL_MS);
  expect(store.recoveries).toBeGreaterThan(2);
  expect(store.recoveries).toBeLessThanOrEqual(TRIES_MAX);
  await expect(run(scheduler.api.submitTask(submission('refused', 'echo', 0)))).rejects.toMatchObject(full);

  store.disk.full = false;
  expect(await mesh.settle(accepted, 60_000)).toBe(true);
  expect(scheduler.api.queue().paused).toBe(false);
  expect(mesh.failures).toEqual([]);
  for (const { uid } of accepted) expect((await mesh.task('a', uid))?.status).toBe('completed');
  expect(await store.reader.byAlias('task', 'refused')).toBeUndefined();
});
