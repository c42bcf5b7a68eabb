/**
 * The shape of every error that a user can see: a stable `code`, whether trying again can help, and a sentence
 * that says what to do. One subclass per cause lives beside the code that throws it.
 *
 * An error is part of a record, and a record has to travel in one frame. So every error is bounded (P7): a text from
 * outside is cut by `cutText` where it enters, and the error as a whole is cut once more when it is made. A cut text,
 * and cut details, say how much was left out.
 */

/** Characters of a text from outside that an error repeats: an exception's message, what a program wrote. */
export const ERROR_TEXT_CHARS_MAX = 4_000;
/** Characters of the whole message of an error. */
export const ERROR_MESSAGE_CHARS_MAX = 8_000;
/** Characters of the JSON of an error's details, roughly: further fields are left out and counted in `left_out`. */
export const ERROR_DETAILS_CHARS_MAX = 32_000;
/** Levels of arrays and objects in an error's details. */
export const ERROR_DETAILS_DEPTH_MAX = 16;
/** Characters of an error's code. */
export const ERROR_CODE_CHARS_MAX = 128;

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
    super(
      cutText(message, ERROR_MESSAGE_CHARS_MAX),
      options.cause === undefined ? undefined : { cause: options.cause },
    );
    this.name = new.target.name;
    this.code = code.slice(0, ERROR_CODE_CHARS_MAX);
    this.retryable = options.retryable ?? false;
    this.details = options.details && boundedDetails(options.details);
  }

  toShape(): ErrorShape {
    const shape: ErrorShape = { code: this.code, message: this.message, retryable: this.retryable };
    if (this.details !== undefined) shape.details = this.details;
    return shape;
  }
}

/** An error that another thread or peer sent, as an exception again. */
export class RemoteError extends FlowmeshError {
  constructor(shape: ErrorShape) {
    super(shape.code, shape.message, { retryable: shape.retryable, ...(shape.details && { details: shape.details }) });
  }
}

/** Any thrown value as an `ErrorShape`; one that is no FlowmeshError becomes `INTERNAL`, with its own message. */
export function errorShape(error: unknown): ErrorShape {
  try {
    if (error instanceof FlowmeshError) return error.toShape();
  } catch {
    // A proxy may throw even from `instanceof`: it is no FlowmeshError then.
  }
  return { code: 'INTERNAL', message: cutText(thrownText(error), ERROR_MESSAGE_CHARS_MAX), retryable: false };
}

/** The same error, cut to the limits above: for an error that was not made here, such as that of another peer. */
export function boundedError({ code, message, retryable, details }: ErrorShape): ErrorShape {
  return new FlowmeshError(code, message, { retryable, ...(details && { details }) }).toShape();
}

/** Any thrown value in words. Never throws, whatever the value's own code does. */
export function thrownText(thrown: unknown): string {
  try {
    const message = (thrown as { message?: unknown } | null | undefined)?.message;
    return typeof message === 'string' && message !== '' ? message : String(thrown);
  } catch {
    return `something thrown that has no text (${typeof thrown})`;
  }
}

/** The beginning of a text, at most `charsMax` characters with the note that says how much was left out. */
export function cutText(text: string, charsMax = ERROR_TEXT_CHARS_MAX): string {
  if (text.length <= charsMax) return text;
  const note = (kept: number) => `… (${(text.length - kept).toLocaleString('en-US')} characters left out)`;
  let kept = Math.max(charsMax - note(0).length, 0);
  // Do not end with half of a surrogate pair.
  if (/[\ud800-\udbff]/.test(text.charAt(kept - 1))) kept -= 1;
  return text.slice(0, kept) + note(kept);
}

/** As much of the details as ERROR_DETAILS_CHARS_MAX and ERROR_DETAILS_DEPTH_MAX allow, in their order. */
function boundedDetails(details: JsonObject): JsonObject {
  const budget = { chars: ERROR_DETAILS_CHARS_MAX, leftOut: 0 };
  const kept = within(details, budget, ERROR_DETAILS_DEPTH_MAX) as JsonObject;
  return budget.leftOut === 0 ? kept : { ...kept, left_out: budget.leftOut };
}

interface Budget {
  chars: number;
  /** Fields and elements for which no room was left. */
  leftOut: number;
}

/** @param levels of arrays and objects that are still allowed, including this value */
function within(value: JsonValue, budget: Budget, levels: number): JsonValue {
  if (typeof value === 'string') {
    const text = cutText(value, Math.min(ERROR_TEXT_CHARS_MAX, Math.max(budget.chars, 0)));
    budget.chars -= text.length + 2;
    return text;
  }
  if (typeof value !== 'object' || value === null) {
    budget.chars -= 8;
    return value;
  }
  const isList = Array.isArray(value);
  const entries: [string | number, JsonValue][] = isList ? [...value.entries()] : Object.entries(value);
  const list: JsonValue[] = [];
  const object: JsonObject = {};
  for (const [at, [key, each]] of entries.entries()) {
    const isNested = typeof each === 'object' && each !== null;
    budget.chars -= 2 + (isList ? 0 : String(key).length + 2);
    if (budget.chars <= 0) {
      budget.leftOut += entries.length - at;
      break;
    }
    // Assigning to `__proto__` would set the object's prototype.
    if ((isNested && levels <= 1) || key === '__proto__') budget.leftOut += 1;
    else if (isList) list.push(within(each, budget, levels - 1));
    else object[key] = within(each, budget, levels - 1);
  }
  return isList ? list : object;
}
