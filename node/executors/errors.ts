/**
 * Why an action failed. `retryable` decides whether the step's `retry` is used at all:
 *
 *   true   the same call may succeed later: exit codes, network trouble, HTTP 5xx, exceptions of a handler, a crash
 *   false  no attempt can help until someone changes the workflow, the handler or the peer's config
 *
 * A handler decides for itself by throwing an error with a boolean `retryable`.
 */
import { FlowmeshError, type JsonObject } from '../../dag/errors.ts';
import { OUTPUT_BYTES_MAX } from '../../dag/limits.ts';
import type { Confinement, LimitName } from '../processes/confinement.ts';

/** No executor of this name here. Not retryable: a peer's actions do not change while it runs. */
export class UnknownActionError extends FlowmeshError {
  constructor(action: string, known: string[]) {
    super('UNKNOWN_ACTION', `this peer has no action "${action}"; it has ${known.join(', ')}`);
  }
}

/** The peer's own policy refuses. The message names the flag and the setting that would allow it. */
export class ActionNotAllowedError extends FlowmeshError {
  constructor(message: string, details?: JsonObject) {
    super('ACTION_NOT_ALLOWED', message, details && { details });
  }
}

/** The action gave something that is not JSON, or not what `parse` asked for. Not retryable. */
export class InvalidOutputError extends FlowmeshError {
  constructor(message: string, options: { cause?: unknown; details?: JsonObject } = {}) {
    super('INVALID_OUTPUT', message, options);
  }
}

/** More than OUTPUT_BYTES_MAX. Not retryable: the next attempt would write the same. */
export class OutputTooLargeError extends FlowmeshError {
  constructor(what: string) {
    super(
      'OUTPUT_TOO_LARGE',
      `${what} is larger than ${OUTPUT_BYTES_MAX} bytes; write it to a file or a store and output a reference to it`,
      { details: { limit: 'OUTPUT_BYTES_MAX', maximum: OUTPUT_BYTES_MAX } },
    );
  }
}

const UNITS: Record<LimitName, string> = {
  memory_mb: 'MB of memory',
  cpu_s: 's of processor time',
  processes: 'processes and threads at once',
  output_mb: 'MB of output',
  wall_s: 's of time',
};

/** The attempt used more than the policy of this peer gives it. Not retryable: the next one would use as much. */
export class LimitExceededError extends FlowmeshError {
  /** @param place of the limits in the settings, e.g. `policy[0].limits` */
  constructor(what: string, limit: LimitName, { limits, kept }: Confinement, place: string) {
    const maximum = limits[limit]!;
    super(
      'LIMIT_EXCEEDED',
      `${what} was ended: it needs more than ${maximum} ${UNITS[limit]}; whoever runs this peer can raise that (setting ${place}.${limit})`,
      { details: { limit, maximum, kept_by: kept[limit], setting: `${place}.${limit}` } },
    );
  }
}

/** The run was aborted through its signal. Whoever aborted it knows whether that was a cancel or a timeout. */
export class ActionAbortedError extends FlowmeshError {
  constructor(action: string) {
    super('ABORTED', `action "${action}" was aborted`);
  }
}

/** The peer is stopping. Retryable: another attempt, here or elsewhere, can run. */
export class ExecutorsClosedError extends FlowmeshError {
  constructor() {
    super('EXECUTORS_CLOSED', 'the peer is stopping and runs no more actions', { retryable: true });
  }
}
