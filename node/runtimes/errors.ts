/** What can happen to a call between event loops. */
import { FlowmeshError } from '../../dag/errors.ts';
import { cut, quoted } from '../../dag/quoted.ts';

/** Back-pressure (P7): the call was not accepted anywhere. */
export class TooBusyError extends FlowmeshError {
  constructor(limit: string, value: number) {
    super(
      'TOO_BUSY',
      `this peer carries ${value} calls already (${limit}); nothing was done: send the call again shortly`,
      {
        retryable: true,
        details: { limit, value },
      },
    );
  }
}

export class CallDeadlineError extends FlowmeshError {
  constructor(tool: string, deadlineMs: number) {
    super(
      'DEADLINE_EXCEEDED',
      `${tool} was not answered within ${deadlineMs} ms; it may have been accepted: send it again with the same id, or ask for its status`,
      { retryable: true, details: { tool, deadline_ms: deadlineMs } },
    );
  }
}

export class CallCancelledError extends FlowmeshError {
  constructor(tool: string) {
    super('CANCELLED', `the caller of ${tool} went away; what was accepted until then stays accepted`, {
      retryable: true,
      details: { tool },
    });
  }
}

export class CallStoppedError extends FlowmeshError {
  constructor(tool: string) {
    super(
      'PEER_STOPPED',
      `this peer stops and ended ${tool} before its answer; it may have been accepted: send it again with the same id to another peer, or ask for its status`,
      { retryable: true, details: { tool } },
    );
  }
}

export class MeshRestartedError extends FlowmeshError {
  constructor(tool: string) {
    super(
      'MESH_RESTARTED',
      `the mesh loop ended while it ran ${tool} and is starting again; whether the call was accepted is unknown: send it again with the same id`,
      { retryable: true, details: { tool } },
    );
  }
}

/** The mesh loop crashed too often. */
export class MeshDownError extends FlowmeshError {
  constructor(restarts: number, cause: unknown) {
    const why = cause instanceof Error ? cause.message : String(cause);
    super(
      'MESH_DOWN',
      `the mesh loop of this peer ended ${restarts + 1} times in a short while (last: ${why}); its log says why. Start the peer again: everything accepted is in its data folder`,
      { cause },
    );
  }
}

export class MeshStartTimeoutError extends FlowmeshError {
  constructor(deadlineMs: number) {
    super(
      'MESH_START_TIMEOUT',
      `the mesh loop was not ready within ${deadlineMs} ms; its log says what it waited for`,
      {
        retryable: true,
      },
    );
  }
}

export class UnknownToolError extends FlowmeshError {
  constructor(tool: string) {
    super('UNKNOWN_TOOL', `there is no tool ${quoted(tool)}; tools/list names those there are`, {
      details: { tool: cut(tool) },
    });
  }
}

/** An output or input that is not plain JSON: a defect, named after the tool it came from. */
export class UnclonableError extends FlowmeshError {
  constructor(cause: unknown) {
    const why = cause instanceof Error ? cause.message : String(cause);
    super('INTERNAL', `a message between two event loops is not plain data: ${why}`, { cause });
  }
}

/** Some parts did not close; the others did. */
export class CloseError extends FlowmeshError {
  constructor(failed: { part: string; error: unknown }[]) {
    const parts = failed.map(
      ({ part, error }) => `${part} (${error instanceof Error ? error.message : String(error)})`,
    );
    super('CLOSE_FAILED', `did not close cleanly: ${parts.join(', ')}; everything else did`, {
      cause: failed[0]?.error,
    });
  }
}

/** A peer without the role "submit" has no clients: it calls tools for nobody. Nothing was done. */
export class NoClientsError extends FlowmeshError {
  constructor(tool: string) {
    super(
      'FORBIDDEN',
      `${tool} is for clients, and the asking peer has none: its certificate has not the role "submit"; an admin can invite it with that role`,
      { details: { any_of: ['submit'] } },
    );
  }
}
