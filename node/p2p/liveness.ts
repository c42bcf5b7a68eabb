/**
 * Breaks connections whose other side is gone without a word (a cut cable, a stopped process), so that the peer is
 * dialled again, or called lost.
 *
 * It stands in for libp2p's connection monitor, which breaks a connection for one late ping: a peer that is busy for
 * seconds, and answers all the while, would lose its connections, and making them again would keep it busy. Here
 *
 * 1. a connection on which something came in lately is not pinged, and
 * 2. one on which something came in while its ping was under way is kept, however late the ping.
 */
import type { Connection, Libp2p } from '@libp2p/interface';
import { byteStream } from '@libp2p/utils';
import type { Log } from '../../scheduler/ports.ts';
import { reasonOf } from './errors.ts';

const PING_PROTOCOL = '/ipfs/ping/1.0.0';
const PING_BYTES = 32;
/** Twice the interval of beats: a peer that is there has said something. */
const INTERVAL_MS = 2_000;
const TIMEOUT_MS = 4_000;
/** For a connection that there is a reason to doubt. */
const DOUBT_TIMEOUT_MS = 1_500;

export interface LivenessLimits {
  /** Between two looks at the connections, and how long one may be silent before it is pinged. Default: 2,000. */
  intervalMs?: number;
  /** How long a ping may take. Default: 4,000. */
  timeoutMs?: number;
}

export class Liveness {
  readonly #node: Libp2p;
  readonly #heardAt: (connection: Connection) => number;
  readonly #intervalMs: number;
  readonly #timeoutMs: number;
  readonly #log: Log;
  readonly #pinged = new Set<Connection>();
  readonly #stop = new AbortController();

  /** @param parts.heardAt wall-clock milliseconds of the last bytes that came in; 0 when that is not known */
  constructor(
    parts: { node: Libp2p; heardAt: (connection: Connection) => number; log: Log },
    { intervalMs = INTERVAL_MS, timeoutMs = TIMEOUT_MS }: LivenessLimits = {},
  ) {
    this.#node = parts.node;
    this.#heardAt = parts.heardAt;
    this.#log = parts.log;
    this.#intervalMs = intervalMs;
    this.#timeoutMs = timeoutMs;
  }

  start(): void {
    const timer = setInterval(() => this.#look(), this.#intervalMs);
    timer.unref();
    this.#stop.signal.addEventListener('abort', () => clearInterval(timer));
  }

  stop(): void {
    this.#stop.abort();
  }

  /** The network changed under the connections: all are pinged at once, and get little time. */
  doubtAll(): void {
    for (const connection of this.#node.getConnections()) {
      if (connection.status === 'open') void this.#ping(connection, Math.min(DOUBT_TIMEOUT_MS, this.#timeoutMs));
    }
  }

  #look(): void {
    const now = Date.now();
    for (const connection of this.#node.getConnections()) {
      if (connection.status !== 'open' || this.#pinged.has(connection)) continue;
      if (now - this.#heardAt(connection) >= this.#intervalMs) void this.#ping(connection);
    }
  }

  async #ping(connection: Connection, timeoutMs = this.#timeoutMs): Promise<void> {
    this.#pinged.add(connection);
    const heardBefore = this.#heardAt(connection);
    try {
      await this.#exchange(connection, timeoutMs);
    } catch (error) {
      // A peer that does not know pings said so: it is there.
      const alive = (error as Error).name === 'UnsupportedProtocolError' || this.#heardAt(connection) !== heardBefore;
      if (alive || this.#stop.signal.aborted || connection.status !== 'open') return;
      this.#log.info(
        { peer: connection.remotePeer.toString(), reason: reasonOf(error) },
        'a connection is broken: its peer is silent and does not answer a ping',
      );
      connection.abort(error as Error);
    } finally {
      this.#pinged.delete(connection);
    }
  }

  async #exchange(connection: Connection, timeoutMs: number): Promise<void> {
    const signal = AbortSignal.any([this.#stop.signal, AbortSignal.timeout(timeoutMs)]);
    const stream = await connection.newStream(PING_PROTOCOL, { signal, runOnLimitedConnection: true });
    try {
      const bytes = byteStream(stream);
      await Promise.all([
        bytes.write(crypto.getRandomValues(new Uint8Array(PING_BYTES)), { signal }),
        bytes.read({ bytes: PING_BYTES, signal }),
      ]);
      await stream.close({ signal });
    } catch (error) {
      stream.abort(error as Error);
      throw error;
    }
  }
}
