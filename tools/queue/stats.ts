/** `queue_stats`: how the queue does. */
import { z } from 'zod';
import { isoTime } from '../../scheduler/ids.ts';
import { askPeers, weightedMean } from '../call/merge.ts';
import { defineReadTool, type MeshContext, type ReadContext } from '../definition.ts';
import { countOut, missingOut, msOut, rounded, scopeField } from '../fields.ts';
import { shownStatus, workerStatusSchema } from '../worker/view.ts';
import { queueRecord } from './state.ts';

const MINUTE_MS = 60_000;
/** Averages are over the tasks that ended within this time. */
const AVERAGE_WINDOW_MS = 60 * MINUTE_MS;
/** How far `historical` goes back. */
const HISTORY_WINDOW_MS = 60 * MINUTE_MS;

const workerStatsOut = z.object({
  worker_id: z.string(),
  peer_id: z.string(),
  status: workerStatusSchema,
  labels: z.array(z.string()).default([]).describe('What tasks can require of it.'),
  slots: countOut,
  running_tasks: countOut,
  completed_tasks: countOut,
  failed_tasks: countOut,
  utilization: z.number().nullable().describe('Running tasks per slot, 0–1; null for a worker without slots.'),
});

const minuteOut = z.object({ minute: z.string(), completed: countOut, failed: countOut });

const output = z.object({
  queued_count: countOut,
  running_count: countOut,
  input_required_count: countOut.describe('Waiting for a person.'),
  completed_count: countOut,
  failed_count: countOut.describe('Without the dead letters.'),
  cancelled_count: countOut,
  dead_letter_count: countOut.describe('Failed with their retries used up.'),
  paused: z.boolean().describe('True when one of the queues starts nothing.'),
  paused_peers: z.array(z.string()).describe('The peers whose queues are paused.'),
  average_wait_time_ms: msOut.describe(
    'From ready to started, over the tasks that ended in the last hour; null for none.',
  ),
  average_execution_time_ms: msOut.describe('Over the tasks that ended in the last hour; null for none.'),
  throughput_per_minute: countOut.describe('Tasks completed in the last minute.'),
  completed_last_hour: countOut.describe('What the averages of several peers are weighted by.'),
  worker_stats: z.array(workerStatsOut).optional().describe('With include_worker_stats.'),
  historical: z.array(minuteOut).optional().describe('Ended tasks per minute of the last hour, oldest first.'),
  missing: missingOut,
});
type Stats = z.output<typeof output>;

const input = z.strictObject({
  include_worker_stats: z.boolean().default(false).describe('Slots and counts of each worker.'),
  include_historical: z.boolean().default(false).describe('Ended tasks per minute of the last hour.'),
  scope: scopeField,
});
type Input = z.output<typeof input>;

export const queueStats = defineReadTool({
  name: 'queue_stats',
  title: 'Figures of the queue',
  description:
    'Counts the tasks of the mesh by status and gives waiting time, execution time and throughput; with scope "local" of this peer alone. Use it to see whether work piles up, whether a queue is paused, and with include_worker_stats which workers there are and which are busy. Every figure is measured; what nothing was measured for is null.',
  input,
  output,
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  permission: 'queue:read',
  cli: {
    list: {
      field: 'worker_stats',
      columns: [
        'worker_id',
        'peer_id',
        'status',
        'slots',
        'running_tasks',
        'completed_tasks',
        'failed_tasks',
        'labels',
      ],
    },
  },
  handler: localStats,
  merge: {
    // The state of workers is in memory on the mesh loop, even for a call that asks for this peer only.
    when: ({ scope, include_worker_stats }) => scope === 'mesh' || include_worker_stats,
    async handler(asked, context) {
      const own = { ...(await localStats(asked, context)), ...(asked.include_worker_stats && ownWorkers(context)) };
      if (asked.scope === 'local') return own;
      const { answers, missing } = await askPeers(context, 'queue_stats', output, { ...asked, scope: 'local' });
      return { ...addUp([own, ...answers.map((answer) => answer.output)], asked), missing };
    },
  },
});

