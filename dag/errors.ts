/**
 * The shape of every error that a user can see: a stable `code`, whether trying again can help, and a sentence
 * that says what to do. One subclass per cause lives beside the code that throws it.
 */

/** A value that survives JSON: what inputs, outputs and details are made of. */
export type JsonValue = string | number | boolean | null | JsonValue[] | { [key: string]: JsonValue };
export type JsonObject = { [key: string]: JsonValue };

/** An error as it travels: in a tool's result, in a record, on the wire. */
export interface ErrorShape {
  code: string;
  message: string;
  retryable: boolean;
  details?: JsonObject;
}

/**
 * Base of all errors of flowmesh.
 *
 * @param code stable, upper snake case; programs match on it
 * @param message what is wrong, where, and what the reader can do
 * @param options.retryable true when the same call may succeed later without a change
 */
export class FlowmeshError extends Error {
  readonly code: string;
  readonly retryable: boolean;
  readonly details: JsonObject | undefined;

  constructor(
    code: string,
    message: string,
    options: { retryable?: boolean; details?: JsonObject; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.code = code;
    this.retryable = options.retryable ?? false;
    this.details = options.details;
  }

  toShape(): ErrorShape {
    const shape: ErrorShape = { code: this.code, message: this.message, retryable: this.retryable };
    if (this.details !== undefined) shape.details = this.details;
    return shape;
  }
}

/** Any thrown value as an `ErrorShape`; what is not ours becomes `INTERNAL`, with its own message. */
export function errorShape(error: unknown): ErrorShape {
  if (error instanceof FlowmeshError) return error.toShape();
  const message = error instanceof Error ? error.message : String(error);
  return { code: 'INTERNAL', message, retryable: false };
}

/** An error that came from another loop or peer, as an exception again. */
export class RemoteError extends FlowmeshError {
  constructor(shape: ErrorShape) {
    super(shape.code, shape.message, { retryable: shape.retryable, ...(shape.details && { details: shape.details }) });
  }
}
