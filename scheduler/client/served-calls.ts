/** Runs tools for other peers, and for what was kept for a record's next owner. */
import { FlowmeshError, type JsonObject } from '../../dag/errors.ts';

/** Runs a tool for another peer; set by whoever puts tools and scheduler together. */
export type CallHandler = (tool: string, input: JsonObject, hops: number, from: string) => Promise<JsonObject>;

export class ServedCalls {
  #handler: CallHandler | null = null;

  /** Sets who runs them. */
  serve(handler: CallHandler): void {
    this.#handler = handler;
  }

  /** @throws NOT_READY (retryable) before anybody runs them, else what the tool throws */
  async run(tool: string, input: JsonObject, hops: number, from: string): Promise<JsonObject> {
    if (this.#handler === null) {
      throw new FlowmeshError('NOT_READY', 'this peer does not serve tools yet; try again', { retryable: true });
    }
    return await this.#handler(tool, input, hops, from);
  }
}