async function localStats(
  { include_historical }: Input,
  context: Pick<ReadContext, 'reader' | 'clock' | 'self'>,
): Promise<Stats> {
  const { reader, clock, self } = context;
  const now = clock.wall();
  const [counts, minute, queue, historical] = await Promise.all([
    reader.taskCounts({ since: isoTime(now - AVERAGE_WINDOW_MS) }),
    reader.taskCounts({ since: isoTime(now - MINUTE_MS) }),
    queueRecord(context),
    include_historical ? reader.taskHistory({ since: isoTime(now - HISTORY_WINDOW_MS) }) : undefined,
  ]);
  const paused = queue?.paused ?? false;
  return {
    queued_count: counts.queued,
    running_count: counts.running,
    input_required_count: counts.input_required,
    completed_count: counts.completed,
    failed_count: counts.failed,
    cancelled_count: counts.cancelled,
    dead_letter_count: counts.dead_letter,
    paused,
    paused_peers: paused ? [self] : [],
    average_wait_time_ms: counts.average_wait_ms === null ? null : rounded(counts.average_wait_ms),
    average_execution_time_ms: counts.average_execution_ms === null ? null : rounded(counts.average_execution_ms),
    throughput_per_minute: minute.completed_since,
    completed_last_hour: counts.completed_since,
    ...(historical && { historical }),
  };
}

function ownWorkers({ scheduler, self }: MeshContext): Pick<Stats, 'worker_stats'> {
  const worker_stats = scheduler
    .workers()
    .filter(({ peer_id }) => peer_id === self)
    .map((worker) => ({
      worker_id: worker.worker_id,
      peer_id: worker.peer_id,
      status: shownStatus(worker),
      labels: worker.labels,
      slots: worker.slots,
      running_tasks: worker.running,
      completed_tasks: worker.completed,
      failed_tasks: worker.failed,
      utilization: worker.slots === 0 ? null : rounded(worker.running / worker.slots),
    }));
  return { worker_stats };
}

/** The figures of several peers as one: counts added, means weighted, minutes joined. */
export function addUp(parts: Stats[], { include_worker_stats, include_historical }: Omit<Input, 'scope'>): Stats {
  const sum = (field: (stats: Stats) => number) => parts.reduce((total, stats) => total + field(stats), 0);
  const mean = (field: (stats: Stats) => number | null) => {
    const value = weightedMean(parts.map((stats) => ({ mean: field(stats), weight: stats.completed_last_hour })));
    return value === null ? null : rounded(value);
  };
  return {
    queued_count: sum((stats) => stats.queued_count),
    running_count: sum((stats) => stats.running_count),
    input_required_count: sum((stats) => stats.input_required_count),
    completed_count: sum((stats) => stats.completed_count),
    failed_count: sum((stats) => stats.failed_count),
    cancelled_count: sum((stats) => stats.cancelled_count),
    dead_letter_count: sum((stats) => stats.dead_letter_count),
    paused: parts.some((stats) => stats.paused),
    paused_peers: parts.flatMap((stats) => stats.paused_peers).sort(),
    average_wait_time_ms: mean((stats) => stats.average_wait_time_ms),
    average_execution_time_ms: mean((stats) => stats.average_execution_time_ms),
    throughput_per_minute: sum((stats) => stats.throughput_per_minute),
    completed_last_hour: sum((stats) => stats.completed_last_hour),
    ...(include_worker_stats && { worker_stats: parts.flatMap((stats) => stats.worker_stats ?? []) }),
    ...(include_historical && { historical: joinMinutes(parts.flatMap((stats) => stats.historical ?? [])) }),
  };
}

function joinMinutes(minutes: z.infer<typeof minuteOut>[]): z.infer<typeof minuteOut>[] {
  const joined = new Map<string, z.infer<typeof minuteOut>>();
  for (const { minute, completed, failed } of minutes) {
    const same = joined.get(minute);
    joined.set(minute, {
      minute,
      completed: completed + (same?.completed ?? 0),
      failed: failed + (same?.failed ?? 0),
    });
  }
  return [...joined.values()].sort((a, b) => (a.minute < b.minute ? -1 : 1));
}
