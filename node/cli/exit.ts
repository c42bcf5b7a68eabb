/** How a command ends: 0 done, 1 failed, 2 wrong usage, 3 no peer could be reached. */
import { FlowmeshError } from '../../dag/errors.ts';

export const EXIT = { done: 0, failed: 1, usage: 2, unreachable: 3 } as const;

/** A shell's number for a command that a signal ended: 128 + the signal's. */
export const EXIT_INTERRUPTED = 130;

/** The command line itself is wrong; nothing was sent. */
export class UsageError extends FlowmeshError {
  constructor(message: string, details?: ConstructorParameters<typeof FlowmeshError>[2]) {
    super('USAGE', message, details);
  }
}

/** No peer answered; the sentence says how to start or to name one. */
export class PeerUnreachableError extends FlowmeshError {
  constructor(message: string, cause?: unknown) {
    super('NO_PEER', message, { retryable: true, cause });
  }
}

export function exitCodeOf(error: unknown): number {
  if (error instanceof PeerUnreachableError) return EXIT.unreachable;
  if (error instanceof UsageError) return EXIT.usage;
  if (error instanceof FlowmeshError && error.code === 'INVALID_CONFIG') return EXIT.usage;
  return EXIT.failed;
}
