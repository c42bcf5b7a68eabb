/** What the queue tools read of this peer's queue. */
import { isoTime } from '../../scheduler/ids.ts';
import { LOCAL_FEED, type QueueRecord } from '../../scheduler/records.ts';
import type { ReadContext } from '../definition.ts';

/** The row of the queue; undefined when it was never paused: it has no row then. */
export async function queueRecord({ reader }: Pick<ReadContext, 'reader'>): Promise<QueueRecord | undefined> {
  const [record] = await reader.active('queue', LOCAL_FEED);
  return record;
}

/** Waiting and running tasks of this peer's queue now. */
export async function queueCounts({
  reader,
  clock,
}: Pick<ReadContext, 'reader' | 'clock'>): Promise<{ queued_tasks: number; running_tasks: number }> {
  const counts = await reader.taskCounts({ since: isoTime(clock.wall()) });
  return { queued_tasks: counts.queued, running_tasks: counts.running };
}
