/** Why a task has not begun, for people: what it waits for, and one sentence. Pure. */
import { wallMs } from './ids.ts';
import type { TaskRecord } from './records.ts';

/**
 * `steps`, `tasks`, `workflows`: others have to end first. `person`: an answer. `time`: a delay, or the next try.
 * `queue`: nothing is given out now. `worker`: no connected one can run it. `slot`: those that can are busy.
 */
export const WAITS_FOR = ['steps', 'tasks', 'workflows', 'person', 'time', 'queue', 'worker', 'slot'] as const;

export interface Why {
  for: (typeof WAITS_FOR)[number];
  reason: string;
}

/** Why a task waits, where its row says so: null for one that does not wait, or that waits in the queue. */
export function whyByRow(record: TaskRecord, nowMs: number): Why | null {
  if (record.status === 'input_required') {
    const question = record.progress_message;
    return { for: 'person', reason: `a person has to answer${question === null ? '' : `: ${question}`}` };
  }
  if (record.status !== 'queued' || record.due_at === null || wallMs(record.due_at) <= nowMs) return null;
  const { due_at, failures } = record;
  return {
    for: 'time',
    reason: failures > 0 ? `it is tried again at ${due_at}` : `it does not begin before ${due_at}`,
  };
}

/** Since when a task that does not run has been waiting (ISO 8601). */
export function waitsSince(record: TaskRecord): string {
  if (record.status === 'input_required' && record.started_at !== null) return record.started_at;
  return record.attempts.at(-1)?.ended_at ?? record.queued_at;
}
