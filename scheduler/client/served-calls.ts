/** Runs tools for other peers, and the calls that were kept for a record's next owner. */
import { FlowmeshError, type JsonObject } from '../../dag/errors.ts';

/**
 * Runs a tool; set where tools and scheduler are put together.
 * @param hops how often the call was handed on before
 * @param from id of the peer that asks
 */
export type CallHandler = (tool: string, input: JsonObject, hops: number, from: string) => Promise<JsonObject>;

export class ServedCalls {
  #handler: CallHandler | null = null;

  /** From now on `handler` runs the calls. */
  serve(handler: CallHandler): void {
    this.#handler = handler;
  }

  /** @throws NOT_READY (retryable) before `serve` was called; else what the tool throws */
  async run(tool: string, input: JsonObject, hops: number, from: string): Promise<JsonObject> {
    if (this.#handler === null) {
      throw new FlowmeshError('NOT_READY', 'this peer does not serve tools yet; try again', { retryable: true });
    }
    return await this.#handler(tool, input, hops, from);
  }
}
