/**
 * The router of a peer that is still starting: calls wait for it.
 *
 *   const starting = startPeer(config, log);
 *   const router = new LateRouter(starting.then((peer) => peer.router));
 */
import type { JsonObject } from '../../dag/errors.ts';
import { CallCancelledError, TooBusyError } from './errors.ts';
import { CALLS_IN_FLIGHT_MAX } from './limits.ts';
import type { RouterCallOptions, ToolRouter } from './router.ts';

export class LateRouter implements Pick<ToolRouter, 'call'> {
  readonly #started: Promise<Pick<ToolRouter, 'call'>>;
  #router: Pick<ToolRouter, 'call'> | undefined;
  #waiting = 0;

  /** @param started rejects when the peer does not start; calls that wait fail with the reason */
  constructor(started: Promise<Pick<ToolRouter, 'call'>>) {
    this.#started = started;
    // Whoever starts the peer gets the reason; calls, if there are any, get it too.
    started.catch(() => {});
  }

  /** @throws TOO_BUSY while CALLS_IN_FLIGHT_MAX calls wait; CANCELLED; else as the router itself */
  async call(tool: string, input: unknown, options: RouterCallOptions = {}): Promise<JsonObject> {
    this.#router ??= await this.#arrival(tool, options.signal);
    return await this.#router.call(tool, input, options);
  }

  async #arrival(tool: string, signal: AbortSignal | undefined): Promise<Pick<ToolRouter, 'call'>> {
    if (this.#waiting >= CALLS_IN_FLIGHT_MAX) throw new TooBusyError('CALLS_IN_FLIGHT_MAX', this.#waiting);
    if (signal?.aborted) throw new CallCancelledError(tool);
    this.#waiting += 1;
    const cancelled = Promise.withResolvers<never>();
    const cancel = () => cancelled.reject(new CallCancelledError(tool));
    signal?.addEventListener('abort', cancel, { once: true });
    try {
      return await Promise.race([this.#started, cancelled.promise]);
    } finally {
      signal?.removeEventListener('abort', cancel);
      this.#waiting -= 1;
    }
  }
}
