/** Closes parts one after the other, each within a bound, all of them even when some fail. */
import type { Log } from '../../scheduler/ports.ts';
import { CloseError } from './errors.ts';
import { CLOSE_DEADLINE_MS } from './limits.ts';

export interface Closing {
  part: string;
  close: () => Promise<unknown> | unknown;
  /** Default: CLOSE_DEADLINE_MS. */
  deadlineMs?: number;
}

/**
 * @param steps closed in this order
 * @throws {CloseError} CLOSE_FAILED naming the parts that failed or took too long, after all were tried
 */
export async function closeAll(steps: Closing[], log: Log): Promise<void> {
  const failed: { part: string; error: unknown }[] = [];
  for (const { part, close, deadlineMs = CLOSE_DEADLINE_MS } of steps) {
    try {
      await within(deadlineMs, async () => close());
    } catch (error) {
      log.error({ part, err: error }, 'did not close cleanly');
      failed.push({ part, error });
    }
  }
  if (failed.length > 0) throw new CloseError(failed);
}

async function within(deadlineMs: number, work: () => Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const tooLate = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not closed within ${deadlineMs} ms`)), deadlineMs);
  });
  try {
    await Promise.race([work(), tooLate]);
  } finally {
    clearTimeout(timer);
  }
}
