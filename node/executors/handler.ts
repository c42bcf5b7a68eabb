/** What a module of functions exports (`--functions`): the types of the package's `flowmesh/functions`. */
import type { JsonObject } from '../../dag/errors.ts';

/** What a handler gets beside its inputs. */
export interface FunctionContext {
  /** The task's idempotency key: the same at every attempt. */
  uid: string;
  /** 1 at the first start. */
  attempt: number;
  /** @param percent 0–100 */
  progress(percent: number, message?: string): void;
  log(line: string): void;
  /** Aborted on cancel and timeout: end soon, or be killed. */
  signal: AbortSignal;
}

/** The output is JSON; undefined is null. */
export type FunctionHandler = (inputs: JsonObject, context: FunctionContext) => unknown;
