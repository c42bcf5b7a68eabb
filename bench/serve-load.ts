/**
 * Keeps the event loop that it runs on busy as a serve loop may be: MCP clients list the tools, and the processor is
 * held in bursts for about 80 % of the time.
 */
import { type EventLoopUtilization, performance } from 'node:perf_hooks';
import { RawMcpClient } from './raw-mcp-client.ts';

/** How long one burst holds the loop. */
const BURST_MS = 5;
/** From the start of one burst to that of the next, when the loop is free by then: with the listings about 80 %. */
const PERIOD_MS = 6.8;
/** One listing in so many bursts. */
const BURSTS_PER_LISTING = 8;

export interface LoadFigures {
  /** Share of the time that the loop was busy, 0–1, with all that it had to do. */
  utilization: number;
  bursts: number;
  listings: number;
}

export class ServeLoad {
  readonly #client: RawMcpClient;
  readonly #since: EventLoopUtilization = performance.eventLoopUtilization();
  #bursts = 0;
  #listings = 0;
  #running = true;
  #failure: Error | undefined;
  /** When the next burst is to start. */
  #dueMs = 0;
  #next: NodeJS.Timeout | undefined;

  private constructor(client: RawMcpClient) {
    this.#client = client;
  }

  /** @param mcpUrl of the peer on this loop */
  static async start(mcpUrl: string): Promise<ServeLoad> {
    const client = new RawMcpClient(mcpUrl, 1);
    await client.initialize();
    const load = new ServeLoad(client);
    load.#burst();
    return load;
  }

  /** @throws when a listing failed: then the loop was not under the load that it claims */
  stop(): LoadFigures {
    this.#running = false;
    clearTimeout(this.#next);
    this.#client.close();
    if (this.#failure !== undefined) throw this.#failure;
    const { utilization } = performance.eventLoopUtilization(this.#since);
    return { utilization, bursts: this.#bursts, listings: this.#listings };
  }

  #burst(): void {
    if (!this.#running) return;
    const started = performance.now();
    // On time in the mean, although a timer waits whole milliseconds; what was missed is not made up for.
    this.#dueMs = Math.max(this.#dueMs, started - PERIOD_MS) + PERIOD_MS;
    if (this.#bursts++ % BURSTS_PER_LISTING === 0) this.#list();
    while (performance.now() - started < BURST_MS);
    this.#next = setTimeout(() => this.#burst(), Math.max(1, Math.round(this.#dueMs - performance.now())));
  }

  #list(): void {
    this.#client.listTools().then(
      () => {
        this.#listings += 1;
      },
      (error: Error) => {
        if (this.#running) this.#failure = error;
      },
    );
  }
}
