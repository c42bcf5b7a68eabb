/** How workers are shown. */
import { z } from 'zod';
import type { WorkerView } from '../../scheduler/api.ts';

export const workerStatusSchema = z
  .enum(['active', 'idle', 'busy', 'draining', 'offline'])
  .describe('idle: runs nothing. active: runs something and has a free slot. busy: no free slot.');
export type WorkerStatus = z.infer<typeof workerStatusSchema>;

export function shownStatus({
  status,
  running,
  slots,
}: Pick<WorkerView, 'status' | 'running' | 'slots'>): WorkerStatus {
  if (status !== 'active') return status;
  if (running === 0) return 'idle';
  return running >= slots ? 'busy' : 'active';
}
