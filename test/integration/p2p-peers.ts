/** Real libp2p networks in one process, each with a data folder of its own, all gone after `close`. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createP2PNetwork, type P2PNetwork, type P2POptions } from '../../node/p2p/network.ts';
import type { PeerState } from '../../scheduler/messages.ts';
import type { Log, NetworkEvents } from '../../scheduler/ports.ts';
import { HANG_MS } from '../harness/patience.ts';

const POLL_MS = 5;

export interface LoggedLine {
  level: 'info' | 'warn' | 'error' | 'debug';
  fields: Record<string, unknown>;
  message: string;
}

/** Keeps the lines, so that a test can wait for one. */
export function recordingLog(): Log & { lines: LoggedLine[] } {
  const lines: LoggedLine[] = [];
  const at = (level: LoggedLine['level']) => (fields: object, message: string) => {
    lines.push({ level, fields: fields as Record<string, unknown>, message });
  };
  return { lines, info: at('info'), warn: at('warn'), error: at('error'), debug: at('debug') };
}

/** For what has no event. */
export async function until(condition: () => boolean, what = condition.toString()): Promise<void> {
  const deadline = performance.now() + HANG_MS;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`not within ${HANG_MS} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

export const SILENT_EVENTS: NetworkEvents = {
  onMessage: async () => null,
  onOffer: () => {},
  onConnected: () => {},
  onDisconnected: () => {},
};

export function stateNamed(name: string): PeerState {
  return {
    name,
    version: '0.1.0',
    feeds: [],
    workers: [],
    queued: 0,
    running: 0,
    paused: false,
    waiting: [],
    addresses: [],
  };
}

export class TestPeers {
  readonly log = recordingLog();
  readonly #folders: string[] = [];
  readonly #networks = new Set<P2PNetwork>();

  async folder(): Promise<string> {
    const folder = await mkdtemp(path.join(tmpdir(), 'flowmesh-p2p-'));
    this.#folders.push(folder);
    return folder;
  }

  async open(
    options: Partial<P2POptions> = {},
    events: NetworkEvents = SILENT_EVENTS,
    state: PeerState = stateNamed(options.name ?? 'peer'),
  ): Promise<P2PNetwork> {
    const network = await createP2PNetwork({
      mesh: 'test',
      listen: ['/ip4/127.0.0.1/tcp/0'],
      bootstrap: [],
      data_dir: options.data_dir ?? (await this.folder()),
      name: 'peer',
      version: '0.1.0',
      mdns: false,
      gossip: true,
      auto_connect: false,
      target_connections: 32,
      log: this.log,
      ...options,
    });
    this.#networks.add(network);
    network.attach(events, () => state);
    await network.start();
    return network;
  }

  async close(): Promise<void> {
    await Promise.all(Array.from(this.#networks, (network) => network.stop()));
    await Promise.all(this.#folders.map((folder) => rm(folder, { recursive: true, force: true })));
  }
}
