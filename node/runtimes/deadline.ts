/** One signal for the two ways a call ends early: its caller goes away, or its time is up. */
import { CallCancelledError, CallDeadlineError } from './errors.ts';

export interface BoundedSignal {
  /** Its reason is a CallDeadlineError, a CallCancelledError, or the error the caller aborted with. */
  signal: AbortSignal;
  /** Ends the call early. */
  abort(reason: Error): void;
  /** To be called when the call is done: frees the timer. */
  done(): void;
}

/** @param caller aborts the call when it is aborted */
export function boundedSignal(tool: string, deadlineMs: number, caller: AbortSignal | undefined): BoundedSignal {
  const controller = new AbortController();
  const timer = setTimeout(() => controller.abort(new CallDeadlineError(tool, deadlineMs)), deadlineMs);
  const onAbort = () => controller.abort(new CallCancelledError(tool));
  if (caller?.aborted) onAbort();
  else caller?.addEventListener('abort', onAbort, { once: true });
  return {
    signal: controller.signal,
    abort: (reason) => controller.abort(reason),
    done() {
      clearTimeout(timer);
      caller?.removeEventListener('abort', onAbort);
    },
  };
}

/** `work`, or a rejection with the signal's reason as soon as it aborts; `work` goes on by itself then. */
export function orAborted<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason);
    if (signal.aborted) {
      onAbort();
      // The work's own end is of no interest any more; its caller has the reason why.
      work.catch(() => {});
      return;
    }
    signal.addEventListener('abort', onAbort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}
