/** Runs tools for other peers, and the calls that were kept for a record's next owner. */
import { FlowmeshError, type JsonObject } from '../../dag/errors.ts';
import type { ToolCall } from '../api.ts';

/** Runs a tool; set where tools and scheduler are put together. */
export type CallHandler = (call: ToolCall) => Promise<JsonObject>;

export class ServedCalls {
  #handler: CallHandler | null = null;

  /** From now on `handler` runs the calls. */
  serve(handler: CallHandler): void {
    this.#handler = handler;
  }

  /** @throws NOT_READY (retryable) before `serve` was called; else what the tool throws */
  async run(call: ToolCall): Promise<JsonObject> {
    if (this.#handler === null) {
      throw new FlowmeshError('NOT_READY', 'this peer does not serve tools yet; try again', { retryable: true });
    }
    return await this.#handler(call);
  }
}
