/**
 * Why tasks wait, as answers show it. For a task that waits for a time or a person, its row says why. For a task in the
 * queue only the scheduler's memory does: the serve loop asks for that with the operation below.
 */
import { z } from 'zod';
import type { TaskRecord } from '../../scheduler/records.ts';
import { WAITS_FOR, type Why, waitsSince, whyByRow } from '../../scheduler/waiting.ts';
import { defineMeshTool, type Reading } from '../definition.ts';

/** Tasks about which one answer asks the scheduler. */
export const WHY_ASKED_MAX = 256;

const forOut = z
  .enum(WAITS_FOR)
  .describe(
    'steps, tasks, workflows: others have to end. person: an answer. time: a delay or the next try. queue: nothing is given out now. worker: no connected one can run it. slot: those that can are busy.',
  );

export const waitingOut = z
  .object({
    for: forOut,
    reason: z.string().describe('In one sentence, with what is missing and at whom.'),
    since: z.string().describe('Since when it waits, ISO 8601 UTC.'),
  })
  .nullable()
  .describe('Why it has not begun, or does not go on; null when it does not wait.');
export type Waiting = NonNullable<z.infer<typeof waitingOut>>;

/** Why tasks queued at this peer wait. Not a tool over MCP, and not in the registry. */
export const waitingOperation = defineMeshTool({
  name: 'task_waiting',
  title: 'Why tasks wait',
  description: 'Says of tasks that are queued at this peer what each waits for.',
  input: z.strictObject({ uids: z.array(z.string()).max(WHY_ASKED_MAX) }),
  output: z.object({ why: z.record(z.string(), z.object({ for: forOut, reason: z.string() })) }),
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  permission: 'task:read',
  async handler({ uids }, { scheduler }) {
    return { why: scheduler.whyWaiting(uids) };
  },
});

/**
 * Why each of these tasks waits, by uid; tasks that do not wait are left out. The scheduler is asked about
 * WHY_ASKED_MAX of them; for further ones their rows, which may be some seconds old, have to do.
 */
export async function waitingOf(
  tasks: readonly TaskRecord[],
  { clock, isCopy, whyWaiting }: Pick<Reading, 'clock' | 'isCopy' | 'whyWaiting'>,
): Promise<Map<string, Waiting>> {
  const now = clock.wall();
  const waiting = new Map<string, Waiting>();
  const queued: TaskRecord[] = [];
  for (const task of tasks) {
    const why = whyByRow(task, now);
    if (why !== null) waiting.set(task.uid, { ...why, since: waitsSince(task) });
    else if (task.status === 'queued') queued.push(task);
  }
  const asked = isCopy ? [] : queued.slice(0, WHY_ASKED_MAX).map(({ uid }) => uid);
  const known = asked.length === 0 ? {} : await whyWaiting(asked);
  for (const task of queued) {
    const why = known[task.uid] ?? byPlacement(task, isCopy);
    waiting.set(task.uid, { ...why, since: waitsSince(task) });
  }
  return waiting;
}

/** Why a queued task waits, as its row says; the row may be some seconds old. */
function byPlacement({ placement, depends_on, attempt }: TaskRecord, isCopy: boolean): Why {
  if (isCopy) return { for: 'queue', reason: 'the peer that gives it out cannot be reached' };
  if (depends_on.length > 0 && attempt === 0) return { for: 'tasks', reason: `depends on ${depends_on.join(', ')}` };
  const said = placement?.chosen === null ? placement : null;
  if (said === null) return { for: 'queue', reason: 'it is in the queue' };
  return { for: said.considered === 0 ? 'worker' : 'slot', reason: said.reason };
}
