/**
 * When a task that no connected worker can run is given up: after its own `wait_timeout_ms`; without one, after
 * NOT_ALLOWED_WAIT_MS if only the policy of the peers that could run it forbids it. Any other task waits without limit.
 */
import type { ErrorShape } from '../../dag/errors.ts';
import type { Wanted } from '../capabilities.ts';
import { NobodyMayError, NoWorkerError } from '../errors.ts';
import { NOT_ALLOWED_WAIT_MS } from '../limits.ts';
import type { LiveTask } from '../task/live-task.ts';
import type { Nobody } from '../task/queue.ts';
import { howToAllow, nameOfNeed } from './why-nobody.ts';

/**
 * @param nobody since when nobody can run the class of the task, and why
 * @param now monotonic
 * @returns why the task is given up; null while it goes on waiting
 */
export function tooLongWithoutWorker(
  { record, ready_at, refusal }: LiveTask,
  of: Wanted,
  nobody: Nobody,
  now: number,
): ErrorShape | null {
  const { wait_timeout_ms } = record;
  if (wait_timeout_ms !== undefined) {
    const waited = now - Math.max(nobody.since, ready_at);
    return waited < wait_timeout_ms ? null : new NoWorkerError(wait_timeout_ms, nobody.reason).toShape();
  }
  const { refused } = nobody;
  if (refused === null || now - Math.max(refused.since, ready_at) < NOT_ALLOWED_WAIT_MS) return null;
  return whyForbidden(of, refused.by, refusal).toShape();
}

function whyForbidden({ action, needs }: Wanted, peers: readonly string[], refusal: ErrorShape | null): NobodyMayError {
  const details = { action, needs: [...needs], peers: [...peers], ...refusal?.details };
  if (refusal !== null) return new NobodyMayError(`this ${action} task`, peers, refusal.message, details);
  if (needs.length === 0) return new NobodyMayError(action, peers, `let the policy of one of them allow it`, details);
  const what = needs.map(nameOfNeed).join(' and ');
  const flags = needs.map(howToAllow).join(' ');
  const advice = `start one of them, or another peer, with ${flags}; where it has a policy, let that allow it too`;
  return new NobodyMayError(`${action}: ${what}`, peers, advice, details);
}
