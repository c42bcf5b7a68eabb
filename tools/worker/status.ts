/** `worker_status`: one pool of slots, on whichever peer it is. */
import { z } from 'zod';
import type { WorkerView } from '../../scheduler/api.ts';
import { maySee } from '../../scheduler/caller.ts';
import type { WorkerRecord } from '../../scheduler/records.ts';
import { defineMeshTool, type MeshContext } from '../definition.ts';
import { RecordNotFoundError } from '../errors.ts';
import { countOut, rounded, workerIdField } from '../fields.ts';
import { shownStatus, workerStatusSchema } from './view.ts';

const MINUTE_MS = 60_000;
const MIB = 1024 * 1024;

const taskOut = z.object({
  uid: z.string().describe('The internal id of the task, the same on every peer.'),
  task_id: z.string().nullable().describe('Null when the task is kept by another peer than the worker’s.'),
  task_type: z.string().nullable(),
  status: z.string().nullable(),
  progress: z.number().nullable(),
  started_at: z.string().nullable(),
});

const usageOut = z.object({
  slots: countOut.nullable(),
  slots_used: countOut,
  slots_free: countOut.nullable(),
  cpu_cores: z.number().nullable().describe('As stated when it was registered.'),
  memory_gb: z.number().nullable().describe('As stated when it was registered.'),
  peer_memory_mb: z.number().describe('Measured: resident memory of the peer’s process, which all its workers share.'),
});

const metricsOut = z.object({
  success_rate: z.number().nullable().describe('Completed of all ended tasks, 0–1; null before the first ended.'),
  utilization: z.number().nullable().describe('Running tasks per slot, 0–1.'),
  tasks_per_minute: z.number().nullable().describe('Ended tasks per minute since it was registered.'),
  registered_ms: z.number().describe('How long it has been registered.'),
});

export const workerStatus = defineMeshTool({
  name: 'worker_status',
  title: 'Status of a worker',
  description:
    'Shows one worker of the mesh: whether it is idle or busy, its slots and capabilities, what it completed and failed, and with include_tasks what it runs now. Any peer can be asked; the answer is that of the peer the worker is on. queue_stats with include_worker_stats lists the workers of the mesh.',
  input: z.strictObject({
    worker_id: workerIdField,
    include_tasks: z.boolean().default(false).describe('The tasks it runs now.'),
    include_metrics: z.boolean().default(false).describe('Success rate, utilization and throughput.'),
  }),
  output: z.object({
    worker_id: z.string(),
    status: workerStatusSchema,
    peer_id: z.string().describe('The peer it is on.'),
    actions: z.array(z.string()).describe('What it can run.'),
    labels: z.array(z.string()).describe('What tasks can require of it.'),
    allows: z
      .array(z.string())
      .describe('What its peer allows of the actions: `shell:wc`, `shell:*`, `http:example.org`.'),
    running_tasks: countOut,
    completed_tasks: countOut.nullable().describe('Null for a worker that is no longer in service.'),
    failed_tasks: countOut.nullable().describe('Null for a worker that is no longer in service.'),
    registered_at: z.string(),
    resource_usage: usageOut,
    tasks: z.array(taskOut).optional().describe('With include_tasks: those that exist for the caller.'),
    metrics: metricsOut.optional().describe('With include_metrics.'),
  }),
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  permission: 'worker:read',
  about: ({ worker_id }) => ({ kind: 'worker', id: worker_id }),
  cli: {
    positional: ['worker_id'],
    list: { field: 'tasks', columns: ['task_id', 'task_type', 'status', 'progress', 'started_at'] },
  },
  async handler({ worker_id, include_tasks, include_metrics }, context) {
    const { scheduler, self, reader, clock } = context;
    const live = scheduler.workers().find((worker) => worker.peer_id === self && worker.worker_id === worker_id);
    const worker = live ?? outOfService(worker_id, await reader.byAlias('worker', worker_id));
    const slots = live?.slots ?? null;
    return {
      worker_id,
      status: shownStatus(worker),
      peer_id: self,
      actions: worker.actions,
      labels: worker.labels,
      allows: worker.allows ?? [],
      running_tasks: worker.running,
      completed_tasks: live?.completed ?? null,
      failed_tasks: live?.failed ?? null,
      registered_at: worker.registered_at,
      resource_usage: {
        slots,
        slots_used: worker.running,
        slots_free: slots === null ? null : Math.max(slots - worker.running, 0),
        cpu_cores: worker.cpu_cores,
        memory_gb: worker.memory_gb,
        peer_memory_mb: rounded(process.memoryUsage.rss() / MIB, 1),
      },
      ...(include_tasks && { tasks: await tasksOf(live, context) }),
      ...(include_metrics && { metrics: measure(worker, clock.wall()) }),
    };
  },
});

type Shown = Omit<WorkerView, 'peer_id' | 'tasks' | 'metadata' | 'worker_id'>;

/** A worker that has a record here, but no slots any more. @throws RecordNotFoundError without a record */
function outOfService(workerId: string, record: WorkerRecord | undefined): Shown {
  if (record === undefined) throw new RecordNotFoundError({ kind: 'worker', id: workerId });
  return {
    ...record.resource_limits,
    status: 'offline',
    actions: [],
    labels: record.capabilities,
    allows: [],
    slots: 0,
    running: 0,
    completed: 0,
    failed: 0,
    registered_at: record.registered_at,
  };
}

async function tasksOf(
  worker: WorkerView | undefined,
  { reader, caller }: MeshContext,
): Promise<z.infer<typeof taskOut>[]> {
  const uids = worker?.tasks ?? [];
  const tasks = await Promise.all(uids.map(async (uid) => ({ uid, task: await reader.get('task', uid) })));
  // Whose a task is that another peer owns is not known here.
  return tasks
    .filter(({ task }) => maySee(caller, task ?? {}))
    .map(({ uid, task }) => ({
      uid,
      task_id: task?.task_id ?? null,
      task_type: task?.task_type ?? null,
      status: task?.status ?? null,
      progress: task?.progress ?? null,
      started_at: task?.started_at ?? null,
    }));
}

function measure(
  { completed, failed, running, slots, registered_at }: Shown,
  nowMs: number,
): z.infer<typeof metricsOut> {
  const ended = completed + failed;
  const registered_ms = Math.max(nowMs - Date.parse(registered_at), 0);
  return {
    success_rate: ended === 0 ? null : rounded(completed / ended),
    utilization: slots === 0 ? null : rounded(running / slots),
    tasks_per_minute: registered_ms === 0 ? null : rounded(ended / (registered_ms / MINUTE_MS)),
    registered_ms,
  };
}
